//! Wishing for an object's end.

use serde_json::Value;

use super::kinds::Writable;
use super::write::told;
use super::{ObjectError, Objects, Terms, view};
use crate::manifest::{Fault, FaultKind};
use crate::model::{Container, ContainerClaim, ContainerPool, EventKind, Kind, MANAGED_BY, Object, ObjectRef};
use crate::plan::owners::{FOREGROUND, ORPHAN};
use crate::store::records::{self, Versioned};
use crate::store::{Txn, TxnResult};

/// What becomes of the objects that name a deleted one as their owner ([`crate::plan::owners`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Propagation {
    /// They go after it.
    Background,
    /// They go before it.
    Foreground,
    /// They stay.
    Orphan,
}

/// Under which conditions, and how.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Deletion {
    /// What becomes of its dependents; `None`: [`Propagation::Background`].
    pub propagation: Option<Propagation>,
    /// Only if it was last written by this revision.
    pub revision: Option<u64>,
    /// Only if it is still this one.
    pub uid: Option<String>,
    /// Nothing is written; the answer says what would be.
    pub dry_run: bool,
    /// Only if this directory of manifests keeps it.
    pub keeper: Option<String>,
}

/// What a deletion came to.
#[derive(Clone, Debug, PartialEq)]
pub struct Deleted {
    /// Whether it is gone already; otherwise it goes when nothing of it is left.
    pub gone: bool,
    /// The object as it is shown, for the last time if it is gone.
    pub object: Value,
}

impl Deletion {
    /// Reads the `DeleteOptions` of Kubernetes; null are none.
    pub fn from_options(object: &ObjectRef, options: &Value) -> Result<Deletion, ObjectError> {
        let invalid = |field: &str, message: String, kind| ObjectError::Invalid {
            object: object.clone(),
            faults: vec![Fault::new(field, message).of(kind)],
        };
        let propagation = match (&options["propagationPolicy"], options["orphanDependents"].as_bool()) {
            (Value::Null, None) => None,
            (Value::Null, Some(true)) => Some(Propagation::Orphan),
            (Value::Null, Some(false)) => Some(Propagation::Background),
            (_, Some(_)) => {
                let message = "write propagationPolicy or orphanDependents, not both".into();
                return Err(invalid("propagationPolicy", message, FaultKind::Invalid));
            }
            (policy, None) => Some(match policy.as_str() {
                Some("Background") => Propagation::Background,
                Some("Foreground") => Propagation::Foreground,
                Some("Orphan") => Propagation::Orphan,
                _ => {
                    let message = format!("{policy} is not known: write Background, Foreground or Orphan");
                    return Err(invalid("propagationPolicy", message, FaultKind::NotSupported));
                }
            }),
        };
        let conditions = &options["preconditions"];
        let uid = conditions["uid"].as_str().map(str::to_owned);
        let revision = match conditions["resourceVersion"].as_str() {
            None => None,
            Some(text) => Some(text.parse().map_err(|_| {
                let message = format!("'{text}' is none: repeat the one that was read");
                invalid("preconditions.resourceVersion", message, FaultKind::Invalid)
            })?),
        };
        let dry_run: Vec<&Value> = options["dryRun"].as_array().into_iter().flatten().collect();
        if let Some(other) = dry_run.iter().find(|word| **word != "All") {
            let message = format!("{other} is not known: write All, or leave it out");
            return Err(invalid("dryRun", message, FaultKind::NotSupported));
        }
        Ok(Deletion { propagation, revision, uid, dry_run: !dry_run.is_empty(), keeper: None })
    }
}

impl Objects {
    /// Wishes for the end of an object. Who wishes for it once more may still say what becomes of its dependents. A pool's members go with it, those in use when their claims end; a claim's
    /// machine goes with the claim. It goes at once if nothing of it is left and no finalizer holds it.
    pub async fn delete(&self, object: &ObjectRef, deletion: &Deletion) -> Result<Deleted, ObjectError> {
        match object.kind {
            Kind::Container => self.delete_as::<Container>(object, deletion).await,
            Kind::ContainerPool => self.delete_as::<ContainerPool>(object, deletion).await,
            Kind::ContainerClaim => self.delete_as::<ContainerClaim>(object, deletion).await,
        }
    }

    async fn delete_as<T: Writable>(&self, object: &ObjectRef, deletion: &Deletion) -> Result<Deleted, ObjectError> {
        let terms = Terms { keeper: deletion.keeper.clone(), ..Terms::default() };
        loop {
            let read = records::get::<T>(&*self.store, &object.namespace, &object.name)?;
            let Some(read) = read else { return Err(ObjectError::NotFound { object: object.clone() }) };
            permitted(object, &read, deletion)?;
            let now = (self.clock)();
            let nothing_left = read.object.nothing_left(self)?;
            if deletion.propagation == Some(Propagation::Orphan) && T::KIND == Kind::ContainerPool && !nothing_left {
                let message = "a pool's machines are no machines without it: write Background or Foreground";
                let faults = vec![Fault::new("propagationPolicy", message)];
                return Err(ObjectError::Invalid { object: object.clone(), faults });
            }
            let mut ended = read.object.clone();
            let (meta, again) = (ended.meta_mut(), read.object.meta().deleting());
            meta.end(now);
            meta.finalizers.retain(|name| deletion.propagation.is_none() || (name != FOREGROUND && name != ORPHAN));
            match deletion.propagation {
                Some(Propagation::Foreground) => meta.finalizers.push(FOREGROUND.into()),
                Some(Propagation::Orphan) => meta.finalizers.push(ORPHAN.into()),
                Some(Propagation::Background) | None => {}
            }
            if again && ended == read.object {
                return Ok(Deleted { gone: false, object: view::view(&read) });
            }
            let meta = ended.meta();
            let gone = nothing_left && meta.finalizers.is_empty();
            let shown = |rev| Deleted { gone, object: view::view(&Versioned { object: ended.clone(), rev }) };
            if deletion.dry_run {
                return Ok(shown(read.rev));
            }
            let txn = Txn::default().unchanged(&read);
            let txn = if gone { txn.remove(&read.object) } else { txn.write(&ended) };
            let told = (!again).then(|| told(EventKind::DeletedObject, object, now, "deleted", &terms));
            let txn = txn.tell(told.as_slice());
            if let TxnResult::Committed(rev) = self.store.txn(txn).await? {
                return Ok(shown(rev));
            }
        }
    }
}

/// Whether what is there is what is to go.
fn permitted<T: Object>(object: &ObjectRef, read: &Versioned<T>, deletion: &Deletion) -> Result<(), ObjectError> {
    let meta = read.object.meta();
    if let Some(expected) = deletion.revision.filter(|expected| *expected != read.rev) {
        return Err(ObjectError::Conflict { object: object.clone(), expected, found: read.rev });
    }
    let found = meta.uid.to_string();
    if let Some(expected) = deletion.uid.clone().filter(|expected| *expected != found) {
        return Err(ObjectError::OtherUid { object: object.clone(), expected, found });
    }
    // Whoever keeps manifests deletes only what is theirs still.
    if let (Some(mine), theirs) = (&deletion.keeper, meta.annotations.get(MANAGED_BY))
        && theirs != Some(mine)
    {
        let manager = theirs.cloned().unwrap_or_else(|| "no directory".into());
        return Err(ObjectError::Managed { object: object.clone(), manager });
    }
    Ok(())
}
