//! The one engine behind every store of this process: who may write what, in which order, and who is told when.
//!
//! A single committer thread owns all writing, so a transaction's conditions are compared without a lock and
//! without a race. It takes what waits in its queue as one *round*:
//!
//! ```text
//!   gather ──► is there room? ──► apply each, in order ──► journal.write ──► publish ──► answer
//!                   │ no                                       │ failed      snapshot and history together,
//!                   ▼                                          ▼             after the answers the watchers' signal
//!              Unavailable                       Unknown, and Unavailable
//!              (this round only)                 from then on, until reopened
//! ```
//!
//! One durable write a round is what makes many callers cheap: while the disk works, the next round fills up.

mod apply;
mod check;
mod committer;
#[cfg(test)]
mod copies;
mod memory;
mod published;
mod watch;

#[cfg(test)]
mod tests;

use std::error::Error;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::mpsc::{SyncSender, TrySendError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::JoinHandle;

use futures::FutureExt;
use tokio::sync::{oneshot, watch as signal};

use super::{Commit, Index, Kv, Store, StoreError, Txn, Watch};
use committer::Request;
use published::Published;

#[cfg(test)]
pub(crate) use apply::Snapshot as Content;
pub use check::{MAX_KEY, MAX_OPS, MAX_TXN, MAX_VALUE, MAX_WISH};
#[cfg(test)]
pub(crate) use copies::Copies;
pub use memory::{memory, memory_with};
pub use published::HistoryLimits;

pub(super) use apply::{Round, Snapshot};
pub(super) use committer::QUIET;

/// Transactions that may wait for the committer; beyond that a caller is told so instead of filling memory.
const QUEUE: usize = 8192;

/// What a journal can say about its failure.
pub(super) type JournalError = Box<dyn Error + Send + Sync>;

/// Where rounds become durable.
pub(super) trait Journal: Send + 'static {
    /// Whether a round could be written now. An error refuses the round before anything is tried.
    fn ready(&mut self) -> Result<(), JournalError>;

    /// Writes a round, all of it or nothing whatever happens, and returns when it is durable. `state` is the
    /// state with the round in it. After an error nothing is known, and this is not called again.
    fn write(&mut self, state: &Snapshot, round: &Round) -> Result<(), JournalError>;
}

/// Why a store takes no more writes, once that is so: said by whoever meets it, on whatever thread.
#[derive(Clone)]
pub(super) struct Failure(signal::Sender<Option<String>>);

impl Default for Failure {
    fn default() -> Self {
        Failure(signal::Sender::new(None))
    }
}

impl Failure {
    /// The store takes no more writes. Returns why: of several reasons the first, since what comes after it follows from it
    /// (`who_waits_for_sled_is_told_what_kept_it_from_the_disk`).
    pub(super) fn end(&self, error: &(dyn Error + 'static)) -> String {
        let mut first = chain(error);
        self.0.send_if_modified(|reason| {
            if let Some(reason) = reason {
                first.clone_from(reason);
                return false;
            }
            tracing::error!(error = first, "the store could not write and takes no more writes");
            *reason = Some(first.clone());
            true
        });
        first
    }

    /// What a write is told that comes after.
    fn refusal(&self) -> Option<StoreError> {
        let error = self.0.borrow();
        let reason = error.as_ref().map(|error| format!("an earlier write failed: {error}"))?;
        Some(StoreError::Unavailable { reason })
    }
}

/// A store in this process. Dropping it closes it.
pub struct LocalStore {
    published: Arc<Published>,
    /// As of when it was last asked for.
    index: Mutex<Index>,
    revision: signal::Receiver<u64>,
    failure: Failure,
    committer: Mutex<Option<Committer>>,
}

struct Committer {
    queue: SyncSender<Request>,
    thread: JoinHandle<()>,
}

impl LocalStore {
    /// Starts the committer on what the journal held.
    pub(super) fn start(
        journal: impl Journal,
        state: Snapshot,
        limits: HistoryLimits,
        failure: Failure,
    ) -> Result<Arc<LocalStore>, std::io::Error> {
        let (queue, requests) = mpsc::sync_channel(QUEUE);
        let (told, revision) = signal::channel(state.revision);
        let published = Arc::new(Published::new(state, limits));
        let (shared, failed) = (Arc::clone(&published), failure.clone());
        let work = move || {
            let run = AssertUnwindSafe(|| committer::run(requests, journal, &shared, &told, &failed));
            // What it worked on is dropped with it; only what was published before is seen by anybody.
            if let Err(panic) = catch_unwind(run) {
                failed.end(&*JournalError::from("its committer panicked"));
                resume_unwind(panic);
            }
        };
        let thread = std::thread::Builder::new().name("store".into()).spawn(work)?;
        let committer = Mutex::new(Some(Committer { queue, thread }));
        let index = Mutex::default();
        Ok(Arc::new(LocalStore { published, index, revision, failure, committer }))
    }

    /// Waits until the store can take no more writes, and says why: a write failed, or the committer died. Reads go on.
    /// It is not mended by waiting: whoever serves from it opens it anew. Never returns for a store that is well, or
    /// closed in order.
    pub async fn failed(&self) -> String {
        let mut failure = self.failure.0.subscribe();
        let reason = match failure.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone(),
            Err(_) => None,
        };
        match reason {
            Some(reason) => reason,
            None => std::future::pending().await,
        }
    }

    /// Finishes what is queued, ends every watch and lets go of the disk. Later transactions are
    /// [`StoreError::Unavailable`]; reads go on. Blocks until all of that is done; repeating it is harmless.
    pub fn close(&self) {
        // The lock is not held while waiting: a transaction that comes now is refused, not blocked.
        let committer = self.committer().take();
        if let Some(Committer { queue, thread }) = committer {
            drop(queue);
            if thread.join().is_err() {
                tracing::error!("the store's committer panicked");
            }
        }
    }

    fn committer(&self) -> MutexGuard<'_, Option<Committer>> {
        // Nothing panics while it is held, and an Option is whole at any time.
        self.committer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn send(&self, txn: Txn) -> Result<oneshot::Receiver<Result<super::TxnResult, StoreError>>, StoreError> {
        let size = check::check(&txn)?;
        let (answer, waiter) = oneshot::channel();
        let refused = |reason: &str| Err(StoreError::Unavailable { reason: reason.into() });
        match &*self.committer() {
            None => refused("it is closed"),
            Some(committer) => match committer.queue.try_send(Request { txn, size, answer }) {
                Ok(()) => Ok(waiter),
                Err(TrySendError::Full(_)) => refused("too many transactions are waiting"),
                Err(TrySendError::Disconnected(_)) => refused("its committer has ended"),
            },
        }
    }
}

impl Drop for LocalStore {
    fn drop(&mut self) {
        self.close();
    }
}

impl Store for LocalStore {
    fn get(&self, key: &str) -> Result<(Option<Kv>, u64), StoreError> {
        let state = self.published.snapshot();
        Ok((state.get(key), state.revision))
    }

    fn list(&self, prefix: &str) -> Result<(Vec<Kv>, u64), StoreError> {
        let state = self.published.snapshot();
        Ok((state.below(prefix).collect(), state.revision))
    }

    fn index(&self) -> Result<Index, StoreError> {
        // A panic in between would leave part of a revision: it is made anew then.
        let mut index = self.index.lock().unwrap_or_else(|poisoned| {
            self.index.clear_poison();
            let mut index = poisoned.into_inner();
            *index = Index::default();
            index
        });
        match self.published.pull(index.revision() + 1, usize::MAX) {
            Ok(batches) => batches.iter().for_each(|batch| index.follow(batch)),
            Err(_) => {
                let state = self.published.snapshot();
                *index = Index::of(state.below(""), state.revision);
            }
        }
        Ok(index.clone())
    }

    fn txn(&self, txn: Txn) -> Commit {
        Commit::new(match self.send(txn) {
            Err(refused) => std::future::ready(Err(refused)).boxed(),
            Ok(waiter) => waiter
                .map(|answer| {
                    let reason = || "its committer ended before it answered".to_owned();
                    answer.unwrap_or_else(|_| Err(StoreError::Unknown { reason: reason() }))
                })
                .boxed(),
        })
    }

    fn watch(&self, prefix: &str, from: u64) -> Watch {
        watch::watch(Arc::clone(&self.published), self.revision.clone(), prefix, from)
    }

    fn compact(&self, rev: u64) -> Result<(), StoreError> {
        self.published.compact(rev)
    }
}

/// An error and its causes on one line.
pub(super) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
