//! Keeps the queue fed and the passes going.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::known::{Known, listed};
use super::look::Look;
use super::queue::{self, Queue};
use super::waiting::Waiting;
use super::{Operator, Requeue};
use crate::metrics::calls::SPANS;
use crate::metrics::{Passed, Turn};
use crate::model::{
    ClaimPhase, Container, ContainerClaim, ContainerPool, Kind, Object, ObjectMeta, ObjectRef, Phase, Wake,
};
use crate::plan::container::released;
use crate::store::records::{self, REGISTRY};
use crate::store::{Batch, Change, Kv, RecordError, StoreError};

/// Passes at once. They mostly wait for a guest that boots, so there are many more than processors.
const CONCURRENCY: NonZeroUsize = NonZeroUsize::new(256).unwrap();
/// How often everything is looked at without a hint: catches what events missed, as
/// `what_no_hint_tells_of_is_found_by_the_look_at_everything` shows. Nothing else waits for it.
pub const RESYNC: Duration = Duration::from_secs(30);
/// The least time from one sweep to the next. A record that goes brings one about: what its machine left by itself, a log or
/// a lease, is gone a moment later, however many end at once.
const SWEEP_PAUSE: Duration = Duration::from_secs(1);
/// How many times as long as its last pass took a pool waits for its next one. Every change of a member wishes for one,
/// and one looks at all members: so a large pool takes no more than a tenth of a processor, and a small one waits for
/// no more than a few milliseconds.
const POOL_PAUSE: u32 = 9;
/// The longest that becomes: a disk that is slow is no reason to wait.
const POOL_PAUSE_MAX: Duration = Duration::from_millis(100);
/// How long after a machine was given to somebody the two are looked at, and its pool: whoever asks at the same moment is
/// answered before that, and there is nothing about it that could not wait.
const GIVEN_PAUSE: Duration = Duration::from_millis(20);
const AT_ONCE: Duration = Duration::ZERO;
/// After a pass that could not read or write records.
const RECORD_TROUBLE: Duration = Duration::from_secs(1);

/// Runs the operator until it is to quit, with a look at everything as often as `resync` says (mostly [`RESYNC`]); passes
/// under way are finished, but for boots that they wait for.
pub async fn run(operator: Arc<Operator>, resync: Duration) {
    run_on(Queue::new(), operator, resync).await;
}

/// The same on a queue that others hold too, to see whether it turns.
pub(super) async fn run_on(queue: Queue<ObjectRef>, operator: Arc<Operator>, resync: Duration) {
    let cancel = operator.quit.clone();
    let asked = queue.clone();
    operator.metrics.queue(Box::new(move || {
        let [due, later, running] = asked.depth();
        [(Turn::Due, due), (Turn::Later, later), (Turn::Running, running)]
    }));
    let sweep = Arc::new(Notify::new());
    sweep.notify_one();
    let feeding = tokio::spawn(feed(Arc::clone(&operator), queue.clone(), resync, cancel.clone(), Arc::clone(&sweep)));
    let sweeping = tokio::spawn(sweeps(Arc::clone(&operator), cancel.clone(), sweep));
    let trimming = tokio::spawn(super::events::trims(Arc::clone(&operator), cancel.clone()));
    let probing = tokio::spawn(super::probe::run(Arc::clone(&operator), queue.clone()));
    let passes = {
        let operator = Arc::clone(&operator);
        move |object: ObjectRef| pass(Arc::clone(&operator), object)
    };
    queue::run(queue, CONCURRENCY, passes, cancel).await;
    // Only end early by a panic, which is logged where it happens.
    feeding.await.ok();
    sweeping.await.ok();
    trimming.await.ok();
    probing.await.ok();
}

/// Sweeps when it is asked for; by itself, since a hypervisor that hangs is to hold up nothing else.
async fn sweeps(operator: Arc<Operator>, cancel: CancellationToken, asked: Arc<Notify>) {
    loop {
        tokio::select! {
            () = cancel.cancelled() => return,
            () = asked.notified() => {}
        }
        let sweeper = Arc::clone(&operator);
        if let Ok(Err(error)) = tokio::task::spawn_blocking(move || sweeper.sweep()).await {
            tracing::warn!(error = crate::error_chain(&error), "sweep");
        }
        tokio::select! {
            () = cancel.cancelled() => return,
            () = tokio::time::sleep(SWEEP_PAUSE) => {}
        }
    }
}

async fn pass(operator: Arc<Operator>, object: ObjectRef) -> queue::Requeue {
    let (about, quit, metrics) = (object.clone(), operator.quit.clone(), Arc::clone(&operator.metrics));
    let began = Instant::now();
    let ended = tokio::task::spawn_blocking(move || {
        let _span = tracing::debug_span!(target: SPANS, "pass", %object).entered();
        operator.pass(&object)
    });
    let ended = ended.await;
    let passed = match &ended {
        Ok(Ok(_)) => Passed::Done,
        Ok(Err(_)) => Passed::Failed,
        Err(_) => Passed::Panicked,
    };
    metrics.pass(about.kind, passed, began.elapsed());
    if about.kind == Kind::ContainerPool {
        let pause = tokio::time::sleep((began.elapsed() * POOL_PAUSE).min(POOL_PAUSE_MAX));
        quit.run_until_cancelled(pause).await;
    }
    match ended {
        Ok(Ok(Requeue::OnChange)) => queue::Requeue::AwaitChange,
        Ok(Ok(Requeue::After(wait))) => queue::Requeue::After(wait.unsigned_abs()),
        Ok(Err(error)) => {
            tracing::warn!(object = %about, error = crate::error_chain(&error), "pass");
            queue::Requeue::After(RECORD_TROUBLE)
        }
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime goes away below it.
            Err(_) => queue::Requeue::AwaitChange,
        },
    }
}

async fn feed(
    operator: Arc<Operator>,
    queue: Queue<ObjectRef>,
    resync: Duration,
    cancel: CancellationToken,
    sweep: Arc<Notify>,
) {
    let mut wakes = operator.hypervisor.wakes();
    let (mut looks, mut look) = (tokio::time::interval(resync), Look::over());
    let mut changes = operator.store.watch(REGISTRY, 0);
    let mut known = Known::of(&operator);
    looks.tick().await;
    enqueue_all(&operator, &queue, &mut known);
    loop {
        tokio::select! {
            () = cancel.cancelled() => return,
            batch = changes.next() => match batch {
                Some(Ok(batch)) => {
                    if enqueue(&queue, &batch, &mut known) {
                        sweep.notify_one();
                    }
                }
                Some(Err(StoreError::Compacted { .. })) => {
                    changes = operator.store.watch(REGISTRY, 0);
                    enqueue_all(&operator, &queue, &mut known);
                }
                Some(Err(error)) => {
                    tracing::error!(%error, "the operator cannot follow the store");
                    return;
                }
                None => return,
            },
            wake = wakes.recv() => match wake {
                Ok(Wake::Domain(uuid)) => {
                    if let Some(container) = container(&operator, uuid) {
                        // Before its pass: that is what settles it.
                        operator.doubts.raise(uuid);
                        queue.add(container);
                    }
                }
                Ok(Wake::Card(uuid)) => {
                    if container(&operator, uuid).is_some() {
                        operator.shell.soon(uuid);
                    }
                }
                Ok(Wake::Lease) => known.unaddressed.all().for_each(|container| queue.add(container)),
                Ok(Wake::Everything) | Err(tokio::sync::broadcast::error::RecvError::Lagged(_)) => {
                    enqueue_all(&operator, &queue, &mut known);
                }
                Err(tokio::sync::broadcast::error::RecvError::Closed) => return,
            },
            turns = operator.boots.changed() => turns.into_iter().for_each(|object| queue.add(object)),
            // One that takes longer is ended first: otherwise the last ones never had their turn.
            _ = looks.tick(), if look.is_over() => {
                if let Some(index) = known.anew(&operator) {
                    look = Look::begin(index.count(), resync);
                }
                sweep.notify_one();
            }
            () = look.due() => {
                let turn = operator.store.index().map_err(RecordError::from).and_then(|index| look.turn(&index));
                match listed(turn) {
                    Some(turn) => turn.into_iter().for_each(|object| queue.add(object)),
                    None => look = Look::over(),
                }
            }
        }
    }
}

fn container(operator: &Operator, domain: Uuid) -> Option<ObjectRef> {
    let found = records::container(&*operator.store, domain).unwrap_or_else(|error| {
        // The look at everything finds out what happened to it.
        tracing::warn!(%domain, error = crate::error_chain(&error), "a hint cannot be followed");
        None
    });
    found.map(|read| read.object.object_ref())
}

/// Adds whom a change concerns; whether there may be something to sweep away now.
fn enqueue(queue: &Queue<ObjectRef>, batch: &Batch, known: &mut Known) -> bool {
    let mut ends = false;
    for change in &batch.changes {
        let Some(object) = records::parse_key(change.key()) else { continue };
        let (last, gone) = match change {
            Change::Put { kv, .. } => (kv, false),
            Change::Delete { prev } => (prev, true),
        };
        // One that cannot be read has its pass, which says so.
        let mut pause = AT_ONCE;
        if let Some(record) = Record::read(object.kind, last) {
            ends |= record.is_end(gone);
            if let Record::Container(c) = &record {
                known.unaddressed.note(c, gone);
                known.boots.note(c, gone).into_iter().for_each(|other| queue.add(other));
                if gone {
                    // One that was raised while its last pass looked is not settled by it
                    // (`one_that_is_gone_is_in_doubt_no_more`).
                    known.doubts.forget(c.uuid());
                }
            }
            if record.is_given() && !gone {
                pause = GIVEN_PAUSE;
            }
            let owners = known.owned.note(&object, record.meta(), record.is_member(), gone);
            // Whoever stands behind a claim that was given its machine has waited long enough
            // (`who_stands_behind_a_claim_that_was_given_a_machine_is_looked_at_at_once`).
            let at = if matches!(record, Record::Claim(_)) { AT_ONCE } else { pause };
            let (machine, others) = record.related(&object, gone, &mut known.waiting);
            others.into_iter().chain(owners).for_each(|other| queue.add_after(other, at));
            machine.into_iter().for_each(|machine| queue.add_after(machine, pause));
        }
        queue.add_after(object, pause);
    }
    ends
}

/// A record that changed.
enum Record {
    Container(Arc<Container>),
    Pool(Arc<ContainerPool>),
    Claim(Arc<ContainerClaim>),
}

impl Record {
    fn read(kind: Kind, kv: &Kv) -> Option<Record> {
        let read = match kind {
            Kind::Container => records::shared(kv).map(Record::Container),
            Kind::ContainerPool => records::shared(kv).map(Record::Pool),
            Kind::ContainerClaim => records::shared(kv).map(Record::Claim),
        };
        read.ok()
    }

    fn meta(&self) -> &ObjectMeta {
        match self {
            Record::Container(c) => &c.metadata,
            Record::Pool(pool) => &pool.metadata,
            Record::Claim(claim) => &claim.metadata,
        }
    }

    /// Whether it is a pool's.
    fn is_member(&self) -> bool {
        match self {
            Record::Container(c) => c.spec.pool.is_some(),
            Record::Pool(_) | Record::Claim(_) => false,
        }
    }

    /// Whether a container's record goes, or all that it had.
    fn is_end(&self, gone: bool) -> bool {
        match self {
            Record::Container(c) => gone || released(c),
            Record::Pool(_) | Record::Claim(_) => false,
        }
    }

    /// Whether it is a claim with its machine, or the machine, and neither ends.
    fn is_given(&self) -> bool {
        let bound = match self {
            Record::Container(c) => c.status.phase == Phase::Bound,
            Record::Claim(claim) => claim.status.phase == ClaimPhase::Bound,
            Record::Pool(_) => false,
        };
        bound && !self.meta().deleting()
    }

    /// Whose passes look at this object too: a claim's container; and then a container's pool, and the claim whose turn it
    /// is where a place may have become free.
    fn related(
        self,
        object: &ObjectRef,
        gone: bool,
        waiting: &mut Waiting,
    ) -> (Option<ObjectRef>, impl Iterator<Item = ObjectRef> + use<>) {
        let of = |kind, name| ObjectRef { kind, namespace: object.namespace.clone(), name };
        let (machine, pool, next) = match self {
            Record::Container(c) => {
                let next = c.spec.pool.as_ref().and_then(|pool| waiting.first(&object.namespace, pool));
                (None, c.spec.pool.as_ref().map(|pool| of(Kind::ContainerPool, pool.to_string())), next)
            }
            Record::Claim(claim) => {
                let next = waiting.note(object, (!gone).then_some(&claim));
                (claim.status.container.clone().map(|name| of(Kind::Container, name)), None, next)
            }
            Record::Pool(_) => (None, None, waiting.first(&object.namespace, &object.name)),
        };
        (machine, pool.into_iter().chain(next))
    }
}

fn enqueue_all(operator: &Operator, queue: &Queue<ObjectRef>, known: &mut Known) {
    let Some(index) = known.anew(operator) else { return };
    let keys = listed(index.behind(""));
    keys.into_iter().flatten().filter_map(|key| records::parse_key(key)).for_each(|object| queue.add(object));
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::model::{ClaimSpec, ClaimStatus, Origin};
    use crate::operator::tests::container;
    use crate::store::{Store, Txn, memory};

    /// What a change of a claim makes due at once, and later.
    async fn wakes(phase: ClaimPhase, deleting: bool, gone: bool) -> [usize; 2] {
        let store = memory();
        let mut metadata = ObjectMeta::new("default", "c", Uuid::nil(), Timestamp::UNIX_EPOCH);
        if deleting {
            metadata.end(Timestamp::UNIX_EPOCH);
        }
        let status = ClaimStatus { phase, container: Some("machine".into()), ..ClaimStatus::default() };
        let claim = ContainerClaim { metadata, spec: ClaimSpec::of("pool", Origin::Object), status };
        store.txn(Txn::default().write(&claim)).await.unwrap();
        let mut changes = store.watch(REGISTRY, if gone { 0 } else { 2 });
        if gone {
            store.txn(Txn::default().remove(&claim)).await.unwrap();
        }
        let (queue, batch) = (Queue::new(), changes.next().await.unwrap().unwrap());
        enqueue(&queue, &batch, &mut Known::default());
        let [due, later, _] = queue.depth();
        [due, later]
    }

    #[tokio::test]
    async fn one_that_is_gone_is_in_doubt_no_more() {
        let (store, c) = (memory(), container(1));
        let mut changes = store.watch(REGISTRY, 0);
        store.txn(Txn::default().write(&c)).await.unwrap();
        store.txn(Txn::default().remove(&c)).await.unwrap();
        let (queue, mut known) = (Queue::new(), Known::default());
        known.doubts.raise(c.uuid());
        for left in [1, 0] {
            let batch = changes.next().await.unwrap().unwrap();
            enqueue(&queue, &batch, &mut known);
            assert_eq!(known.doubts.all().len(), left);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_stands_behind_a_claim_that_was_given_a_machine_is_looked_at_at_once() {
        let (store, mut known) = (memory(), Known::default());
        let mut changes = store.watch(REGISTRY, 0);
        let claim = |name: &str, phase| ContainerClaim {
            metadata: ObjectMeta::new("default", name, Uuid::nil(), Timestamp::UNIX_EPOCH),
            spec: ClaimSpec::of("pool", Origin::Object),
            status: ClaimStatus { phase, ..ClaimStatus::default() },
        };
        let mut depth = [0; 3];
        for (name, phase) in [("a", ClaimPhase::Pending), ("b", ClaimPhase::Pending), ("a", ClaimPhase::Bound)] {
            store.txn(Txn::default().write(&claim(name, phase))).await.unwrap();
            let queue = Queue::new();
            enqueue(&queue, &changes.next().await.unwrap().unwrap(), &mut known);
            depth = queue.depth();
        }
        assert_eq!(depth, [1, 1, 0], "the second one, and later the first");
    }

    #[tokio::test(start_paused = true)]
    async fn a_pool_is_looked_at_a_moment_after_one_of_its_machines_was_given_away() {
        for (phase, due) in [(Phase::Ready, 2), (Phase::Bound, 0)] {
            let (store, mut c) = (memory(), container(1));
            (c.spec.pool, c.status.phase) = (Some("pool".into()), phase);
            let mut changes = store.watch(REGISTRY, 0);
            store.txn(Txn::default().write(&c)).await.unwrap();
            let queue = Queue::new();
            enqueue(&queue, &changes.next().await.unwrap().unwrap(), &mut Known::default());
            assert_eq!(queue.depth(), [due, 2 - due, 0], "{phase:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_was_given_a_machine_is_looked_at_a_moment_later_and_who_waits_or_ends_at_once() {
        assert_eq!(wakes(ClaimPhase::Bound, false, false).await, [0, 2]);
        assert_eq!(wakes(ClaimPhase::Pending, false, false).await, [2, 0]);
        assert_eq!(wakes(ClaimPhase::Bound, true, false).await, [2, 0]);
        assert_eq!(wakes(ClaimPhase::Bound, false, true).await, [2, 0]);
    }
}
