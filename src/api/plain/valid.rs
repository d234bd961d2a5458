//! What an object has to be, so that every client can read it: whoever has types for these kinds cannot read any of them while
//! one has a text where there is a number. Fields that are not known here are kept as they are.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::Value;

use super::{PlainError, PlainKind};
use crate::manifest::{Fault, rules};

/// What a field holds.
#[derive(Clone, Copy)]
enum Form {
    Text,
    Integer,
    Time,
    Map,
}

const FIELDS: [(PlainKind, &str, Form); 18] = [
    (PlainKind::Secret, "type", Form::Text),
    (PlainKind::Lease, "spec", Form::Map),
    (PlainKind::Lease, "spec.holderIdentity", Form::Text),
    (PlainKind::Lease, "spec.leaseDurationSeconds", Form::Integer),
    (PlainKind::Lease, "spec.leaseTransitions", Form::Integer),
    (PlainKind::Lease, "spec.acquireTime", Form::Time),
    (PlainKind::Lease, "spec.renewTime", Form::Time),
    (PlainKind::Event, "count", Form::Integer),
    (PlainKind::Event, "series", Form::Map),
    (PlainKind::Event, "series.count", Form::Integer),
    (PlainKind::Event, "message", Form::Text),
    (PlainKind::Event, "reason", Form::Text),
    (PlainKind::Event, "type", Form::Text),
    (PlainKind::Event, "involvedObject", Form::Map),
    (PlainKind::Event, "source", Form::Map),
    (PlainKind::Event, "firstTimestamp", Form::Time),
    (PlainKind::Event, "lastTimestamp", Form::Time),
    (PlainKind::Event, "eventTime", Form::Time),
];

/// Checks an object whose metadata are those of [`super::tidy`].
pub(super) fn check(kind: PlainKind, object: &Value) -> Result<(), PlainError> {
    let invalid = |field, message: &str| PlainError::Invalid { field, message: message.into() };
    texts(&object["metadata"], "labels", "metadata.labels", rules::labels)?;
    texts(&object["metadata"], "annotations", "metadata.annotations", rules::annotations)?;
    let owners = &object["metadata"]["ownerReferences"];
    let named = |owner: &Value| ["apiVersion", "kind", "name", "uid"].iter().all(|field| owner[field].is_string());
    if !owners.is_null() && !owners.as_array().is_some_and(|owners| owners.iter().all(named)) {
        return Err(invalid(
            "metadata.ownerReferences",
            "write a list of owners, each with apiVersion, kind, name and uid",
        ));
    }
    for (of, field, form) in FIELDS {
        let value = field.split('.').fold(object, |value, part| &value[part]);
        if of == kind && !value.is_null() && !form.takes(value) {
            return Err(invalid(field, form.right()));
        }
    }
    if kind == PlainKind::Secret {
        let data = &object["data"];
        let whole = |value: &Value| value.as_str().is_some_and(encoded);
        if !data.is_null() && !data.as_object().is_some_and(|data| data.values().all(whole)) {
            return Err(invalid("data", "write a map of texts in base64, or texts as they are into stringData"));
        }
    }
    Ok(())
}

/// Whether this is base64. Lines of it are as good, as in Kubernetes.
fn encoded(text: &str) -> bool {
    let text: Vec<u8> = text.bytes().filter(|byte| !matches!(byte, b'\r' | b'\n')).collect();
    STANDARD.decode(text).is_ok()
}

impl Form {
    fn takes(self, value: &Value) -> bool {
        match self {
            Form::Text => value.is_string(),
            Form::Integer => value.as_i64().is_some_and(|number| i32::try_from(number).is_ok()),
            Form::Time => value.as_str().is_some_and(|text| text.parse::<Timestamp>().is_ok()),
            Form::Map => value.is_object(),
        }
    }

    fn right(self) -> &'static str {
        match self {
            Form::Text => "write a text",
            Form::Integer => "write an integer of 32 bits",
            Form::Time => "write a time, as 2026-07-01T12:00:00Z",
            Form::Map => "write a map",
        }
    }
}

/// Checks labels or annotations by the rules of manifests.
fn texts(
    meta: &Value,
    name: &str,
    field: &'static str,
    rules: impl Fn(&BTreeMap<String, String>) -> Vec<Fault>,
) -> Result<(), PlainError> {
    let Some(texts) = meta.get(name) else { return Ok(()) };
    let invalid = |message| PlainError::Invalid { field, message };
    let texts = serde_json::from_value(texts.clone()).map_err(|_| invalid("write a map of texts".into()))?;
    match rules(&texts).into_iter().next() {
        Some(fault) if fault.field == field => Err(invalid(fault.message)),
        // Which of them, and why.
        Some(Fault { field: which, message, .. }) => {
            Err(invalid(format!("{}: {message}", which.strip_prefix(field).unwrap_or(&which))))
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_typed_clients_cannot_read_is_refused_by_its_field() {
        let (secret, lease, event) = (PlainKind::Secret, PlainKind::Lease, PlainKind::Event);
        for (kind, object, field) in [
            (secret, json!({ "data": { "a": "YQ==", "b": "" }, "type": "Opaque", "immutable": true }), None),
            (secret, json!({ "data": { "a": "YWJj\nZGVm\n" } }), None),
            (secret, json!({ "data": null, "type": null }), None),
            (secret, json!({ "data": { "a": "no base64!" } }), Some("data")),
            (secret, json!({ "data": { "a": 1 } }), Some("data")),
            (secret, json!({ "data": "x" }), Some("data")),
            (secret, json!({ "type": 1 }), Some("type")),
            (
                lease,
                json!({ "spec": { "leaseDurationSeconds": 15, "renewTime": "2026-07-01T12:00:00.000001Z" } }),
                None,
            ),
            (lease, json!({ "spec": { "leaseDurationSeconds": "15" } }), Some("spec.leaseDurationSeconds")),
            (lease, json!({ "spec": { "leaseTransitions": 1.5 } }), Some("spec.leaseTransitions")),
            (lease, json!({ "spec": { "renewTime": "now" } }), Some("spec.renewTime")),
            (lease, json!({ "spec": [] }), Some("spec")),
            (event, json!({ "count": 2, "eventTime": null, "other": 1 }), None),
            (event, json!({ "count": "2" }), Some("count")),
            (event, json!({ "count": 5_000_000_000_i64 }), Some("count")),
            (event, json!({ "series": { "count": true } }), Some("series.count")),
            (lease, json!({ "metadata": { "labels": { "a": "b" }, "annotations": { "a/b": "c d" } } }), None),
            (lease, json!({ "metadata": { "labels": { "a": "b c" } } }), Some("metadata.labels")),
            (lease, json!({ "metadata": { "labels": { "a b": "" } } }), Some("metadata.labels")),
            (lease, json!({ "metadata": { "labels": { "a": 1 } } }), Some("metadata.labels")),
            (lease, json!({ "metadata": { "annotations": { "a b": "" } } }), Some("metadata.annotations")),
            (lease, json!({ "metadata": { "ownerReferences": "x" } }), Some("metadata.ownerReferences")),
            (lease, json!({ "metadata": { "ownerReferences": [{ "uid": "1" }] } }), Some("metadata.ownerReferences")),
        ] {
            match (check(kind, &object), field) {
                (Ok(()), None) => {}
                (Err(PlainError::Invalid { field: found, .. }), Some(field)) if found == field => {}
                (other, _) => panic!("{object}: {other:?}"),
            }
        }
    }
}
