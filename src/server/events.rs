//! What happened, as it is told: logged, counted, and passed on to whoever listens.

use std::sync::atomic::{AtomicU64, Ordering};

use futures::StreamExt;
use jiff::Timestamp;
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;

use super::EventSink;
use crate::model::{Container, Event, EventKind};
use crate::plan::clock::Clock;
use crate::store::records::{self, EVENTS, Versioned};
use crate::store::{Batch, Change, Store, StoreError};

/// Events a slow listener may be behind before it misses some.
const BACKLOG: usize = 1024;

/// Takes events from connections and from the store, and tells them.
pub struct Bus {
    listeners: broadcast::Sender<Event>,
    runtime_errors: AtomicU64,
    clock: Clock,
}

impl Bus {
    /// Nobody listens yet.
    pub fn new(clock: Clock) -> Self {
        Bus { listeners: broadcast::channel(BACKLOG).0, runtime_errors: AtomicU64::new(0), clock }
    }

    /// Everything that happens from now on.
    pub fn listen(&self) -> broadcast::Receiver<Event> {
        self.listeners.subscribe()
    }

    /// `RUNTIME_ERROR` events so far.
    pub fn runtime_errors(&self) -> u64 {
        self.runtime_errors.load(Ordering::Relaxed)
    }

    /// Tells what is committed to the event log, from now on, until cancelled, with the record of a container that
    /// ends in the same commit. Call it before the first pass.
    pub fn follow(
        store: &dyn Store,
        cancel: CancellationToken,
        tell: impl Fn(Event, Option<Container>) + Send + 'static,
    ) -> impl Future<Output = ()> + Send + 'static {
        let mut log = store.watch("", 0);
        async move {
            loop {
                let batch = tokio::select! {
                    biased;
                    batch = log.next() => batch,
                    () = cancel.cancelled() => return,
                };
                match batch {
                    Some(Ok(batch)) => batch.changes.iter().for_each(|change| committed(change, &batch, &tell)),
                    Some(Err(StoreError::Compacted { rev })) => {
                        tracing::warn!(rev, "the teller of events was too slow and missed some; the log has them");
                        return;
                    }
                    Some(Err(error)) => {
                        tracing::error!(%error, "events cannot be followed");
                        return;
                    }
                    None => return,
                }
            }
        }
    }
}

fn committed(change: &Change, batch: &Batch, tell: &impl Fn(Event, Option<Container>)) {
    let Change::Put { kv, .. } = change else { return };
    if !kv.key.starts_with(EVENTS) {
        return;
    }
    match records::decode::<Event>(kv) {
        Ok(Versioned { object: event, .. }) => {
            let ended = event.regarding.as_ref().and_then(|about| ended(&records::key(about), batch));
            tell(event, ended);
        }
        Err(error) => tracing::warn!(error = crate::error_chain(&error), "event"),
    }
}

/// The last record of what was removed in this commit.
fn ended(key: &str, batch: &Batch) -> Option<Container> {
    batch.changes.iter().find_map(|change| match change {
        Change::Delete { prev } if prev.key == key => records::decode(prev).ok().map(|read| read.object),
        Change::Delete { .. } | Change::Put { .. } => None,
    })
}

impl EventSink for Bus {
    fn now(&self) -> Timestamp {
        (self.clock)()
    }

    fn emit(&self, event: Event) {
        let client = event.client.as_ref().map(|client| format!("{} ({})", client.id, client.ip));
        let details = (!event.details.is_empty()).then(|| serde_json::Value::Object(event.details.clone()));
        let (number, name) = (event.kind.number(), event.kind.name());
        let says = if event.message.is_empty() { name.to_owned() } else { format!("{name}: {}", event.message) };
        let client = client.as_deref().map(tracing::field::display);
        let details = details.as_ref().map(tracing::field::display);
        if event.kind == EventKind::RuntimeError {
            self.runtime_errors.fetch_add(1, Ordering::Relaxed);
            tracing::error!(target: "anweddol::event", number, client, details, "{says}");
        } else {
            tracing::info!(target: "anweddol::event", number, client, details, "{says}");
        }
        // Nobody needs to listen.
        self.listeners.send(event).ok();
    }
}
