//! What there is, for clients that ask before they do anything: in one document, or in three levels. Pure.

use serde_json::{Value, json};

use super::target::{Part, Resource};
use crate::api::access::Verb;
use crate::manifest::crd::{self, CATEGORIES};
use crate::model::{GROUP, VERSION};

/// The newest version of Kubernetes whose API this follows.
const KUBERNETES: &str = "v1.35.0";

/// What `/version` tells.
pub(super) fn version() -> Value {
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    json!({
        "major": "1",
        "minor": "35",
        "gitVersion": format!("{KUBERNETES}+anweddol-{}", env!("CARGO_PKG_VERSION")),
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "none: Rust",
        "compiler": "rustc",
        "platform": format!("linux/{arch}"),
    })
}

/// Every group and version with its resources; Kubernetes' own group is empty.
fn versions() -> Vec<(&'static str, String, Vec<Resource>)> {
    let mut versions: Vec<(&'static str, String, Vec<Resource>)> = Vec::new();
    for resource in Resource::published() {
        let version = resource.api_version();
        match versions.iter_mut().find(|(_, known, _)| *known == version) {
            Some((.., resources)) => resources.push(resource),
            None => versions.push((resource.group(), version, vec![resource])),
        }
    }
    versions
}

fn short(api_version: &str) -> &str {
    api_version.rsplit('/').next().unwrap_or(api_version)
}

/// The groups and versions that have resources.
pub(super) fn api_versions() -> Vec<String> {
    versions().into_iter().map(|(_, version, _)| version).collect()
}

/// All of it in one document: of Kubernetes' own group, or of the others.
pub(super) fn aggregated(core: bool, version: &str) -> Value {
    let items: Vec<Value> = versions()
        .into_iter()
        .filter(|(group, ..)| group.is_empty() == core)
        .map(|(group, api_version, resources)| {
            let resources: Vec<Value> = resources.into_iter().map(described).collect();
            let version = json!({ "version": short(&api_version), "resources": resources, "freshness": "Current" });
            let metadata = if core { json!({}) } else { json!({ "name": group }) };
            json!({ "metadata": metadata, "versions": [version] })
        })
        .collect();
    json!({
        "kind": "APIGroupDiscoveryList",
        "apiVersion": format!("apidiscovery.k8s.io/{version}"),
        "metadata": {},
        "items": items,
    })
}

fn verbs(resource: Resource) -> Vec<&'static str> {
    resource.verbs().iter().map(|verb| verb.name()).collect()
}

fn verbs_of(part: Part) -> &'static [&'static str] {
    match part {
        Part::Whole => &[],
        Part::Status | Part::Scale => &["get", "patch", "update"],
        Part::Login => &["create"],
    }
}

/// Group, version and kind of what a part is told as.
fn kind_of(resource: Resource, part: Part) -> (String, String, String) {
    let of = |group: &str, version: &str, kind: &str| (group.to_owned(), version.to_owned(), kind.to_owned());
    match part {
        Part::Whole | Part::Status => of(resource.group(), short(&resource.api_version()), &resource.kind()),
        Part::Scale => of("autoscaling", "v1", "Scale"),
        Part::Login => of(GROUP, VERSION, "Login"),
    }
}

fn singular(resource: Resource) -> String {
    match resource {
        Resource::Ours(kind) => crd::names(kind).singular.into(),
        other => other.kind().to_lowercase(),
    }
}

/// Short names and categories.
fn nicknames(resource: Resource) -> (&'static [&'static str], &'static [&'static str]) {
    use crate::api::plain::PlainKind;
    match resource {
        Resource::Ours(kind) => (crd::names(kind).short, CATEGORIES),
        Resource::Plain(PlainKind::Namespace) => (&["ns"], &[]),
        Resource::Events(_) => (&["ev"], &[]),
        Resource::Plain(PlainKind::Lease | PlainKind::Secret | PlainKind::Event)
        | Resource::Review(_)
        | Resource::Log
        | Resource::Tokens
        | Resource::AccessTokens => (&[], &[]),
    }
}

fn described(resource: Resource) -> Value {
    let (short_names, categories) = nicknames(resource);
    let kind = |part| {
        let (group, version, kind) = kind_of(resource, part);
        json!({ "group": group, "version": version, "kind": kind })
    };
    let part =
        |part: &Part| json!({ "subresource": part.name(), "responseKind": kind(*part), "verbs": verbs_of(*part) });
    let mut made = json!({
        "resource": resource.plural(),
        "responseKind": kind(Part::Whole),
        "scope": if resource.namespaced() { "Namespaced" } else { "Cluster" },
        "singularResource": singular(resource),
        "verbs": verbs(resource),
    });
    for (name, list) in [("shortNames", short_names), ("categories", categories)] {
        if !list.is_empty() {
            made[name] = json!(list);
        }
    }
    if !resource.parts().is_empty() {
        made["subresources"] = resource.parts().iter().map(part).collect();
    }
    made
}

/// `/api` for clients of the three levels.
pub(super) fn core_versions() -> Value {
    json!({ "kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": [] })
}

fn group_of(name: &str, api_version: &str) -> Value {
    let version = json!({ "groupVersion": api_version, "version": short(api_version) });
    json!({ "name": name, "versions": [version], "preferredVersion": version })
}

/// `/apis` for them.
pub(super) fn groups() -> Value {
    let others = versions().into_iter().filter(|(group, ..)| !group.is_empty());
    let groups: Vec<Value> = others.map(|(group, version, _)| group_of(group, &version)).collect();
    json!({ "kind": "APIGroupList", "apiVersion": "v1", "groups": groups })
}

/// `/apis/GROUP`.
pub(super) fn group(name: &str) -> Option<Value> {
    let (_, version, _) = versions().into_iter().find(|(group, ..)| *group == name && !group.is_empty())?;
    let mut made = group_of(name, &version);
    made["kind"] = "APIGroup".into();
    made["apiVersion"] = "v1".into();
    Some(made)
}

/// `/apis/GROUP/VERSION` and `/api/v1`.
pub(super) fn resources(api_version: &str) -> Option<Value> {
    let (.., resources) = versions().into_iter().find(|(_, version, _)| version == api_version)?;
    let mut list = Vec::new();
    for resource in resources {
        let (short_names, categories) = nicknames(resource);
        let mut whole = json!({
            "name": resource.plural(),
            "singularName": singular(resource),
            "namespaced": resource.namespaced(),
            "kind": resource.kind(),
            "verbs": verbs(resource),
        });
        for (name, list) in [("shortNames", short_names), ("categories", categories)] {
            if !list.is_empty() {
                whole[name] = json!(list);
            }
        }
        list.push(whole);
        for part in resource.parts() {
            let (group, version, kind) = kind_of(resource, *part);
            list.push(json!({
                "name": format!("{}/{}", resource.plural(), part.name()),
                "singularName": "",
                "namespaced": resource.namespaced(),
                "group": group,
                "version": version,
                "kind": kind,
                "verbs": verbs_of(*part),
            }));
        }
    }
    Some(json!({ "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": api_version, "resources": list }))
}

/// A verb by its name, if it is one.
pub(super) fn verb(name: &str) -> Option<Verb> {
    Verb::ALL.into_iter().find(|verb| verb.name() == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_of_asking_tell_the_same_resources() {
        let mut at_once = Vec::new();
        for document in [aggregated(true, "v2"), aggregated(false, "v2")] {
            for group in document["items"].as_array().unwrap() {
                let name = group["metadata"]["name"].as_str();
                for version in group["versions"].as_array().unwrap() {
                    let short = version["version"].as_str().unwrap();
                    let full = name.map_or(short.to_owned(), |name| format!("{name}/{short}"));
                    let resources = version["resources"].as_array().unwrap();
                    at_once.extend(resources.iter().map(|r| format!("{full} {}", r["resource"].as_str().unwrap())));
                }
            }
        }
        let mut in_levels = Vec::new();
        let groups = groups();
        let others =
            groups["groups"].as_array().unwrap().iter().map(|g| g["versions"][0]["groupVersion"].as_str().unwrap());
        for version in others.chain(["v1"]) {
            let listed = resources(version).unwrap();
            let names = listed["resources"].as_array().unwrap().iter().map(|r| r["name"].as_str().unwrap());
            in_levels.extend(names.filter(|name| !name.contains('/')).map(|name| format!("{version} {name}")));
        }
        at_once.sort();
        in_levels.sort();
        assert_eq!(at_once, in_levels);
        assert!(at_once.contains(&"anweddol.io/v1alpha1 containerpools".to_owned()) && at_once.len() >= 10);
        assert!(group("anweddol.io").is_some() && group("").is_none() && group("apps").is_none());
    }
}
