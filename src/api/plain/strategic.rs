//! Strategic merge patches (`application/strategic-merge-patch+json`), what `kubectl apply` sends for Kubernetes' own kinds. Of
//! ours no list but that of the owners is merged by a key, so they are merge patches with directives in them.

use serde_json::{Map, Value};

use crate::manifest::patch::{self, PatchError};

/// The document with such a patch on it.
pub(super) fn merge(document: &Value, change: &Value) -> Result<Value, PatchError> {
    let mut change = change.clone();
    strip(&mut change)?;
    let mut merged = patch::merge(document, &change)?;
    let [before, wanted] = [document, &change].map(|of| of["metadata"]["ownerReferences"].as_array());
    if let (Some(before), Some(wanted)) = (before, wanted) {
        merged["metadata"]["ownerReferences"] = owned(before, wanted).into();
    }
    Ok(merged)
}

/// Owners are merged by their UUID.
fn owned(before: &[Value], wanted: &[Value]) -> Vec<Value> {
    let mut owners = before.to_vec();
    for owner in wanted {
        match owners.iter_mut().find(|known| known["uid"] == owner["uid"]) {
            Some(known) => json_patch::merge(known, owner),
            None => owners.push(owner.clone()),
        }
    }
    owners
}

/// Takes the directives out that only say in which order things stand, or that others are left out; no others are known.
fn strip(value: &mut Value) -> Result<(), PatchError> {
    match value {
        Value::Object(fields) => {
            fields.retain(|name, _| name != "$retainKeys" && !name.starts_with("$setElementOrder/"));
            if let Some(name) = directive(fields) {
                let reason = format!("the directive '{name}' is not known here: write a merge patch");
                return Err(PatchError::Malformed { form: "strategic merge patch", reason });
            }
            fields.values_mut().try_for_each(strip)
        }
        Value::Array(items) => items.iter_mut().try_for_each(strip),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Ok(()),
    }
}

fn directive(fields: &Map<String, Value>) -> Option<&String> {
    fields.keys().find(|name| name.starts_with('$'))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_said_of_order_is_left_out_and_what_is_not_known_is_refused() {
        let document = json!({ "data": { "a": "YQ==", "b": "Yg==" } });
        let change =
            json!({ "$setElementOrder/x": ["a"], "$retainKeys": ["data"], "data": { "a": null, "c": "Yw==" } });
        assert_eq!(merge(&document, &change).unwrap(), json!({ "data": { "b": "Yg==", "c": "Yw==" } }));
        for unknown in [
            json!({ "$patch": "delete" }),
            json!({ "data": { "$patch": "replace", "a": "YQ==" } }),
            json!({ "metadata": { "$deleteFromPrimitiveList/finalizers": ["a"] } }),
            json!({ "metadata": { "ownerReferences": [{ "$patch": "delete", "uid": "1" }] } }),
            json!([]),
        ] {
            assert!(matches!(merge(&document, &unknown), Err(PatchError::Malformed { .. })), "{unknown}");
        }
    }

    #[test]
    fn owners_are_merged_by_their_uuid() {
        let of = |owners: Value| json!({ "metadata": { "ownerReferences": owners } });
        let document = of(json!([{ "uid": "1", "name": "a" }, { "uid": "2", "name": "b" }]));
        let change = of(json!([{ "uid": "2", "controller": true }, { "uid": "3", "name": "c" }]));
        let both = json!([
            { "uid": "1", "name": "a" },
            { "uid": "2", "name": "b", "controller": true },
            { "uid": "3", "name": "c" },
        ]);
        assert_eq!(merge(&document, &change).unwrap(), of(both));
        assert_eq!(merge(&document, &of(json!(null))).unwrap(), json!({ "metadata": {} }));
        assert_eq!(merge(&json!({}), &change).unwrap(), change);
    }
}
