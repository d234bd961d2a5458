//! Machines that are ready before anybody asks.

use crate::common::ask::{create, destroy, grant};
use crate::common::daemon::Daemon;
use crate::host::{Host, is_a_machine_of_its_user};

/// The machines that became Ready, in that order, once there were so many in all.
fn ready(daemon: &Daemon, count: usize) -> Vec<String> {
    let events = daemon.log.events("READY_CONTAINER", count);
    events.iter().map(|event| event.container().unwrap().to_owned()).collect()
}

#[test]
#[ignore = "needs qemu: run through tests/lab/run.sh"]
fn a_pool_of_two_grants_its_machines_as_they_stand_and_fills_up_again() {
    let host = Host::lab();
    let daemon = host.home("warm: 2", "").start();
    let members = ready(&daemon, 2);
    assert_eq!(host.machines().len(), 2);
    let granted = [grant(&create(daemon.address)), grant(&create(daemon.address))];
    for grant in &granted {
        assert!(members.contains(&grant.uuid), "another machine was booted for it");
        is_a_machine_of_its_user(grant);
    }
    assert_ne!(granted[0].uuid, granted[1].uuid);

    let members = ready(&daemon, 4).split_off(2);
    let third = grant(&create(daemon.address));
    assert!(members.contains(&third.uuid), "another machine was booted for it");
    for grant in granted.iter().chain([&third]) {
        assert_eq!(destroy(daemon.address, grant).message, "OK");
        host.until_gone(grant);
    }
    daemon.stop();
}
