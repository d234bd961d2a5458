//! Whom an owner's end wakes: the objects that name it. Built from what the store tells; nothing is decided by it,
//! because a pass reads the records again.

use std::collections::{BTreeSet, HashMap};

use serde::Deserialize;

use crate::model::{Object, ObjectMeta, ObjectRef};
use crate::plan::owners::owner_ref;
use crate::store::{Change, records};

/// The objects of each owner, by its UID.
#[derive(Default)]
pub(super) struct Owned {
    dependents: HashMap<String, BTreeSet<ObjectRef>>,
    known: HashMap<ObjectRef, Vec<String>>,
}

/// What every record has.
#[derive(Deserialize)]
struct Record {
    metadata: ObjectMeta,
}

impl Owned {
    /// Takes note of an object that is there.
    pub(super) fn add(&mut self, object: &impl Object) {
        self.set(&object.object_ref(), object.meta().owner_references.iter().map(|owner| owner.uid.clone()).collect());
    }

    /// Takes note of a change, and says whom it wakes: the dependents of an object whose end is wished for or has come,
    /// and the owners of one that is gone.
    pub(super) fn note(&mut self, object: &ObjectRef, change: &Change) -> Vec<ObjectRef> {
        let (last, gone) = match change {
            Change::Put { kv, .. } => (kv, false),
            Change::Delete { prev } => (prev, true),
        };
        let Ok(record) = records::decode::<Record>(last) else { return vec![] };
        let meta = record.object.metadata;
        let owners = meta.owner_references.iter();
        self.set(object, owners.clone().filter(|_| !gone).map(|owner| owner.uid.clone()).collect());
        let ending = gone || meta.deleting();
        let dependents = self.dependents.get(&meta.uid.to_string()).filter(|_| ending);
        let owners = owners.filter(|_| gone).filter_map(|owner| owner_ref(&object.namespace, owner));
        dependents.into_iter().flatten().cloned().chain(owners).collect()
    }

    fn set(&mut self, object: &ObjectRef, owners: Vec<String>) {
        if self.known.get(object).map_or(owners.is_empty(), |known| *known == owners) {
            return;
        }
        for owner in self.known.remove(object).into_iter().flatten() {
            if let Some(dependents) = self.dependents.get_mut(&owner) {
                dependents.remove(object);
                if dependents.is_empty() {
                    self.dependents.remove(&owner);
                }
            }
        }
        for owner in &owners {
            self.dependents.entry(owner.clone()).or_default().insert(object.clone());
        }
        if !owners.is_empty() {
            self.known.insert(object.clone(), owners);
        }
    }
}
