//! What clients ask about themselves: who they are, whether they may, what they may. Pure.

use serde_json::{Value, json};

use super::discovery;
use super::target::{Resource, Review};
use crate::api::access::{Attributes, Identity, Verb};

/// Answers a review.
pub(super) fn answer(review: Review, who: &Identity, mut body: Value) -> Value {
    let resource = Resource::Review(review);
    let spec = body["spec"].take();
    let mut made = json!({ "kind": resource.kind(), "apiVersion": resource.api_version(), "metadata": { "creationTimestamp": null } });
    made["status"] = match review {
        Review::Subject => {
            let groups = [format!("anweddol:{}", who.grant.role), "system:authenticated".into()];
            json!({ "userInfo": { "username": who.name, "groups": groups } })
        }
        Review::Access => {
            let allowed = may(who, &spec);
            made["spec"] = spec;
            let reason = format!("role '{}'{}", who.grant.role, place(who));
            json!({ "allowed": allowed, "reason": reason })
        }
        Review::Rules => {
            let namespace = spec["namespace"].as_str().unwrap_or_default().to_owned();
            made["spec"] = spec;
            json!({
                "resourceRules": rules(who, Some(&namespace).filter(|name| !name.is_empty()).map(String::as_str)),
                "nonResourceRules": [{ "verbs": ["get"], "nonResourceURLs": ["*"] }],
                "incomplete": false,
            })
        }
    };
    made
}

fn place(who: &Identity) -> String {
    who.grant.namespace.as_ref().map_or(String::new(), |namespace| format!(" in namespace '{namespace}'"))
}

fn may(who: &Identity, spec: &Value) -> bool {
    let asked = &spec["resourceAttributes"];
    if asked.is_null() {
        // Every path that is no object is there for everybody who is known, to read.
        return matches!(spec["nonResourceAttributes"]["verb"].as_str(), Some("get" | "head"));
    }
    let word = |name: &str| asked[name].as_str().unwrap_or_default();
    let (group, plural) = (word("group"), word("resource"));
    let verbs: Vec<Verb> = match word("verb") {
        "*" => Verb::ALL.to_vec(),
        name => discovery::verb(name).into_iter().collect(),
    };
    let resources: Vec<(&str, &str)> = match plural {
        "*" => Resource::published()
            .map(|r| (r.group(), r.plural()))
            .filter(|(of, _)| group == "*" || group == *of)
            .collect(),
        plural => vec![(group, plural)],
    };
    let some = |name: &'static str| asked[name].as_str().filter(|text| !text.is_empty());
    let permits = |verb: &Verb, (group, resource): &(&str, &str)| {
        let (namespace, name) = (some("namespace"), some("name"));
        let subresource = word("subresource");
        who.grant.permits(&Attributes { verb: *verb, group, resource, subresource, namespace, name })
    };
    !verbs.is_empty() && !resources.is_empty() && verbs.iter().all(|verb| resources.iter().all(|of| permits(verb, of)))
}

/// Every resource with the verbs that are permitted.
fn rules(who: &Identity, namespace: Option<&str>) -> Vec<Value> {
    let mut rules = Vec::new();
    for resource in Resource::published() {
        let parts = resource.parts().iter().map(|part| part.name());
        for part in std::iter::once("").chain(parts) {
            let asked = |verb| Attributes {
                verb,
                group: resource.group(),
                resource: resource.plural(),
                subresource: part,
                namespace: namespace.filter(|_| resource.namespaced()),
                name: None,
            };
            let known = resource.verbs().iter().filter(|verb| {
                part.is_empty()
                    || match part {
                        "login" => **verb == Verb::Create,
                        _ => matches!(verb, Verb::Get | Verb::Update | Verb::Patch),
                    }
            });
            let verbs: Vec<&str> = known
                .filter(|verb| always(resource) || who.grant.permits(&asked(**verb)))
                .map(|verb| verb.name())
                .collect();
            if !verbs.is_empty() {
                let name = if part.is_empty() {
                    resource.plural().to_owned()
                } else {
                    format!("{}/{part}", resource.plural())
                };
                rules.push(json!({ "verbs": verbs, "apiGroups": [resource.group()], "resources": [name] }));
            }
        }
    }
    rules
}

/// Whether everybody who is known may.
pub(super) fn always(resource: Resource) -> bool {
    matches!(resource, Resource::Review(_))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::access::{Grant, Role};

    fn who(role: Role, namespace: Option<&str>) -> Identity {
        Identity { name: "a".into(), grant: Grant { role, namespace: namespace.map(str::to_owned) } }
    }

    fn asked(verb: &str, resource: &str, namespace: &str) -> Value {
        let group = if resource == "*" { "*" } else { "anweddol.io" };
        json!({ "spec": { "resourceAttributes": { "verb": verb, "group": group, "resource": resource, "namespace": namespace } } })
    }

    #[test]
    fn what_is_said_to_be_permitted_is_what_is_permitted() {
        for (role, namespace, verb, resource, at, allowed) in [
            (Role::Admin, None, "*", "*", "", true),
            (Role::Edit, None, "create", "containerpools", "red", true),
            (Role::Edit, None, "*", "*", "", false),
            (Role::View, None, "create", "containerpools", "red", false),
            (Role::View, None, "get", "containerpools", "", true),
            (Role::Claim, Some("red"), "create", "containerclaims", "red", true),
            (Role::Claim, Some("red"), "create", "containerclaims", "blue", false),
            (Role::Admin, None, "impersonate", "containers", "", false),
        ] {
            let told = answer(Review::Access, &who(role, namespace), asked(verb, resource, at));
            assert_eq!(told["status"]["allowed"], allowed, "{role} {namespace:?} {verb} {resource} {at}");
        }
        let url = json!({ "spec": { "nonResourceAttributes": { "path": "/healthz", "verb": "get" } } });
        assert_eq!(answer(Review::Access, &who(Role::View, None), url)["status"]["allowed"], true);
    }

    #[test]
    fn rules_list_no_verb_that_is_refused() {
        let viewer = who(Role::View, None);
        let told = answer(Review::Rules, &viewer, json!({ "spec": { "namespace": "red" } }));
        let rules = told["status"]["resourceRules"].as_array().unwrap();
        let of = |name: &str| rules.iter().find(|rule| rule["resources"][0] == name).map(|rule| rule["verbs"].clone());
        assert_eq!(of("containerpools"), Some(json!(["get", "list", "watch"])));
        assert_eq!(of("containers/login"), None);
        assert_eq!(of("secrets"), None);
        assert_eq!(of("selfsubjectreviews"), Some(json!(["create"])));
        let subject = answer(Review::Subject, &viewer, Value::Null);
        assert_eq!(subject["status"]["userInfo"]["groups"][0], "anweddol:view");
    }
}
