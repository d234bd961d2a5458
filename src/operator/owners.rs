//! What comes before an object's own pass: whether it goes with its owners, and whom it lets go before it goes itself.

use super::pass::AT_ONCE;
use super::{Operator, PassError, Requeue};
use crate::model::{
    Container, ContainerClaim, ContainerPool, Event, EventKind, Kind, Object, ObjectMeta, ObjectRef, OwnerReference,
};
use crate::plan::owners::{self, FOREGROUND, ORPHAN, Owner, Verdict};
use crate::store::Txn;
use crate::store::records::{self, RecordError, Versioned};

impl Operator {
    /// Takes one step; `None`: there is none to take. The owners of a pool's `member` say nothing.
    pub(super) fn pass_owners<T: Object>(
        &self,
        read: &Versioned<T>,
        member: bool,
    ) -> Result<Option<Requeue>, PassError> {
        let (meta, object) = (read.object.meta(), read.object.object_ref());
        if meta.deleting() {
            return self.let_go(read);
        }
        if meta.owner_references.is_empty() || member {
            return Ok(None);
        }
        // A record that cannot be read is no absent one.
        let seen = meta.owner_references.iter().map(|owner| Ok((owner.uid.as_str(), self.owner(meta, owner)?)));
        let seen = seen.collect::<Result<Vec<_>, RecordError>>()?;
        let look = |owner: &OwnerReference| seen.iter().find(|(uid, _)| *uid == owner.uid).map(|(_, seen)| *seen);
        let mut changed = read.object.clone();
        let event = match owners::decide(meta, |owner| look(owner).unwrap_or(Owner::Unknown)) {
            Verdict::Stay => return Ok(None),
            Verdict::Go => {
                changed.meta_mut().end(self.now());
                let event = Event::new(EventKind::DeletedObject, self.now()).regarding(object.clone());
                Some(event.message(format!("{object} deleted: its owner is gone or waits for it")))
            }
            Verdict::Keep(owners) => {
                changed.meta_mut().owner_references = owners.into();
                None
            }
        };
        self.store.txn(Txn::default().unchanged(read).write(&changed).tell(event.as_slice())).wait()?;
        Ok(Some(AT_ONCE))
    }

    fn owner(&self, meta: &ObjectMeta, reference: &OwnerReference) -> Result<Owner, RecordError> {
        let Some(owner) = owners::owner_ref(&meta.namespace, reference) else { return Ok(Owner::Unknown) };
        let found = match owner.kind {
            Kind::Container => self.meta_of::<Container>(&owner)?,
            Kind::ContainerPool => self.meta_of::<ContainerPool>(&owner)?,
            Kind::ContainerClaim => self.meta_of::<ContainerClaim>(&owner)?,
        };
        Ok(match found.filter(|found| found.uid.to_string() == reference.uid) {
            None => Owner::Gone,
            Some(found) if found.deleting() && found.finalizers.iter().any(|name| name == FOREGROUND) => Owner::Waiting,
            Some(_) => Owner::Present,
        })
    }

    fn meta_of<T: Object>(&self, object: &ObjectRef) -> Result<Option<ObjectMeta>, RecordError> {
        Ok(records::get::<T>(&*self.store, &object.namespace, &object.name)?.map(|read| read.object.meta().clone()))
    }

    /// What an object that goes waits for with its dependents.
    fn let_go<T: Object>(&self, read: &Versioned<T>) -> Result<Option<Requeue>, PassError> {
        let meta = read.object.meta();
        let holds = |name: &str| meta.finalizers.iter().any(|finalizer| finalizer == name);
        let done = if holds(ORPHAN) {
            let (pools, claims) = (self.orphan::<ContainerPool>(meta)?, self.orphan::<ContainerClaim>(meta)?);
            // Left over are those that somebody else wrote at the same time.
            if self.orphan::<Container>(meta)? || pools || claims {
                return Ok(Some(AT_ONCE));
            }
            ORPHAN
        } else if holds(FOREGROUND) {
            let blocking = |owner: &OwnerReference| owner.block_owner_deletion == Some(true);
            if !self.dependents::<Container>(meta, blocking)?.is_empty()
                || !self.dependents::<ContainerPool>(meta, blocking)?.is_empty()
                || !self.dependents::<ContainerClaim>(meta, blocking)?.is_empty()
            {
                return Ok(None);
            }
            FOREGROUND
        } else {
            return Ok(None);
        };
        let mut freed = read.object.clone();
        freed.meta_mut().finalizers.retain(|name| name != done);
        self.store.txn(Txn::default().unchanged(read).write(&freed)).wait()?;
        Ok(Some(AT_ONCE))
    }

    /// Takes an owner's name from its dependents of a kind; whether there were any.
    fn orphan<T: Object>(&self, owner: &ObjectMeta) -> Result<bool, PassError> {
        let dependents = self.dependents::<T>(owner, |_| true)?;
        for dependent in &dependents {
            let mut orphan = dependent.object.clone();
            orphan.meta_mut().owner_references.retain(|reference| reference.uid != owner.uid.to_string());
            self.store.txn(Txn::default().unchanged(dependent).write(&orphan)).wait()?;
        }
        Ok(!dependents.is_empty())
    }

    /// The objects of a kind that name an owner in such a way.
    fn dependents<T: Object>(
        &self,
        owner: &ObjectMeta,
        how: impl Fn(&OwnerReference) -> bool,
    ) -> Result<Vec<Versioned<T>>, RecordError> {
        let uid = owner.uid.to_string();
        let mut found = records::list::<T>(&*self.store, &owner.namespace)?;
        found.retain(|read| read.object.meta().owner_references.iter().any(|other| other.uid == uid && how(other)));
        Ok(found)
    }
}
