//! Machines that boot from a disk: each has an overlay of its own, and nobody ever writes the disk. How an overlay ends
//! with a machine that ends otherwise, the tests of [`crate::life`] and [`crate::restart`] tell.

use std::fs;
use std::path::PathBuf;

use crate::common::ask::{create, destroy, grant, runtime};
use crate::common::daemon::Home;
use crate::common::until;
use crate::host::{Host, execute, is_a_machine_of_its_user, log_in, run};

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
