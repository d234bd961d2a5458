//! Start and end of a daemon: what it says, what it keeps.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use anweddol::wire::{CREATE, Generation, Request};
use tempfile::tempdir;

use crate::common::ask::{ask, create, destroy, destroy_request, grant, runtime, stat, try_ask, until_available};
use crate::common::daemon::Home;
use crate::common::log::{Event, events};
use crate::support::RawClient;

fn names(events: &[Event]) -> Vec<&str> {
    events.iter().map(|event| event.name.as_str()).collect()
}

#[test]
fn the_twelve_documented_events_come_at_their_moments() {
    let dir = tempdir().unwrap();
    let home = Home::new(dir.path(), "").with_vectors_key().simulated("boot=10ms");
    let daemon = home.start();
    let address = daemon.address;
    // Each step waits for its last event: two tasks tell them, and only what follows from another is in order.
    let closed = |count| daemon.log.events("CLIENT_CLOSED", count);
    let granted = grant(&create(address));
    closed(1);
    daemon.log.events("CREATED_ENDPOINT_SHELL", 1);
    fs::rename(home.simulated_state().join("simulated.iso"), dir.path().join("moved.iso")).unwrap();
    assert_eq!(create(address).message, "Internal error");
    closed(2);
    ask(address, Generation::Second, &Request::bare("PING"));
    closed(3);
    runtime().block_on(async {
        let mut client = RawClient::connect(address).await;
        client.send(Generation::First, "no JSON").await;
        client.response(Generation::First).await
    });
    closed(4);
    assert!(destroy(address, &granted).success);
    closed(5);
    daemon.log.events("DESTROYED_CONTAINER", 1);

    let all = events(&daemon.stop());
    let documented: Vec<Event> = all.into_iter().filter(|event| event.number <= 12).collect();
    let of = |wanted: &[&str]| -> Vec<Event> {
        documented.iter().filter(|event| wanted.contains(&event.name.as_str())).cloned().collect()
    };
    let connections = of(&[
        "STARTED",
        "CONNECTION",
        "CLIENT",
        "REQUEST",
        "MALFORMED_REQUEST",
        "UNKNOWN_VERB",
        "RUNTIME_ERROR",
        "CLIENT_CLOSED",
        "STOPPED",
    ]);
    #[rustfmt::skip]
    assert_eq!(names(&connections), [
        "STARTED",
        "CONNECTION", "CLIENT", "REQUEST", "CLIENT_CLOSED",
        "CONNECTION", "CLIENT", "REQUEST", "RUNTIME_ERROR", "CLIENT_CLOSED",
        "CONNECTION", "CLIENT", "REQUEST", "UNKNOWN_VERB", "CLIENT_CLOSED",
        "CONNECTION", "CLIENT", "MALFORMED_REQUEST", "CLIENT_CLOSED",
        "CONNECTION", "CLIENT", "REQUEST", "CLIENT_CLOSED",
        "STOPPED",
    ]);
    let life =
        of(&["STARTED", "REQUEST", "CREATED_CONTAINER", "CREATED_ENDPOINT_SHELL", "DESTROYED_CONTAINER", "STOPPED"]);
    #[rustfmt::skip]
    assert_eq!(names(&life), [
        "STARTED",
        "REQUEST", "CREATED_CONTAINER", "CREATED_ENDPOINT_SHELL",
        "REQUEST", "REQUEST",
        "REQUEST", "DESTROYED_CONTAINER",
        "STOPPED",
    ]);
    for event in of(&["CREATED_CONTAINER", "CREATED_ENDPOINT_SHELL", "DESTROYED_CONTAINER"]) {
        assert_eq!(event.container(), Some(granted.uuid.as_str()));
        assert!(event.client.is_some_and(|client| client.ends_with("(127.0.0.1)")));
    }
    let mut numbers: Vec<u64> = documented.iter().map(|event| event.number).collect();
    numbers.sort();
    numbers.dedup();
    assert_eq!(numbers, (1..=12).collect::<Vec<u64>>());
}

#[test]
fn sigterm_ends_it_in_order_and_answers_who_waits() {
    let dir = tempdir().unwrap();
    let home = Home::new(dir.path(), "").with_vectors_key().simulated("boot=1s").at("127.0.0.76");
    let daemon = home.start();
    let address = daemon.address;
    let asking = std::thread::spawn(move || create(address));
    daemon.log.events("CREATED_CONTAINER", 1);
    daemon.terminate();
    let answer = asking.join().unwrap();
    let (status, lines) = daemon.ended();
    assert!(answer.success, "{}", answer.message);
    assert!(status.success(), "{status}");
    assert_eq!(events(&lines).last().unwrap().name, "STOPPED");
    assert!(std::net::TcpStream::connect(address).is_err());
}

#[test]
fn sigterm_waits_for_no_boot_that_only_the_pool_wants() {
    let dir = tempdir().unwrap();
    let config = "container: {warm: 2, boot_deadline: 3600}";
    let home = Home::new(dir.path(), config).with_vectors_key().simulated("boot=3600s");
    let daemon = home.env("RUST_LOG", "debug").start();
    daemon.log.until("two machines that boot", |lines| {
        (lines.iter().filter(|line| line.contains("create domain") && line.contains("Done")).count() == 2).then_some(())
    });
    daemon.stop();
}

#[test]
fn a_killed_daemon_starts_again_with_its_key_and_its_records() {
    let dir = tempdir().unwrap();
    let home = Home::new(dir.path(), "").simulated("boot=10ms");
    let daemon = home.start();
    let fingerprint = daemon.fingerprint.clone();
    let instance = |home: &Home| {
        let store = anweddol::store::open(&home.simulated_state().join("store"), Default::default()).unwrap();
        let instance = anweddol::store::records::instance(&*store, uuid::Uuid::new_v4()).unwrap();
        store.close();
        instance
    };
    let granted: Vec<_> = (0..3).map(|_| grant(&create(daemon.address))).collect();
    assert_eq!(stat(daemon.address)["available"], 3);
    daemon.kill();
    let before = instance(&home);

    // The simulated world ended with its process: the machines are found gone, and their places are free again.
    let daemon = home.start();
    assert_eq!(daemon.fingerprint, fingerprint);
    for grant in &granted {
        daemon.log.event_about("ADOPTION_REFUSED", &grant.uuid);
        daemon.log.event_about("DESTROYED_CONTAINER", &grant.uuid);
    }
    until_available(daemon.address, 6);
    assert_eq!(destroy(daemon.address, &granted[0]).message, "Bad authentication");
    let again = grant(&create(daemon.address));
    assert_eq!(destroy(daemon.address, &again).message, "OK");
    let lines = daemon.stop();
    assert!(!lines.iter().any(|line| line.contains("panicked")), "{}", lines.join("\n"));
    assert_eq!(instance(&home), before);
}

#[test]
fn a_create_that_a_kill_interrupted_is_withdrawn_at_the_next_start() {
    let dir = tempdir().unwrap();
    let slow = Home::new(dir.path(), "container: {boot_deadline: 3600}").with_vectors_key().simulated("boot=3600s");
    let daemon = slow.start();
    let address = daemon.address;
    let asking = std::thread::spawn(move || try_ask(address, Generation::Second, &Request::bare(CREATE)).is_err());
    daemon.log.events("CREATED_CONTAINER", 1);
    daemon.kill();
    assert!(asking.join().unwrap(), "a killed daemon answered");
    let daemon = slow.start();
    until_available(daemon.address, 6);
    daemon.log.events("DESTROYED_CONTAINER", 1);
}

#[test]
fn a_token_is_good_for_its_own_container_only() {
    let dir = tempdir().unwrap();
    let daemon = Home::new(dir.path(), "").with_vectors_key().simulated("boot=10ms").start();
    let (a, b) = (grant(&create(daemon.address)), grant(&create(daemon.address)));
    let crossed = ask(daemon.address, Generation::Second, &destroy_request(&a.uuid, &b.token));
    assert_eq!(crossed.message, "Bad authentication");
    assert_eq!(stat(daemon.address)["available"], 4);
}

#[test]
fn the_first_start_makes_a_private_key_and_private_directories() {
    let dir = tempdir().unwrap();
    let home = Home::new(dir.path(), "").simulated("");
    fs::remove_dir(&home.state).unwrap();
    let daemon = home.start();
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(&home.key()), 0o600);
    assert_eq!(mode(&home.simulated_state().join("seal.key")), 0o600);
    assert_eq!(mode(&home.state) & 0o066, 0, "others may read or write the state directory");
    // The real daemon of the same directory is the same server to its clients.
    let output =
        crate::common::daemon::finish(crate::common::daemon::program(["fingerprint", "--state"]).arg(&home.state));
    assert_eq!(String::from_utf8(output.stdout).unwrap().trim(), daemon.fingerprint);
}
