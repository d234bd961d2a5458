//! What a client may ask of its machine, and many clients at once.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;

use anweddol::wire::{CREATE, EXTEND, Generation, Request, Response};
use serde_json::{Map, Value, json};
use tempfile::tempdir;

use crate::common::ask::{ask, ask_many, create, grant, stat, until_available};
use crate::common::daemon::{Daemon, Home};

const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA me@host";

fn daemon(dir: &Path, container: &str) -> Daemon {
    Home::new(dir, &format!("container: {{{container}}}")).with_vectors_key().simulated("boot=10ms").start()
}

fn parameters(value: Value) -> Map<String, Value> {
    value.as_object().cloned().unwrap()
}

fn create_with(address: SocketAddr, wishes: Value) -> Response {
    ask(address, Generation::Second, &Request::new(CREATE, parameters(wishes)))
}

#[test]
fn of_three_hundred_clients_at_once_each_gets_a_machine_of_its_own_as_far_as_there_are_any() {
    let dir = tempdir().unwrap();
    let config = "container: {warm: 100, max_allowed_running_containers: 150}";
    let home = Home::new(dir.path(), config).with_vectors_key().simulated("boot=50ms");
    // Three hundred key exchanges at both ends share this host's processors: nobody's time is to run out.
    let daemon = home.patient().start();
    let warm: BTreeSet<String> = daemon.log.events("READY_CONTAINER", 100)[..100]
        .iter()
        .map(|event| event.container().unwrap().to_owned())
        .collect();
    let responses = ask_many(daemon.address, &Request::bare(CREATE), 300, 300);
    let granted: Vec<_> = responses.iter().filter(|response| response.success).map(grant).collect();
    let unavailable = responses.iter().filter(|response| response.message == "Unavailable").count();
    assert_eq!((granted.len(), unavailable), (150, 150));
    let uuids: BTreeSet<String> = granted.iter().map(|grant| grant.uuid.clone()).collect();
    let ports: BTreeSet<u16> = granted.iter().map(|grant| grant.port).collect();
    assert_eq!((uuids.len(), ports.len()), (150, 150), "two clients share a machine or a port");
    assert!(warm.is_subset(&uuids), "{} warm ones were left over", warm.difference(&uuids).count());
    assert_eq!(stat(daemon.address)["available"], 0);
}

#[test]
fn a_lifetime_is_granted_told_and_kept_whatever_its_client_does() {
    let dir = tempdir().unwrap();
    let daemon = daemon(dir.path(), "max_ttl: 600");
    let machine = grant(&create_with(daemon.address, json!({"ttl": 2})));
    assert_eq!(machine.data["container_ttl"], 2);
    let at: jiff::Timestamp = machine.data["container_expires_at"].as_str().unwrap().parse().unwrap();
    assert!((-5..60).contains(&at.duration_since(jiff::Timestamp::now()).as_secs()));
    daemon.log.event_about("EXPIRING", &machine.uuid);
    daemon.log.event_about("EXPIRED", &machine.uuid);
    daemon.log.event_about("DESTROYED_CONTAINER", &machine.uuid);
    until_available(daemon.address, 6);
    // Without a wish: the most there is.
    assert_eq!(grant(&create(daemon.address)).data["container_ttl"], 600);
}

#[test]
fn a_lifetime_is_kept_by_the_daemon_that_starts_again() {
    let dir = tempdir().unwrap();
    let home = Home::new(dir.path(), "").with_vectors_key().simulated("boot=10ms");
    let first = home.start();
    let machine = grant(&create_with(first.address, json!({"ttl": 3600})));
    let store = |home: &Home| home.simulated_state().join("store");
    let anchor = |home: &Home| {
        let store = anweddol::store::open(&store(home), Default::default()).unwrap();
        let anchor = anweddol::store::records::anchor(&*store).unwrap().unwrap();
        store.close();
        anchor
    };
    first.kill();
    let before = anchor(&home);
    // The simulated machine died with its world; what the daemon counts from did not change.
    let second = home.start();
    second.log.event_about("DESTROYED_CONTAINER", &machine.uuid);
    second.kill();
    assert_eq!(anchor(&home), before);
}

#[test]
fn what_policy_does_not_allow_is_refused_with_the_limit_and_nothing_is_made() {
    let dir = tempdir().unwrap();
    let daemon = daemon(dir.path(), "max_ttl: 600");
    for (wishes, kind, says) in [
        (json!({"pool": "nowhere"}), "Refused request", "no pool 'nowhere'"),
        (json!({"pool": "../x"}), "Refused request", "no pool"),
        (json!({"ttl": 601}), "Refused request", "at most 600 s"),
        (json!({"ssh_public_key": "not a key"}), "Refused request", "known kind"),
        (json!({"ssh_public_key": format!("{KEY}\nssh-rsa A")}), "Refused request", "one line"),
        (json!({"ttl": "soon"}), "Bad request", "whole seconds"),
        (json!({"ttl": 0}), "Bad request", "whole seconds"),
        (json!({"pool": 7}), "Bad request", "pool: write a text"),
    ] {
        let response = create_with(daemon.address, wishes.clone());
        assert!(!response.success && response.data.is_empty(), "{wishes}");
        assert!(
            response.message.starts_with(kind) && response.message.contains(says),
            "{wishes}: {}",
            response.message
        );
    }
    assert_eq!(stat(daemon.address)["available"], 6);
    let granted = create_with(daemon.address, json!({"pool": "default", "ssh_public_key": KEY, "colour": "blue"}));
    assert!(granted.success, "{}", granted.message);
}

#[test]
fn without_any_limit_nothing_is_told_of_time() {
    let dir = tempdir().unwrap();
    let daemon = daemon(dir.path(), "");
    let granted = grant(&create(daemon.address));
    let names: Vec<&str> = granted.data.keys().map(String::as_str).collect();
    assert_eq!(names.len(), 6, "more than the documented fields: {names:?}");
}

#[test]
fn more_time_is_granted_up_to_the_maximum_and_only_to_who_holds_the_token() {
    let dir = tempdir().unwrap();
    let daemon = daemon(dir.path(), "ttl: 60, max_ttl: 600");
    let (mine, other) = (grant(&create(daemon.address)), grant(&create(daemon.address)));
    let extend = |uuid: &str, token: &str, ttl: Value| {
        let parameters = parameters(json!({"container_uuid": uuid, "client_token": token, "ttl": ttl}));
        ask(daemon.address, Generation::Second, &Request::new(EXTEND, parameters))
    };
    let granted = extend(&mine.uuid, &mine.token, json!(300));
    assert!(granted.success, "{}", granted.message);
    assert_eq!(granted.data["container_ttl"], 300);
    let refused = extend(&mine.uuid, &mine.token, json!(601));
    assert!(refused.message.starts_with("Refused request (it may live 600 s in all"), "{}", refused.message);
    assert_eq!(extend(&mine.uuid, &other.token, json!(300)).message, "Bad authentication");
    assert!(extend(&mine.uuid, &mine.token, json!("5m")).message.starts_with("Bad request"));
    let bare = ask(daemon.address, Generation::Second, &Request::bare(EXTEND));
    assert!(bare.message.starts_with("Bad request (EXTEND needs"), "{}", bare.message);
    assert_eq!(daemon.log.events("EXTENDED_CLAIM", 1).len(), 1);
}
