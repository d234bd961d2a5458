//! What the daemon counts and measures, for Prometheus.
//!
//! There is one [`Metrics`] a daemon, handed to whoever has something to count; nothing is global. Most of it costs the
//! product's code no line:
//!
//! | what | where it comes from |
//! | --- | --- |
//! | claims, containers that failed, the stages `queue`, `bind`, `boot`, `address` | what is committed ([`records`]) |
//! | calls to the hypervisor, to guests, of forwards; the stages `ssh`, `personalise`; commits | around the traits ([`calls`]) |
//! | durable writes | the store's own teller ([`Rounds`]) |
//! | requests, passes, leaks, the stage `exchange` | counted where they end |
//! | pools, phases, the queue, the process | looked at when somebody asks ([`scrape`], [`process`]) |
//!
//! Names begin with `anweddol_` (those of the process are Prometheus' own), units are seconds and bytes. Values of labels
//! are words of the program or names of pools that exist, and no more than [`scrape::MOST_POOLS`] of those. Counters
//! begin with the daemon's start.

pub mod calls;
mod labels;
pub mod process;
pub mod records;
pub mod scrape;

#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::OnceLock;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::model::{Kind, TraceKind};
use crate::store::Rounds;
use labels::{
    OfCall, OfClaim, OfCommit, OfEnd, OfFailure, OfFault, OfKind, OfLeak, OfPass, OfRequest, OfStage, OfStart,
    OfTransport,
};

pub use labels::{Claimed, Commit, Ended, Fault, Leak, Passed, Stage, Start, Transport, Turn};
pub use scrape::{Exposition, Form};

/// Seconds that something may take that waits for a machine: from a key exchange to a slow boot.
const LONG: [f64; 18] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0];
/// Seconds that something may take that waits for a disk or a call: from a write to memory to a hypervisor that hangs.
const SHORT: [f64; 16] =
    [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0];
/// Transactions in one durable write, up to the most that one takes.
const ROUND: [f64; 11] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0];

type Histograms<L> = Family<L, Histogram, fn() -> Histogram>;

/// How many objects want a pass, by where they are.
pub type Depth = Box<dyn Fn() -> [(Turn, usize); 3] + Send + Sync>;

/// Everything that is counted. Nothing here blocks.
pub struct Metrics {
    registry: Registry,
    claims: Family<OfClaim, Counter>,
    claim_time: Histograms<OfStart>,
    claims_ended: Family<OfEnd, Counter>,
    containers_failed: Family<OfFailure, Counter>,
    stages: Histograms<OfStage>,
    requests: Family<OfRequest, Counter>,
    request_time: Histograms<OfTransport>,
    commits: Family<OfCommit, Counter>,
    commit_time: Histogram,
    flush_time: Histogram,
    round_size: Histogram,
    call_time: Histograms<OfCall>,
    call_errors: Family<OfFault, Counter>,
    passes: Family<OfPass, Counter>,
    pass_time: Histograms<OfKind>,
    leaks: Family<OfLeak, Counter>,
    missed: Counter,
    depth: OnceLock<Depth>,
}

impl Default for Metrics {
    fn default() -> Self {
        Metrics::new()
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

fn long() -> Histogram {
    Histogram::new(LONG)
}

fn short() -> Histogram {
    Histogram::new(SHORT)
}

impl Metrics {
    /// Nothing has happened.
    pub fn new() -> Metrics {
        let mut metrics = Metrics {
            registry: Registry::with_prefix("anweddol"),
            claims: Family::default(),
            claim_time: Family::new_with_constructor(long),
            claims_ended: Family::default(),
            containers_failed: Family::default(),
            stages: Family::new_with_constructor(long),
            requests: Family::default(),
            request_time: Family::new_with_constructor(long),
            commits: Family::default(),
            commit_time: short(),
            flush_time: short(),
            round_size: Histogram::new(ROUND),
            call_time: Family::new_with_constructor(short),
            call_errors: Family::default(),
            passes: Family::default(),
            pass_time: Family::new_with_constructor(long),
            leaks: Family::default(),
            missed: Counter::default(),
            depth: OnceLock::new(),
        };
        metrics.register();
        metrics.begin();
        metrics
    }

    /// A rate needs a beginning: what can be foreseen begins at zero.
    fn begin(&self) {
        for start in [Start::Warm, Start::Rising, Start::Cold] {
            drop(self.claims.get_or_create(&OfClaim { start, result: Claimed::Bound }));
            drop(self.claim_time.get_or_create(&OfStart { start }));
        }
        for result in [Claimed::Failed, Claimed::Withdrawn, Claimed::Refused] {
            drop(self.claims.get_or_create(&OfClaim { start: Start::None, result }));
        }
        for &reason in Ended::ALL {
            drop(self.claims_ended.get_or_create(&OfEnd { reason }));
        }
        for &result in Commit::ALL {
            drop(self.commits.get_or_create(&OfCommit { result }));
        }
        for kind in TraceKind::ALL {
            drop(self.leaks.get_or_create(&OfLeak { kind: kind.to_string(), outcome: Leak::Removed }));
        }
        for reason in ["BootDeadline", "DomainGone", "StepFailed"] {
            drop(self.containers_failed.get_or_create(&OfFailure { reason: reason.into() }));
        }
        for call in ["list", "find", "create", "destroy"] {
            for kind in [Fault::Unreachable, Fault::Failed] {
                drop(self.call_errors.get_or_create(&OfFault { call, kind }));
            }
        }
        for &stage in Stage::ALL {
            drop(self.stages.get_or_create(&OfStage { stage }));
        }
    }

    fn register(&mut self) {
        let m = &mut self.registry;
        m.register(
            "claims",
            "Claims, by how each came to its machine and what came of it: bound, failed, withdrawn, refused",
            self.claims.clone(),
        );
        m.register_with_unit(
            "claim_duration",
            "From a claim until it is bound, durably: what a client waits after its key exchange",
            Unit::Seconds,
            self.claim_time.clone(),
        );
        m.register(
            "claims_ended",
            "Bound claims that ended, by why: released, lost (the machine died), expired",
            self.claims_ended.clone(),
        );
        m.register(
            "containers_failed",
            "Containers that did not become ready, or whose machine died, by the reason in their status",
            self.containers_failed.clone(),
        );
        m.register_with_unit(
            "stage_duration",
            "Parts of the way to a machine: exchange, queue, bind, boot and within it address, ssh, personalise",
            Unit::Seconds,
            self.stages.clone(),
        );
        m.register(
            "requests",
            "Requests by transport, verb and outcome: the protocol's message, or the status of HTTP",
            self.requests.clone(),
        );
        m.register_with_unit(
            "request_duration",
            "From a whole request until its answer is delivered",
            Unit::Seconds,
            self.request_time.clone(),
        );
        m.register("store_commits", "Transactions by how they ended", self.commits.clone());
        m.register_with_unit(
            "store_commit_duration",
            "From handing a transaction to the store until its durable outcome",
            Unit::Seconds,
            self.commit_time.clone(),
        );
        m.register_with_unit(
            "store_flush_duration",
            "One durable write: a round of transactions, written and synced",
            Unit::Seconds,
            self.flush_time.clone(),
        );
        m.register(
            "store_flush_transactions",
            "Transactions in one durable write: commits are made durable in groups",
            self.round_size.clone(),
        );
        m.register_with_unit(
            "hypervisor_call_duration",
            "Calls to libvirt and QEMU, to guests (shell_) and of forwards (forward_), failed ones included",
            Unit::Seconds,
            self.call_time.clone(),
        );
        m.register("hypervisor_call_errors", "Calls that failed, by call and kind", self.call_errors.clone());
        m.register("passes", "Passes of the operator by kind of object and how they ended", self.passes.clone());
        m.register_with_unit(
            "pass_duration",
            "One pass with its one step; one that waits for a guest to boot takes as long as the boot",
            Unit::Seconds,
            self.pass_time.clone(),
        );
        m.register(
            "leaks",
            "Things of ours that no record owned, found by a sweep or a doctor, by kind and what became of them",
            self.leaks.clone(),
        );
        m.register(
            "uncounted_changes",
            "Times that changes of records came faster than they could be counted: claims are too few since then",
            self.missed.clone(),
        );
    }

    /// Counts what came of a claim.
    pub fn claim(&self, start: Start, result: Claimed) {
        self.claims.get_or_create(&OfClaim { start, result }).inc();
    }

    /// Counts what came of a request, and measures it.
    pub fn request(&self, transport: Transport, verb: &'static str, outcome: &'static str, took: Duration) {
        self.requests.get_or_create(&OfRequest { transport, verb, outcome }).inc();
        self.request_time.get_or_create(&OfTransport { transport }).observe(took.as_secs_f64());
    }

    /// Measures a stage.
    pub fn stage(&self, stage: Stage, took: Duration) {
        self.stages.get_or_create(&OfStage { stage }).observe(took.as_secs_f64());
    }

    /// Counts a pass, and measures it.
    pub fn pass(&self, kind: Kind, result: Passed, took: Duration) {
        let kind = match kind {
            Kind::Container => "container",
            Kind::ContainerPool => "pool",
            Kind::ContainerClaim => "claim",
        };
        self.passes.get_or_create(&OfPass { kind, result }).inc();
        self.pass_time.get_or_create(&OfKind { kind }).observe(took.as_secs_f64());
    }

    /// Counts something that nothing owned.
    pub fn leak(&self, kind: TraceKind, outcome: Leak) {
        self.leaks.get_or_create(&OfLeak { kind: kind.to_string(), outcome }).inc();
    }

    /// Says how many objects want a pass, whenever it is asked; only the first one who says so counts.
    pub fn queue(&self, depth: Depth) {
        self.depth.set(depth).ok();
    }

    fn commit(&self, result: Commit, took: Duration) {
        self.commits.get_or_create(&OfCommit { result }).inc();
        self.commit_time.observe(took.as_secs_f64());
    }

    fn call(&self, call: &'static str, fault: Option<Fault>, took: Duration) {
        self.call_time.get_or_create(&OfCall { call }).observe(took.as_secs_f64());
        if let Some(kind) = fault {
            self.call_errors.get_or_create(&OfFault { call, kind }).inc();
        }
    }
}

impl Rounds for Metrics {
    fn written(&self, transactions: usize, took: Duration) {
        self.flush_time.observe(took.as_secs_f64());
        self.round_size.observe(transactions as f64);
    }
}
