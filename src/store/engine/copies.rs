//! A store whose whole content can be taken out and put back, at the cost of a pointer: for a search that tries
//! everything that can come next, from wherever it came to. The rules of transactions are the engine's own.

use std::sync::{Mutex, PoisonError};

use super::apply::{Round, Snapshot};
use super::check::check;
use crate::store::{Commit, Index, Kv, Store, StoreError, Txn, TxnResult, Watch};

/// It tells nobody of changes: who looks does so when the search says so.
pub(crate) struct Copies(Mutex<Snapshot>);

impl Copies {
    pub(crate) fn new() -> Self {
        Copies(Mutex::new(Snapshot::new()))
    }

    /// Everything that it holds.
    pub(crate) fn take(&self) -> Snapshot {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Holds that from now on.
    pub(crate) fn put(&self, content: Snapshot) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = content;
    }

    /// A transaction, done or not when this returns.
    pub(crate) fn apply(&self, txn: Txn) -> Result<TxnResult, StoreError> {
        check(&txn)?;
        self.0.lock().unwrap_or_else(PoisonError::into_inner).apply(txn, &mut Round::default())
    }
}

impl Store for Copies {
    fn get(&self, key: &str) -> Result<(Option<Kv>, u64), StoreError> {
        let state = self.take();
        Ok((state.get(key), state.revision))
    }

    fn list(&self, prefix: &str) -> Result<(Vec<Kv>, u64), StoreError> {
        let state = self.take();
        Ok((state.below(prefix).collect(), state.revision))
    }

    fn index(&self) -> Result<Index, StoreError> {
        let state = self.take();
        Ok(Index::of(state.below(""), state.revision))
    }

    fn txn(&self, txn: Txn) -> Commit {
        Commit::new(Box::pin(std::future::ready(self.apply(txn))))
    }

    fn watch(&self, _: &str, _: u64) -> Watch {
        Box::pin(futures::stream::pending())
    }

    fn compact(&self, _: u64) -> Result<(), StoreError> {
        Ok(())
    }
}
