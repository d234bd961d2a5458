//! How many containers there are at once, whoever asks, leaves or fails.

use std::path::Path;

use anweddol::model::{ContainerPool, DEFAULT_NAMESPACE, Image, ObjectMeta, PoolSpec, PoolStatus, Template};
use anweddol::store::{Options, Store, Txn, open, records};
use anweddol::wire::{CREATE, Request};
use jiff::Timestamp;
use tempfile::tempdir;
use uuid::Uuid;

use crate::common::ask::{ask_until, create, create_parallel, destroy, grant, stat, until_available};
use crate::common::daemon::{Home, finish, program, stderr};
use crate::common::until;

fn count(responses: &[anweddol::wire::Response], message: &str) -> usize {
    responses.iter().filter(|response| response.message == message).count()
}

/// What a store that nobody holds records of containers, their logins, their ports and their claims.
fn left(store: &Path) -> Vec<String> {
    let store = open(store, Options::default()).unwrap();
    let keys = store.list(records::REGISTRY).unwrap().0.into_iter().map(|kv| kv.key);
    let left = keys.filter(|key| !key.starts_with("registry/containerpools/")).map(|key| key.to_string()).collect();
    store.close();
    left
}

#[test]
fn the_limit_is_exact_under_parallel_requests() {
    let dir = tempdir().unwrap();
    let daemon = Home::new(dir.path(), "").with_vectors_key().simulated("boot=200ms").start();
    let responses = create_parallel(daemon.address, 20);
    assert_eq!((count(&responses, "OK"), count(&responses, "Unavailable")), (6, 14));
    assert_eq!(stat(daemon.address)["available"], 0);

    let granted: Vec<_> = responses.iter().filter(|response| response.success).map(grant).collect();
    let mut ports: Vec<u16> = granted.iter().map(|grant| grant.port).collect();
    ports.sort();
    ports.dedup();
    assert_eq!(ports.len(), 6, "two containers share a port");
    assert!(destroy(daemon.address, &granted[0]).success);
    assert_eq!(stat(daemon.address)["available"], 1);
    grant(&create(daemon.address));
    assert_eq!(create(daemon.address).message, "Unavailable");
}

#[test]
fn as_many_parallel_creates_as_there_are_places_all_succeed() {
    let dir = tempdir().unwrap();
    let daemon = Home::new(dir.path(), "").with_vectors_key().simulated("boot=200ms").start();
    for round in 0..3 {
        let granted: Vec<_> = create_parallel(daemon.address, 6).iter().map(grant).collect();
        assert_eq!(stat(daemon.address)["available"], 0, "round {round}");
        for grant in granted {
            assert_eq!(destroy(daemon.address, &grant).message, "OK");
        }
        assert_eq!(stat(daemon.address)["available"], 6, "round {round}");
    }
}

#[test]
fn a_host_without_memory_for_another_machine_is_unavailable() {
    let dir = tempdir().unwrap();
    let config = "host: {memory: 600Mi}";
    let daemon = Home::new(dir.path(), config).with_vectors_key().simulated("boot=200ms").start();
    // Two of 256Mi fit, whatever the pool's limit says.
    let responses = create_parallel(daemon.address, 6);
    assert_eq!((count(&responses, "OK"), count(&responses, "Unavailable")), (2, 4));
    let granted = responses.iter().find(|response| response.success).map(grant).unwrap();
    assert!(destroy(daemon.address, &granted).success);
    grant(&create(daemon.address));
}

#[test]
fn a_pool_whose_image_is_missing_stops_neither_the_daemon_nor_another_pool() {
    let dir = tempdir().unwrap();
    let home = Home::new(dir.path(), "").with_vectors_key().simulated("boot=10ms");
    home.start().stop();
    let template = Template::of(Image::Iso("/nowhere/guest.iso".into()));
    let mut metadata = ObjectMeta::new(DEFAULT_NAMESPACE, "other", Uuid::new_v4(), Timestamp::now());
    metadata.generation = 7;
    let pool = ContainerPool { metadata, spec: PoolSpec::of(1, 2, template), status: PoolStatus::default() };
    let path = home.simulated_state().join("store");
    let store = open(&path, Options::default()).unwrap();
    store.txn(Txn::default().write(&pool)).wait().unwrap();
    store.close();

    let daemon = home.start();
    grant(&create(daemon.address));
    daemon.stop();
    let store = open(&path, Options::default()).unwrap();
    let pool = records::get::<ContainerPool>(&*store, DEFAULT_NAMESPACE, "other").unwrap().unwrap().object;
    assert_eq!(pool.status.observed_generation, 7, "it had no pass");
    let ready = pool.status.conditions.iter().find(|condition| condition.kind == "ImageReady").unwrap();
    assert_eq!((ready.status.as_str(), ready.reason.as_str()), ("False", "ImageMissing"));
    assert!(ready.message.contains("/nowhere/guest.iso"), "{}", ready.message);
    store.close();
}

#[test]
fn a_client_that_goes_away_while_its_machine_boots_ends_its_container() {
    let dir = tempdir().unwrap();
    // Longer than any test: if it ends, then because its client left.
    let home = Home::new(dir.path(), "container: {boot_deadline: 3600}").with_vectors_key().simulated("boot=3600s");
    let daemon = home.start();
    ask_until(daemon.address, Request::bare(CREATE), || {
        daemon.log.events("CREATED_CONTAINER", 1);
        assert_eq!(stat(daemon.address)["available"], 5);
    });
    until_available(daemon.address, 6);
    let created = daemon.log.events("CREATED_CONTAINER", 1);
    daemon.log.event_about("DESTROYED_CONTAINER", created[0].container().unwrap());
    // Its claim goes after it.
    until("no claim", || {
        let claims = finish(program(["get", "claims", "-o", "name", "--config"]).arg(&home.config));
        assert!(claims.status.success(), "{}", stderr(&claims));
        claims.stdout.is_empty().then_some(())
    });
    daemon.stop();
    assert_eq!(left(&home.simulated_state().join("store")), [""; 0]);
}

#[test]
fn a_create_that_fails_half_way_leaves_nothing_behind() {
    let dir = tempdir().unwrap();
    let home = Home::new(dir.path(), "").with_vectors_key().simulated("boot=10ms,fail=1.0");
    let daemon = home.start();
    let response = create(daemon.address);
    assert_eq!((response.success, response.message.as_str()), (false, "Internal error"));
    assert!(response.data.is_empty());
    until_available(daemon.address, 6);
    let errors = daemon.log.events("RUNTIME_ERROR", 1);
    assert_eq!(errors[0].details["name"], "create domain");
    daemon.log.events("FAILED_CONTAINER", 1);
    daemon.stop();
    assert_eq!(left(&home.simulated_state().join("store")), [""; 0]);
}
