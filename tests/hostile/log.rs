//! What strangers have written into the log.

use serde_json::Value;
use tokio::io::AsyncWriteExt;

use crate::common::ask::runtime;
use crate::siege::{Siege, attack, said_to};

/// Lines of a kind in a minute (`server::lines`).
const MOST: usize = 600;

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
    let lines: Vec<Value> = siege.lifted().iter().filter_map(|line| serde_json::from_str::<Value>(line).ok()).collect();
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
