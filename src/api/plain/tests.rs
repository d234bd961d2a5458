use futures::StreamExt;

use super::*;
use crate::api::objects::WatchEvent;
use crate::manifest::patch::MAX_DEPTH;
use crate::store::memory;

fn plain() -> Plain {
    over(memory(), Sealer::fresh())
}

fn over(store: Arc<dyn Store>, sealer: Arc<Sealer>) -> Plain {
    Plain::new(store, Arc::new(|| jiff::Timestamp::from_second(1000).unwrap()), sealer)
}

fn lease(name: &str) -> PlainRef {
    PlainRef { kind: PlainKind::Lease, namespace: "default".into(), name: name.into() }
}

#[tokio::test]
async fn a_lease_is_taken_by_whoever_saw_its_last_revision() {
    let plain = plain();
    let body = json!({ "metadata": { "name": "a" }, "spec": { "holderIdentity": "x" } });
    let made = plain.create(PlainKind::Lease, "default", body, false).await.unwrap();
    assert_eq!((&made["kind"], &made["apiVersion"]), (&json!("Lease"), &json!("coordination.k8s.io/v1")));
    let mut taken = made.clone();
    taken["spec"]["holderIdentity"] = "y".into();
    let written = plain.edit(&lease("a"), &Edit::Replace(taken.clone()), false).await.unwrap();
    assert_ne!(written["metadata"]["resourceVersion"], made["metadata"]["resourceVersion"]);
    assert_eq!(written["metadata"]["uid"], made["metadata"]["uid"]);
    let late = plain.edit(&lease("a"), &Edit::Replace(taken), false).await;
    assert!(matches!(late, Err(PlainError::Conflict(_))), "{late:?}");
    // What changes nothing writes nothing.
    let again = plain.edit(&lease("a"), &Edit::Merge(json!({ "spec": { "holderIdentity": "y" } })), false).await;
    assert_eq!(again.unwrap(), written);
    let other = Preconditions { uid: Some("other".into()), resource_version: None };
    assert!(matches!(plain.delete(&lease("a"), &other, false).await, Err(PlainError::Conflict(_))));
    plain.delete(&lease("a"), &Preconditions::default(), false).await.unwrap();
    assert!(matches!(plain.get(&lease("a")), Err(PlainError::NotFound(_))));
}

#[tokio::test]
async fn a_test_for_null_passes_where_nothing_is() {
    let plain = plain();
    plain.create(PlainKind::Lease, "default", json!({ "metadata": { "name": "a" } }), false).await.unwrap();
    let patch = json!([
        { "op": "test", "path": "/metadata/annotations", "value": null },
        { "op": "add", "path": "/metadata/annotations", "value": { "a": "b" } },
    ]);
    let edit = Edit::Patch(patch);
    let patched = plain.edit(&lease("a"), &edit, false).await.unwrap();
    assert_eq!(patched["metadata"]["annotations"]["a"], "b");
    assert!(matches!(plain.edit(&lease("a"), &edit, false).await, Err(PlainError::Patch(_))));
}

#[tokio::test]
async fn texts_of_a_secret_stand_beside_its_data_if_that_is_a_map_or_nothing() {
    let plain = plain();
    for (name, data, kept) in [
        ("a", json!(null), Some(json!({ "k": "dg==" }))),
        ("b", json!({ "k": "b2xk", "l": "bA==" }), Some(json!({ "k": "dg==", "l": "bA==" }))),
        ("c", json!("x"), None),
        ("d", json!([1]), None),
    ] {
        let body = json!({ "metadata": { "name": name }, "data": data, "stringData": { "k": "v" } });
        match (plain.create(PlainKind::Secret, "default", body, false).await, kept) {
            (Ok(made), Some(kept)) => assert_eq!(made["data"], kept),
            (Err(PlainError::Invalid { field: "data", .. }), None) => {}
            (other, _) => panic!("{name}: {other:?}"),
        }
    }
    let number = json!({ "metadata": { "name": "e" }, "stringData": { "k": 1 } });
    let refused = plain.create(PlainKind::Secret, "default", number, false).await;
    assert!(matches!(refused, Err(PlainError::Invalid { field: "stringData", .. })), "{refused:?}");
}

#[tokio::test]
async fn of_events_the_newest_stay_and_of_others_there_is_an_end() {
    let plain = plain();
    let named = |name: String| json!({ "metadata": { "name": name } });
    for number in 0..=MOST {
        plain.create(PlainKind::Event, "default", named(format!("e{number}")), false).await.unwrap();
    }
    let listed = plain.list(PlainKind::Event, None, Filter::default()).unwrap().all().unwrap();
    assert_eq!(listed.len(), MOST);
    assert!(listed.iter().all(|event| event["metadata"]["name"] != "e0"));
    for number in 0..MOST {
        plain.create(PlainKind::Lease, "default", named(format!("l{number}")), false).await.unwrap();
    }
    let more = plain.create(PlainKind::Lease, "default", named("more".into()), false).await;
    assert!(matches!(more, Err(PlainError::TooMany { namespace: Some(_), .. })));
    // Whose name is taken already is no matter of room, and what one namespace has is not another's.
    let again = plain.create(PlainKind::Lease, "default", named("l0".into()), false).await;
    assert!(matches!(again, Err(PlainError::Exists(_))));
    plain.create(PlainKind::Lease, "red", named("more".into()), false).await.unwrap();
}

#[tokio::test]
async fn all_namespaces_together_have_an_end_as_well() {
    let (plain, kind) = (plain(), PlainKind::Lease);
    for namespace in 0..5 {
        let of = |number| format!("{}l{number}", kind.prefix(Some(&format!("n{namespace}"))));
        let all = (0..MOST).fold(Txn::default(), |txn, number| txn.put(&of(number), &json!({})));
        plain.store.txn(all).await.unwrap();
    }
    let more = plain.create(kind, "default", json!({ "metadata": { "name": "more" } }), false).await;
    assert!(matches!(more, Err(PlainError::TooMany { namespace: None, most: 5_000, .. })), "{more:?}");
}

#[tokio::test]
async fn names_and_labels_that_are_none_are_refused() {
    let plain = plain();
    for name in ["a.b", &"a".repeat(64)] {
        let made = plain.create(PlainKind::Namespace, "", json!({ "metadata": { "name": name } }), false).await;
        assert!(matches!(made, Err(PlainError::Invalid { field: "metadata.name", .. })), "{name}: {made:?}");
    }
    let nothing = json!({ "metadata": { "name": "none", "labels": null, "annotations": null } });
    plain.create(PlainKind::Lease, "default", nothing, false).await.unwrap();
    for (meta, field) in [
        (json!({}), "metadata.name"),
        (json!({ "name": "../a" }), "metadata.name"),
        (json!({ "name": "A" }), "metadata.name"),
        (json!({ "name": "a..b" }), "metadata.name"),
        (json!({ "name": "a", "labels": { "a": 1 } }), "metadata.labels"),
        (json!({ "name": "a", "labels": [] }), "metadata.labels"),
        (json!({ "name": "a", "labels": { "a": "b c" } }), "metadata.labels"),
    ] {
        let made = plain.create(PlainKind::Lease, "default", json!({ "metadata": meta }), false).await;
        assert!(matches!(made, Err(PlainError::Invalid { field: found, .. }) if found == field), "{meta}: {made:?}");
    }
    let wrong = Edit::Merge(json!({ "metadata": { "labels": { "a": "b c" } } }));
    let edited = plain.edit(&lease("none"), &wrong, false).await;
    assert!(matches!(edited, Err(PlainError::Invalid { field: "metadata.labels", .. })), "{edited:?}");
}

#[tokio::test]
async fn what_is_too_large_is_said_of_the_object() {
    let body = json!({ "metadata": { "name": "big" }, "stringData": { "a": "x".repeat(crate::store::MAX_WISH) } });
    let refused = plain().create(PlainKind::Secret, "default", body, false).await.unwrap_err().to_string();
    assert!(refused.contains("'big'") && !refused.contains("plain/"), "{refused}");
}

fn secret(name: &str) -> PlainRef {
    PlainRef { kind: PlainKind::Secret, namespace: "default".into(), name: name.into() }
}

/// As `kubectl apply` writes one: its data twice.
fn manifest(name: &str) -> Value {
    let applied = json!({ "kubectl.kubernetes.io/last-applied-configuration": "{\"data\":{\"a\":\"cDRzc3dvcmQ=\"}}" });
    let metadata = json!({ "name": name, "labels": { "owner": "helm" }, "annotations": applied });
    json!({ "metadata": metadata, "data": { "a": "cDRzc3dvcmQ=" }, "stringData": { "b": "p4ssword" } })
}

/// Whether any value in a store says the secret.
fn told(store: &dyn Store) -> bool {
    let said = |kv: &Kv| {
        ["cDRzc3dvcmQ", "p4ssword"].iter().any(|text| kv.value.windows(text.len()).any(|part| part == text.as_bytes()))
    };
    store.list("").unwrap().0.iter().any(said)
}

#[tokio::test]
async fn nothing_of_a_secret_is_kept_as_it_came_and_all_of_it_is_told() {
    let (store, sealer): (Arc<dyn Store>, _) = (memory(), Sealer::fresh());
    let plain = over(Arc::clone(&store), Arc::clone(&sealer));
    let mut changes = plain.watch(PlainKind::Secret, None, Filter::default(), store.list("").unwrap().1);
    let made = plain.create(PlainKind::Secret, "default", manifest("a"), false).await.unwrap();
    assert_eq!((&made["data"]["a"], &made["data"]["b"]), (&json!("cDRzc3dvcmQ="), &json!("cDRzc3dvcmQ=")));
    assert!(!told(&*store));
    assert_eq!(plain.get(&secret("a")).unwrap(), made);
    let edit = Edit::Merge(json!({ "stringData": { "c": "p4ssword" } }));
    let edited = plain.edit(&secret("a"), &edit, false).await.unwrap();
    assert!(!told(&*store) && edited["data"]["c"] == "cDRzc3dvcmQ=");
    // What changes nothing writes nothing, although it would be sealed to other bytes.
    assert_eq!(plain.edit(&secret("a"), &edit, false).await.unwrap(), edited);
    for seen in [made, edited.clone()] {
        let (WatchEvent::Added(told) | WatchEvent::Modified(told)) = changes.next().await.unwrap().unwrap() else {
            panic!()
        };
        assert_eq!(told, seen);
    }
    assert_eq!(over(store, sealer).list(PlainKind::Secret, None, Filter::default()).unwrap().all().unwrap(), [edited]);
}

#[tokio::test]
async fn secrets_that_were_kept_as_they_came_are_read_and_sealed() {
    let store: Arc<dyn Store> = memory();
    let mut former = manifest("a");
    former.as_object_mut().unwrap().remove("stringData");
    store.txn(Txn::default().put(&secret("a").key(), &former)).await.unwrap();
    let plain = over(Arc::clone(&store), Sealer::fresh());
    let before = plain.get(&secret("a")).unwrap();
    assert!(told(&*store) && before["data"]["a"] == "cDRzc3dvcmQ=");
    assert_eq!(plain.seal().await.unwrap(), 1);
    assert!(!told(&*store));
    let mut after = plain.get(&secret("a")).unwrap();
    after["metadata"]["resourceVersion"] = before["metadata"]["resourceVersion"].clone();
    assert_eq!(after, before);
    assert_eq!(plain.seal().await.unwrap(), 0);
}

#[tokio::test]
async fn a_secret_of_another_key_or_place_is_not_told_and_can_be_deleted() {
    let (store, sealer): (Arc<dyn Store>, _) = (memory(), Sealer::fresh());
    over(Arc::clone(&store), Arc::clone(&sealer))
        .create(PlainKind::Secret, "default", manifest("a"), false)
        .await
        .unwrap();
    let other = over(Arc::clone(&store), Sealer::fresh());
    let refused =
        |read: Result<Value, PlainError>| matches!(read, Err(PlainError::Record(RecordError::Unopened { .. })));
    assert!(refused(other.get(&secret("a"))));
    let value = store.get(&secret("a").key()).unwrap().0.unwrap().value.to_vec();
    let mut copy = Txn::default();
    copy.ops.push(crate::store::Op::Put { key: secret("b").key(), value: value.into() });
    store.txn(copy).await.unwrap();
    assert!(refused(over(Arc::clone(&store), sealer).get(&secret("b"))), "copied into another record");
    let certain = Preconditions { uid: Some("a".into()), resource_version: None };
    assert!(matches!(other.delete(&secret("a"), &certain, false).await, Err(PlainError::Conflict(_))));
    other.delete(&secret("a"), &Preconditions::default(), false).await.unwrap();
    assert!(store.get(&secret("a").key()).unwrap().0.is_none());
}

#[tokio::test]
async fn what_nests_deeper_than_others_can_read_is_refused_and_what_cannot_be_read_can_be_deleted() {
    let store: Arc<dyn Store> = memory();
    let plain = over(Arc::clone(&store), Sealer::fresh());
    let nested = |levels: usize| (0..levels).fold(json!({}), |inner, _| json!({ "a": inner }));
    // The object is a level itself, and so is the innermost map.
    let body = |levels: usize| json!({ "metadata": { "name": "a" }, "spec": nested(levels - 2) });
    let refused = |written: Result<Value, PlainError>| matches!(written, Err(PlainError::Invalid { field: "", .. }));
    assert!(refused(plain.create(PlainKind::Lease, "default", body(MAX_DEPTH + 1), false).await));
    plain.create(PlainKind::Lease, "default", body(MAX_DEPTH), false).await.unwrap();
    let deeper = Edit::Merge(json!({ "spec": nested(MAX_DEPTH - 1) }));
    assert!(refused(plain.edit(&lease("a"), &deeper, false).await));
    let path = format!("/spec{}", "/a".repeat(MAX_DEPTH - 1));
    let patch = Edit::Patch(json!([{ "op": "add", "path": path, "value": {} }]));
    assert!(plain.edit(&lease("a"), &patch, false).await.is_err());

    let mut deep = Txn::default();
    let text = ["{\"a\":".repeat(200), "0".into(), "}".repeat(200)].concat();
    deep.ops.push(crate::store::Op::Put { key: lease("b").key(), value: text.into_bytes().into() });
    store.txn(deep).await.unwrap();
    assert!(matches!(plain.get(&lease("b")), Err(PlainError::Record(RecordError::Unreadable { .. }))));
    plain.delete(&lease("b"), &Preconditions::default(), false).await.unwrap();
    assert!(store.get(&lease("b").key()).unwrap().0.is_none());
}
