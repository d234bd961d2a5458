//! Commands for whoever runs the daemon.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::{ConfigArgs, Result};
use crate::api::Digests;
use crate::config::{Config, ConfigError};
use crate::manifest::crd;
use crate::privilege;

/// Where the configuration is looked for when none is named.
pub(super) const CONFIG_FILE: &str = "/etc/anweddol/config.yaml";

/// Where the configuration that an invocation means is read from.
pub(super) struct Source {
    file: Option<PathBuf>,
    state: Option<PathBuf>,
}

pub(super) fn source(args: ConfigArgs) -> Result<Source> {
    let ConfigArgs { config, state } = args;
    Ok(Source { file: config, state: state.map(std::path::absolute).transpose()? })
}

impl Source {
    /// Reads it, now.
    pub(super) fn read(&self) -> std::result::Result<Config, ConfigError> {
        let usual = Path::new(CONFIG_FILE);
        let mut config = match &self.file {
            Some(path) => Config::read(path)?,
            None if usual.exists() => Config::read(usual)?,
            None => Config::default(),
        };
        config.state_dir = self.state.clone().unwrap_or(config.state_dir);
        if config.state_dir.as_os_str().is_empty() { Err(ConfigError::NoStateDir) } else { Ok(config) }
    }
}

/// Reads the configuration an invocation means.
pub(super) fn config(args: &ConfigArgs) -> Result<Config> {
    Ok(source(args.clone())?.read()?)
}

/// The same, to do what the daemon does in its state directory: root does it as the daemon's user. Before any thread.
pub(super) fn config_as_owner(args: &ConfigArgs) -> Result<Config> {
    let config = config(args)?;
    act_as_owner(&config)?;
    Ok(config)
}

/// Goes on as the owner of the state directory, where this is root.
pub(super) fn act_as_owner(config: &Config) -> Result<()> {
    let dir = &config.state_dir;
    Ok(privilege::act_as_owner_of(dir).map_err(|error| format!("'{}': {error}", dir.display()))?)
}

pub(super) fn fingerprint(args: ConfigArgs) -> Result<ExitCode> {
    let path = crate::daemon::key_path(&config_as_owner(&args)?.state_dir);
    println!("{}", crate::server::key::load(&path)?.fingerprint());
    Ok(ExitCode::SUCCESS)
}

/// The kinds as a cluster would be told of them.
pub(super) fn crds() -> Result<ExitCode> {
    print!("{}", crd::definitions()?);
    Ok(ExitCode::SUCCESS)
}

pub(super) fn man(command: clap::Command, dir: &Path) -> Result<ExitCode> {
    std::fs::create_dir_all(dir)?;
    clap_mangen::generate_to(command, dir)?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn image_check(args: &ConfigArgs) -> Result<ExitCode> {
    let image = config_as_owner(args)?.template().image;
    Digests::default().sha256(&image)?;
    for file in image.files() {
        println!("{}", file.display());
    }
    Ok(ExitCode::SUCCESS)
}
