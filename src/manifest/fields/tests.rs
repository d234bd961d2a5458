use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::manifest;

const KIND: Kind = Kind::ContainerPool;

/// An object and who owns which of its fields.
#[derive(Clone, Debug, Default, PartialEq)]
struct Kept {
    object: Option<Value>,
    entries: Vec<ManagedFields>,
    clock: i64,
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap()
}

/// What is left of a document once it was read: every field with its value.
fn canonical(document: &Value) -> Value {
    manifest::of_value(KIND, document).unwrap().to_json()
}

fn about(config: Value) -> Value {
    let mut document = json!({ "apiVersion": API_VERSION, "kind": "ContainerPool", "metadata": { "name": "a" } });
    json_patch::merge(&mut document, &config);
    document
}

fn base() -> Value {
    about(json!({ "spec": { "maxContainers": 9, "template": { "image": { "iso": "/i.iso" } } } }))
}

impl Kept {
    /// An object that has all it needs, applied by somebody who is not heard of again.
    fn new() -> Kept {
        let mut kept = Kept::default();
        kept.apply("base", base(), false).unwrap();
        kept
    }

    fn object(&self) -> &Value {
        self.object.as_ref().unwrap()
    }

    fn apply(&mut self, manager: &str, config: Value, force: bool) -> Result<(), Vec<Conflict>> {
        self.clock += 1;
        let by = Author { kind: KIND, part: Part::Wish, manager, subresource: None, now: at(self.clock) };
        let config = about(config);
        let document = match &self.object {
            Some(live) => merged(&by, &self.entries, live, &config),
            None => config.clone(),
        };
        let after = canonical(&document);
        let before = self.object.as_ref();
        self.entries = applied(&by, self.entries.clone(), before, &after, &config, force)?;
        self.object = Some(after);
        Ok(())
    }

    fn update(&mut self, manager: &str, patch: &Value) {
        self.clock += 1;
        let by = Author { kind: KIND, part: Part::Wish, manager, subresource: None, now: at(self.clock) };
        let mut document = self.object().clone();
        json_patch::merge(&mut document, patch);
        let after = canonical(&document);
        self.entries = updated(&by, self.entries.clone(), self.object.as_ref(), &after);
        self.object = Some(after);
    }

    fn owned(&self, manager: &str, operation: Operation) -> Value {
        let found = self.entries.iter().find(|entry| entry.manager == manager && entry.operation == operation);
        found.map(|entry| entry.fields_v1.clone()).unwrap_or_default()
    }
}

#[test]
fn what_an_applier_no_longer_says_goes_unless_another_owns_it() {
    let mut kept = Kept::new();
    let both = json!({ "metadata": { "labels": { "x": "1", "y": "1" } }, "spec": { "replicas": 3 } });
    kept.apply("a", both, false).unwrap();
    kept.apply("b", json!({ "metadata": { "labels": { "y": "1" } } }), false).unwrap();
    kept.apply("a", json!({ "spec": { "replicas": 3 } }), false).unwrap();
    assert_eq!(kept.object()["metadata"]["labels"], json!({ "y": "1" }), "b says it still");
    kept.apply("b", json!({}), false).unwrap();
    assert!(kept.object()["metadata"]["labels"].is_null());
    // What has a default goes back to it.
    kept.apply("a", json!({}), false).unwrap();
    assert_eq!(kept.object()["spec"]["replicas"], 0);
}

#[test]
fn another_ones_field_is_a_conflict_and_force_takes_it() {
    let mut kept = Kept::new();
    kept.apply("a", json!({ "spec": { "replicas": 3 } }), false).unwrap();
    // The same value is shared.
    kept.apply("b", json!({ "spec": { "replicas": 3 } }), false).unwrap();
    let before = kept.clone();
    let conflicts = kept.apply("b", json!({ "spec": { "replicas": 4 } }), false).unwrap_err();
    let told: Vec<String> = conflicts.iter().map(|conflict| format!("{conflict}: {}", conflict.field)).collect();
    assert_eq!(told, ["conflict with \"a\": .spec.replicas"]);
    assert_eq!((&kept.object, &kept.entries), (&before.object, &before.entries));
    kept.apply("b", json!({ "spec": { "replicas": 4 } }), true).unwrap();
    assert_eq!(kept.object()["spec"]["replicas"], 4);
    assert_eq!(kept.owned("a", Operation::Apply), Value::Null, "it owns nothing any more");
    assert_eq!(kept.owned("b", Operation::Apply), json!({ "f:spec": { "f:replicas": {} } }));
}

#[test]
fn a_write_owns_what_it_changed() {
    let mut kept = Kept::new();
    kept.apply("a", json!({ "spec": { "replicas": 3 }, "metadata": { "labels": { "x": "1" } } }), false).unwrap();
    kept.update("kubectl-scale", &json!({ "spec": { "replicas": 5 } }));
    assert_eq!(kept.owned("kubectl-scale", Operation::Update), json!({ "f:spec": { "f:replicas": {} } }));
    assert_eq!(kept.owned("a", Operation::Apply), json!({ "f:metadata": { "f:labels": { "f:x": {} } } }));
    let conflicts = kept.apply("a", json!({ "spec": { "replicas": 3 } }), false).unwrap_err();
    assert_eq!(conflicts[0].to_string(), "conflict with \"kubectl-scale\" using anweddol.io/v1alpha1");
    // What changes nothing owns nothing.
    kept.update("c", &json!({ "spec": { "replicas": 5 } }));
    assert_eq!(kept.owned("c", Operation::Update), Value::Null);
    // What is taken away is nobody's.
    kept.update("d", &json!({ "metadata": { "labels": null } }));
    assert!(kept.entries.iter().all(|entry| !entry.fields_v1.to_string().contains("f:labels")), "{:?}", kept.entries);
}

#[test]
fn an_image_is_one_value() {
    let mut kept = Kept::new();
    let kernel = json!({ "spec": { "template": { "image": { "kernel": { "path": "/k", "initrd": "/r" } } } } });
    let conflicts = kept.apply("b", kernel.clone(), false).unwrap_err();
    assert_eq!(conflicts.iter().map(|c| c.field.as_str()).collect::<Vec<_>>(), [".spec.template.image"]);
    kept.apply("b", kernel, true).unwrap();
    assert!(kept.object()["spec"]["template"]["image"]["iso"].is_null(), "both together would be none");
}

#[test]
fn kubectl_takes_over_what_it_applied_on_the_clients_side() {
    let mut kept = Kept::new();
    let config = json!({ "metadata": { "labels": { "x": "1" } }, "spec": { "replicas": 2 } });
    let annotated = json!({ "metadata": { "annotations": { LAST_APPLIED: about(config.clone()).to_string() } } });
    kept.update("kubectl-client-side-apply", &config);
    kept.update("kubectl-client-side-apply", &annotated);
    let wished = json!({ "metadata": { "labels": { "x": "2" } }, "spec": { "replicas": 1 } });
    assert_eq!(kept.clone().apply("helm", wished.clone(), false).unwrap_err().len(), 2, "only kubectl may");
    kept.clone().apply("kubectl", wished.clone(), false).unwrap();
    // What somebody changed since is not what kubectl applied.
    kept.update("kubectl-scale", &json!({ "spec": { "replicas": 5 } }));
    let conflicts = kept.apply("kubectl", wished, false).unwrap_err();
    assert_eq!(conflicts.iter().map(|c| c.field.as_str()).collect::<Vec<_>>(), [".spec.replicas"]);
}

#[test]
fn conditions_are_known_by_their_types_and_the_daemons_are_nobodys() {
    let condition = |kind: &str, status: &str| json!({ "type": kind, "status": status, "reason": "R", "lastTransitionTime": "2026-01-01T00:00:00Z" });
    let live = json!({ "status": { "replicas": 2, "conditions": [condition("Available", "True")] } });
    let by = |manager| Author { kind: KIND, part: Part::Status, manager, subresource: Some("status"), now: at(1) };
    let says = |conditions: &[Value]| json!({ "status": { "replicas": 7, "conditions": conditions } });
    let config = says(&[condition("Paid", "True"), condition("Available", "False")]);
    let after = merged(&by("a"), &[], &live, &config);
    assert_eq!(
        after,
        json!({ "status": { "replicas": 2, "conditions": [condition("Available", "True"), condition("Paid", "True")] } })
    );
    let entries = applied(&by("a"), vec![], Some(&live), &after, &config, false).unwrap();
    let fields = json!({ "f:status": { "f:conditions": { "k:{\"type\":\"Paid\"}": {
        ".": {}, "f:type": {}, "f:status": {}, "f:reason": {}, "f:lastTransitionTime": {},
    } } } });
    assert_eq!((&entries[0].fields_v1, entries[0].subresource.as_deref()), (&fields, Some("status")));
    // Another one's condition stays out of it.
    let audited = says(&[condition("Audited", "True")]);
    let both = merged(&by("b"), &entries, &after, &audited);
    let entries = applied(&by("b"), entries, Some(&after), &both, &audited, false).unwrap();
    assert_eq!(both["status"]["conditions"].as_array().unwrap().len(), 3);
    let less = merged(&by("a"), &entries, &both, &says(&[]));
    assert_eq!(less["status"]["conditions"], json!([condition("Available", "True"), condition("Audited", "True")]));
    let paid = says(&[condition("Audited", "False")]);
    let other = merged(&by("a"), &entries, &both, &paid);
    let conflicts = applied(&by("a"), entries, Some(&both), &other, &paid, false).unwrap_err();
    assert_eq!(conflicts[0].field, ".status.conditions[type=\"Audited\"].status");
}

#[test]
fn many_managers_of_plain_writes_are_gathered_and_none_of_their_fields_is_lost() {
    let mut kept = Kept::new();
    for index in 0..30 {
        kept.update(&format!("m{index}"), &json!({ "metadata": { "labels": { format!("l{index}"): "x" } } }));
    }
    let plain = |entry: &&ManagedFields| entry.operation == Operation::Update;
    assert_eq!(kept.entries.iter().filter(plain).count(), MOST_UPDATERS);
    let text: String = kept.entries.iter().map(|entry| entry.fields_v1.to_string()).collect();
    assert!((0..30).all(|index| text.contains(&format!("f:l{index}\""))), "{text}");
    assert!(kept.owned(ANCIENT, Operation::Update).to_string().contains("f:l0\""));
}

#[test]
fn an_updates_own_word_on_who_owns_what_counts_where_it_can_be_read() {
    let entry = json!({
        "manager": "m", "operation": "Apply", "apiVersion": API_VERSION, "time": "2026-01-01T00:00:00Z",
        "fieldsType": "FieldsV1", "fieldsV1": { "f:spec": { "f:replicas": {} } },
    });
    let body = |entries: Value| json!({ "metadata": { "managedFields": entries } });
    assert_eq!(told(&body(json!([entry])), &[]).unwrap()[0].manager, "m");
    assert_eq!(told(&body(json!([{}])), &[]), Some(vec![]), "forgets all");
    for nothing in [json!(null), json!([]), json!([{ "manager": "m" }]), json!("x")] {
        assert_eq!(told(&body(nothing), &[]), None);
    }
    // More than there can be would only cost time.
    let many = |count: usize, manager: &str| -> Value {
        let entry = |index| {
            let mut entry = entry.clone();
            entry["manager"] = format!("{manager}{index}").into();
            entry
        };
        (0..count).map(entry).collect()
    };
    assert_eq!(told(&body(many(100, "m")), &[]).unwrap().len(), 100);
    assert_eq!(told(&body(many(101, "m")), &[]), None);
    assert_eq!(told(&body(many(100, &"m".repeat(700))), &[]), None);
    let mut bad = entry;
    bad["fieldsV1"] = json!({ "spec": {} });
    assert_eq!(told(&body(json!([bad])), &[]), None);
}

// --- any history ---

/// Fields without a default, so that nothing but the writers decides whether they are there.
const FIELDS: [&str; 7] = [
    "/metadata/labels/x",
    "/metadata/labels/y",
    "/metadata/annotations/z",
    "/spec/refill/perMinute",
    "/spec/template/lifetime/ttlSeconds",
    "/spec/template/lifetime/idleTimeoutSeconds",
    "/spec/template/lifetime/maxReadySeconds",
];

type Values = BTreeMap<usize, u32>;

fn value(field: usize, value: u32) -> Value {
    if FIELDS[field].starts_with("/spec") { (value + 1).into() } else { format!("v{value}").into() }
}

/// A document with these fields; `None` takes one away by a merge patch.
fn document(fields: impl IntoIterator<Item = (usize, Option<u32>)>) -> Value {
    let mut document = json!({});
    for (field, wished) in fields {
        let steps: Vec<&str> = FIELDS[field].split('/').skip(1).collect();
        let leaf = wished.map_or(Value::Null, |wished| value(field, wished));
        let nested = steps.iter().rev().fold(leaf, |below, step| json!({ *step: below }));
        deep_insert(&mut document, nested);
    }
    document
}

fn deep_insert(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (name, value) in from {
                deep_insert(into.entry(name).or_insert(json!({})), value);
            }
        }
        (into, from) => *into = from,
    }
}

#[derive(Clone, Debug)]
enum Act {
    Apply { manager: usize, config: Values, force: bool },
    Update { manager: usize, field: usize, value: Option<u32> },
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let config = || prop::collection::btree_map(0..FIELDS.len(), 0u32..3, 0..5);
    let apply =
        (0usize..3, config(), any::<bool>()).prop_map(|(manager, config, force)| Act::Apply { manager, config, force });
    let update = (0usize..3, 0..FIELDS.len(), prop::option::of(0u32..3))
        .prop_map(|(manager, field, value)| Act::Update { manager, field, value });
    prop::collection::vec(prop_oneof![2 => apply, 1 => update], 1..25)
}

/// The rules themselves, over a flat object: what has to come out.
#[derive(Default)]
struct Rules {
    object: Values,
    owners: BTreeMap<(usize, Operation), BTreeSet<usize>>,
}

impl Rules {
    fn others_own(&self, who: (usize, Operation), field: usize) -> bool {
        self.owners.iter().any(|(other, fields)| *other != who && fields.contains(&field))
    }

    fn set(&mut self, who: (usize, Operation), field: usize, value: u32) {
        if self.object.insert(field, value) != Some(value) {
            self.owners.iter_mut().filter(|(other, _)| **other != who).for_each(|(_, fields)| {
                fields.remove(&field);
            });
        }
    }

    fn apply(&mut self, manager: usize, config: &Values, force: bool) -> bool {
        let who = (manager, Operation::Apply);
        let contested =
            |(field, value): (&usize, &u32)| self.object.get(field) != Some(value) && self.others_own(who, *field);
        if !force && config.iter().any(contested) {
            return false;
        }
        for (field, value) in config {
            self.set(who, *field, *value);
        }
        let before = self.owners.insert(who, config.keys().copied().collect()).unwrap_or_default();
        for field in before.into_iter().filter(|field| !config.contains_key(field)) {
            if !self.others_own(who, field) {
                self.object.remove(&field);
            }
        }
        true
    }

    fn update(&mut self, manager: usize, field: usize, value: Option<u32>) {
        let who = (manager, Operation::Update);
        if self.object.get(&field).copied() == value {
            return;
        }
        match value {
            Some(value) => {
                self.set(who, field, value);
                self.owners.entry(who).or_default().insert(field);
            }
            None => {
                self.object.remove(&field);
                self.owners.values_mut().for_each(|fields| fields.retain(|other| *other != field));
            }
        }
    }
}

fn set_of(fields: &BTreeSet<usize>) -> FieldSet {
    let mut set = FieldSet::default();
    for field in fields {
        set.insert(FIELDS[*field].split('/').skip(1).map(|step| format!("f:{step}")).collect());
    }
    set
}

fn set_in(kept: &Kept, (manager, operation): (usize, Operation)) -> FieldSet {
    let manager = format!("m{manager}");
    let found = kept.entries.iter().find(|entry| entry.manager == manager && entry.operation == operation);
    found.map(|entry| FieldSet::from_value(&entry.fields_v1).unwrap()).unwrap_or_default()
}

#[test]
fn a_set_that_is_more_than_any_object_has_is_none() {
    let leaves: serde_json::Map<String, Value> = (0..2000).map(|n| (format!("f:{n}"), json!({}))).collect();
    let deep = |depth: usize| (0..depth).fold(Value::from(leaves.clone()), |below, _| json!({ "f:a": below }));
    assert!(FieldSet::from_value(&deep(5)).is_ok());
    assert_eq!(FieldSet::from_value(&deep(100)), Err(FieldsError::TooMany));
    let body = json!({ "metadata": { "managedFields": [{ "manager": "a", "operation": "Update", "apiVersion": API_VERSION,
        "fieldsType": FIELDS_TYPE, "fieldsV1": deep(100) }] } });
    assert_eq!(told(&body, &[]), None);
    assert_eq!(FieldSet::from_value(&json!({ ".": {} })), Ok(FieldSet::default()), "the object itself is no field");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn random_histories_of_writers_keep_the_rules(acts in acts()) {
        let (mut kept, mut rules) = (Kept::new(), Rules::default());
        for act in &acts {
            match act {
                Act::Apply { manager, config, force } => {
                    let applied = kept.apply(&format!("m{manager}"), document(config.iter().map(|(f, v)| (*f, Some(*v)))), *force);
                    prop_assert_eq!(applied.is_ok(), rules.apply(*manager, config, *force), "{:?}", act);
                }
                Act::Update { manager, field, value } => {
                    kept.update(&format!("m{manager}"), &document([(*field, *value)]));
                    rules.update(*manager, *field, *value);
                }
            }
            for (field, path) in FIELDS.iter().enumerate() {
                let expected = rules.object.get(&field).map(|wished| value(field, *wished));
                prop_assert_eq!(kept.object().pointer(path).cloned(), expected, "{} after {:?}", path, act);
            }
            for manager in 0..3 {
                for operation in [Operation::Apply, Operation::Update] {
                    let who = (manager, operation);
                    let expected = set_of(rules.owners.get(&who).unwrap_or(&BTreeSet::new()));
                    prop_assert_eq!(set_in(&kept, who), expected, "{:?} after {:?}", who, act);
                }
            }
        }
    }

    #[test]
    fn what_is_applied_twice_changes_nothing_and_two_that_share_nothing_never_meet(
        configs in prop::collection::vec(prop::collection::btree_map(0..FIELDS.len(), 0u32..3, 0..5), 1..8),
    ) {
        let mut kept = Kept::new();
        for (turn, config) in configs.iter().enumerate() {
            // Each has the fields of its own parity.
            let manager = turn % 2;
            let own = config.iter().filter(|(field, _)| *field % 2 == manager).map(|(field, value)| (*field, Some(*value)));
            let (config, manager) = (document(own), format!("m{manager}"));
            prop_assert!(kept.apply(&manager, config.clone(), false).is_ok());
            let before = kept.clone();
            prop_assert!(kept.apply(&manager, config, false).is_ok());
            prop_assert_eq!((&kept.object, &kept.entries), (&before.object, &before.entries), "times included");
        }
    }

    #[test]
    fn a_set_of_fields_comes_back_as_it_was(
        paths in prop::collection::btree_set(prop::collection::vec("(f:[a-c]|k:\\{\"t\":\"[ab]\"\\}|v:[12])", 1..4), 0..9),
    ) {
        let mut set = FieldSet::default();
        paths.iter().for_each(|path| set.insert(path.clone()));
        prop_assert_eq!(FieldSet::from_value(&set.to_value()).unwrap(), set);
    }
}
