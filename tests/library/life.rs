//! Starting, stopping, and what is left.

use std::sync::Arc;

use anweddol::facade::{ServeError, ServerBuilder, ServerError, StopMode, Virtualization};
use anweddol::hypervisor::fake::{Call, FakeWorld};
use anweddol::store::OpenError;
use anweddol::wire::{CREATE, Request};

use crate::support::{Bench, machines, until};

#[test]
fn statistics_follow_the_server() {
    let bench = Bench::new(|builder| builder.max_containers(2));
    assert_eq!(bench.server.runtime_statistics(), Default::default());
    assert!(bench.server.database().is_none() && bench.server.local_addr().is_none());
    bench.server.start_background().unwrap();
    bench.create();
    let statistics = bench.server.runtime_statistics();
    assert!(statistics.is_running && bench.server.is_running());
    assert_eq!((statistics.recorded_runtime_errors_amount, statistics.available_containers_amount), (0, 1));
    assert!(bench.server.rsa_keys().is_some() && bench.server.virtualization().is_some());
    assert!(!bench.ask(&Request::bare(CREATE)).unwrap().data.is_empty());
    assert_eq!(bench.ask(&Request::bare(CREATE)).unwrap().message, "Unavailable");
    bench.server.stop().unwrap();
    assert!(!bench.server.runtime_statistics().is_running);
}

#[test]
fn starting_twice_and_stopping_a_stopped_server_are_errors() {
    let bench = Bench::new(|builder| builder);
    assert!(matches!(bench.server.stop(), Err(ServerError::NotRunning)));
    assert!(matches!(bench.server.restart(), Err(ServerError::NotRunning)));
    bench.server.start_background().unwrap();
    assert!(matches!(bench.server.start_background(), Err(ServerError::Running)));
    assert!(matches!(bench.server.start(), Err(ServerError::Running)));
    bench.server.stop().unwrap();
    assert!(matches!(bench.server.stop(), Err(ServerError::NotRunning)));
}

#[test]
fn a_blocking_start_ends_with_a_stop_from_elsewhere_or_from_a_handler() {
    let bench = Bench::new(|builder| builder);
    std::thread::scope(|scope| {
        let blocked = scope.spawn(|| bench.server.start());
        until("it runs", || bench.server.is_running());
        assert!(!blocked.is_finished());
        bench.server.stop().unwrap();
        blocked.join().unwrap().unwrap();
        let blocked = scope.spawn(|| bench.server.start());
        until("it runs", || bench.server.is_running());
        bench.server.ask_to_stop().unwrap();
        blocked.join().unwrap().unwrap();
    });
    assert!(!bench.server.is_running());
}

/// A server on machines that outlive it.
fn outlived(mode: StopMode) -> (Arc<FakeWorld>, Bench) {
    outlived_at([127, 0, 0, 1], mode)
}

fn outlived_at(address: [u8; 4], mode: StopMode) -> (Arc<FakeWorld>, Bench) {
    let (world, machines) = machines();
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("image.iso");
    std::fs::write(&image, "image").unwrap();
    let custom = Virtualization::Custom(machines);
    let change = |builder: ServerBuilder| builder.bind_address(address.into()).virtualization(custom).stop_mode(mode);
    (world, Bench::on(dir, |builder| change(builder).container_iso(image)))
}

#[test]
fn a_stop_destroys_every_container_and_a_restart_begins_with_none() {
    let (world, bench) = outlived(StopMode::Destroy);
    crate::events::log_all(&bench);
    bench.server.start_background().unwrap();
    bench.create();
    bench.create();
    assert_eq!(world.domains().len(), 2);
    bench.server.restart_background().unwrap();
    assert_eq!((world.domains().len(), bench.containers().len()), (0, 0));
    assert_eq!((bench.log.count("DESTROYED_CONTAINER"), bench.log.count("STOPPED")), (2, 1));
    bench.log.until("STARTED", 2);
    bench.create();
}

#[test]
fn a_drained_server_finds_its_containers_again() {
    let (world, bench) = outlived(StopMode::Drain);
    bench.server.start_background().unwrap();
    let granted = bench.create();
    bench.server.stop().unwrap();
    assert_eq!(world.domains().len(), 1);
    bench.server.start_background().unwrap();
    assert_eq!(bench.containers().len(), 1);
    bench.destroy(&granted);
    assert_eq!(world.domains().len(), 0);
}

#[test]
fn a_store_that_cannot_be_opened_keeps_the_server_from_starting_and_machines_untouched() {
    let (world, bench) = outlived(StopMode::Drain);
    bench.server.start_background().unwrap();
    let granted = bench.create();
    bench.server.stop().unwrap();
    let calls = [Call::Create, Call::Destroy, Call::List, Call::Withdraw, Call::Publish];
    let before = (world.domains().len(), world.forwards(), calls.map(|call| world.calls(call)));
    let log = bench.dir.path().join("state/store/data/db");
    let whole = std::fs::read(&log).unwrap();
    std::fs::write(&log, &whole[..whole.len() / 2]).unwrap();
    // They may hold all that is missing then.
    ["ahead.0", "ahead.1"].iter().for_each(|name| std::fs::remove_file(log.with_file_name(name)).unwrap());
    let refused = bench.server.start_background();
    assert!(matches!(refused, Err(ServerError::Serve(ServeError::Store(OpenError::Damaged { .. })))), "{refused:?}");
    assert_eq!((world.domains().len(), world.forwards(), calls.map(|call| world.calls(call))), before);
    // With its store it goes on with them.
    std::fs::write(&log, &whole).unwrap();
    bench.server.start_background().unwrap();
    bench.destroy(&granted);
    assert_eq!(world.domains().len(), 0);
}

#[test]
fn a_running_server_that_is_dropped_stops() {
    // Of its own, so that nobody else is given the port when it is let go.
    let (world, bench) = outlived_at([127, 0, 0, 80], StopMode::Destroy);
    let log = bench.log.clone();
    bench
        .server
        .on_stopped(move |_| {
            log.add("stopped");
            async {}
        })
        .unwrap();
    bench.server.start_background().unwrap();
    bench.create();
    let (address, Bench { server, log, dir: _dir }) = (bench.server.local_addr().unwrap(), bench);
    drop(server);
    assert_eq!((world.domains().len(), log.lines()), (0, vec!["stopped".to_owned()]));
    assert!(crate::support::ask(&address.to_string(), &Request::bare("STAT")).is_err());
}
