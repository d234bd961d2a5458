use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};

use jiff::{SignedDuration, Timestamp};
use secrecy::ExposeSecret;
use serde_json::{Map, json};

use super::*;
use crate::api::access_tokens::Order;
use crate::model::{Client, Quotas};
use crate::server::lines;
use crate::store::{Store, memory};

/// Tells who came through.
struct Open;

impl Verbs for Open {
    fn handle(&self, client: Arc<ClientInstance>, _: Request) -> BoxFuture<'static, Answer> {
        let name = json!(client.access_token());
        let data = Map::from_iter([("token".to_owned(), name)]);
        futures::future::ready(Response::ok(data).into()).boxed()
    }
}

/// Keeps what it was told.
#[derive(Default)]
struct Told(Mutex<Vec<Event>>);

impl EventSink for Told {
    fn now(&self) -> Timestamp {
        Timestamp::UNIX_EPOCH
    }

    fn emit(&self, event: Event) {
        self.0.lock().unwrap().push(event);
    }
}

struct Bench {
    store: Arc<dyn Store>,
    tokens: Arc<AccessTokenManager>,
    now: Arc<Mutex<Timestamp>>,
    told: Arc<Told>,
}

fn bench() -> Bench {
    let now = Arc::new(Mutex::new(Timestamp::UNIX_EPOCH));
    let (clock, store): (_, Arc<dyn Store>) = (Arc::clone(&now), memory());
    let tokens = AccessTokenManager::new(Arc::clone(&store), Arc::new(move || *clock.lock().unwrap()));
    Bench { store, tokens: Arc::new(tokens), now, told: Arc::default() }
}

impl Bench {
    async fn add(&self, name: &str, ttl: Option<u32>, per_minute: Option<u32>) -> String {
        let quotas =
            Quotas { requests_per_minute: per_minute.and_then(std::num::NonZeroU32::new), ..Quotas::default() };
        let order = Order { name: Some(name.into()), ttl, quotas, ..Order::default() };
        self.tokens.add(order).await.unwrap().1.expose_secret().to_owned()
    }

    fn gate(&self, required: bool) -> Arc<dyn Verbs> {
        TokenCheck::before(
            Arc::new(Open),
            Arc::clone(&self.tokens),
            Arc::new(required.into()),
            Arc::clone(&self.told) as Arc<dyn EventSink>,
        )
    }

    /// What a request with this parameter is answered.
    async fn ask(&self, required: bool, verb: &str, token: Option<Value>) -> Response {
        ask(&*self.gate(required), verb, token).await.response
    }
}

fn ask(gate: &dyn Verbs, verb: &str, token: Option<Value>) -> BoxFuture<'static, Answer> {
    let client = Client { ip: Ipv4Addr::LOCALHOST.into(), id: "1234567".into() };
    let parameters = token.into_iter().map(|token| (PARAMETER.to_owned(), token)).collect();
    gate.handle(ClientInstance::gone(client, Timestamp::UNIX_EPOCH), Request::new(verb, parameters))
}

#[tokio::test]
async fn a_token_that_is_not_good_has_the_same_answer_whatever_is_wrong_with_it() {
    let bench = bench();
    let (deleted, disabled) = (bench.add("deleted", None, None).await, bench.add("disabled", None, None).await);
    let over = bench.add("over", Some(60), None).await;
    bench.tokens.delete("deleted").await.unwrap();
    bench.tokens.set_enabled("disabled", false).await.unwrap();
    *bench.now.lock().unwrap() += SignedDuration::from_secs(60);
    for required in [true, false] {
        for token in [json!("x".repeat(124)), json!(""), json!(deleted), json!(disabled), json!(over), json!(5)] {
            for verb in ["CREATE", "DESTROY", "STAT", "EXTEND", "PING"] {
                let said = bench.ask(required, verb, Some(token.clone())).await;
                assert_eq!(
                    said,
                    Response::refused(Message::BadAuthentication, Some("Invalid access token")),
                    "{token}"
                );
            }
        }
    }
    assert!(bench.told.0.lock().unwrap().is_empty());
}

#[tokio::test]
async fn nobody_comes_through_without_a_token_where_one_is_required_and_anybody_elsewhere() {
    let bench = bench();
    let anna = bench.add("anna", None, None).await;
    for required in [true, false] {
        let said = bench.ask(required, "CREATE", Some(json!(anna))).await;
        assert_eq!((said.success, &said.data["token"]), (true, &json!("anna")));
    }
    let said = bench.ask(true, "STAT", None).await;
    assert_eq!(said, Response::refused(Message::BadRequest, Some("Access token is required")));
    let said = bench.ask(false, "STAT", None).await;
    assert_eq!((said.success, &said.data["token"]), (true, &Value::Null));
}

#[tokio::test]
async fn who_asks_too_often_is_told_how_long_to_wait() {
    let bench = bench();
    // Each request of this test has a gate of its own; the rates are the tokens'.
    let anna = bench.add("anna", None, Some(1)).await;
    assert!(bench.ask(true, "STAT", Some(json!(anna))).await.success);
    let said = bench.ask(true, "DESTROY", Some(json!(anna))).await;
    assert_eq!(said.kind(), Some(Message::RefusedRequest));
    assert!(said.message.contains("1 requests a minute") && said.message.contains("wait "), "{}", said.message);
}

#[tokio::test]
async fn records_that_cannot_be_read_let_nobody_in_and_are_told_to_the_administrator_alone() {
    let bench = bench();
    let anna = bench.add("anna", None, None).await;
    bench.store.txn(crate::store::Txn::default().put("access-tokens/bert", &0)).await.unwrap();
    for required in [true, false] {
        let said = bench.ask(required, "STAT", Some(json!(anna))).await;
        assert_eq!(said, Response::refused(Message::InternalError, None));
    }
    let told = bench.told.0.lock().unwrap();
    assert_eq!(told.len(), 2);
    assert!(told[0].kind == EventKind::RuntimeError && told[0].message.contains("access-tokens/bert"), "{told:?}");
}

#[tokio::test]
async fn whoever_bears_whatever_token_fills_no_log() {
    let bench = bench();
    let (gate, anna, verb) = (bench.gate(false), bench.add("anna", None, None).await, "A".repeat(60_000));
    for token in [json!(anna), json!("x".repeat(124))] {
        let lines = lines::written(|| {
            for _ in 0..=lines::MOST {
                drop(ask(&*gate, &verb, Some(token.clone())));
            }
        });
        assert_eq!(lines.len() as u64, lines::MOST);
        assert!(lines.iter().all(|line| line.len() < 512), "{}", lines[0].len());
    }
}
