//! What cannot be is refused, and the refusal says what would be right.

use std::fs::Permissions;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use anweddol::error_chain;
use anweddol::facade::{ServerBuilder, ServerError};

use crate::support::Bench;

/// What a start says that fails.
fn refused(change: impl FnOnce(ServerBuilder) -> ServerBuilder) -> String {
    let bench = Bench::new(change);
    let error = bench.server.start_background().unwrap_err();
    assert!(!bench.server.is_running());
    error_chain(&error)
}

#[test]
fn an_unknown_event_number_is_refused() {
    let bench = Bench::new(|builder| builder);
    for number in [0, 13, 19, 255] {
        let set = bench.server.set_event_handler(number, |_| async {});
        assert!(matches!(set, Err(ServerError::UnknownEvent { number: said }) if said == number));
    }
}

#[test]
fn handlers_of_a_running_server_are_fixed() {
    let bench = Bench::new(|builder| builder);
    bench.server.start_background().unwrap();
    assert!(matches!(bench.server.on_client(|_| async {}), Err(ServerError::Running)));
    assert!(matches!(bench.server.set_event_handler(1, |_| async {}), Err(ServerError::Running)));
    assert!(matches!(bench.server.set_request_handler("PING", |_, _| async {}), Err(ServerError::Running)));
    bench.server.stop().unwrap();
    bench.server.on_client(|_| async {}).unwrap();
}

#[test]
fn an_address_of_another_host_is_refused_by_name() {
    let said = refused(|builder| builder.bind_address([192, 0, 2, 1].into()));
    assert!(said.contains("192.0.2.1") && said.contains("no interface"), "{said}");
}

#[test]
fn a_port_in_use_is_told() {
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = other.local_addr().unwrap();
    let said = refused(|builder| builder.listen_port(taken.port()));
    assert!(said.contains(&taken.to_string()) && said.contains("another program"), "{said}");
    drop(other);
}

#[test]
fn a_missing_image_and_one_that_is_no_file_are_told() {
    let said = refused(|builder| builder.container_iso("/nowhere/image.iso"));
    assert!(said.contains("/nowhere/image.iso") && said.contains("No such file"), "{said}");
    let said = refused(|builder| builder.container_iso("/"));
    assert!(said.contains("no regular file"), "{said}");
}

#[test]
fn a_key_file_without_an_rsa_key_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("server.pem");
    std::fs::write(&file, "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n").unwrap();
    std::fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
    let said = refused(|builder| builder.rsa_key_file(&file));
    assert!(said.contains("server.pem") && said.contains("no usable server key"), "{said}");
    let said = refused(|builder| builder.rsa_key_file(dir.path().join("none.pem")));
    assert!(said.contains("none.pem"), "{said}");
}

#[test]
fn a_setting_that_cannot_be_is_refused_before_anything_starts() {
    let built = anweddol::facade::Server::builder().max_containers(0).build();
    assert!(matches!(built, Err(ServerError::Setting(_))));
    for (limit, good) in [(0, false), (1, true), (3600, true), (3601, false), (u64::MAX, false)] {
        let built = anweddol::facade::Server::builder().client_timeout(Duration::from_secs(limit)).build();
        let said = built.err().map(|error| error.to_string());
        assert_eq!(said.is_none(), good, "{limit}: {said:?}");
        assert!(said.is_none_or(|said| said.contains("write 1 to 3600 seconds")), "{limit}");
    }
}

#[test]
fn what_failed_once_can_be_started_when_it_is_put_right() {
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("image.iso");
    let bench = Bench::new(|builder| builder.container_iso(&image));
    assert!(bench.server.start_background().is_err());
    std::fs::write(&image, "image").unwrap();
    bench.server.start_background().unwrap();
    bench.create();
}
