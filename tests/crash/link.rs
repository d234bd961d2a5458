//! What a daemon under test and the world say to each other: one question and one answer a connection, each a length
//! and JSON, over a Unix socket.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anweddol::guest::{Forward, ForwardError, ShellError};
use anweddol::hypervisor::{DomainSpec, HypervisorError};
use anweddol::model::{DomainSeen, DomainState, DomainType, Egress, Image, Mark, Memory, NetworkSpec, Pause, Wake};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

/// The longest message.
const LONGEST: usize = 1 << 20;
/// How long an answer may take: longer than a guest is waited for.
pub(crate) const DEADLINE: Duration = Duration::from_secs(10);
/// How long the world waits for a guest in one call.
pub(crate) const PATIENCE: Duration = Duration::from_secs(2);

/// A call of one of the traits.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Ask {
    List,
    Find(Uuid),
    Create(Spec),
    Destroy(Mark),
    Resume(Mark),
    Remember {
        mark: Mark,
        digest: String,
        text: String,
    },
    Recall(Uuid),
    Address {
        uuid: Uuid,
        mac: String,
    },
    HasDisk(Uuid),
    Disks,
    RemoveDisk(Uuid),
    Personalise {
        at: SocketAddr,
        uuid: Uuid,
        username: String,
        patience: Duration,
    },
    Authorize {
        at: SocketAddr,
        uuid: Uuid,
        username: String,
        key: String,
    },
    Probe {
        at: SocketAddr,
        uuid: Uuid,
    },
    Admin(Way),
    Publish(Way),
    Withdraw(Way),
    IsPublished(Way),
    Connections(Way),
    Ports,
    IsFree(u16),
    /// Answered by a [`Hint`] for every wake, for ever.
    Wakes,
}

/// How a call ended.
pub(crate) type Answer = Result<Value, Refusal>;

/// Why a call did not do what it was for, as far as its caller acts on it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Refusal {
    Invalid { what: String, reason: String },
    NotOurs,
    Taken,
    NoAddress,
    NotAnswering(String),
    Refused,
    Failed(String),
}

/// A [`DomainSpec`].
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Spec {
    pub(crate) mark: Mark,
    mac: String,
    image: Image,
    memory: Memory,
    vcpus: u32,
    domain_type: DomainType,
    network: NetworkSpec,
}

/// A [`DomainSeen`].
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Domain {
    uuid: Uuid,
    name: String,
    mark: Option<Mark>,
    running: Option<bool>,
    keepsake: Option<String>,
}

/// A [`Forward`].
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Way {
    pub(crate) uuid: Uuid,
    pub(crate) port: u16,
    address: Option<Ipv4Addr>,
    mac: String,
    egress: Egress,
}

/// A [`Wake`]: of this domain, or of everything.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Hint(Option<Uuid>);

pub(crate) fn send(to: &mut impl Write, message: &impl Serialize) -> io::Result<()> {
    let body = serde_json::to_vec(message)?;
    let length = u32::try_from(body.len()).map_err(io::Error::other)?;
    to.write_all(&[&length.to_be_bytes()[..], &body].concat())
}

pub(crate) fn receive<T: DeserializeOwned>(from: &mut impl Read) -> io::Result<T> {
    let mut length = [0; 4];
    from.read_exact(&mut length)?;
    let length = u32::from_be_bytes(length) as usize;
    if length > LONGEST {
        return Err(io::Error::other(format!("a message of {length} bytes, but {LONGEST} is the longest")));
    }
    let mut body = vec![0; length];
    from.read_exact(&mut body)?;
    Ok(serde_json::from_slice(&body)?)
}

impl From<&DomainSpec> for Spec {
    fn from(spec: &DomainSpec) -> Spec {
        let DomainSpec { mark, mac, image, memory, vcpus, domain_type, network } = spec.clone();
        Spec { mark, mac, image, memory, vcpus, domain_type, network }
    }
}

impl From<Spec> for DomainSpec {
    fn from(spec: Spec) -> DomainSpec {
        let Spec { mark, mac, image, memory, vcpus, domain_type, network } = spec;
        DomainSpec { mark, mac, image, memory, vcpus, domain_type, network }
    }
}

impl From<DomainSeen> for Domain {
    fn from(seen: DomainSeen) -> Domain {
        let running = match seen.state {
            DomainState::Running => Some(true),
            // The suite pauses no machine.
            DomainState::Paused(_) => Some(false),
            DomainState::Off => None,
        };
        Domain { uuid: seen.uuid, name: seen.name, mark: seen.mark, running, keepsake: seen.keepsake }
    }
}

impl From<Domain> for DomainSeen {
    fn from(domain: Domain) -> DomainSeen {
        let state = match domain.running {
            Some(true) => DomainState::Running,
            Some(false) => DomainState::Paused(Pause::Asked),
            None => DomainState::Off,
        };
        DomainSeen { uuid: domain.uuid, name: domain.name, mark: domain.mark, state, keepsake: domain.keepsake }
    }
}

impl From<&Forward> for Way {
    fn from(forward: &Forward) -> Way {
        let Forward { uuid, port, address, mac, egress } = forward.clone();
        Way { uuid, port, address, mac, egress }
    }
}

impl From<Way> for Forward {
    fn from(way: Way) -> Forward {
        let Way { uuid, port, address, mac, egress } = way;
        Forward { uuid, port, address, mac, egress }
    }
}

impl From<Wake> for Hint {
    fn from(wake: Wake) -> Hint {
        match wake {
            Wake::Domain(uuid) => Hint(Some(uuid)),
            // The simulated world tells of no cards and leases.
            Wake::Everything | Wake::Card(_) | Wake::Lease => Hint(None),
        }
    }
}

impl From<Hint> for Wake {
    fn from(hint: Hint) -> Wake {
        hint.0.map_or(Wake::Everything, Wake::Domain)
    }
}

impl From<HypervisorError> for Refusal {
    fn from(error: HypervisorError) -> Refusal {
        match error {
            HypervisorError::Invalid { what, reason } => Refusal::Invalid { what, reason },
            HypervisorError::NotOurs { .. } => Refusal::NotOurs,
            HypervisorError::Unreachable { reason, .. } | HypervisorError::Failed { reason, .. } => {
                Refusal::Failed(reason)
            }
        }
    }
}

impl From<ShellError> for Refusal {
    fn from(error: ShellError) -> Refusal {
        match error {
            ShellError::NotAnswering { reason, .. } => Refusal::NotAnswering(reason),
            ShellError::Refused { .. } => Refusal::Refused,
            other => Refusal::Failed(other.to_string()),
        }
    }
}

impl From<ForwardError> for Refusal {
    fn from(error: ForwardError) -> Refusal {
        match error {
            ForwardError::Taken { .. } => Refusal::Taken,
            ForwardError::NoAddress { .. } => Refusal::NoAddress,
            ForwardError::Failed { reason, .. } => Refusal::Failed(reason),
        }
    }
}

impl Refusal {
    pub(crate) fn of_hypervisor(self, what: &'static str, uuid: Uuid) -> HypervisorError {
        match self {
            Refusal::Invalid { what, reason } => HypervisorError::Invalid { what, reason },
            Refusal::NotOurs => HypervisorError::NotOurs { uuid },
            other => HypervisorError::Failed { what, uuid, reason: other.reason() },
        }
    }

    pub(crate) fn of_shell(self, at: SocketAddr) -> ShellError {
        match self {
            Refusal::NotAnswering(reason) => ShellError::NotAnswering { at, reason },
            Refusal::Refused => ShellError::Refused { at },
            other => ShellError::Broken { at, reason: other.reason() },
        }
    }

    pub(crate) fn of_forward(self, port: u16) -> ForwardError {
        match self {
            Refusal::Taken => ForwardError::Taken { port },
            Refusal::NoAddress => ForwardError::NoAddress { port },
            other => ForwardError::Failed { port, reason: other.reason() },
        }
    }

    fn reason(self) -> String {
        match self {
            Refusal::Failed(reason) => reason,
            other => format!("{other:?}"),
        }
    }
}
