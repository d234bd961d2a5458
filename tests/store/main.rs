//! What a store keeps, whatever it is made of, and what the one on disk keeps through crashes.

mod conformance;
mod damage;
mod disk;
mod faults;
mod kill;
mod model;
mod salvage;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anweddol::store::{self, Cond, HistoryLimits, LocalStore, Op, Options, Store, StoreError, Txn, TxnResult};
use tempfile::TempDir;

/// A store, and what has to live as long.
struct Fixture {
    store: Arc<LocalStore>,
    _dir: Option<TempDir>,
}

/// Makes an empty store.
type Make = fn(HistoryLimits) -> Fixture;

fn memory(limits: HistoryLimits) -> Fixture {
    Fixture { store: store::memory_with(limits), _dir: None }
}

fn sled(history: HistoryLimits) -> Fixture {
    let dir = tempfile::tempdir().unwrap();
    let store = store::open(dir.path(), Options { history, ..Options::default() }).unwrap();
    Fixture { store, _dir: Some(dir) }
}

fn open(dir: &Path) -> Arc<LocalStore> {
    store::open(dir, Options::default()).unwrap()
}

/// Every file below a directory, with its content.
fn files(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        let (path, name) = (entry.path(), PathBuf::from(entry.file_name()));
        match entry.file_type().unwrap().is_dir() {
            true => found.extend(files(&path).into_iter().map(|(below, bytes)| (name.join(below), bytes))),
            false => drop(found.insert(name, fs::read(&path).unwrap())),
        }
    }
    found
}

fn put(key: &str, value: &str) -> Op {
    Op::Put { key: key.into(), value: value.to_owned().into() }
}

fn delete(key: &str) -> Op {
    Op::Delete { key: key.into() }
}

fn append(prefix: &str, value: &str) -> Op {
    Op::Append { prefix: prefix.into(), value: value.to_owned().into() }
}

fn number(prefix: &str, n: u64) -> String {
    format!("{prefix}{n:020}")
}

trait Write {
    /// Does it now, whatever is there, and returns the revision.
    fn write<const N: usize>(&self, ops: [Op; N]) -> u64;
    /// Does it now if the conditions hold.
    fn attempt(&self, conds: Vec<Cond>, ops: Vec<Op>) -> Result<TxnResult, StoreError>;
}

impl Write for LocalStore {
    fn write<const N: usize>(&self, ops: [Op; N]) -> u64 {
        match self.attempt(vec![], ops.into()) {
            Ok(TxnResult::Committed(rev)) => rev,
            other => panic!("not written: {other:?}"),
        }
    }

    fn attempt(&self, conds: Vec<Cond>, ops: Vec<Op>) -> Result<TxnResult, StoreError> {
        self.txn(Txn { conds, ops }).wait()
    }
}
