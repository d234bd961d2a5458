//! Machines outlive the daemon.

use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::task::spawn_blocking;

use crate::common::ask::{create, create_parallel, destroy, grant, runtime, stat, until_available};
use crate::common::until;
use crate::disk;
use crate::host::{Host, execute, is_a_machine_of_its_user, log_in};

#[test]
#[ignore = "needs qemu: run through tests/lab/run.sh"]
fn a_session_goes_on_through_a_kill_of_the_daemon_and_the_next_one_adopts_its_machine() {
    let host = Host::lab();
    let home = host.home("", "");
    let daemon = home.start();
    let granted = grant(&create(daemon.address));
    let daemon = runtime().block_on(async {
        let mut session = log_in(&granted).await;
        assert_eq!(execute(&mut session, "echo before").await, "before\n");
        spawn_blocking(move || daemon.kill()).await.unwrap();
        assert_eq!(execute(&mut session, "echo while").await, "while\n");
        let daemon = home.start();
        daemon.log.event_about("ADOPTED", &granted.uuid);
        assert_eq!(execute(&mut session, "echo after").await, "after\n");
        session.close().await;
        daemon
    });
    assert_eq!(stat(daemon.address)["available"], 5);
    is_a_machine_of_its_user(&granted);
    assert_eq!(destroy(daemon.address, &granted).message, "OK");
    until_available(daemon.address, 6);
    host.until_gone(&granted);
    let lines = daemon.stop();
    assert!(!lines.iter().any(|line| line.contains("panicked")), "{}", lines.join("\n"));
}

#[test]
#[ignore = "needs qemu: run through tests/lab/run.sh"]
fn machines_that_ended_while_no_daemon_ran_are_refused_and_their_places_and_disks_are_free() {
    let host = Host::lab();
    let home = disk::home(&host);
    let daemon = home.start();
    let granted: Vec<_> = create_parallel(daemon.address, 2).iter().map(grant).collect();
    daemon.kill();
    // One that no record knows of, beside theirs.
    let orphan = home.state.join("disks/00000000-0000-4000-8000-000000000001.qcow2");
    std::fs::write(orphan, "").unwrap();
    assert_eq!(disk::overlays(&home).len(), 3);
    // Nobody listens to their ends: of one that is killed, and of one that its user shuts down. In embedded mode
    // the latter's QEMU waits for libvirt to end it.
    let qemu = host.machine(&granted[0].uuid).expect("machines outlive a daemon that is killed");
    kill_process(Pid::from_raw(qemu).unwrap(), Signal::KILL).unwrap();
    until("the end of its QEMU", || host.machine(&granted[0].uuid).is_none().then_some(()));
    runtime().block_on(async {
        let mut session = log_in(&granted[1]).await;
        // Its answer is the first thing that ends.
        session.execute("sudo -n poweroff -f", Duration::from_secs(5)).await.ok();
    });
    let daemon = home.start();
    daemon.log.event_about("ADOPTION_REFUSED", &granted[0].uuid);
    for grant in &granted {
        daemon.log.event_about("DESTROYED_CONTAINER", &grant.uuid);
        host.until_gone(grant);
    }
    until_available(daemon.address, 6);
    until("no overlay", || disk::overlays(&home).is_empty().then_some(()));
    daemon.stop();
}
