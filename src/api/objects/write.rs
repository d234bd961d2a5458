//! Creating, replacing, patching and applying.

use jiff::Timestamp;
use serde_json::{Value, json};
use uuid::Uuid;

use super::draft::{self, Draft, bad};
use super::kinds::Writable;
use super::view;
use super::{ObjectError, Objects, Outcome, Request, Subresource, Terms, Verb, Written};
use crate::api::births::random_text;
use crate::manifest::fields::{self, Author, LAST_APPLIED, Part};
use crate::manifest::keep::CONFIGURATION;
use crate::manifest::{self, Fault, FaultKind, Manifest, RESERVED};
use crate::model::{
    Condition, Container, ContainerClaim, ContainerPool, Event, EventKind, Kind, MANAGED_BY, ManagedFields, ObjectMeta,
    ObjectRef, valid_name,
};
use crate::store::records::{self, Versioned};
use crate::store::{Txn, TxnResult};

/// Characters of what the daemon adds to a `generateName`, as in Kubernetes: none that make words.
const NAME_ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
/// How many of them.
const NAME_SUFFIX: usize = 5;
/// The longest beginning of a name that leaves room for them.
const NAME_PREFIX: usize = 63 - NAME_SUFFIX;
/// So often another name is tried where one is taken.
const NAME_TRIES: usize = 8;
/// The longest name that a writer gives themselves, in bytes, as in Kubernetes.
const LONGEST_MANAGER: usize = 128;
/// Whoever does not say who they are.
const NOBODY: &str = "unknown";

impl Objects {
    /// Does what a request asks for. As long as others are faster it tries again; under a condition on the revision,
    /// being slower is the answer.
    pub async fn write(&self, request: &Request) -> Result<Written, ObjectError> {
        match &request.terms.field_manager {
            None if matches!(request.verb, Verb::Apply { .. }) => {
                return Err(bad(request, "fieldManager: who applies says who they are"));
            }
            Some(name) if name.is_empty() || name.len() > LONGEST_MANAGER || name.chars().any(char::is_control) => {
                let message = format!("fieldManager: write at most {LONGEST_MANAGER} bytes without control characters");
                return Err(bad(request, message));
            }
            Some(_) | None => {}
        }
        match request.subresource {
            Some(Subresource::Scale) => return self.write_scale(request).await,
            Some(Subresource::Status) if matches!(request.verb, Verb::Create | Verb::Describe) => {
                return Err(bad(request, "a status is replaced, patched or applied, with its object there"));
            }
            Some(Subresource::Status) | None => {}
        }
        if !request.object.name.is_empty() {
            return self.write_named(request).await;
        }
        let mut tries = NAME_TRIES;
        loop {
            let (named, chosen) = named(request)?;
            tries -= 1;
            match self.write_named(&named).await {
                Err(ObjectError::Exists { .. }) if chosen && tries > 0 => {}
                answer => return answer,
            }
        }
    }

    pub(super) async fn write_named(&self, request: &Request) -> Result<Written, ObjectError> {
        match request.object.kind {
            Kind::ContainerPool => self.write_as::<ContainerPool>(request).await,
            Kind::Container => self.write_as::<Container>(request).await,
            Kind::ContainerClaim => self.write_as::<ContainerClaim>(request).await,
        }
    }

    async fn write_as<T: Writable>(&self, request: &Request) -> Result<Written, ObjectError> {
        let Request { object, terms, .. } = request;
        loop {
            let by = author(request, (self.clock)());
            let read = records::get::<T>(&*self.store, &object.namespace, &object.name)?;
            there(request, read.is_some())?;
            let (live, rev) = (read.as_ref().map(view::view), read.as_ref().map_or(0, |read| read.rev));
            let owners = read.as_ref().map(|read| read.object.meta().managed_fields.to_vec()).unwrap_or_default();
            let draft = draft::draft(request, live.as_ref(), rev, owners, &by)?;
            let warnings = draft.warnings.clone();
            let (outcome, written, txn) = match read {
                None => self.make::<T>(request, draft, &by).await?,
                Some(read) => {
                    let changed = match request.subresource {
                        Some(Subresource::Status) => with_conditions(request, &read, draft, live.as_ref(), &by)?,
                        Some(Subresource::Scale) | None => self.change(request, &read, draft, live.as_ref(), &by)?,
                    };
                    if changed == read.object {
                        return Ok(Written { outcome: Outcome::Unchanged, object: view::view(&read), warnings });
                    }
                    let mut txn = Txn::default().unchanged(&read).write(&changed);
                    // A status is no wish: whoever looks after it writes it all the time.
                    if request.subresource != Some(Subresource::Status) {
                        let mut events = T::events(&read.object, &changed, by.now);
                        events.push(told(EventKind::AppliedObject, object, by.now, "configured", terms));
                        txn = txn.tell(&events);
                    }
                    (Outcome::Configured, changed, txn)
                }
            };
            let txn = txn.leaving_room(&*self.store)?;
            let rev = match terms.dry_run {
                true => rev,
                false => match self.store.txn(txn).await? {
                    TxnResult::Committed(rev) => rev,
                    TxnResult::Conflict { .. } => continue,
                },
            };
            return Ok(Written { outcome, object: view::view(&Versioned { object: written, rev }), warnings });
        }
    }

    async fn make<T: Writable>(
        &self,
        request: &Request,
        draft: Draft,
        by: &Author<'_>,
    ) -> Result<(Outcome, T, Txn), ObjectError> {
        let Request { object, terms, .. } = request;
        let manifest = manifest::<T>(object, &draft.document)?;
        let owners = owned(request, draft, None, &manifest.to_json(), by)?;
        let mut meta = described(&manifest, None, terms, by.now);
        meta.managed_fields = owners.into();
        meta.generate_name = request.body["metadata"]["generateName"].as_str().map(str::to_owned).into();
        let Some(spec) = T::wished(&manifest.spec) else { return Err(bad(request, "it is of another kind")) };
        self.fits::<T>(object, spec)?;
        let (made, txn) = T::make(self, meta, spec, by.now).await?;
        let txn = txn.tell(&[told(EventKind::AppliedObject, object, by.now, "created", terms)]);
        Ok((Outcome::Created, made, txn))
    }

    fn change<T: Writable>(
        &self,
        request: &Request,
        read: &Versioned<T>,
        draft: Draft,
        live: Option<&Value>,
        by: &Author<'_>,
    ) -> Result<T, ObjectError> {
        let Request { object, terms, .. } = request;
        let invalid = |faults| ObjectError::Invalid { object: object.clone(), faults };
        permitted(object, read.object.meta(), terms)?;
        if read.object.meta().deleting() && request.verb == Verb::Describe {
            return Err(ObjectError::Deleting { object: object.clone() });
        }
        let manifest = manifest::<T>(object, &draft.document)?;
        let Some(spec) = T::wished(&manifest.spec) else { return Err(bad(request, "it is of another kind")) };
        let mut changed = T::changed(&read.object, spec).map_err(invalid)?;
        let respecified = changed != read.object;
        if respecified {
            self.fits::<T>(object, spec)?;
        }
        if read.object.meta().deleting() {
            if respecified {
                return Err(ObjectError::Deleting { object: object.clone() });
            }
            let known = |name: &&String| !read.object.meta().finalizers.contains(name);
            if let Some(new) = manifest.finalizers.iter().find(known) {
                let message = format!("'{new}' comes too late: the object is being deleted");
                return Err(invalid(vec![Fault::new("metadata.finalizers", message).of(FaultKind::Forbidden)]));
            }
        }
        let mut meta = described(&manifest, Some(read.object.meta()), terms, by.now);
        read.object.keep(&mut meta);
        meta.managed_fields = owned(request, draft, live, &manifest.to_json(), by)?.into();
        if request.subresource.is_none()
            && let Verb::Apply { .. } = request.verb
            && fields::keeps_last_applied(by, &meta.annotations)
        {
            meta.annotations.insert(LAST_APPLIED.into(), fields::to_last_applied(&request.body));
        }
        *changed.meta_mut() = meta;
        if respecified {
            changed.meta_mut().generation += 1;
        }
        Ok(changed)
    }

    /// What a wish finds missing beside what is there. It was allowed once if it stays as it was: a pool that allows less
    /// since then is in no way of a label, nor of a finalizer that goes.
    fn fits<T: Writable>(&self, object: &ObjectRef, spec: &T::Spec) -> Result<(), ObjectError> {
        match T::misfits(self, &object.namespace, spec)? {
            faults if faults.is_empty() => Ok(()),
            faults => Err(ObjectError::Invalid { object: object.clone(), faults }),
        }
    }
}

/// What a document describes.
fn manifest<T: Writable>(object: &ObjectRef, document: &Value) -> Result<Manifest, ObjectError> {
    manifest::of_value(T::KIND, document).map_err(|faults| ObjectError::Invalid { object: object.clone(), faults })
}

/// Whether the object is there as the verb needs it.
fn there(request: &Request, found: bool) -> Result<(), ObjectError> {
    let object = || request.object.clone();
    match (request.verb, found) {
        (Verb::Create, true) => Err(ObjectError::Exists { object: object() }),
        (Verb::Replace | Verb::MergePatch | Verb::JsonPatch, false) => Err(ObjectError::NotFound { object: object() }),
        (Verb::Apply { .. }, false) if request.subresource.is_some() => Err(ObjectError::NotFound { object: object() }),
        (Verb::Create, false) | (Verb::Replace | Verb::MergePatch | Verb::JsonPatch, true) => Ok(()),
        (Verb::Describe | Verb::Apply { .. }, _) => Ok(()),
    }
}

fn author(request: &Request, now: Timestamp) -> Author<'_> {
    let manager = request.terms.field_manager.as_deref().unwrap_or(NOBODY);
    let part = match request.subresource {
        Some(Subresource::Status) => Part::Status,
        Some(Subresource::Scale) | None => Part::Wish,
    };
    Author { kind: request.object.kind, part, manager, subresource: request.subresource.map(Subresource::name), now }
}

/// The request with the name that its body says, or leaves to be chosen; and whether it was chosen.
fn named(request: &Request) -> Result<(Request, bool), ObjectError> {
    let metadata = &request.body["metadata"];
    let text = |name: &str| metadata[name].as_str().filter(|text| !text.is_empty());
    let (name, chosen) = match (text("name"), text("generateName")) {
        (Some(name), _) => (name.to_owned(), false),
        (None, Some(prefix)) => {
            let end =
                prefix.char_indices().map(|(at, c)| at + c.len_utf8()).take_while(|end| *end <= NAME_PREFIX).last();
            let prefix = &prefix[..end.unwrap_or(0)];
            (format!("{prefix}{}", random_text(NAME_ALPHABET, NAME_SUFFIX)), true)
        }
        (None, None) => {
            let fault = Fault::new("metadata.name", "it is missing: write metadata.name or metadata.generateName");
            let faults = vec![fault.of(FaultKind::Required)];
            return Err(ObjectError::Invalid { object: request.object.clone(), faults });
        }
    };
    let mut named = request.clone();
    named.object.name = name;
    if let Err(error) = valid_name(&named.object.name) {
        let faults = vec![Fault::new("metadata.name", error.to_string())];
        return Err(ObjectError::Invalid { object: named.object, faults });
    }
    Ok((named, chosen))
}

/// Whether whoever keeps manifests may write an object that is there.
fn permitted(object: &ObjectRef, meta: &ObjectMeta, terms: &Terms) -> Result<(), ObjectError> {
    match (&terms.keeper, meta.annotations.get(MANAGED_BY)) {
        // Somebody by hand: whoever keeps it applied will put it back, and it is theirs to know.
        (None, _) | (_, None) => Ok(()),
        (Some(mine), Some(theirs)) if mine == theirs || theirs == CONFIGURATION => Ok(()),
        (Some(_), Some(theirs)) => Err(ObjectError::Managed { object: object.clone(), manager: theirs.clone() }),
    }
}

/// The metadata of an object that is as described: labels and annotations that are the daemon's stay as they are.
fn described(manifest: &Manifest, before: Option<&ObjectMeta>, terms: &Terms, now: Timestamp) -> ObjectMeta {
    let fresh = || ObjectMeta::new(&manifest.namespace, &manifest.name, Uuid::new_v4(), now);
    let mut meta = before.cloned().unwrap_or_else(fresh);
    for (map, described) in [(&mut *meta.labels, &manifest.labels), (&mut meta.annotations, &manifest.annotations)] {
        map.retain(|key, _| key.starts_with(RESERVED));
        map.extend(described.clone());
    }
    meta.finalizers = manifest.finalizers.clone().into();
    meta.owner_references = manifest.owner_references.clone().into();
    if let Some(keeper) = &terms.keeper {
        meta.annotations.insert(MANAGED_BY.into(), keeper.clone());
    }
    meta
}

/// Who owns what from now on.
fn owned(
    request: &Request,
    draft: Draft,
    before: Option<&Value>,
    after: &Value,
    by: &Author<'_>,
) -> Result<Vec<ManagedFields>, ObjectError> {
    match (&draft.config, request.verb) {
        (Some(config), Verb::Apply { force }) => {
            let object = request.object.clone();
            fields::applied(by, draft.owners, before, after, config, force)
                .map_err(|conflicts| ObjectError::Contested { object, conflicts })
        }
        _ => Ok(fields::updated(by, draft.owners, before, after)),
    }
}

/// The object with the conditions of a draft that are not the operator's own.
fn with_conditions<T: Writable>(
    request: &Request,
    read: &Versioned<T>,
    draft: Draft,
    live: Option<&Value>,
    by: &Author<'_>,
) -> Result<T, ObjectError> {
    let given = &draft.document["status"]["conditions"];
    let given: Vec<Condition> = match given {
        Value::Null => vec![],
        given => serde_json::from_value(given.clone()).map_err(|error| {
            let faults = vec![Fault::new("status.conditions", error.to_string())];
            ObjectError::Invalid { object: request.object.clone(), faults }
        })?,
    };
    let own = |condition: &Condition| T::KIND.conditions().contains(&condition.kind.as_str());
    let mut changed = read.object.clone();
    let conditions = changed.conditions();
    conditions.retain(own);
    for condition in given.into_iter().filter(|condition| !own(condition)) {
        conditions.retain(|other| other.kind != condition.kind);
        conditions.push(condition);
    }
    let after = json!({ "status": { "conditions": manifest::json(conditions) } });
    changed.meta_mut().managed_fields = owned(request, draft, live, &after, by)?.into();
    Ok(changed)
}

pub(super) fn told(kind: EventKind, object: &ObjectRef, now: Timestamp, what: &str, terms: &Terms) -> Event {
    let event = Event::new(kind, now).regarding(object.clone()).message(format!("{object} {what}"));
    match terms.keeper.as_ref().or(terms.field_manager.as_ref()) {
        Some(by) => event.detail("by", by.clone()),
        None => event,
    }
}
