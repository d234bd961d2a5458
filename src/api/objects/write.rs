//! Creating, replacing, applying, scaling and deleting.

use jiff::Timestamp;
use uuid::Uuid;

use super::view::{self, Shown};
use super::{Mode, ObjectError, Objects, Outcome, Terms, Written};
use crate::api::placing;
use crate::manifest::keep::CONFIGURATION;
use crate::manifest::{Fault, Manifest, RESERVED, Spec, rules};
use crate::model::{
    ClaimPhase, ClaimSpec, ClaimStatus, Container, ContainerClaim, ContainerPool, Event, EventKind, Kind, MANAGED_BY,
    Object, ObjectMeta, ObjectRef, PoolSpec, Template,
};
use crate::store::records::{self, RecordError, Versioned};
use crate::store::{Txn, TxnResult};

impl Objects {
    /// Writes what a manifest describes.
    pub async fn write(&self, manifest: &Manifest, mode: Mode, terms: &Terms) -> Result<Written, ObjectError> {
        let invalid = |faults| Err(ObjectError::Invalid { object: manifest.object_ref(), faults });
        let faults = rules::check(&manifest.spec);
        if !faults.is_empty() {
            return invalid(faults);
        }
        match &manifest.spec {
            Spec::Pool(spec) => self.write_as::<ContainerPool>(manifest, spec, mode, terms).await,
            Spec::Container(template) => self.write_as::<Container>(manifest, template, mode, terms).await,
            Spec::Claim(spec) => {
                let pool = records::get::<ContainerPool>(&*self.store, &manifest.namespace, &spec.pool)?;
                let faults = pool.map(|pool| rules::claim_in(spec, &pool.object.spec.template)).unwrap_or_default();
                if !faults.is_empty() {
                    return invalid(faults);
                }
                self.write_as::<ContainerClaim>(manifest, spec, mode, terms).await
            }
        }
    }

    /// Keeps trying as long as others are faster; under a condition on the revision, being slower is the answer.
    async fn write_as<T: Writable>(
        &self,
        manifest: &Manifest,
        spec: &T::Spec,
        mode: Mode,
        terms: &Terms,
    ) -> Result<Written, ObjectError> {
        let object = manifest.object_ref();
        loop {
            let now = (self.clock)();
            let read = records::get::<T>(&*self.store, &object.namespace, &object.name)?;
            let (outcome, written, txn) = match (&read, mode) {
                (None, Mode::Replace) => return Err(ObjectError::NotFound { object }),
                (Some(_), Mode::Create) => return Err(ObjectError::Exists { object }),
                (None, Mode::Create | Mode::Apply) => {
                    if let Some(expected) = terms.revision.filter(|revision| *revision > 0) {
                        return Err(ObjectError::Conflict { object, expected, found: 0 });
                    }
                    let meta = described_meta(manifest, None, terms, now);
                    let (made, txn) = T::make(self, meta, spec, now).await?;
                    (Outcome::Created, made, txn)
                }
                (Some(read), Mode::Replace | Mode::Apply) => {
                    permitted(&object, read.object.meta(), read.rev, terms)?;
                    let mut changed = T::changed(&read.object, spec)
                        .map_err(|faults| ObjectError::Invalid { object: object.clone(), faults })?;
                    let respecified = changed != read.object;
                    *changed.meta_mut() = described_meta(manifest, Some(read.object.meta()), terms, now);
                    if respecified {
                        changed.meta_mut().generation += 1;
                    }
                    if changed == read.object {
                        return Ok(Written { outcome: Outcome::Unchanged, object: view::view(read) });
                    }
                    let mut events = T::events(&read.object, &changed, now);
                    events.push(told(EventKind::AppliedObject, &object, now, "configured", terms));
                    let txn = Txn::default().unchanged(read).write(&changed).tell(&events);
                    (Outcome::Configured, changed, txn)
                }
            };
            let txn = match outcome {
                Outcome::Created => txn.tell(&[told(EventKind::AppliedObject, &object, now, "created", terms)]),
                Outcome::Configured | Outcome::Unchanged => txn,
            };
            if terms.dry_run {
                let rev = read.map_or(0, |read| read.rev);
                return Ok(Written { outcome, object: view::view(&Versioned { object: written, rev }) });
            }
            if let TxnResult::Committed(rev) = self.store.txn(txn).await? {
                return Ok(Written { outcome, object: view::view(&Versioned { object: written, rev }) });
            }
        }
    }

    /// Gives a pool another number of replicas.
    pub async fn scale(
        &self,
        namespace: &str,
        pool: &str,
        replicas: u32,
        terms: &Terms,
    ) -> Result<Written, ObjectError> {
        let object = ObjectRef { kind: Kind::ContainerPool, namespace: namespace.into(), name: pool.into() };
        loop {
            let read = records::get::<ContainerPool>(&*self.store, namespace, pool)?;
            let Some(read) = read else { return Err(ObjectError::NotFound { object }) };
            let mut manifest = view::described(&read.object);
            if let Spec::Pool(spec) = &mut manifest.spec {
                spec.replicas = replicas;
            }
            let as_read = Terms { revision: Some(terms.revision.unwrap_or(read.rev)), ..terms.clone() };
            match self.write(&manifest, Mode::Replace, &as_read).await {
                // Nobody asked for that condition: the operator was faster with its counters.
                Err(ObjectError::Conflict { .. }) if terms.revision.is_none() => {}
                answer => return answer,
            }
        }
    }

    /// Wishes for the end of an object; `true` if it is gone already. A pool's members go with it, those in use when
    /// their claims end; a claim's machine goes with the claim.
    pub async fn delete(&self, object: &ObjectRef, terms: &Terms) -> Result<bool, ObjectError> {
        match object.kind {
            Kind::Container => self.delete_as::<Container>(object, terms).await,
            Kind::ContainerPool => self.delete_as::<ContainerPool>(object, terms).await,
            Kind::ContainerClaim => self.delete_as::<ContainerClaim>(object, terms).await,
        }
    }

    async fn delete_as<T: Writable>(&self, object: &ObjectRef, terms: &Terms) -> Result<bool, ObjectError> {
        loop {
            let read = records::get::<T>(&*self.store, &object.namespace, &object.name)?;
            let Some(read) = read else { return Err(ObjectError::NotFound { object: object.clone() }) };
            let meta = read.object.meta();
            if let Some(expected) = terms.revision.filter(|expected| *expected != read.rev) {
                return Err(ObjectError::Conflict { object: object.clone(), expected, found: read.rev });
            }
            // Whoever keeps manifests deletes only what is theirs still.
            if let (Some(mine), theirs) = (&terms.manager, meta.annotations.get(MANAGED_BY))
                && theirs != Some(mine)
            {
                let manager = theirs.cloned().unwrap_or_else(|| "no directory".into());
                return Err(ObjectError::Managed { object: object.clone(), manager });
            }
            if meta.deleting() || terms.dry_run {
                return Ok(false);
            }
            let now = (self.clock)();
            let nothing_left = read.object.nothing_left(self)?;
            let mut txn = Txn::default().unchanged(&read);
            txn = if nothing_left {
                txn.remove(&read.object)
            } else {
                let mut gone = read.object.clone();
                gone.meta_mut().deletion_timestamp = Some(now);
                txn.write(&gone)
            };
            let txn = txn.tell(&[told(EventKind::DeletedObject, object, now, "deleted", terms)]);
            if let TxnResult::Committed(_) = self.store.txn(txn).await? {
                return Ok(nothing_left);
            }
        }
    }
}

/// Whether an object that is there may be written.
fn permitted(object: &ObjectRef, meta: &ObjectMeta, rev: u64, terms: &Terms) -> Result<(), ObjectError> {
    let object = || object.clone();
    if let Some(expected) = terms.revision.filter(|expected| *expected != rev) {
        return Err(ObjectError::Conflict { object: object(), expected, found: rev });
    }
    if meta.deleting() {
        return Err(ObjectError::Deleting { object: object() });
    }
    match (&terms.manager, meta.annotations.get(MANAGED_BY)) {
        // Somebody by hand: whoever keeps it applied will put it back, and it is theirs to know.
        (None, _) | (_, None) => Ok(()),
        (Some(mine), Some(theirs)) if mine == theirs || theirs == CONFIGURATION => Ok(()),
        (Some(_), Some(theirs)) => Err(ObjectError::Managed { object: object(), manager: theirs.clone() }),
    }
}

/// The metadata of an object that is as described: labels and annotations that are the daemon's stay as they are.
fn described_meta(manifest: &Manifest, before: Option<&ObjectMeta>, terms: &Terms, now: Timestamp) -> ObjectMeta {
    let fresh = || ObjectMeta::new(&manifest.namespace, &manifest.name, Uuid::new_v4(), now);
    let mut meta = before.cloned().unwrap_or_else(fresh);
    for (map, described) in [(&mut meta.labels, &manifest.labels), (&mut meta.annotations, &manifest.annotations)] {
        map.retain(|key, _| key.starts_with(RESERVED));
        map.extend(described.clone());
    }
    if let Some(manager) = &terms.manager {
        meta.annotations.insert(MANAGED_BY.into(), manager.clone());
    }
    meta
}

fn told(kind: EventKind, object: &ObjectRef, now: Timestamp, what: &str, terms: &Terms) -> Event {
    let event = Event::new(kind, now).regarding(object.clone()).message(format!("{object} {what}"));
    match &terms.manager {
        Some(manager) => event.detail("by", manager.clone()),
        None => event,
    }
}

/// A kind that can be written by its description.
trait Writable: Shown {
    /// What a manifest says of it.
    type Spec: Sync;

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

    async fn make(
        objects: &Objects,
        meta: ObjectMeta,
        template: &Template,
        _: Timestamp,
    ) -> Result<(Self, Txn), ObjectError> {
        let object = ObjectRef { kind: Kind::Container, namespace: meta.namespace.clone(), name: meta.name.clone() };
        let (births, store) = (objects.births.clone(), objects.store.clone());
        let template = template.clone();
        // The image may have to be hashed first: that takes as long as reading it.
        let born = tokio::task::spawn_blocking(move || births.standalone(&*store, meta, template)).await?;
        let birth = born.map_err(|source| ObjectError::Birth { object, source })?;
        Ok((birth.container, birth.txn))
    }

    fn changed(&self, template: &Template) -> Result<Self, Vec<Fault>> {
        if self.spec.template == *template {
            return Ok(self.clone());
        }
        let message = "a container's template never changes: delete the container and make it anew";
        Err(vec![Fault::new("spec.template", message)])
    }

    fn nothing_left(&self, _: &Objects) -> Result<bool, RecordError> {
        Ok(false)
    }
}

impl Writable for ContainerClaim {
    type Spec = ClaimSpec;

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
