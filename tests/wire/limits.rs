//! What clients may take of the running server: places, rates, and its work with keys.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use anweddol::config::{IpFilter, Rates};
use anweddol::model::EventKind;
use anweddol::server::gate::Gate;
use anweddol::server::tcp::WireConfig;
use anweddol::wire::Generation;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::Semaphore;

use crate::running::{Running, did};
use crate::support::{RawClient, handshake, read, rest};

const STAT: &str = r#"{"verb": "STAT", "parameters": {}}"#;

/// A connection from another address of this host.
async fn from(source: &str, to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(format!("{source}:0").parse().unwrap()).unwrap();
    socket.connect(to).await.unwrap()
}

/// Whether the server closed it without a word.
async fn closed(stream: &mut TcpStream) -> bool {
    !matches!(stream.read(&mut [0]).await, Ok(1..))
}

async fn served(stream: TcpStream) -> String {
    let mut client = RawClient::on(stream).await;
    client.send(Generation::Second, STAT).await;
    client.response(Generation::Second).await.message
}

/// Nobody is exempt.
fn rates() -> Rates {
    Rates { exempt: Vec::new(), ..Rates::default() }
}

async fn gated(filter: IpFilter, rates: Rates) -> (Running, Arc<Gate>) {
    let gate = Arc::new(Gate::new(filter, rates));
    // What is closed is closed at once, or not in this test's time.
    let patient = |config: &mut WireConfig| config.client_timeout = Duration::from_secs(600);
    (Running::limited(patient, Arc::clone(&gate), Arc::new(Semaphore::new(1))).await, gate)
}

#[tokio::test]
async fn a_denied_address_is_closed_at_once_and_a_change_of_the_lists_counts_from_then_on() {
    let deny = |network: &str| IpFilter { allow: vec![], deny: vec![network.parse().unwrap()] };
    let (server, gate) = gated(deny("127.0.0.2"), rates()).await;
    assert!(closed(&mut from("127.0.0.2", server.address).await).await);
    assert_eq!(served(from("127.0.0.3", server.address).await).await, "OK");
    gate.change(deny("127.0.0.3"), rates());
    assert!(closed(&mut from("127.0.0.3", server.address).await).await);
    assert_eq!(served(from("127.0.0.2", server.address).await).await, "OK");
    let events = server.log.count(EventKind::ClientClosed, 2).await;
    let accepted = events.iter().filter(|event| event.kind == EventKind::Connection).count();
    assert_eq!(accepted, 2, "nothing is done for those who are denied");
}

#[tokio::test]
async fn one_address_fills_its_own_places_and_nobody_elses() {
    let rates = Rates { connections_per_address: NonZeroU32::new(3), ..rates() };
    let (server, _) = gated(IpFilter::default(), rates).await;
    let mut greedy = Vec::new();
    for _ in 0..3 {
        greedy.push(from("127.0.0.2", server.address).await);
    }
    assert!(closed(&mut from("127.0.0.2", server.address).await).await);
    assert_eq!(served(from("127.0.0.1", server.address).await).await, "OK");
    // A place that becomes free can be had.
    drop(greedy.pop());
    loop {
        let mut stream = from("127.0.0.2", server.address).await;
        let _ = stream.write_all(&handshake()[..8]).await;
        if !closed(&mut stream).await {
            break;
        }
    }
}

#[tokio::test]
async fn who_connects_too_often_is_closed_and_who_asks_too_often_is_told() {
    let few = Rates { connections_per_minute: NonZeroU32::new(2), ..rates() };
    let (server, _) = gated(IpFilter::default(), few).await;
    assert_eq!(served(from("127.0.0.2", server.address).await).await, "OK");
    assert_eq!(served(from("127.0.0.2", server.address).await).await, "OK");
    assert!(closed(&mut from("127.0.0.2", server.address).await).await);
    assert_eq!(served(from("127.0.0.1", server.address).await).await, "OK");

    let few = Rates { requests_per_minute: NonZeroU32::new(1), ..rates() };
    let (server, _) = gated(IpFilter::default(), few).await;
    assert_eq!(served(from("127.0.0.2", server.address).await).await, "OK");
    assert_eq!(served(from("127.0.0.2", server.address).await).await, "Refused request (Too many requests)");
    let events = server.log.count(EventKind::ClientClosed, 2).await;
    assert_eq!(events.iter().filter(|event| event.kind == EventKind::Request).count(), 1, "it was not handled");
}

#[tokio::test]
async fn the_oldest_without_keys_makes_room_for_a_newcomer_and_who_has_keys_stays() {
    let server = Running::with(|config| config.max_connections = 3).await;
    let mut waiting = RawClient::connect(server.address).await;
    waiting.send(Generation::First, r#"{"verb": "WAIT", "parameters": {}}"#).await;
    server.log.until(|events| did(events, "waits")).await;
    let mut strangers = Vec::new();
    for _ in 0..2 {
        strangers.push(TcpStream::connect(server.address).await.unwrap());
    }
    server.log.count(EventKind::Connection, 3).await;
    // As many newcomers as there are, one after the other: each is served.
    for _ in 0..3 {
        assert_eq!(served(TcpStream::connect(server.address).await.unwrap()).await, "OK");
    }
    assert!(closed(&mut strangers[0]).await, "the oldest");
    server.go_on.cancel();
    assert!(waiting.response(Generation::First).await.success);
}

#[tokio::test]
async fn where_everybody_has_keys_a_newcomer_is_closed_at_once() {
    let server = Running::with(|config| config.max_connections = 1).await;
    let mut waiting = RawClient::connect(server.address).await;
    waiting.send(Generation::First, r#"{"verb": "WAIT", "parameters": {}}"#).await;
    server.log.until(|events| did(events, "waits")).await;
    assert!(closed(&mut TcpStream::connect(server.address).await.unwrap()).await);
    server.go_on.cancel();
    assert!(waiting.response(Generation::First).await.success);
}

#[tokio::test]
async fn a_client_that_left_before_its_turn_has_no_work_done_for_it() {
    let permits = Arc::new(Semaphore::new(1));
    let server = Running::limited(|_| {}, Arc::default(), Arc::clone(&permits)).await;
    let held = Arc::clone(&permits).acquire_owned().await.unwrap();
    let bad = [&handshake()[..810], &[0x42; 512]].concat();
    for _ in 0..3 {
        let mut client = TcpStream::connect(server.address).await.unwrap();
        client.write_all(&bad).await.unwrap();
        // It is at its last step before the work; then it leaves.
        read(&mut client, 1 + 1 + 8 + 800).await;
    }
    let mut staying = TcpStream::connect(server.address).await.unwrap();
    staying.write_all(&bad).await.unwrap();
    drop(held);
    assert_eq!(rest(&mut staying).await.last(), Some(&b'0'));
    let events = server.log.count(EventKind::RuntimeError, 4).await;
    let errors = events.iter().filter(|event| event.kind == EventKind::RuntimeError);
    let mut names: Vec<&str> = errors.map(|event| event.details["error"].as_str().unwrap()).collect();
    names.sort_unstable();
    // Work on what it sent would have failed of the protocol.
    assert_eq!(names, ["Gone", "Gone", "Gone", "Protocol"]);
}

#[tokio::test]
async fn waiting_for_its_turn_counts_as_the_clients_time() {
    let permits = Arc::new(Semaphore::new(1));
    let slow = Duration::from_millis(50);
    let server = Running::limited(|config| config.client_timeout = slow, Arc::default(), Arc::clone(&permits)).await;
    let _held = permits.acquire_owned().await.unwrap();
    let mut client = TcpStream::connect(server.address).await.unwrap();
    client.write_all(&handshake()).await.unwrap();
    let events = server.log.count(EventKind::RuntimeError, 1).await;
    assert_eq!(events.last().unwrap().details["error"], "TooSlow");
}
