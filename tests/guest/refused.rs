//! What real hypervisors and real ports refuse.

use std::net::{Ipv4Addr, TcpListener};

use crate::common::ask::{create, grant, stat};
use crate::host::{Host, Mode, is_a_machine_of_its_user};

#[test]
#[ignore = "needs qemu: run through tests/lab/run.sh"]
fn with_every_port_taken_a_create_is_unavailable_and_the_range_is_told() {
    let host = Host::lab();
    let mut taken: Vec<_> =
        (20_000..=20_005).map(|port| TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).unwrap()).collect();
    let daemon = host.home("", "port_forwarding: {range: 20000-20005}").start();
    assert_eq!(create(daemon.address).message, "Unavailable");
    let error = &daemon.log.events("RUNTIME_ERROR", 1)[0];
    assert!(error.message.contains("20000-20005") && error.message.contains("port_forwarding.range"), "{error:?}");
    assert_eq!(stat(daemon.address)["available"], 6);
    // One that is free again is found.
    taken.remove(3);
    let granted = grant(&create(daemon.address));
    assert_eq!(granted.port, 20_003);
    is_a_machine_of_its_user(&granted);
    daemon.stop();
}

#[test]
#[ignore = "needs qemu: run through tests/lab/run.sh"]
fn where_no_libvirtd_answers_system_mode_says_what_to_do() {
    let host = Host::lab();
    match host.mode {
        // Here one answers.
        Mode::System => {}
        Mode::Embedded => {
            let text = host.home_with_mode("system").refused();
            for word in ["qemu:///system", "libvirtd", "embedded"] {
                assert!(text.contains(word), "no '{word}' in: {text}");
            }
        }
    }
}
