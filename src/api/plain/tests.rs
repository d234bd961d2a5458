use super::*;
use crate::store::memory;

fn plain() -> Plain {
    Plain::new(memory(), Arc::new(|| jiff::Timestamp::from_second(1000).unwrap()))
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
}

#[tokio::test]
async fn of_events_the_newest_stay_and_of_others_there_is_an_end() {
    let plain = plain();
    let named = |name: String| json!({ "metadata": { "name": name } });
    for number in 0..=PlainKind::Event.most() {
        plain.create(PlainKind::Event, "default", named(format!("e{number}")), false).await.unwrap();
    }
    let listed = plain.list(PlainKind::Event, None, &Filter::default()).unwrap().items;
    assert_eq!(listed.len(), PlainKind::Event.most());
    assert!(listed.iter().all(|event| event["metadata"]["name"] != "e0"));
    for number in 0..PlainKind::Lease.most() {
        plain.create(PlainKind::Lease, "default", named(format!("l{number}")), false).await.unwrap();
    }
    let more = plain.create(PlainKind::Lease, "default", named("more".into()), false).await;
    assert!(matches!(more, Err(PlainError::TooMany { .. })));
}

#[tokio::test]
async fn names_and_labels_that_are_none_are_refused() {
    let plain = plain();
    for (meta, field) in [
        (json!({}), "metadata.name"),
        (json!({ "name": "../a" }), "metadata.name"),
        (json!({ "name": "A" }), "metadata.name"),
        (json!({ "name": "a..b" }), "metadata.name"),
        (json!({ "name": "a", "labels": { "a": 1 } }), "metadata.labels"),
        (json!({ "name": "a", "labels": [] }), "metadata.labels"),
    ] {
        let made = plain.create(PlainKind::Lease, "default", json!({ "metadata": meta }), false).await;
        assert!(matches!(made, Err(PlainError::Invalid { field: found, .. }) if found == field), "{meta}: {made:?}");
    }
}
