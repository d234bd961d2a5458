//! Both generations of the protocol against the running daemon, with the documented keys.

use std::net::SocketAddr;

use anweddol::wire::{Generation, Response};
use serde_json::{Map, Value, json};
use tempfile::tempdir;
use uuid::Uuid;

use crate::common::ask::runtime;
use crate::common::daemon::Home;
use crate::support::{GENERATIONS, RawClient};

/// One connection, byte by byte as the protocol says.
fn converse(address: SocketAddr, generation: Generation, text: &str) -> Response {
    runtime().block_on(async {
        let mut client = RawClient::connect(address).await;
        client.send(generation, text).await;
        client.response(generation).await
    })
}

fn is(response: &Response, success: bool, message: &str) {
    assert_eq!((response.success, response.message.as_str()), (success, message));
}

fn of(text: &str, length: usize, allowed: impl Fn(char) -> bool) -> bool {
    text.len() == length && text.chars().all(allowed)
}

fn has_the_documented_form(data: &Map<String, Value>) {
    let names: Vec<&str> = data.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        [
            "container_uuid",
            "client_token",
            "container_iso_sha256",
            "container_username",
            "container_password",
            "container_listen_port"
        ]
    );
    let text = |name: &str| data[name].as_str().unwrap();
    let uuid: Uuid = text("container_uuid").parse().unwrap();
    assert_eq!(text("container_uuid"), uuid.to_string());
    assert!(of(text("client_token"), 255, |c| c.is_ascii_alphanumeric() || c == '_' || c == '-'));
    assert!(of(text("container_iso_sha256"), 64, |c| matches!(c, '0'..='9' | 'a'..='f')));
    let number = text("container_username").strip_prefix("user_").unwrap();
    assert!((10_000..=90_000).contains(&number.parse::<u32>().unwrap()), "{number}");
    assert!(of(text("container_password"), 120, |c| c.is_ascii_alphanumeric()));
    assert!((10_000..=14_999).contains(&data["container_listen_port"].as_u64().unwrap()));
}

fn destroy(uuid: &str, token: &str) -> String {
    json!({ "verb": "DESTROY", "parameters": { "container_uuid": uuid, "client_token": token } }).to_string()
}

#[test]
fn both_generations_create_stat_and_destroy_with_the_documented_answers() {
    let dir = tempdir().unwrap();
    let daemon = Home::new(dir.path(), "").with_vectors_key().simulated("boot=10ms").start();
    for (generation, _) in GENERATIONS {
        let ask = |text: &str| converse(daemon.address, generation, text);
        let created = ask(r#"{"verb": "CREATE", "parameters": {}}"#);
        is(&created, true, "OK");
        has_the_documented_form(&created.data);

        let stat = ask(r#"{"verb": "STAT", "parameters": {}}"#);
        is(&stat, true, "OK");
        assert!(stat.data["uptime"].is_u64());
        assert_eq!(stat.data["available"], 5);
        assert!(stat.data["version"].as_str().unwrap().contains("simulated"));

        let text = |name: &str| created.data[name].as_str().unwrap();
        let (uuid, token) = (text("container_uuid"), text("client_token"));
        let mut wrong = token.to_owned();
        let last = if wrong.pop() == Some('a') { 'b' } else { 'a' };
        wrong.push(last);
        is(&ask(&destroy(uuid, &wrong)), false, "Bad authentication");
        is(&ask(&destroy(&Uuid::new_v4().to_string(), token)), false, "Bad authentication");
        let destroyed = ask(&destroy(uuid, token));
        is(&destroyed, true, "OK");
        assert!(destroyed.data.is_empty());
        is(&ask(&destroy(uuid, token)), false, "Bad authentication");
        assert_eq!(ask(r#"{"verb": "STAT", "parameters": {}}"#).data["available"], 6);
    }
}

#[test]
fn an_unknown_verb_and_a_malformed_request_are_bad_requests_in_both_generations() {
    let dir = tempdir().unwrap();
    let daemon = Home::new(dir.path(), "").with_vectors_key().simulated("").start();
    for (count, (generation, _)) in GENERATIONS.into_iter().enumerate() {
        let ask = |text: &str| converse(daemon.address, generation, text);
        is(&ask(r#"{"verb": "PING", "parameters": {"n": 3}}"#), false, "Bad request (Unknown verb)");
        let told = daemon.log.events("UNKNOWN_VERB", count + 1);
        assert_eq!(told[count].details["verb"], "PING");

        let without = ask(r#"{"parameters": {}}"#);
        assert!(!without.success && without.message.starts_with("Bad request"), "{}", without.message);
        let told = daemon.log.events("MALFORMED_REQUEST", count + 1);
        assert!(told[count].details.to_string().contains("required field"), "{}", told[count].details);
        let lonely = ask(r#"{"verb": "DESTROY", "parameters": {}}"#);
        assert!(!lonely.success && lonely.message.starts_with("Bad request"), "{}", lonely.message);
    }
}
