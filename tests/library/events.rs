//! Every event: its moment, its order, its parameters.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use anweddol::facade::events::Payload;
use anweddol::facade::{StopMode, Virtualization};
use anweddol::guest::EndpointShellInstance;
use anweddol::model::{EventKind, Memory};
use anweddol::server::container::ChangeError;
use anweddol::store::Txn;
use anweddol::wire::{CREATE, Request};
use secrecy::ExposeSecret;
use serde_json::{Map, json};

use crate::support::{Bench, machines, until};

/// The first seven hex digits of `printf 127.0.0.1 | sha256sum`.
const ID: &str = "12ca17b";

fn name(kind: EventKind) -> &'static str {
    kind.name()
}

/// What CREATE and DESTROY on a server that is started and stopped tell.
pub(crate) const CONVERSATION: [&str; 13] = [
    "STARTED",
    "CONNECTION",
    "CLIENT",
    "REQUEST",
    "CREATED_CONTAINER",
    "CREATED_ENDPOINT_SHELL",
    "CLIENT_CLOSED",
    "CONNECTION",
    "CLIENT",
    "REQUEST",
    "DESTROYED_CONTAINER",
    "CLIENT_CLOSED",
    "STOPPED",
];

/// Logs every documented event by its number.
pub(crate) fn log_all(bench: &Bench) {
    for number in 1..=12_u8 {
        let log = bench.log.clone();
        bench
            .server
            .set_event_handler(number, move |payload| {
                let log = log.clone();
                async move {
                    assert_eq!(payload.event().number(), number);
                    log.add(name(payload.event()));
                }
            })
            .unwrap();
    }
}

#[test]
fn a_whole_conversation_tells_every_event_at_its_moment_and_in_order() {
    let bench = Bench::new(|builder| builder);
    log_all(&bench);
    bench.server.start_background().unwrap();
    bench.log.until("STARTED", 1);
    let granted = bench.create();
    bench.log.until("CLIENT_CLOSED", 1);
    bench.destroy(&granted);
    bench.log.until("CLIENT_CLOSED", 2);
    bench.server.stop().unwrap();
    assert_eq!(bench.log.lines(), CONVERSATION);
}

#[test]
fn clients_are_known_by_address_and_request() {
    let bench = Bench::new(|builder| builder);
    let log = bench.log.clone();
    let seen = move |what: &'static str, text: String| log.add(format!("{what} {text}"));
    let (a, b, c, d) = (seen.clone(), seen.clone(), seen.clone(), seen);
    let say = |client: &anweddol::server::ClientInstance| {
        let verb = client.request().map_or("-", |request| request.verb.as_str()).to_owned();
        format!("{} {} {verb} {}", client.ip(), client.id(), client.is_closed())
    };
    bench
        .server
        .on_connection(move |event| {
            a("CONNECTION", event.client_socket.ip().to_string());
            async {}
        })
        .unwrap();
    bench
        .server
        .on_client(move |event| {
            b("CLIENT", say(&event.client_instance));
            async {}
        })
        .unwrap();
    bench
        .server
        .on_request(move |event| {
            c("REQUEST", say(&event.client_instance));
            async {}
        })
        .unwrap();
    bench
        .server
        .on_client_closed(move |event| {
            d("CLOSED", say(&event.client_instance));
            async {}
        })
        .unwrap();
    bench.server.start_background().unwrap();
    bench.ask(&Request::bare("STAT")).unwrap();
    let closed = format!("CLOSED 127.0.0.1 {ID} STAT true");
    bench.log.until(&closed, 1);
    let expected = [
        "CONNECTION 127.0.0.1".to_owned(),
        format!("CLIENT 127.0.0.1 {ID} - false"),
        format!("REQUEST 127.0.0.1 {ID} STAT false"),
        closed,
    ];
    assert_eq!(bench.log.lines(), expected);
}

#[test]
fn containers_are_told_with_everything_they_have_and_their_client() {
    let bench = Bench::new(|builder| builder);
    let created = Arc::new(Mutex::new(None));
    let keep = created.clone();
    bench
        .server
        .on_created_container(move |event| {
            let (c, client) = (event.container_instance, event.client_instance);
            assert!(!c.is_running(), "its domain runs before its handler has ended");
            assert_eq!((c.memory(), c.vcpus(), c.ip()), (Memory::mebibytes(256), 1, None));
            assert_eq!((c.image_paths().len(), c.image_sha256().len(), c.mac().len()), (1, 64, 17));
            assert_eq!(client.id(), ID);
            *keep.lock().unwrap() = Some(c);
            async {}
        })
        .unwrap();
    let log = bench.log.clone();
    bench
        .server
        .on_destroyed_container(move |event| {
            let client = event.client_instance.expect("a client asked for it");
            let verb = client.request().map(|request| request.verb.clone());
            log.add(format!("{} {verb:?} {}", event.container_instance.uuid(), event.container_instance.is_running()));
            async {}
        })
        .unwrap();
    bench.server.start_background().unwrap();
    let granted = bench.create();
    let container = created.lock().unwrap().take().unwrap();
    assert_eq!(json!(container.uuid()), granted["container_uuid"]);
    assert_eq!(json!(container.image_sha256()), granted["container_iso_sha256"]);
    assert_eq!(json!(container.listen_port()), granted["container_listen_port"]);
    assert!(container.is_running());
    bench.destroy(&granted);
    // Told before DESTROY was answered.
    assert_eq!(bench.log.lines(), [format!("{} Some(\"DESTROY\") false", container.uuid())]);
}

#[test]
fn the_end_of_a_container_whose_record_stays_is_told_too() {
    let (world, machines) = machines();
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("image.iso");
    std::fs::write(&image, "image").unwrap();
    let custom = Virtualization::Custom(machines);
    let bench =
        Bench::new(|builder| builder.virtualization(custom.clone()).container_iso(&image).stop_mode(StopMode::Drain));
    let log = bench.log.clone();
    bench
        .server
        .on_destroyed_container(move |event| {
            log.add(event.container_instance.uuid().to_string());
            async {}
        })
        .unwrap();
    bench.server.start_background().unwrap();
    bench.create();
    // Somebody wants to see how it ends.
    let mut container = bench.containers().remove(0);
    container.metadata.finalizers = vec!["example.org/seen".to_owned()].into();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(bench.server.database().unwrap().txn(Txn::default().write(&container))).unwrap();
    world.kill(container.uuid());
    bench.log.until(&container.uuid().to_string(), 1);
    assert_eq!(bench.containers().len(), 1);
}

#[test]
fn malformed_unknown_and_failing_requests_are_told_with_their_particulars() {
    let bench = Bench::new(|builder| builder);
    for number in [7_u8, 9, 12] {
        let log = bench.log.clone();
        bench
            .server
            .set_event_handler(number, move |payload| {
                log.add(match payload {
                    Payload::MalformedRequest(event) => json!(event.cerberus_error_dict).to_string(),
                    Payload::UnknownVerb(event) => event.client_instance.request().unwrap().verb.clone(),
                    Payload::RuntimeError(event) => {
                        let client = event.client_instance.expect("it was a client's").ip();
                        format!("{} {} {client} {}", event.name, event.ex_class, event.traceback)
                    }
                    other => panic!("{}", other.event().name()),
                });
                async {}
            })
            .unwrap();
    }
    bench.server.set_request_handler("FAIL", |_, _| async { Err::<(), _>("the disk is full") }).unwrap();
    bench.server.start_background().unwrap();
    let mut malformed = Request::bare("STAT");
    malformed.verb = "not capital".into();
    for (request, says) in
        [(malformed, "Bad request"), (Request::bare("FANCY"), "Bad request"), (Request::bare("FAIL"), "Internal error")]
    {
        let response = bench.ask(&request).unwrap();
        assert!(!response.success && response.message.starts_with(says), "{response:?}");
    }
    let lines = bench.log.lines();
    assert!(lines[0].starts_with("{\"verb\":["), "{lines:?}");
    assert_eq!(lines[1], "FANCY");
    assert_eq!(lines[2], "FAIL HandlerError 127.0.0.1 the handler of FAIL: the disk is full");
    assert_eq!(bench.server.runtime_statistics().recorded_runtime_errors_amount, 1);
}

#[test]
fn the_handler_set_last_is_the_one_that_is_called_however_it_was_set() {
    let bench = Bench::new(|builder| builder);
    let (a, b, c) = (bench.log.clone(), bench.log.clone(), bench.log.clone());
    bench
        .server
        .on_client(move |_| {
            a.add("first");
            async {}
        })
        .unwrap();
    bench
        .server
        .set_event_handler(EventKind::Client, move |_| {
            b.add("second");
            async {}
        })
        .unwrap();
    bench.server.set_event_handler(2, |_| async {}).unwrap();
    bench
        .server
        .on_client_closed(move |_| {
            c.add("closed");
            async {}
        })
        .unwrap();
    bench.server.start_background().unwrap();
    bench.ask(&Request::bare("STAT")).unwrap();
    bench.log.until("closed", 1);
    assert_eq!(bench.log.lines(), ["second", "closed"]);
}

#[test]
fn memory_and_vcpus_are_changed_before_the_domain_runs_and_not_after() {
    let (world, machines) = machines();
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("image.iso");
    std::fs::write(&image, "image").unwrap();
    let bench = Bench::new(|builder| builder.virtualization(Virtualization::Custom(machines)).container_iso(&image));
    let (seen, log) = (world.clone(), bench.log.clone());
    let kept = Arc::new(Mutex::new(None));
    let keep = kept.clone();
    bench
        .server
        .on_created_container(move |event| {
            let c = event.container_instance;
            let (seen, log) = (seen.clone(), log.clone());
            *keep.lock().unwrap() = Some(c.clone());
            async move {
                assert!(matches!(c.set_vcpus(0), Err(ChangeError::Value { .. })));
                assert!(matches!(c.set_memory(Memory::mebibytes(1)), Err(ChangeError::Value { .. })));
                c.set_memory(Memory::mebibytes(512)).unwrap();
                // However long it takes.
                tokio::time::sleep(Duration::from_millis(50)).await;
                c.set_vcpus(3).unwrap();
                log.add(format!("{} domains", seen.domains().len()));
            }
        })
        .unwrap();
    bench.server.start_background().unwrap();
    bench.create();
    assert_eq!(bench.log.lines(), ["0 domains"]);
    let domain = world.domains().remove(0).spec.unwrap();
    assert_eq!((domain.memory, domain.vcpus), (Memory::mebibytes(512), 3));
    let container = kept.lock().unwrap().take().unwrap();
    assert_eq!((container.memory(), container.vcpus()), (Memory::mebibytes(512), 3));
    assert!(matches!(container.set_vcpus(2), Err(ChangeError::Started { .. })));
}

#[test]
fn a_warm_container_is_told_when_it_is_bound_and_cannot_be_changed() {
    let bench = Bench::new(|builder| builder.warm_containers(1));
    let (a, b) = (bench.log.clone(), bench.log.clone());
    bench
        .server
        .on_created_endpoint_shell(move |event| {
            a.add(format!("shell, client: {}", event.client_instance.is_some()));
            async {}
        })
        .unwrap();
    bench
        .server
        .on_created_container(move |event| {
            let changed = event.container_instance.set_vcpus(2);
            b.add(format!("created, changed: {}", changed.is_ok()));
            async {}
        })
        .unwrap();
    bench.server.start_background().unwrap();
    until("a warm one", || bench.containers().iter().any(|c| c.status.ready_at.is_some()));
    bench.create();
    assert_eq!(bench.log.lines()[..2], ["shell, client: false", "created, changed: false"]);
}

#[test]
fn an_endpoint_shell_runs_commands_and_the_credentials_set_in_it_are_the_clients() {
    let bench = Bench::new(|builder| builder);
    let chosen = EndpointShellInstance::generate_credentials();
    let (set, log) = (chosen.clone(), bench.log.clone());
    bench
        .server
        .on_created_endpoint_shell(move |event| {
            let (shell, set, log) = (event.endpoint_shell_instance, set.clone(), log.clone());
            async move {
                let done = shell.execute("uname -a", Duration::from_secs(5)).await.unwrap();
                log.add(String::from_utf8(done.stdout).unwrap());
                let mut bad = set.clone();
                bad.username = "root; reboot".into();
                assert!(shell.set_credentials(bad).is_err());
                shell.set_credentials(set).unwrap();
                log.add(format!("client {}", event.client_instance.unwrap().id()));
            }
        })
        .unwrap();
    bench.server.start_background().unwrap();
    let granted: Map<_, _> = bench.create();
    assert_eq!(bench.log.lines(), ["simulated: uname -a\n".to_owned(), format!("client {ID}")]);
    assert_eq!(granted["container_username"], json!(chosen.username));
    assert_eq!(granted["container_password"], json!(chosen.password.expose_secret()));
}

#[test]
fn a_slow_handler_delays_only_its_own_client() {
    let bench = Bench::new(|builder| builder);
    let (log, go_on) = (bench.log.clone(), Arc::new(tokio::sync::Notify::new()));
    let wait = go_on.clone();
    bench
        .server
        .on_created_container(move |_| {
            let (log, wait) = (log.clone(), wait.clone());
            async move {
                log.add("waits");
                wait.notified().await;
            }
        })
        .unwrap();
    bench.server.start_background().unwrap();
    std::thread::scope(|scope| {
        let slow = scope.spawn(|| bench.ask(&Request::bare(CREATE)).unwrap());
        bench.log.until("waits", 1);
        assert!(bench.ask(&Request::bare("STAT")).unwrap().success);
        assert!(!slow.is_finished());
        go_on.notify_one();
        assert!(slow.join().unwrap().success);
    });
}
