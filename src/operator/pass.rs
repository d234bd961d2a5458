//! One pass for one container.

use jiff::SignedDuration;

use super::{Operator, PassError, Requeue};
use crate::model::{Container, ContainerClaim, ContainerPool, Kind, Object, ObjectMeta, ObjectRef, Phase, Seen};
use crate::plan::container::{self, Decision, Next, Step, in_use, released, standalone};
use crate::plan::pool::count_out;
use crate::store::records::{self, UNCOUNTED, Versioned};
use crate::store::{Txn, TxnResult};

pub(super) const AT_ONCE: Requeue = Requeue::After(SignedDuration::ZERO);

/// A container's records, as read together.
struct Read {
    container: Versioned<Container>,
    claim: Option<Versioned<ContainerClaim>>,
}

impl Read {
    fn claim(&self) -> Option<&ContainerClaim> {
        self.claim.as_ref().map(|claim| &claim.object)
    }
}

impl Operator {
    /// One pass for one object: blocks as long as its one step takes.
    pub fn pass(&self, object: &ObjectRef) -> Result<Requeue, PassError> {
        match object.kind {
            Kind::Container => self.pass_read(object, |c: &Container| c.spec.pool.is_some(), Self::pass_container),
            Kind::ContainerPool => self.pass_read(object, |_| false, Self::pass_pool),
            Kind::ContainerClaim => self.pass_read(object, |_| false, Self::pass_claim),
        }
    }

    /// A pass for an object as it is; one that a pool owns goes with its pool alone.
    fn pass_read<T: Object>(
        &self,
        object: &ObjectRef,
        member: impl Fn(&T) -> bool,
        own: impl Fn(&Self, Versioned<T>) -> Result<Requeue, PassError>,
    ) -> Result<Requeue, PassError> {
        let Some(read) = records::get::<T>(&*self.store, &object.namespace, &object.name)? else {
            return Ok(Requeue::OnChange);
        };
        match self.pass_owners(&read, member(&read.object))? {
            Some(requeue) => Ok(requeue),
            None => own(self, read),
        }
    }

    fn pass_container(&self, container: Versioned<Container>) -> Result<Requeue, PassError> {
        let read = self.with_claim(container)?;
        let c = &read.container.object;
        let doubt = self.doubts.before_look(c.uuid());
        let seen = self.observe(c);
        let decision = container::decide(c, read.claim(), &self.mark(c), &seen, self.now());
        let step = match decision.next {
            Next::Remove | Next::Release => {
                self.doubts.settle(c.uuid(), doubt);
                self.shell.forget(c.uuid());
                return self.remove(&read, &decision);
            }
            // Somebody else took the last place since the look.
            Next::Step(Step::CreateDomain) if c.status.phase == Phase::Pending && !self.boots.take(c.uuid()) => {
                return Ok(AT_ONCE);
            }
            Next::Step(step) => Some(step),
            Next::Look(_) | Next::Rest => None,
        };
        // Intent before effect: what the step is about to do is durable before it is done.
        let Some(committed) = self.commit(&read, &decision)? else { return Ok(AT_ONCE) };
        if !matches!(seen.domain, Seen::Unknown(_)) && !self.probes.doubtful(c.uuid()) {
            self.doubts.settle(c.uuid(), doubt);
        }
        if in_use(&committed) {
            // It is a stranger's now, and nobody has anything to say to it any more: see `guest::ssh`, "Keys".
            self.shell.forget(c.uuid());
        }
        match step {
            Some(step) => self.take(committed, step),
            None => Ok(requeue(decision.next)),
        }
    }

    fn take(&self, c: Container, step: Step) -> Result<Requeue, PassError> {
        let (namespace, name) = (c.metadata.namespace.as_str(), c.metadata.name.as_str());
        let outcome = self.apply(&c, step);
        tracing::debug!(container = name, step = step.name(), ?outcome, "step");
        // The record may have changed while the step ran (its deletion, say): what happened is noted on what is.
        loop {
            let Some(read) = self.read(namespace, name)? else { return Ok(Requeue::OnChange) };
            let noted = container::note(&read.container.object, read.claim(), step, &outcome, self.now());
            if self.commit(&read, &noted)?.is_some() {
                return Ok(requeue(noted.next));
            }
        }
    }

    fn read(&self, namespace: &str, name: &str) -> Result<Option<Read>, PassError> {
        let container = records::get::<Container>(&*self.store, namespace, name)?;
        container.map(|container| self.with_claim(container)).transpose()
    }

    fn with_claim(&self, container: Versioned<Container>) -> Result<Read, PassError> {
        let ObjectMeta { namespace, name, .. } = &container.object.metadata;
        let claim = match &*container.object.spec.claim {
            Some(claim) => records::get::<ContainerClaim>(&*self.store, namespace, claim)?,
            None => None,
        };
        // One of the same name that was made later is another one, with a machine of its own.
        let claim = claim.filter(|claim| claim.object.status.container.as_ref() == Some(name));
        Ok(Read { container, claim })
    }

    /// Writes a decision's status and events; the container as written, or `None` if somebody else was faster.
    fn commit(&self, read: &Read, decision: &Decision) -> Result<Option<Container>, PassError> {
        let mut c = read.container.object.clone();
        if c.status == decision.status && decision.claim.is_none() && decision.events.is_empty() {
            return Ok(Some(c));
        }
        c.status = decision.status.clone();
        let mut txn = Txn::default().unchanged(&read.container).write(&c).tell(&decision.events);
        if let (Some(read), Some(status)) = (&read.claim, &decision.claim) {
            let claim = ContainerClaim { status: status.clone(), ..read.object.clone() };
            txn = txn.unchanged(read).write(&claim);
        }
        Ok(match self.store.txn(txn).wait()? {
            TxnResult::Committed(_) => Some(c),
            TxnResult::Conflict { .. } => None,
        })
    }

    /// Removes everything that is recorded of a container, or all but the container itself, in one transaction with its
    /// last events. A claim that is wished gone goes with it; another one says what became of it, until its own pass
    /// forgets it.
    fn remove(&self, read: &Read, decision: &Decision) -> Result<Requeue, PassError> {
        let c = &read.container.object;
        let (namespace, name) = (&c.metadata.namespace, &c.metadata.name);
        let mut txn = Txn::default().unchanged(&read.container).tell(&decision.events);
        txn = match decision.next {
            Next::Release => {
                let mut left = Container { status: decision.status.clone(), ..c.clone() };
                // One without pool is its user's to delete; another one is held by finalizers alone.
                if !standalone(c) {
                    left.metadata.end(self.now());
                }
                txn.write(&left)
            }
            _ => txn.remove(c),
        };
        // Its port may be another one's since it was released.
        if !released(c) {
            txn = txn.delete(&records::credentials_key(namespace, name));
            txn = txn.delete(&records::port_key(c.spec.machine.port));
        }
        txn = match (&read.claim, &decision.claim) {
            (Some(claim), _) if over(&claim.object) => txn.unchanged(claim).remove(&claim.object),
            (Some(read), Some(status)) => {
                let claim = ContainerClaim { status: status.clone(), ..read.object.clone() };
                txn.unchanged(read).write(&claim)
            }
            (Some(claim), None) => txn.unchanged(claim),
            (None, _) => txn,
        };
        // As long as there is a record of it, it holds its place.
        if let Some(pool) = c.spec.pool.as_ref().filter(|_| decision.next == Next::Remove) {
            txn = match records::get::<ContainerPool>(&*self.store, namespace, pool)? {
                Some(pool) => {
                    let mut counted = pool.object.clone();
                    count_out(&mut counted.status, c, &decision.status, self.now());
                    txn.unchanged(&pool).write(&counted)
                }
                // Whoever makes the pool just now counts it, or not.
                None => {
                    let (namespace, name) = (namespace.to_string(), pool.to_string());
                    let pool = ObjectRef { kind: Kind::ContainerPool, namespace, name };
                    txn.absent(&records::key(&pool)).put(UNCOUNTED, &c.uuid())
                }
            };
        }
        Ok(match self.store.txn(txn).wait()? {
            TxnResult::Committed(_) => Requeue::OnChange,
            TxnResult::Conflict { .. } => AT_ONCE,
        })
    }
}

/// Whether a claim is wished gone and nobody holds it.
fn over(claim: &ContainerClaim) -> bool {
    claim.metadata.deleting() && claim.metadata.finalizers.is_empty()
}

fn requeue(next: Next) -> Requeue {
    match next {
        Next::Look(after) => Requeue::After(after),
        Next::Rest | Next::Remove | Next::Release | Next::Step(_) => Requeue::OnChange,
    }
}
