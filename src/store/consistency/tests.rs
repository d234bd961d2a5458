use std::path::PathBuf;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::*;
use crate::model::{ClaimSpec, ClaimStatus, ContainerSpec, ContainerStatus, EventKind, Quotas};
use crate::model::{Image, Machine, ObjectMeta, Origin, PoolSpec, PoolStatus, Template};

const UUID: Uuid = Uuid::from_u128(7);

fn put(key: &str, value: &impl Serialize) -> Kv {
    Kv { key: key.into(), value: serde_json::to_vec(value).unwrap().into(), create_rev: 2, mod_rev: 2 }
}

fn of<T: Object>(object: &T) -> Kv {
    put(&records::key(&object.object_ref()), object)
}

fn access_token(name: &str, digit: char) -> AccessToken {
    let (created_at, sha256) = (Timestamp::UNIX_EPOCH, digit.to_string().repeat(64));
    AccessToken { name: name.into(), sha256, created_at, expires_at: None, enabled: true, quotas: Quotas::default() }
}

/// A pool with a bound container, its claim, and all that belongs to them.
fn good() -> BTreeMap<String, Kv> {
    let at = Timestamp::UNIX_EPOCH;
    let template = Template::of(Image::Iso(PathBuf::from("/i.iso")));
    let pool = ContainerPool {
        metadata: ObjectMeta::new("default", "pool", Uuid::from_u128(1), at),
        spec: PoolSpec::of(0, 2, template.clone()),
        status: PoolStatus { containers: 1, ..PoolStatus::default() },
    };
    let container = Container {
        metadata: ObjectMeta::new("default", "box", UUID, at),
        spec: ContainerSpec {
            pool: Some("pool".into()),
            claim: Some("mine".to_owned()).into(),
            template: template.into(),
            scheduling_gates: vec![].into(),
            machine: Machine { mac: "02:00:00:00:00:01".parse().unwrap(), port: 10_000, image_sha256: "".into() },
        },
        status: ContainerStatus { phase: Phase::Bound, ..ContainerStatus::default() },
    };
    let claim = ContainerClaim {
        metadata: ObjectMeta::new("default", "mine", Uuid::from_u128(2), at),
        spec: ClaimSpec::of("pool", Origin::Object),
        status: ClaimStatus { phase: ClaimPhase::Bound, container: Some("box".into()), ..ClaimStatus::default() },
    };
    let login = Credentials { username: "user_10000".into(), sealed_password: "v1:".into() };
    let all = [
        of(&pool),
        of(&container),
        of(&claim),
        put(&records::credentials_key("default", "box"), &login),
        put(&records::port_key(10_000), &UUID),
        put("events/00000000000000000041", &Event::new(EventKind::BoundClaim, at)),
        put("events/00000000000000000042", &Event::new(EventKind::Started, at)),
        put(INSTANCE, &Uuid::from_u128(3)),
        put(ADMISSION, &UUID),
        put("tokens/ci", &json!({ "name": "ci" })),
        put("access-tokens/anna", &access_token("anna", 'a')),
        put("plain/namespaces/default", &json!({ "kind": "Namespace" })),
        put("events.k8s.io/default/told", &json!({ "kind": "Event" })),
        put(CLOCK, &json!({"bootId": "b", "wall": at, "boottimeMilliseconds": 1})),
    ];
    all.into_iter().map(|kv| (kv.key.to_string(), kv)).collect()
}

fn findings(records: &BTreeMap<String, Kv>) -> Vec<Finding> {
    check(&records.values().cloned().collect::<Vec<_>>())
}

/// Changes a field of a record.
fn set(records: &mut BTreeMap<String, Kv>, key: &str, pointer: &str, value: Value) {
    let mut object: Value = serde_json::from_slice(&records[key].value).unwrap();
    *object.pointer_mut(pointer).unwrap() = value;
    records.insert(key.into(), put(key, &object));
}

const BOX: &str = "registry/containers/default/box";
const MINE: &str = "registry/containerclaims/default/mine";
const POOL: &str = "registry/containerpools/default/pool";
const LOGIN: &str = "registry/credentials/default/box";
const ANNA: &str = "access-tokens/anna";
const PORT: &str = "registry/ports/10000";

/// What is done to a good store, and which keys are found then, with what.
type Case = (&'static str, fn(&mut BTreeMap<String, Kv>), &'static [(&'static str, &'static str)]);

#[test]
fn each_rule_finds_what_breaks_it() {
    assert_eq!(findings(&good()), []);
    let cases: [Case; 21] = [
        ("a port is lost", |r| drop(r.remove(PORT)), &[(BOX, "not held")]),
        (
            "a port is another's",
            |r| drop(r.insert(PORT.into(), put(PORT, &Uuid::from_u128(9)))),
            &[(BOX, "held for"), (PORT, "no container")],
        ),
        ("credentials are lost", |r| drop(r.remove(LOGIN)), &[(BOX, "no credentials")]),
        (
            "a container is lost",
            |r| drop(r.remove(BOX)),
            &[(MINE, "not there"), (POOL, "counts 1"), (LOGIN, "of no container"), (PORT, "no container")],
        ),
        ("a claim is lost", |r| drop(r.remove(MINE)), &[(BOX, "not there")]),
        (
            "a claim names another",
            |r| set(r, MINE, "/status/container", json!("other")),
            &[(MINE, "not there"), (BOX, "does not name it")],
        ),
        (
            "a container names another",
            |r| set(r, BOX, "/spec/claim", json!("other")),
            &[(MINE, "another claim's"), (BOX, "not there")],
        ),
        (
            "a claim names none",
            |r| set(r, MINE, "/status/container", Value::Null),
            &[(MINE, "no container"), (BOX, "does not name it")],
        ),
        (
            "a container names none",
            |r| set(r, BOX, "/spec/claim", Value::Null),
            &[(MINE, "another claim's"), (BOX, "no claim")],
        ),
        ("a pool counts wrong", |r| set(r, POOL, "/status/containers", json!(2)), &[(POOL, "counts 2")]),
        (
            "an event is lost",
            |r| {
                let (key, event) = ("events/00000000000000000044", r.remove("events/00000000000000000042").unwrap());
                r.insert(key.into(), Kv { key: key.into(), ..event });
            },
            &[("events/00000000000000000044", "after number 41")],
        ),
        (
            "a record is something else",
            |r| drop(r.insert(MINE.into(), put(MINE, &1))),
            &[(MINE, "cannot be read"), (BOX, "not there")],
        ),
        (
            "an event is none",
            |r| drop(r.insert("events/00000000000000000042".into(), put("events/00000000000000000042", &1))),
            &[("events/00000000000000000042", "cannot be read")],
        ),
        (
            "a record has another name",
            |r| set(r, POOL, "/metadata/name", json!("other")),
            &[(POOL, "holds ContainerPool default/other"), ("registry/containerpools/default/other", "counts 1")],
        ),
        (
            "a key is unknown",
            |r| drop(r.insert("registry/ports/x".into(), put("registry/ports/x", &UUID))),
            &[("registry/ports/x", "no key")],
        ),
        (
            "a document is none",
            |r| drop(r.insert("plain/namespaces/a".into(), put("plain/namespaces/a", &1))),
            &[("plain/namespaces/a", "cannot be read")],
        ),
        ("an access token has another name", |r| set(r, ANNA, "/name", json!("bert")), &[(ANNA, "holds 'bert'")]),
        (
            "two access tokens have the same text",
            |r| drop(r.insert("access-tokens/bert".into(), put("access-tokens/bert", &access_token("bert", 'a')))),
            &[("access-tokens/bert", "the text of 'anna'")],
        ),
        (
            "an access token is none",
            |r| drop(r.insert(ANNA.into(), put(ANNA, &json!({ "name": "anna" })))),
            &[(ANNA, "cannot be read")],
        ),
        ("a clock is none", |r| drop(r.insert(CLOCK.into(), put(CLOCK, &1))), &[(CLOCK, "cannot be read")]),
        (
            "a container is there twice",
            |r| {
                let copy = "registry/containers/default/copy";
                r.insert(copy.into(), Kv { key: copy.into(), ..r[BOX].clone() });
                set(r, copy, "/metadata/name", json!("copy"));
                set(r, copy, "/spec/pool", json!("none"));
                set(r, copy, "/status/phase", json!("Ready"));
            },
            &[
                ("registry/containers/default/copy", "no credentials"),
                ("registry/containers/default/copy", "has the UUID"),
            ],
        ),
    ];
    for (what, tamper, expected) in cases {
        let mut records = good();
        tamper(&mut records);
        let found = findings(&records);
        assert_eq!(found.len(), expected.len(), "{what}: {found:?}");
        for (key, says) in expected {
            let it = |finding: &Finding| finding.key == *key && finding.wrong.contains(says);
            assert!(found.iter().any(it), "{what}: nothing like '{key}' {says} in {found:?}");
        }
    }
}

#[test]
fn what_has_given_everything_back_needs_neither_port_nor_login() {
    let mut records = good();
    records.retain(|key, _| ![PORT, LOGIN, MINE].contains(&key.as_str()));
    set(&mut records, BOX, "/status/phase", json!("Failed"));
    assert_eq!(findings(&records).len(), 2);
    let released =
        json!([{"type": "Released", "status": "True", "reason": "Ended", "lastTransitionTime": Timestamp::UNIX_EPOCH}]);
    let mut object: Value = serde_json::from_slice(&records[BOX].value).unwrap();
    object["status"]["conditions"] = released;
    records.insert(BOX.into(), put(BOX, &object));
    assert_eq!(findings(&records), []);
}

#[test]
fn a_record_of_later_than_its_store_is_found() {
    let contents = |revision, last| {
        let logs = BTreeMap::from([("events/".to_owned(), last)]);
        check_all(&Contents { revision, records: good().into_values().collect(), logs })
    };
    assert_eq!(contents(2, 42), []);
    assert!(
        contents(1, 42).iter().all(|finding| finding.wrong.contains("of 1")) && contents(1, 42).len() == good().len()
    );
    let late = contents(2, 41);
    assert_eq!(late.len(), 1);
    assert!(late[0].key.ends_with("42") && late[0].wrong.contains("last number, 41"), "{late:?}");
}
