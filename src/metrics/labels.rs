//! Labels and their words. A label's values are an enum's, or names of what there is: so there are never many.

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$of:meta])* $variant:ident = $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[$of])* $variant,)*
        }

        impl $name {
            /// All of them.
            pub const ALL: &[$name] = &[$($name::$variant,)*];

            /// As the label says it.
            pub const fn word(self) -> &'static str {
                match self { $($name::$variant => $word,)* }
            }
        }

        impl EncodeLabelValue for $name {
            fn encode(&self, encoder: &mut LabelValueEncoder) -> Result<(), std::fmt::Error> {
                EncodeLabelValue::encode(&self.word(), encoder)
            }
        }
    };
}

words! {
    /// How a claim came to its machine.
    Start {
        /// One was ready.
        Warm = "warm",
        /// One of the pool was on its way.
        Rising = "rising",
        /// It was made for the claim.
        Cold = "cold",
        /// It has none.
        None = "none",
    }
}

words! {
    /// What came of a claim.
    Claimed {
        /// It has its machine.
        Bound = "bound",
        /// Its machine could not be made, or not in time.
        Failed = "failed",
        /// It went before it had one: its client went away, say.
        Withdrawn = "withdrawn",
        /// It was not taken: the pool or the host is full, or policy says no.
        Refused = "refused",
    }
}

words! {
    /// How a claim that had its machine ended.
    Ended {
        /// It was given back.
        Released = "released",
        /// Its machine died.
        Lost = "lost",
        /// Its time was over.
        Expired = "expired",
    }
}

words! {
    /// A part of the way to a machine.
    Stage {
        /// A client's key exchange.
        Exchange = "exchange",
        /// From a claim to the decision which machine it gets.
        Queue = "queue",
        /// From the decision that a machine is the claim's until that is durable.
        Bind = "bind",
        /// From the wish for a domain until its machine is ready: all of what follows, too.
        Boot = "boot",
        /// From the wish for a domain until its machine has an address.
        Address = "address",
        /// From the first try to reach a guest until its SSH server lets the endpoint account in.
        Ssh = "ssh",
        /// From there until its user can log in and the endpoint account is locked.
        Personalise = "personalise",
    }
}

words! {
    /// How a request came in.
    Transport {
        /// By the wire protocol.
        Wire = "wire",
        /// By the plain web server.
        Web = "web",
        /// Through the API's port.
        Https = "https",
        /// Through the API's socket on this host.
        Local = "local",
    }
}

words! {
    /// How a transaction ended.
    Commit {
        /// Done and durable.
        Committed = "committed",
        /// A condition did not hold.
        Conflict = "conflict",
        /// It was none.
        Invalid = "invalid",
        /// The store takes no writes.
        Unavailable = "unavailable",
        /// It may have been done.
        Unknown = "unknown",
    }
}

words! {
    /// What kept a call from being done.
    Fault {
        /// The hypervisor, or the guest, does not answer.
        Unreachable = "unreachable",
        /// What is there is not ours.
        NotOurs = "not_ours",
        /// It cannot be done, however often it is tried.
        Invalid = "invalid",
        /// It went wrong.
        Failed = "failed",
        /// Nobody waits for it any more.
        Unwanted = "unwanted",
    }
}

words! {
    /// How a pass ended.
    Passed {
        /// In order.
        Done = "done",
        /// Records could not be read or written.
        Failed = "failed",
        /// With a panic.
        Panicked = "panicked",
    }
}

words! {
    /// What became of something that nothing owned.
    Leak {
        /// It was removed.
        Removed = "removed",
        /// It could not be removed: it is found, and counted, again.
        Kept = "kept",
    }
}

words! {
    /// Where an object is that wants a pass.
    Turn {
        /// It waits for a free place.
        Due = "due",
        /// It waits for its time.
        Later = "later",
        /// Its pass is under way.
        Running = "running",
    }
}

/// Of a claim.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct OfClaim {
    pub(super) start: Start,
    pub(super) result: Claimed,
}

/// Of a claim that is bound.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct OfStart {
    pub(super) start: Start,
}

/// Of a claim's end.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct OfEnd {
    pub(super) reason: Ended,
}

/// Of a container that failed.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct OfFailure {
    pub(super) reason: String,
}

/// Of a stage.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct OfStage {
    pub(super) stage: Stage,
}

/// Of a request.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct OfRequest {
    pub(super) transport: Transport,
    pub(super) verb: &'static str,
    pub(super) outcome: &'static str,
}

/// Of the requests that came in one way.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct OfTransport {
    pub(super) transport: Transport,
}

/// Of a transaction.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct OfCommit {
    pub(super) result: Commit,
}

/// Of a call to what runs machines, or to a machine.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct OfCall {
    pub(super) call: &'static str,
}

/// Of a call that was not done.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct OfFault {
    pub(super) call: &'static str,
    pub(super) kind: Fault,
}

/// Of a pass.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct OfPass {
    pub(super) kind: &'static str,
    pub(super) result: Passed,
}

/// Of the passes for one kind.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct OfKind {
    pub(super) kind: &'static str,
}

/// Of something that nothing owned.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct OfLeak {
    pub(super) kind: String,
    pub(super) outcome: Leak,
}

/// Of a pool.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct OfPool {
    pub(super) namespace: String,
    pub(super) pool: String,
}

/// Of a phase.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct OfPhase {
    pub(super) phase: &'static str,
}

/// Of the queue.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct OfTurn {
    pub(super) state: Turn,
}

/// Of this program.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct OfBuild {
    pub(super) version: &'static str,
    pub(super) revision: &'static str,
    pub(super) otlp: &'static str,
}

/// Of what runs machines.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct OfHypervisor {
    pub(super) hypervisor: String,
}
