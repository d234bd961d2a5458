//! Whom a free place wakes: the first claim of each pool's queue. Built from what the store tells; nothing is decided
//! by it, because a claim's own pass reads the queue again.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use jiff::Timestamp;

use crate::model::{ContainerClaim, Kind, Object, ObjectRef};
use crate::plan::claim;

/// A pool: its namespace and its name.
type Pool = (String, String);
/// A place in its queue.
type Turn = (Timestamp, String);

/// The claims that wait for a place.
#[derive(Default)]
pub(super) struct Waiting {
    queues: BTreeMap<Pool, BTreeSet<Turn>>,
    known: HashMap<ObjectRef, (Pool, Turn)>,
}

impl Waiting {
    /// Takes note of a claim as it is now; `None` is one that is gone. Whose turn it is then, if its queue changed.
    pub(super) fn note(&mut self, object: &ObjectRef, now: Option<&ContainerClaim>) -> Option<ObjectRef> {
        let now = now.filter(|claim| claim::waits(claim)).map(place);
        let before = self.known.get(object).cloned();
        if now == before {
            return None;
        }
        if let Some((pool, turn)) = &before
            && let Some(queue) = self.queues.get_mut(pool)
        {
            queue.remove(turn);
            if queue.is_empty() {
                self.queues.remove(pool);
            }
        }
        match &now {
            Some((pool, turn)) => {
                self.queues.entry(pool.clone()).or_default().insert(turn.clone());
                self.known.insert(object.clone(), (pool.clone(), turn.clone()));
            }
            None => {
                self.known.remove(object);
            }
        }
        let (namespace, pool) = now.or(before)?.0;
        self.first(&namespace, &pool)
    }

    /// Whose turn it is in a pool.
    pub(super) fn first(&self, namespace: &str, pool: &str) -> Option<ObjectRef> {
        let (_, name) = self.queues.get(&(namespace.into(), pool.into()))?.first()?;
        Some(ObjectRef { kind: Kind::ContainerClaim, namespace: namespace.into(), name: name.clone() })
    }
}

fn place(claim: &ContainerClaim) -> (Pool, Turn) {
    let (object, (since, name)) = (claim.object_ref(), claim::turn(claim));
    ((object.namespace, claim.spec.pool.clone()), (since, name.into()))
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::model::{ClaimSpec, ClaimStatus, DEFAULT_NAMESPACE, ObjectMeta, Origin};

    fn claim(name: &str, pool: &str, second: i64) -> ContainerClaim {
        let since = Timestamp::from_second(second).unwrap();
        ContainerClaim {
            metadata: ObjectMeta::new(DEFAULT_NAMESPACE, name, Uuid::nil(), since),
            spec: ClaimSpec::of(pool, Origin::Object),
            status: ClaimStatus::default(),
        }
    }

    #[test]
    fn the_first_of_each_queue_is_woken_and_then_the_next() {
        let mut waiting = Waiting::default();
        let first = |waiting: &Waiting, pool| waiting.first(DEFAULT_NAMESPACE, pool).map(|object| object.name);
        let (early, late, other) = (claim("z", "a", 1), claim("y", "a", 2), claim("x", "b", 0));
        for claim in [&late, &early, &other] {
            waiting.note(&claim.object_ref(), Some(claim));
        }
        assert_eq!((first(&waiting, "a"), first(&waiting, "b")), (Some("z".into()), Some("x".into())));
        let mut placed = early.clone();
        placed.status.container = Some("machine".into());
        let next = waiting.note(&early.object_ref(), Some(&placed));
        assert_eq!(next, Some(late.object_ref()));
        assert_eq!(waiting.note(&early.object_ref(), Some(&placed)), None, "nothing changed");
        assert_eq!(waiting.note(&late.object_ref(), None), None);
        assert_eq!(first(&waiting, "a"), None);
        assert_eq!(waiting.known.len(), 1);
    }
}
