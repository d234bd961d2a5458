//! Members that are being given to claims just now: the commits that do it are on their way. Whoever looks for a place
//! meanwhile passes them over. So claims that come at once take a member each and are committed together, and none of
//! them tries in vain.
//!
//! It is no guarantee: that no member is given twice is kept by its revision in the store.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use foldhash::HashSet;
use uuid::Uuid;

/// In memory alone: after a start, no commit is on its way.
#[derive(Default)]
pub(crate) struct Reservations(Mutex<HashSet<Uuid>>);

/// A member that is kept for one claim, until this is dropped.
pub(crate) struct Reservation {
    all: Arc<Reservations>,
    member: Uuid,
}

/// All that are kept, while nobody else can keep or give back one.
pub(super) struct Kept<'a> {
    all: &'a Arc<Reservations>,
    members: MutexGuard<'a, HashSet<Uuid>>,
}

impl Reservations {
    /// What is kept. Who chooses a member looks at it before the records: one that was kept until then may be another
    /// one's by now.
    pub(super) fn kept(self: &Arc<Self>) -> Kept<'_> {
        Kept { all: self, members: self.lock() }
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<Uuid>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept<'_> {
    pub(super) fn contains(&self, member: Uuid) -> bool {
        self.members.contains(&member)
    }

    /// Keeps a member that is not.
    pub(super) fn keep(mut self, member: Uuid) -> Reservation {
        self.members.insert(member);
        Reservation { all: Arc::clone(self.all), member }
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.members.is_empty()
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
    fn a_member_is_kept_until_its_reservation_is_given_back() {
        let (reservations, member) = (Arc::<Reservations>::default(), Uuid::from_u128(1));
        let first = reservations.kept().keep(member);
        assert!(reservations.kept().contains(member) && !reservations.kept().contains(Uuid::nil()));
        drop(first);
        assert!(reservations.kept().is_empty());
    }
}
