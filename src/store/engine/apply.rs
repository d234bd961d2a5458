//! What a transaction does to the records. Pure: no thread, no disk.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use imbl::OrdMap;

use super::check::{DIGITS, invalid, twice};
use crate::store::held::Held;
use crate::store::value::Original;
use crate::store::{Batch, Change, Cond, Kv, Op, StoreError, Txn, TxnResult, Value};

/// Everything the store holds at one revision. A clone costs a few pointers and shares the rest, so a round works on
/// a clone and a failed round is just dropped.
#[derive(Clone, Debug)]
pub(crate) struct Snapshot {
    /// The revision; 1 before the first write.
    pub(crate) revision: u64,
    /// The sum of the records' `mod_rev`, wrapping. Together with their number it tells a journal at the next start
    /// whether it got back what it was given: any lost or left-over write changes it.
    pub(crate) mod_rev_sum: u64,
    records: OrdMap<Arc<str>, Held>,
    /// The last number of every log.
    counters: OrdMap<Arc<str>, u64>,
}

/// What a round changes.
#[derive(Debug, Default)]
pub(crate) struct Round {
    /// Its revisions, in order and without a gap.
    pub(crate) batches: Vec<Arc<Batch>>,
    /// The logs it appends to, with their new last numbers.
    pub(crate) counters: Counters,
    /// What its records were written from, in their order.
    pub(in crate::store) originals: Vec<Arc<Original>>,
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
        self.records.get_key_value(key).map(|(key, held)| held.kv(key))
    }

    /// All records whose key begins with `prefix`, in order.
    pub(crate) fn below<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = Kv> + 'a {
        let (from, to) = (std::ops::Bound::Included(prefix), std::ops::Bound::Unbounded);
        let records = self.records.range::<_, str>((from, to));
        records.take_while(move |(key, _)| key.starts_with(prefix)).map(|(key, held)| held.kv(key))
    }

    /// Puts a record in place, whatever was there.
    pub(in crate::store) fn put(&mut self, key: Arc<str>, held: Held) {
        self.mod_rev_sum = self.mod_rev_sum.wrapping_add(held.mod_rev());
        if let Some(prev) = self.records.insert(key, held) {
            self.mod_rev_sum = self.mod_rev_sum.wrapping_sub(prev.mod_rev());
        }
    }

    fn remove(&mut self, key: &str) -> Option<Kv> {
        let (key, prev) = self.records.remove_with_key(key)?;
        self.mod_rev_sum = self.mod_rev_sum.wrapping_sub(prev.mod_rev());
        Some(prev.kv(&key))
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
        let originals = &mut round.originals;
        changes.extend(writes.into_iter().filter_map(|write| self.write(rev, write, originals)));
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
            Cond::ModRev(key, rev) => self.records.get(&**key).is_some_and(|held| held.mod_rev() == *rev),
        }
    }

    /// Gives appended values their keys. Nothing is changed yet, so that what fails here has done nothing.
    fn resolve(&self, ops: Vec<Op>) -> Result<(Vec<Write>, Counters), StoreError> {
        let mut counters = Counters::new();
        let mut writes = Vec::with_capacity(ops.len());
        for op in ops {
            writes.push(match op {
                Op::Put { key, value } => Write::Set { key, value },
                Op::Delete { key } => Write::Remove { key },
                Op::Append { prefix, value } => {
                    let prefix: Arc<str> = prefix.into();
                    let before = counters.get(&prefix).or_else(|| self.counters.get(&*prefix));
                    let number = before.copied().unwrap_or(0) + 1;
                    let key = format!("{prefix}{number:0DIGITS$}");
                    if self.records.contains_key(&*key) {
                        return Err(invalid(format!("'{key}' was not written by an append but is in its place")));
                    }
                    counters.insert(prefix, number);
                    Write::Add { key: key.into(), value }
                }
            });
        }
        // Keys that were given are distinct already; only an appended one can coincide with one of them.
        let mut keys = BTreeSet::new();
        let mut logged =
            writes.iter().map(Write::key).filter(|key| counters.keys().any(|prefix| key.starts_with(&**prefix)));
        match logged.find(|key| !keys.insert(*key)) {
            Some(key) => Err(twice(key)),
            None => Ok((writes, counters)),
        }
    }

    fn write(&mut self, rev: u64, write: Write, originals: &mut Vec<Arc<Original>>) -> Option<Change> {
        let (key, mut value) = match write {
            Write::Add { key, value } => (key, value),
            Write::Remove { key } => return self.remove(&key).map(|prev| Change::Delete { prev }),
            Write::Set { key, mut value } => match self.records.get_key_value_mut(&*key) {
                None => (key.into(), value),
                // Under the key that is there already, so that it is there once.
                Some((key, held)) => {
                    originals.extend(value.let_go());
                    let prev = held.kv(key);
                    *held = Held::new(&mut value, prev.create_rev, rev);
                    self.mod_rev_sum = self.mod_rev_sum.wrapping_add(rev).wrapping_sub(prev.mod_rev);
                    let kv = Kv { key: Arc::clone(key), value, create_rev: prev.create_rev, mod_rev: rev };
                    return Some(Change::Put { kv, prev: Some(prev) });
                }
            },
        };
        originals.extend(value.let_go());
        self.put(Arc::clone(&key), Held::new(&mut value, rev, rev));
        Some(Change::Put { kv: Kv { key, value, create_rev: rev, mod_rev: rev }, prev: None })
    }
}

/// Logs and their last numbers.
type Counters = BTreeMap<Arc<str>, u64>;

/// What a key shall hold.
enum Write {
    /// This, whether it is there or not.
    Set { key: String, value: Value },
    /// This; it is not there.
    Add { key: Arc<str>, value: Value },
    /// Nothing.
    Remove { key: String },
}

impl Write {
    fn key(&self) -> &str {
        match self {
            Write::Set { key, .. } | Write::Remove { key } => key,
            Write::Add { key, .. } => key,
        }
    }
}
