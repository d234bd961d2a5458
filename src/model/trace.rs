use std::fmt;
use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::Mark;

/// Kinds of things that machines are made of, or leave behind. [`crate::plan::drift`] is the table of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum TraceKind {
    /// A domain of libvirt, in any state, defined or not.
    Domain,
    /// A disk overlay.
    Disk,
    /// What libvirt keeps of a domain that is saved: its memory, its firmware's variables.
    Save,
    /// QEMU's log.
    Log,
    /// Sockets, process numbers and keys of a QEMU.
    Socket,
    /// The host's end of a machine's card.
    Tap,
    /// An address that the DHCP server lent.
    Lease,
    /// A port of the host that leads to a machine.
    Forward,
    /// An element of the firewall's sets: a card with its addresses, an address with egress.
    Element,
    /// A connection that the kernel remembers.
    Flow,
    /// A login in the store.
    Credentials,
    /// A port that is held in the store.
    Port,
    /// A file that was being written.
    File,
}

impl TraceKind {
    /// All of them, in the order in which they go.
    pub const ALL: [TraceKind; 13] = [
        TraceKind::Domain,
        TraceKind::Forward,
        TraceKind::Element,
        TraceKind::Flow,
        TraceKind::Disk,
        TraceKind::Save,
        TraceKind::Log,
        TraceKind::Socket,
        TraceKind::Tap,
        TraceKind::Lease,
        TraceKind::Credentials,
        TraceKind::Port,
        TraceKind::File,
    ];
}

impl fmt::Display for TraceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            TraceKind::Domain => "domain",
            TraceKind::Disk => "disk",
            TraceKind::Save => "save file",
            TraceKind::Log => "QEMU log",
            TraceKind::Socket => "socket",
            TraceKind::Tap => "tap",
            TraceKind::Lease => "DHCP lease",
            TraceKind::Forward => "forward",
            TraceKind::Element => "firewall element",
            TraceKind::Flow => "connection",
            TraceKind::Credentials => "login",
            TraceKind::Port => "held port",
            TraceKind::File => "temporary file",
        })
    }
}

/// One thing that is there.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Trace {
    /// What it is.
    pub kind: TraceKind,
    /// What it is called: unique in its kind, and what somebody would look for.
    pub name: String,
    /// How its owner is found.
    pub whose: Whose,
}

impl Trace {
    /// A thing that is there.
    pub fn new(kind: TraceKind, name: impl Into<String>, whose: Whose) -> Self {
        Trace { kind, name: name.into(), whose }
    }
}

/// How the owner of a thing is found. All but the first and the last are said only of what lies in a place of this
/// installation alone, or bears its UUID: what a record does not own of these is nobody's.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Whose {
    /// By its mark, which may be another installation's.
    Marked(Mark),
    /// It is of the machine with this UUID.
    Machine(Uuid),
    /// It is of a machine whose UUID begins with these hexadecimal digits, without dashes.
    Beginning(String),
    /// It is of the machine behind this port of the host.
    Port(u16),
    /// It is of the machine with this card.
    Card(String),
    /// It is of the machine with this address.
    Address(Ipv4Addr),
    /// It is of the container of this namespace and name.
    Container(String, String),
    /// Ours, and no machine's.
    Nobody,
    /// Somebody else's, or it cannot be told: why.
    Others(String),
}

/// A look at everything of a kind in one place: what there is, or why nobody knows. Nothing found by a look that
/// failed is not *none*.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    /// What was looked for.
    pub kind: TraceKind,
    /// What is there.
    pub found: Result<Vec<Trace>, String>,
}

impl Listing {
    /// Of a look that may have failed.
    pub fn new<E: fmt::Display>(kind: TraceKind, found: Result<Vec<Trace>, E>) -> Self {
        Listing { kind, found: found.map_err(|error| error.to_string()) }
    }
}
