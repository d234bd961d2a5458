//! What readers and watchers see: the last durable snapshot, and the changes that led to it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::apply::{Round, Snapshot};
use super::check::invalid;
use crate::store::value::Original;
use crate::store::{Batch, Change, Kv, StoreError};

/// How much of the past is kept for watchers. Beyond either limit the oldest revision is forgotten.
#[derive(Clone, Copy, Debug)]
pub struct HistoryLimits {
    /// At most this many revisions.
    pub revisions: usize,
    /// At most about this many bytes of keys and values; the newest revision is kept whatever its size.
    pub bytes: usize,
}

impl Default for HistoryLimits {
    /// So much changes in a second or two while ten thousand containers are made at once: whoever follows keeps up.
    fn default() -> Self {
        HistoryLimits { revisions: 65_536, bytes: 8 * 1024 * 1024 }
    }
}

/// How many objects are kept for those who follow, besides the records that they were written to: whoever is further behind
/// decodes. With some 2 KiB each they are about a megabyte.
const ORIGINALS: usize = 512;

/// Snapshot and history change together, under one lock that is held only to move pointers.
pub(super) struct Published {
    limits: HistoryLimits,
    now: Mutex<Now>,
}

/// What nobody can ask for any more since a round was shown.
pub(super) struct Past {
    /// How many revisions that round made.
    pub(super) revisions: usize,
    _snapshot: Arc<Snapshot>,
    _forgotten: Vec<Arc<Batch>>,
    _originals: Vec<Arc<Original>>,
}

struct Now {
    snapshot: Arc<Snapshot>,
    /// The revisions after `compacted` up to the snapshot's, each once.
    history: VecDeque<Arc<Batch>>,
    /// The history's size.
    bytes: usize,
    /// What the newest records were written from.
    originals: VecDeque<Arc<Original>>,
    /// Everything up to here is forgotten.
    compacted: u64,
}

impl Published {
    pub(super) fn new(state: Snapshot, limits: HistoryLimits) -> Self {
        // A store that was never written has forgotten nothing: any watch is good.
        let compacted = if state.revision == 1 { 0 } else { state.revision };
        let now = Now {
            snapshot: Arc::new(state),
            history: VecDeque::new(),
            bytes: 0,
            originals: VecDeque::new(),
            compacted,
        };
        Published { limits, now: Mutex::new(now) }
    }

    fn now(&self) -> MutexGuard<'_, Now> {
        // Nothing in here panics between two states that belong together.
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.now().snapshot)
    }

    /// Shows a durable round: records and changes at once, so that whoever is told of a change can read it. What is over
    /// by that is the caller's to let go of: that is as much work as what is new.
    pub(super) fn publish(&self, state: Snapshot, round: Round) -> Past {
        let Round { batches, originals, .. } = round;
        let mut now = self.now();
        let (revisions, snapshot) = (batches.len(), std::mem::replace(&mut now.snapshot, Arc::new(state)));
        now.bytes += batches.iter().map(|batch| size(batch)).sum::<usize>();
        now.history.extend(batches);
        // The newest stays whatever its size: a watcher that keeps up shall see it.
        let mut forgotten = Vec::new();
        while now.history.len() > 1 && (now.history.len() > self.limits.revisions || now.bytes > self.limits.bytes) {
            forgotten.extend(now.forget_oldest());
        }
        now.originals.extend(originals);
        let over = now.originals.len().saturating_sub(ORIGINALS);
        let originals = now.originals.drain(..over).collect();
        Past { revisions, _snapshot: snapshot, _forgotten: forgotten, _originals: originals }
    }

    pub(super) fn compact(&self, rev: u64) -> Result<(), StoreError> {
        let mut now = self.now();
        let revision = now.snapshot.revision;
        if rev > revision {
            return Err(invalid(format!("compacting up to {rev}, but the store is at revision {revision}")));
        }
        while now.history.front().is_some_and(|batch| batch.rev <= rev) {
            now.forget_oldest();
        }
        now.compacted = now.compacted.max(rev);
        Ok(())
    }

    /// At most `count` revisions from `from` on, or the revision up to which all is forgotten.
    pub(super) fn pull(&self, from: u64, count: usize) -> Result<Vec<Arc<Batch>>, u64> {
        let now = self.now();
        if from <= now.compacted {
            return Err(now.compacted);
        }
        // Revisions have no gap, so a revision's place follows from the first one's.
        let first = now.history.front().map_or(from, |batch| batch.rev);
        let skip = usize::try_from(from.saturating_sub(first)).unwrap_or(usize::MAX);
        Ok(now.history.iter().skip(skip).take(count).cloned().collect())
    }
}

impl Now {
    fn forget_oldest(&mut self) -> Option<Arc<Batch>> {
        let oldest = self.history.pop_front()?;
        self.bytes -= size(&oldest);
        self.compacted = self.compacted.max(oldest.rev);
        Some(oldest)
    }
}

/// What a revision weighs in memory, roughly.
fn size(batch: &Batch) -> usize {
    let record = |kv: &Kv| kv.key.len() + kv.value.len() + size_of::<Kv>();
    let change = |change: &Change| match change {
        Change::Put { kv, prev } => record(kv) + prev.as_ref().map_or(0, record),
        Change::Delete { prev } => record(prev),
    };
    size_of::<Batch>() + batch.changes.iter().map(change).sum::<usize>()
}
