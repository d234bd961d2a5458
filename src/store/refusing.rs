//! A store that takes no writes for a while.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::store::{Commit, Index, Kv, Store, StoreError, Txn, Watch};

/// Refuses so many transactions, as one whose disk is full.
pub(crate) struct Refusing {
    inner: Arc<dyn Store>,
    left: AtomicUsize,
    refused: AtomicUsize,
}

impl Refusing {
    pub(crate) fn over(inner: Arc<dyn Store>) -> Self {
        Refusing { inner, left: AtomicUsize::default(), refused: AtomicUsize::default() }
    }

    /// The next ones.
    pub(crate) fn refuse(&self, count: usize) {
        self.left.store(count, Ordering::SeqCst);
    }

    /// How many were.
    pub(crate) fn refused(&self) -> usize {
        self.refused.load(Ordering::SeqCst)
    }
}

impl Store for Refusing {
    fn get(&self, key: &str) -> Result<(Option<Kv>, u64), StoreError> {
        self.inner.get(key)
    }

    fn list(&self, prefix: &str) -> Result<(Vec<Kv>, u64), StoreError> {
        self.inner.list(prefix)
    }

    fn index(&self) -> Result<Index, StoreError> {
        self.inner.index()
    }

    fn txn(&self, txn: Txn) -> Commit {
        if self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_err() {
            return self.inner.txn(txn);
        }
        self.refused.fetch_add(1, Ordering::SeqCst);
        let full = StoreError::Unavailable { reason: "the disk is full".into() };
        Commit::new(Box::pin(std::future::ready(Err(full))))
    }

    fn watch(&self, prefix: &str, from: u64) -> Watch {
        self.inner.watch(prefix, from)
    }

    fn compact(&self, rev: u64) -> Result<(), StoreError> {
        self.inner.compact(rev)
    }
}
