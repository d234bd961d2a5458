//! What each kind makes of a wish.

use jiff::Timestamp;

use super::view::Shown;
use super::{ObjectError, Objects};
use crate::api::placing;
use crate::manifest::{Fault, Spec, rules};
use crate::model::{
    ClaimPhase, ClaimSpec, ClaimStatus, Condition, Container, ContainerClaim, ContainerPool, Event, EventKind, Kind,
    Object, ObjectMeta, ObjectRef, OwnerReference, PoolSpec, Template,
};
use crate::store::Txn;
use crate::store::records::{self, RecordError};

/// A kind that can be written by its description.
pub(super) trait Writable: Shown {
    /// What a manifest says of it.
    type Spec: Sync;

    /// What a manifest of this kind says.
    fn wished(spec: &Spec) -> Option<&Self::Spec>;

    /// What is wrong with it beside what is there.
    fn misfits(_objects: &Objects, _namespace: &str, _spec: &Self::Spec) -> Result<Vec<Fault>, RecordError> {
        Ok(vec![])
    }

    /// Puts back what of its metadata is not for its writer to take away.
    fn keep(&self, _meta: &mut ObjectMeta) {}

    /// Its conditions.
    fn conditions(&mut self) -> &mut Vec<Condition>;

    /// A new one, and the transaction that writes it if there is none.
    fn make(
        objects: &Objects,
        meta: ObjectMeta,
        spec: &Self::Spec,
        now: Timestamp,
    ) -> impl Future<Output = Result<(Self, Txn), ObjectError>> + Send;

    /// The same with another spec, if it may have it.
    fn changed(&self, spec: &Self::Spec) -> Result<Self, Vec<Fault>>;

    /// What a change means, besides that it was made.
    fn events(_before: &Self, _after: &Self, _now: Timestamp) -> Vec<Event> {
        vec![]
    }

    /// Whether the operator has nothing to do for its end.
    fn nothing_left(&self, objects: &Objects) -> Result<bool, RecordError>;
}

impl Writable for ContainerPool {
    type Spec = PoolSpec;

    fn wished(spec: &Spec) -> Option<&PoolSpec> {
        match spec {
            Spec::Pool(spec) => Some(spec),
            Spec::Container(_) | Spec::Claim(_) => None,
        }
    }

    fn conditions(&mut self) -> &mut Vec<Condition> {
        &mut self.status.conditions
    }

    async fn make(
        objects: &Objects,
        metadata: ObjectMeta,
        spec: &PoolSpec,
        _: Timestamp,
    ) -> Result<(Self, Txn), ObjectError> {
        Ok(placing::make_pool(&*objects.store, metadata, spec)?)
    }

    fn changed(&self, spec: &PoolSpec) -> Result<Self, Vec<Fault>> {
        Ok(ContainerPool { spec: spec.clone(), ..self.clone() })
    }

    fn nothing_left(&self, _: &Objects) -> Result<bool, RecordError> {
        // Exact, because whoever makes a member counts it in the same transaction.
        Ok(self.status.containers == 0)
    }
}

impl Writable for Container {
    type Spec = Template;

    fn wished(spec: &Spec) -> Option<&Template> {
        match spec {
            Spec::Container(spec) => Some(spec),
            Spec::Pool(_) | Spec::Claim(_) => None,
        }
    }

    fn conditions(&mut self) -> &mut Vec<Condition> {
        &mut self.status.conditions
    }

    async fn make(
        objects: &Objects,
        meta: ObjectMeta,
        template: &Template,
        _: Timestamp,
    ) -> Result<(Self, Txn), ObjectError> {
        let (namespace, name) = (meta.namespace.to_string(), meta.name.clone());
        let object = ObjectRef { kind: Kind::Container, namespace, name };
        let (births, store) = (objects.births.clone(), objects.store.clone());
        let template = template.clone();
        // The image may have to be hashed first: that takes as long as reading it.
        let born = tokio::task::spawn_blocking(move || births.standalone(&*store, meta, template)).await?;
        let birth = born.map_err(|source| ObjectError::Birth { object, source })?;
        Ok((birth.container, birth.txn))
    }

    fn changed(&self, template: &Template) -> Result<Self, Vec<Fault>> {
        if *self.spec.template == *template {
            return Ok(self.clone());
        }
        let message = "a container's template never changes: delete the container and make it anew";
        Err(vec![Fault::new("spec.template", message)])
    }

    fn keep(&self, meta: &mut ObjectMeta) {
        // A member belongs to its pool, whoever says otherwise.
        let by_pool = |owner: &&OwnerReference| owner.controller == Some(true) && self.spec.pool.is_some();
        for owner in self.metadata.owner_references.iter().filter(by_pool) {
            if !meta.owner_references.contains(owner) {
                meta.owner_references.push(owner.clone());
            }
        }
    }

    fn nothing_left(&self, _: &Objects) -> Result<bool, RecordError> {
        Ok(false)
    }
}

impl Writable for ContainerClaim {
    type Spec = ClaimSpec;

    fn wished(spec: &Spec) -> Option<&ClaimSpec> {
        match spec {
            Spec::Claim(spec) => Some(spec),
            Spec::Pool(_) | Spec::Container(_) => None,
        }
    }

    fn conditions(&mut self) -> &mut Vec<Condition> {
        &mut self.status.conditions
    }

    fn misfits(objects: &Objects, namespace: &str, spec: &ClaimSpec) -> Result<Vec<Fault>, RecordError> {
        let pool = records::get::<ContainerPool>(&*objects.store, namespace, &spec.pool)?;
        Ok(pool.map(|pool| rules::claim_in(spec, &pool.object.spec.template)).unwrap_or_default())
    }

    async fn make(
        _: &Objects,
        metadata: ObjectMeta,
        spec: &ClaimSpec,
        _: Timestamp,
    ) -> Result<(Self, Txn), ObjectError> {
        let claim = ContainerClaim { metadata, spec: spec.clone(), status: ClaimStatus::default() };
        let txn = Txn::default().absent(&records::key(&claim.object_ref())).write(&claim);
        Ok((claim, txn))
    }

    fn changed(&self, spec: &ClaimSpec) -> Result<Self, Vec<Fault>> {
        let mut faults = Vec::new();
        if self.spec.pool != spec.pool {
            let message = format!("a claim's pool never changes, and it is '{}': make another claim", self.spec.pool);
            faults.push(Fault::new("spec.pool", message));
        }
        if self.spec.ssh_public_key != spec.ssh_public_key {
            faults.push(Fault::new("spec.sshPublicKey", "a claim's key never changes: make another claim"));
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        let mut changed = self.clone();
        changed.spec.ttl_seconds = spec.ttl_seconds;
        changed.spec.timeout_seconds = spec.timeout_seconds;
        Ok(changed)
    }

    fn events(before: &Self, after: &Self, now: Timestamp) -> Vec<Event> {
        let extended = before.spec.ttl_seconds != after.spec.ttl_seconds && after.status.phase == ClaimPhase::Bound;
        let event = || {
            let event = Event::new(EventKind::ExtendedClaim, now).regarding(after.object_ref());
            match after.spec.ttl_seconds {
                Some(seconds) => event.detail("ttl_seconds", seconds),
                None => event,
            }
        };
        extended.then(event).into_iter().collect()
    }

    fn nothing_left(&self, objects: &Objects) -> Result<bool, RecordError> {
        let Some(container) = &self.status.container else { return Ok(true) };
        Ok(records::get::<Container>(&*objects.store, &self.metadata.namespace, container)?.is_none())
    }
}
