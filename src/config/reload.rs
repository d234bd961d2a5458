//! What a change of the configuration does to a daemon that runs: which keys it takes up, which wait for its next start.
//! Pure.

use serde_json::Value;

use super::keys::{Effect, KEYS};
use super::{Config, ConfigError};
use crate::manifest::json;

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
    let (mut config, read) = (json(running), json(read));
    let (mut taken, mut waiting) = (Vec::new(), Vec::new());
    for key in KEYS {
        let pointer = format!("/{}", key.name.replace('.', "/"));
        let (Some(here), Some(there)) = (config.pointer_mut(&pointer), read.pointer(&pointer)) else { continue };
        if here == there {
            continue;
        }
        let change = Change { key: key.name, running: here.clone(), read: there.clone() };
        match key.effect {
            Effect::Reload => {
                *here = there.clone();
                taken.push(change);
            }
            Effect::Restart => waiting.push(change),
        }
    }
    let config: Config = serde_json::from_value(config).expect("values of two configurations make a third");
    config.check()?;
    Ok(Changes { taken, waiting, config })
}
