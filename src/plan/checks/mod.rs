//! What a host has to have so that machines run on it: pure judgements over facts that somebody else gathered.
//!
//! | group | judged in | about |
//! | --- | --- | --- |
//! | machines | [`machines`] | QEMU, KVM, libvirt, `qemu-img`; whether a guest really runs |
//! | network | [`network`] | system mode alone: programs, the subnet, nftables, other people's rules, forwarding |
//! | storage | [`storage`] | the state directory, the image, free space |
//! | host | [`host`] | ports, memory, clock, limits of the kernel |
//!
//! A fact that could not be had is *unknown*, and unknown is never good. Each judgement that is not good says what to do.
//! What certainly cannot work *stops* `anweddol serve`, too ([`Check::stops`]).

pub mod host;
pub mod machines;
pub mod network;
pub mod storage;

#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

/// A fact, or why it could not be had.
pub type Seen<T> = Result<T, String>;

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// As it should be.
    Ok,
    /// It works, but not as well as it could, or not everywhere.
    Warn,
    /// It could not be seen.
    Unknown,
    /// It does not work.
    Fail,
}

/// Which part of the host a check is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Group {
    /// What runs machines.
    Machines,
    /// What connects them.
    Network,
    /// What they are made of, and where they are recorded.
    Storage,
    /// Everything else.
    Host,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// Of what.
    pub group: Group,
    /// What was checked.
    pub name: String,
    /// How it is.
    pub status: Status,
    /// What was seen.
    pub message: String,
    /// What to do, where it is not good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
    /// Whether the daemon does not even start with it.
    #[serde(default)]
    pub stops: bool,
}

impl Check {
    fn new(group: Group, name: &str, status: Status, message: impl Into<String>, remedy: Option<String>) -> Check {
        Check { group, name: name.into(), status, message: message.into(), remedy, stops: false }
    }

    /// It is as it should be.
    pub fn ok(group: Group, name: &str, message: impl Into<String>) -> Check {
        Check::new(group, name, Status::Ok, message, None)
    }

    /// It could be better.
    pub fn warn(group: Group, name: &str, message: impl Into<String>, remedy: impl Into<String>) -> Check {
        Check::new(group, name, Status::Warn, message, Some(remedy.into()))
    }

    /// It does not work.
    pub fn fail(group: Group, name: &str, message: impl Into<String>, remedy: impl Into<String>) -> Check {
        Check::new(group, name, Status::Fail, message, Some(remedy.into()))
    }

    /// It could not be seen, for this reason.
    pub fn unknown(group: Group, name: &str, why: impl Into<String>) -> Check {
        let remedy = "look again as root, or as the daemon's own user";
        Check::new(group, name, Status::Unknown, why, Some(remedy.into()))
    }

    /// The same, and the daemon does not start with it.
    fn stopping(self) -> Check {
        Check { stops: true, ..self }
    }
}

/// What message and remedy say together.
impl std::fmt::Display for Check {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.name, self.message)?;
        self.remedy.as_ref().map_or(Ok(()), |remedy| write!(f, "; {remedy}"))
    }
}

/// Everything that is known of a host.
#[derive(Clone, Debug)]
pub struct Facts {
    /// What runs machines.
    pub machines: machines::Machines,
    /// What connects them in system mode; embedded mode needs nothing of the host.
    pub network: Option<network::Network>,
    /// Where things are kept.
    pub storage: storage::Storage,
    /// Everything else; a daemon that starts has errors of its own for it.
    pub host: Option<host::Host>,
}

/// Judges all of it, in the order of the groups.
pub fn judge(facts: &Facts) -> Vec<Check> {
    let mut checks = machines::judge(&facts.machines);
    checks.extend(facts.network.iter().flat_map(network::judge));
    checks.extend(storage::judge(&facts.storage));
    checks.extend(facts.host.iter().flat_map(host::judge));
    checks
}

/// A number of bytes, for people.
fn size(bytes: u64) -> String {
    match bytes >> 30 {
        0 => format!("{} MiB", bytes >> 20),
        _ => format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30)),
    }
}
