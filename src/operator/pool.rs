//! One pass for one pool.

use jiff::SignedDuration;

use super::{Operator, PassError, Requeue};
use crate::model::{Container, ContainerPool};
use crate::plan::{backoff, pool};
use crate::store::records::{self, Versioned};
use crate::store::{Txn, TxnResult};

const AT_ONCE: Requeue = Requeue::After(SignedDuration::ZERO);

impl Operator {
    pub(super) fn pass_pool(&self, namespace: &str, name: &str) -> Result<Requeue, PassError> {
        let Some(read) = records::get::<ContainerPool>(&*self.store, namespace, name)? else {
            return Ok(Requeue::OnChange);
        };
        let members: Vec<Versioned<Container>> = records::list(&*self.store, namespace)?;
        let members: Vec<_> = members.into_iter().filter(|c| c.object.spec.pool.as_deref() == Some(name)).collect();
        let objects: Vec<Container> = members.iter().map(|c| c.object.clone()).collect();
        let decision = pool::decide(&read.object, &objects, self.now());
        let decided = ContainerPool { status: decision.status, ..read.object.clone() };
        match decision.next {
            pool::Next::Make => self.make(&read, decided),
            pool::Next::Release(member) => {
                self.save(&read, &decided)?;
                self.release(members.iter().find(|c| c.object.metadata.name == member))
            }
            pool::Next::Remove => {
                let txn = Txn::default().unchanged(&read).remove(&read.object);
                Ok(if self.done(txn)? { Requeue::OnChange } else { AT_ONCE })
            }
            pool::Next::Look(after) => Ok(if self.save(&read, &decided)? { Requeue::After(after) } else { AT_ONCE }),
            pool::Next::Rest => Ok(if self.save(&read, &decided)? { Requeue::OnChange } else { AT_ONCE }),
        }
    }

    fn make(&self, read: &Versioned<ContainerPool>, mut decided: ContainerPool) -> Result<Requeue, PassError> {
        let now = self.now();
        match self.births.container(&*self.store, &decided, None, vec![], now) {
            Ok(birth) => {
                decided.status.containers += 1;
                // Made or not, there may be another one to make.
                self.done(birth.txn.unchanged(read).write(&decided))?;
                Ok(AT_ONCE)
            }
            Err(error) => {
                decided.status.failures += 1;
                decided.status.message = crate::error_chain(&error);
                let wait = backoff::after(decided.status.failures);
                decided.status.retry_at = Some(now + wait);
                self.save(read, &decided)?;
                Ok(Requeue::After(wait))
            }
        }
    }

    /// Lets a member go; if it was bound meanwhile, the revision says so and nothing happens.
    fn release(&self, member: Option<&Versioned<Container>>) -> Result<Requeue, PassError> {
        if let Some(member) = member {
            let mut gone = member.object.clone();
            gone.metadata.deletion_timestamp = Some(self.now());
            self.done(Txn::default().unchanged(member).write(&gone))?;
        }
        Ok(AT_ONCE)
    }

    fn save(&self, read: &Versioned<ContainerPool>, decided: &ContainerPool) -> Result<bool, PassError> {
        if *decided == read.object {
            return Ok(true);
        }
        self.done(Txn::default().unchanged(read).write(decided))
    }

    fn done(&self, txn: Txn) -> Result<bool, PassError> {
        Ok(match self.store.txn(txn).wait()? {
            TxnResult::Committed(_) => true,
            TxnResult::Conflict { .. } => false,
        })
    }
}
