//! What a transaction does to the records. Pure: no thread, no disk.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use imbl::OrdMap;

use super::check::{DIGITS, invalid, twice};
use crate::store::{Batch, Change, Cond, Kv, Op, StoreError, Txn, TxnResult};

/// Everything the store holds at one revision. A clone costs a few pointers and shares the rest, so a round works on
/// a clone and a failed round is just dropped.
#[derive(Clone, Debug)]
pub(crate) struct Snapshot {
    /// The revision; 1 before the first write.
    pub(crate) revision: u64,
    /// The sum of the records' `mod_rev`, wrapping. Together with their number it tells a journal at the next start
    /// whether it got back what it was given: any lost or left-over write changes it.
    pub(crate) mod_rev_sum: u64,
    records: OrdMap<Arc<str>, Arc<Held>>,
    /// The last number of every log.
    counters: OrdMap<Arc<str>, u64>,
}

/// A record but for its key, which is kept once (`a_record_takes_little_more_than_its_bytes`).
#[derive(Debug)]
struct Held {
    value: Bytes,
    create_rev: u64,
    mod_rev: u64,
}

impl Held {
    fn kv(&self, key: &str) -> Kv {
        Kv { key: key.into(), value: self.value.clone(), create_rev: self.create_rev, mod_rev: self.mod_rev }
    }
}

/// What a round changes.
#[derive(Debug, Default)]
pub(crate) struct Round {
    /// Its revisions, in order and without a gap.
    pub(crate) batches: Vec<Arc<Batch>>,
    /// The logs it appends to, with their new last numbers.
    pub(crate) counters: Counters,
}

impl Snapshot {
    /// A store that was never written.
    pub(crate) fn new() -> Self {
        Snapshot { revision: 1, mod_rev_sum: 0, records: OrdMap::new(), counters: OrdMap::new() }
    }

    /// How many records there are.
    pub(crate) fn len(&self) -> usize {
        self.records.len()
    }

    /// One record.
    pub(crate) fn get(&self, key: &str) -> Option<Kv> {
        self.records.get(key).map(|held| held.kv(key))
    }

    /// All records whose key begins with `prefix`, in order.
    pub(crate) fn below<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = Kv> + 'a {
        let (from, to) = (std::ops::Bound::Included(prefix), std::ops::Bound::Unbounded);
        let records = self.records.range::<_, str>((from, to));
        records.take_while(move |(key, _)| key.starts_with(prefix)).map(|(key, held)| held.kv(key))
    }

    /// Puts a record in place and returns the one that was there.
    pub(crate) fn put(&mut self, kv: &Kv) -> Option<Kv> {
        let Kv { key, value, create_rev, mod_rev } = kv;
        self.mod_rev_sum = self.mod_rev_sum.wrapping_add(*mod_rev);
        let held = Held { value: value.clone(), create_rev: *create_rev, mod_rev: *mod_rev };
        let prev = self.records.insert(key.as_str().into(), Arc::new(held));
        self.forget(key, prev)
    }

    fn remove(&mut self, key: &str) -> Option<Kv> {
        let prev = self.records.remove(key);
        self.forget(key, prev)
    }

    fn forget(&mut self, key: &str, prev: Option<Arc<Held>>) -> Option<Kv> {
        let prev = prev?;
        self.mod_rev_sum = self.mod_rev_sum.wrapping_sub(prev.mod_rev);
        Some(prev.kv(key))
    }

    /// Sets a log's last number.
    pub(crate) fn count(&mut self, prefix: Arc<str>, last: u64) {
        self.counters.insert(prefix, last);
    }

    /// Does a transaction, or nothing at all.
    pub(super) fn apply(&mut self, txn: Txn, round: &mut Round) -> Result<TxnResult, StoreError> {
        if !txn.conds.iter().all(|cond| self.holds(cond)) {
            let current = txn.conds.iter().map(|cond| {
                let (Cond::Absent(key) | Cond::ModRev(key, _)) = cond;
                self.get(key)
            });
            return Ok(TxnResult::Conflict { rev: self.revision, current: current.collect() });
        }
        let (writes, counters) = self.resolve(txn.ops)?;

        let rev = self.revision + 1;
        // They are kept for a while: no more room than they need.
        let mut changes = Vec::with_capacity(writes.len());
        changes.extend(writes.into_iter().filter_map(|(key, value)| self.write(rev, key, value)));
        if changes.is_empty() {
            return Ok(TxnResult::Committed(self.revision));
        }
        for (prefix, last) in counters {
            self.count(Arc::clone(&prefix), last);
            round.counters.insert(prefix, last);
        }
        self.revision = rev;
        round.batches.push(Arc::new(Batch { rev, changes }));
        Ok(TxnResult::Committed(rev))
    }

    fn holds(&self, cond: &Cond) -> bool {
        match cond {
            Cond::Absent(key) => !self.records.contains_key(&**key),
            Cond::ModRev(key, rev) => self.records.get(&**key).is_some_and(|held| held.mod_rev == *rev),
        }
    }

    /// Gives appended values their keys. Nothing is changed yet, so that what fails here has done nothing.
    fn resolve(&self, ops: Vec<Op>) -> Result<(Vec<Write>, Counters), StoreError> {
        let mut counters = Counters::new();
        let mut appended = BTreeSet::new();
        let mut writes = Vec::with_capacity(ops.len());
        for op in ops {
            writes.push(match op {
                Op::Put { key, value } => (key, Some(value)),
                Op::Delete { key } => (key, None),
                Op::Append { prefix, value } => {
                    let prefix: Arc<str> = prefix.into();
                    let before = counters.get(&prefix).or_else(|| self.counters.get(&*prefix));
                    let number = before.copied().unwrap_or(0) + 1;
                    let key = format!("{prefix}{number:0DIGITS$}");
                    if self.records.contains_key(&*key) {
                        return Err(invalid(format!("'{key}' was not written by an append but is in its place")));
                    }
                    counters.insert(prefix, number);
                    appended.insert(key.clone());
                    (key, Some(value))
                }
            });
        }
        // Keys that were given are distinct already; only an appended one can coincide with one of them.
        let mut keys = BTreeSet::new();
        if !appended.is_empty()
            && let Some((key, _)) = writes.iter().find(|(key, _)| !keys.insert(key.as_str()))
        {
            return Err(twice(key));
        }
        Ok((writes, counters))
    }

    fn write(&mut self, rev: u64, key: String, value: Option<Vec<u8>>) -> Option<Change> {
        match value {
            Some(value) => {
                let create_rev = self.records.get(&*key).map_or(rev, |prev| prev.create_rev);
                // Without the room that it was written in: half of all memory would be that.
                let value = Bytes::from(value.into_boxed_slice());
                let kv = Kv { key, value, create_rev, mod_rev: rev };
                let prev = self.put(&kv);
                Some(Change::Put { kv, prev })
            }
            None => self.remove(&key).map(|prev| Change::Delete { prev }),
        }
    }
}

/// Logs and their last numbers.
type Counters = BTreeMap<Arc<str>, u64>;
/// A key and what it shall hold.
type Write = (String, Option<Vec<u8>>);
