//! One pass for one pool.

use super::pass::AT_ONCE;
use super::{Operator, PassError, Requeue};
use crate::api::{BirthError, placing};
use crate::error_chain;
use crate::model::ContainerPool;
use crate::plan::pool::{self, Decision, Hindrance, Next, Outlook};
use crate::store::records::Versioned;
use crate::store::{Txn, TxnResult};

impl Operator {
    pub(super) fn pass_pool(&self, read: Versioned<ContainerPool>) -> Result<Requeue, PassError> {
        let index = self.store.index()?;
        let image = self.births.image_sha256(&read.object.spec.template.image).map_err(|error| error_chain(&error));
        let now = self.now();
        let decide = |hindrance| -> Result<Decision, PassError> {
            let image = image.as_deref().map_err(String::as_str);
            let members = placing::members(&index, &read.object)?.map(|read| &read.object);
            Ok(pool::decide(&read.object, members, &Outlook { image, hindrance }, now))
        };
        let decision = decide(None)?;
        match &decision.next {
            Next::Make(count) => match self.make(&read, &decision, *count)? {
                // Hindered before the first, it says so.
                (0, Some(error)) => self.rest(&read, decide(Some(&hindrance(error)?))?),
                // There may be another one to make.
                _ => Ok(AT_ONCE),
            },
            Next::Release(member) => {
                let mut txn = said(&read, &decision);
                let found = placing::members(&index, &read.object)?.find(|c| c.object.metadata.name == *member);
                if let Some(member) = found {
                    let mut gone = member.object.clone();
                    gone.metadata.end(now);
                    // Bound meanwhile, it stays: its revision says so.
                    txn = txn.unchanged(member).write(&gone);
                }
                self.done(txn)?;
                Ok(AT_ONCE)
            }
            Next::Remove => {
                let txn = Txn::default().unchanged(&read).remove(&read.object);
                Ok(if self.done(txn)? { Requeue::OnChange } else { AT_ONCE })
            }
            Next::Look(_) | Next::Rest => self.rest(&read, decision),
        }
    }

    /// Makes members, as long as nobody changes the pool meanwhile: how many, and what hindered the next one.
    fn make(
        &self,
        read: &Versioned<ContainerPool>,
        decision: &Decision,
        most: u32,
    ) -> Result<(u32, Option<BirthError>), PassError> {
        let decided = ContainerPool { status: decision.status.clone(), ..read.object.clone() };
        let (mut pool, mut events) = (Versioned { object: decided, rev: read.rev }, &decision.events[..]);
        for made in 0..most {
            let now = self.now();
            let birth = match self.births.container(&*self.store, &pool.object, None, vec![], now) {
                Ok(birth) => birth,
                Err(error) => return Ok((made, Some(error))),
            };
            pool::count_in(&mut pool.object.status, &pool.object.spec, now);
            let txn = birth.txn.unchanged(&pool).write(&pool.object).tell(std::mem::take(&mut events));
            match self.store.txn(txn).wait()? {
                TxnResult::Committed(rev) => pool.rev = rev,
                TxnResult::Conflict { .. } => return Ok((made, None)),
            }
        }
        Ok((most, None))
    }

    /// Commits a decision that takes no step.
    fn rest(&self, read: &Versioned<ContainerPool>, decision: Decision) -> Result<Requeue, PassError> {
        let changes = decision.status != read.object.status || !decision.events.is_empty();
        if changes && !self.done(said(read, &decision))? {
            return Ok(AT_ONCE);
        }
        Ok(match decision.next {
            Next::Look(after) => Requeue::After(after),
            _ => Requeue::OnChange,
        })
    }

    fn done(&self, txn: Txn) -> Result<bool, PassError> {
        Ok(match self.store.txn(txn).wait()? {
            TxnResult::Committed(_) => true,
            TxnResult::Conflict { .. } => false,
        })
    }
}

/// A decision's status with its events, if the pool is as it was read.
fn said(read: &Versioned<ContainerPool>, decision: &Decision) -> Txn {
    let decided = ContainerPool { status: decision.status.clone(), ..read.object.clone() };
    Txn::default().unchanged(read).write(&decided).tell(&decision.events)
}

/// Why no member can be made now, for the pool's conditions.
fn hindrance(error: BirthError) -> Result<Hindrance, PassError> {
    let message = error_chain(&error);
    let reason = match error {
        BirthError::HostFull(_) => "HostFull",
        BirthError::NoFreePort { .. } => "NoFreePort",
        BirthError::Host(_) => "HostUnknown",
        BirthError::Stopping => "Stopping",
        // It was there a moment ago.
        BirthError::Image(_) => "ImageMissing",
        BirthError::Record(error) => return Err(error.into()),
    };
    Ok(Hindrance { reason, message })
}
