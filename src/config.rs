//! The daemon's configuration: one YAML file, every key with a default, unknown keys refused.

mod access;
mod container;
mod error;
pub mod explain;
mod forwarding;
mod hypervisor;
pub mod import;
mod ip_filter;
pub mod keys;
mod observe;
mod rates;
pub mod reload;
mod server;
mod text;
mod web;

use std::fs;
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::model::{Egress, Image, Lifetime, Template};

pub use access::Access;
pub use container::Containers;
use error::Faults;
pub use error::{ConfigError, Problem, Problems};
pub use forwarding::{PortForwarding, PortRange};
pub use hypervisor::{DISK_RESERVE, Host, Hypervisor, Mode};
pub use ip_filter::{Cidr, CidrError, IpFilter};
pub use observe::Observe;
pub use rates::Rates;
pub use server::Server;
pub use web::{Web, WebListen, WebTls};

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
    /// The original's plain web server.
    pub web: Web,
    /// Who may connect.
    pub ip_filter: IpFilter,
    /// How much they may ask for.
    pub rates: Rates,
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
    /// What is told of the daemon.
    pub observe: Observe,
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
            web: Web::default(),
            ip_filter: IpFilter::default(),
            rates: Rates::default(),
            container: Containers::default(),
            port_forwarding: PortForwarding::default(),
            hypervisor: Hypervisor::default(),
            host: Host::default(),
            manifests: None,
            events: Events::default(),
            observe: Observe::default(),
        }
    }
}

/// `/var/lib/anweddol` for root, a directory of their own for everybody else; empty for who has none.
fn default_state_dir() -> PathBuf {
    if rustix::process::geteuid().is_root() {
        return "/var/lib/anweddol".into();
    }
    crate::user_dir("XDG_STATE_HOME", ".local/state").unwrap_or_default()
}

impl Config {
    /// Reads and checks a file.
    pub fn read(path: &Path) -> Result<Config, ConfigError> {
        let text = source(path)?;
        text::read(Some(path), &text)
    }

    /// Reads and checks a text; an empty one is all defaults.
    pub fn parse(text: &str) -> Result<Config, ConfigError> {
        text::read(None, text)
    }

    /// Checks what types cannot say.
    pub fn check(&self) -> Result<(), ConfigError> {
        text::check(self)
    }

    fn faults(&self, f: &mut Faults) {
        self.server.check(f);
        self.web.check(&self.server, f);
        self.ip_filter.check(f);
        self.rates.check(f);
        self.container.check(f);
        self.hypervisor.check(f);
        self.observe.check(f);
        f.range(100..=1_000_000, self.events.keep, "events.keep", "");
        // Without a home directory it has no default.
        let state_dir = self.state_dir.is_absolute() || self.state_dir.as_os_str().is_empty();
        f.unless(state_dir, "state_dir", "write an absolute path, as /srv/anweddol");
        let manifests = self.manifests.as_ref().is_none_or(|dir| dir.is_absolute());
        f.unless(manifests, "manifests", "write an absolute path, as /etc/anweddol/manifests");
        f.unless_with(
            (self.hypervisor.mode, self.container.egress) != (Mode::Embedded, Egress::Internet),
            "container.egress",
            "hypervisor.mode",
            "QEMU's user networking cannot tell public addresses from others: write 'none' or 'all', or run machines on a \
             NAT network (hypervisor.mode: system)",
        );
        let range = self.port_forwarding.range;
        for (key, address) in [
            ("server.listen", Some(self.server.listen)),
            ("server.health_listen", self.server.health_listen),
            ("server.api_listen", self.server.api_listen),
            ("web.listen", self.web.address()),
        ] {
            let inside = address.is_some_and(|address| range.ports().contains(&address.port()));
            let message = format!("the port of {key} is in it: choose ranges apart");
            f.unless_with(!inside, "port_forwarding.range", key, message);
        }
        let most = self.container.max_allowed_running_containers;
        f.unless_with(
            range.ports().len() >= most as usize,
            "port_forwarding.range",
            "container.max_allowed_running_containers",
            format!("write at least as many ports as container.max_allowed_running_containers, which is {most}"),
        );
        let memory = self.container.memory;
        f.unless_with(
            self.host.memory.is_none_or(|all| all >= memory),
            "host.memory",
            "container.memory",
            format!("nobody could ever create a container; write at least container.memory, which is {memory}"),
        );
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

/// The text of a configuration file.
fn source(path: &Path) -> Result<String, ConfigError> {
    let unreadable = |source| ConfigError::Unreadable { path: path.into(), source };
    let file = fs::File::open(path).map_err(unreadable)?;
    if file.metadata().map_err(unreadable)?.is_dir() {
        return Err(ConfigError::Directory { path: path.into() });
    }
    let mut bytes = Vec::new();
    file.take(MAX_SIZE + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > MAX_SIZE {
        return Err(ConfigError::TooLong { path: path.into() });
    }
    String::from_utf8(bytes).map_err(|error| {
        let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = good.iter().filter(|&&byte| byte == b'\n').count() + 1;
        let problem = Problem { line, ..Problem::whole(Some(path), "it is not UTF-8 text: save it as such") };
        ConfigError::Wrong(Problems(vec![problem]))
    })
}

#[cfg(test)]
mod tests;
