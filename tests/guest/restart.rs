//! Machines outlive the daemon.

use std::time::Duration;

use anweddol::guest::ssh::Exit;
use anweddol::wire::{CREATE, Generation, Request};
use rustix::process::{Pid, Signal, kill_process};
use sha2::{Digest, Sha256};
use tokio::task::spawn_blocking;

use crate::common::ask::{create, create_parallel, destroy, grant, runtime, stat, try_ask, until_available};
use crate::common::{PATIENCE, until};
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

/// Sends what nobody can guess until it is told to stop, slowly: a command's output is kept up to 64 KiB. The last line is
/// the checksum of what was sent.
const STREAM: &str =
    "while [ ! -e stop ]; do head -c 300 /dev/urandom | base64; sleep 1; done | tee sent; sha256sum <sent";

/// One machine, one session, data flowing; and a daemon that is killed, upgraded while it makes another machine, and killed
/// twice more.
#[test]
#[ignore = "needs qemu: run through tests/lab/run.sh"]
fn a_stream_through_a_session_is_whole_after_kills_and_an_upgrade_in_the_middle_of_a_create() {
    let host = Host::lab();
    let home = host.home("", "");
    let mut daemon = home.start();
    let granted = grant(&create(daemon.address));
    let runtime = runtime();
    let mut sends = runtime.block_on(log_in(&granted));
    let mut tells = runtime.block_on(log_in(&granted));
    let stream = runtime.spawn(async move { sends.execute(STREAM, 3 * PATIENCE).await });
    let mut sent = |least: usize| {
        until("more of the stream", || {
            let size = runtime.block_on(execute(&mut tells, "cat sent | wc -c"));
            size.trim().parse().ok().filter(|size: &usize| *size > least)
        })
    };
    let mut so_far = sent(0);

    daemon.kill();
    daemon = home.start();
    daemon.log.event_about("ADOPTED", &granted.uuid);
    so_far = sent(so_far);

    let address = daemon.address;
    let asking = std::thread::spawn(move || try_ask(address, Generation::Second, &Request::bare(CREATE)));
    until("its QEMU", || (host.machines().len() == 2).then_some(()));
    daemon.terminate();
    let (status, lines) = daemon.ended();
    assert!(status.success(), "{status}: {}", lines.join("\n"));
    let other = asking.join().unwrap();
    let home = home.upgraded(&host.dir.join("anweddol-next"));
    daemon = home.start();
    daemon.log.event_about("ADOPTED", &granted.uuid);
    match other {
        // Whoever was answered has what was said,
        Ok(answer) if answer.success => {
            let other = grant(&answer);
            is_a_machine_of_its_user(&other);
            assert_eq!(destroy(daemon.address, &other).message, "OK");
            host.until_gone(&other);
        }
        // and of the rest nothing is left.
        Ok(_) | Err(_) => until_available(daemon.address, 5),
    }
    assert_eq!(host.machines().len(), 1);
    so_far = sent(so_far);

    for _ in 0..2 {
        daemon.kill();
        daemon = home.start();
        daemon.log.event_about("ADOPTED", &granted.uuid);
        so_far = sent(so_far);
    }

    runtime.block_on(execute(&mut tells, "touch stop"));
    let output = runtime.block_on(stream).unwrap().unwrap();
    assert_eq!((output.exit, output.dropped), (Exit::Status(0), 0));
    let text = String::from_utf8(output.stdout).unwrap();
    let (data, checksum) = text.split_at(text.trim_end().rfind('\n').unwrap() + 1);
    assert!(data.len() >= so_far);
    let digest: String = Sha256::digest(data).iter().map(|byte| format!("{byte:02x}")).collect();
    assert!(checksum.starts_with(&digest), "{checksum} of {} bytes, not {digest}", data.len());
    assert_eq!(destroy(daemon.address, &granted).message, "OK");
    host.until_gone(&granted);
    daemon.stop();
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
