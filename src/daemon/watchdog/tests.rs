use std::cell::Cell;
use std::num::NonZeroUsize;
use std::sync::Arc;

use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::daemon::STOP_PATIENCE;
use crate::operator::queue::{self, Queue, Requeue};
use crate::store::{Commit, Index, Kv, Store, StoreError, Txn, Watch, memory};

const PAUSE: Duration = Duration::from_secs(20);

#[tokio::test(start_paused = true)]
async fn it_is_told_as_often_as_it_beats_and_no_more_when_a_beat_hangs() {
    let (told, hangs) = (Cell::new(0), Cell::new(false));
    let beat = || async {
        if hangs.get() {
            std::future::pending().await
        }
    };
    let tell = || told.set(told.get() + 1);
    let kept = keep(PAUSE, beat, tell);
    let watched = async {
        sleep(PAUSE * 5 / 2).await;
        assert_eq!(told.get(), 3);
        hangs.set(true);
        sleep(PAUSE * 10).await;
        assert_eq!(told.get(), 3);
    };
    tokio::select! {
        () = kept => {}
        () = watched => {}
    }
}

/// A store whose committer never answers.
struct Stuck;

impl Store for Stuck {
    fn get(&self, _: &str) -> Result<(Option<Kv>, u64), StoreError> {
        Ok((None, 1))
    }
    fn list(&self, _: &str) -> Result<(Vec<Kv>, u64), StoreError> {
        Ok((Vec::new(), 1))
    }
    fn index(&self) -> Result<Index, StoreError> {
        Ok(Index::default())
    }
    fn txn(&self, _: Txn) -> Commit {
        Commit::new(Box::pin(std::future::pending()))
    }
    fn watch(&self, _: &str, _: u64) -> Watch {
        Box::pin(futures::stream::pending())
    }
    fn compact(&self, _: u64) -> Result<(), StoreError> {
        Ok(())
    }
}

#[tokio::test]
async fn a_pulse_beats_while_the_committer_answers_and_the_queue_turns_and_changes_nothing() {
    let cancel = CancellationToken::new();
    let queue = Queue::new();
    let pass = |_| async { Requeue::AwaitChange };
    let running = tokio::spawn(queue::run(queue.clone(), NonZeroUsize::MIN, pass, cancel.clone()));
    let store = memory();
    let pulse = Pulse { store: store.clone(), queue: queue.clone() };
    pulse.beat().await;
    pulse.beat().await;
    assert_eq!(store.list("").unwrap().1, 1);

    let moment = Duration::from_millis(50);
    assert!(timeout(moment, Pulse { store: Arc::new(Stuck), queue }.beat()).await.is_err());
    cancel.cancel();
    running.await.unwrap();
    assert!(timeout(moment, pulse.beat()).await.is_err());
}

#[test]
fn the_units_wait_longer_than_the_daemon_takes() {
    let unit = include_str!("../../../examples/systemd/anweddol.service");
    let seconds = |key: &str| -> u64 {
        let line = unit.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        line.unwrap_or_else(|| panic!("the unit has no {key}")).parse().unwrap()
    };
    assert!(seconds("TimeoutStopSec") >= STOP_PATIENCE.as_secs() + 10);
    assert!(seconds("WatchdogSec") >= 30);
}
