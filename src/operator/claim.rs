//! One pass for one claim: it finds a place for one that waits, gives up one that waited too long, and forgets one that
//! nobody asks for any more. Everything else that becomes of a claim is decided with its machine.

use std::sync::Arc;

use jiff::SignedDuration;

use super::pass::AT_ONCE;
use super::{Operator, PassError, Requeue};
use crate::api::claims;
use crate::api::placing::{self, Found, Place, Places};
use crate::model::{ClaimStatus, ContainerClaim};
use crate::plan::claim::{self, Next, Queue};
use crate::store::records::Versioned;
use crate::store::{Txn, TxnResult};

/// When a machine that could not be made is tried again: images and ports come back without a change of any record.
const RETRY: SignedDuration = SignedDuration::from_secs(5);
/// When a place is looked for again that only a doubt stands before: its look may change no record.
const DOUBT: SignedDuration = SignedDuration::from_secs(1);

type Read = Versioned<ContainerClaim>;

impl Operator {
    pub(super) fn pass_claim(&self, read: Read) -> Result<Requeue, PassError> {
        let now = self.now();
        let decision = claim::decide(&read.object, self.place_in_queue(&read.object)?, now);
        let decided = ContainerClaim { status: decision.status, ..read.object.clone() };
        match decision.next {
            Next::Place => self.place(&read),
            Next::GiveUp => {
                let txn = Txn::default().unchanged(&read).write(&decided).tell(&decision.events);
                let machine = claims::machine(&*self.store, &read.object)?;
                self.commit_claim(
                    machine.iter().fold(txn, |txn, machine| claims::end(txn, machine, now)),
                    Requeue::OnChange,
                )
            }
            Next::Withdraw => match claims::machine(&*self.store, &read.object)? {
                // Its machine takes its record along when it goes.
                Some(machine) if machine.object.metadata.deleting() => Ok(Requeue::OnChange),
                // Whoever's finalizer it bears takes it away.
                None if !read.object.metadata.finalizers.is_empty() => Ok(Requeue::OnChange),
                _ => self.commit_claim(claims::withdrawal(&*self.store, &read, now)?, Requeue::OnChange),
            },
            Next::Remove => {
                let txn = Txn::default().unchanged(&read);
                let mut gone = read.object.clone();
                gone.metadata.end(now);
                let held = !gone.metadata.finalizers.is_empty();
                self.commit_claim(if held { txn.write(&gone) } else { txn.remove(&gone) }, Requeue::OnChange)
            }
            Next::Look(after) => self.save_claim(&read, decided.status, Requeue::After(after)),
            Next::Rest => self.save_claim(&read, decided.status, Requeue::OnChange),
        }
    }

    fn place_in_queue(&self, claim: &ContainerClaim) -> Result<Queue, PassError> {
        if !claim::waits(claim) {
            return Ok(Queue::First);
        }
        if placing::pool_of(&*self.store, claim)?.is_none() {
            return Ok(Queue::NoPool);
        }
        let index = self.store.index()?;
        let first = index.first_waiting(&claim.metadata.namespace, &claim.spec.pool)?;
        let first = first.is_none_or(|first| first.object.metadata.uid == claim.metadata.uid);
        Ok(if first { Queue::First } else { Queue::Behind })
    }

    fn place(&self, read: &Read) -> Result<Requeue, PassError> {
        let (claim, now) = (&read.object, self.now());
        let Some(pool) = placing::pool_of(&*self.store, claim)? else { return Ok(AT_ONCE) };
        let (store, births, doubts) = (&*self.store, &*self.births, &*self.doubts);
        let places = Places { store, births, doubts, reservations: &Arc::default() };
        let left = claim::time_left(claim, now);
        let look = |at_most: Option<SignedDuration>| {
            at_most.into_iter().chain(left).min().map_or(Requeue::OnChange, Requeue::After)
        };
        let place = match places.find(&pool.object, claim, true, false, now)? {
            Found::Member(place) => Ok(place),
            Found::Room => places.make(&pool, claim, &[], now),
            Found::Full { doubtful } => {
                let held = claim::held(&claim.status, "Queued", "the pool is full", now);
                // A doubt that is settled by now changed no record.
                return self.save_claim(read, held, look(doubtful.then_some(DOUBT)));
            }
        };
        match place {
            Ok(Place { txn, .. }) => self.commit_claim(txn.unchanged(read), Requeue::OnChange),
            Err(error) => {
                let held = claim::held(&claim.status, "NoMachine", &crate::error_chain(&error), now);
                self.save_claim(read, held, look(Some(RETRY)))
            }
        }
    }

    fn save_claim(&self, read: &Read, status: ClaimStatus, then: Requeue) -> Result<Requeue, PassError> {
        if status == read.object.status {
            return Ok(then);
        }
        let decided = ContainerClaim { status, ..read.object.clone() };
        self.commit_claim(Txn::default().unchanged(read).write(&decided), then)
    }

    fn commit_claim(&self, txn: Txn, then: Requeue) -> Result<Requeue, PassError> {
        Ok(match self.store.txn(txn).wait()? {
            TxnResult::Committed(_) => then,
            TxnResult::Conflict { .. } => AT_ONCE,
        })
    }
}
