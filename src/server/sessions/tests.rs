use std::net::Ipv4Addr;

use secrecy::ExposeSecret;
use serde_json::json;

use super::*;
use crate::model::{EventKind, Image, Template};
use crate::store::Txn;

/// A container as its record says it is, in the store.
async fn container(store: &dyn Store, phase: Phase) -> Uuid {
    let uuid = Uuid::new_v4();
    let spec = json!({
        "pool": "default",
        "template": Template::of(Image::Iso("/image.iso".into())),
        "machine": { "mac": "02:00:00:00:00:01", "port": 10_000, "imageSha256": "" },
    });
    let metadata = ObjectMeta::new(DEFAULT_NAMESPACE, &uuid.to_string(), uuid, Timestamp::now());
    let record = json!({ "metadata": metadata, "spec": spec, "status": { "phase": phase } });
    let record: Container = serde_json::from_value(record).unwrap();
    store.txn(Txn::default().write(&record)).await.unwrap();
    uuid
}

fn record(store: &dyn Store, uuid: Uuid) -> Container {
    records::get::<Container>(store, DEFAULT_NAMESPACE, &uuid.to_string()).unwrap().unwrap().object
}

/// A claim as CREATE leaves it on its way.
async fn claim(store: &dyn Store, container: Uuid, phase: ClaimPhase, bound_at: Timestamp) -> (Client, SecretString) {
    let client = Client { ip: Ipv4Addr::LOCALHOST.into(), id: "1234567".into() };
    let token = claims::token();
    let uid = Uuid::new_v4();
    let claim = ContainerClaim {
        metadata: ObjectMeta::new(DEFAULT_NAMESPACE, &format!("wire-{uid}"), uid, bound_at),
        spec: ClaimSpec {
            token_sha256: Some(claims::token_sha256(&token)),
            ..ClaimSpec::of("default", Origin::Wire { client: client.clone(), run: Uuid::nil() })
        },
        status: ClaimStatus {
            phase,
            container: Some(container.to_string()),
            bound_at: Some(bound_at),
            ..ClaimStatus::default()
        },
    };
    let mut record = record(store, container);
    record.spec.claim = Some(claim.metadata.name.clone()).into();
    store.txn(Txn::default().write(&claim).write(&record)).await.unwrap();
    (client, token)
}

#[tokio::test]
async fn an_added_session_is_a_bound_claim_with_its_events() {
    let store = crate::store::memory();
    let sessions = SessionsStore::new(Arc::clone(&store) as Arc<dyn Store>);
    let uuid = container(&*store, Phase::Ready).await;
    let token = sessions.add(uuid).await.unwrap();
    assert_eq!(token.expose_secret().len(), 255);
    let bound = record(&*store, uuid);
    assert_eq!(bound.status.phase, Phase::Bound);
    let claims = records::list::<ContainerClaim>(&*store, DEFAULT_NAMESPACE).unwrap();
    let [claim] = &claims[..] else { panic!("{claims:?}") };
    assert_eq!(bound.spec.claim.as_ref(), Some(&claim.object.metadata.name));
    assert_eq!((claim.object.status.phase, &claim.object.spec.origin), (ClaimPhase::Bound, &Origin::Embedder));
    let told: Vec<EventKind> = store.list(records::EVENTS).unwrap().0.iter().map(kind).collect();
    assert_eq!(told, [EventKind::CreatedContainer, EventKind::BoundClaim]);
}

fn kind(kv: &crate::store::Kv) -> EventKind {
    records::decode::<crate::model::Event>(kv).unwrap().object.kind
}

#[tokio::test]
async fn the_token_is_nowhere_in_the_store() {
    let store = crate::store::memory();
    let sessions = SessionsStore::new(Arc::clone(&store) as Arc<dyn Store>);
    let token = sessions.add(container(&*store, Phase::Ready).await).await.unwrap();
    for kv in store.list("").unwrap().0 {
        assert!(!String::from_utf8_lossy(&kv.value).contains(token.expose_secret()), "{} holds the token", kv.key);
    }
}

#[tokio::test]
async fn only_the_right_pair_finds_a_session() {
    let store = crate::store::memory();
    let sessions = SessionsStore::new(Arc::clone(&store) as Arc<dyn Store>);
    let (one, two) = (container(&*store, Phase::Ready).await, container(&*store, Phase::Ready).await);
    let (first, second) = (sessions.add(one).await.unwrap(), sessions.add(two).await.unwrap());
    let (first, second) = (first.expose_secret(), second.expose_secret());
    let found = sessions.look_up(one, first).unwrap().unwrap();
    assert_eq!((found.container, found.client), (one, None));
    let nobodys = container(&*store, Phase::Ready).await;
    for (uuid, token) in
        [(one, second), (two, first), (Uuid::new_v4(), first), (one, ""), (one, &first[..254]), (nobodys, first)]
    {
        assert_eq!(sessions.look_up(uuid, token).unwrap(), None);
    }
}

#[tokio::test]
async fn a_container_is_held_once_and_only_when_it_is_ready() {
    let store = crate::store::memory();
    let sessions = SessionsStore::new(Arc::clone(&store) as Arc<dyn Store>);
    assert!(matches!(sessions.add(Uuid::new_v4()).await, Err(SessionError::NoContainer { .. })));
    for phase in [Phase::Pending, Phase::Booting, Phase::Failed, Phase::Terminating] {
        let uuid = container(&*store, phase).await;
        let refused = sessions.add(uuid).await.unwrap_err();
        assert!(matches!(refused, SessionError::NotReady { phase: told, .. } if told == phase), "{refused}");
    }
    let uuid = container(&*store, Phase::Ready).await;
    let both = tokio::join!(sessions.add(uuid), sessions.add(uuid));
    assert!(matches!(both, (Ok(_), Err(SessionError::Taken { .. })) | (Err(SessionError::Taken { .. }), Ok(_))));
    assert_eq!(sessions.list().unwrap().len(), 1);
    let ending = container(&*store, Phase::Ready).await;
    let mut gone = record(&*store, ending);
    gone.metadata.deletion_timestamp = Some(Timestamp::now()).into();
    store.txn(Txn::default().write(&gone)).await.unwrap();
    assert!(matches!(sessions.add(ending).await, Err(SessionError::NotReady { phase: Phase::Terminating, .. })));
}

#[tokio::test]
async fn clients_sessions_are_listed_with_their_client_and_the_oldest_first() {
    let store = crate::store::memory();
    let sessions = SessionsStore::new(Arc::clone(&store) as Arc<dyn Store>);
    let added = container(&*store, Phase::Ready).await;
    sessions.add(added).await.unwrap();
    let old = container(&*store, Phase::Bound).await;
    let at = Timestamp::from_second(1_000).unwrap();
    let (client, token) = claim(&*store, old, ClaimPhase::Bound, at).await;
    for phase in [ClaimPhase::Pending, ClaimPhase::Failed, ClaimPhase::Lost] {
        let uuid = container(&*store, Phase::Booting).await;
        let (_, token) = claim(&*store, uuid, phase, at).await;
        assert_eq!(sessions.look_up(uuid, token.expose_secret()).unwrap(), None, "{phase:?} is no session");
        assert!(matches!(sessions.delete(uuid).await, Err(SessionError::NoSession { .. })));
    }
    let clients = Session { container: old, created_at: at, client: Some(client) };
    assert_eq!(sessions.look_up(old, token.expose_secret()).unwrap().as_ref(), Some(&clients));
    let listed = sessions.list().unwrap();
    assert_eq!(listed.len(), 2);
    assert_eq!(listed[0], clients);
    assert_eq!((listed[1].container, &listed[1].client), (added, &None));
    let elsewhere = SessionsStore::in_namespace(store, "elsewhere");
    assert_eq!(elsewhere.list().unwrap(), []);
}

#[tokio::test]
async fn a_deleted_session_is_gone_at_once_and_its_container_ends() {
    let store = crate::store::memory();
    let sessions = SessionsStore::new(Arc::clone(&store) as Arc<dyn Store>);
    let uuid = container(&*store, Phase::Ready).await;
    let token = sessions.add(uuid).await.unwrap();
    sessions.delete(uuid).await.unwrap();
    assert_eq!(sessions.list().unwrap(), []);
    assert_eq!(sessions.look_up(uuid, token.expose_secret()).unwrap(), None);
    assert!(record(&*store, uuid).metadata.deleting());
    assert!(matches!(sessions.delete(uuid).await, Err(SessionError::NoSession { .. })));
    assert!(matches!(sessions.add(uuid).await, Err(SessionError::Taken { .. })), "it is never given to another");
}
