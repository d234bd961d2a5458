//! The operator: drives what is towards what is wished for, one pass and at most one step at a time.
//!
//! # Promises
//!
//! 1. What was acknowledged to a client survives `kill -9`, at any instant.
//! 2. Without new input the world reaches a fixed point: `decide` gives no step.
//! 3. No domain, disk, forward, port or credential of ours outlives its record: a record goes last, when each of them
//!    was seen to be gone, and what has none is swept away ([`crate::plan::drift`] is the table of all of it). A container without pool, whose record says how it ended,
//!    has given them all back by then, and so has what only a finalizer holds.
//! 4. A deleted container is never started again, and a bound claim is never silently given another machine. A start
//!    that was decided before its deletion came may still happen; the next pass ends it.
//! 5. Every committed phase change has its events, once and in order.
//! 6. Two passes for one object never overlap.
//! 7. Domains without our mark are never touched, and nothing is destroyed on doubt: neither a domain that could not be
//!    looked for nor a disk whose domain could still run.
//!
//! 2, 3, 4, 5 and 7 are checked by `tests::random_histories_converge_and_keep_the_promises` over histories with a
//! crash at every point, and with everything that claims and lifetimes add by
//! `tests::claims::random_histories_of_claims_and_lifetimes_keep_the_promises`; 1 by the store's tests of kills and of power
//! cuts; 6 by the queue's `passes_never_overlap_nor_exceed_the_limit_and_no_key_is_lost`; all but 6 in every order of
//! steps, crashes and deaths, in small worlds, by
//! `tests::model::whatever_meets_one_claim_at_any_point_the_promises_hold` and its siblings; and all but 6 by
//! `tests/crash`, over a daemon that is killed anywhere and its clients, simulated and real. Finalizers and owners have
//! their tests in `tests/owners.rs`. What a pool keeps besides is in
//! [`crate::plan::pool`], by `random_histories_of_a_pool_come_to_rest_as_wished_for`.
//!
//! The records of machines in use outlive the store itself: their domains bear them ([`crate::daemon::rebuild`] writes
//! them anew).
//!
//! # A pass
//!
//! ```text
//! read record ─► observe ─► plan::decide ─► commit ─► apply one step ─► plan::note ─► commit
//! ```
//!
//! Nothing is remembered between passes. A crash is a pass that ended early: the intent was committed before the
//! step, and every step may be taken again.

mod apply;
mod boots;
mod claim;
mod events;
mod inventory;
mod known;
mod look;
mod observe;
mod owned;
mod owners;
mod pass;
mod pool;
mod probe;
pub mod queue;
mod recover;
mod run;
mod unaddressed;
mod waiting;

#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use jiff::{SignedDuration, Timestamp};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::api::{Births, Doubts};
use crate::guest::{Forwarder, Shell, ShellObserver};
use crate::hypervisor::Hypervisor;
use crate::metrics::Metrics;
use crate::model::{Container, Mark};
use crate::store::{RecordError, Store, StoreError};

pub use crate::plan::clock::Clock;
pub use boots::Boots;
pub use inventory::Inventory;
pub use probe::Probes;
pub use recover::begin;
pub use run::{RESYNC, run};

/// Everything a pass works with. All of it is behind traits; only `daemon` knows what is.
pub struct Operator {
    /// The records.
    pub store: Arc<dyn Store>,
    /// The domains.
    pub hypervisor: Arc<dyn Hypervisor>,
    /// The guests.
    pub shell: Arc<dyn Shell>,
    /// Is shown every endpoint shell.
    pub observer: Option<Arc<dyn ShellObserver>>,
    /// The ports.
    pub forwarder: Arc<dyn Forwarder>,
    /// Makes the records of new containers.
    pub births: Arc<Births>,
    /// Members that may be dead; shared with who places claims.
    pub doubts: Arc<Doubts>,
    /// Whether members answer.
    pub probes: Arc<Probes>,
    /// Which machines boot at once.
    pub boots: Arc<Boots>,
    /// How many events the log keeps, at least.
    pub kept_events: Arc<AtomicUsize>,
    /// The time.
    pub clock: Clock,
    /// This installation, which its domains bear.
    pub instance: Uuid,
    /// Whether machines get addresses of their own (a NAT network) or none (user networking).
    pub addressed: bool,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Cancelled when the daemon stops: no pass begins then, and none goes on waiting for a guest that boots.
    pub quit: CancellationToken,
}

/// When an object wants its next pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Requeue {
    /// When it changes.
    OnChange,
    /// After this long, or when it changes.
    After(SignedDuration),
}

/// Why a pass ended early. The next one starts from what is then.
#[derive(Debug, thiserror::Error)]
pub enum PassError {
    /// Records cannot be read or written.
    #[error(transparent)]
    Record(#[from] RecordError),
}

impl From<StoreError> for PassError {
    fn from(error: StoreError) -> Self {
        PassError::Record(error.into())
    }
}

impl Operator {
    fn now(&self) -> Timestamp {
        (self.clock)()
    }

    /// What there is, compared with what is recorded; `state_dir` is where its files are looked at too.
    pub fn inventory(&self, state_dir: Option<PathBuf>) -> Inventory {
        Inventory {
            store: Arc::clone(&self.store),
            hypervisor: Arc::clone(&self.hypervisor),
            forwarder: Arc::clone(&self.forwarder),
            instance: self.instance,
            clock: Arc::clone(&self.clock),
            metrics: Arc::clone(&self.metrics),
            state_dir,
        }
    }

    /// What this container's domain bears.
    fn mark(&self, c: &Container) -> Mark {
        Mark {
            instance: self.instance,
            namespace: c.metadata.namespace.to_string(),
            name: c.metadata.name.clone(),
            uid: c.uuid(),
        }
    }
}
