//! The product's server on loopback, with handlers that tests need and a log that they wait on.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anweddol::model::{Event, EventKind};
use anweddol::server::gate::Gate;
use anweddol::server::tcp::{WireConfig, WireServer, processors};
use anweddol::server::{Answer, ClientInstance, EventSink, Verbs};
use anweddol::wire::{Request, Response};
use futures::FutureExt;
use futures::future::BoxFuture;
use jiff::Timestamp;
use serde_json::{Map, json};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::support::key;

/// Names of what happened, in order; tests wait for what they look for.
#[derive(Clone)]
pub(crate) struct Log(watch::Sender<Vec<Event>>);

impl Log {
    pub(crate) fn new() -> Self {
        Log(watch::Sender::new(Vec::new()))
    }

    fn add(&self, event: Event) {
        self.0.send_modify(|events| events.push(event));
    }

    /// Waits until the events are as wished.
    pub(crate) async fn until(&self, wished: impl Fn(&[Event]) -> bool) -> Vec<Event> {
        let mut events = self.0.subscribe();
        let seen = tokio::time::timeout(Duration::from_secs(30), events.wait_for(|events| wished(events))).await;
        match seen {
            Ok(events) => events.expect("the sender lives").clone(),
            Err(_) => panic!("in vain; there was: {:?}", self.0.borrow()),
        }
    }

    /// Waits for so many events of a kind.
    pub(crate) async fn count(&self, kind: EventKind, count: usize) -> Vec<Event> {
        self.until(|events| events.iter().filter(|event| event.kind == kind).count() >= count).await
    }
}

impl EventSink for Log {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    fn emit(&self, event: Event) {
        self.add(event);
    }
}

/// Handlers that do what a test needs. What they do beyond answering is told in the log as `ADOPTED`.
pub(crate) struct TestVerbs {
    pub(crate) log: Log,
    pub(crate) go_on: CancellationToken,
}

/// Tells in the log that it was dropped.
struct Dropped(Log);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.add(done("dropped"));
    }
}

fn done(what: &str) -> Event {
    Event::new(EventKind::Adopted, jiff::Timestamp::UNIX_EPOCH).message(what)
}

/// Whether a handler did something.
pub(crate) fn did(events: &[Event], what: &str) -> bool {
    events.iter().any(|event| event.kind == EventKind::Adopted && event.message == what)
}

impl Verbs for TestVerbs {
    fn handle(&self, client: Arc<ClientInstance>, request: Request) -> BoxFuture<'static, Answer> {
        let log = self.log.clone();
        let go_on = self.go_on.clone();
        let mut data = Map::new();
        data.insert("verb".into(), request.verb.clone().into());
        data.insert("parameters".into(), request.parameters.into());
        data.insert("client".into(), json!([client.ip().to_string(), client.id()]));
        if request.verb == "EARLY" {
            panic!("before its future");
        }
        async move {
            let _dropped = Dropped(log.clone());
            match request.verb.as_str() {
                "WAIT" => {
                    log.add(done("waits"));
                    go_on.cancelled().await;
                }
                "PANIC" => panic!("as asked"),
                "LATE" => {
                    client.send_response(Response::ok(data)).await.ok();
                    panic!("after its answer");
                }
                "BIG" => {
                    data.insert("big".into(), "x".repeat(20_000_000).into());
                }
                "LARGE" => {
                    data.insert("large".into(), "x".repeat(400_000).into());
                }
                _ => {}
            }
            let other = log.clone();
            let undelivered: Box<dyn FnOnce() + Send> = Box::new(move || log.add(done("undelivered")));
            let delivered: Box<dyn FnOnce() + Send> = Box::new(move || other.add(done("delivered")));
            Answer { response: Response::ok(data), undelivered: Some(undelivered), delivered: Some(delivered) }
        }
        .boxed()
    }
}

/// A running server; stopped when dropped.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    pub(crate) log: Log,
    pub(crate) go_on: CancellationToken,
    pub(crate) stop: CancellationToken,
    pub(crate) task: JoinHandle<()>,
}

impl Running {
    pub(crate) async fn start() -> Self {
        Running::with(|_| {}).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut WireConfig)) -> Self {
        Running::limited(change, Arc::default(), Arc::new(Semaphore::new(processors()))).await
    }

    /// With a gate, and with the permits to exchange keys in the test's hand.
    pub(crate) async fn limited(
        change: impl FnOnce(&mut WireConfig),
        gate: Arc<Gate>,
        key_exchanges: Arc<Semaphore>,
    ) -> Self {
        let mut config = WireConfig::new("127.0.0.1:0".parse().unwrap());
        change(&mut config);
        let (log, go_on, stop) = (Log::new(), CancellationToken::new(), CancellationToken::new());
        let verbs = TestVerbs { log: log.clone(), go_on: go_on.clone() };
        let server = WireServer::bind(config, key("server"), Arc::new(verbs), Arc::new(log.clone())).await.unwrap();
        let server = server.limited(gate, key_exchanges);
        let address = server.local_addr();
        let task = tokio::spawn(server.run(stop.clone()));
        Running { address, log, go_on, stop, task }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// What happened, without what handlers did.
pub(crate) fn kinds(events: &[Event]) -> Vec<EventKind> {
    events.iter().map(|event| event.kind).filter(|kind| *kind != EventKind::Adopted).collect()
}
