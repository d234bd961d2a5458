//! The look at everything, without a hint: every object has its turn, a few at a time. All at once would have everybody
//! else wait behind them, and take hundreds of threads; each by itself would wake a thread for every one. Nothing is kept
//! of it but how far it came.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::model::ObjectRef;
use crate::store::records;
use crate::store::{Index, RecordError};

/// Objects whose turn comes at once.
const TOGETHER: usize = 8;

pub(super) struct Look {
    /// The key of the last one that had its turn.
    last: Arc<str>,
    pause: Duration,
    /// When the next ones have theirs, if it is not over.
    next: Option<Instant>,
}

impl Look {
    /// One that is over.
    pub(super) fn over() -> Self {
        Look { last: "".into(), pause: Duration::ZERO, next: None }
    }

    /// One that takes this time for so many objects.
    pub(super) fn begin(objects: usize, time: Duration) -> Self {
        let groups = u32::try_from(objects.div_ceil(TOGETHER)).unwrap_or(u32::MAX);
        Look { last: "".into(), pause: time / groups.max(1), next: Some(Instant::now()) }
    }

    pub(super) fn is_over(&self) -> bool {
        self.next.is_none()
    }

    /// Waits until the next ones have their turn: for ever, if it is over.
    pub(super) async fn due(&self) {
        match self.next {
            Some(next) => sleep_until(next).await,
            None => std::future::pending().await,
        }
    }

    /// Whose turn it is now. It is over when it is nobody's.
    pub(super) fn turn(&mut self, index: &Index) -> Result<Vec<ObjectRef>, RecordError> {
        let due = self.next.take();
        let keys: Vec<Arc<str>> = index.behind(&self.last)?.take(TOGETHER).cloned().collect();
        if let Some(last) = keys.last() {
            self.last = Arc::clone(last);
            self.next = due.map(|due| due + self.pause);
        }
        Ok(keys.iter().filter_map(|key| records::parse_key(key)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operator::tests::container;
    use crate::store::{Store, Txn, memory};

    #[tokio::test(start_paused = true)]
    async fn every_object_has_its_turn_within_the_time_a_few_at_once_whoever_comes_and_goes() {
        let store = memory();
        let numbers = || 100..164_u32;
        let all = numbers().fold(Txn::default(), |txn, number| txn.write(&container(number)));
        store.txn(all).await.unwrap();
        let (begin, mut turns) = (Instant::now(), Vec::new());
        let mut look = Look::begin(store.index().unwrap().count(), Duration::from_secs(8));
        while !look.is_over() {
            look.due().await;
            let second = begin.elapsed().as_secs();
            turns.extend(look.turn(&store.index().unwrap()).unwrap().into_iter().map(|object| (object.name, second)));
            if second == 3 {
                // Where it came to, the last one, and one instead of that.
                let gone = Txn::default().remove(&container(131)).remove(&container(163));
                store.txn(gone.write(&container(164))).await.unwrap();
            }
        }
        let expected = numbers().map(|number| if number == 163 { 164 } else { number });
        let expected: Vec<(String, u64)> =
            expected.zip(0..).map(|(number, turn)| (number.to_string(), turn / 8)).collect();
        assert_eq!(turns, expected);
        assert!(tokio::time::timeout(Duration::from_secs(3600), look.due()).await.is_err(), "it is over");
    }
}
