//! After a start, and now and then: what has no record is removed, what has nobody who waits for it is withdrawn.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use uuid::Uuid;

use super::queue::Queue;
use super::run::run_on;
use super::{Operator, PassError};
use crate::api::claims;
use crate::model::{ClaimPhase, Container, ContainerClaim, DomainState, EventKind, ObjectRef, Origin, Phase};
use crate::plan::container::{about, in_use};
use crate::plan::{backoff, claim};
use crate::store::records::{self, RecordError, Versioned};
use crate::store::{StoreError, Txn};

/// Adoptions that are told in one transaction: the store takes no more than so many writes at once.
const ADOPTIONS: usize = 256;

/// Recovers, and then runs passes on this queue until the operator is to quit. On a store that takes no writes now a daemon
/// starts all the same, and can be asked; its passes begin as soon as it takes them
/// (`a_store_that_takes_no_writes_keeps_nobody_from_starting_but_passes_wait_for_it`).
pub async fn begin(
    queue: Queue<ObjectRef>,
    operator: Arc<Operator>,
    resync: Duration,
    run: Uuid,
) -> Result<JoinHandle<()>, PassError> {
    let mut recovered = match attempt(&operator, run).await {
        Err(PassError::Record(RecordError::Store(StoreError::Unavailable { reason }))) => {
            tracing::error!(reason, "no record can be written: passes begin when that is over");
            false
        }
        done => done.map(|()| true)?,
    };
    Ok(tokio::spawn(async move {
        let quit = operator.quit.clone();
        for failures in 1.. {
            if recovered || quit.is_cancelled() {
                break;
            }
            let wait = backoff::after(failures).unsigned_abs();
            tokio::select! {
                () = quit.cancelled() => {}
                () = tokio::time::sleep(wait) => match attempt(&operator, run).await {
                    Ok(()) => recovered = true,
                    Err(error) => tracing::warn!(error = crate::error_chain(&error), "recovery"),
                },
            }
        }
        run_on(queue, operator, resync).await;
    }))
}

async fn attempt(operator: &Arc<Operator>, run: Uuid) -> Result<(), PassError> {
    let operator = Arc::clone(operator);
    match tokio::task::spawn_blocking(move || operator.recover(run)).await {
        Ok(done) => done,
        Err(panic) => std::panic::resume_unwind(panic.into_panic()),
    }
}

impl Operator {
    /// Is done once before the first pass. `run` is this run of the daemon. What is left over is swept up beside the first
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
    use std::path::Path;

    use futures::StreamExt;
    use jiff::Timestamp;
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::api::{Births, Digests, Sealer};
    use crate::guest::fake::{FakeForwarder, FakeShell};
    use crate::hypervisor::fake::{FakeHypervisor, FakeWorld, Options};
    use crate::model::{ClaimSpec, ClaimStatus, Client, Image, ObjectMeta, Template};
    use crate::store::refusing::Refusing;
    use crate::store::{Store, memory};

    /// An operator over a store, its fake world, and a machine of its own in namespace `there` that is on its way.
    fn operator(store: &Arc<dyn Store>, dir: &Path) -> (Arc<Operator>, Arc<FakeWorld>, ObjectRef) {
        let image = dir.join("i.iso");
        std::fs::write(&image, "image").unwrap();
        let world = FakeWorld::new(Options { boot: Duration::ZERO, ..Options::default() });
        let sealer = Sealer::from_file(&dir.join("seal.key")).unwrap();
        let births = Births::new(sealer, Digests::default(), 10_000..=10_003, Arc::new(|_| true));
        let operator = Operator {
            store: Arc::clone(store),
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
        let birth = operator.births.standalone(&**store, meta, Template::of(Image::Iso(image))).unwrap();
        let object = crate::model::Object::object_ref(&birth.container);
        store.txn(birth.txn).wait().unwrap();
        (Arc::new(operator), world, object)
    }

    fn ready(store: &dyn Store) -> bool {
        records::get::<Container>(store, "there", "box").unwrap().unwrap().object.status.phase == Phase::Ready
    }

    /// Whose record is in another namespace has a record: its machine is nobody's to sweep away.
    #[test]
    fn a_sweep_spares_the_machines_of_every_namespace() {
        let dir = tempfile::tempdir().unwrap();
        let store: Arc<dyn Store> = memory();
        let (operator, world, object) = operator(&store, dir.path());
        for _ in 0..50 {
            operator.pass(&object).unwrap();
            if ready(&*store) {
                break;
            }
        }
        assert!(ready(&*store));
        operator.recover(Uuid::new_v4()).unwrap();
        operator.sweep().unwrap();
        assert_eq!((world.domains().len(), world.forwards().len()), (1, 1));
    }

    #[tokio::test]
    async fn a_store_that_takes_no_writes_keeps_nobody_from_starting_but_passes_wait_for_it() {
        let dir = tempfile::tempdir().unwrap();
        let refusing = Arc::new(Refusing::over(memory()));
        let store: Arc<dyn Store> = Arc::clone(&refusing) as _;
        let (operator, _world, _) = operator(&store, dir.path());
        // It has something to write: nobody waits for this any more.
        let origin = Origin::Wire { client: Client { ip: [127, 0, 0, 1].into(), id: "1".into() }, run: Uuid::new_v4() };
        let metadata = ObjectMeta::new("there", "claim", Uuid::new_v4(), Timestamp::UNIX_EPOCH);
        let claim = ContainerClaim { metadata, spec: ClaimSpec::of("none", origin), status: ClaimStatus::default() };
        store.txn(Txn::default().write(&claim)).await.unwrap();
        refusing.refuse(2);
        let mut changes = store.watch(records::REGISTRY, 0);
        let quit = operator.quit.clone();
        let passes = begin(Queue::new(), operator, Duration::from_secs(30), Uuid::new_v4()).await.unwrap();
        assert!(!ready(&*store) && refusing.refused() == 1);
        while !ready(&*store) {
            changes.next().await;
        }
        assert_eq!(refusing.refused(), 2, "a pass was before it");
        let claim = records::get::<ContainerClaim>(&*store, "there", "claim").unwrap();
        assert!(claim.is_none_or(|claim| claim.object.metadata.deleting()), "it was withdrawn");
        quit.cancel();
        passes.await.unwrap();
    }
}
