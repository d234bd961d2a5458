//! Where records live: a small etcd inside the process.
//!
//! One global revision grows by one with every transaction that changes something; a transaction compares any
//! number of keys and writes any number of keys, or nothing; a watch sees every change from a revision on, in
//! order, a revision never split. What is told (a revision, a change, an answer) is durable before it is told.
//!
//! ```text
//!  txn() ──► queue ──► committer (one thread) ──► Journal: memory | sled ──► published ──► get, list
//!                      conditions and writes      one durable write          snapshot      (a pointer)
//!                      of a whole round           for the whole round        + history ──► watch (pulls)
//! ```
//!
//! [`memory`] and [`open`] give the same engine with another journal below it: there is one set of rules. Records
//! are all in memory, and so is the history: after a start, everything up to the current revision counts as
//! compacted, because whoever watched before has to list again anyway.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;

use futures::Stream;
use futures::future::BoxFuture;

pub mod consistency;
pub mod document;
mod engine;
mod held;
mod index;
pub mod records;
#[cfg(test)]
pub(crate) mod refusing;
mod sled;
mod value;

#[cfg(test)]
pub(crate) use engine::{Content, Copies};
pub use engine::{HistoryLimits, LocalStore, MAX_KEY, MAX_OPS, MAX_TXN, MAX_VALUE, MAX_WISH, memory, memory_with};
pub(crate) use index::Indexed;
pub use index::{AccessTokens, Index, Shared};
pub use records::RecordError;
pub use sled::{Aside, OpenError, Options, Replacement, Salvage, install, open, salvage};
pub use value::Value;

/// A transaction's outcome as it will be: await it, or `wait` for it from a thread that may block.
pub struct Commit(BoxFuture<'static, Result<TxnResult, StoreError>>);

impl Commit {
    /// Wraps the store's answer.
    pub fn new(answer: BoxFuture<'static, Result<TxnResult, StoreError>>) -> Self {
        Commit(answer)
    }

    /// Blocks this thread until the outcome is known. Never from an async task.
    pub fn wait(self) -> Result<TxnResult, StoreError> {
        futures::executor::block_on(self.0)
    }
}

impl Future for Commit {
    type Output = Result<TxnResult, StoreError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut std::task::Context<'_>) -> std::task::Poll<Self::Output> {
        self.0.as_mut().poll(cx)
    }
}

/// A key's value and its history in two numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kv {
    /// Where.
    pub key: Arc<str>,
    /// What.
    pub value: Value,
    /// The revision that made the key.
    pub create_rev: u64,
    /// The revision that last wrote it.
    pub mod_rev: u64,
}

/// Everything that a store holds, outside of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contents {
    /// Its revision.
    pub revision: u64,
    /// Its records, in the order of their keys.
    pub records: Vec<Kv>,
    /// Its logs, by prefix, with the last number of each.
    pub logs: BTreeMap<String, u64>,
}

impl Contents {
    /// Everything in a store that has no logs yet.
    pub fn of(store: &dyn Store) -> Result<Contents, StoreError> {
        let (records, revision) = store.list("")?;
        Ok(Contents { revision, records, logs: BTreeMap::new() })
    }
}

/// What has to hold for a transaction to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cond {
    /// The key does not exist.
    Absent(String),
    /// The key was last written by this revision.
    ModRev(String, u64),
}

/// What a transaction writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Sets a key.
    Put {
        /// Where.
        key: String,
        /// What.
        value: Value,
    },
    /// Removes a key; removing what is not there changes nothing.
    Delete {
        /// Where.
        key: String,
    },
    /// Adds to the log below a prefix: the key becomes `prefix` and the next number, in 20 digits from 1 on,
    /// without a gap for ever, whatever is deleted.
    Append {
        /// The log's prefix, ending in `/`.
        prefix: String,
        /// What.
        value: Value,
    },
}

/// All conditions hold and all operations are done, or nothing happens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Txn {
    /// What has to hold.
    pub conds: Vec<Cond>,
    /// What is written.
    pub ops: Vec<Op>,
}

/// Is told of every durable write, by the thread that writes: it must not block.
pub trait Rounds: std::fmt::Debug + Send + Sync + 'static {
    /// So many transactions became durable together, in this time.
    fn written(&self, transactions: usize, took: std::time::Duration);
}

/// How a transaction ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TxnResult {
    /// Done and durable, as of this revision: a new one if anything changed.
    Committed(u64),
    /// A condition did not hold and nothing was done.
    Conflict {
        /// The revision that was compared against.
        rev: u64,
        /// What the conditions' keys hold, in the conditions' order.
        current: Vec<Option<Kv>>,
    },
}

/// One change of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// It was set.
    Put {
        /// To this.
        kv: Kv,
        /// From this.
        prev: Option<Kv>,
    },
    /// It was removed.
    Delete {
        /// What it held.
        prev: Kv,
    },
}

impl Change {
    /// The key that changed.
    pub fn key(&self) -> &str {
        match self {
            Change::Put { kv, .. } => &kv.key,
            Change::Delete { prev } => &prev.key,
        }
    }
}

/// All changes of one revision below the watched prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// The revision.
    pub rev: u64,
    /// Its changes.
    pub changes: Vec<Change>,
}

/// A stream of changes; it ends with an error, or with the store.
pub type Watch = Pin<Box<dyn Stream<Item = Result<Batch, StoreError>> + Send>>;

/// The contract, the same for every implementation (`tests/store` runs one suite over all of them).
///
/// - The first write makes revision 2. A transaction that changes nothing makes none. A put is a change even if the
///   value is the same, as in etcd.
/// - A key twice in one transaction's operations is [`StoreError::Invalid`].
/// - A watch from a revision at or below the compacted one gets [`StoreError::Compacted`], in the stream. A slow
///   reader can meet that too; it never meets a gap.
/// - Reads see what is durable and nothing else.
/// - Keys, values and transactions have limits ([`MAX_KEY`], [`MAX_VALUE`], [`MAX_TXN`], [`MAX_OPS`]); beyond them a
///   transaction is [`StoreError::Invalid`].
pub trait Store: Send + Sync + 'static {
    /// A key, and the revision of the whole store at that moment.
    fn get(&self, key: &str) -> Result<(Option<Kv>, u64), StoreError>;
    /// All keys below a prefix, in order, and the revision: one snapshot.
    fn list(&self, prefix: &str) -> Result<(Vec<Kv>, u64), StoreError>;
    /// All objects and access tokens, decoded: what [`Store::list`] would say now, for who needs a few of many. One
    /// decoded once and kept: a store that wraps another one passes this on.
    fn index(&self) -> Result<Index, StoreError>;
    /// Hands a transaction to the committer. It is on its way even if the answer is not waited for.
    fn txn(&self, txn: Txn) -> Commit;
    /// Every change below a prefix with a revision of at least `from`. `from` 0 means: from now on.
    fn watch(&self, prefix: &str, from: u64) -> Watch;
    /// Forgets changes up to and including a revision; records stay.
    fn compact(&self, rev: u64) -> Result<(), StoreError>;
}

/// Why the store does not do something.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// The history asked for is forgotten: list again.
    #[error("revision {rev} is compacted: list again and watch from the list's revision")]
    Compacted {
        /// Up to here.
        rev: u64,
    },
    /// The request makes no sense.
    #[error("invalid store request: {reason}")]
    Invalid {
        /// Why.
        reason: String,
    },
    /// It was not done, and cannot be now.
    #[error("the store takes no more writes: {reason}")]
    Unavailable {
        /// Why.
        reason: String,
    },
    /// It may have been done or not.
    #[error("the store cannot tell whether the write was done: {reason}")]
    Unknown {
        /// Why.
        reason: String,
    },
}
