//! Takes out of a document what its kind does not have.

use std::fmt;

use serde_json::Value;

use super::hint;
use super::schema::{below, resolve, schema};
use crate::model::Kind;

/// So many unknown fields are told; whoever has more begins with these.
const MOST_TOLD: usize = 20;

/// A field that its kind does not have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unknown {
    /// Its path.
    pub field: String,
    /// The one that may be meant.
    pub meant: Option<String>,
}

/// As Kubernetes says it; the hint is ours.
impl fmt::Display for Unknown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unknown field \"{}\"", self.field)?;
        match &self.meant {
            Some(meant) => write!(f, " (did you mean {meant}?)"),
            None => Ok(()),
        }
    }
}

/// Takes fields out of a document that its kind does not have, and tells them; takes those out that are null too,
/// which is another way of leaving them out. `status` is not looked into: it is not people's to write.
pub fn prune(kind: Kind, document: &mut Value) -> Vec<Unknown> {
    let mut unknown = Vec::new();
    let root = schema(kind);
    walk(root, root, document, "", &mut unknown);
    unknown
}

fn walk(root: &Value, schema: &Value, value: &mut Value, path: &str, unknown: &mut Vec<Unknown>) {
    let schema = resolve(root, schema);
    match value {
        Value::Object(map) => {
            let Some(fields) = schema["properties"].as_object() else {
                map.retain(|_, value| !value.is_null());
                if schema["additionalProperties"].is_object() {
                    for (name, value) in map {
                        walk(root, &schema["additionalProperties"], value, &below(path, name), unknown);
                    }
                }
                return;
            };
            let closed = schema["additionalProperties"] == false;
            map.retain(|name, value| {
                let known = fields.contains_key(name) || !closed;
                if !known && unknown.len() < MOST_TOLD {
                    let meant = hint::nearest(name, fields.keys().map(String::as_str)).map(str::to_owned);
                    unknown.push(Unknown { field: below(path, name), meant });
                }
                known && !value.is_null()
            });
            for (name, value) in map.iter_mut().filter(|(name, _)| !(path.is_empty() && *name == "status")) {
                if let Some(schema) = fields.get(name) {
                    walk(root, schema, value, &below(path, name), unknown);
                }
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter_mut().enumerate() {
                walk(root, &schema["items"], item, &format!("{path}[{index}]"), unknown);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
