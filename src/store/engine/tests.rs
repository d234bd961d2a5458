use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};

use futures::StreamExt;
use futures::executor::block_on;

use super::*;
use crate::store::{Cond, Op, TxnResult, Value, held};

/// A disk in the test's hand: every write waits for a word, and does what it says.
struct Held {
    writing: Sender<usize>,
    word: Receiver<Result<(), JournalError>>,
    full: Arc<AtomicUsize>,
}

struct Hand {
    /// Tells the number of revisions in a write that has begun.
    writing: Receiver<usize>,
    word: Sender<Result<(), JournalError>>,
    /// How many rounds shall find the disk full.
    full: Arc<AtomicUsize>,
}

impl Journal for Held {
    fn ready(&mut self) -> Result<(), JournalError> {
        let less = |full: usize| full.checked_sub(1);
        let was_full = self.full.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less).is_ok();
        if was_full { Err("the disk is full".into()) } else { Ok(()) }
    }

    fn write(&mut self, _: &Snapshot, round: &Round) -> Result<(), JournalError> {
        let _ = self.writing.send(round.batches.len());
        self.word.recv().unwrap_or(Ok(()))
    }
}

fn held() -> (Arc<LocalStore>, Hand) {
    let (began, writing) = channel();
    let (word, hears) = channel();
    let full = Arc::new(AtomicUsize::new(0));
    let journal = Held { writing: began, word: hears, full: Arc::clone(&full) };
    let store = LocalStore::start(journal, Snapshot::new(), HistoryLimits::default(), Failure::default()).unwrap();
    (store, Hand { writing, word, full })
}

fn put(key: &str) -> Txn {
    Txn { conds: vec![], ops: vec![Op::Put { key: key.into(), value: b"v".to_vec().into() }] }
}

#[test]
fn nobody_is_told_before_it_is_durable() {
    let (store, hand) = held();
    let mut watch = store.watch("", 0);
    let commit = store.txn(put("a"));
    let conflict = store.txn(Txn { conds: vec![Cond::Absent("a".into())], ops: vec![] });
    hand.writing.recv().unwrap();

    assert_eq!(store.get("a").unwrap(), (None, 1));
    assert_eq!(store.list("").unwrap(), (vec![], 1));
    assert!(watch.next().now_or_never().is_none());
    let mut both = futures::future::join(commit, conflict).boxed();
    assert!(both.as_mut().now_or_never().is_none());

    hand.word.send(Ok(())).unwrap();
    let (commit, conflict) = block_on(both);
    assert_eq!(commit.unwrap(), TxnResult::Committed(2));
    assert!(matches!(conflict.unwrap(), TxnResult::Conflict { rev: 2, .. }));
    assert_eq!(store.get("a").unwrap().1, 2);
    assert_eq!(block_on(watch.next()).unwrap().unwrap().rev, 2);
}

#[test]
fn what_waits_while_the_disk_works_becomes_one_write() {
    let (store, hand) = held();
    let first = store.txn(put("first"));
    assert_eq!(hand.writing.recv().unwrap(), 1);
    let rest: Vec<Commit> = (0..500).map(|i| store.txn(put(&format!("k{i}")))).collect();
    hand.word.send(Ok(())).unwrap();
    first.wait().unwrap();
    assert_eq!(hand.writing.recv().unwrap(), 500);
    hand.word.send(Ok(())).unwrap();

    let revisions: Vec<TxnResult> = rest.into_iter().map(|commit| commit.wait().unwrap()).collect();
    let expected: Vec<TxnResult> = (3..503).map(TxnResult::Committed).collect();
    assert_eq!(revisions, expected, "each in its own revision, in the order of the calls");
}

#[test]
fn a_failed_write_is_unknown_and_later_ones_are_refused_while_reads_go_on() {
    let (store, hand) = held();
    let durable = store.txn(put("a"));
    hand.word.send(Ok(())).unwrap();
    durable.wait().unwrap();
    hand.writing.recv().unwrap();

    let mut watch = store.watch("", 0);
    let failing = store.txn(put("b"));
    hand.writing.recv().unwrap();
    let queued = store.txn(put("c"));
    hand.word.send(Err("the disk is on fire".into())).unwrap();
    assert!(matches!(failing.wait(), Err(StoreError::Unknown { reason }) if reason.contains("on fire")));
    for refused in [queued, store.txn(put("d")), store.txn(Txn::default())] {
        assert!(matches!(refused.wait(), Err(StoreError::Unavailable { reason }) if reason.contains("on fire")));
    }

    assert_eq!(store.list("").unwrap().1, 2);
    assert_eq!(store.get("b").unwrap(), (None, 2));
    assert!(watch.next().now_or_never().is_none());
    assert!(hand.writing.try_recv().is_err(), "nothing was tried again");
    assert_eq!(block_on(store.failed()), "the disk is on fire");
}

#[test]
fn a_full_disk_refuses_writes_until_there_is_room() {
    let (store, hand) = held();
    hand.full.store(1, Ordering::SeqCst);
    assert!(matches!(store.txn(put("a")).wait(), Err(StoreError::Unavailable { reason }) if reason.contains("full")));
    assert!(hand.writing.try_recv().is_err(), "nothing was tried");
    hand.word.send(Ok(())).unwrap();
    assert_eq!(store.txn(put("a")).wait().unwrap(), TxnResult::Committed(2));
    assert_eq!(store.failed().now_or_never(), None, "a store that only waited for room has not failed");
}

#[test]
fn closing_finishes_what_is_queued() {
    let (store, hand) = held();
    let commits: Vec<Commit> = (0..10).map(|i| store.txn(put(&format!("k{i}")))).collect();
    drop(hand);
    store.close();
    for commit in commits {
        commit.now_or_never().expect("answered before close returned").unwrap();
    }
    assert_eq!(store.list("").unwrap().0.len(), 10);
    assert_eq!(store.failed().now_or_never(), None, "closing is no failure");
}

#[test]
fn a_committer_that_dies_leaves_nobody_waiting() {
    struct Panics;
    impl Journal for Panics {
        fn ready(&mut self) -> Result<(), JournalError> {
            Ok(())
        }
        fn write(&mut self, _: &Snapshot, _: &Round) -> Result<(), JournalError> {
            panic!("on purpose")
        }
    }
    let store = LocalStore::start(Panics, Snapshot::new(), HistoryLimits::default(), Failure::default()).unwrap();
    let mut watch = store.watch("", 0);
    assert!(matches!(store.txn(put("a")).wait(), Err(StoreError::Unknown { .. })));
    assert!(block_on(watch.next()).is_none());
    assert_eq!(block_on(store.failed()), "its committer panicked");
    assert!(matches!(store.txn(put("a")).wait(), Err(StoreError::Unavailable { .. } | StoreError::Unknown { .. })));
    assert_eq!(store.get("a").unwrap(), (None, 1));
}

#[test]
fn a_value_stays_in_the_memory_that_it_came_in_unless_another_record_has_it() {
    let (mut state, mut round) = (Snapshot::new(), Round::default());
    let mut put = |state: &mut Snapshot, key: &str, value: Value| {
        let txn = Txn { conds: vec![], ops: vec![Op::Put { key: key.into(), value }] };
        state.apply(txn, &mut round).unwrap();
        state.get(key).unwrap()
    };
    // One that is new, and one in its place.
    for rev in [2, 3] {
        let value = Value::from([7; 100]);
        let at = value.as_ptr();
        let written = put(&mut state, "a", value);
        assert_eq!((written.value.as_ptr(), written.mod_rev), (at, rev));
    }
    let first = state.get("a").unwrap();
    let second = put(&mut state, "b", first.value.clone());
    assert_eq!((second.mod_rev, &second.value), (4, &first.value));
    assert_eq!(state.get("a").unwrap(), first);
}

#[test]
fn a_record_takes_little_more_than_its_bytes() {
    let key = |number: u32| -> Arc<str> { format!("registry/containers/default/{number:036}").into() };
    let (count, bytes) = (1_000, key(0).len() + 1_000);
    let (state, all) = crate::allocations::held(|| {
        let mut state = Snapshot::new();
        (0..count).for_each(|number| state.put(key(number), held::Held::new(&mut [0; 1_000].into(), 2, 2)));
        state
    });
    let (count, beyond) = (state.len(), all / state.len() - bytes);
    assert!(count == 1_000 && beyond < 180, "{beyond} bytes beyond those of a record");
}
