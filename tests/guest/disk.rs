//! Machines that boot from a disk: each has an overlay of its own, and nobody ever writes the disk.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::common::ask::{create, destroy, grant, runtime, until_available};
use crate::common::daemon::Home;
use crate::common::until;
use crate::host::{Host, execute, is_a_machine_of_its_user, log_in, run};

/// What is written to the very place that the boot loader is read from.
const MARK: &str = "written-by-a-guest";

fn home(host: &Host) -> Home {
    host.home_with_image(&format!("{{disk: {{path: {}}}}}", host.disk().display()), "")
}

fn overlays(home: &Home) -> Vec<PathBuf> {
    let entries = fs::read_dir(home.state.join("disks")).into_iter().flatten();
    entries.map(|entry| entry.unwrap().path()).collect()
}

fn digest(host: &Host) -> String {
    run("sha256sum", &[host.disk().to_str().unwrap()])
}

#[test]
#[ignore = "needs qemu: run through tests/lab/run.sh"]
fn a_machine_writes_its_overlay_alone_and_it_goes_with_the_machine() {
    let host = Host::lab();
    let (home, before) = (home(&host), digest(&host));
    let daemon = home.start();
    let first = grant(&create(daemon.address));
    is_a_machine_of_its_user(&first);
    assert_eq!(overlays(&home), [home.state.join("disks").join(format!("{}.qcow2", first.uuid))]);
    runtime().block_on(async {
        let mut session = log_in(&first).await;
        let write = format!("echo {MARK} | sudo -n dd of=/dev/vda conv=fsync 2>/dev/null");
        execute(&mut session, &write).await;
        let read = execute(&mut session, "sudo -n dd if=/dev/vda bs=18 count=1 2>/dev/null").await;
        assert_eq!(read, MARK);
        session.close().await;
    });
    assert_eq!(digest(&host), before, "what a guest wrote is in the base");
    assert_eq!(destroy(daemon.address, &first).message, "OK");
    host.until_gone(&first);
    until("no overlay", || overlays(&home).is_empty().then_some(()));

    // The next one boots what the first one destroyed for itself, and is shut down from inside.
    let second = grant(&create(daemon.address));
    is_a_machine_of_its_user(&second);
    while host.machine(&second.uuid).is_some() {
        runtime().block_on(async {
            let mut session = log_in(&second).await;
            session.execute("sudo -n poweroff -f", Duration::from_secs(5)).await.ok();
        });
    }
    daemon.log.event_about("DESTROYED_CONTAINER", &second.uuid);
    until_available(daemon.address, 6);
    until("no overlay", || overlays(&home).is_empty().then_some(()));
    assert_eq!(digest(&host), before);
    daemon.stop();
}

#[test]
#[ignore = "needs qemu: run through tests/lab/run.sh"]
fn an_overlay_whose_machine_or_record_was_lost_is_swept() {
    let host = Host::lab();
    let home = home(&host);
    let daemon = home.start();
    let granted = grant(&create(daemon.address));
    daemon.kill();
    let qemu = host.machine(&granted.uuid).expect("machines outlive their daemon");
    kill_process(Pid::from_raw(qemu).unwrap(), Signal::KILL).unwrap();
    // One that nobody knows of, beside the one whose machine died.
    let orphan = home.state.join("disks/00000000-0000-4000-8000-000000000001.qcow2");
    fs::write(&orphan, "").unwrap();
    assert_eq!(overlays(&home).len(), 2);
    let daemon = home.start();
    daemon.log.event_about("DESTROYED_CONTAINER", &granted.uuid);
    until("no overlay", || overlays(&home).is_empty().then_some(()));
    daemon.stop();
}

#[test]
#[ignore = "needs qemu: run through tests/lab/run.sh"]
fn a_disk_of_another_format_is_refused_with_its_name() {
    let host = Host::lab();
    let image = host.dir.join("no-disk");
    fs::write(&image, "this is no disk").unwrap();
    let daemon = host.home_with_image(&format!("{{disk: {{path: {}}}}}", image.display()), "").start();
    assert!(!create(daemon.address).success);
    let error = &daemon.log.events("FAILED_CONTAINER", 1)[0];
    assert!(error.message.contains("no-disk") && error.message.contains("qcow2"), "{error:?}");
    daemon.stop();
}
