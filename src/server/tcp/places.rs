//! Places of connections. Whoever has not exchanged keys yet is a stranger, and when all places are taken the oldest
//! stranger loses theirs to a newcomer: a client that means it needs a place for a fraction of a second until it is none
//! any more, so places that strangers merely sit on keep nobody out. Who is known keeps their place.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

/// All places.
#[derive(Default)]
pub(super) struct Places {
    taken: Mutex<Taken>,
}

#[derive(Default)]
struct Taken {
    count: usize,
    next: u64,
    /// By their age.
    strangers: BTreeMap<u64, CancellationToken>,
}

/// One of them; free again when it is dropped.
pub(super) struct Place {
    places: Arc<Places>,
    number: u64,
    lost: CancellationToken,
}

impl Places {
    /// One of this many places, unless everybody who has one is known.
    pub(super) fn take(self: &Arc<Self>, most: usize) -> Option<Place> {
        let mut taken = self.taken();
        // More than once, where there are fewer places than there were.
        while taken.count >= most {
            let (_, oldest) = taken.strangers.pop_first()?;
            oldest.cancel();
            taken.count -= 1;
        }
        let (number, lost) = (taken.next, CancellationToken::new());
        taken.strangers.insert(number, lost.clone());
        taken.next += 1;
        taken.count += 1;
        Some(Place { places: Arc::clone(self), number, lost })
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// Cancelled when somebody else has it.
    pub(super) fn lost(&self) -> CancellationToken {
        self.lost.clone()
    }

    /// Its holder is no stranger any more; `false` if the place is lost already.
    pub(super) fn known(&self) -> bool {
        self.places.taken().strangers.remove(&self.number).is_some()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken();
        // Places are lost with the lock held, so this is certain.
        if !self.lost.is_cancelled() {
            taken.strangers.remove(&self.number);
            taken.count -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lost(places: &[&Place]) -> Vec<bool> {
        places.iter().map(|place| place.lost.is_cancelled()).collect()
    }

    #[test]
    fn a_newcomer_gets_the_place_of_the_oldest_stranger_and_nobody_elses() {
        let places = Arc::new(Places::default());
        let take = || places.take(3);
        let [a, b, c] = [(); 3].map(|()| take().unwrap());
        assert!(a.known());
        let d = take().unwrap();
        assert_eq!(lost(&[&a, &b, &c, &d]), [false, true, false, false]);
        let e = take().unwrap();
        assert_eq!(lost(&[&a, &c, &d, &e]), [false, true, false, false]);
        assert!(d.known() && e.known() && !b.known());
        assert!(take().is_none(), "everybody is known");
        // Who lost a place has none to give back.
        drop((b, c));
        assert!(take().is_none());
        drop(a);
        let f = take().unwrap();
        assert_eq!(places.taken().count, 3);
        drop((d, e, f));
        let taken = places.taken();
        assert_eq!((taken.count, taken.strangers.len()), (0, 0));
    }

    #[test]
    fn where_there_are_fewer_places_than_there_were_so_many_strangers_go() {
        let places = Arc::new(Places::default());
        let before: Vec<Place> = (0..5).map(|_| places.take(5).unwrap()).collect();
        let one = places.take(2).unwrap();
        assert_eq!(lost(&before.iter().collect::<Vec<_>>()), [true, true, true, true, false]);
        assert!(!one.lost.is_cancelled());
        assert!(places.take(0).is_none());
    }
}
