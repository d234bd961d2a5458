//! Machines that boot from a disk: each has an overlay of its own, and nobody ever writes the disk. How an overlay ends
//! with a machine that ends otherwise, the tests of [`crate::life`] and [`crate::restart`] tell.

use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use crate::common::ask::{create, destroy, grant, runtime};
use crate::common::daemon::Home;
use crate::common::until;
use crate::host::{Host, execute, is_a_machine_of_its_user, log_in, run};
use crate::user::User;

/// What is written to the very place that the boot loader is read from.
const MARK: &str = "written-by-a-guest";

/// Of a daemon whose machines boot the reference image's disk.
pub(crate) fn home(host: &Host) -> Home {
    host.home_with_image(&format!("{{disk: {{path: {}}}}}", host.image.disk.path.display()), "")
}

/// The overlays there are.
pub(crate) fn overlays(home: &Home) -> Vec<PathBuf> {
    let entries = fs::read_dir(home.state.join("disks")).into_iter().flatten();
    entries.map(|entry| entry.unwrap().path()).collect()
}

#[test]
#[ignore = "needs qemu: run through tests/lab/run.sh"]
fn a_machine_writes_its_overlay_alone_and_it_goes_with_the_machine() {
    let host = Host::lab();
    let home = home(&host);
    let digest = || run("sha256sum", &[host.image.disk.path.to_str().unwrap()]);
    assert!(digest().starts_with(&host.image.disk.sha256));
    let daemon = home.start();
    let granted = grant(&create(daemon.address));
    is_a_machine_of_its_user(&granted);
    assert_eq!(overlays(&home), [home.state.join("disks").join(format!("{}.qcow2", granted.uuid))]);
    runtime().block_on(async {
        let mut session = log_in(&granted).await;
        execute(&mut session, &format!("echo {MARK} | sudo -n dd of=/dev/vda conv=fsync 2>/dev/null")).await;
        let read = format!("sudo -n dd if=/dev/vda bs={} count=1 2>/dev/null", MARK.len());
        assert_eq!(execute(&mut session, &read).await, MARK);
        session.close().await;
    });
    assert_eq!(destroy(daemon.address, &granted).message, "OK");
    host.until_gone(&granted);
    until("no overlay", || overlays(&home).is_empty().then_some(()));
    assert!(digest().starts_with(&host.image.disk.sha256), "what a guest wrote is in the base");
    daemon.stop();
}

/// Why a container stands still, if it does.
fn paused(user: &User, uuid: &str) -> Option<Value> {
    let container = user.object("container", uuid)?;
    let conditions = container["status"]["conditions"].as_array()?;
    conditions.iter().find(|c| c["type"] == "Paused" && c["status"] == "True").cloned()
}

/// The host's disk is full while a guest writes: it stands still in the middle of that, and loses nothing.
#[test]
#[ignore = "needs qemu: run through tests/lab/run.sh"]
fn a_guest_that_finds_no_room_on_the_host_stands_still_and_goes_on_when_there_is_some() {
    let host = Host::lab();
    let home = home(&host);
    let disks = home.state.join("disks");
    fs::create_dir_all(&disks).unwrap();
    let disks = disks.to_str().unwrap();
    run("mount", &["-t", "tmpfs", "-o", "size=8m,mode=711", "small", disks]);
    let daemon = home.start();
    let user = User::of(&host, &home);
    let granted = grant(&create(daemon.address));
    let runtime = runtime();
    let mut session = runtime.block_on(log_in(&granted));
    let write = "yes | head -c 20971520 | sudo -n dd of=/dev/vda bs=65536 conv=fsync";
    let behind = format!("({write} && echo whole >written) </dev/null >said 2>&1 &");
    runtime.block_on(execute(&mut session, &behind));

    let event = daemon.log.event_about("PAUSED_CONTAINER", &granted.uuid);
    assert_eq!(event.details["reason"], "DiskFull", "{event:?}");
    let told = until("where there is no room", || {
        paused(&user, &granted.uuid).filter(|c| c["message"].as_str().is_some_and(|said| said.contains(disks)))
    });
    assert_eq!(told["reason"], "DiskFull");
    run("mount", &["-o", "remount,size=64m", disks]);
    daemon.log.event_about("RESUMED_CONTAINER", &granted.uuid);
    assert_eq!(paused(&user, &granted.uuid), None);

    let read = "sudo -n dd if=/dev/vda bs=1M count=20 2>/dev/null | tail -c 4";
    let written = until("the rest", || {
        let written = runtime.block_on(execute(&mut session, "cat written 2>/dev/null || true"));
        (!written.is_empty()).then_some(written)
    });
    assert_eq!((written.as_str(), runtime.block_on(execute(&mut session, read)).as_str()), ("whole\n", "y\ny\n"));
    runtime.block_on(session.close());
    assert_eq!(destroy(daemon.address, &granted).message, "OK");
    host.until_gone(&granted);
    daemon.stop();
    run("umount", &[disks]);
}
