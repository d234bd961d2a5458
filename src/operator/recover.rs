//! After a start, and now and then: what has no record is removed, what has nobody who waits for it is withdrawn.

use uuid::Uuid;

use super::{Operator, PassError};
use crate::api::claims;
use crate::model::{ClaimPhase, Container, ContainerClaim, DomainState, EventKind, Origin, Phase};
use crate::plan::claim;
use crate::plan::container::{about, in_use};
use crate::store::Txn;
use crate::store::records::{self, Versioned};

/// Adoptions that are told in one transaction: the store takes no more than so many writes at once.
const ADOPTIONS: usize = 256;

impl Operator {
    /// Runs once before the first pass. `run` is this run of the daemon. What is left over is swept up beside the first
    /// passes: a listing may take as long as the slowest QEMU takes to answer, and holds up no start.
    pub fn recover(&self, run: Uuid) -> Result<(), PassError> {
        self.withdraw_unawaited(run)?;
        self.doubt_undelivered(run)?;
        self.tell_adoptions()
    }

    /// A wire claim of an earlier run that is not Bound: its client cannot be answered any more.
    fn withdraw_unawaited(&self, run: Uuid) -> Result<(), PassError> {
        for claim in records::list_all::<ContainerClaim>(&*self.store)? {
            let made_by = match &claim.object.spec.origin {
                Origin::Wire { run, .. } => run,
                // Nobody waits for it on a connection.
                Origin::Embedder | Origin::Object => continue,
            };
            if *made_by == run || claim.object.status.phase != ClaimPhase::Pending || claim.object.metadata.deleting() {
                continue;
            }
            self.store.txn(claims::withdrawal(&*self.store, &claim, self.now())?).wait()?;
        }
        Ok(())
    }

    /// A wire claim of an earlier run that is Bound stays, because its client may have been told; where nobody knows, it
    /// says so. Kept by
    /// `a_restart_says_of_a_bound_claim_that_its_client_may_not_know_of_it_unless_that_was_noted` (operator/tests).
    fn doubt_undelivered(&self, run: Uuid) -> Result<(), PassError> {
        for read in records::list_all::<ContainerClaim>(&*self.store)? {
            if let Some(status) = claim::doubted(&read.object, run, self.now()) {
                let doubted = ContainerClaim { status, ..read.object.clone() };
                self.store.txn(Txn::default().unchanged(&read).write(&doubted)).wait()?;
            }
        }
        Ok(())
    }

    /// Says which machines in use were found as they were left. What is not as it should be, its next pass mends
    /// or takes down.
    fn tell_adoptions(&self) -> Result<(), PassError> {
        let mut events = Vec::new();
        for Versioned { object: c, .. } in records::list_all::<Container>(&*self.store)? {
            if !matches!(c.status.phase, Phase::Ready | Phase::Bound) || c.metadata.deleting() {
                continue;
            }
            let refusal = match self.hypervisor.find(c.uuid()) {
                Err(error) => {
                    tracing::warn!(container = c.metadata.name, %error, "a machine in use cannot be looked for now");
                    continue;
                }
                Ok(None) => Some("its domain is gone"),
                Ok(Some(domain)) if domain.mark.as_ref() != Some(&self.mark(&c)) => Some("its domain is not ours"),
                Ok(Some(domain)) if domain.state == DomainState::Off => Some("its domain is off"),
                Ok(Some(domain)) if matches!(domain.state, DomainState::Paused(_)) && !in_use(&c) => {
                    Some("its domain is paused")
                }
                Ok(Some(_)) => None,
            };
            let event = match refusal {
                None => about(&c, None, EventKind::Adopted, self.now()),
                Some(reason) => about(&c, None, EventKind::AdoptionRefused, self.now()).message(reason),
            };
            events.push(event);
        }
        for some in events.chunks(ADOPTIONS) {
            self.store.txn(Txn::default().tell(some)).wait()?;
        }
        Ok(())
    }

    /// Ends what is left over: what is ours and has no record.
    pub fn sweep(&self) -> Result<(), PassError> {
        self.trim_events()?;
        self.inventory(None).mend()?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use jiff::Timestamp;
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::api::{Births, Digests, Sealer};
    use crate::guest::fake::{FakeForwarder, FakeShell};
    use crate::hypervisor::fake::{FakeHypervisor, FakeWorld, Options};
    use crate::model::{Image, ObjectMeta, Template};
    use crate::store::{Store, memory};

    /// Whose record is in another namespace has a record: its machine is nobody's to sweep away.
    #[test]
    fn a_sweep_spares_the_machines_of_every_namespace() {
        let dir = tempfile::tempdir().unwrap();
        let image = dir.path().join("i.iso");
        std::fs::write(&image, "image").unwrap();
        let world = FakeWorld::new(Options { boot: std::time::Duration::ZERO, ..Options::default() });
        let store: Arc<dyn Store> = memory();
        let sealer = Sealer::from_file(&dir.path().join("seal.key")).unwrap();
        let births = Births::new(sealer, Digests::default(), 10_000..=10_003, Arc::new(|_| true));
        let operator = Operator {
            store: Arc::clone(&store),
            hypervisor: Arc::new(FakeHypervisor::new(Arc::clone(&world))),
            shell: Arc::new(FakeShell::new(Arc::clone(&world))),
            observer: None,
            forwarder: Arc::new(FakeForwarder::new(Arc::clone(&world))),
            births: Arc::new(births),
            clock: Arc::new(|| Timestamp::UNIX_EPOCH),
            instance: Uuid::new_v4(),
            addressed: false,
            doubts: Arc::default(),
            metrics: Arc::default(),
            probes: Arc::default(),
            boots: Arc::default(),
            kept_events: Arc::new(1000.into()),
            quit: CancellationToken::new(),
        };
        let meta = ObjectMeta::new("there", "box", Uuid::new_v4(), Timestamp::UNIX_EPOCH);
        let template = Template::of(Image::Iso(image));
        let birth = operator.births.standalone(&*store, meta, template).unwrap();
        let object = crate::model::Object::object_ref(&birth.container);
        store.txn(birth.txn).wait().unwrap();
        let ready =
            || records::get::<Container>(&*store, "there", "box").unwrap().unwrap().object.status.phase == Phase::Ready;
        for _ in 0..50 {
            operator.pass(&object).unwrap();
            if ready() {
                break;
            }
        }
        assert!(ready());
        operator.recover(Uuid::new_v4()).unwrap();
        operator.sweep().unwrap();
        assert_eq!((world.domains().len(), world.forwards().len()), (1, 1));
    }
}
