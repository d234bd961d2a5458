//! The daemon's configuration: one YAML file, every key with a default, unknown keys refused.

use std::fs;
use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::manifest::rules;
use crate::model::text::from_text;
use crate::model::{DomainType, Egress, Image, Lifetime, Memory, Subnet, Template};

/// The longest configuration that is read.
const MAX_SIZE: u64 = 1 << 20;
/// The longest that a lifetime can be limited to: a year.
const MAX_LIFETIME: u32 = 365 * 24 * 3600;

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

/// The sockets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Server {
    /// Where wire clients connect.
    pub listen: SocketAddr,
    /// Seconds for the key exchange and the request together.
    pub client_timeout: u64,
    /// Connections at once; more are closed at once.
    pub max_connections: usize,
    /// Where `/healthz` and `/readyz` answer, in plain HTTP; absent: nowhere.
    pub health_listen: Option<SocketAddr>,
    /// Where the API answers over TLS, for whoever has a token; absent: nowhere.
    pub api_listen: Option<SocketAddr>,
    /// Names and addresses that clients reach it by, besides this host's name, `localhost` and the address itself.
    pub api_names: Vec<String>,
    /// Whether `api.sock` in the state directory answers the daemon's user and root.
    pub local_api: bool,
}

/// What machines are made of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Containers {
    /// What they boot; absent: what `anweddol image build` last made in the state directory.
    pub image: Option<Image>,
    /// Memory of each.
    pub memory: Memory,
    /// Virtual processors of each.
    pub vcpus: u32,
    /// `auto`, `kvm` or `qemu`.
    pub domain_type: DomainType,
    /// What each may open connections to.
    pub egress: Egress,
    /// The most at once.
    pub max_allowed_running_containers: u32,
    /// Kept ready before anybody asks.
    pub warm: u32,
    /// Seconds from a machine's start until it has to be ready.
    pub boot_deadline: u32,
    /// Seconds that a client may keep a machine which asks for no other time; absent: no limit.
    pub ttl: Option<u32>,
    /// The most seconds that a client can ask for; absent: no limit.
    pub max_ttl: Option<u32>,
    /// Seconds that a client's machine may be without any SSH connection; absent: no limit.
    pub idle_timeout: Option<u32>,
    /// Seconds that a machine may wait, ready, before it is replaced by a fresh one; absent: no limit.
    pub max_ready: Option<u32>,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Events {
    /// How many the log keeps.
    pub keep: usize,
}

/// How machines are reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PortForwarding {
    /// The host's address whose ports lead to machines.
    pub bind: Ipv4Addr,
    /// Those ports.
    pub range: PortRange,
}

/// What runs machines.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Hypervisor {
    /// Which libvirt.
    pub mode: Mode,
    /// The libvirt network of system mode; made if it is missing.
    pub network: String,
    /// Its bridge.
    pub bridge: String,
    /// Its addresses.
    pub subnet: Subnet,
}

/// What this host gives to machines. A simulated host has no limits but those that are written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Host {
    /// Memory of all machines together; absent: what the host has, less 512Mi for itself.
    pub memory: Option<Memory>,
    /// What has to stay free of the file system that holds the state directory; absent: [`DISK_RESERVE`].
    pub disk_reserve: Option<Memory>,
}

/// See [`Host::disk_reserve`].
pub const DISK_RESERVE: Memory = Memory::mebibytes(512);

/// Which libvirt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// System for root where libvirtd answers, embedded elsewhere.
    #[default]
    Auto,
    /// libvirt inside this process, user networking, no root.
    Embedded,
    /// `qemu:///system`, a NAT network, nftables.
    System,
}

/// Ports from one to another, as `10000-14999`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(into = "String")]
pub struct PortRange {
    first: u16,
    last: u16,
}

impl PortRange {
    /// As a range.
    pub fn ports(self) -> RangeInclusive<u16> {
        self.first..=self.last
    }
}

impl FromStr for PortRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || format!("'{text}' is no port range: write FIRST-LAST with 1 <= FIRST <= LAST <= 65535");
        let (first, last) = text.split_once('-').ok_or_else(bad)?;
        let (first, last) = (first.trim().parse().map_err(|_| bad())?, last.trim().parse().map_err(|_| bad())?);
        if first == 0 || first > last { Err(bad()) } else { Ok(PortRange { first, last }) }
    }
}

impl From<PortRange> for String {
    fn from(range: PortRange) -> String {
        format!("{}-{}", range.first, range.last)
    }
}

impl Default for Config {
    fn default() -> Self {
        Config {
            state_dir: default_state_dir(),
            server: Server::default(),
            container: Containers::default(),
            port_forwarding: PortForwarding::default(),
            hypervisor: Hypervisor::default(),
            host: Host::default(),
            manifests: None,
            events: Events::default(),
        }
    }
}

impl Default for Server {
    fn default() -> Self {
        use crate::server::constants;
        Server {
            listen: SocketAddr::new(constants::DEFAULT_SERVER_BIND_ADDRESS, constants::DEFAULT_SERVER_LISTEN_PORT),
            client_timeout: constants::DEFAULT_CLIENT_TIMEOUT.as_secs(),
            max_connections: 1024,
            health_listen: Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 6152))),
            api_listen: Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 6151))),
            api_names: Vec::new(),
            local_api: true,
        }
    }
}

impl Default for Containers {
    fn default() -> Self {
        Containers {
            image: None,
            memory: Memory::mebibytes(256),
            vcpus: 1,
            domain_type: DomainType::Auto,
            egress: Egress::None,
            max_allowed_running_containers: 6,
            warm: 0,
            boot_deadline: 120,
            ttl: None,
            max_ttl: None,
            idle_timeout: None,
            max_ready: None,
        }
    }
}

impl Default for Events {
    fn default() -> Self {
        Events { keep: 10_000 }
    }
}

impl Default for PortForwarding {
    fn default() -> Self {
        PortForwarding { bind: Ipv4Addr::UNSPECIFIED, range: PortRange { first: 10_000, last: 14_999 } }
    }
}

impl Default for Hypervisor {
    fn default() -> Self {
        Hypervisor { mode: Mode::Auto, network: "anweddol".into(), bridge: "anw0".into(), subnet: Subnet::default() }
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
        let value = |key, reason: &str| Err(ConfigError::Value { key, reason: reason.into() });
        if self.container.max_allowed_running_containers == 0 {
            return value("container.max_allowed_running_containers", "it is 0: nobody could ever create a container");
        }
        if self.container.warm > self.container.max_allowed_running_containers {
            return value("container.warm", "it is greater than container.max_allowed_running_containers");
        }
        if self.container.memory < rules::LEAST_MEMORY {
            return value("container.memory", "no guest boots in less than 64Mi");
        }
        if !rules::VCPUS.contains(&self.container.vcpus) {
            return value("container.vcpus", "write 1 to 256");
        }
        if !rules::BOOT_DEADLINE_SECONDS.contains(&self.container.boot_deadline) {
            return value("container.boot_deadline", "write 5 to 3600 seconds");
        }
        let container = &self.container;
        for (key, limit) in [
            ("container.ttl", container.ttl),
            ("container.max_ttl", container.max_ttl),
            ("container.idle_timeout", container.idle_timeout),
            ("container.max_ready", container.max_ready),
        ] {
            if limit.is_some_and(|limit| !(10..=MAX_LIFETIME).contains(&limit)) {
                return value(key, "write 10 to 31536000 seconds (a year), or 'null' for no limit");
            }
        }
        if container.max_ttl.is_some_and(|most| container.ttl.is_some_and(|ttl| ttl > most)) {
            return value("container.ttl", "it is greater than container.max_ttl");
        }
        if !(100..=1_000_000).contains(&self.events.keep) {
            return value("events.keep", "write 100 to 1000000");
        }
        if !(1..=3600).contains(&self.server.client_timeout) {
            return value("server.client_timeout", "write 1 to 3600 seconds");
        }
        if self.server.max_connections == 0 {
            return value("server.max_connections", "it is 0: nobody could connect");
        }
        let names = self.server.api_names.iter();
        let plain = |name: &&String| {
            let bytes = name.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'-' | b':'));
            !name.is_empty() && name.len() <= 253 && bytes
        };
        if names.clone().count() > 100 || !names.clone().all(|name| plain(&name)) {
            return value("server.api_names", "write names of hosts, or addresses, without ports");
        }
        if self.port_forwarding.range.ports().contains(&self.server.listen.port()) {
            return value("port_forwarding.range", "the port of server.listen is in it: choose ranges apart");
        }
        let ports = self.port_forwarding.range.ports().len();
        if ports < self.container.max_allowed_running_containers as usize {
            return value("port_forwarding.range", "it has fewer ports than container.max_allowed_running_containers");
        }
        if self.host.memory.is_some_and(|memory| memory < self.container.memory) {
            return value("host.memory", "it is less than container.memory: nobody could ever create a container");
        }
        let name = |text: &str| {
            (1..=15).contains(&text.len()) && text.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-' || c == b'_')
        };
        if !name(&self.hypervisor.bridge) {
            return value("hypervisor.bridge", "write 1 to 15 letters, digits, '-' or '_' (the kernel's limit)");
        }
        if self.hypervisor.network.is_empty() || self.hypervisor.network.contains(['/', '\n']) {
            return value("hypervisor.network", "write a libvirt network name: not empty, no '/' and no newline");
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

from_text!(PortRange);

#[cfg(test)]
mod tests;
