//! Machines whose end was hinted at and not yet looked for. A hint is no evidence, so nothing is ended for it; but a
//! member that may be dead is not given to a client as long as another one is there.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use uuid::Uuid;

/// In memory alone: after a start, every machine is looked at anyway.
#[derive(Default)]
pub struct Doubts(Mutex<HashMap<Uuid, u64>>);

impl Doubts {
    /// Something may have happened to this container.
    pub fn raise(&self, container: Uuid) {
        *self.lock().entry(container).or_default() += 1;
    }

    /// Who looks at a container takes this before,
    pub fn before_look(&self, container: Uuid) -> Option<u64> {
        self.lock().get(&container).copied()
    }

    /// and brings it back afterwards, when what was seen is committed. A doubt that was raised in between stays.
    pub fn settle(&self, container: Uuid, before: Option<u64>) {
        let mut doubts = self.lock();
        if doubts.get(&container).copied() == before {
            doubts.remove(&container);
        }
    }

    /// All of them.
    pub fn all(&self) -> HashSet<Uuid> {
        self.lock().keys().copied().collect()
    }

    /// It is gone, and nobody looks at it any more.
    pub fn forget(&self, container: Uuid) {
        self.lock().remove(&container);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Uuid, u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_settles_only_the_doubts_that_were_there_before_it() {
        let (doubts, uuid) = (Doubts::default(), Uuid::from_u128(1));
        doubts.raise(uuid);
        let before = doubts.before_look(uuid);
        doubts.raise(uuid);
        doubts.settle(uuid, before);
        assert_eq!(doubts.all(), HashSet::from([uuid]));
        doubts.settle(uuid, doubts.before_look(uuid));
        assert!(doubts.all().is_empty());
        let before = doubts.before_look(uuid);
        doubts.raise(uuid);
        doubts.settle(uuid, before);
        assert!(!doubts.all().is_empty());
    }
}
