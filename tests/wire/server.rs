//! The running server on loopback.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anweddol::model::{Event, EventKind};
use anweddol::server::tcp::{BindError, WireConfig, WireServer};
use anweddol::server::{EventSink, Moment};
use anweddol::wire::{Generation, Response};
use futures::FutureExt;
use futures::future::{self, BoxFuture, join_all};
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::running::{Log, Running, TestVerbs, did, kinds};
use crate::support::{GENERATIONS, REQUESTS, RawClient, handshake, key, read, rest, text};

#[tokio::test]
async fn both_generations_are_answered_in_kind_and_their_events_told_in_order() {
    for (generation, at) in GENERATIONS {
        for name in REQUESTS {
            let server = Running::start().await;
            let json = text(&format!("/{at}/requests/{name}/json"));
            let mut client = RawClient::connect(server.address).await;
            client.send(generation, json).await;
            let response = client.response(generation).await;
            let asked: Value = serde_json::from_str(json).unwrap();
            assert!(response.success);
            assert_eq!(response.data["verb"], asked["verb"]);
            assert_eq!(response.data["parameters"], asked["parameters"]);
            // printf 127.0.0.1 | sha256sum
            assert_eq!(response.data["client"], json!(["127.0.0.1", "12ca17b"]));

            let events = server.log.count(EventKind::ClientClosed, 1).await;
            let expected = [EventKind::Connection, EventKind::Client, EventKind::Request, EventKind::ClientClosed];
            assert_eq!(kinds(&events), expected);
            assert!(events.iter().all(|event| event.kind == EventKind::Adopted || event.client.is_some()));
            let event = events.iter().find(|event| event.kind == EventKind::Request).unwrap();
            assert_eq!(event.details["verb"], asked["verb"]);
            assert!(did(&events, "delivered") && !did(&events, "undelivered"));
        }
    }
}

#[tokio::test]
async fn the_server_chooses_a_fresh_session_key_for_each_connection() {
    let server = Running::start().await;
    let (one, other) = (RawClient::connect(server.address).await, RawClient::connect(server.address).await);
    let keys = [one.session.to_bytes(), other.session.to_bytes(), crate::support::session("client_session").to_bytes()];
    assert!(keys[0] != keys[1] && keys[0] != keys[2] && keys[1] != keys[2]);
}

#[tokio::test]
async fn a_client_may_send_all_it_has_in_one_segment() {
    let server = Running::start().await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    // The request itself cannot be sealed before the session key is here; its size in the clear can be sent.
    stream.write_all(&[&handshake()[..], b"48======"].concat()).await.unwrap();
    read(&mut stream, 1 + 1 + 8 + 800 + 1).await;
    let secret = key("client").unwrap(&read(&mut stream, 512).await).unwrap();
    let session = anweddol::wire::Session::from_bytes(&secret).unwrap();
    assert_eq!(read(&mut stream, 1).await, b"1");
    let mut client = RawClient { stream, session };
    let sealed = client.session.seal(Generation::First, r#"{"verb": "STAT", "parameters": {}}"#, [0; 16]).unwrap();
    // With the acknowledgement of an answer that is not there yet.
    client.stream.write_all(&[&sealed.packet[..], b"1"].concat()).await.unwrap();
    let header = String::from_utf8(read(&mut client.stream, 8).await).unwrap();
    let packet = rest(&mut client.stream).await;
    assert_eq!(header.trim_end_matches('='), packet.len().to_string());
    let text = client.session.open(Generation::First, &packet).unwrap();
    assert!(Response::from_text(&text).unwrap().success);
}

#[tokio::test]
async fn every_malformed_message_gets_the_same_answer_and_an_event_with_its_dictionary() {
    for (generation, _) in GENERATIONS {
        for (message, errors) in [
            (r#"{"verb": "stat", "parameters": {}}"#, json!({"verb": ["value does not match regex '^[A-Z]{1,}$'"]})),
            (r#"{"verb": "STAT"}"#, json!({"parameters": ["required field"]})),
            ("[]", json!({})),
            ("{", json!({})),
            ("", json!({})),
        ] {
            let server = Running::start().await;
            let mut client = RawClient::connect(server.address).await;
            client.send(generation, message).await;
            let response = client.response(generation).await;
            assert_eq!((response.success, response.message.as_str()), (false, "Bad request"));
            assert!(response.data.is_empty());
            let events = server.log.count(EventKind::ClientClosed, 1).await;
            assert_eq!(kinds(&events)[1..], [EventKind::Client, EventKind::MalformedRequest, EventKind::ClientClosed]);
            let event = events.iter().find(|event| event.kind == EventKind::MalformedRequest).unwrap();
            assert_eq!(event.details["errors"], errors, "{message}");
        }
    }
}

#[tokio::test]
async fn what_cannot_be_deciphered_is_a_bad_request_like_any_other() {
    for (generation, _) in GENERATIONS {
        let server = Running::start().await;
        let mut client = RawClient::connect(server.address).await;
        let mut sealed = client.session.seal(generation, r#"{"verb": "STAT", "parameters": {}}"#, [3; 16]).unwrap();
        // In the last block but one of the ciphertext: damages the padding in the last.
        let at = match generation {
            Generation::First => sealed.packet.len() - 17,
            Generation::Second => sealed.packet.len() - 33,
        };
        sealed.packet[at] ^= 0x80;
        client.stream.write_all(&sealed.header).await.unwrap();
        assert_eq!(read(&mut client.stream, 1).await, b"1");
        client.stream.write_all(&sealed.packet).await.unwrap();
        assert_eq!(client.response(generation).await.message, "Bad request");
        let events = server.log.count(EventKind::MalformedRequest, 1).await;
        assert!(!events.iter().any(|event| event.kind == EventKind::Request));
    }
}

/// What is on the wire for a message that cannot be accepted: bytes of the answer's size and of the answer, and what
/// happened in the server.
async fn refusal(generation: Generation, message: &str, damage: Option<usize>) -> (usize, usize, Vec<EventKind>) {
    let server = Running::start().await;
    let mut client = RawClient::connect(server.address).await;
    let mut sealed = client.session.seal(generation, message, [3; 16]).unwrap();
    if let Some(from_end) = damage {
        let at = sealed.packet.len() - from_end;
        sealed.packet[at] ^= 0x80;
    }
    client.stream.write_all(&sealed.header).await.unwrap();
    assert_eq!(read(&mut client.stream, 1).await, b"1");
    client.stream.write_all(&sealed.packet).await.unwrap();
    let header = read(&mut client.stream, if generation == Generation::First { 8 } else { 16 }).await.len();
    client.stream.write_all(b"1").await.unwrap();
    let packet = rest(&mut client.stream).await.len();
    (header, packet, kinds(&server.log.count(EventKind::ClientClosed, 1).await))
}

#[tokio::test]
async fn no_failure_after_decryption_can_be_told_from_another() {
    let good = r#"{"verb": "STAT", "parameters": {}}"#;
    for (generation, _) in GENERATIONS {
        let next_iv = if generation == Generation::First { 0 } else { 16 };
        let long = "[".repeat(5000);
        let messages = ["\u{7f}\u{0}", "{", "", "[]", "{}", r#"{"verb": "stat", "parameters": {}}"#, &long];
        // Padding, the text's first block, its verb; then what is no text, no JSON, no object, no request.
        let damaged = [17, 48, 40].map(|damage| refusal(generation, good, Some(damage + next_iv)));
        let refusals = damaged.into_iter().chain(messages.map(|message| refusal(generation, message, None)));
        let refusals = join_all(refusals).await;
        assert!(refusals.iter().all(|refusal| *refusal == refusals[0]), "{refusals:?}");
        assert_eq!(refusals[0].2[1..], [EventKind::Client, EventKind::MalformedRequest, EventKind::ClientClosed]);
    }
}

#[tokio::test]
async fn a_size_that_is_none_or_too_large_is_refused_and_told_as_malformed() {
    for size in [&b"99999999"[..], b"65537===", b"0=======", &[0xaa; 16]] {
        let server = Running::start().await;
        let mut client = RawClient::connect(server.address).await;
        client.stream.write_all(size).await.unwrap();
        assert_eq!(rest(&mut client.stream).await, b"0", "{}", size.escape_ascii());
        drop(client);
        server.log.count(EventKind::MalformedRequest, 1).await;
        server.log.count(EventKind::ClientClosed, 1).await;
    }
}

#[tokio::test]
async fn garbage_in_the_exchange_is_refused_and_no_client_was_there() {
    let oaep = [&handshake()[..810], &[0x42; 512]].concat();
    for (garbage, reply) in [
        (&b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..], &b"0"[..]),
        (b"99999999", b"0"),
        (b"100=====", b"1"),
        (&oaep, b"0"),
    ] {
        let server = Running::start().await;
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(garbage).await.unwrap();
        if reply == b"1" {
            assert_eq!(read(&mut stream, 1).await, reply);
            stream.write_all(&[b'x'; 100]).await.unwrap();
        }
        assert_eq!(rest(&mut stream).await.last(), Some(&b'0'));
        let events = server.log.count(EventKind::RuntimeError, 1).await;
        assert_eq!(kinds(&events), [EventKind::Connection, EventKind::RuntimeError]);
        assert_eq!(events[1].details["error"], "Protocol");
        assert!(events[1].details["chain"].as_array().unwrap().len() >= 2, "and why");
    }
}

/// Clients that stopped at various points of the exchange.
async fn half_open(server: &Running) -> Vec<TcpStream> {
    let mut clients = Vec::new();
    for length in [0, 1, 7, 8, 100, 808, 809, 810, 900, 1321, 1322] {
        let mut client = TcpStream::connect(server.address).await.unwrap();
        client.write_all(&handshake()[..length]).await.unwrap();
        clients.push(client);
    }
    clients
}

#[tokio::test]
async fn half_open_clients_do_not_disturb_a_good_one() {
    let server = Running::start().await;
    let clients = half_open(&server).await;
    server.log.count(EventKind::Connection, clients.len()).await;
    let mut client = RawClient::connect(server.address).await;
    client.send(Generation::Second, r#"{"verb": "STAT", "parameters": {}}"#).await;
    assert!(client.response(Generation::Second).await.success);
}

#[tokio::test]
async fn half_open_clients_do_not_outstay_their_time() {
    let server = Running::with(|config| config.client_timeout = Duration::from_millis(50)).await;
    let clients = half_open(&server).await;
    let events = server.log.count(EventKind::RuntimeError, clients.len()).await;
    for event in events.iter().filter(|event| event.kind == EventKind::RuntimeError) {
        assert_eq!(event.details["error"], "TooSlow");
    }
    for mut client in clients {
        rest(&mut client).await;
    }
}

#[tokio::test]
async fn the_deadline_counts_the_whole_exchange_not_each_byte() {
    let server = Running::with(|config| config.client_timeout = Duration::from_millis(200)).await;
    let (_reader, mut writer) = TcpStream::connect(server.address).await.unwrap().into_split();
    let dribble = tokio::spawn(async move {
        for byte in handshake() {
            if writer.write_all(&[byte]).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    let events = server.log.count(EventKind::RuntimeError, 1).await;
    assert_eq!(kinds(&events), [EventKind::Connection, EventKind::RuntimeError], "before it had sent its keys");
    assert_eq!(events.last().unwrap().details["error"], "TooSlow");
    dribble.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn many_clients_at_once_are_all_served() {
    let server = Running::start().await;
    let one = async |n: usize| {
        let generation = GENERATIONS[n % 2].0;
        let mut client = RawClient::connect(server.address).await;
        client.send(generation, &format!(r#"{{"verb": "STAT", "parameters": {{"n": {n}}}}}"#)).await;
        assert_eq!(client.response(generation).await.data["parameters"]["n"], n);
    };
    join_all((0..40).map(one)).await;
    server.log.count(EventKind::ClientClosed, 40).await;
}

#[tokio::test]
async fn a_client_that_goes_away_has_its_handler_dropped() {
    for ahead in [&b""[..], b"1", b"1111"] {
        let server = Running::start().await;
        let mut client = RawClient::connect(server.address).await;
        client.send(Generation::Second, r#"{"verb": "WAIT", "parameters": {}}"#).await;
        server.log.until(|events| did(events, "waits")).await;
        // What it sent ahead must not hide its end.
        client.stream.write_all(ahead).await.unwrap();
        drop(client);
        let events = server.log.count(EventKind::ClientClosed, 1).await;
        assert!(did(&events, "dropped") && !did(&events, "undelivered"));
        let error = events.iter().find(|event| event.kind == EventKind::RuntimeError).unwrap();
        assert_eq!(error.details["error"], "Gone");
    }
}

#[tokio::test]
async fn a_request_in_one_piece_is_acknowledged_while_its_handler_waits() {
    for (generation, _) in GENERATIONS {
        let server = Running::start().await;
        let mut client = RawClient::connect(server.address).await;
        let sealed = client.session.seal(generation, r#"{"verb": "WAIT", "parameters": {}}"#, [0x5a; 16]).unwrap();
        client.stream.write_all(&[sealed.header, sealed.packet].concat()).await.unwrap();
        assert_eq!(read(&mut client.stream, 1).await, b"1");
        server.go_on.cancel();
        assert!(client.response(generation).await.success);
    }
}

#[tokio::test]
async fn a_client_that_floods_a_waiting_server_is_dropped() {
    let server = Running::start().await;
    let mut client = RawClient::connect(server.address).await;
    client.send(Generation::First, r#"{"verb": "WAIT", "parameters": {}}"#).await;
    server.log.until(|events| did(events, "waits")).await;
    while client.stream.write_all(&[b'1'; 4096]).await.is_ok() {}
    server.log.until(|events| did(events, "dropped")).await;
}

#[tokio::test]
async fn an_answer_that_is_not_accepted_is_undone() {
    // It goes away after the question, refuses the answer, answers nonsense, or says nothing more.
    for (reply, error) in [(None, "Gone Broken"), (Some(b'0'), "Protocol"), (Some(b'x'), "Protocol")] {
        let server = Running::start().await;
        let mut client = RawClient::connect(server.address).await;
        client.send(Generation::Second, r#"{"verb": "STAT", "parameters": {}}"#).await;
        read(&mut client.stream, 16).await;
        if let Some(reply) = reply {
            client.stream.write_all(&[reply]).await.unwrap();
        }
        drop(client);
        let events = server.log.count(EventKind::ClientClosed, 1).await;
        assert!(did(&events, "undelivered") && !did(&events, "delivered"));
        let event = events.iter().find(|event| event.kind == EventKind::RuntimeError).unwrap();
        assert!(error.contains(event.details["error"].as_str().unwrap()), "{event:?}");
    }

    let server = Running::with(|config| config.answer_timeout = Duration::from_millis(50)).await;
    let mut client = RawClient::connect(server.address).await;
    client.send(Generation::First, r#"{"verb": "STAT", "parameters": {}}"#).await;
    let events = server.log.until(|events| did(events, "undelivered")).await;
    assert!(!kinds(&events).contains(&EventKind::ClientClosed));

    // It acknowledges, and then reads nothing of an answer that no buffer holds.
    let mut client = RawClient::connect(server.address).await;
    client.send(Generation::First, r#"{"verb": "BIG", "parameters": {}}"#).await;
    client.stream.write_all(b"1").await.unwrap();
    server.log.until(|events| events.iter().filter(|event| event.message == "undelivered").count() == 2).await;
}

/// It was written, and that is all that anybody knows: the client may have read it.
#[tokio::test]
async fn an_answer_that_nobody_confirmed_is_neither_undone_nor_counted_as_delivered() {
    let server = Running::start().await;
    let socket = TcpSocket::new_v4().unwrap();
    // Smaller than the answer, which waits in the server's system for the rest of it.
    socket.set_recv_buffer_size(4096).unwrap();
    let mut client = RawClient::on(socket.connect(server.address).await.unwrap()).await;
    client.send(Generation::First, r#"{"verb": "LARGE", "parameters": {}}"#).await;
    read(&mut client.stream, 8).await;
    client.stream.write_all(b"1").await.unwrap();
    read(&mut client.stream, 2048).await;
    drop(client);
    let events = server.log.count(EventKind::ClientClosed, 1).await;
    assert!(did(&events, "dropped"));
    assert!(!did(&events, "delivered") && !did(&events, "undelivered"), "{events:?}");
    assert!(!kinds(&events).contains(&EventKind::RuntimeError), "it was not written: {events:?}");
}

#[tokio::test]
async fn a_panicking_handler_is_an_internal_error_and_hurts_nobody_else() {
    let server = Running::start().await;
    let mut other = RawClient::connect(server.address).await;
    for (verb, panic) in [("PANIC", "as asked"), ("EARLY", "before its future")] {
        let mut client = RawClient::connect(server.address).await;
        client.send(Generation::Second, &format!(r#"{{"verb": "{verb}", "parameters": {{}}}}"#)).await;
        let response = client.response(Generation::Second).await;
        assert_eq!((response.success, response.message.as_str()), (false, "Internal error"));
        let events = server.log.until(|events| events.iter().any(|event| event.message.contains(panic))).await;
        let event = events.iter().find(|event| event.message.contains(panic)).unwrap();
        assert_eq!((event.kind, &event.details["error"]), (EventKind::RuntimeError, &json!("Handler")));
        assert!(event.message.contains(verb) && event.client.is_some());
    }
    other.send(Generation::First, r#"{"verb": "STAT", "parameters": {}}"#).await;
    assert!(other.response(Generation::First).await.success);
}

#[tokio::test]
async fn a_panic_after_the_answer_is_told_as_well() {
    let server = Running::start().await;
    let mut client = RawClient::connect(server.address).await;
    client.send(Generation::Second, r#"{"verb": "LATE", "parameters": {}}"#).await;
    assert!(client.response(Generation::Second).await.success);
    let events = server.log.count(EventKind::ClientClosed, 1).await;
    let event = events.iter().find(|event| event.kind == EventKind::RuntimeError).expect("it is told");
    assert!(event.message.contains("after its answer") && event.details["error"] == "Handler", "{event:?}");
}

#[tokio::test]
async fn a_port_that_is_only_looked_at_is_no_error() {
    let server = Running::start().await;
    drop(TcpStream::connect(server.address).await.unwrap());
    let mut client = RawClient::connect(server.address).await;
    client.send(Generation::First, r#"{"verb": "STAT", "parameters": {}}"#).await;
    client.response(Generation::First).await;
    let events = server.log.count(EventKind::ClientClosed, 1).await;
    assert!(!kinds(&events).contains(&EventKind::RuntimeError));
}

#[tokio::test]
async fn a_stop_lets_handlers_finish_and_waits_for_nobody_else() {
    // Of its own, so that nobody else is given the port when it is let go.
    let mut server = Running::with(|config| config.listen = "127.0.0.79:0".parse().unwrap()).await;
    let mut half_open = TcpStream::connect(server.address).await.unwrap();
    let mut client = RawClient::connect(server.address).await;
    client.send(Generation::Second, r#"{"verb": "WAIT", "parameters": {}}"#).await;
    server.log.until(|events| did(events, "waits")).await;
    server.stop.cancel();
    assert_eq!(rest(&mut half_open).await, b"");
    assert!(!server.task.is_finished());
    server.go_on.cancel();
    assert!(client.response(Generation::Second).await.success);
    (&mut server.task).await.unwrap();
    assert!(TcpStream::connect(server.address).await.is_err(), "nobody listens any more");
}

#[tokio::test]
async fn a_stop_drops_handlers_that_outlast_the_grace() {
    let mut server = Running::with(|config| config.stop_grace = Duration::from_millis(20)).await;
    let mut client = RawClient::connect(server.address).await;
    client.send(Generation::Second, r#"{"verb": "WAIT", "parameters": {}}"#).await;
    server.log.until(|events| did(events, "waits")).await;
    server.stop.cancel();
    (&mut server.task).await.unwrap();
    let events = server.log.count(EventKind::ClientClosed, 1).await;
    assert!(did(&events, "dropped"));
    assert_eq!(rest(&mut client.stream).await, b"");
}

/// Has a handler of errors that never ends.
struct Stuck(Log);

impl EventSink for Stuck {
    fn now(&self) -> Timestamp {
        self.0.now()
    }

    fn emit(&self, event: Event) {
        self.0.emit(event);
    }

    fn at(&self, moment: Moment) -> BoxFuture<'static, ()> {
        let stuck = moment.event.kind == EventKind::RuntimeError;
        self.emit(moment.event);
        if stuck { future::pending().boxed() } else { future::ready(()).boxed() }
    }
}

#[tokio::test]
async fn a_stop_waits_for_no_handler_of_an_error() {
    let (log, stop) = (Log::new(), CancellationToken::new());
    let config =
        WireConfig { stop_grace: Duration::from_millis(20), ..WireConfig::new("127.0.0.1:0".parse().unwrap()) };
    let verbs = TestVerbs { log: log.clone(), go_on: CancellationToken::new() };
    let server = WireServer::bind(config, key("server"), Arc::new(verbs), Arc::new(Stuck(log.clone()))).await.unwrap();
    let mut client = TcpStream::connect(server.local_addr()).await.unwrap();
    let task = tokio::spawn(server.run(stop.clone()));
    client.write_all(b"nonsense").await.unwrap();
    log.count(EventKind::RuntimeError, 1).await;
    stop.cancel();
    timeout(Duration::from_secs(30), task).await.expect("it stops").unwrap();
}

#[tokio::test]
async fn a_port_that_is_taken_is_told_with_its_address_and_what_to_do() {
    let server = Running::start().await;
    let bind = async |address: SocketAddr| {
        let verbs = TestVerbs { log: Log::new(), go_on: CancellationToken::new() };
        WireServer::bind(WireConfig::new(address), key("server"), Arc::new(verbs), Arc::new(Log::new())).await
    };
    let error = bind(server.address).await.err().unwrap();
    assert!(matches!(error, BindError::InUse { .. }));
    let told = error.to_string();
    assert!(told.contains(&server.address.to_string()) && told.contains("choose another"), "{told}");
    let error = bind("192.0.2.1:6150".parse().unwrap()).await.err().unwrap();
    assert!(matches!(error, BindError::NotHere { .. }), "{error}");
}
