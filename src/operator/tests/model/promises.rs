//! What has to be: in every state, where nothing is left to do, and after a crash in any of them.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::SignedDuration;
use uuid::Uuid;

use super::moment::{Moment, Print};
use super::system::{Client, FOREIGN, State, System, Work};
use crate::model::*;
use crate::operator::Requeue;
use crate::plan::claim::finished;

/// Rounds in which everything has to come to rest.
const ROUNDS: usize = 60;

fn holds(holds: bool, what: impl Fn() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(what()) }
}

impl State {
    /// In every state, in the middle of anything.
    pub(super) fn check(&self, most: u32) -> Result<(), String> {
        let facts = self.now.facts();
        let count = facts.containers.len() as u32;
        holds(facts.pool.status.containers == count, || format!("the pool counts wrong: there are {count}"))?;
        holds(count <= most, || format!("there are {count} containers"))?;
        holds(self.now.world.domains.contains_key(&FOREIGN), || "somebody else's domain is gone".into())?;
        let mut had = BTreeSet::new();
        for claim in &facts.claims {
            let Some(container) = &claim.status.container else { continue };
            holds(had.insert(container), || format!("{container} is two claims'"))?;
        }
        for (number, client) in self.clients.iter().enumerate() {
            match client {
                Client::Has(container) => self.check_kept(number, container)?,
                Client::Returned(container) => self.check_ends(number, container)?,
                Client::Idle | Client::Asks | Client::Waits | Client::Returns(_) | Client::Gone => {}
            }
        }
        Ok(())
    }

    /// Promises 1, 4 and 7: what a client was told it has it keeps, unless its machine died by itself.
    fn check_kept(&self, number: usize, container: &str) -> Result<(), String> {
        let lost = || format!("client {number} was told of {container}, and");
        let claim = self.claim(number).ok_or_else(|| format!("{} its claim is gone", lost()))?;
        holds(!claim.metadata.deleting(), || format!("{} nobody asked for its end", lost()))?;
        holds(claim.status.container.as_deref() == Some(container), || format!("{} has another one", lost()))?;
        let uuid: Uuid = container.parse().expect("members bear their UUID as name");
        let died = self.ledger.died(uuid);
        if claim.status.phase == ClaimPhase::Lost {
            return holds(died, || format!("{} it is lost", lost()));
        }
        holds(claim.status.phase == ClaimPhase::Bound, || format!("{} its claim is not bound", lost()))?;
        let c = self.now.facts().container(container).ok_or_else(|| format!("{} its record is gone", lost()))?;
        let its = c.spec.claim.as_ref() == Some(&claim.metadata.name);
        holds(its, || format!("{} it is {:?}'s", lost(), c.spec.claim))?;
        let stays = c.status.phase == Phase::Bound && !c.metadata.deleting();
        holds(stays || died, || format!("{} it ends", lost()))?;
        let alive = self.now.domains().contains(&uuid);
        holds(alive || died, || format!("{} its machine was ended", lost()))
    }

    /// What a client was told is gone never comes back.
    fn check_ends(&self, number: usize, container: &str) -> Result<(), String> {
        let claim = self.claim(number).is_none_or(|claim| claim.metadata.deleting());
        let c = self.now.facts().container(container);
        let c = c.is_none_or(|c| c.metadata.deleting());
        holds(claim && c, || format!("client {number} was told that {container} ends, and it does not"))
    }

    /// Where no work has anything to do, before any time passes.
    pub(super) fn check_rest(&self) -> Result<(), String> {
        if self.now.facts().containers.iter().any(|c| c.status.retry_at.is_some()) {
            // It has: when that time comes.
            return Ok(());
        }
        if self.now.facts().claims.iter().any(|claim| claim.status.retry_at.is_some()) {
            return Ok(());
        }
        check_leaks(&self.now)?;
        for (number, client) in self.clients.iter().enumerate() {
            let pending = self.claim(number).is_some_and(|claim| claim.status.phase == ClaimPhase::Pending);
            holds(*client != Client::Waits || !pending, || format!("client {number} waits in vain"))?;
        }
        Ok(())
    }
}

/// Promise 3: what there is has its record, and what has a record is whole.
fn check_leaks(now: &Moment) -> Result<(), String> {
    let facts = now.facts();
    let recorded: BTreeSet<Uuid> = facts.containers.iter().map(Container::uuid).collect();
    let ready = facts.containers.iter().all(|c| matches!(c.status.phase, Phase::Ready | Phase::Bound));
    holds(ready, || format!("something never gets ready: {:?}", facts.containers))?;
    let same = |what: &str, there: BTreeSet<Uuid>| {
        holds(there == recorded, || format!("{what} {there:?}, and the records are of {recorded:?}"))
    };
    same("there are the domains", now.domains())?;
    same("there are the forwards", now.world.forwards.values().copied().collect())?;
    same("there are the disks", now.world.disks.iter().copied().collect())?;
    for of in ["credentials", "ports"] {
        let count = now.count(of);
        holds(count == recorded.len(), || format!("there are {count} {of} for {} containers", recorded.len()))?;
    }
    for claim in facts.claims.iter().filter(|claim| claim.status.phase == ClaimPhase::Bound) {
        let its = |c: &&Container| c.spec.claim.as_ref() == Some(&claim.metadata.name);
        holds(facts.containers.iter().find(its).is_some(), || format!("{} has no machine", claim.metadata.name))?;
    }
    Ok(())
}

impl System {
    /// Promises 2 and 3: the daemon dies here, starts again, and everything comes to rest, with nothing leaked. What is
    /// met on the way, without any time passing, is `good` from then on: everything after it was seen.
    pub(super) fn settle(&self, state: &mut State, good: &mut BTreeSet<Print>) -> Result<(), String> {
        let mut met = BTreeSet::new();
        if !good.contains(&state.now.print()) {
            met.insert(state.now.print());
            self.stage.free(&state.now);
            self.operator.recover(Uuid::from_u128(state.run + 1)).unwrap();
            self.operator.sweep().unwrap();
            self.account(state, &Work::Recover)?;
            self.rounds(state, good, &mut met)?;
        }
        good.extend(met);
        Ok(())
    }

    fn rounds(&self, state: &mut State, good: &BTreeSet<Print>, met: &mut BTreeSet<Print>) -> Result<(), String> {
        let (mut passed, started) = (false, self.stage.time());
        for _ in 0..ROUNDS {
            if !passed && good.contains(&state.now.print()) {
                return Ok(());
            }
            if !passed {
                met.insert(state.now.print());
            }
            let before = state.now.store.revision;
            let mut next: Option<SignedDuration> = None;
            for object in state.objects() {
                self.name(state);
                let requeue = self.operator.pass(&object).unwrap();
                self.account(state, &Work::Pass(object))?;
                if let Requeue::After(wait) = requeue {
                    next = Some(next.map_or(wait, |next| next.min(wait)));
                }
            }
            match next {
                _ if state.now.store.revision != before => {}
                None => return self.check_settled(state),
                Some(next) => {
                    passed = true;
                    self.stage.wait(i64::try_from(next.as_millis()).unwrap().max(100));
                }
            }
        }
        Err(format!("{} s after a restart there is no rest", self.stage.time().duration_since(started).as_secs()))
    }

    /// What was done since, held against what was before.
    fn account(&self, state: &mut State, by: &Work) -> Result<(), String> {
        let before = Arc::clone(&state.now);
        state.now = Arc::new(self.stage.moment().after(&before));
        let txns = self.stage.committed()?;
        state.check(self.bounds.most)?;
        state.ledger.note(&txns, by, &before, &state.now)?;
        state.ledger.forget_all_but(&state.names());
        Ok(())
    }

    fn check_settled(&self, state: &State) -> Result<(), String> {
        check_leaks(&state.now)?;
        let facts = state.now.facts();
        let bound = facts.containers.iter().filter(|c| c.status.phase == Phase::Bound).count();
        let over = |claim: &&ContainerClaim| claim.spec.origin.is_object() && finished(claim.status.phase);
        let (warm, claims) = (facts.containers.len() - bound, facts.claims.iter().filter(|claim| !over(claim)).count());
        let wished = self.bounds.warm.min(self.bounds.most - bound as u32);
        holds(warm as u32 == wished, || format!("{warm} are warm, and {wished} were wished for"))?;
        holds(claims == bound, || format!("there are {claims} claims, and {bound} are bound"))
    }
}
