//! What strangers have written into the log.

use serde_json::Value;
use tokio::io::AsyncWriteExt;

use crate::common::ask::runtime;
use crate::siege::{Siege, attack, known, said_to};
use crate::support::GENERATIONS;

/// Lines of a kind in a minute (`server::lines`).
const MOST: usize = 600;
/// Bytes of one, at most.
const LONGEST: usize = 1024;

#[test]
fn a_flood_fills_no_log_and_what_was_left_out_is_told_as_a_number() {
    let siege = Siege::lay("client_timeout: 60", "connections_per_minute: 1000000");
    let flood = 1500;
    runtime().block_on(async {
        for _ in 0..flood {
            let mut stream = attack(siege.address()).await;
            stream.write_all(b"nonsense").await.unwrap();
            assert_eq!(said_to(stream, b"").await, b"0");
        }
    });
    siege.good_client_is_served();
    // A good client's requests are of another kind, which has lines left.
    assert_eq!(siege.daemon.log.events("REQUEST", 2).len(), 2);
    let lines = siege.lifted();
    assert!(lines.iter().all(|line| line.len() < LONGEST), "{}", lines.iter().max_by_key(|line| line.len()).unwrap());
    let lines: Vec<Value> = lines.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok()).collect();
    let fields = |line: &Value| line["fields"].clone();
    for (kind, says) in [("CONNECTION", "CONNECTION"), ("RUNTIME_ERROR", "RUNTIME_ERROR: ")] {
        let written = lines.iter().map(fields).filter(|line| line["message"].as_str().unwrap().starts_with(says));
        let written = written.count();
        let counts = lines.iter().map(fields).filter(|line| line["kind"] == kind);
        let left_out: usize = counts.map(|line| line["count"].as_u64().unwrap() as usize).sum();
        // One that spans the end of a minute may have more of each.
        assert!(written >= MOST && left_out > 0, "{kind}: {written} and {left_out}");
        let good = if kind == "CONNECTION" { 4 } else { 0 };
        assert_eq!(written + left_out, flood + good, "{kind}");
    }
}

#[test]
fn no_line_is_as_long_as_a_client_likes() {
    let siege = Siege::lay("client_timeout: 60", "");
    let (verb, token) = ("A".repeat(10_000), "x".repeat(124));
    let texts = [
        format!(r#"{{"verb": "{verb}", "parameters": {{}}}}"#),
        format!(r#"{{"verb": "{verb}", "parameters": {{"access_token": "{token}"}}}}"#),
        format!(r#"{{"verb": "{verb}-", "parameters": {{"container_uuid": "{verb}", "{verb}": 1}}, "{verb}": 1}}"#),
    ];
    runtime().block_on(async {
        for (generation, _) in GENERATIONS {
            for text in &texts {
                let mut client = known(siege.address()).await;
                client.send(generation, text).await;
                client.response(generation).await;
            }
        }
    });
    let lines = siege.lifted();
    let cut = lines.iter().filter(|line| line.contains(&verb[..32]) && !line.contains(&verb[..33])).count();
    // Twice REQUEST, UNKNOWN_VERB, the request's own line; the same with the refused token in place of UNKNOWN_VERB.
    assert!(cut >= 8, "{}", lines.join("\n"));
    assert!(lines.iter().all(|line| line.len() < LONGEST), "{}", lines.iter().max_by_key(|line| line.len()).unwrap());
}
