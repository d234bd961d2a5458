use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// What was seen of something outside. Nothing is destroyed on doubt: only a positive *absent* counts as gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen<T> {
    /// It is there.
    Present(T),
    /// A look that succeeded did not find it.
    Absent,
    /// The look failed, with this cause.
    Unknown(String),
}

impl<T> Seen<T> {
    /// From a look that may fail.
    pub fn from_look<E: std::fmt::Display>(look: Result<Option<T>, E>) -> Self {
        match look {
            Ok(Some(found)) => Seen::Present(found),
            Ok(None) => Seen::Absent,
            Err(error) => Seen::Unknown(error.to_string()),
        }
    }

    /// Why the look failed, if it did.
    pub fn unknown(&self) -> Option<&str> {
        match self {
            Seen::Unknown(why) => Some(why),
            Seen::Present(_) | Seen::Absent => None,
        }
    }
}

/// What a domain of ours bears in its libvirt metadata. A domain without it is somebody else's and never touched.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Mark {
    /// The installation (one state directory) it belongs to.
    pub instance: Uuid,
    /// The container's namespace.
    pub namespace: String,
    /// The container's name.
    pub name: String,
    /// The container's UUID; equals the domain's.
    pub uid: Uuid,
}

/// A domain's state, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DomainState {
    /// Its processors run.
    Running,
    /// It stands still.
    Paused(Pause),
    /// It is defined, but off, crashed or going down.
    Off,
}

/// Why a domain stands still.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Pause {
    /// Somebody paused or suspended it.
    Asked,
    /// It wrote to its disk, and there was no room for that on the host: QEMU pauses a guest for nothing else that goes
    /// wrong with a disk, and goes on with that write when it is told to.
    DiskFull,
}

/// A domain, as seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DomainSeen {
    /// Its UUID.
    pub uuid: Uuid,
    /// Its name in libvirt.
    pub name: String,
    /// Our mark, if it bears one.
    pub mark: Option<Mark>,
    /// Its state.
    pub state: DomainState,
    /// The digest of the [`Keepsake`](super::Keepsake) that it bears, if it bears one.
    pub keepsake: Option<String>,
}

/// Everything a pass for a container looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observed {
    /// Its domain, by UUID.
    pub domain: Seen<DomainSeen>,
    /// Its address; `Present(None)` on a network that gives none (user networking).
    pub address: Seen<Option<Ipv4Addr>>,
    /// Its forward.
    pub forward: Seen<()>,
    /// Connections through its forward; `Present(None)` when nobody needs to know.
    pub connections: Seen<Option<u32>>,
    /// Its disk overlay.
    pub disk: Seen<()>,
    /// Its SSH server's answer to [readiness probes](crate::plan::probe); unknown as long as there was none, and where
    /// nobody asks.
    pub answers: Seen<()>,
    /// Whether it may boot now, if it is to: the host bears so many boots at once.
    pub may_boot: bool,
}
