//! The store against a model of a few lines, over random histories.

use std::collections::BTreeMap;

use anweddol::store::{Batch, Change, Kv, Value};
use futures::executor::block_on;
use futures::{FutureExt, StreamExt};
use proptest::prelude::*;

use super::*;

/// What the contract says, done in the simplest way.
#[derive(Default)]
struct Model {
    records: BTreeMap<String, Kv>,
    counters: BTreeMap<String, u64>,
    history: Vec<Batch>,
    compacted: u64,
}

impl Model {
    fn revision(&self) -> u64 {
        1 + self.history.len() as u64
    }

    fn txn(&mut self, txn: &Txn) -> Option<TxnResult> {
        let holds = |cond: &Cond| match cond {
            Cond::Absent(key) => !self.records.contains_key(key),
            Cond::ModRev(key, rev) => self.records.get(key).map(|kv| kv.mod_rev) == Some(*rev),
        };
        let given: Vec<&String> = txn.ops.iter().filter_map(given).collect();
        if (1..given.len()).any(|i| given[..i].contains(&given[i])) {
            return None;
        }
        if !txn.conds.iter().all(holds) {
            let current = txn.conds.iter().map(|cond| match cond {
                Cond::Absent(key) | Cond::ModRev(key, _) => self.records.get(key).cloned(),
            });
            return Some(TxnResult::Conflict { rev: self.revision(), current: current.collect() });
        }
        let mut counters = self.counters.clone();
        let mut writes: Vec<(String, Option<Value>)> = Vec::new();
        for op in &txn.ops {
            let (key, value) = match op {
                Op::Put { key, value } => (key.clone(), Some(value.clone())),
                Op::Delete { key } => (key.clone(), None),
                Op::Append { prefix, value } => {
                    let last = counters.entry(prefix.clone()).or_default();
                    *last += 1;
                    (number(prefix, *last), Some(value.clone()))
                }
            };
            if writes.iter().any(|(written, _)| *written == key) {
                return None;
            }
            writes.push((key, value));
        }
        let rev = self.revision() + 1;
        let mut changes = Vec::new();
        for (key, value) in writes {
            let prev = self.records.remove(&key);
            match (value, prev) {
                (Some(value), prev) => {
                    let create_rev = prev.as_ref().map_or(rev, |kv| kv.create_rev);
                    let kv = Kv { key: key.as_str().into(), value, create_rev, mod_rev: rev };
                    self.records.insert(key, kv.clone());
                    changes.push(Change::Put { kv, prev });
                }
                (None, Some(prev)) => changes.push(Change::Delete { prev }),
                (None, None) => {}
            }
        }
        self.counters = counters;
        if changes.is_empty() {
            return Some(TxnResult::Committed(rev - 1));
        }
        self.history.push(Batch { rev, changes });
        Some(TxnResult::Committed(rev))
    }
}

fn given(op: &Op) -> Option<&String> {
    match op {
        Op::Put { key, .. } | Op::Delete { key } => Some(key),
        Op::Append { .. } => None,
    }
}

#[derive(Clone, Debug)]
enum Step {
    /// Several transactions at once; the revisions of conditions count back from the current one.
    Txns(Vec<Txn>),
    /// Forget all but so many revisions.
    Compact(u64),
    Reopen,
}

fn key() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["a", "a/1", "a/2", "b/1", "b/2"]).prop_map(str::to_owned)
}

fn txn() -> impl Strategy<Value = Txn> {
    let value = prop::collection::vec(any::<u8>(), 0..4).prop_map(Value::from);
    let cond =
        prop_oneof![key().prop_map(Cond::Absent), (key(), 0..6u64).prop_map(|(key, back)| Cond::ModRev(key, back)),];
    let log = prop::sample::select(vec!["a/", "log/"]).prop_map(str::to_owned);
    let logged = (prop::sample::select(vec!["a/", "log/"]), 1..5u64).prop_map(|(prefix, n)| number(prefix, n));
    let op = prop_oneof![
        4 => (key(), value.clone()).prop_map(|(key, value)| Op::Put { key, value }),
        2 => key().prop_map(|key| Op::Delete { key }),
        1 => logged.prop_map(|key| Op::Delete { key }),
        2 => (log, value).prop_map(|(prefix, value)| Op::Append { prefix, value }),
    ];
    (prop::collection::vec(cond, 0..2), prop::collection::vec(op, 0..4)).prop_map(|(conds, ops)| Txn { conds, ops })
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        12 => prop::collection::vec(txn(), 1..4).prop_map(Step::Txns),
        1 => (0..4u64).prop_map(Step::Compact),
        1 => Just(Step::Reopen),
    ];
    prop::collection::vec(step, 1..30)
}

/// The watch's answer for the past, against the model's.
fn check_past(store: &LocalStore, model: &Model, prefix: &str, from: u64) {
    let mut watch = store.watch(prefix, from);
    if from <= model.compacted {
        let Some(Err(StoreError::Compacted { rev })) = block_on(watch.next()) else { panic!("not compacted") };
        assert_eq!(rev, model.compacted);
        return;
    }
    for batch in model.history.iter().filter(|batch| batch.rev >= from) {
        let mine = |change: &&Change| change.key().starts_with(prefix);
        let changes: Vec<Change> = batch.changes.iter().filter(mine).cloned().collect();
        if !changes.is_empty() {
            assert_eq!(block_on(watch.next()).unwrap().unwrap(), Batch { rev: batch.rev, changes });
        }
    }
    assert!(watch.next().now_or_never().is_none(), "more than there was");
}

fn check(store: &LocalStore, model: &Model) {
    let revision = model.revision();
    for prefix in ["", "a", "a/", "log/", "c"] {
        let below: Vec<Kv> = model.records.values().filter(|kv| kv.key.starts_with(prefix)).cloned().collect();
        assert_eq!(store.list(prefix).unwrap(), (below, revision));
    }
    for key in ["a", "a/1", "c"] {
        assert_eq!(store.get(key).unwrap(), (model.records.get(key).cloned(), revision));
    }
    for from in [1, revision.saturating_sub(3).max(1), revision, revision + 1] {
        check_past(store, model, "", from);
        check_past(store, model, "a/", from);
    }
}

/// Runs a history; `reopen` says how the store is closed and opened again, if it can be.
fn run(steps: Vec<Step>, mut store: Arc<LocalStore>, reopen: Option<&dyn Fn(Arc<LocalStore>) -> Arc<LocalStore>>) {
    let mut model = Model::default();
    for step in steps {
        match step {
            Step::Txns(mut txns) => {
                for cond in txns.iter_mut().flat_map(|txn| &mut txn.conds) {
                    if let Cond::ModRev(_, rev) = cond {
                        *rev = model.revision().saturating_sub(*rev);
                    }
                }
                let commits: Vec<_> = txns.iter().map(|txn| store.txn(txn.clone())).collect();
                for (txn, commit) in txns.iter().zip(commits) {
                    match (model.txn(txn), commit.wait()) {
                        (Some(expected), Ok(result)) => assert_eq!(result, expected),
                        (None, Err(StoreError::Invalid { .. })) => {}
                        (expected, result) => panic!("{result:?} instead of {expected:?}"),
                    }
                }
            }
            Step::Compact(keep) => {
                let rev = model.revision().saturating_sub(keep);
                store.compact(rev).unwrap();
                model.compacted = model.compacted.max(rev);
            }
            Step::Reopen => {
                if let Some(reopen) = reopen {
                    store = reopen(store);
                    model.compacted = if model.revision() == 1 { 0 } else { model.revision() };
                }
            }
        }
        check(&store, &model);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(128) })]

    #[test]
    fn memory_does_what_the_model_does(steps in steps()) {
        run(steps, store::memory(), None);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(32) })]

    #[test]
    fn sled_does_what_the_model_does_restarts_included(steps in steps()) {
        let dir = tempfile::tempdir().unwrap();
        let reopen = |store: Arc<LocalStore>| {
            drop(store);
            open(dir.path())
        };
        run(steps, open(dir.path()), Some(&reopen));
    }
}
