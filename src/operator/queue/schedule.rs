use std::borrow::Borrow;
use std::cmp::Ordering;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use tokio::time::Instant;

/// Who waits until when, and who is in flight. Pure: times are told, never asked for.
#[derive(Debug)]
pub(super) struct Schedule<K> {
    /// Keys that wait and are not in flight, by time; of two for the same time the one that was added first.
    order: BTreeSet<ByTurn<K>>,
    /// The same, by themselves.
    waiting: HashSet<ByKey<K>>,
    /// Keys in flight, and for when they were added meanwhile.
    in_flight: HashMap<K, Option<Instant>>,
    turns: u64,
}

type Turn = (Instant, u64);

/// A key that waits. Every object's does, most of the time: so it is kept once, and is found by either part.
#[derive(Clone, Debug)]
struct Waiting<K> {
    key: K,
    turn: Turn,
}

#[derive(Debug)]
struct ByTurn<K>(Arc<Waiting<K>>);

#[derive(Debug)]
struct ByKey<K>(Arc<Waiting<K>>);

impl<K: Hash + Eq + Clone> Schedule<K> {
    pub(super) fn new() -> Self {
        Schedule { order: BTreeSet::new(), waiting: HashSet::new(), in_flight: HashMap::new(), turns: 0 }
    }

    /// A pass no later than `at`, but not beside one in flight.
    pub(super) fn add(&mut self, key: K, at: Instant) {
        if let Some(again) = self.in_flight.get_mut(&key) {
            *again = earliest(*again, Some(at));
            return;
        }
        match self.waiting.get(&key) {
            Some(ByKey(earlier)) if earlier.turn.0 <= at => return,
            Some(ByKey(later)) => drop(self.order.remove(&later.turn)),
            None => {}
        }
        let waiting = Arc::new(Waiting { key, turn: (at, self.turns) });
        self.turns += 1;
        self.order.insert(ByTurn(Arc::clone(&waiting)));
        self.waiting.replace(ByKey(waiting));
    }

    /// The key whose turn it is, from now on in flight.
    pub(super) fn start(&mut self, now: Instant) -> Option<K> {
        if self.next_due()? > now {
            return None;
        }
        let ByTurn(first) = self.order.pop_first()?;
        self.waiting.remove(&first.key);
        let key = Arc::unwrap_or_clone(first).key;
        self.in_flight.insert(key.clone(), None);
        Some(key)
    }

    /// When there is somebody to start.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.order.first().map(|ByTurn(first)| first.turn.0)
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

impl<K> Borrow<Turn> for ByTurn<K> {
    fn borrow(&self) -> &Turn {
        &self.0.turn
    }
}

impl<K> Ord for ByTurn<K> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.turn.cmp(&other.0.turn)
    }
}

impl<K> PartialOrd for ByTurn<K> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<K> PartialEq for ByTurn<K> {
    fn eq(&self, other: &Self) -> bool {
        self.0.turn == other.0.turn
    }
}

impl<K> Eq for ByTurn<K> {}

impl<K> Borrow<K> for ByKey<K> {
    fn borrow(&self) -> &K {
        &self.0.key
    }
}

impl<K: Hash> Hash for ByKey<K> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.key.hash(state);
    }
}

impl<K: PartialEq> PartialEq for ByKey<K> {
    fn eq(&self, other: &Self) -> bool {
        self.0.key == other.0.key
    }
}

impl<K: Eq> Eq for ByKey<K> {}
