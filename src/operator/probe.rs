//! Asks members whether they still answer: beside the passes, which are not to wait for a guest that does not.
//!
//! ```text
//! every member that is due ─► its domain runs? ─► one question ─► Probes ─► its pass, where the answer is another one
//! ```
//!
//! When, and what an answer means, is [`crate::plan::probe`]'s; what follows from it, [`crate::plan::container`]'s. One that
//! did not answer is a doubt until it does ([`crate::api::Doubts`]): another member is given to a client meanwhile.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::task::JoinSet;
use uuid::Uuid;

use super::observe::forward;
use super::queue::Queue;
use super::{Operator, PassError};
use crate::guest::{Patience, ShellError};
use crate::model::{Container, DomainState, Object, ObjectRef, Seen};
use crate::plan::probe::{Probed, wants};
use crate::store::records;

/// How often it is looked who is due.
const TICK: Duration = Duration::from_secs(1);
/// Questions at once: emulated guests share the host's processors, and answering is work. Since silence takes time, no host
/// is so busy that all its members are replaced at once, and make it busier.
const AT_ONCE: usize = 2;

/// What probes of members came to, since this daemon started.
#[derive(Default)]
pub struct Probes(Mutex<HashMap<Uuid, Probed>>);

impl Probes {
    /// Whether a member answers, as far as it was asked.
    pub(super) fn answers(&self, member: &Container) -> Seen<()> {
        let probe = &member.spec.template.readiness_probe;
        let probes = self.lock();
        let probed = probes.get(&member.uuid());
        probed.map_or_else(|| Seen::Unknown("nobody asked".into()), |probed| probed.answers(probe))
    }

    /// Whether it did not answer when it was asked last.
    pub(super) fn doubtful(&self, member: Uuid) -> bool {
        self.lock().get(&member).is_some_and(|probed| probed.doubtful())
    }

    /// Those who are due, as many as can be asked; and forgets who is no member any more.
    fn due(&self, members: &[&Container], now: Timestamp) -> Vec<Container> {
        let mut probes = self.lock();
        let uuids: HashSet<Uuid> = members.iter().map(|c| c.uuid()).collect();
        probes.retain(|uuid, _| uuids.contains(uuid));
        let is_due = |c: &&Container| probes.entry(c.uuid()).or_insert(Probed::NotYet { since: now }).due(c) <= now;
        // Some of them may be being asked already.
        members.iter().copied().filter(is_due).take(2 * AT_ONCE).cloned().collect()
    }

    /// Notes how a probe ended: what it came to before, and now.
    fn note(&self, member: Uuid, answered: bool, at: Timestamp) -> (Probed, Probed) {
        let mut probes = self.lock();
        let probed = probes.entry(member).or_insert(Probed::NotYet { since: at });
        let before = std::mem::replace(probed, probed.and(answered, at));
        (before, *probed)
    }

    /// It answered none of as many probes as it takes.
    #[cfg(test)]
    pub(super) fn silence(&self, member: Uuid, at: Timestamp) {
        for _ in 0..crate::model::ReadinessProbe::default().failure_threshold {
            self.note(member, false, at);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Uuid, Probed>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Probes until the operator is to quit.
pub(super) async fn run(operator: Arc<Operator>, queue: Queue<ObjectRef>) {
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut asking: JoinSet<Uuid> = JoinSet::new();
    let mut asked: HashSet<Uuid> = HashSet::new();
    loop {
        tokio::select! {
            () = operator.quit.cancelled() => return,
            // One that panicked is logged where it did, and asked no more.
            Some(Ok(done)) = asking.join_next() => drop(asked.remove(&done)),
            _ = tick.tick() => {
                let due = operator.due().unwrap_or_else(|error| {
                    tracing::warn!(error = crate::error_chain(&error), "members cannot be listed; they are not probed");
                    Vec::new()
                });
                for member in due {
                    if asking.len() >= AT_ONCE {
                        break;
                    }
                    if asked.insert(member.uuid()) {
                        let (operator, queue) = (Arc::clone(&operator), queue.clone());
                        asking.spawn_blocking(move || {
                            operator.probe(&member, &queue);
                            member.uuid()
                        });
                    }
                }
            }
        }
    }
}

impl Operator {
    fn due(&self) -> Result<Vec<Container>, PassError> {
        let index = self.store.index()?;
        let members: Vec<&Container> = index.containers()?.map(|read| &read.object).filter(|c| wants(c)).collect();
        Ok(self.probes.due(&members, self.now()))
    }

    fn probe(&self, c: &Container, queue: &Queue<ObjectRef>) {
        let answered = match self.ask(c) {
            Some(Ok(())) => true,
            Some(Err(error)) => {
                tracing::warn!(container = %c.uuid(), %error, "a member does not answer its probe");
                false
            }
            None => return,
        };
        let (before, now) = self.probes.note(c.uuid(), answered, self.now());
        if now.doubtful() {
            self.doubts.raise(c.uuid());
            if !self.waits(c) {
                self.doubts.forget(c.uuid());
            }
        }
        let probe = &c.spec.template.readiness_probe;
        if before.answers(probe) != now.answers(probe) {
            queue.add(c.object_ref());
        }
    }

    /// Asks a member, if it can be asked: of one whose domain is gone, stands still or cannot be seen, silence would say
    /// nothing.
    fn ask(&self, c: &Container) -> Option<Result<(), ShellError>> {
        if !self.runs(c) {
            return None;
        }
        let wanted = || self.waits(c);
        let at = self.forwarder.public(&forward(c));
        let at_most = Duration::from_secs(c.spec.template.readiness_probe.timeout_seconds.into());
        let answer = self.shell.probe(at, c.uuid(), Patience::new(at_most, &wanted));
        (answer.is_ok() || (wanted() && self.runs(c))).then_some(answer)
    }

    fn runs(&self, c: &Container) -> bool {
        let seen = self.hypervisor.find(c.uuid());
        matches!(seen, Ok(Some(domain)) if domain.state == DomainState::Running)
    }

    /// Whether it still waits for a claim.
    fn waits(&self, c: &Container) -> bool {
        if self.quit.is_cancelled() {
            return false;
        }
        let read = records::get::<Container>(&*self.store, &c.metadata.namespace, &c.metadata.name);
        matches!(read, Ok(Some(read)) if wants(&read.object))
    }
}
