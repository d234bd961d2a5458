use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::sync::Arc;

use tokio::time::Instant;

/// Who waits until when, and who is in flight. Pure: times are told, never asked for.
#[derive(Debug)]
pub(super) struct Schedule<K> {
    /// Keys that wait and are not in flight, by time; of two for the same time the one that was added first.
    order: BTreeMap<Turn, Arc<K>>,
    /// Their place in the order.
    waiting: HashMap<Arc<K>, Turn>,
    /// Keys in flight, and for when they were added meanwhile.
    in_flight: HashMap<K, Option<Instant>>,
    turns: u64,
}

type Turn = (Instant, u64);

impl<K: Hash + Eq + Clone> Schedule<K> {
    pub(super) fn new() -> Self {
        Schedule { order: BTreeMap::new(), waiting: HashMap::new(), in_flight: HashMap::new(), turns: 0 }
    }

    /// A pass no later than `at`, but not beside one in flight.
    pub(super) fn add(&mut self, key: K, at: Instant) {
        if let Some(again) = self.in_flight.get_mut(&key) {
            *again = earliest(*again, Some(at));
            return;
        }
        match self.waiting.get(&key) {
            Some((earlier, _)) if *earlier <= at => return,
            Some(later) => drop(self.order.remove(later)),
            None => {}
        }
        let turn = (at, self.turns);
        self.turns += 1;
        let key = Arc::new(key);
        self.order.insert(turn, Arc::clone(&key));
        self.waiting.insert(key, turn);
    }

    /// The key whose turn it is, from now on in flight.
    pub(super) fn start(&mut self, now: Instant) -> Option<K> {
        let first = self.order.first_entry().filter(|first| first.key().0 <= now)?;
        let key = first.remove();
        self.waiting.remove(&key);
        let key = Arc::unwrap_or_clone(key);
        self.in_flight.insert(key.clone(), None);
        Some(key)
    }

    /// When there is somebody to start.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.order.first_key_value().map(|((at, _), _)| *at)
    }

    /// Keys that wait and are due, that wait for later, and in flight.
    pub(super) fn depth(&self, now: Instant) -> [usize; 3] {
        let due = self.order.range(..=(now, u64::MAX)).count();
        [due, self.order.len() - due, self.in_flight.len()]
    }

    /// A key's pass has ended and wants another one, or not.
    pub(super) fn finish(&mut self, key: K, again: Option<Instant>) {
        let added = self.in_flight.remove(&key).flatten();
        if let Some(at) = earliest(added, again) {
            self.add(key, at);
        }
    }
}

fn earliest(a: Option<Instant>, b: Option<Instant>) -> Option<Instant> {
    a.into_iter().chain(b).min()
}
