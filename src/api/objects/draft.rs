//! From a request and what is there to the whole object that is wished for. Pure: what is there is an argument.

use serde_json::Value;

use super::request::{FieldValidation, Request, Verb};
use super::{ObjectError, Terms};
use crate::manifest::fields::{self, Author};
use crate::manifest::{Unknown, patch, prune};
use crate::model::{API_VERSION, ManagedFields};

/// What is wished for, before anybody looked whether it can be.
pub(super) struct Draft {
    /// The whole object.
    pub(super) document: Value,
    /// What was applied, if something was.
    pub(super) config: Option<Value>,
    /// Who owned what of it.
    pub(super) owners: Vec<ManagedFields>,
    /// What the writer is to be told.
    pub(super) warnings: Vec<String>,
}

/// Makes the draft. `live` is the object as it is shown, of revision `rev`; 0 without one.
pub(super) fn draft(
    request: &Request,
    live: Option<&Value>,
    rev: u64,
    owners: Vec<ManagedFields>,
    by: &Author<'_>,
) -> Result<Draft, ObjectError> {
    let mut warnings = Vec::new();
    let patched = |result: Result<Value, patch::PatchError>| {
        result.map_err(|source| ObjectError::Patch { object: request.object.clone(), source })
    };
    let (nothing, kind) = (Value::Null, request.object.kind);
    let before = live.unwrap_or(&nothing);
    let mut document = match request.verb {
        Verb::Create | Verb::Replace | Verb::Describe | Verb::Apply { .. } => request.body.clone(),
        Verb::MergePatch => patched(patch::merge(before, &request.body))?,
        Verb::JsonPatch => patched(patch::json(before, &request.body))?,
    };
    named(request, &mut document)?;
    fitting(request, &document, live, rev)?;
    strict(request, prune(kind, &mut document), &mut warnings)?;
    let mut draft = Draft { document, config: None, owners, warnings };
    match request.verb {
        Verb::Create | Verb::Replace | Verb::MergePatch | Verb::JsonPatch => {
            if request.subresource.is_none()
                && let Some(told) = fields::told(&draft.document, &draft.owners)
            {
                draft.owners = told;
            }
        }
        Verb::Describe => {
            for name in ["finalizers", "ownerReferences"] {
                let (given, there) = (&draft.document["metadata"][name], &before["metadata"][name]);
                if given.is_null() && !there.is_null() {
                    draft.document["metadata"][name] = there.clone();
                }
            }
        }
        Verb::Apply { .. } => {
            if draft.document["metadata"]["managedFields"].as_array().is_some_and(|told| !told.is_empty()) {
                return Err(bad(request, "metadata.managedFields: leave it out, it is the answer of an apply"));
            }
            let config = draft.document;
            draft.document = config.clone();
            if let Some(live) = live {
                if draft.owners.is_empty() {
                    draft.owners = fields::before_first_apply(by, live);
                }
                draft.document = fields::merged(by, &draft.owners, live, &config);
            }
            draft.config = Some(config);
        }
    }
    Ok(draft)
}

pub(super) fn bad(request: &Request, message: impl Into<String>) -> ObjectError {
    ObjectError::BadRequest { object: request.object.clone(), message: message.into() }
}

/// A document about the object that the request is about: what it leaves out of that is put in.
fn named(request: &Request, document: &mut Value) -> Result<(), ObjectError> {
    let object = &request.object;
    let Value::Object(map) = document else { return Err(bad(request, "it is no map: write an object")) };
    for (field, right) in [("apiVersion", API_VERSION), ("kind", &object.kind.to_string())] {
        if let Some(other) = map.get(field).filter(|found| !found.is_null() && *found != right) {
            return Err(bad(request, format!("{field} {other} does not belong here: write {right}")));
        }
    }
    let metadata = map.entry("metadata").or_insert_with(|| Value::Object(serde_json::Map::new()));
    let Value::Object(metadata) = metadata else { return Err(bad(request, "metadata is no map")) };
    for (field, right) in [("name", &object.name), ("namespace", &object.namespace)] {
        match metadata.get(field) {
            Some(found) if found == right => {}
            None | Some(Value::Null) => drop(metadata.insert(field.into(), right.clone().into())),
            Some(other) => {
                return Err(bad(request, format!("the body is about {field} {other}, and the path about '{right}'")));
            }
        }
    }
    Ok(())
}

/// Whether what is there is what the request is about.
fn fitting(request: &Request, document: &Value, live: Option<&Value>, rev: u64) -> Result<(), ObjectError> {
    let Request { object, verb, terms, .. } = request;
    let said = revision(request, document)?;
    let said = match verb {
        // A manifest may be of an earlier object of the same name.
        Verb::Describe => None,
        Verb::Create if said.is_some() => {
            return Err(bad(request, "metadata.resourceVersion: leave it out of what is to be made"));
        }
        Verb::Create | Verb::Replace | Verb::MergePatch | Verb::JsonPatch | Verb::Apply { .. } => said,
    };
    let expected = terms.revision.into_iter().chain(said);
    if let Some(expected) = expected.clone().find(|expected| *expected != rev) {
        return Err(ObjectError::Conflict { object: object.clone(), expected, found: rev });
    }
    if *verb == Verb::Replace && expected.count() == 0 {
        let message = "it is missing: who replaces an object says which revision of it they read";
        let fault = crate::manifest::Fault::new("metadata.resourceVersion", message);
        let faults = vec![fault.of(crate::manifest::FaultKind::Required)];
        return Err(ObjectError::Invalid { object: object.clone(), faults });
    }
    let uid = document["metadata"]["uid"].as_str().filter(|uid| !uid.is_empty());
    match (verb, uid) {
        (Verb::Create | Verb::Describe, _) | (_, None) => Ok(()),
        (Verb::Replace | Verb::MergePatch | Verb::JsonPatch | Verb::Apply { .. }, Some(uid)) => {
            let found = live.and_then(|live| live["metadata"]["uid"].as_str()).unwrap_or("of nothing");
            if found == uid {
                return Ok(());
            }
            Err(ObjectError::OtherUid { object: object.clone(), expected: uid.into(), found: found.into() })
        }
    }
}

/// The revision that a document says it is of.
fn revision(request: &Request, document: &Value) -> Result<Option<u64>, ObjectError> {
    match &document["metadata"]["resourceVersion"] {
        Value::Null => Ok(None),
        Value::String(text) if text.is_empty() || text == "0" => Ok(None),
        found => match found.as_str().and_then(|text| text.parse().ok()) {
            Some(revision) => Ok(Some(revision)),
            None => {
                Err(bad(request, format!("metadata.resourceVersion: {found} is none, repeat the one that was read")))
            }
        },
    }
}

/// What becomes of fields that its kind does not have.
fn strict(request: &Request, unknown: Vec<Unknown>, warnings: &mut Vec<String>) -> Result<(), ObjectError> {
    let Terms { field_validation, .. } = &request.terms;
    match field_validation {
        FieldValidation::Strict if !unknown.is_empty() => {
            Err(ObjectError::UnknownFields { object: request.object.clone(), fields: unknown })
        }
        FieldValidation::Warn => {
            warnings.extend(unknown.iter().map(Unknown::to_string));
            Ok(())
        }
        FieldValidation::Strict | FieldValidation::Ignore => Ok(()),
    }
}
