//! What can be counted in what is committed: whoever commits need not know.
//!
//! A change of a record tells what happened if it is compared with the record before. So every claim is counted once,
//! whichever way it came in and whoever bound it, and nothing is that was not durable.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::labels::{OfEnd, OfFailure, OfStart};
use super::{Claimed, Ended, Metrics, Stage, Start};
use crate::model::{ClaimPhase, Container, ContainerClaim, Object, ObjectRef, Phase};
use crate::plan::clock::Clock;
use crate::store::records::{self, REGISTRY};
use crate::store::{Batch, Change, Kv, Store, StoreError};

/// Something that a commit shows.
#[derive(Clone, Debug, PartialEq)]
pub enum Counted {
    /// A claim came to this.
    Claim(Start, Claimed),
    /// A claim was bound, so long after it was made.
    ClaimTime(Start, Duration),
    /// A bound claim ended.
    End(Ended),
    /// A container failed, for this reason.
    Failure(String),
    /// A stage took so long.
    Stage(Stage, Duration),
}

/// Counts what is committed from now on, until cancelled.
pub fn follow(
    metrics: Arc<Metrics>,
    store: Arc<dyn Store>,
    clock: Clock,
    cancel: CancellationToken,
) -> impl Future<Output = ()> + Send + 'static {
    let mut changes = store.watch(REGISTRY, 0);
    async move {
        loop {
            let batch = tokio::select! {
                () = cancel.cancelled() => return,
                batch = changes.next() => batch,
            };
            match batch {
                Some(Ok(batch)) => count(&batch, clock()).into_iter().for_each(|counted| metrics.count(counted)),
                Some(Err(StoreError::Compacted { rev })) => {
                    tracing::warn!(rev, "changes came faster than they could be counted");
                    metrics.missed.inc();
                    changes = store.watch(REGISTRY, 0);
                }
                Some(Err(error)) => {
                    tracing::error!(%error, "changes cannot be counted");
                    return;
                }
                None => return,
            }
        }
    }
}

impl Metrics {
    fn count(&self, counted: Counted) {
        match counted {
            Counted::Claim(start, result) => self.claim(start, result),
            Counted::ClaimTime(start, took) => {
                self.claim_time.get_or_create(&OfStart { start }).observe(took.as_secs_f64());
            }
            Counted::End(reason) => {
                self.claims_ended.get_or_create(&OfEnd { reason }).inc();
            }
            Counted::Failure(reason) => {
                self.containers_failed.get_or_create(&OfFailure { reason }).inc();
            }
            Counted::Stage(stage, took) => self.stage(stage, took),
        }
    }
}

/// What a commit shows that became durable just before `now`.
pub fn count(batch: &Batch, now: Timestamp) -> Vec<Counted> {
    let containers: Vec<(Option<Container>, Option<Container>)> = batch.changes.iter().filter_map(read).collect();
    let mut counted = Vec::new();
    for (before, after) in &containers {
        if let Some(after) = after {
            counted.extend(container(before.as_ref(), after, now));
        }
    }
    for (before, after) in batch.changes.iter().filter_map(read::<ContainerClaim>) {
        counted.extend(claim(before.as_ref(), after.as_ref(), &containers, now));
    }
    counted
}

/// A record before and after a change. One that cannot be read is its readers' to complain of.
fn read<T: Object + serde::de::DeserializeOwned>(change: &Change) -> Option<(Option<T>, Option<T>)> {
    let ObjectRef { kind, .. } = records::parse_key(change.key())?;
    if kind != T::KIND {
        return None;
    }
    let decode = |kv: &Kv| records::decode::<T>(kv).ok().map(|read| read.object);
    match change {
        Change::Put { kv, prev } => Some((prev.as_ref().and_then(decode), Some(decode(kv)?))),
        Change::Delete { prev } => Some((Some(decode(prev)?), None)),
    }
}

fn container(before: Option<&Container>, after: &Container, now: Timestamp) -> Vec<Counted> {
    let mut counted = Vec::new();
    let (was, is) = (before.map(|before| &before.status), &after.status);
    if let (Some(started), Some(ready)) = (is.started_at, is.ready_at)
        && was.is_none_or(|was| was.ready_at.is_none())
    {
        counted.push(Counted::Stage(Stage::Boot, between(started, ready)));
    }
    if let (Some(started), Some(_)) = (is.started_at, is.address)
        && was.is_none_or(|was| was.address.is_none())
    {
        counted.push(Counted::Stage(Stage::Address, between(started, now)));
    }
    if is.phase == Phase::Failed && was.is_none_or(|was| was.phase != Phase::Failed) {
        counted.push(Counted::Failure(is.reason.to_string()));
    }
    counted
}

fn claim(
    before: Option<&ContainerClaim>,
    after: Option<&ContainerClaim>,
    containers: &[(Option<Container>, Option<Container>)],
    now: Timestamp,
) -> Vec<Counted> {
    let was = before.map(|before| &before.status);
    let Some(after) = after else {
        return match was.map(|was| was.phase) {
            Some(ClaimPhase::Pending) => vec![Counted::Claim(Start::None, Claimed::Withdrawn)],
            Some(ClaimPhase::Bound) => vec![Counted::End(Ended::Released)],
            Some(ClaimPhase::Failed | ClaimPhase::Lost | ClaimPhase::Expired) | None => vec![],
        };
    };
    let (is, made) = (&after.status, after.metadata.creation_timestamp);
    let mut counted = Vec::new();
    let placed = is.container.is_some() && was.is_none_or(|was| was.container.is_none());
    if was.map(|was| was.phase) != Some(is.phase) {
        match (is.phase, is.bound_at) {
            (ClaimPhase::Bound, Some(bound)) => {
                let start = start(after, placed, containers);
                counted.push(Counted::Claim(start, Claimed::Bound));
                counted.push(Counted::ClaimTime(start, between(made, now)));
                counted.push(Counted::Stage(Stage::Bind, between(bound, now)));
            }
            (ClaimPhase::Failed, _) => counted.push(Counted::Claim(Start::None, Claimed::Failed)),
            (ClaimPhase::Lost, _) => counted.push(Counted::End(Ended::Lost)),
            (ClaimPhase::Expired, _) => counted.push(Counted::End(Ended::Expired)),
            (ClaimPhase::Pending | ClaimPhase::Bound, _) => {}
        }
    }
    if placed {
        let decided = is.bound_at.unwrap_or(now);
        counted.push(Counted::Stage(Stage::Queue, between(made, decided)));
    }
    counted
}

/// How a claim came to the machine that it is bound to in this commit. `at_once`: it had none before.
fn start(claim: &ContainerClaim, at_once: bool, containers: &[(Option<Container>, Option<Container>)]) -> Start {
    let made = claim.metadata.creation_timestamp;
    let its = |c: &&Container| Some(&c.metadata.name) == claim.status.container.as_ref();
    let machine = containers.iter().find_map(|(_, after)| after.as_ref().filter(its));
    match machine {
        // Only a member that is ready is bound by the commit that chooses it.
        _ if at_once => Start::Warm,
        // A key had to be installed first.
        Some(c) if c.status.ready_at.is_some_and(|ready| ready <= made) => Start::Warm,
        Some(c) if c.metadata.creation_timestamp < made => Start::Rising,
        Some(_) | None => Start::Cold,
    }
}

fn between(from: Timestamp, to: Timestamp) -> Duration {
    // A clock that was set back between two runs.
    Duration::try_from(to.duration_since(from)).unwrap_or_default()
}
