//! What many objects cost whoever else is served.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::allocations::held;
use crate::manifest::selector::Filter;
use crate::model::{ContainerPool, Image, Kind, ObjectMeta, PoolSpec, PoolStatus, Template};
use crate::store::Txn;
use crate::store::records::decoded;

const MANY: usize = 1000;
/// With what is there first, and a mark behind it.
const WATCH: &str = "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=1";
/// Selects none of them.
const NONE: &str = "fieldSelector=metadata.name%3Dnone";

async fn bench() -> Bench {
    let bench = Bench::new();
    for part in 0..2 {
        let numbers = (part * MANY / 2)..((part + 1) * MANY / 2);
        let all = numbers.fold(Txn::default(), |txn, number| {
            let metadata = ObjectMeta::new("default", &format!("p{number}"), Uuid::new_v4(), Timestamp::UNIX_EPOCH);
            let spec = PoolSpec::of(0, 1, Template::of(Image::Iso("/i.iso".into())));
            txn.write(&ContainerPool { metadata, spec, status: PoolStatus::default() })
        });
        bench.store.txn(all).await.unwrap();
    }
    bench
}

/// On one thread, where nobody has a turn that they are not given. Each object costs a list less than a millisecond.
#[tokio::test]
async fn a_long_list_lets_others_have_their_turn() {
    let (bench, turns) = (bench().await, Arc::new(AtomicUsize::new(0)));
    let counted = Arc::clone(&turns);
    let other = tokio::spawn(async move {
        loop {
            counted.fetch_add(1, Ordering::SeqCst);
            tokio::task::yield_now().await;
        }
    });
    for (path, marks) in [
        (POOLS.to_owned(), 0),
        (format!("{POOLS}?{NONE}"), 0),
        (format!("{POOLS}?{WATCH}"), 1),
        (format!("{POOLS}?{WATCH}&{NONE}"), 1),
    ] {
        let before = turns.load(Ordering::SeqCst);
        if marks == 0 {
            assert_eq!(bench.get(&path).await.code, 200);
        } else {
            let mut lines = bench.watch(&path, "application/json").await;
            while lines.next().await.unwrap().0 != "BOOKMARK" {}
        }
        let had = turns.load(Ordering::SeqCst) - before;
        assert!(had >= MANY / 128, "{path}: {had} turns");
    }
    other.abort();
}

#[tokio::test]
async fn what_is_there_already_costs_a_watch_that_nobody_reads_a_pointer_each() {
    let bench = bench().await;
    bench.store.index().unwrap();
    let begin = || futures::executor::block_on(bench.watch(&format!("{POOLS}?{WATCH}"), "application/json"));
    let (mut lines, bytes) = held(begin);
    assert!(bytes < MANY * 16 + 4096, "{bytes} bytes for {MANY}");
    assert_eq!(lines.next().await.unwrap().0, "ADDED");
}

#[tokio::test]
async fn a_list_decodes_nothing_that_somebody_decoded_already() {
    let bench = bench().await;
    bench.store.index().unwrap();
    let list = || {
        let listed = bench.kube.objects.list(Kind::ContainerPool, Some("default"), Filter::default()).unwrap();
        assert_eq!(listed.all().unwrap().len(), MANY);
    };
    assert_eq!(decoded(list), 0);
}
