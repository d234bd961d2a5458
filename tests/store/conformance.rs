//! The contract, one suite over every store.

use std::collections::BTreeMap;
use std::thread;

use anweddol::store::{Batch, Change, MAX_KEY, MAX_OPS, MAX_TXN, MAX_VALUE, Watch};
use futures::executor::block_on;
use futures::{FutureExt, StreamExt};

use super::*;

/// Runs every named rule over both stores.
macro_rules! over_both {
    ($($rule:ident),* $(,)?) => {
        mod memory { $(#[test] fn $rule() { super::$rule(crate::memory); })* }
        mod sled { $(#[test] fn $rule() { super::$rule(crate::sled); })* }
    };
}

over_both![
    the_first_write_makes_revision_2,
    what_changes_nothing_makes_no_revision,
    a_put_of_the_same_value_is_a_change,
    a_key_twice_in_one_transaction_is_invalid,
    what_exceeds_a_limit_is_invalid,
    a_transaction_is_done_only_if_all_conditions_hold,
    a_conflict_tells_what_every_key_compared_holds,
    a_record_remembers_its_first_and_its_last_revision,
    a_list_is_in_order_and_below_its_prefix,
    a_list_never_shows_half_a_transaction,
    a_watch_from_the_past_sees_everything_since,
    a_watch_from_0_sees_what_comes,
    a_watch_from_the_future_waits_for_it,
    a_watch_sees_its_prefix_only_and_revisions_whole,
    every_watch_sees_the_same,
    what_a_watch_tells_can_be_read,
    compaction_is_told_in_the_stream,
    compaction_keeps_records_and_later_changes,
    a_slow_reader_meets_compaction_and_never_a_gap,
    appends_are_contiguous_under_concurrency,
    appends_never_use_a_number_again,
    an_append_does_not_overwrite,
    sixty_four_callers_are_all_answered,
    one_of_many_rivals_wins,
    a_closed_store_takes_no_writes_and_ends_watches,
];

fn plain(make: Make) -> Fixture {
    make(HistoryLimits::default())
}

fn next(watch: &mut Watch) -> Result<Batch, StoreError> {
    block_on(watch.next()).expect("the watch goes on")
}

/// So many transactions, one after the other.
fn write_all<const N: usize>(store: &LocalStore, count: usize, ops: impl Fn(usize) -> [Op; N]) {
    for i in 0..count {
        store.write(ops(i));
    }
}

/// Keys that a revision changed; deleted ones begin with `-`.
fn keys(batch: &Batch) -> Vec<String> {
    let key = |change: &Change| match change {
        Change::Put { kv, .. } => kv.key.to_string(),
        Change::Delete { prev } => format!("-{}", prev.key),
    };
    batch.changes.iter().map(key).collect()
}

fn the_first_write_makes_revision_2(make: Make) {
    let Fixture { store, _dir } = plain(make);
    assert_eq!(store.get("a").unwrap(), (None, 1));
    assert_eq!(store.write([put("a", "1")]), 2);
    assert_eq!(store.get("a").unwrap().1, 2);
    assert_eq!(store.write([put("b", "1"), put("c", "1")]), 3);
}

fn what_changes_nothing_makes_no_revision(make: Make) {
    let Fixture { store, _dir } = plain(make);
    store.write([put("a", "1")]);
    let mut watch = store.watch("", 0);
    assert_eq!(store.write([delete("gone")]), 2);
    assert_eq!(store.write([]), 2);
    assert_eq!(store.attempt(vec![Cond::Absent("b".into())], vec![]).unwrap(), TxnResult::Committed(2));
    assert!(matches!(store.attempt(vec![Cond::Absent("a".into())], vec![delete("a")]), Ok(TxnResult::Conflict { .. })));
    assert!(watch.next().now_or_never().is_none());
    assert_eq!(store.write([delete("gone"), put("b", "1")]), 3);
    assert_eq!(keys(&next(&mut watch).unwrap()), ["b"]);
}

fn a_put_of_the_same_value_is_a_change(make: Make) {
    let Fixture { store, _dir } = plain(make);
    store.write([put("a", "1")]);
    assert_eq!(store.write([put("a", "1")]), 3);
    assert_eq!(store.get("a").unwrap().0.unwrap().mod_rev, 3);
}

fn a_key_twice_in_one_transaction_is_invalid(make: Make) {
    let Fixture { store, _dir } = plain(make);
    for ops in [
        vec![put("a", "1"), put("a", "2")],
        vec![put("a", "1"), delete("a")],
        vec![delete("a"), delete("a")],
        vec![put("b", "1"), append("log/", "1"), put(&number("log/", 1), "2")],
    ] {
        assert!(matches!(store.attempt(vec![], ops), Err(StoreError::Invalid { .. })));
    }
    assert_eq!(store.list("").unwrap(), (vec![], 1));
}

fn what_exceeds_a_limit_is_invalid(make: Make) {
    let Fixture { store, _dir } = plain(make);
    let value = |bytes: usize| "v".repeat(bytes);
    let key = |bytes: usize| "k".repeat(bytes);
    let log = |bytes: usize| format!("{}/", key(bytes - 1));
    let many = |count: usize, bytes: usize| (0..count).map(move |i| put(&format!("{i:04}"), &"v".repeat(bytes)));
    let fits = [
        vec![put("a", &value(MAX_VALUE))],
        vec![put(&key(MAX_KEY), "")],
        vec![append(&log(MAX_KEY - 20), "")],
        many(MAX_OPS, 1).collect(),
        many(16, MAX_TXN / 16 - 4).collect(),
    ];
    for ops in fits {
        assert!(matches!(store.attempt(vec![], ops), Ok(TxnResult::Committed(_))));
    }
    let (before, rev) = store.list("").unwrap();
    let exceeds = [
        vec![put("a", &value(MAX_VALUE + 1))],
        vec![append("a/", &value(MAX_VALUE + 1))],
        vec![put(&key(MAX_KEY + 1), "")],
        vec![delete(&key(MAX_KEY + 1))],
        vec![append(&log(MAX_KEY - 19), "")],
        many(MAX_OPS + 1, 1).collect(),
        many(16, MAX_TXN / 16 - 3).collect(),
        vec![put("", "1")],
        vec![append("log", "1")],
    ];
    for ops in exceeds {
        assert!(matches!(store.attempt(vec![], ops), Err(StoreError::Invalid { .. })));
    }
    let conds = vec![Cond::Absent("a".into()); MAX_OPS + 1];
    assert!(matches!(store.attempt(conds, vec![]), Err(StoreError::Invalid { .. })));
    assert!(matches!(store.attempt(vec![Cond::Absent(key(MAX_KEY + 1))], vec![]), Err(StoreError::Invalid { .. })));
    assert_eq!(store.list("").unwrap(), (before, rev));
}

fn a_transaction_is_done_only_if_all_conditions_hold(make: Make) {
    let Fixture { store, _dir } = plain(make);
    let rev = store.write([put("a", "1")]);
    let (absent, at) = (|key: &str| Cond::Absent(key.into()), |key: &str, rev| Cond::ModRev(key.into(), rev));
    for conds in [
        vec![absent("a")],
        vec![at("a", rev - 1)],
        vec![at("a", 0)],
        vec![at("b", 0)],
        vec![at("b", rev)],
        vec![at("a", rev), absent("b"), absent("a")],
    ] {
        let result = store.attempt(conds, vec![put("x", "1")]);
        assert!(matches!(result, Ok(TxnResult::Conflict { .. })), "{result:?}");
    }
    assert_eq!(store.get("x").unwrap(), (None, rev));
    let result = store.attempt(vec![at("a", rev), absent("b"), absent("x")], vec![put("x", "1"), delete("a")]);
    assert_eq!(result.unwrap(), TxnResult::Committed(rev + 1));
    assert_eq!(store.list("").unwrap().0.len(), 1);
}

fn a_conflict_tells_what_every_key_compared_holds(make: Make) {
    let Fixture { store, _dir } = plain(make);
    store.write([put("a", "1")]);
    store.write([put("b", "2")]);
    let conds = ["b", "c", "a"].map(|key| Cond::ModRev(key.into(), 2));
    let Ok(TxnResult::Conflict { rev, current }) = store.attempt(conds.into(), vec![]) else { panic!("no conflict") };
    assert_eq!(rev, 3);
    assert_eq!(current, ["b", "c", "a"].map(|key| store.get(key).unwrap().0));
}

fn a_record_remembers_its_first_and_its_last_revision(make: Make) {
    let Fixture { store, _dir } = plain(make);
    let revisions = || store.get("a").unwrap().0.map(|kv| (kv.create_rev, kv.mod_rev));
    store.write([put("a", "1")]);
    assert_eq!(revisions(), Some((2, 2)));
    store.write([put("b", "1")]);
    store.write([put("a", "2")]);
    assert_eq!(revisions(), Some((2, 4)));
    store.write([delete("a")]);
    assert_eq!(revisions(), None);
    store.write([put("a", "3")]);
    assert_eq!(revisions(), Some((6, 6)));
}

fn a_list_is_in_order_and_below_its_prefix(make: Make) {
    let Fixture { store, _dir } = plain(make);
    for key in ["b/1", "a/2", "a0", "a/1", "a/10", "a", "ä/1", "z"] {
        store.write([put(key, key)]);
    }
    let keys =
        |prefix: &str| store.list(prefix).unwrap().0.into_iter().map(|kv| kv.key.to_string()).collect::<Vec<_>>();
    assert_eq!(keys("a/"), ["a/1", "a/10", "a/2"]);
    assert_eq!(keys("ä"), ["ä/1"]);
    assert_eq!(keys(""), ["a", "a/1", "a/10", "a/2", "a0", "b/1", "z", "ä/1"]);
    assert_eq!(keys("zz"), [""; 0]);
}

fn a_list_never_shows_half_a_transaction(make: Make) {
    let Fixture { store, _dir } = plain(make);
    let writer = Arc::clone(&store);
    let writer = thread::spawn(move || {
        for i in 0..300 {
            writer.write([put("a", &i.to_string()), put("b", &i.to_string())]);
        }
    });
    let mut last = 0;
    loop {
        let done = writer.is_finished();
        let (kvs, rev) = store.list("").unwrap();
        assert!(kvs.windows(2).all(|pair| pair[0].value == pair[1].value && pair[0].mod_rev == pair[1].mod_rev));
        assert!(kvs.iter().all(|kv| kv.mod_rev == rev) && rev >= last, "the list is of another revision than it says");
        last = rev;
        if done {
            break;
        }
    }
    assert_eq!(last, 301);
    writer.join().unwrap();
}

fn a_watch_from_the_past_sees_everything_since(make: Make) {
    let Fixture { store, _dir } = plain(make);
    for i in 0..5 {
        store.write([put("a", &i.to_string())]);
    }
    store.write([delete("a")]);
    for from in [1, 2, 4, 7] {
        let mut watch = store.watch("", from);
        for rev in from.max(2)..=7 {
            assert_eq!(next(&mut watch).unwrap().rev, rev);
        }
        assert!(watch.next().now_or_never().is_none());
    }
    let mut watch = store.watch("", 3);
    let Change::Put { kv, prev } = &next(&mut watch).unwrap().changes[0] else { panic!("not a put") };
    assert_eq!((&kv.value[..], &prev.as_ref().unwrap().value[..]), (&b"1"[..], &b"0"[..]));
    let Change::Delete { prev } = &next(&mut store.watch("", 7)).unwrap().changes[0] else { panic!("not a delete") };
    assert_eq!((&prev.value[..], prev.create_rev, prev.mod_rev), (&b"4"[..], 2, 6));
}

fn a_watch_from_0_sees_what_comes(make: Make) {
    let Fixture { store, _dir } = plain(make);
    store.write([put("a", "1")]);
    let mut watch = store.watch("", 0);
    assert!(watch.next().now_or_never().is_none());
    store.write([put("b", "1")]);
    let batch = next(&mut watch).unwrap();
    assert_eq!((batch.rev, keys(&batch)), (3, vec!["b".to_owned()]));
}

fn a_watch_from_the_future_waits_for_it(make: Make) {
    let Fixture { store, _dir } = plain(make);
    let mut watch = store.watch("", 5);
    for _ in 2..=4 {
        store.write([put("a", "1")]);
        assert!(watch.next().now_or_never().is_none());
    }
    store.write([put("a", "1")]);
    assert_eq!(next(&mut watch).unwrap().rev, 5);
}

fn a_watch_sees_its_prefix_only_and_revisions_whole(make: Make) {
    let Fixture { store, _dir } = plain(make);
    let mut watch = store.watch("a/", 0);
    store.write([put("b/1", "1")]);
    store.write([put("a/1", "1"), put("b/1", "2"), put("a/2", "1"), append("a/log/", "1")]);
    store.write([put("a", "1"), put("a0", "1")]);
    store.write([put("a/2", "2"), delete("a/1"), delete("b/1")]);
    let batch = next(&mut watch).unwrap();
    assert_eq!((batch.rev, keys(&batch)), (3, vec!["a/1".into(), "a/2".into(), number("a/log/", 1)]));
    let batch = next(&mut watch).unwrap();
    assert_eq!((batch.rev, keys(&batch)), (5, vec!["a/2".into(), "-a/1".into()]));
}

fn every_watch_sees_the_same(make: Make) {
    let Fixture { store, _dir } = plain(make);
    let readers: Vec<_> = (0..4)
        .map(|_| {
            let watch = store.watch("", 2);
            thread::spawn(move || block_on(watch.take(200).map(Result::unwrap).collect::<Vec<_>>()))
        })
        .collect();
    let writers: Vec<_> = (0..4)
        .map(|w| {
            let store = Arc::clone(&store);
            thread::spawn(move || write_all(&store, 50, |i| [put(&format!("{w}"), &i.to_string())]))
        })
        .collect();
    writers.into_iter().for_each(|writer| writer.join().unwrap());
    let expected: Vec<Batch> = block_on(store.watch("", 2).take(200).map(Result::unwrap).collect());
    assert!(expected.iter().map(|batch| batch.rev).eq(2..202));
    for reader in readers {
        assert_eq!(reader.join().unwrap(), expected);
    }
}

fn what_a_watch_tells_can_be_read(make: Make) {
    let Fixture { store, _dir } = plain(make);
    let watch = store.watch("", 0);
    let writer = Arc::clone(&store);
    let writer = thread::spawn(move || write_all(&writer, 200, |i| [put("a", &i.to_string())]));
    block_on(watch.take(200).for_each(|batch| {
        let (kv, rev) = store.get("a").unwrap();
        let told = batch.unwrap().rev;
        assert!(rev >= told && kv.unwrap().mod_rev >= told);
        std::future::ready(())
    }));
    writer.join().unwrap();
}

fn compaction_is_told_in_the_stream(make: Make) {
    let Fixture { store, _dir } = plain(make);
    for _ in 0..5 {
        store.write([put("a", "1")]);
    }
    let mut behind = store.watch("", 2);
    assert_eq!(next(&mut store.watch("", 2)).unwrap().rev, 2);
    store.compact(4).unwrap();
    for from in [1, 3, 4] {
        let mut watch = store.watch("", from);
        assert!(matches!(next(&mut watch), Err(StoreError::Compacted { rev: 4 })));
        assert!(block_on(watch.next()).is_none(), "the error is the end");
    }
    assert!(matches!(next(&mut behind), Err(StoreError::Compacted { rev: 4 })));
}

fn compaction_keeps_records_and_later_changes(make: Make) {
    let Fixture { store, _dir } = plain(make);
    for i in 0..5 {
        store.write([put(&format!("k{i}"), "1")]);
    }
    let mut waiting = store.watch("", 0);
    store.compact(4).unwrap();
    store.compact(4).unwrap();
    store.compact(3).unwrap();
    assert!(matches!(store.compact(7), Err(StoreError::Invalid { .. })));
    assert_eq!(store.list("").unwrap().0.len(), 5);
    assert_eq!(next(&mut store.watch("", 5)).unwrap().rev, 5);
    store.compact(6).unwrap();
    store.write([put("k", "1")]);
    assert_eq!(next(&mut waiting).unwrap().rev, 7);
    assert_eq!(next(&mut store.watch("", 7)).unwrap().rev, 7);
}

fn a_slow_reader_meets_compaction_and_never_a_gap(make: Make) {
    for limits in
        [HistoryLimits { revisions: 8, bytes: usize::MAX }, HistoryLimits { revisions: usize::MAX, bytes: 2_000 }]
    {
        let Fixture { store, _dir } = make(limits);
        let mut asleep = store.watch("", 2);
        let writer = Arc::clone(&store);
        let writer = thread::spawn(move || write_all(&writer, 400, |i| [put("a", &i.to_string())]));
        // Readers come and go as long as there are writes; each sees a run without a gap.
        let mut seen = 0;
        while seen < 401 {
            let mut watch = store.watch("", seen + 1);
            loop {
                match next(&mut watch) {
                    Ok(batch) => {
                        assert!(seen == 0 && batch.rev == 2 || batch.rev == seen + 1, "{seen} then {}", batch.rev);
                        seen = batch.rev;
                        if seen == 401 {
                            break;
                        }
                    }
                    Err(StoreError::Compacted { rev }) => {
                        assert!(rev > seen);
                        seen = rev;
                        break;
                    }
                    Err(other) => panic!("{other}"),
                }
            }
        }
        writer.join().unwrap();
        assert!(matches!(next(&mut asleep), Err(StoreError::Compacted { rev: 300.. })));
        assert_eq!(next(&mut store.watch("", 401)).unwrap().rev, 401);
    }
}

fn appends_are_contiguous_under_concurrency(make: Make) {
    let Fixture { store, _dir } = plain(make);
    let writers: Vec<_> = (0..8)
        .map(|w| {
            let store = Arc::clone(&store);
            thread::spawn(move || {
                for i in 0..25 {
                    let value = format!("{w}-{i}");
                    store.write([append("log/", &value), append("other/", &value), append("log/", &value)]);
                }
            })
        })
        .collect();
    writers.into_iter().for_each(|writer| writer.join().unwrap());
    for (prefix, count) in [("log/", 400), ("other/", 200)] {
        let (kvs, _) = store.list(prefix).unwrap();
        let keys: Vec<String> = (1..=count).map(|n| number(prefix, n)).collect();
        assert_eq!(kvs.iter().map(|kv| kv.key.to_string()).collect::<Vec<_>>(), keys);
        assert!(kvs.is_sorted_by_key(|kv| kv.mod_rev), "numbers follow revisions");
    }
}

fn appends_never_use_a_number_again(make: Make) {
    let Fixture { store, _dir } = plain(make);
    for _ in 0..3 {
        store.write([append("log/", "1")]);
    }
    store.write([delete(&number("log/", 3)), delete(&number("log/", 2))]);
    store.write([append("log/", "2")]);
    store.write([delete(&number("log/", 1)), delete(&number("log/", 4))]);
    store.write([append("log/", "3")]);
    assert!(matches!(
        store.attempt(vec![Cond::Absent(number("log/", 5))], vec![append("log/", "4")]),
        Ok(TxnResult::Conflict { .. })
    ));
    store.write([append("log/", "5")]);
    let keys: Vec<String> = store.list("").unwrap().0.into_iter().map(|kv| kv.key.to_string()).collect();
    assert_eq!(keys, [number("log/", 5), number("log/", 6)], "what is not done uses no number up");
}

fn an_append_does_not_overwrite(make: Make) {
    let Fixture { store, _dir } = plain(make);
    store.write([put(&number("log/", 1), "not appended")]);
    let result = store.attempt(vec![], vec![put("a", "1"), append("log/", "1")]);
    assert!(matches!(result, Err(StoreError::Invalid { .. })));
    assert_eq!(store.list("").unwrap().1, 2);
}

fn sixty_four_callers_are_all_answered(make: Make) {
    let Fixture { store, _dir } = plain(make);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).build().unwrap();
    let tasks: Vec<_> = (0..64)
        .map(|task| {
            let store = Arc::clone(&store);
            runtime.spawn(async move {
                for i in 0..20 {
                    let ops = vec![put(&format!("{task}"), &i.to_string())];
                    let done = store.txn(Txn { conds: vec![], ops }).await.unwrap();
                    let TxnResult::Committed(rev) = done else { panic!("a conflict without conditions") };
                    assert!(store.get(&format!("{task}")).unwrap().0.unwrap().mod_rev == rev, "not its own write");
                }
            })
        })
        .collect();
    tasks.into_iter().for_each(|task| runtime.block_on(task).unwrap());
    assert_eq!(store.list("").unwrap().1, 1 + 64 * 20);
}

fn one_of_many_rivals_wins(make: Make) {
    let Fixture { store, _dir } = plain(make);
    let rivals: Vec<_> = (0..50)
        .map(|rival| {
            let ops = vec![put("prize", &rival.to_string())];
            store.txn(Txn { conds: vec![Cond::Absent("prize".into())], ops })
        })
        .collect();
    let results: Vec<TxnResult> = rivals.into_iter().map(|rival| rival.wait().unwrap()).collect();
    let mut outcomes = BTreeMap::new();
    for result in results {
        *outcomes.entry(matches!(result, TxnResult::Committed(2))).or_insert(0) += 1;
    }
    assert_eq!(outcomes, BTreeMap::from([(true, 1), (false, 49)]));
}

fn a_closed_store_takes_no_writes_and_ends_watches(make: Make) {
    let Fixture { store, _dir } = plain(make);
    let watch = store.watch("", 0);
    store.write([put("a", "1")]);
    store.close();
    store.close();
    assert_eq!(block_on(watch.count()), 1, "what was durable is told, then the watch ends");
    assert!(matches!(store.attempt(vec![], vec![put("b", "1")]), Err(StoreError::Unavailable { .. })));
    assert!(store.get("a").unwrap().0.is_some());
    assert!(block_on(store.watch("", 0).next()).is_none());
}
