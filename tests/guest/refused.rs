//! What real hypervisors and real ports refuse.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};

use crate::common::PATIENCE;
use crate::common::ask::{Grant, create, destroy, grant, runtime, stat};
use crate::common::daemon::Daemon;
use crate::host::{Host, Mode, at, execute, is_a_machine_of_its_user, log_in};

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
    a_port_that_a_machine_had_leads_nowhere_and_then_to_the_next_one_alone(&host, &daemon, &granted);
    daemon.stop();
}

/// Of a client that does not let go, where there is no other port.
fn a_port_that_a_machine_had_leads_nowhere_and_then_to_the_next_one_alone(host: &Host, daemon: &Daemon, first: &Grant) {
    /// How often a guest said that it knows nothing of a connection: to every segment of one that is not its own.
    const STRANGE: &str = "awk '/^Tcp:/ { if (n) print $n; else for (i = 1; i <= NF; i++) if ($i == \"OutRsts\") n = i }' \
                           /proc/net/snmp";
    let mut held = TcpStream::connect(at(first)).unwrap();
    held.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut greeting = [0; 4];
    held.read_exact(&mut greeting).unwrap();
    assert_eq!(&greeting, b"SSH-");
    assert_eq!(destroy(daemon.address, first).message, "OK");
    host.until_gone(first);
    let second = grant(&create(daemon.address));
    assert_eq!(second.port, first.port);
    runtime().block_on(async {
        let mut session = log_in(&second).await;
        let before = execute(&mut session, STRANGE).await;
        // It may know by now that it is over.
        let _ = held.write_all(b"SSH-2.0-late\r\n");
        let mut rest = Vec::new();
        let ended = held.read_to_end(&mut rest).map_err(|error| error.kind());
        assert!(matches!(ended, Ok(_) | Err(ErrorKind::ConnectionReset)), "nobody ends the old connection: {ended:?}");
        assert_eq!(execute(&mut session, STRANGE).await, before, "the next machine hears the old connection");
        session.close().await;
    });
    is_a_machine_of_its_user(&second);
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
