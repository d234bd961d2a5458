//! Machines that are ready before anybody asks.

use crate::common::ask::{create, destroy, grant};
use crate::host::{Host, is_a_machine_of_its_user};

#[test]
#[ignore = "needs qemu: run through tests/lab/run.sh"]
fn a_warm_machine_is_granted_as_it_stands_and_the_pool_fills_up_again() {
    let host = Host::lab();
    let daemon = host.home("warm: 1", "").start();
    let ready = daemon.log.events("READY_CONTAINER", 1);
    let first = grant(&create(daemon.address));
    assert_eq!(ready[0].container(), Some(first.uuid.as_str()), "another machine was booted for it");
    is_a_machine_of_its_user(&first);

    let ready = daemon.log.events("READY_CONTAINER", 2);
    let second = grant(&create(daemon.address));
    assert_eq!(ready[1].container(), Some(second.uuid.as_str()), "another machine was booted for it");
    assert_eq!(destroy(daemon.address, &first).message, "OK");
    assert_eq!(destroy(daemon.address, &second).message, "OK");
    host.until_gone(&first);
    host.until_gone(&second);
    daemon.stop();
}
