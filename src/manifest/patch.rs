//! Patches of whoever changes a part of an object: merge patches (RFC 7396) and JSON patches (RFC 6902).

use json_patch::{Patch, PatchOperation};
use serde::Deserialize;
use serde_json::Value;

use super::MAX_SIZE;

/// The most operations of one JSON patch. Each may have to look at the whole document.
pub const MAX_OPERATIONS: usize = 1000;
/// The most that the `copy` operations of one patch may copy, in bytes: each can double what the last one made.
const MAX_COPIED: usize = 3 * MAX_SIZE;

/// The deepest object that is kept. A parser takes 127 levels, of the lists, changes and lines as well that it is a part of.
pub const MAX_DEPTH: usize = 100;

/// Why a patch changes nothing.
#[derive(Debug, thiserror::Error)]
pub enum PatchError {
    /// It is no patch.
    #[error("it is no {form}: {reason}")]
    Malformed {
        /// What was expected.
        form: &'static str,
        /// Why.
        reason: String,
    },
    /// An operation cannot be done on the object as it is.
    #[error("operation {number} of the patch cannot be done: {reason}")]
    Failed {
        /// Which, from 1 on.
        number: usize,
        /// Why.
        reason: String,
    },
    /// It makes more of an object than can be kept.
    #[error(
        "the patch has more than {MAX_OPERATIONS} operations, copies more than {MAX_COPIED} bytes or nests deeper than {MAX_DEPTH}"
    )]
    TooLarge,
}

/// The document with a merge patch on it.
pub fn merge(document: &Value, patch: &Value) -> Result<Value, PatchError> {
    if !patch.is_object() {
        return Err(PatchError::Malformed { form: "merge patch", reason: "write a map of what is to change".into() });
    }
    let mut document = document.clone();
    json_patch::merge(&mut document, patch);
    Ok(document)
}

/// The document with a JSON patch on it. A `test` for null on what is not there passes, as in Kubernetes: clients ask so
/// whether they are the first (`a_test_for_null_passes_where_there_is_nothing`).
pub fn json(document: &Value, patch: &Value) -> Result<Value, PatchError> {
    let malformed = |reason: String| PatchError::Malformed { form: "JSON patch", reason };
    let Patch(operations) = Patch::deserialize(patch).map_err(|error| malformed(error.to_string()))?;
    if operations.len() > MAX_OPERATIONS {
        return Err(PatchError::TooLarge);
    }
    let (mut document, mut copied) = (document.clone(), 0);
    for (index, operation) in operations.into_iter().enumerate() {
        let at = |from: &str| document.pointer(from).map_or(0, depth);
        let below = match &operation {
            PatchOperation::Add(add) => depth(&add.value),
            PatchOperation::Replace(replace) => depth(&replace.value),
            PatchOperation::Copy(copy) => at(copy.from.as_str()),
            PatchOperation::Move(from) => at(from.from.as_str()),
            PatchOperation::Remove(_) | PatchOperation::Test(_) => 0,
        };
        if operation.path().as_str().matches('/').count() + below > MAX_DEPTH {
            return Err(PatchError::TooLarge);
        }
        match &operation {
            PatchOperation::Test(test) if test.value.is_null() && document.pointer(test.path.as_str()).is_none() => {
                continue;
            }
            PatchOperation::Copy(copy) => {
                copied += document.pointer(copy.from.as_str()).map_or(0, |value| value.to_string().len());
                if copied > MAX_COPIED {
                    return Err(PatchError::TooLarge);
                }
            }
            PatchOperation::Add(_)
            | PatchOperation::Remove(_)
            | PatchOperation::Replace(_)
            | PatchOperation::Move(_)
            | PatchOperation::Test(_) => {}
        }
        json_patch::patch(&mut document, &[operation])
            .map_err(|error| PatchError::Failed { number: index + 1, reason: error.to_string() })?;
    }
    Ok(document)
}

/// How deep a value nests; of one that a parser or [`json`] made, which is never deep enough to exhaust a stack.
pub fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(map) => 1 + map.values().map(depth).max().unwrap_or(0),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 1,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_test_for_null_passes_where_there_is_nothing() {
        let patch = json!([
            { "op": "test", "path": "/metadata/finalizers", "value": null },
            { "op": "add", "path": "/metadata/finalizers", "value": ["a.b/c"] },
        ]);
        let patched = json(&json!({ "metadata": {} }), &patch).unwrap();
        assert_eq!(patched["metadata"]["finalizers"], json!(["a.b/c"]));
        // Where there is something it does not.
        assert!(matches!(json(&patched, &patch), Err(PatchError::Failed { number: 1, .. })));
    }

    #[test]
    fn a_patch_that_doubles_and_doubles_is_refused_before_it_is_large() {
        let copy = json!({ "op": "copy", "from": "/a", "path": "/a/-" });
        let patch: Value = std::iter::repeat_n(copy, 40).collect();
        assert!(matches!(json(&json!({ "a": ["x".repeat(100)] }), &patch), Err(PatchError::TooLarge)));
    }

    #[test]
    fn a_patch_that_nests_and_nests_is_refused_before_it_is_deep() {
        let under =
            |op: &str, depth: usize| json!({ "op": op, "from": "/a", "path": format!("/a{}", "/b".repeat(depth)) });
        let copies: Value = (0..20).map(|turn| under("copy", 1 << turn)).collect();
        assert!(matches!(json(&json!({ "a": {} }), &copies), Err(PatchError::TooLarge)));
        let turn = [
            json!({ "op": "move", "from": "/a", "path": "/c" }),
            json!({ "op": "add", "path": "/a", "value": {} }),
            json!({ "op": "move", "from": "/c", "path": "/a/b" }),
        ];
        let moves: Value = std::iter::repeat_n(turn, 500).flatten().collect();
        assert!(matches!(json(&json!({ "a": {} }), &moves), Err(PatchError::TooLarge)));
    }

    #[test]
    fn what_is_no_patch_is_refused_as_such() {
        for patch in [json!(null), json!({}), json!([{ "op": "dance" }]), json!([{ "op": "add", "path": "a" }])] {
            assert!(matches!(json(&json!({}), &patch), Err(PatchError::Malformed { .. })), "{patch}");
        }
        assert!(matches!(merge(&json!({}), &json!(["a"])), Err(PatchError::Malformed { .. })));
    }
}
