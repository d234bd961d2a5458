//! Asking a daemon over the wire, from tests that block.

use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use anweddol::client::{ClientConfig, ClientError, ask as ask_wire};
use anweddol::wire::keys::Backend;
use anweddol::wire::{CREATE, DESTROY, Generation, PrivateKey, Request, Response, STAT};
use futures::StreamExt;
use serde_json::{Map, Value};
use tokio::runtime::{Builder, Runtime};

use super::daemon::VECTORS;
use super::{PATIENCE, until};

static KEY: LazyLock<Arc<PrivateKey>> = LazyLock::new(|| {
    let pem = VECTORS.pointer("/client/private_pem").and_then(Value::as_str).unwrap();
    Arc::new(PrivateKey::from_pem(pem, Backend::ConstantTime).unwrap())
});

pub(crate) fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

fn config(generation: Generation) -> ClientConfig {
    ClientConfig {
        generation,
        key: Some(Arc::clone(&KEY)),
        exchange_timeout: PATIENCE,
        answer_timeout: Duration::from_secs(110),
        ..ClientConfig::default()
    }
}

/// Asks once.
pub(crate) fn ask(address: SocketAddr, generation: Generation, request: &Request) -> Response {
    try_ask(address, generation, request).unwrap()
}

/// Asks once; it may be in vain.
pub(crate) fn try_ask(address: SocketAddr, generation: Generation, request: &Request) -> Result<Response, ClientError> {
    runtime().block_on(ask_wire(&address.to_string(), request, &config(generation)))
}

/// So many of the same question at once, each on a connection of its own, and no more than `at_once` under way.
pub(crate) fn ask_many(address: SocketAddr, request: &Request, count: usize, at_once: usize) -> Vec<Response> {
    let (config, address) = (config(Generation::Second), address.to_string());
    let asking = futures::stream::iter(0..count).map(|_| ask_wire(&address, request, &config));
    let answers: Vec<_> = runtime().block_on(asking.buffer_unordered(at_once).collect());
    answers.into_iter().map(Result::unwrap).collect()
}

/// Asks, and goes away when `leave` returns.
pub(crate) fn ask_until(address: SocketAddr, request: Request, leave: impl FnOnce()) {
    let runtime = runtime();
    let asking =
        runtime.spawn(async move { ask_wire(&address.to_string(), &request, &config(Generation::Second)).await });
    leave();
    assert!(!asking.is_finished(), "it was answered before its client could leave");
    asking.abort();
}

/// What a client was granted.
#[derive(Clone, Debug)]
pub(crate) struct Grant {
    pub(crate) uuid: String,
    pub(crate) token: String,
    pub(crate) username: String,
    pub(crate) password: String,
    pub(crate) port: u16,
    pub(crate) data: Map<String, Value>,
}

pub(crate) fn create(address: SocketAddr) -> Response {
    ask(address, Generation::Second, &Request::bare(CREATE))
}

/// So many at the same time.
pub(crate) fn create_parallel(address: SocketAddr, count: usize) -> Vec<Response> {
    std::thread::scope(|scope| {
        let asking: Vec<_> = (0..count).map(|_| scope.spawn(move || create(address))).collect();
        asking.into_iter().map(|one| one.join().unwrap()).collect()
    })
}

/// What a successful CREATE told.
pub(crate) fn grant(response: &Response) -> Grant {
    assert!(response.success, "{}", response.message);
    let text = |name: &str| response.data[name].as_str().unwrap().to_owned();
    Grant {
        uuid: text("container_uuid"),
        token: text("client_token"),
        username: text("container_username"),
        password: text("container_password"),
        port: response.data["container_listen_port"].as_u64().unwrap().try_into().unwrap(),
        data: response.data.clone(),
    }
}

pub(crate) fn destroy_request(uuid: &str, token: &str) -> Request {
    let pair = [("container_uuid", uuid), ("client_token", token)];
    Request::new(DESTROY, pair.into_iter().map(|(name, text)| (name.to_owned(), text.into())).collect())
}

pub(crate) fn destroy(address: SocketAddr, grant: &Grant) -> Response {
    ask(address, Generation::Second, &destroy_request(&grant.uuid, &grant.token))
}

/// What STAT tells.
pub(crate) fn stat(address: SocketAddr) -> Map<String, Value> {
    let response = ask(address, Generation::Second, &Request::bare(STAT));
    assert!(response.success, "{}", response.message);
    response.data
}

/// Waits until so many could be created.
pub(crate) fn until_available(address: SocketAddr, count: u64) {
    until(&format!("available: {count}"), || (stat(address)["available"] == count).then_some(()));
}
