//! Objects that are kept for their clients and mean nothing to the daemon: namespaces, leases, secrets, and events that
//! others tell. They are documents in the form of Kubernetes, and have the same rules of writing as the others:
//! a revision, conditions on it, no write that changes nothing.
//!
//! | key | what |
//! | --- | --- |
//! | `plain/namespaces/NAME` | a namespace ([`super::namespaces`]) |
//! | `plain/leases/NAMESPACE/NAME` | as it is called |
//! | `plain/secrets/NAMESPACE/NAME` | the same, sealed ([`Sealer::seal_record`]) |
//! | `events.k8s.io/NAMESPACE/NAME` | an event that a client told, beside the log in `events/`: one watch sees both |

mod kinds;
pub(super) mod record;
mod strategic;
mod valid;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::Sealer;
use super::objects::read::{changes, selected};
use super::objects::{Changes, Listed};
use crate::manifest::patch;
use crate::manifest::selector::Filter;
use crate::model::valid_name;
use crate::plan::clock::Clock;
use crate::store::records::RecordError;
use crate::store::{Kv, Store, StoreError, Txn, TxnResult};

pub(super) use kinds::namespace_of;
use kinds::{LONGEST_NAME, MOST};
pub use kinds::{PlainError, PlainKind, PlainRef, valid_plain_name};
use record::{shown, view};

/// A change of one of them.
#[derive(Clone, Debug)]
pub enum Edit {
    /// This is it now.
    Replace(Value),
    /// These parts of it are so now (RFC 7396).
    Merge(Value),
    /// The same, with directives in it that only Kubernetes' own kinds know (`strategic`).
    Strategic(Value),
    /// These operations on it (RFC 6902).
    Patch(Value),
}

/// What has to hold of an object that is deleted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Preconditions {
    /// It is this one, and no other of its name.
    pub uid: Option<String>,
    /// It was last written by this revision.
    pub resource_version: Option<String>,
}

/// All of them, to read and to write.
pub struct Plain {
    store: Arc<dyn Store>,
    clock: Clock,
    sealer: Arc<Sealer>,
}

impl Plain {
    /// Those of a store, of which the secrets are sealed.
    pub fn new(store: Arc<dyn Store>, clock: Clock, sealer: Arc<Sealer>) -> Self {
        Plain { store, clock, sealer }
    }

    /// Seals what a version before sealing wrote, and says of how many secrets.
    pub async fn seal(&self) -> Result<usize, StoreError> {
        record::seal_all(&*self.store, &self.sealer).await
    }

    fn view(&self, kind: PlainKind, kv: &Kv) -> Result<Value, RecordError> {
        view(&self.sealer, kind, kv)
    }

    fn put(&self, txn: Txn, kind: PlainKind, key: &str, object: &Value) -> Txn {
        record::put(txn, &self.sealer, kind, key, object)
    }

    pub(super) fn store(&self) -> &dyn Store {
        &*self.store
    }

    /// One of them.
    pub fn get(&self, object: &PlainRef) -> Result<Value, PlainError> {
        let kv = self.store.get(&object.key())?.0.ok_or_else(|| PlainError::NotFound(object.clone()))?;
        Ok(self.view(object.kind, &kv)?)
    }

    /// Those of a kind that are meant, in a namespace or in all of them.
    pub fn list(&self, kind: PlainKind, namespace: Option<&str>, filter: Filter) -> Result<Listed, PlainError> {
        let (kvs, revision) = self.store.list(&kind.prefix(namespace))?;
        let sealer = Arc::clone(&self.sealer);
        let shown = move |kv: Kv| Ok(Some(view(&sealer, kind, &kv)?).filter(|value| filter.takes(value)));
        Ok(Listed { items: Box::new(kvs.into_iter().map(shown)), revision })
    }

    /// Every change of them after a revision.
    pub fn watch(&self, kind: PlainKind, namespace: Option<&str>, filter: Filter, after: u64) -> Changes {
        let sealer = Arc::clone(&self.sealer);
        changes(&*self.store, &kind.prefix(namespace), after, move |change, rev| {
            selected(change, rev, |kv| Ok(Some(view(&sealer, kind, kv)?).filter(|value| filter.takes(value))))
        })
    }

    /// Makes one.
    pub async fn create(
        &self,
        kind: PlainKind,
        namespace: &str,
        body: Value,
        dry_run: bool,
    ) -> Result<Value, PlainError> {
        let name = name_of(kind, &body)?;
        let object = PlainRef { kind, namespace: namespace.into(), name };
        let mut made = body;
        let meta = tidy(&mut made, &object)?;
        meta.insert("uid".into(), Uuid::new_v4().to_string().into());
        meta.insert("creationTimestamp".into(), seconds((self.clock)()).into());
        if kind == PlainKind::Namespace {
            let labels = meta.entry("labels").or_insert_with(|| json!({}));
            labels["kubernetes.io/metadata.name"] = object.name.clone().into();
            made["spec"] = json!({ "finalizers": ["kubernetes"] });
            made["status"] = json!({ "phase": "Active" });
        }
        if kind == PlainKind::Secret && made["type"].is_null() {
            made["type"] = "Opaque".into();
        }
        valid::check(kind, &made)?;
        let key = object.key();
        let mut txn = self.put(Txn::default().absent(&key), kind, &key, &made);
        if self.store.get(&key)?.0.is_some() {
            return Err(PlainError::Exists(object));
        }
        if let Some(oldest) = self.making_room(kind, namespace)? {
            txn = txn.delete(&oldest.key);
        }
        let txn = txn.leaving_room(&*self.store)?;
        if dry_run {
            return Ok(shown(kind, made, 0));
        }
        match self.store.txn(txn).await? {
            TxnResult::Committed(rev) => Ok(shown(kind, made, rev)),
            TxnResult::Conflict { .. } => Err(PlainError::Exists(object)),
        }
    }

    /// What has to go for one more. There is an end for each namespace, so that none takes what others need.
    fn making_room(&self, kind: PlainKind, namespace: &str) -> Result<Option<Kv>, PlainError> {
        let all = self.store.list(&kind.prefix(None))?.0;
        let own = kind.prefix(Some(namespace));
        let here: Vec<Kv> = all.iter().filter(|kv| kv.key.starts_with(&own)).cloned().collect();
        let own = kind.namespaced().then(|| namespace.to_owned());
        for (there, most, namespace) in [(here, MOST, own), (all, kind.most_of_all(), None)] {
            if there.len() < most {
                continue;
            }
            if kind != PlainKind::Event {
                return Err(PlainError::TooMany { kind, namespace, most });
            }
            return Ok(there.into_iter().min_by_key(|kv| kv.create_rev));
        }
        Ok(None)
    }

    /// Changes one; whoever is faster is taken into account, unless the change says which revision it is of.
    pub async fn edit(&self, object: &PlainRef, edit: &Edit, dry_run: bool) -> Result<Value, PlainError> {
        let key = object.key();
        loop {
            let kv = self.store.get(&key)?.0.ok_or_else(|| PlainError::NotFound(object.clone()))?;
            let before = self.view(object.kind, &kv)?;
            let mut after = match edit {
                Edit::Replace(value) => value.clone(),
                Edit::Merge(change) => patch::merge(&before, change)?,
                Edit::Strategic(change) => strategic::merge(&before, change)?,
                Edit::Patch(change) => patch::json(&before, change)?,
            };
            for field in ["resourceVersion", "uid"] {
                let said = &after["metadata"][field];
                if said.as_str().is_some_and(|said| !said.is_empty() && before["metadata"][field] != said) {
                    return Err(PlainError::Conflict(object.clone()));
                }
            }
            let meta = tidy(&mut after, object)?;
            for field in ["uid", "creationTimestamp", "deletionTimestamp"] {
                if !before["metadata"][field].is_null() {
                    meta.insert(field.into(), before["metadata"][field].clone());
                }
            }
            if object.kind == PlainKind::Namespace {
                after["spec"] = before["spec"].clone();
                after["status"] = before["status"].clone();
            }
            valid::check(object.kind, &after)?;
            let after_shown = shown(object.kind, after.clone(), kv.mod_rev);
            if after_shown == before {
                return Ok(after_shown);
            }
            let txn = self.put(Txn::default().key_unchanged(&kv), object.kind, &key, &after);
            let txn = txn.leaving_room(&*self.store)?;
            if dry_run {
                return Ok(after_shown);
            }
            match self.store.txn(txn).await? {
                TxnResult::Committed(rev) => return Ok(shown(object.kind, after, rev)),
                TxnResult::Conflict { .. } => {}
            }
        }
    }

    /// Makes this so, whether it was there or not, and tells whether it was made. Nobody owns a field of these kinds, so what is
    /// left out stays as it is.
    pub async fn apply(&self, object: &PlainRef, wanted: &Value, dry_run: bool) -> Result<(Value, bool), PlainError> {
        loop {
            match self.edit(object, &Edit::Merge(wanted.clone()), dry_run).await {
                Err(PlainError::NotFound(_)) => {}
                edited => return Ok((edited?, false)),
            }
            match self.create(object.kind, &object.namespace, wanted.clone(), dry_run).await {
                Err(PlainError::Exists(_)) => {}
                made => return Ok((made?, true)),
            }
        }
    }

    /// Deletes one, and tells what it was last. A namespace goes when everything in it is gone.
    pub async fn delete(
        &self,
        object: &PlainRef,
        conditions: &Preconditions,
        dry_run: bool,
    ) -> Result<Value, PlainError> {
        if object.kind == PlainKind::Namespace && object.name == crate::model::DEFAULT_NAMESPACE {
            let message = format!("namespaces \"{}\" is forbidden: this namespace may not be deleted", object.name);
            return Err(PlainError::Forbidden { message });
        }
        let key = object.key();
        loop {
            let kv = self.store.get(&key)?.0.ok_or_else(|| PlainError::NotFound(object.clone()))?;
            let mut last = match self.view(object.kind, &kv) {
                // What nobody can open or read any more can still be cleared away, but not if it has to be a certain one.
                Err(RecordError::Unopened { .. } | RecordError::Unreadable { .. }) => {
                    shown(object.kind, tidied(object)?, kv.mod_rev)
                }
                read => read?,
            };
            for (field, wanted) in [("uid", &conditions.uid), ("resourceVersion", &conditions.resource_version)] {
                if wanted.as_ref().is_some_and(|wanted| last["metadata"][field] != *wanted) {
                    return Err(PlainError::Conflict(object.clone()));
                }
            }
            let mut txn = Txn::default().key_unchanged(&kv);
            if object.kind == PlainKind::Namespace {
                if !last["metadata"]["deletionTimestamp"].is_null() {
                    return Ok(last);
                }
                last["metadata"]["deletionTimestamp"] = seconds((self.clock)()).into();
                last["status"]["phase"] = "Terminating".into();
                let mut record = last.clone();
                if let Some(meta) = record["metadata"].as_object_mut() {
                    meta.shift_remove("resourceVersion");
                }
                txn = self.put(txn, object.kind, &key, &record);
            } else {
                txn = txn.delete(&key);
            }
            if dry_run {
                return Ok(last);
            }
            if let TxnResult::Committed(rev) = self.store.txn(txn).await? {
                last["metadata"]["resourceVersion"] = rev.to_string().into();
                return Ok(last);
            }
        }
    }
}

/// An object of which nothing is known but its name.
fn tidied(object: &PlainRef) -> Result<Value, PlainError> {
    let mut named = json!({});
    tidy(&mut named, object)?;
    Ok(named)
}

fn seconds(at: jiff::Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn name_of(kind: PlainKind, body: &Value) -> Result<String, PlainError> {
    let meta = &body["metadata"];
    let name = match (meta["name"].as_str(), meta["generateName"].as_str()) {
        (Some(name), _) if !name.is_empty() => name.to_owned(),
        (_, Some(begin)) if !begin.is_empty() => format!("{begin}{}", &Uuid::new_v4().simple().to_string()[..5]),
        _ => {
            let message = "write a name, or a generateName to begin one with".into();
            return Err(PlainError::Invalid { field: "metadata.name", message });
        }
    };
    let invalid = |message| PlainError::Invalid { field: "metadata.name", message };
    // No path accepts another namespace.
    if kind == PlainKind::Namespace {
        valid_name(&name).map_err(|error| invalid(error.to_string()))?;
    }
    if valid_plain_name(&name) {
        Ok(name)
    } else {
        let right =
            format!("write at most {LONGEST_NAME} lower-case letters, digits, '-' and '.' (RFC 1123 subdomain)");
        Err(invalid(right))
    }
}

/// What of the metadata clients may write, and what the object's path says.
fn tidy<'a>(object: &'a mut Value, of: &PlainRef) -> Result<&'a mut Map<String, Value>, PlainError> {
    let invalid = |field, message: &str| PlainError::Invalid { field, message: message.into() };
    if patch::depth(object) > patch::MAX_DEPTH {
        return Err(invalid("", &format!("it nests deeper than {} levels", patch::MAX_DEPTH)));
    }
    let fields = object.as_object_mut().ok_or_else(|| invalid("", "write a map"))?;
    fields.retain(|name, _| name != "kind" && name != "apiVersion");
    // What is written as text is kept, and read, as what it is.
    if let Some(texts) = fields.shift_remove("stringData").filter(|texts| !texts.is_null()) {
        let Value::Object(texts) = texts else { return Err(invalid("stringData", "write texts")) };
        let data = fields.entry("data").or_insert(Value::Null);
        if data.is_null() {
            *data = json!({});
        }
        let data = data.as_object_mut().ok_or_else(|| invalid("data", "write a map"))?;
        for (name, text) in texts {
            let text = text.as_str().ok_or_else(|| invalid("stringData", "write texts"))?;
            data.insert(name, STANDARD.encode(text).into());
        }
    }
    let meta = fields.entry("metadata").or_insert_with(|| json!({}));
    let meta = meta.as_object_mut().ok_or_else(|| invalid("metadata", "write a map"))?;
    meta.retain(|name, value| {
        let theirs = matches!(name.as_str(), "generateName" | "labels" | "annotations" | "ownerReferences");
        theirs && !value.is_null() && value.as_object().is_none_or(|map| !map.is_empty())
    });
    meta.insert("name".into(), of.name.clone().into());
    if of.kind.namespaced() {
        meta.insert("namespace".into(), of.namespace.clone().into());
    }
    Ok(meta)
}
