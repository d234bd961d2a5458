//! What a change of the configuration does to a daemon that runs: which keys it takes up, which wait for its next start.
//! Pure.

use serde_json::Value;

use super::{Config, ConfigError};

/// When a changed key takes effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// With the reload.
    Reload,
    /// With the daemon's next start.
    Restart,
}

use Effect::{Reload, Restart};

/// Every key, and when a change of it takes effect. That it is every key is kept by `every_key_has_its_effect`.
///
/// Sockets stay open and machines stay where they are: what names an address, a port, a directory or a network is for
/// the next start.
pub const EFFECTS: &[(&str, Effect)] = &[
    ("state_dir", Restart),
    ("manifests", Restart),
    ("server.listen", Restart),
    ("server.client_timeout", Reload),
    ("server.max_connections", Reload),
    ("server.health_listen", Restart),
    ("server.api_listen", Restart),
    ("server.api_names", Restart),
    ("server.local_api", Restart),
    ("container.image", Reload),
    ("container.memory", Reload),
    ("container.vcpus", Reload),
    ("container.domain_type", Reload),
    ("container.egress", Reload),
    ("container.max_allowed_running_containers", Reload),
    ("container.warm", Reload),
    ("container.boot_deadline", Reload),
    ("container.ttl", Reload),
    ("container.max_ttl", Reload),
    ("container.idle_timeout", Reload),
    ("container.max_ready", Reload),
    ("port_forwarding.bind", Restart),
    ("port_forwarding.range", Restart),
    ("hypervisor.mode", Restart),
    ("hypervisor.network", Restart),
    ("hypervisor.bridge", Restart),
    ("hypervisor.subnet", Restart),
    ("host.memory", Reload),
    ("host.disk_reserve", Reload),
    ("events.keep", Reload),
];

/// A key whose value differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Which.
    pub key: &'static str,
    /// What the daemon runs with.
    pub running: Value,
    /// What was read.
    pub read: Value,
}

/// What a configuration changes.
#[derive(Clone, Debug, PartialEq)]
pub struct Changes {
    /// What takes effect.
    pub taken: Vec<Change>,
    /// What does not, before the next start.
    pub waiting: Vec<Change>,
    /// What the daemon runs with then: what it ran with, but for what takes effect.
    pub config: Config,
}

/// Compares what a daemon runs with and what was read. It is an error if what takes effect cannot be together with what
/// stays.
pub fn compare(running: &Config, read: &Config) -> Result<Changes, ConfigError> {
    let (mut config, read) = (tree(running), tree(read));
    let (mut taken, mut waiting) = (Vec::new(), Vec::new());
    for (key, effect) in EFFECTS {
        let pointer = format!("/{}", key.replace('.', "/"));
        let (Some(here), Some(there)) = (config.pointer_mut(&pointer), read.pointer(&pointer)) else { continue };
        if here == there {
            continue;
        }
        let change = Change { key, running: here.clone(), read: there.clone() };
        match effect {
            Reload => {
                *here = there.clone();
                taken.push(change);
            }
            Restart => waiting.push(change),
        }
    }
    let config: Config = serde_json::from_value(config).expect("values of two configurations make a third");
    config.check()?;
    Ok(Changes { taken, waiting, config })
}

pub(super) fn tree(config: &Config) -> Value {
    crate::manifest::json(config)
}
