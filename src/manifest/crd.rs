//! The kinds as CustomResourceDefinitions, as data: names, columns, subresources, and a schema in the form that
//! Kubernetes calls structural. What the API publishes as OpenAPI and what `anweddol crds` prints is this.

use serde_json::{Map, Value, json};

use super::columns::columns;
use super::schema::{choices, description, nullable, resolve, schema, types};
use crate::model::{GROUP, Kind, VERSION};

/// What a kind is called besides its plural.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Names {
    /// One of them.
    pub singular: &'static str,
    /// What is quicker to type.
    pub short: &'static [&'static str],
}

/// Groups of kinds that can be asked for at once: `kubectl get anweddol`.
pub const CATEGORIES: &[&str] = &["all", "anweddol"];

/// What a kind is called.
pub fn names(kind: Kind) -> Names {
    match kind {
        Kind::ContainerPool => Names { singular: "containerpool", short: &["cpool", "pool", "pools"] },
        Kind::Container => Names { singular: "container", short: &["ctr", "ctrs"] },
        Kind::ContainerClaim => Names { singular: "containerclaim", short: &["claim", "claims"] },
    }
}

/// The fields, besides `metadata.name` and `metadata.namespace`, that objects of a kind can be selected by.
pub fn selectable(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::ContainerPool => &["spec.paused"],
        Kind::Container => &["status.phase", "status.pool", "status.claim"],
        Kind::ContainerClaim => &["spec.pool", "status.phase", "status.container"],
    }
}

/// Whether a kind has the subresource `scale`.
pub fn scales(kind: Kind) -> bool {
    match kind {
        Kind::ContainerPool => true,
        Kind::Container | Kind::ContainerClaim => false,
    }
}

/// All kinds' definitions, as the YAML that a cluster would be told.
pub fn definitions() -> Result<String, serde_yaml::Error> {
    let definitions = Kind::ALL.map(|kind| serde_yaml::to_string(&definition(kind)));
    Ok(definitions.into_iter().collect::<Result<Vec<_>, _>>()?.join("---\n"))
}

/// A kind's definition, in `apiextensions.k8s.io/v1`.
pub fn definition(kind: Kind) -> Value {
    let Names { singular, short } = names(kind);
    let columns: Vec<Value> = columns(kind)
        .iter()
        // Kubernetes shows the name by itself.
        .filter(|column| column.path != ".metadata.name")
        .map(|column| {
            let priority = u8::from(column.wide);
            json!({ "name": column.title, "type": column.kind, "jsonPath": column.path, "priority": priority })
        })
        .collect();
    let selectable: Vec<Value> =
        selectable(kind).iter().map(|field| json!({ "jsonPath": format!(".{field}") })).collect();
    let mut subresources = json!({ "status": {} });
    if scales(kind) {
        subresources["scale"] =
            json!({ "specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas" });
    }
    let mut schema = structural(kind);
    schema["properties"]["metadata"] = json!({ "type": "object" });
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": { "name": format!("{}.{GROUP}", kind.plural()) },
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": kind.to_string(),
                "listKind": format!("{kind}List"),
                "plural": kind.plural(),
                "singular": singular,
                "shortNames": short,
                "categories": CATEGORIES,
            },
            "versions": [{
                "name": VERSION,
                "served": true,
                "storage": true,
                "schema": { "openAPIV3Schema": schema },
                "subresources": subresources,
                "additionalPrinterColumns": columns,
                "selectableFields": selectable,
            }],
        },
    })
}

/// The schema of a kind's objects without references, alternatives or constants; `metadata` is left as it is.
pub fn structural(kind: Kind) -> Value {
    let root = schema(kind);
    let mut made = convert(root, root);
    if let Value::Object(properties) = &mut made["properties"] {
        for (name, about) in [("apiVersion", "Group and version of the kind."), ("kind", "The kind.")] {
            properties.insert(name.into(), json!({ "type": "string", "description": about }));
        }
    }
    made["required"] = json!(["spec"]);
    made
}

fn convert(root: &Value, schema: &Value) -> Value {
    let resolved = resolve(root, schema);
    let mut made = Map::new();
    let about = description(root, schema);
    if !about.is_empty() {
        made.insert("description".into(), about.into());
    }
    if nullable(schema) {
        made.insert("nullable".into(), true.into());
    }
    for source in [resolved, schema] {
        for (name, value) in source.as_object().into_iter().flatten() {
            if name.starts_with("x-kubernetes-") || (name == "default" && !value.is_null()) {
                made.insert(name.clone(), value.clone());
            }
        }
    }
    let choices = choices(resolved);
    if !choices.is_empty() {
        made.insert("type".into(), "string".into());
        made.insert("enum".into(), choices.into());
        return made.into();
    }
    match types(resolved).as_slice() {
        ["object"] => {
            made.insert("type".into(), "object".into());
            if let Some(properties) = resolved["properties"].as_object() {
                let properties = properties.iter().map(|(name, field)| (name.clone(), convert(root, field)));
                made.insert("properties".into(), Value::Object(properties.collect()));
                if resolved["required"].as_array().is_some_and(|required| !required.is_empty()) {
                    made.insert("required".into(), resolved["required"].clone());
                }
            } else if resolved["additionalProperties"].is_object() {
                made.insert("additionalProperties".into(), convert(root, &resolved["additionalProperties"]));
            } else {
                made.insert("x-kubernetes-preserve-unknown-fields".into(), true.into());
            }
        }
        ["array"] => {
            made.insert("type".into(), "array".into());
            made.insert("items".into(), convert(root, &resolved["items"]));
        }
        ["integer"] => {
            made.insert("type".into(), "integer".into());
            // Kubernetes knows no unsigned formats.
            made.insert("format".into(), "int64".into());
            for bound in ["minimum", "maximum"] {
                if !resolved[bound].is_null() {
                    made.insert(bound.into(), resolved[bound].clone());
                }
            }
            if resolved["format"] == "uint32" {
                made.entry("maximum").or_insert(u32::MAX.into());
            }
        }
        [one] => {
            made.insert("type".into(), (*one).into());
            for word in ["format", "pattern", "maxLength"] {
                let known = word != "format" || resolved[word] == "date-time";
                if !resolved[word].is_null() && known {
                    made.insert(word.into(), resolved[word].clone());
                }
            }
        }
        // A text or a number, say: whoever reads it decides.
        _ => {
            made.insert("x-kubernetes-preserve-unknown-fields".into(), true.into());
        }
    }
    made.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What Kubernetes demands of a structural schema, at any depth.
    fn check(schema: &Value, path: &str) {
        for word in ["$ref", "$defs", "oneOf", "anyOf", "allOf", "const"] {
            assert!(schema[word].is_null(), "{path} says {word}: {schema}");
        }
        let untyped = schema["x-kubernetes-preserve-unknown-fields"] == true;
        assert!(schema["type"].is_string() || untyped, "{path} has no type: {schema}");
        if schema["x-kubernetes-list-type"] == "map" {
            assert!(schema["x-kubernetes-list-map-keys"].is_array(), "{path}");
        }
        for (name, field) in schema["properties"].as_object().into_iter().flatten() {
            check(field, &format!("{path}.{name}"));
        }
        for word in ["items", "additionalProperties"] {
            if schema[word].is_object() {
                check(&schema[word], &format!("{path}.{word}"));
            }
        }
    }

    #[test]
    fn every_kind_has_a_structural_schema_with_its_fields_and_what_they_mean() {
        for kind in Kind::ALL {
            check(&structural(kind), &kind.to_string());
        }
        let pool = structural(Kind::ContainerPool);
        let spec = &pool["properties"]["spec"]["properties"];
        assert_eq!(spec["replicas"]["type"], "integer");
        assert_eq!(spec["updateStrategy"]["properties"]["type"]["enum"][0], "RollingUpdate");
        assert!(spec["template"]["properties"]["image"]["properties"]["kernel"]["properties"]["path"].is_object());
        assert!(spec["maxContainers"]["description"].as_str().unwrap().contains("most machines"));
    }

    #[test]
    fn paths_of_columns_and_of_scale_lead_to_fields_that_there_are() {
        for kind in Kind::ALL {
            let definition = definition(kind);
            let version = &definition["spec"]["versions"][0];
            let schema = &version["schema"]["openAPIV3Schema"];
            let paths = ["additionalPrinterColumns", "selectableFields"].into_iter();
            let paths = paths.flat_map(|list| version[list].as_array().unwrap()).map(|entry| &entry["jsonPath"]);
            let scale = version["subresources"]["scale"].as_object().into_iter().flatten().map(|(_, path)| path);
            for path in paths.chain(scale).filter_map(Value::as_str).filter(|path| !path.starts_with(".metadata")) {
                let field = path.split('.').skip(1).fold(schema, |schema, name| &schema["properties"][name]);
                assert!(!field.is_null(), "{kind} has no {path}");
            }
        }
    }
}
