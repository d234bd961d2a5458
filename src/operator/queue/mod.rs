//! Whose turn it is: one pass per object at a time, and no more than so many passes at all.
//!
//! ```text
//!               add: earliest time wins           a slot is free and it is time
//!   (nothing) ───────────────────────► waiting ─────────────────────────────────► in flight
//!       ▲                                 ▲                                         │  │
//!       │                                 └── added meanwhile, or asked for a time ─┘  │
//!       └───────────────────────────────────────── otherwise ──────────────────────────┘
//! ```
//!
//! - A key waits at most once, however often it is added, until the earliest time it was added for.
//! - At most one pass for a key is in flight. A key that is added meanwhile gets one more pass afterwards, so what
//!   made somebody add it is always seen by a pass that began later.
//! - At most N passes are in flight. Keys whose time has come are served in the order of their times.
//! - A pass that panics is logged and repeated later, and later again; it stops nobody else.
//!
//! Who decides is `schedule::Schedule`, which knows no clock and no task; [`run`] lends it both.

mod schedule;

#[cfg(test)]
mod tests;

use std::any::Any;
use std::collections::HashMap;
use std::fmt::Debug;
use std::hash::Hash;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use schedule::Schedule;

/// How long after its first panic a pass is repeated; every further one in a row doubles it.
const PANIC_DELAY: Duration = Duration::from_secs(1);
/// The longest that becomes.
const PANIC_DELAY_MAX: Duration = Duration::from_secs(300);
/// "Never", for delays that no clock can hold.
const FAR: Duration = Duration::from_secs(365 * 24 * 3600);

/// What a pass wants for its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Requeue {
    /// Nothing until somebody adds it.
    AwaitChange,
    /// Another pass after this time, or earlier if somebody adds it.
    After(Duration),
}

/// Keys to work on. Clones are the same queue.
pub struct Queue<K> {
    shared: Arc<Shared<K>>,
}

struct Shared<K> {
    schedule: Mutex<Schedule<K>>,
    changed: Notify,
    /// How often [`run`] has looked.
    looks: watch::Sender<u64>,
}

impl<K> Clone for Queue<K> {
    fn clone(&self) -> Self {
        Queue { shared: Arc::clone(&self.shared) }
    }
}

impl<K: Hash + Eq + Clone> Default for Queue<K> {
    fn default() -> Self {
        Queue::new()
    }
}

impl<K: Hash + Eq + Clone> Queue<K> {
    /// An empty queue.
    pub fn new() -> Self {
        let (schedule, changed) = (Mutex::new(Schedule::new()), Notify::new());
        Queue { shared: Arc::new(Shared { schedule, changed, looks: watch::Sender::new(0) }) }
    }

    /// Wishes for a pass as soon as possible. Never blocks; from any thread.
    pub fn add(&self, key: K) {
        self.add_after(key, Duration::ZERO);
    }

    /// Wishes for a pass after some time.
    pub fn add_after(&self, key: K, delay: Duration) {
        self.schedule().add(key, after(delay));
        self.shared.changed.notify_one();
    }

    /// Has whoever runs it look once more, and waits until they did: for ever, if nobody runs it.
    pub async fn looked(&self) {
        let mut looks = self.shared.looks.subscribe();
        self.shared.changed.notify_one();
        // The sender is in `self`.
        let _ = looks.changed().await;
    }

    /// How many keys are due, wait for later, and are in flight.
    pub fn depth(&self) -> [usize; 3] {
        self.schedule().depth(Instant::now())
    }

    fn schedule(&self) -> MutexGuard<'_, Schedule<K>> {
        // A panic in a key's own `Hash` or `Eq` is the only one possible in there.
        self.shared.schedule.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn after(delay: Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(delay).unwrap_or(now + FAR)
}

/// Runs passes, each as its own task, until cancelled; then starts no more and returns when the last has ended.
/// Dropping the future aborts what is in flight.
pub async fn run<K, F, Fut>(queue: Queue<K>, concurrency: NonZeroUsize, pass: F, cancel: CancellationToken)
where
    K: Hash + Eq + Clone + Debug + Send + 'static,
    F: Fn(K) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Requeue> + Send + 'static,
{
    let pass = Arc::new(pass);
    let mut passes = Passes { queue, tasks: JoinSet::new(), keys: HashMap::new(), panics: HashMap::new() };
    loop {
        passes.queue.shared.looks.send_modify(|looks| *looks += 1);
        while passes.tasks.len() < concurrency.get() {
            let Some(key) = passes.queue.schedule().start(Instant::now()) else { break };
            let (pass, its) = (Arc::clone(&pass), key.clone());
            // The call itself belongs to the task too: it may panic before there is a future.
            let task = passes.tasks.spawn(async move { pass(its).await });
            passes.keys.insert(task.id(), key);
        }
        let full = passes.tasks.len() >= concurrency.get();
        let due = if full { None } else { passes.queue.schedule().next_due() };
        tokio::select! {
            () = cancel.cancelled() => break,
            () = passes.queue.shared.changed.notified() => {}
            () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {}
            Some(ended) = passes.tasks.join_next_with_id() => passes.end(ended),
        }
    }
    while let Some(ended) = passes.tasks.join_next_with_id().await {
        passes.end(ended);
    }
}

struct Passes<K> {
    queue: Queue<K>,
    tasks: JoinSet<Requeue>,
    /// Whom a task works for.
    keys: HashMap<Id, K>,
    /// How often in a row a key's passes have panicked.
    panics: HashMap<K, u32>,
}

impl<K: Hash + Eq + Clone + Debug> Passes<K> {
    fn end(&mut self, ended: Result<(Id, Requeue), JoinError>) {
        let (id, result) = match ended {
            Ok((id, requeue)) => (id, Ok(requeue)),
            Err(error) => (error.id(), Err(error)),
        };
        let Some(key) = self.keys.remove(&id) else { return };
        let again = match result {
            Ok(requeue) => {
                self.panics.remove(&key);
                match requeue {
                    Requeue::AwaitChange => None,
                    Requeue::After(delay) => Some(delay),
                }
            }
            Err(error) => {
                let panics = self.panics.entry(key.clone()).or_default();
                let delay = panic_delay(*panics);
                *panics = panics.saturating_add(1);
                tracing::error!(?key, panic = %what(error), retry_in = ?delay, "a pass panicked");
                Some(delay)
            }
        };
        self.queue.schedule().finish(key, again.map(after));
    }
}

fn panic_delay(before: u32) -> Duration {
    PANIC_DELAY.saturating_mul(2_u32.saturating_pow(before)).min(PANIC_DELAY_MAX)
}

/// What a panic said.
fn what(error: JoinError) -> String {
    let text = |panic: Box<dyn Any + Send>| match panic.downcast::<String>() {
        Ok(text) => *text,
        Err(panic) => panic.downcast_ref::<&str>().map_or("no message".into(), |text| (*text).into()),
    };
    error.try_into_panic().map_or_else(|cancelled| cancelled.to_string(), text)
}
