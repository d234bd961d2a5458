//! What happened, as it is told: logged, counted, and passed on to whoever listens.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::StreamExt;
use jiff::Timestamp;
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;

use super::EventSink;
use super::lines::Lines;
use crate::model::{Container, Event, EventKind};
use crate::plan::clock::Clock;
use crate::store::records::{self, EVENTS, Versioned};
use crate::store::{Batch, Change, Kv, Store, StoreError};

/// Events a slow listener may be behind before it misses some.
const BACKLOG: usize = 1024;

/// Takes events from connections and from the store, and tells them.
pub struct Bus {
    listeners: broadcast::Sender<Event>,
    runtime_errors: AtomicU64,
    lines: Lines,
    clock: Clock,
}

impl Bus {
    /// Nobody listens yet.
    pub fn new(clock: Clock) -> Self {
        Bus {
            listeners: broadcast::channel(BACKLOG).0,
            runtime_errors: AtomicU64::new(0),
            lines: Lines::default(),
            clock,
        }
    }

    /// Everything that happens from now on.
    pub fn listen(&self) -> broadcast::Receiver<Event> {
        self.listeners.subscribe()
    }

    /// `RUNTIME_ERROR` events so far.
    pub fn runtime_errors(&self) -> u64 {
        self.runtime_errors.load(Ordering::Relaxed)
    }

    /// Tells what is committed to the event log, from now on, with the last record of a container that ends in the same
    /// commit, whether it is removed then or stays. Once cancelled it ends with the last of what is committed by then. Call
    /// it before the first pass.
    ///
    /// A teller that is slower than the store remembers reads on in the log: it misses no event that is still kept, but
    /// for those the records that ended with them (`a_teller_that_is_too_slow_reads_on_in_the_log`).
    pub fn follow(
        store: Arc<dyn Store>,
        cancel: CancellationToken,
        tell: impl Fn(Event, Option<Container>) + Send + 'static,
    ) -> impl Future<Output = ()> + Send + 'static {
        let mut log = store.watch("", 0);
        let (mut last, mut seen) = newest(&*store);
        async move {
            // Where it is to end. Watchers hear of a commit only after whoever waits for it.
            let mut end = None;
            while end.is_none_or(|end| seen < end) {
                let batch = tokio::select! {
                    biased;
                    batch = log.next() => batch,
                    () = cancel.cancelled(), if end.is_none() => {
                        end = Some(store.get(EVENTS).map_or(seen, |(_, revision)| revision));
                        continue;
                    }
                };
                match batch {
                    Some(Ok(batch)) => {
                        seen = batch.rev;
                        let events = batch.changes.iter().filter_map(|change| match change {
                            Change::Put { kv, .. } if kv.key.starts_with(EVENTS) && kv.key > last => Some(kv.clone()),
                            Change::Put { .. } | Change::Delete { .. } => None,
                        });
                        for kv in events.collect::<Vec<_>>() {
                            committed(&kv, Some(&batch), &tell);
                            last = kv.key;
                        }
                    }
                    Some(Err(StoreError::Compacted { rev })) => {
                        tracing::warn!(rev, "the teller of events is slow: it reads on in the log");
                        log = store.watch("", 0);
                        let (listed, revision) = log_of(&*store);
                        seen = revision;
                        for kv in listed.into_iter().filter(|kv| kv.key > last).collect::<Vec<_>>() {
                            committed(&kv, None, &tell);
                            last = kv.key;
                        }
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

/// All events, and the revision. A log that cannot be read is not waited for.
fn log_of(store: &dyn Store) -> (Vec<Kv>, u64) {
    store.list(EVENTS).unwrap_or((Vec::new(), u64::MAX))
}

/// The key of the newest event, and the revision. Numbers have twenty digits: their order is that of the keys.
fn newest(store: &dyn Store) -> (Arc<str>, u64) {
    let (log, revision) = log_of(store);
    (log.into_iter().next_back().map_or_else(Arc::default, |kv| kv.key), revision)
}

fn committed(kv: &Kv, batch: Option<&Batch>, tell: &impl Fn(Event, Option<Container>)) {
    match records::decode::<Event>(kv) {
        Ok(Versioned { object: event, .. }) => {
            let about =
                event.regarding.as_ref().filter(|_| event.kind == EventKind::DestroyedContainer).map(records::key);
            let ended = about.zip(batch).and_then(|(key, batch)| ended(&key, batch));
            tell(event, ended);
        }
        Err(error) => tracing::warn!(error = crate::error_chain(&error), "event"),
    }
}

/// The last record of what was removed in this commit, or was written for the last time before somebody removes it.
fn ended(key: &str, batch: &Batch) -> Option<Container> {
    let records = batch.changes.iter().map(|change| match change {
        Change::Put { kv, .. } => kv,
        Change::Delete { prev } => prev,
    });
    records.filter(|kv| *kv.key == *key).find_map(|kv| records::decode(kv).ok()).map(|read| read.object)
}

impl EventSink for Bus {
    fn now(&self) -> Timestamp {
        (self.clock)()
    }

    fn emit(&self, event: Event) {
        if event.kind == EventKind::RuntimeError {
            self.runtime_errors.fetch_add(1, Ordering::Relaxed);
        }
        match strangers(&event) {
            Some(kind) => self.lines.say(kind, || write(&event)),
            None => write(&event),
        }
        if event.kind == EventKind::Stopped {
            self.lines.close();
        }
        // Nobody needs to listen.
        self.listeners.send(event).ok();
    }
}

/// The kind of a line that anybody who connects can cause, without a token and without a machine for it. None of these
/// events is recorded: in the log of the store there are only those of objects, the newest `events.keep` of them. What
/// failed on a connection leaves the lines alone that an administrator has to see: those of a request that failed are of
/// another kind, and those of somebody's machine of none.
fn strangers(event: &Event) -> Option<&'static str> {
    match event.kind {
        EventKind::Connection
        | EventKind::Client
        | EventKind::ClientClosed
        | EventKind::MalformedRequest
        | EventKind::Request
        | EventKind::UnknownVerb => Some(event.kind.name()),
        EventKind::RuntimeError if event.details.contains_key("task") => Some(event.kind.name()),
        EventKind::RuntimeError if event.client.is_some() && event.regarding.is_none() => Some("failed request"),
        _ => None,
    }
}

fn write(event: &Event) {
    let client = event.client.as_ref().map(|client| format!("{} ({})", client.id, client.ip));
    let details = (!event.details.is_empty()).then(|| serde_json::Value::Object(event.details.clone()));
    let (number, name) = (event.kind.number(), event.kind.name());
    let says = if event.message.is_empty() { name.to_owned() } else { format!("{name}: {}", event.message) };
    let client = client.as_deref().map(tracing::field::display);
    let details = details.as_ref().map(tracing::field::display);
    if event.kind == EventKind::RuntimeError {
        tracing::error!(target: "anweddol::event", number, client, details, "{says}");
    } else {
        tracing::info!(target: "anweddol::event", number, client, details, "{says}");
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::model::{Client, Kind, ObjectRef};
    use crate::server::lines;
    use crate::store::{Commit, HistoryLimits, Index, Txn, Watch, memory, memory_with};

    /// A store whose watchers hear of a commit later than readers see it.
    struct Late(Arc<dyn Store>);

    impl Store for Late {
        fn get(&self, key: &str) -> Result<(Option<Kv>, u64), StoreError> {
            self.0.get(key)
        }

        fn list(&self, prefix: &str) -> Result<(Vec<Kv>, u64), StoreError> {
            self.0.list(prefix)
        }

        fn index(&self) -> Result<Index, StoreError> {
            self.0.index()
        }

        fn txn(&self, txn: Txn) -> Commit {
            self.0.txn(txn)
        }

        fn watch(&self, prefix: &str, from: u64) -> Watch {
            let late = self.0.watch(prefix, from).then(|batch| async {
                tokio::task::yield_now().await;
                batch
            });
            Box::pin(late)
        }

        fn compact(&self, rev: u64) -> Result<(), StoreError> {
            self.0.compact(rev)
        }
    }

    #[tokio::test]
    async fn a_teller_that_is_to_end_tells_what_was_committed_before() {
        let store: Arc<dyn Store> = Arc::new(Late(memory()));
        let (told, heard) = std::sync::mpsc::channel();
        let quit = CancellationToken::new();
        let following = Bus::follow(Arc::clone(&store), quit.clone(), move |event, _| told.send(event.kind).unwrap());
        for kind in [EventKind::Started, EventKind::Stopped] {
            store.txn(Txn::default().tell(&[Event::new(kind, Timestamp::UNIX_EPOCH)])).await.unwrap();
        }
        quit.cancel();
        following.await;
        assert_eq!(heard.iter().collect::<Vec<_>>(), [EventKind::Started, EventKind::Stopped]);
    }

    #[test]
    fn garbage_on_connections_leaves_the_lines_of_what_failed_alone() {
        let bus = Bus::new(Arc::new(|| Timestamp::UNIX_EPOCH));
        let client = Client { ip: "192.0.2.7".parse().unwrap(), id: "37dad67".into() };
        let error = || Event::new(EventKind::RuntimeError, bus.now()).client(&client);
        let garbage = || error().detail("task", "connection").message("garbage");
        let asked = || error().detail("name", "CREATE").message("request");
        let machine = ObjectRef { kind: Kind::Container, namespace: "default".into(), name: "m".into() };
        let booting = || error().detail("name", "boot").regarding(machine.clone()).message("machine");
        let lines = lines::written(|| {
            for _ in 0..=lines::MOST {
                bus.emit(garbage());
                bus.emit(asked());
                bus.emit(booting());
            }
        });
        let count = |of: &str| lines.iter().filter(|line| line.contains(of)).count() as u64;
        assert_eq!(
            [count(": garbage"), count(": request"), count(": machine")],
            [lines::MOST, lines::MOST, lines::MOST + 1]
        );
    }

    #[tokio::test]
    async fn a_teller_that_is_too_slow_reads_on_in_the_log() {
        let store: Arc<dyn Store> = memory_with(HistoryLimits { revisions: 2, bytes: 1 << 20 });
        let said = |n: u64| Event::new(EventKind::Started, Timestamp::UNIX_EPOCH).detail("n", n);
        store.txn(Txn::default().tell(&[said(0)])).await.unwrap();
        let (told, quit) = (Arc::new(Mutex::new(Vec::new())), CancellationToken::new());
        let (heard, done) = (Arc::clone(&told), quit.clone());
        let following = Bus::follow(Arc::clone(&store), quit, move |event, _| {
            let n = event.details["n"].as_u64().unwrap();
            heard.lock().unwrap().push(n);
            if n == 10 {
                done.cancel();
            }
        });
        // Nobody follows yet, and the store remembers two revisions.
        for n in 1..=9 {
            store.txn(Txn::default().tell(&[said(n)])).await.unwrap();
        }
        let more = async {
            tokio::task::yield_now().await;
            store.txn(Txn::default().tell(&[said(10)])).await.unwrap();
        };
        tokio::join!(following, more);
        assert_eq!(*told.lock().unwrap(), (1..=10).collect::<Vec<_>>());
    }
}
