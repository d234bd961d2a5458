//! Handlers of requests.

use std::sync::Arc;

use anweddol::api::access_tokens::Order;
use anweddol::facade::ServerError;
use anweddol::server::{ClientInstance, SendError};
use anweddol::wire::{CREATE, Message, Request, Response};
use secrecy::ExposeSecret;
use serde_json::{Map, json};

use crate::support::Bench;

fn pong() -> Response {
    Response::ok(json!({"answer": "PONG"}).as_object().unwrap().clone())
}

#[test]
fn a_verb_of_ones_own_is_answered_by_its_handler() {
    let bench = Bench::new(|builder| builder);
    bench.server.set_request_handler("PING", |_, _| async { Response::ok(Map::new()) }).unwrap();
    bench.server.set_request_handler("PING", |_, _| async { pong() }).unwrap();
    bench.server.start_background().unwrap();
    assert_eq!(bench.ask(&Request::bare("PING")).unwrap(), pong());
    assert!(bench.ask(&Request::bare("STAT")).unwrap().success);
}

/// Asks PING with this access token: what is answered, and with which token its handler was reached, if it was.
fn ping(bench: &Bench, token: &str) -> (Response, Vec<String>) {
    let request = Request::new("PING", Map::from_iter([("access_token".to_owned(), token.into())]));
    let before = bench.log.lines().len();
    let answer = bench.ask(&request).unwrap();
    (answer, bench.log.lines().split_off(before))
}

fn with_ping(bench: &Bench) {
    let log = bench.log.clone();
    let handler = move |client: Arc<ClientInstance>, _| {
        log.add(format!("{:?}", client.access_token()));
        async { pong() }
    };
    bench.server.set_request_handler("PING", handler).unwrap();
    bench.server.start_background().unwrap();
}

#[test]
fn an_access_token_is_a_parameter_like_any_other_unless_the_server_is_to_know_them() {
    let bench = Bench::new(|builder| builder);
    with_ping(&bench);
    assert!(bench.server.access_tokens().is_none());
    assert_eq!(ping(&bench, "of one's own"), (pong(), vec!["None".to_owned()]));
}

#[test]
fn where_access_tokens_are_required_no_handler_of_a_verb_is_reached_without_a_good_one() {
    let bench = Bench::new(|builder| builder.access_tokens(true));
    with_ping(&bench);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let order = Order { name: Some("anna".into()), ..Order::default() };
    let (_, text) = runtime.block_on(bench.server.access_tokens().unwrap().add(order)).unwrap();
    assert_eq!(bench.ask(&Request::bare("PING")).unwrap().message, "Bad request (Access token is required)");
    let wrong = ping(&bench, &"x".repeat(124));
    assert_eq!((wrong.0.message.as_str(), wrong.1.len()), ("Bad authentication (Invalid access token)", 0));
    assert_eq!(ping(&bench, text.expose_secret()), (pong(), vec!["Some(\"anna\")".to_owned()]));
}

#[test]
fn a_documented_verb_can_be_replaced() {
    let bench = Bench::new(|builder| builder);
    let closed = |_, _| async { Response::refused(Message::RefusedRequest, Some("closed today")) };
    bench.server.set_request_handler(CREATE, closed).unwrap();
    bench.server.start_background().unwrap();
    assert_eq!(bench.ask(&Request::bare(CREATE)).unwrap().message, "Refused request (closed today)");
    assert!(bench.containers().is_empty());
}

#[test]
fn an_answer_through_the_client_wins_over_what_is_returned() {
    let bench = Bench::new(|builder| builder);
    let log = bench.log.clone();
    bench
        .server
        .set_request_handler("PING", move |client, request| {
            let log = log.clone();
            async move {
                assert_eq!(client.request(), Some(&request));
                client.send_response(pong()).await.unwrap();
                assert_eq!(client.send_response(pong()).await, Err(SendError::Answered));
                log.add("delivered");
                Response::refused(Message::InternalError, None)
            }
        })
        .unwrap();
    bench.server.start_background().unwrap();
    assert_eq!(bench.ask(&Request::bare("PING")).unwrap(), pong());
    bench.log.until("delivered", 1);
}

#[test]
fn a_request_answered_in_its_event_is_not_handled() {
    let bench = Bench::new(|builder| builder);
    let refused = || Response::refused(Message::RefusedRequest, None);
    bench
        .server
        .on_request(move |event| async move { event.client_instance.send_response(refused()).await.unwrap() })
        .unwrap();
    bench.server.start_background().unwrap();
    assert_eq!(bench.ask(&Request::bare(CREATE)).unwrap(), refused());
    assert!(bench.containers().is_empty());
}

#[test]
fn a_handler_that_panics_errs_or_says_nothing_is_an_internal_error() {
    let bench = Bench::new(|builder| builder);
    bench.server.set_request_handler("ERR", |_, _| async { Err::<Response, _>("no") }).unwrap();
    bench.server.set_request_handler("SILENT", |_, _| async {}).unwrap();
    bench
        .server
        .set_request_handler("PANIC", |_, request: Request| async move {
            assert_eq!(request.verb, "CALM");
        })
        .unwrap();
    bench.server.start_background().unwrap();
    for (verb, errors) in [("ERR", 1), ("SILENT", 2), ("PANIC", 3)] {
        let response = bench.ask(&Request::bare(verb)).unwrap();
        assert_eq!((response.success, response.message.as_str()), (false, "Internal error"), "{verb}");
        assert_eq!(bench.server.runtime_statistics().recorded_runtime_errors_amount, errors);
    }
}

#[test]
fn what_is_no_verb_is_refused() {
    let bench = Bench::new(|builder| builder);
    for verb in ["", "ping", "PING2", "P ING", "PÏNG", "PING\n"] {
        let set = bench.server.set_request_handler(verb, |_, _| async { pong() });
        assert!(matches!(set, Err(ServerError::Verb { .. })), "{verb:?}");
    }
}
