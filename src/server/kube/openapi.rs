//! OpenAPI documents, from the schemas that the types have.
//!
//! kubectl refuses to write anything unless the document of a version says that its PATCH takes `fieldValidation`, and
//! makes strategic merge patches from a kind's whole schema where they are named: so they are not, and Kubernetes' own kinds,
//! which it knows, are patched so all the same. In the older form there is only the
//! beginning of a document, which is enough for clients that demand it before they write.

use std::sync::LazyLock;

use serde_json::{Map, Value, json};

use super::discovery;
use super::target::Resource;
use crate::manifest::crd;
use crate::model::{API_VERSION, GROUP, Kind, VERSION};

/// The older document in its own form: `swagger: "2.0"` and nothing else.
pub(super) const OLDER: &[u8] = b"\x0a\x032.0";
/// What it is sent as.
pub(super) const OLDER_TYPE: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";

/// Which documents there are, each with the hash that clients remember it by.
pub(super) fn index() -> Value {
    let paths = discovery::api_versions().into_iter().map(|version| {
        let path = if version.contains('/') { format!("apis/{version}") } else { format!("api/{version}") };
        let url = format!("/openapi/v3/{path}?hash={}", hash(&version));
        (path, json!({ "serverRelativeURL": url }))
    });
    json!({ "paths": paths.collect::<Map<_, _>>() })
}

/// The document of a version.
pub(super) fn document(version: &str) -> Option<Value> {
    static OURS: LazyLock<Value> = LazyLock::new(|| made(API_VERSION));
    if version == API_VERSION {
        return Some(OURS.clone());
    }
    discovery::api_versions().iter().any(|known| known == version).then(|| made(version))
}

fn hash(version: &str) -> String {
    let text = document(version).unwrap_or_default().to_string();
    crate::sha256(text).to_uppercase()
}

fn made(version: &str) -> Value {
    let (mut paths, mut schemas) = (Map::new(), Map::new());
    schemas.insert(META.into(), meta());
    for resource in Resource::published().filter(|resource| resource.api_version() == version) {
        let name = schema_name(resource);
        schemas.insert(name.clone(), schema(resource));
        schemas.insert(format!("{name}List"), list(resource, &name));
        let root = if resource.group().is_empty() { format!("/api/{version}") } else { format!("/apis/{version}") };
        let place = if resource.namespaced() { "/namespaces/{namespace}" } else { "" };
        let all = format!("{root}{place}/{}", resource.plural());
        for verb in resource.verbs().iter().map(|verb| verb.name()) {
            let (path, method, action, parameters, media): (_, _, _, &[&str], &[&str]) = match verb {
                "get" => (format!("{all}/{{name}}"), "get", "get", &[], &[]),
                "list" => {
                    (all.clone(), "get", "list", &["labelSelector", "fieldSelector", "resourceVersion", "watch"], &[])
                }
                "create" => (all.clone(), "post", "post", WRITE, &["application/json", "application/yaml"]),
                "update" => (format!("{all}/{{name}}"), "put", "put", WRITE, &["application/json", "application/yaml"]),
                "patch" => (format!("{all}/{{name}}"), "patch", "patch", WRITE, patches(resource)),
                "delete" => (format!("{all}/{{name}}"), "delete", "delete", &["dryRun", "propagationPolicy"], &[]),
                _ => continue,
            };
            let operation = operation(resource, &name, action, parameters, media);
            paths.entry(path).or_insert_with(|| json!({}))[method] = operation;
        }
    }
    json!({
        "openapi": "3.0.0",
        "info": { "title": "anweddol", "version": env!("CARGO_PKG_VERSION") },
        "paths": paths,
        "components": { "schemas": schemas },
    })
}

const WRITE: &[&str] = &["dryRun", "fieldManager", "fieldValidation", "force"];

fn patches(resource: Resource) -> &'static [&'static str] {
    match resource {
        Resource::Ours(_) | Resource::Plain(_) => {
            &["application/apply-patch+yaml", "application/json-patch+json", "application/merge-patch+json"]
        }
        Resource::Events(_) => &["application/merge-patch+json"],
        Resource::Review(_) | Resource::Log | Resource::Tokens | Resource::AccessTokens => {
            &["application/json-patch+json", "application/merge-patch+json"]
        }
    }
}

fn schema_name(resource: Resource) -> String {
    match resource {
        Resource::Ours(kind) => format!("io.anweddol.{VERSION}.{kind}"),
        other => {
            let group =
                if other.group().is_empty() { "core" } else { other.group().split('.').next().unwrap_or_default() };
            format!("io.k8s.api.{group}.v1.{}", other.kind())
        }
    }
}

fn gvk(resource: Resource, suffix: &str) -> Value {
    let version = resource.api_version();
    let version = version.rsplit('/').next().unwrap_or_default();
    json!([{ "group": resource.group(), "version": version, "kind": format!("{}{suffix}", resource.kind()) }])
}

/// What can be written for a parameter. Each is refused otherwise.
fn value(parameter: &str) -> Value {
    match parameter {
        "watch" | "force" => json!({ "type": "boolean" }),
        "dryRun" => json!({ "type": "string", "enum": ["All"] }),
        "fieldValidation" => json!({ "type": "string", "enum": ["Ignore", "Warn", "Strict"] }),
        "propagationPolicy" => json!({ "type": "string", "enum": ["Orphan", "Background", "Foreground"] }),
        "fieldManager" => json!({ "type": "string", "minLength": 1, "maxLength": 128, "pattern": "^[ -~]+$" }),
        "resourceVersion" => json!({ "type": "string", "pattern": "^[0-9]{1,9}$" }),
        _ => json!({ "type": "string" }),
    }
}

/// How objects can be named.
fn name_in_path(resource: Resource) -> Value {
    match resource {
        Resource::Ours(_) => json!({ "type": "string", "maxLength": 63, "pattern": "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$" }),
        Resource::Plain(_)
        | Resource::Events(_)
        | Resource::Review(_)
        | Resource::Log
        | Resource::Tokens
        | Resource::AccessTokens => {
            json!({ "type": "string", "maxLength": 253, "pattern": "^[a-z0-9]([-.a-z0-9]*[a-z0-9])?$" })
        }
    }
}

fn operation(resource: Resource, schema: &str, action: &str, parameters: &[&str], media: &[&str]) -> Value {
    let parameter = |name: &&str| json!({ "name": name, "in": "query", "schema": value(name) });
    let in_path = |name: &str| {
        let name_of = if name == "namespace" { Resource::Ours(Kind::ContainerPool) } else { resource };
        json!({ "name": name, "in": "path", "required": true, "schema": name_in_path(name_of) })
    };
    let mut all: Vec<Value> = parameters.iter().map(parameter).collect();
    if resource.namespaced() {
        all.push(in_path("namespace"));
    }
    if !matches!(action, "list" | "post") {
        all.push(in_path("name"));
    }
    let answer = if action == "list" { format!("{schema}List") } else { schema.to_owned() };
    let reference = |name: &str| json!({ "$ref": format!("#/components/schemas/{name}") });
    let mut made = json!({
        "operationId": format!("{action}{}", resource.kind()),
        "parameters": all,
        "responses": { "200": { "description": "OK", "content": { "application/json": { "schema": reference(&answer) } } } },
        "x-kubernetes-action": action,
        "x-kubernetes-group-version-kind": gvk(resource, "")[0],
    });
    if !media.is_empty() {
        let body = |media: &&str| {
            let schema = match action {
                "patch" => json!({ "type": if *media == "application/json-patch+json" { "array" } else { "object" } }),
                _ => reference(schema),
            };
            ((*media).to_owned(), json!({ "schema": schema }))
        };
        made["requestBody"] = json!({ "required": true, "content": media.iter().map(body).collect::<Map<_, _>>() });
    }
    made
}

fn schema(resource: Resource) -> Value {
    let mut made = match resource {
        Resource::Ours(kind) => ours(kind),
        _ => json!({
            "type": "object",
            "description": format!("{}, in the form of Kubernetes.", resource.kind()),
            "properties": {
                "apiVersion": { "type": "string" },
                "kind": { "type": "string" },
                "metadata": { "allOf": [{ "$ref": format!("#/components/schemas/{META}") }], "default": {} },
            },
        }),
    };
    made["x-kubernetes-group-version-kind"] = gvk(resource, "");
    made
}

fn ours(kind: Kind) -> Value {
    let mut made = crd::structural(kind);
    let about = "Name, labels and annotations.";
    made["properties"]["metadata"] =
        json!({ "description": about, "allOf": [{ "$ref": format!("#/components/schemas/{META}") }], "default": {} });
    made
}

fn list(resource: Resource, name: &str) -> Value {
    let items = json!({ "type": "array", "items": { "$ref": format!("#/components/schemas/{name}") } });
    json!({
        "type": "object",
        "properties": {
            "apiVersion": { "type": "string" }, "kind": { "type": "string" },
            "metadata": { "type": "object", "properties": { "resourceVersion": { "type": "string" } } },
            "items": items,
        },
        "required": ["items"],
        "x-kubernetes-group-version-kind": gvk(resource, "List"),
    })
}

/// What of Kubernetes' `ObjectMeta` has a meaning here.
fn meta() -> Value {
    let text = |about: &str| json!({ "type": "string", "description": about });
    let texts =
        |about: &str| json!({ "type": "object", "additionalProperties": { "type": "string" }, "description": about });
    let time = |about: &str| json!({ "type": "string", "format": "date-time", "description": about });
    let reserved = format!("Those that begin with {GROUP}/ are the daemon's.");
    json!({
        "type": "object",
        "description": "What every object carries.",
        "properties": {
            "name": text("Unique in its namespace for its kind: 1 to 63 lower-case letters, digits and '-'."),
            "namespace": text("The namespace."),
            "labels": texts(&format!("For selectors. {reserved}")),
            "annotations": texts(&format!("For everything else. {reserved}")),
            "uid": text("Unique for all time. Set by the daemon."),
            "resourceVersion": text("The revision that last wrote it. Set by the daemon; a condition for who replaces."),
            "generation": { "type": "integer", "format": "int64", "description": "Counts changes of the spec." },
            "creationTimestamp": time("When it was written first."),
            "deletionTimestamp": time("When its end was wished for."),
            "finalizers": {
                "type": "array", "items": { "type": "string" }, "x-kubernetes-list-type": "set",
                "description": "Who still has to do something before it may go.",
            },
            "ownerReferences": {
                "type": "array", "items": { "type": "object" }, "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["uid"], "description": "Whom it goes with.",
            },
            "managedFields": {
                "type": "array", "items": { "type": "object" }, "x-kubernetes-list-type": "atomic",
                "description": "Who wrote which of its fields.",
            },
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patches_of_our_kinds_name_field_validation_and_no_strategic_merge() {
        let document = document(API_VERSION).unwrap();
        for kind in Kind::ALL {
            let path = format!("/apis/{API_VERSION}/namespaces/{{namespace}}/{}/{{name}}", kind.plural());
            let patch = &document["paths"][&path]["patch"];
            let named = |name: &str| patch["parameters"].as_array().unwrap().iter().any(|p| p["name"] == name);
            assert!(named("fieldValidation") && named("fieldManager"), "{kind}");
            let media: Vec<&String> = patch["requestBody"]["content"].as_object().unwrap().keys().collect();
            assert!(media.len() == 3 && !media.iter().any(|media| media.contains("strategic")), "{media:?}");
            let gvk = &document["components"]["schemas"][schema_name(Resource::Ours(kind))]["x-kubernetes-group-version-kind"];
            assert_eq!(gvk[0]["kind"], kind.to_string());
        }
    }

    #[test]
    fn every_document_of_the_index_is_there_and_refers_only_to_what_it_has() {
        for path in index()["paths"].as_object().unwrap().keys() {
            let version = path.split_once('/').unwrap().1;
            let document = document(version).unwrap();
            let text = document.to_string();
            for target in text.split("#/components/schemas/").skip(1) {
                let name = target.split('"').next().unwrap();
                assert!(document["components"]["schemas"][name].is_object(), "{path} has no {name}");
            }
        }
        assert!(document("apps/v1").is_none());
    }
}
