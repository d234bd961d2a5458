//! What of the promises was not kept, by what it is: counted in the figures, and every one of them is the run's failure.

use std::fmt;

/// What it is that was not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Breach {
    /// Something acknowledged is not as its client was told.
    Lost,
    /// A machine in use was ended, started again, or cut off from its port.
    Disturbed,
    /// Something outlives what it belonged to.
    Leaked(Thing),
    /// A change without its event, a gap in the log, an event that was there and is not as it was.
    Missing,
    /// An event told once too often.
    Doubled,
    /// An SSH session ended, or lost a part of what was said.
    Dropped,
    /// What is somebody else's was touched.
    Foreign,
    /// Without new input, the world did not come to be as wished.
    Unrest,
}

/// What can be left behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Thing {
    Domain,
    Disk,
    Forward,
    Port,
    Credential,
    Claim,
}

impl Thing {
    pub(crate) const ALL: [Thing; 6] =
        [Thing::Domain, Thing::Disk, Thing::Forward, Thing::Port, Thing::Credential, Thing::Claim];

    /// Several of it.
    pub(crate) fn plural(self) -> &'static str {
        match self {
            Thing::Domain => "domains",
            Thing::Disk => "disks",
            Thing::Forward => "forwards",
            Thing::Port => "ports",
            Thing::Credential => "credentials",
            Thing::Claim => "claims",
        }
    }
}

/// One of them, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) breach: Breach,
    pub(crate) what: String,
}

/// What is wrong.
pub(crate) type Faults = Vec<Fault>;

impl Breach {
    pub(crate) fn of(self, what: impl Into<String>) -> Fault {
        Fault { breach: self, what: what.into() }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.breach, self.what)
    }
}
