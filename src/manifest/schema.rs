//! The JSON schema of a manifest, made from the types, and what a document has that it does not allow.
//!
//! Only the words of the schemas that `schemars` makes of our types are understood; that these are all of them is
//! kept by `the_schema_and_the_types_agree`.

use std::sync::LazyLock;

use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::forms::{ClaimReport, ContainerForm, ContainerReport, MetadataForm};
use super::text::say;
use super::{Fault, FaultKind, MAX_PROBLEMS, hint};
use crate::model::{API_VERSION, ClaimSpec, Kind, PoolSpec, PoolStatus};

/// What is in a record and never in a manifest.
const OURS: &[&str] = &["tokenSha256", "accessToken", "origin", "pool", "claim", "machine", "schedulingGates"];

/// The schema of a kind's manifests, as JSON Schema (draft 2020-12).
pub fn schema(kind: Kind) -> &'static Value {
    static SCHEMAS: LazyLock<[Value; 3]> = LazyLock::new(|| Kind::ALL.map(make));
    let index = Kind::ALL.iter().position(|other| *other == kind).unwrap_or_default();
    &SCHEMAS[index]
}

fn make(kind: Kind) -> Value {
    let mut generator = SchemaSettings::draft2020_12().into_generator();
    let metadata = generator.subschema_for::<MetadataForm>();
    let (about, spec, status) = match kind {
        Kind::ContainerPool => (
            "Machines made from one template: warm ones that wait, and bound ones that count against its limit.",
            generator.subschema_for::<PoolSpec>(),
            generator.subschema_for::<PoolStatus>(),
        ),
        Kind::Container => (
            "One machine, from its wish to its end.",
            generator.subschema_for::<ContainerForm>(),
            told::<ContainerReport>(&mut generator),
        ),
        Kind::ContainerClaim => (
            "Somebody's right to one machine of a pool.",
            generator.subschema_for::<ClaimSpec>(),
            told::<ClaimReport>(&mut generator),
        ),
    };
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": kind.to_string(),
        "description": about,
        "type": "object",
        "properties": {
            "apiVersion": { "description": "Group and version of the kind.", "type": "string", "const": API_VERSION },
            "kind": { "description": "The kind.", "type": "string", "const": kind.to_string() },
            "metadata": described(metadata.into(), "Name, labels and annotations."),
            "spec": described(spec.into(), "What is wished for."),
            "status": described(status.into(), "What is, as last committed. Written by the daemon, ignored in a manifest."),
        },
        "required": ["apiVersion", "kind", "metadata", "spec"],
        "additionalProperties": false,
        "$defs": generator.take_definitions(true),
    })
}

fn told<T: schemars::JsonSchema>(generator: &mut SchemaGenerator) -> schemars::Schema {
    generator.subschema_for::<T>()
}

fn described(mut schema: Value, description: &str) -> Value {
    if let Value::Object(schema) = &mut schema {
        schema.insert("description".into(), description.into());
    }
    schema
}

/// What a document has that the schema of its kind does not allow: all of it, up to [`MAX_PROBLEMS`].
pub(super) fn faults(kind: Kind, document: &Value) -> Vec<Fault> {
    let mut walk = Walk { root: schema(kind), kind, faults: Vec::new() };
    walk.value(walk.root, document, "");
    walk.faults
}

/// A schema without `$ref`, and without the alternative of being absent.
pub(super) fn resolve<'a>(root: &'a Value, mut schema: &'a Value) -> &'a Value {
    // Definitions do not refer to themselves: a few steps lead to the end.
    for _ in 0..8 {
        if let Some(name) = schema["$ref"].as_str().and_then(|target| target.strip_prefix("#/$defs/")) {
            schema = &root["$defs"][name];
        } else if let Some(some) = schema["anyOf"].as_array().and_then(|any| any.iter().find(|s| s["type"] != "null")) {
            schema = some;
        } else {
            break;
        }
    }
    schema
}

/// Whether a schema allows nothing to be there.
pub(super) fn nullable(schema: &Value) -> bool {
    let lists = |word: &str| schema[word].as_array().into_iter().flatten();
    lists("type").any(|name| name == "null") || lists("anyOf").any(|schema| schema["type"] == "null")
}

/// The texts that an enumeration allows.
pub(super) fn choices(schema: &Value) -> Vec<&str> {
    let one_of = schema["oneOf"].as_array().into_iter().flatten();
    let consts = one_of.filter_map(|choice| choice["const"].as_str());
    let lists = schema["oneOf"].as_array().into_iter().flatten().chain(std::iter::once(schema));
    consts
        .chain(lists.flat_map(|choice| choice["enum"].as_array().into_iter().flatten().filter_map(Value::as_str)))
        .collect()
}

/// The names of the types a schema allows, but for `null`.
pub(super) fn types(schema: &Value) -> Vec<&str> {
    match &schema["type"] {
        Value::String(name) => vec![name],
        Value::Array(names) => names.iter().filter_map(Value::as_str).filter(|name| *name != "null").collect(),
        _ => vec![],
    }
}

struct Walk {
    root: &'static Value,
    kind: Kind,
    faults: Vec<Fault>,
}

impl Walk {
    fn fault(&mut self, field: &str, message: String) {
        self.faults.push(Fault::new(field, message));
    }

    fn fault_of(&mut self, kind: FaultKind, field: &str, message: String) {
        self.faults.push(Fault::new(field, message).of(kind));
    }

    fn value(&mut self, schema: &'static Value, value: &Value, path: &str) {
        if value.is_null() && nullable(schema) {
            return;
        }
        let schema = resolve(self.root, schema);
        let choices = choices(schema);
        if !choices.is_empty() {
            let good = value.as_str().is_some_and(|text| choices.contains(&text));
            if !good {
                let text = value.as_str().unwrap_or_default();
                let meant = hint::nearest(text, choices.iter().copied());
                let hint = meant.map_or(String::new(), |meant| format!("; did you mean {meant}?"));
                let message = format!("{} is not known: write one of {}{hint}", say(value), choices.join(", "));
                self.fault_of(FaultKind::NotSupported, path, message);
            }
            return;
        }
        let types = types(schema);
        let has = |name: &str| types.contains(&name);
        match value {
            Value::Object(map) if has("object") => self.object(schema, map, path),
            Value::String(_) if has("string") => {}
            Value::Bool(_) if has("boolean") => {}
            Value::Array(_) if has("array") => {}
            Value::Number(number) if has("integer") => {
                let least = schema["minimum"].as_u64().unwrap_or(0);
                let most = if schema["format"] == "uint32" { u64::from(u32::MAX) } else { u64::MAX };
                if !number.as_u64().is_some_and(|number| (least..=most).contains(&number)) {
                    self.fault(path, format!("{number} is out of range: write a whole number from {least} to {most}"));
                }
            }
            other => {
                let what = types.iter().map(|name| right(name)).collect::<Vec<_>>().join(" or ");
                let quote =
                    if has("string") && (other.is_number() || other.is_boolean()) { " (in quotes)" } else { "" };
                let article = if other.is_string() { "the text " } else { "" };
                self.fault(path, format!("{article}{} is of the wrong type: write {what}{quote}", say(other)));
            }
        }
    }

    fn object(&mut self, schema: &'static Value, map: &Map<String, Value>, path: &str) {
        static NONE: LazyLock<Map<String, Value>> = LazyLock::new(Map::new);
        let fields = schema["properties"].as_object().unwrap_or(&NONE);
        // A field that is written wrongly is not missing as well.
        let mut meant = Vec::new();
        for (name, value) in map {
            if self.faults.len() >= MAX_PROBLEMS {
                return;
            }
            let field = below(path, name);
            match (fields.get(name), &schema["additionalProperties"]) {
                // Whatever it says, it is the daemon's to write.
                (Some(_), _) if path.is_empty() && name == "status" => {}
                (Some(schema), _) => self.value(schema, value, &field),
                (None, Value::Bool(false)) => meant.extend(self.unknown(fields, path, name, &field)),
                (None, Value::Object(_)) => self.value(&schema["additionalProperties"], value, &field),
                (None, _) => {}
            }
        }
        let required = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
        for name in required.filter(|name| !map.contains_key(*name) && !meant.contains(name)) {
            let about = fields.get(name).map(|field| description(self.root, field)).unwrap_or_default();
            let about = about.split_terminator(". ").next().unwrap_or_default().trim_end_matches('.');
            self.fault_of(FaultKind::Required, &below(path, name), format!("it is missing ({about})"));
        }
    }

    /// Tells of a field that is none; the one that was meant, if one can be guessed.
    fn unknown<'a>(&mut self, fields: &'a Map<String, Value>, path: &str, name: &str, field: &str) -> Option<&'a str> {
        if path == "spec" && OURS.contains(&name) {
            let kind = self.kind;
            self.fault(field, format!("it is the daemon's own to write in a {kind}: leave it out"));
            return None;
        }
        let names: Vec<&str> = fields.keys().map(String::as_str).collect();
        let meant = hint::nearest(name, names.iter().copied());
        let hint = meant.map_or(String::new(), |meant| format!("; did you mean {meant}?"));
        let place = if path.is_empty() { "here" } else { path };
        self.fault(field, format!("there is no such field; {place} has {}{hint}", names.join(", ")));
        meant
    }
}

/// A description, of the field or of its type.
pub(super) fn description<'a>(root: &'a Value, schema: &'a Value) -> &'a str {
    let own = schema["description"].as_str();
    own.or_else(|| resolve(root, schema)["description"].as_str()).unwrap_or_default()
}

pub(super) fn below(path: &str, name: &str) -> String {
    match (path.is_empty(), name.contains('.')) {
        (true, _) => name.into(),
        (false, false) => format!("{path}.{name}"),
        (false, true) => format!("{path}[{name}]"),
    }
}

fn right(kind: &str) -> &'static str {
    match kind {
        "object" => "a map",
        "string" => "a text",
        "boolean" => "true or false",
        "integer" => "a whole number",
        "array" => "a list",
        _ => "another value",
    }
}
