//! Watching: a reader pulls from the history at its own pace. It can fall behind what is kept and is told so; it
//! can never see a gap, and it can never hold up the writer.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::watch::Receiver;

use super::published::Published;
use crate::store::{Batch, Change, StoreError, Watch};

/// Revisions taken from the history at a time: the lock is held for no more than this many pointers.
const CHUNK: usize = 256;

struct Watcher {
    published: Arc<Published>,
    revision: Receiver<u64>,
    prefix: String,
    next: u64,
    taken: VecDeque<Arc<Batch>>,
}

pub(super) fn watch(published: Arc<Published>, revision: Receiver<u64>, prefix: &str, from: u64) -> Watch {
    let next = if from == 0 { published.snapshot().revision + 1 } else { from };
    let watcher = Watcher { published, revision, prefix: prefix.into(), next, taken: VecDeque::new() };
    Box::pin(futures::stream::unfold(Some(watcher), |watcher| async move {
        let mut watcher = watcher?;
        match watcher.next().await? {
            Ok(batch) => Some((Ok(batch), Some(watcher))),
            Err(error) => Some((Err(error), None)),
        }
    }))
}

impl Watcher {
    /// The next revision with a change below the prefix; `None` when the store has closed.
    async fn next(&mut self) -> Option<Result<Batch, StoreError>> {
        loop {
            while let Some(batch) = self.taken.pop_front() {
                let mine = |change: &&Change| change.key().starts_with(&self.prefix);
                let changes: Vec<Change> = batch.changes.iter().filter(mine).cloned().collect();
                if !changes.is_empty() {
                    return Some(Ok(Batch { rev: batch.rev, changes }));
                }
            }
            // Seen before pulling: what is published after the pull wakes us again.
            self.revision.borrow_and_update();
            match self.published.pull(self.next, CHUNK) {
                Err(rev) => return Some(Err(StoreError::Compacted { rev })),
                Ok(batches) => match batches.last() {
                    Some(last) => {
                        self.next = last.rev + 1;
                        self.taken = batches.into();
                    }
                    None => self.revision.changed().await.ok()?,
                },
            }
        }
    }
}
