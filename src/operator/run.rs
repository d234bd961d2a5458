//! Keeps the queue fed and the passes going.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::queue::{self, Queue};
use super::{Operator, Requeue};
use crate::model::{Container, ContainerClaim, DEFAULT_NAMESPACE, Kind, ObjectRef, Wake};
use crate::store::records::{self, REGISTRY};
use crate::store::{Batch, Change, Kv, StoreError};

/// Passes at once. They mostly wait for a guest that boots, so there are many more than processors.
const CONCURRENCY: NonZeroUsize = NonZeroUsize::new(256).unwrap();
/// How often everything is looked at without a hint: catches what events missed.
const RESYNC: Duration = Duration::from_secs(30);
/// After a pass that could not read or write records.
const RECORD_TROUBLE: Duration = Duration::from_secs(1);

/// Runs the operator until it is to quit; passes under way are finished, but for boots that they wait for.
pub async fn run(operator: Arc<Operator>) {
    let cancel = operator.quit.clone();
    let queue = Queue::new();
    let feeding = tokio::spawn(feed(Arc::clone(&operator), queue.clone(), cancel.clone()));
    let passes = {
        let operator = Arc::clone(&operator);
        move |object: ObjectRef| pass(Arc::clone(&operator), object)
    };
    queue::run(queue, CONCURRENCY, passes, cancel).await;
    // Only ends early by a panic, which is logged where it happens.
    feeding.await.ok();
}

async fn pass(operator: Arc<Operator>, object: ObjectRef) -> queue::Requeue {
    let about = object.clone();
    let ended = tokio::task::spawn_blocking(move || operator.pass(&object)).await;
    match ended {
        Ok(Ok(Requeue::OnChange)) => queue::Requeue::AwaitChange,
        Ok(Ok(Requeue::After(wait))) => queue::Requeue::After(wait.unsigned_abs()),
        Ok(Err(error)) => {
            tracing::warn!(object = %about, error = crate::error_chain(&error), "pass");
            queue::Requeue::After(RECORD_TROUBLE)
        }
        Err(panic) => std::panic::resume_unwind(panic.into_panic()),
    }
}

async fn feed(operator: Arc<Operator>, queue: Queue<ObjectRef>, cancel: CancellationToken) {
    let mut wakes = operator.hypervisor.wakes();
    let mut resync = tokio::time::interval(RESYNC);
    let mut changes = operator.store.watch(REGISTRY, 0);
    resync.tick().await;
    enqueue_all(&operator, &queue);
    loop {
        tokio::select! {
            () = cancel.cancelled() => return,
            batch = changes.next() => match batch {
                Some(Ok(batch)) => enqueue(&queue, &batch),
                Some(Err(StoreError::Compacted { .. })) => {
                    changes = operator.store.watch(REGISTRY, 0);
                    enqueue_all(&operator, &queue);
                }
                Some(Err(error)) => {
                    tracing::error!(%error, "the operator cannot follow the store");
                    return;
                }
                None => return,
            },
            wake = wakes.recv() => match wake {
                Ok(Wake::Domain(uuid)) => queue.add(container(&uuid)),
                Ok(Wake::Everything) | Err(tokio::sync::broadcast::error::RecvError::Lagged(_)) => {
                    enqueue_all(&operator, &queue);
                }
                Err(tokio::sync::broadcast::error::RecvError::Closed) => return,
            },
            _ = resync.tick() => {
                enqueue_all(&operator, &queue);
                let operator = Arc::clone(&operator);
                let swept = tokio::task::spawn_blocking(move || operator.sweep()).await;
                if let Ok(Err(error)) = swept {
                    tracing::warn!(error = crate::error_chain(&error), "sweep");
                }
            }
        }
    }
}

/// A container's name is its UUID.
fn container(uuid: &Uuid) -> ObjectRef {
    ObjectRef { kind: Kind::Container, namespace: DEFAULT_NAMESPACE.into(), name: uuid.to_string() }
}

fn enqueue(queue: &Queue<ObjectRef>, batch: &Batch) {
    for change in &batch.changes {
        let Some(object) = records::parse_key(change.key()) else { continue };
        let last = match change {
            Change::Put { kv, .. } => kv,
            Change::Delete { prev } => prev,
        };
        if let Some(related) = related(&object, last) {
            queue.add(related);
        }
        queue.add(object);
    }
}

/// Whose passes look at this object too: a container's pool, a claim's container.
fn related(object: &ObjectRef, last: &Kv) -> Option<ObjectRef> {
    let of = |kind, name| ObjectRef { kind, namespace: object.namespace.clone(), name };
    match object.kind {
        Kind::Container => {
            let c = records::decode::<Container>(last).ok()?.object;
            c.spec.pool.map(|pool| of(Kind::ContainerPool, pool))
        }
        Kind::ContainerClaim => {
            let claim = records::decode::<ContainerClaim>(last).ok()?.object;
            claim.status.container.map(|name| of(Kind::Container, name))
        }
        Kind::ContainerPool => None,
    }
}

/// Every object of every kind and namespace.
fn enqueue_all(operator: &Operator, queue: &Queue<ObjectRef>) {
    match operator.store.list(REGISTRY) {
        Ok((records, _)) => {
            records.iter().filter_map(|kv| records::parse_key(&kv.key)).for_each(|object| queue.add(object))
        }
        Err(error) => tracing::warn!(%error, "the records cannot be listed"),
    }
}
