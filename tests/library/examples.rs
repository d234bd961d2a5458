//! Every example, run as its first line says, on simulated machines.

use std::path::PathBuf;
use std::process::Command;

/// What it prints; it has to end well. Cargo builds examples beside tests, in a directory of their own.
fn run(name: &str) -> String {
    let me = std::env::current_exe().unwrap();
    let built: PathBuf = me.parent().and_then(|deps| deps.parent()).unwrap().join("examples").join(name);
    let output = Command::new(&built).arg("--once").output().unwrap_or_else(|error| {
        panic!("{built:?}: {error} ('cargo nextest run' builds it, 'cargo nextest run --test library' does not: cargo build --examples)")
    });
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{name}: {text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

fn has(text: &str, lines: &[&str]) {
    for line in lines {
        assert!(text.lines().any(|said| said.contains(line)), "no '{line}' in:\n{text}");
    }
}

#[test]
fn basic_server_tells_a_container_from_its_making_to_its_end() {
    let text = run("basic_server");
    has(&text, &["client 12ca17b from 127.0.0.1", "created", "CREATE: OK", "destroyed", "DESTROY: OK"]);
}

#[test]
fn custom_capacity_gives_its_container_another_capacity() {
    has(&run("custom_capacity"), &["container with 512Mi and 2 vcpus", "CREATE: OK"]);
}

#[test]
fn custom_verb_answers_ping_with_pong() {
    has(&run("custom_verb"), &["PING: PONG"]);
}

#[test]
fn ip_filter_turns_away_whom_it_should() {
    has(&run("ip_filter"), &["127.0.0.1 is turned away", "STAT: "]);
}

#[test]
fn embedded_operator_claims_a_machine_without_a_server() {
    has(&run("embedded_operator"), &["claimed", "gone"]);
}

#[test]
fn event_printer_prints_every_event_of_a_conversation() {
    let text = run("event_printer");
    has(&text, &["10 STARTED", " 3 CONNECTION", " 1 CLIENT", " 8 REQUEST", " 4 CREATED_CONTAINER"]);
    has(&text, &[" 5 CREATED_ENDPOINT_SHELL", " 2 CLIENT_CLOSED", " 6 DESTROYED_CONTAINER", "11 STOPPED"]);
}
