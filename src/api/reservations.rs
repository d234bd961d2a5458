//! Members that are being given to claims just now: the commits that do it are on their way. Whoever looks for a place
//! meanwhile passes them over. So claims that come at once take a member each and are committed together, and none of
//! them tries in vain.
//!
//! It is no guarantee: that no member is given twice is kept by its revision in the store.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use uuid::Uuid;

/// In memory alone: after a start, no commit is on its way.
#[derive(Default)]
pub(crate) struct Reservations(Mutex<HashSet<Uuid>>);

/// A member that is kept for one claim, until this is dropped.
pub(crate) struct Reservation {
    all: Arc<Reservations>,
    member: Uuid,
}

impl Reservations {
    /// Keeps a member, if nobody does.
    pub(super) fn reserve(self: &Arc<Self>, member: Uuid) -> Option<Reservation> {
        self.lock().insert(member).then(|| Reservation { all: Arc::clone(self), member })
    }

    /// All of them.
    pub(super) fn all(&self) -> HashSet<Uuid> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<Uuid>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.all.lock().remove(&self.member);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_is_kept_for_one_claim_at_a_time() {
        let (reservations, member) = (Arc::<Reservations>::default(), Uuid::from_u128(1));
        let first = reservations.reserve(member);
        assert!(first.is_some() && reservations.reserve(member).is_none());
        assert_eq!(reservations.all(), HashSet::from([member]));
        drop(first);
        assert!(reservations.reserve(member).is_some());
    }
}
