//! Patches of whoever changes a part of an object: merge patches (RFC 7396) and JSON patches (RFC 6902).

use json_patch::{Patch, PatchOperation};
use serde::Deserialize;
use serde_json::Value;

use super::MAX_SIZE;

/// The most operations of one JSON patch. Each may have to look at the whole document.
pub const MAX_OPERATIONS: usize = 1000;
/// The most that the `copy` operations of one patch may copy, in bytes: each can double what the last one made.
const MAX_COPIED: usize = 3 * MAX_SIZE;

/// The most values that all operations of a patch may go through to find, move and compare what they are about: a list is
/// moved as a whole for each item that comes before it.
const MAX_VALUES: usize = 4_000_000;

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
        "the patch has more than {MAX_OPERATIONS} operations, copies more than {MAX_COPIED} bytes, goes through more than {MAX_VALUES} values or nests deeper than {MAX_DEPTH}"
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
    let (mut document, mut copied, mut values) = (document.clone(), 0, 0);
    for (index, operation) in operations.into_iter().enumerate() {
        let at = |from: &str| document.pointer(from).map_or((0, 0), extent);
        let (below, looked_at) = match &operation {
            PatchOperation::Add(add) => extent(&add.value),
            PatchOperation::Replace(replace) => extent(&replace.value),
            PatchOperation::Copy(copy) => at(copy.from.as_str()),
            PatchOperation::Move(from) => at(from.from.as_str()),
            PatchOperation::Remove(_) | PatchOperation::Test(_) => (0, 0),
        };
        let from = match &operation {
            PatchOperation::Move(from) => siblings(&document, from.from.as_str()),
            _ => 0,
        };
        values += looked_at + from + siblings(&document, operation.path().as_str());
        if operation.path().as_str().matches('/').count() + below > MAX_DEPTH || values > MAX_VALUES {
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
    extent(value).0
}

/// How deep a value nests, and of how many it is.
fn extent(value: &Value) -> (usize, usize) {
    let below: &mut dyn Iterator<Item = &Value> = match value {
        Value::Array(items) => &mut items.iter(),
        Value::Object(map) => &mut map.values(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => return (1, 1),
    };
    let (deepest, count) =
        below.map(extent).fold((0, 0), |(deepest, sum), (depth, count)| (depth.max(deepest), sum + count));
    (1 + deepest, 1 + count)
}

/// How many stand beside what a pointer points to.
fn siblings(document: &Value, pointer: &str) -> usize {
    let parent = pointer.rsplit_once('/').and_then(|(parent, _)| document.pointer(parent));
    match parent {
        Some(Value::Array(items)) => items.len(),
        Some(Value::Object(map)) => map.len(),
        _ => 0,
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
    fn a_patch_that_goes_through_a_large_value_again_and_again_is_refused_before_it_takes_long() {
        let large = json!({ "a": vec![0; 490_000] });
        let [there, back] =
            [["/a", "/b"], ["/b", "/a"]].map(|[from, path]| json!({ "op": "move", "from": from, "path": path }));
        let moves: Value = [there, back].into_iter().cycle().take(900).collect();
        let inserts: Value = std::iter::repeat_n(json!({ "op": "add", "path": "/a/0", "value": 1 }), 900).collect();
        let removes: Value = std::iter::repeat_n(json!({ "op": "remove", "path": "/a/0" }), 900).collect();
        for patch in [moves, inserts, removes] {
            assert!(matches!(json(&large, &patch), Err(PatchError::TooLarge)));
        }
    }

    #[test]
    fn what_is_no_patch_is_refused_as_such() {
        for patch in [json!(null), json!({}), json!([{ "op": "dance" }]), json!([{ "op": "add", "path": "a" }])] {
            assert!(matches!(json(&json!({}), &patch), Err(PatchError::Malformed { .. })), "{patch}");
        }
        assert!(matches!(merge(&json!({}), &json!(["a"])), Err(PatchError::Malformed { .. })));
    }
}
