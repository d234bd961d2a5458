//! How much anybody may ask for at once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::status::Status;

/// The most requests of one identity at once, watches included: each holds a connection.
const MOST_REQUESTS: usize = 128;
/// The most watches among them.
const MOST_WATCHES: usize = 64;

/// Who asks for how much now.
#[derive(Default)]
pub(super) struct Limits {
    asking: Mutex<HashMap<String, Asking>>,
}

#[derive(Clone, Copy, Default)]
struct Asking {
    requests: usize,
    watches: usize,
}

/// A request's place; given back when it is dropped.
pub(super) struct Place {
    limits: Arc<Limits>,
    who: String,
    watch: bool,
}

impl Limits {
    /// A place for a request of somebody, if they have one left.
    pub(super) fn enter(self: &Arc<Self>, who: &str, watch: bool) -> Result<Place, Status> {
        let mut all = self.asking.lock().unwrap_or_else(PoisonError::into_inner);
        let asking = all.entry(who.into()).or_default();
        if asking.requests >= MOST_REQUESTS {
            return Err(Status::too_many(format!("'{who}' has {MOST_REQUESTS} requests at once already")));
        }
        if watch && asking.watches >= MOST_WATCHES {
            return Err(Status::too_many(format!("'{who}' has {MOST_WATCHES} watches at once already")));
        }
        asking.requests += 1;
        asking.watches += usize::from(watch);
        Ok(Place { limits: Arc::clone(self), who: who.into(), watch })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut all = self.limits.asking.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(asking) = all.get_mut(&self.who) {
            asking.requests -= 1;
            asking.watches -= usize::from(self.watch);
            if asking.requests == 0 {
                all.remove(&self.who);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_has_more_places_than_there_are_and_they_come_back() {
        let limits = Arc::new(Limits::default());
        let watches: Vec<Place> = (0..MOST_WATCHES).map(|_| limits.enter("a", true).unwrap()).collect();
        assert_eq!(limits.enter("a", true).err().unwrap().code(), 429);
        let others: Vec<Place> = (MOST_WATCHES..MOST_REQUESTS).map(|_| limits.enter("a", false).unwrap()).collect();
        assert_eq!(limits.enter("a", false).err().unwrap().code(), 429);
        assert!(limits.enter("b", true).is_ok());
        drop((watches, others));
        assert!(limits.enter("a", true).is_ok());
        assert!(limits.asking.lock().unwrap().is_empty());
    }
}
