//! What a field means, told from the schema.

use std::fmt::Write;

use serde_json::Value;

use super::schema::{choices, description, nullable, resolve, schema, types};
use super::{Fault, hint};
use crate::model::{API_VERSION, Kind};

/// Explains a kind, or the field of it at this path (`spec.template.memory`; the empty path is the kind itself).
pub fn explain(kind: Kind, path: &str) -> Result<String, Fault> {
    let root = schema(kind);
    let (mut field, mut required) = (root, true);
    let mut seen = String::new();
    for name in path.split('.').filter(|name| !name.is_empty()) {
        let inside = inside(root, field);
        let fields = inside["properties"].as_object();
        let next = fields.and_then(|fields| fields.get(name));
        let Some(next) = next else {
            let names: Vec<&str> = fields.into_iter().flatten().map(|(name, _)| name.as_str()).collect();
            let place = if seen.is_empty() { kind.to_string() } else { seen };
            let message = match (names.is_empty(), hint::nearest(name, names.iter().copied())) {
                (true, _) => format!("{place} has no fields"),
                (false, None) => format!("there is no such field; {place} has {}", names.join(", ")),
                (false, Some(meant)) => {
                    format!("there is no such field; {place} has {}; did you mean {meant}?", names.join(", "))
                }
            };
            return Err(Fault::new(path, message));
        };
        required = is_required(inside, name);
        if !seen.is_empty() {
            seen.push('.');
        }
        seen.push_str(name);
        field = next;
    }
    Ok(text(kind, root, field, &seen, required))
}

/// Every path that can be explained, in order.
pub fn paths(kind: Kind) -> Vec<String> {
    fn walk(root: &Value, field: &Value, path: &str, found: &mut Vec<String>) {
        for (name, next) in inside(root, field)["properties"].as_object().into_iter().flatten() {
            let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            found.push(path.clone());
            walk(root, next, &path, found);
        }
    }
    let mut found = Vec::new();
    walk(schema(kind), schema(kind), "", &mut found);
    found
}

/// The schema that has the fields of a field: of a list, that of its elements.
fn inside<'a>(root: &'a Value, field: &'a Value) -> &'a Value {
    let resolved = resolve(root, field);
    if resolved["items"].is_object() { resolve(root, &resolved["items"]) } else { resolved }
}

fn is_required(schema: &Value, name: &str) -> bool {
    schema["required"].as_array().into_iter().flatten().any(|required| required == name)
}

fn text(kind: Kind, root: &Value, field: &Value, path: &str, required: bool) -> String {
    let resolved = resolve(root, field);
    let mut text = format!("KIND:     {kind}\nVERSION:  {API_VERSION}\n");
    // A String takes every text.
    let _ = if path.is_empty() { Ok(()) } else { writeln!(text, "FIELD:    {path} <{}>", type_name(root, field)) };
    let must = if required && !path.is_empty() && field["default"].is_null() { " Required." } else { "" };
    let _ = write!(text, "\nDESCRIPTION:\n  {}{must}\n", description(root, field).replace('\n', " "));
    if let Some(default) = default(field) {
        let _ = write!(text, "\nDEFAULT:\n  {default}\n");
    }
    let listed = resolved["oneOf"].as_array().into_iter().flatten();
    let described: Vec<_> =
        listed.filter_map(|choice| Some((choice["const"].as_str()?, choice["description"].as_str()?))).collect();
    if !described.is_empty() {
        text.push_str("\nVALUES:\n");
        for (name, about) in described {
            let _ = writeln!(text, "  {name}  {}", about.replace('\n', " "));
        }
    }
    let inside = inside(root, field);
    if let Some(fields) = inside["properties"].as_object() {
        text.push_str("\nFIELDS:\n");
        for (name, field) in fields {
            let mark = if is_required(inside, name) { " -required-" } else { "" };
            let _ = write!(
                text,
                "  {name} <{}>{mark}\n    {}\n",
                type_name(root, field),
                description(root, field).replace('\n', " ")
            );
        }
    }
    text
}

fn default(field: &Value) -> Option<String> {
    match &field["default"] {
        Value::Null => nullable(field).then(|| "absent".to_owned()),
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}

fn type_name(root: &Value, field: &Value) -> String {
    let resolved = resolve(root, field);
    let choices = choices(resolved);
    if !choices.is_empty() {
        return choices.join("|");
    }
    let types = types(resolved);
    match types.as_slice() {
        ["array"] => format!("[]{}", type_name(root, &resolved["items"])),
        ["object"] if resolved["properties"].is_null() => "map of text".into(),
        ["string"] if resolved["format"] == "date-time" => "time".into(),
        names => names.join(" or "),
    }
}
