//! The daemon's configuration: one YAML file, every key with a default, unknown keys refused.

mod access;
mod container;
mod forwarding;
mod hypervisor;
pub mod reload;
mod server;

use std::fs;
use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::model::{Image, Lifetime, Template};

pub use access::Access;
pub use container::Containers;
pub use forwarding::{PortForwarding, PortRange};
pub use hypervisor::{DISK_RESERVE, Host, Hypervisor, Mode};
pub use server::Server;

/// The longest configuration that is read.
const MAX_SIZE: u64 = 1 << 20;

/// The file that `anweddol config init` writes: every key with its default and what it does.
pub const COMMENTED: &str = include_str!("config/default.yaml");

/// Everything an administrator can set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where records, keys and images live.
    pub state_dir: PathBuf,
    /// The sockets.
    pub server: Server,
    /// Who is served.
    pub access: Access,
    /// What machines are made of.
    pub container: Containers,
    /// How they are reached.
    pub port_forwarding: PortForwarding,
    /// What runs them.
    pub hypervisor: Hypervisor,
    /// What this host gives to them.
    pub host: Host,
    /// The directory of manifests that is kept applied; absent: none.
    pub manifests: Option<PathBuf>,
    /// What happened to them.
    pub events: Events,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Events {
    /// How many the log keeps.
    pub keep: usize,
}

impl Default for Events {
    fn default() -> Self {
        Events { keep: 10_000 }
    }
}

impl Default for Config {
    fn default() -> Self {
        Config {
            state_dir: default_state_dir(),
            server: Server::default(),
            access: Access::default(),
            container: Containers::default(),
            port_forwarding: PortForwarding::default(),
            hypervisor: Hypervisor::default(),
            host: Host::default(),
            manifests: None,
            events: Events::default(),
        }
    }
}

/// `/var/lib/anweddol` for root, a directory of their own for everybody else.
fn default_state_dir() -> PathBuf {
    if rustix::process::geteuid().is_root() {
        return "/var/lib/anweddol".into();
    }
    let home = || PathBuf::from(std::env::var_os("HOME").unwrap_or_else(|| "/tmp".into())).join(".local/state");
    std::env::var_os("XDG_STATE_HOME").map_or_else(home, PathBuf::from).join("anweddol")
}

/// Why a configuration is none.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("configuration '{path}' cannot be read")]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is too long to be one.
    #[error("configuration '{path}' is longer than {MAX_SIZE} bytes")]
    TooLong {
        /// Which.
        path: PathBuf,
    },
    /// It is not YAML, or not these keys and values; the cause names line, key and what would be right.
    #[error("configuration '{path}'")]
    Syntax {
        /// Which.
        path: PathBuf,
        /// Where and why.
        #[source]
        source: serde_yaml::Error,
    },
    /// A value that cannot be.
    #[error("configuration key '{key}': {reason}")]
    Value {
        /// Which.
        key: &'static str,
        /// Why, and what would be right.
        reason: String,
    },
}

impl Config {
    /// Reads and checks a file.
    pub fn read(path: &Path) -> Result<Config, ConfigError> {
        let unreadable = |source| ConfigError::Unreadable { path: path.into(), source };
        let mut text = String::new();
        let file = fs::File::open(path).map_err(unreadable)?;
        file.take(MAX_SIZE + 1).read_to_string(&mut text).map_err(unreadable)?;
        if text.len() as u64 > MAX_SIZE {
            return Err(ConfigError::TooLong { path: path.into() });
        }
        let config = Config::parse(&text).map_err(|source| ConfigError::Syntax { path: path.into(), source })?;
        config.check()?;
        Ok(config)
    }

    /// Reads a text; an empty one is all defaults.
    pub fn parse(text: &str) -> Result<Config, serde_yaml::Error> {
        Ok(serde_yaml::from_str::<Option<Config>>(text)?.unwrap_or_default())
    }

    /// Checks what types cannot say.
    pub fn check(&self) -> Result<(), ConfigError> {
        self.server.check()?;
        self.container.check()?;
        self.hypervisor.check()?;
        if !(100..=1_000_000).contains(&self.events.keep) {
            return wrong("events.keep", "write 100 to 1000000");
        }
        let ports = self.port_forwarding.range.ports();
        if ports.contains(&self.server.listen.port()) {
            return wrong("port_forwarding.range", "the port of server.listen is in it: choose ranges apart");
        }
        if ports.len() < self.container.max_allowed_running_containers as usize {
            return wrong("port_forwarding.range", "it has fewer ports than container.max_allowed_running_containers");
        }
        if self.host.memory.is_some_and(|memory| memory < self.container.memory) {
            return wrong("host.memory", "it is less than container.memory: nobody could ever create a container");
        }
        Ok(())
    }

    /// The template of the daemon's own pool.
    pub fn template(&self) -> Template {
        let made = || {
            let dir = self.image_dir();
            Image::Kernel { path: dir.join("vmlinuz"), initrd: dir.join("initrd"), cmdline: String::new() }
        };
        let mut template = Template::of(self.container.image.clone().unwrap_or_else(made));
        template.memory = self.container.memory;
        template.vcpus = self.container.vcpus;
        template.domain_type = self.container.domain_type;
        template.network.egress = self.container.egress;
        template.boot_deadline_seconds = self.container.boot_deadline;
        template.lifetime = Lifetime {
            ttl_seconds: self.container.ttl,
            max_ttl_seconds: self.container.max_ttl,
            idle_timeout_seconds: self.container.idle_timeout,
            max_ready_seconds: self.container.max_ready,
        };
        template
    }

    /// Where `anweddol image build` puts what it makes.
    pub fn image_dir(&self) -> PathBuf {
        self.state_dir.join("images")
    }

    /// The address clients on this host connect to.
    pub fn local_server(&self) -> SocketAddr {
        let mut address = self.server.listen;
        if address.ip().is_unspecified() {
            address.set_ip(IpAddr::V4(Ipv4Addr::LOCALHOST));
        }
        address
    }
}

fn wrong<T>(key: &'static str, reason: &str) -> Result<T, ConfigError> {
    Err(ConfigError::Value { key, reason: reason.into() })
}

#[cfg(test)]
mod tests;
