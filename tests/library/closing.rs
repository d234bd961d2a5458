//! Closing and panicking in handlers: the session ends, with its follow-up events and nothing left behind.

use std::time::Duration;

use anweddol::wire::{CREATE, Request};

use crate::support::Bench;

/// Logs the ends of clients and the errors.
fn watch(bench: &Bench) {
    let (a, b) = (bench.log.clone(), bench.log.clone());
    bench
        .server
        .on_client_closed(move |_| {
            a.add("closed");
            async {}
        })
        .unwrap();
    bench
        .server
        .on_runtime_error(move |error| {
            b.add(error.traceback);
            async {}
        })
        .unwrap();
}

#[test]
fn a_raw_socket_closed_in_its_handler_gets_no_key() {
    let bench = Bench::new(|builder| builder);
    watch(&bench);
    let log = bench.log.clone();
    bench
        .server
        .on_connection(move |event| {
            // Whoever asks is told of the end at once.
            log.add("connection");
            event.client_socket.close();
            async {}
        })
        .unwrap();
    bench.server.start_background().unwrap();
    assert!(bench.ask(&Request::bare("STAT")).is_err());
    // It never was a client, so none was closed.
    assert_eq!(bench.log.lines(), ["connection"]);
}

#[test]
fn a_client_closed_at_any_moment_ends_at_once_and_leaves_nothing() {
    for number in [1_u8, 8, 4, 5] {
        let bench = Bench::new(|builder| builder);
        watch(&bench);
        bench
            .server
            .set_event_handler(number, move |payload| async move {
                use anweddol::facade::events::Payload;
                let client = match payload {
                    Payload::Client(event) => event.client_instance,
                    Payload::Request(event) => event.client_instance,
                    Payload::CreatedContainer(event) => event.client_instance,
                    Payload::CreatedEndpointShell(event) => event.client_instance.unwrap(),
                    other => panic!("{}", other.event().name()),
                };
                client.close();
                // The server does not wait for the rest of the handler.
                tokio::time::sleep(Duration::from_secs(1)).await;
            })
            .unwrap();
        bench.server.start_background().unwrap();
        assert!(bench.ask(&Request::bare(CREATE)).is_err(), "event {number}");
        bench.log.until("closed", 1);
        bench.until_empty();
        assert_eq!(bench.log.lines(), ["closed"], "event {number}");
        assert!(bench.server.runtime_statistics().available_containers_amount == 6);
    }
}

#[test]
fn an_endpoint_shell_closed_in_its_handler_fails_the_container_for_good() {
    let bench = Bench::new(|builder| builder);
    let log = bench.log.clone();
    bench
        .server
        .on_created_endpoint_shell(move |event| {
            let log = log.clone();
            async move {
                event.endpoint_shell_instance.close().await;
                assert!(event.endpoint_shell_instance.execute("id", Duration::from_secs(1)).await.is_err());
                log.add("shell");
            }
        })
        .unwrap();
    bench.server.start_background().unwrap();
    let response = bench.ask(&Request::bare(CREATE)).unwrap();
    assert_eq!((response.success, response.message.as_str()), (false, "Internal error"));
    bench.until_empty();
    assert_eq!(bench.log.lines(), ["shell"], "it was tried again");
}

#[test]
fn a_container_destroyed_in_its_handler_is_not_granted() {
    let bench = Bench::new(|builder| builder);
    bench
        .server
        .on_created_container(|event| async move { event.container_instance.destroy().await.unwrap() })
        .unwrap();
    bench.server.start_background().unwrap();
    assert!(!bench.ask(&Request::bare(CREATE)).unwrap().success);
    bench.until_empty();
}

#[test]
fn a_handler_that_panics_is_told_and_hurts_nobody_else() {
    for (number, granted) in [(3_u8, true), (1, true), (8, true), (4, false), (5, false), (2, true), (10, true)] {
        let bench = Bench::new(|builder| builder);
        let log = bench.log.clone();
        bench
            .server
            .on_runtime_error(move |error| {
                if error.ex_class == "Panic" {
                    log.add(error.traceback);
                }
                async {}
            })
            .unwrap();
        bench
            .server
            .set_event_handler(number, |payload| async move { panic!("by {}", payload.event().name()) })
            .unwrap();
        bench.server.start_background().unwrap();
        let response = bench.ask(&Request::bare(CREATE)).unwrap();
        assert_eq!(response.success, granted, "event {number}: {response:?}");
        let stat = bench.ask(&Request::bare("STAT")).unwrap();
        assert!(stat.success, "event {number}");
        crate::support::until("the panic is told", || !bench.log.lines().is_empty());
        let first = bench.log.lines().remove(0);
        assert!(first.contains("panicked: by "), "event {number}: {first}");
        if !granted {
            assert_eq!(response.message, "Internal error");
            bench.until_empty();
        }
    }
}

#[test]
fn a_handler_of_errors_that_panics_is_not_told_of_itself() {
    let bench = Bench::new(|builder| builder);
    bench.server.on_runtime_error(|_| async { panic!("again") }).unwrap();
    bench
        .server
        .set_request_handler("FAIL", |_, request: Request| async move { assert_eq!(request.verb, "CALM") })
        .unwrap();
    bench.server.start_background().unwrap();
    assert_eq!(bench.ask(&Request::bare("FAIL")).unwrap().message, "Internal error");
    crate::support::until("both are counted", || bench.server.runtime_statistics().recorded_runtime_errors_amount == 2);
}
