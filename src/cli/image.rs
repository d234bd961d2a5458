//! `anweddol image`: makes what machines boot.

use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Duration;

use clap::ValueEnum;
use serde_json::{Value, json};

use super::{ImageBuildArgs, Output, Result, admin};
use crate::guest::image::{self, Artifact, BuildOptions, ImageError};
use crate::model::{DiskFormat, Image};

/// Which image is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Flavor {
    /// BusyBox, OpenSSH and sudo, in memory: starts fastest
    Tiny,
    /// A whole Debian with systemd and APT, on a disk
    Debian,
}

/// What was built: the files by what they are, and the image as a template names it.
struct Outcome {
    cached: bool,
    files: Vec<(&'static str, Artifact)>,
    image: Image,
}

pub(super) fn build(args: ImageBuildArgs) -> Result<ExitCode> {
    let config = admin::config_as_owner(&args.config)?;
    let options = BuildOptions {
        out_dir: args.out.unwrap_or_else(|| config.image_dir()),
        cache_dir: config.state_dir.join("cache"),
    };
    let terminal = std::io::stderr().is_terminal();
    let bar = if terminal { indicatif::ProgressBar::new_spinner() } else { indicatif::ProgressBar::hidden() };
    bar.enable_steady_tick(Duration::from_millis(120));
    let mut progress = |stage: &str| if terminal { bar.set_message(stage.to_owned()) } else { eprintln!("{stage}") };
    let outcome = match args.flavor {
        Flavor::Tiny => tiny(&options, &mut progress)?,
        Flavor::Debian => debian(&options, &mut progress)?,
    };
    bar.finish_and_clear();
    match args.output.output {
        Output::Json => println!("{}", as_json(&outcome)),
        Output::Text => print(&outcome)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn tiny(options: &BuildOptions, progress: &mut dyn FnMut(&str)) -> std::result::Result<Outcome, ImageError> {
    let built = image::build(options, progress)?;
    let image =
        Image::Kernel { path: built.kernel.path.clone(), initrd: built.initrd.path.clone(), cmdline: String::new() };
    let files = vec![("kernel", built.kernel), ("initrd", built.initrd), ("iso", built.iso), ("disk", built.disk)];
    Ok(Outcome { cached: built.cached, files, image })
}

fn debian(options: &BuildOptions, progress: &mut dyn FnMut(&str)) -> std::result::Result<Outcome, ImageError> {
    let built = image::debian::build(options, progress)?;
    let image = Image::Disk { path: built.disk.path.clone(), format: DiskFormat::Qcow2 };
    Ok(Outcome { cached: built.cached, files: vec![("disk", built.disk)], image })
}

fn as_json(outcome: &Outcome) -> Value {
    let mut value = json!({ "cached": outcome.cached, "image": outcome.image });
    for (what, Artifact { path, size, sha256 }) in &outcome.files {
        value[*what] = json!({ "path": path, "size": size, "sha256": sha256 });
    }
    value
}

fn print(outcome: &Outcome) -> Result<()> {
    if outcome.cached {
        eprintln!("nothing changed since it was built: taken from the cache");
    }
    for (_, artifact) in &outcome.files {
        let size = artifact.size as f64 / 1_048_576.0;
        println!("{}  {}  {size:.1} MiB", artifact.sha256, artifact.path.display());
    }
    eprintln!("in a template:");
    eprint!("{}", serde_yaml::to_string(&json!({ "image": outcome.image }))?);
    Ok(())
}
