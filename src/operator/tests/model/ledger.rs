//! What was told and done so far, as far as it binds what may come: each commit is held against it.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use super::moment::Moment;
use super::system::Work;
use crate::model::*;
use crate::plan::claim::finished;
use crate::store::records::EVENTS;
use crate::store::{Op, Txn};

/// Told once of each container, at most.
const ONCE: [EventKind; 5] = [
    EventKind::CreatedContainer,
    EventKind::ReadyContainer,
    EventKind::BoundClaim,
    EventKind::FailedContainer,
    EventKind::DestroyedContainer,
];

#[derive(Clone, Debug, Default)]
pub(super) struct Ledger {
    /// What was told of each container, in order, of what is told once.
    told: BTreeMap<String, Vec<EventKind>>,
    /// Claims that were bound.
    bound: BTreeSet<String>,
    /// Machines that died by themselves.
    dead: BTreeSet<Uuid>,
}

fn broken(what: impl Into<String>) -> Result<(), String> {
    Err(what.into())
}

impl Ledger {
    pub(super) fn killed(&mut self, machine: Uuid) {
        self.dead.insert(machine);
    }

    pub(super) fn died(&self, machine: Uuid) -> bool {
        self.dead.contains(&machine)
    }

    /// Names that nobody bears any more can be another one's.
    pub(super) fn forget_all_but(&mut self, names: &BTreeSet<Uuid>) {
        self.told.retain(|name, _| name.parse().is_ok_and(|name| names.contains(&name)));
        self.dead.retain(|name| names.contains(name));
    }

    /// Holds what was committed, and what it made of the records, against what was before.
    pub(super) fn note(&mut self, txns: &[Txn], by: &Work, before: &Moment, after: &Moment) -> Result<(), String> {
        let events: Vec<Event> = txns.iter().flat_map(|txn| &txn.ops).filter_map(event).collect();
        for event in &events {
            self.tell(event)?;
        }
        let told = |name: &str, kind| {
            events.iter().any(|event| {
                event.kind == kind && event.regarding.as_ref().is_some_and(|regarding| regarding.name == name)
            })
        };
        for was in &before.facts().containers {
            let name = &was.metadata.name;
            match after.facts().container(name) {
                Some(is) => check_container(was, is, &told)?,
                None => self.check_end(was, &told)?,
            }
        }
        for was in &before.facts().claims {
            self.check_claim(was, after.facts().claim(&was.metadata.name), by, &told)?;
        }
        for is in &after.facts().claims {
            let was = before.facts().claim(&is.metadata.name).map(|was| was.status.phase);
            let name = &is.metadata.name;
            if is.status.phase == ClaimPhase::Bound
                && was != Some(ClaimPhase::Bound)
                && !self.bound.insert(name.clone())
            {
                return broken(format!("{name} is bound a second time"));
            }
        }
        Ok(())
    }

    fn tell(&mut self, event: &Event) -> Result<(), String> {
        let Some(about) = event.regarding.as_ref().filter(|about| about.kind == Kind::Container) else { return Ok(()) };
        let kept =
            ONCE.contains(&event.kind) || matches!(event.kind, EventKind::ForwardAdded | EventKind::ForwardRemoved);
        if !kept {
            return Ok(());
        }
        let told = self.told.entry(about.name.clone()).or_default();
        let count = |kind| told.iter().filter(|told| **told == kind).count();
        let wrong = match event.kind {
            _ if told.contains(&EventKind::DestroyedContainer) => true,
            kind if ONCE.contains(&kind) && told.contains(&kind) => true,
            EventKind::ReadyContainer => count(EventKind::ForwardAdded) == count(EventKind::ForwardRemoved),
            EventKind::BoundClaim => count(EventKind::ReadyContainer) != 1 || count(EventKind::CreatedContainer) != 1,
            EventKind::ForwardRemoved => count(EventKind::ForwardAdded) <= count(EventKind::ForwardRemoved),
            EventKind::DestroyedContainer => count(EventKind::ForwardAdded) != count(EventKind::ForwardRemoved),
            _ => false,
        };
        if wrong {
            return broken(format!("{} is told {:?} after {told:?}", about.name, event.kind));
        }
        told.push(event.kind);
        Ok(())
    }

    /// Nothing is left of a container, and that was told if anybody knew it.
    fn check_end(&self, was: &Container, told: &impl Fn(&str, EventKind) -> bool) -> Result<(), String> {
        let name = &was.metadata.name;
        let known = was.status.started_at.is_some() || was.spec.claim.is_some();
        if known && !told(name, EventKind::DestroyedContainer) {
            return broken(format!("{name} is gone, and nobody was told"));
        }
        Ok(())
    }

    fn check_claim(
        &self,
        was: &ContainerClaim,
        is: Option<&ContainerClaim>,
        by: &Work,
        told: &impl Fn(&str, EventKind) -> bool,
    ) -> Result<(), String> {
        let name = &was.metadata.name;
        let bound = was.status.phase == ClaimPhase::Bound;
        let Some(is) = is else {
            let wished = was.metadata.deleting() || !bound;
            return if wished { Ok(()) } else { broken(format!("{name} was bound and is gone, by {by:?}")) };
        };
        let asked = matches!(by, Work::Destroy(_) | Work::Withdraw(_));
        if bound && is.metadata.deleting() && !was.metadata.deleting() && !asked {
            return broken(format!("{name} is bound, and {by:?} takes it back"));
        }
        if was.metadata.deleting() && !is.metadata.deleting() {
            return broken(format!("{name} was deleted and is not any more"));
        }
        // One that was written outlives what it was promised, until it is bound.
        let promised = was.spec.origin.is_object() && was.status.phase == ClaimPhase::Pending;
        let requeued = is.status.container.is_none() && told(name, EventKind::RequeuedClaim);
        if was.status.container.is_some() && was.status.container != is.status.container && !(promised && requeued) {
            let (was, is) = (&was.status.container, &is.status.container);
            return broken(format!("{name} had {was:?} and has {is:?}"));
        }
        let machine = is.status.container.as_ref().and_then(|name| name.parse::<Uuid>().ok());
        let good = match (was.status.phase, is.status.phase) {
            (was, is) if was == is => true,
            (was, _) if finished(was) => false,
            (_, ClaimPhase::Pending | ClaimPhase::Expired) => false,
            (ClaimPhase::Pending, ClaimPhase::Failed) => told(name, EventKind::FailedClaim),
            (_, ClaimPhase::Bound) => is.status.container.as_ref().is_some_and(|c| told(c, EventKind::BoundClaim)),
            // Nothing is given up on doubt.
            (_, ClaimPhase::Lost) => told(name, EventKind::LostClaim) && machine.is_some_and(|it| self.died(it)),
            (_, ClaimPhase::Failed) => false,
        };
        if !good {
            let (was, is) = (was.status.phase, is.status.phase);
            return broken(format!("{name} was {was:?} and is {is:?}, by {by:?}, and nothing says why"));
        }
        Ok(())
    }
}

fn check_container(was: &Container, is: &Container, told: &impl Fn(&str, EventKind) -> bool) -> Result<(), String> {
    let name = &was.metadata.name;
    let up = |phase| matches!(phase, Phase::Pending | Phase::Booting | Phase::Ready | Phase::Bound);
    let (from, to) = (was.status.phase, is.status.phase);
    if !up(from) && up(to) || was.metadata.deleting() && !is.metadata.deleting() {
        return broken(format!("{name} had an end, and has none any more"));
    }
    if was.spec.claim.is_some() && was.spec.claim != is.spec.claim {
        return broken(format!("{name} was {:?}'s and is {:?}'s", was.spec.claim, is.spec.claim));
    }
    let told_of = match to {
        _ if from == to => true,
        Phase::Ready => told(name, EventKind::ReadyContainer),
        Phase::Bound if from == Phase::Ready => told(name, EventKind::BoundClaim),
        Phase::Bound => told(name, EventKind::BoundClaim) && told(name, EventKind::ReadyContainer),
        Phase::Failed => told(name, EventKind::FailedContainer),
        Phase::Pending | Phase::Booting | Phase::Terminating => true,
    };
    if told_of { Ok(()) } else { broken(format!("{name} was {from:?} and is {to:?}, and nobody was told")) }
}

fn event(op: &Op) -> Option<Event> {
    match op {
        Op::Append { prefix, value } if prefix == EVENTS => Some(serde_json::from_slice(value).unwrap()),
        Op::Append { .. } | Op::Put { .. } | Op::Delete { .. } => None,
    }
}
