//! Whom an owner's end wakes: the objects that name it. Built from what the store tells; nothing is decided by it,
//! because a pass reads the records again. A pool's members are not kept in it: their pool alone ends them
//! ([`crate::plan::owners`]), and there are many of them.

use std::collections::{BTreeSet, HashMap};

use crate::model::{Object, ObjectMeta, ObjectRef, OwnerReference};
use crate::plan::owners::owner_ref;

/// The objects of each owner, by its UID.
#[derive(Default)]
pub(super) struct Owned {
    dependents: HashMap<String, BTreeSet<ObjectRef>>,
    known: HashMap<ObjectRef, Vec<Named>>,
}

/// An owner as it is named: its UID, and what it is if that is one of ours.
type Named = (String, Option<ObjectRef>);

fn named(object: &ObjectRef, meta: &ObjectMeta) -> Vec<Named> {
    let named = |owner: &OwnerReference| (owner.uid.clone(), owner_ref(&object.namespace, owner));
    meta.owner_references.iter().map(named).collect()
}

impl Owned {
    /// Takes note of an object that is there.
    pub(super) fn add(&mut self, object: &impl Object) {
        let reference = object.object_ref();
        let owners = named(&reference, object.meta());
        self.set(&reference, owners);
    }

    /// Takes note of an object as it is now, or was before it went, and says whom that wakes: the dependents of an object
    /// whose end is wished for or has come, and the owners of one that is gone or names them no more.
    pub(super) fn note(&mut self, object: &ObjectRef, meta: &ObjectMeta, member: bool, gone: bool) -> Vec<ObjectRef> {
        let owners = named(object, meta);
        let kept = if gone || member { vec![] } else { owners.clone() };
        let before = self.set(object, kept);
        let left = if gone { owners } else { before.into_iter().filter(|owner| !owners.contains(owner)).collect() };
        let dependents = self.dependents.get(&meta.uid.to_string()).filter(|_| gone || meta.deleting());
        dependents.into_iter().flatten().cloned().chain(left.into_iter().filter_map(|(_, owner)| owner)).collect()
    }

    /// The owners that it had before, if those are others.
    fn set(&mut self, object: &ObjectRef, owners: Vec<Named>) -> Vec<Named> {
        if self.known.get(object).map_or(owners.is_empty(), |known| *known == owners) {
            return vec![];
        }
        let before = self.known.remove(object).unwrap_or_default();
        for (owner, _) in &before {
            if let Some(dependents) = self.dependents.get_mut(owner) {
                dependents.remove(object);
                if dependents.is_empty() {
                    self.dependents.remove(owner);
                }
            }
        }
        for (owner, _) in &owners {
            self.dependents.entry(owner.clone()).or_default().insert(object.clone());
        }
        if !owners.is_empty() {
            self.known.insert(object.clone(), owners);
        }
        before
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use uuid::Uuid;

    use super::*;
    use crate::model::{API_VERSION, ClaimSpec, ClaimStatus, ContainerClaim, Origin};

    fn claim(name: &str, owner: Option<&ContainerClaim>) -> ContainerClaim {
        let mut metadata = ObjectMeta::new("default", name, Uuid::new_v4(), Timestamp::UNIX_EPOCH);
        metadata.owner_references = owner.into_iter().map(reference).collect::<Vec<_>>().into();
        ContainerClaim { metadata, spec: ClaimSpec::of("a", Origin::Object), status: ClaimStatus::default() }
    }

    fn reference(owner: &ContainerClaim) -> OwnerReference {
        OwnerReference {
            api_version: API_VERSION.into(),
            kind: "ContainerClaim".into(),
            name: owner.metadata.name.clone(),
            uid: owner.metadata.uid.to_string(),
            controller: None,
            block_owner_deletion: None,
        }
    }

    #[test]
    fn an_end_wakes_dependents_and_owners_and_everything_else_nobody() {
        let mut owned = Owned::default();
        let mut note =
            |claim: &ContainerClaim, gone: bool| owned.note(&claim.object_ref(), &claim.metadata, false, gone);
        let mut owner = claim("owner", None);
        let dependent = claim("dependent", Some(&owner));
        assert_eq!(note(&owner, false), []);
        assert_eq!(note(&dependent, false), []);
        owner.metadata.end(Timestamp::UNIX_EPOCH);
        assert_eq!(note(&owner, false), [dependent.object_ref()]);
        assert_eq!(note(&owner, true), [dependent.object_ref()]);
        // Whoever names it no more is not woken, but wakes it: it may have waited for that.
        let freed = ContainerClaim {
            metadata: ObjectMeta { owner_references: vec![].into(), ..dependent.metadata.clone() },
            ..dependent.clone()
        };
        assert_eq!(note(&freed, false), [owner.object_ref()]);
        assert_eq!(note(&freed, false), []);
        assert_eq!(note(&owner, true), []);
        assert_eq!(note(&dependent, true), [owner.object_ref()]);
    }

    #[test]
    fn a_member_wakes_its_pool_when_it_is_gone_and_is_not_kept() {
        let mut owned = Owned::default();
        let mut pool = claim("pool", None);
        let member = claim("member", Some(&pool));
        let (object, meta) = (member.object_ref(), &member.metadata);
        assert_eq!(owned.note(&object, meta, true, false), []);
        assert!(owned.known.is_empty() && owned.dependents.is_empty());
        pool.metadata.end(Timestamp::UNIX_EPOCH);
        assert_eq!(owned.note(&pool.object_ref(), &pool.metadata, false, false), []);
        assert_eq!(owned.note(&object, meta, true, true), [pool.object_ref()]);
    }
}
