//! SIGHUP: what can be is taken up, what cannot is said, and a bad file changes nothing.

use std::fs;
use std::io::Read;
use std::net::TcpStream;
use std::os::unix::net::UnixDatagram;
use std::path::Path;

use anweddol::wire::{Generation, Request, STAT};
use serde_json::Value;
use tempfile::tempdir;

use crate::common::ask::{ask, create_parallel, stat};
use crate::common::daemon::{Daemon, Home, finish, program, stdout};
use crate::common::{PATIENCE, until};

fn start(dir: &Path, config: &str) -> (Home, Daemon) {
    let home = Home::new(dir, config).with_vectors_key().simulated("boot=10ms");
    let daemon = home.start();
    (home, daemon)
}

/// Writes a changed configuration and asks for it.
fn reload(home: &Home, daemon: &Daemon, from: &str, to: &str) {
    let text = fs::read_to_string(&home.config).unwrap();
    assert!(text.contains(from), "{text}");
    fs::write(&home.config, text.replacen(from, to, 1)).unwrap();
    daemon.hang_up();
}

/// What the log says of keys, with this message, once it says that the configuration was read so many times.
fn told(daemon: &Daemon, reads: usize, message: &str) -> Vec<String> {
    daemon.log.until(&format!("{reads} reloads"), |lines| {
        let fields: Vec<Value> =
            lines.iter().filter_map(|line| Some(serde_json::from_str::<Value>(line).ok()?["fields"].clone())).collect();
        let with =
            |message: &str| fields.iter().filter(|fields| fields["message"] == message).cloned().collect::<Vec<_>>();
        let read =
            with("configuration: read again").len() + with("configuration: refused, and nothing is changed").len();
        let word = |fields: &Value| fields["key"].as_str().or(fields["error"].as_str()).map(str::to_owned);
        (read >= reads).then(|| with(message).iter().filter_map(word).collect())
    })
}

#[test]
fn what_can_be_is_taken_up_and_what_cannot_is_said_by_its_key() {
    let dir = tempdir().unwrap();
    let (home, daemon) =
        start(dir.path(), "container: {warm: 0, max_allowed_running_containers: 2}\nevents: {keep: 5000}");
    assert_eq!(stat(daemon.address)["available"], 2);
    reload(&home, &daemon, "warm: 0, max_allowed_running_containers: 2", "warm: 1, max_allowed_running_containers: 3");
    assert_eq!(
        told(&daemon, 1, "configuration: taken up"),
        ["container.max_allowed_running_containers", "container.warm"]
    );
    daemon.log.events("READY_CONTAINER", 1);
    assert_eq!(stat(daemon.address)["available"], 3);

    // What needs a restart is said at each reload until there is one.
    reload(&home, &daemon, "events: {keep: 5000}", "events: {keep: 6000}\nport_forwarding: {range: 20000-20999}");
    assert_eq!(told(&daemon, 2, "configuration: needs a restart"), ["port_forwarding.range"]);
    daemon.hang_up();
    let waiting = told(&daemon, 3, "configuration: needs a restart");
    assert_eq!(waiting, ["port_forwarding.range", "port_forwarding.range"]);
    let taken = told(&daemon, 3, "configuration: taken up");
    assert_eq!(taken[2..], ["events.keep"], "what was taken up is not taken up again");
    assert!(create_parallel(daemon.address, 3).iter().all(|response| response.success));
    daemon.stop();
    let daemon = home.start();
    daemon.hang_up();
    assert!(told(&daemon, 1, "configuration: needs a restart").is_empty());
}

#[test]
fn as_many_machines_boot_as_the_last_configuration_says() {
    let dir = tempdir().unwrap();
    let config = "host: {parallel_boots: 1}\ncontainer: {warm: 3}";
    let home = Home::new(dir.path(), config).with_vectors_key().simulated("boot=3600s");
    let daemon = home.start();
    let phases = |booting: usize| {
        until(&format!("{booting} that boot and others in line"), || {
            let output = finish(program(["get", "containers", "-o", "json", "--config"]).arg(&home.config));
            let list: Value = serde_json::from_str(&stdout(&output)).unwrap();
            let items = list["items"].as_array().unwrap();
            let boots = items.iter().filter(|c| c["status"]["phase"] == "Booting").count();
            let waits = items.iter().filter(|c| {
                let mut conditions = c["status"]["conditions"].as_array().into_iter().flatten();
                c["status"]["phase"] == "Pending" && conditions.any(|c| c["reason"] == "HostBusy")
            });
            (boots == booting && waits.count() == 3 - booting).then_some(())
        })
    };
    phases(1);
    reload(&home, &daemon, "parallel_boots: 1", "parallel_boots: 2");
    assert_eq!(told(&daemon, 1, "configuration: taken up"), ["host.parallel_boots"]);
    phases(2);
}

#[test]
fn who_deletes_the_daemons_own_pool_gets_it_as_it_is_configured() {
    let dir = tempdir().unwrap();
    let (home, daemon) = start(dir.path(), "container: {warm: 1, max_allowed_running_containers: 2}");
    let config = home.config.to_str().unwrap();
    for arguments in [["scale", "pool", "default", "--replicas=2"].as_slice(), &["delete", "pool", "default"]] {
        stdout(&finish(program(arguments).args(["--config", config])));
    }
    until("the pool is there again, and as it is configured", || {
        let pool = finish(&mut program(["get", "pool", "default", "-o", "json", "--config", config]));
        let pool: Value = serde_json::from_slice(&pool.stdout).ok()?;
        (pool["spec"]["replicas"] == 1 && pool["metadata"]["deletionTimestamp"].is_null()).then_some(())
    });
    assert!(create_parallel(daemon.address, 1)[0].success);
}

#[test]
fn a_bad_file_changes_nothing_and_is_told_with_its_errors() {
    let dir = tempdir().unwrap();
    let (home, daemon) = start(dir.path(), "container: {warm: 0, max_allowed_running_containers: 2}");
    reload(
        &home,
        &daemon,
        "warm: 0, max_allowed_running_containers: 2",
        "warm: 9, vcpus: lots, max_allowed_running_containers: 4",
    );
    let refused = told(&daemon, 1, "configuration: refused, and nothing is changed");
    let at = format!("{}:3:", home.config.display());
    for words in ["container.warm is 9", "container.vcpus is 'lots': write a whole number", &at] {
        assert!(refused[0].contains(words), "no '{words}' in {refused:?}");
    }
    assert_eq!(stat(daemon.address)["available"], 2);
    fs::remove_file(&home.config).unwrap();
    daemon.hang_up();
    let refused = told(&daemon, 2, "configuration: refused, and nothing is changed");
    assert!(refused[1].contains("cannot be read"), "{refused:?}");
    assert_eq!(stat(daemon.address)["available"], 2);
}

/// What needs no restart cannot be without what needs one: then neither is.
#[test]
fn what_does_not_go_together_before_a_restart_is_refused() {
    let dir = tempdir().unwrap();
    let config = "port_forwarding: {range: 20000-20003}\ncontainer: {max_allowed_running_containers: 4}";
    let (home, daemon) = start(dir.path(), config);
    reload(
        &home,
        &daemon,
        "20003}\ncontainer: {max_allowed_running_containers: 4}",
        "20009}\ncontainer: {max_allowed_running_containers: 9}",
    );
    let refused = told(&daemon, 1, "configuration: refused, and nothing is changed");
    assert!(refused[0].contains("restart the daemon") && refused[0].contains("at least as many ports"), "{refused:?}");
    assert_eq!(stat(daemon.address)["available"], 4);
}

#[test]
fn connections_are_limited_as_the_last_configuration_says() {
    let dir = tempdir().unwrap();
    // Nobody is closed for being slow, unless that is what changed.
    let home = Home::new(dir.path(), "").with_vectors_key().simulated("boot=10ms").patient();
    let daemon = home.start();
    reload(&home, &daemon, "server: {", "server: {max_connections: 1, ");
    assert_eq!(told(&daemon, 1, "configuration: taken up"), ["server.max_connections"]);
    let closed = |mut stream: TcpStream| {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.read(&mut [0]).unwrap() == 0
    };
    let first = TcpStream::connect(daemon.address).unwrap();
    let _second = TcpStream::connect(daemon.address).unwrap();
    assert!(closed(first), "two connections are there");
    // The time a connection has is the one from when it was accepted.
    reload(&home, &daemon, "max_connections: 1, client_timeout: 300", "client_timeout: 1");
    assert_eq!(told(&daemon, 2, "configuration: taken up").len(), 3);
    assert!(closed(TcpStream::connect(daemon.address).unwrap()), "a client that says nothing is waited for");
}

#[test]
fn an_access_token_is_asked_for_as_the_last_configuration_says() {
    let dir = tempdir().unwrap();
    let (home, daemon) = start(dir.path(), "access: {required: false}");
    let answer = || ask(daemon.address, Generation::Second, &Request::bare(STAT)).message;
    assert_eq!(answer(), "OK");
    reload(&home, &daemon, "required: false", "required: true");
    assert_eq!(told(&daemon, 1, "configuration: taken up"), ["access.required"]);
    assert_eq!(answer(), "Bad request (Access token is required)");
    reload(&home, &daemon, "required: true", "required: false");
    assert_eq!(told(&daemon, 2, "configuration: taken up").len(), 2);
    assert_eq!(answer(), "OK");
}

#[test]
fn whoever_is_denied_is_turned_away_at_both_ports_from_the_reload_on() {
    let dir = tempdir().unwrap();
    let home = Home::new(dir.path(), "ip_filter: {deny: []}").with_vectors_key().simulated("boot=10ms").patient();
    let daemon = home.start();
    assert_eq!(stat(daemon.address)["available"], 6);
    reload(&home, &daemon, "deny: []", "deny: [127.0.0.1]");
    assert_eq!(told(&daemon, 1, "configuration: taken up"), ["ip_filter.deny"]);
    let api = daemon.log.until("the API's address", |lines| {
        let line = lines.iter().find_map(|line| line.split_once("https://"))?;
        Some(line.1.split('"').next().unwrap().to_owned())
    });
    for (port, says) in [(daemon.address.to_string(), "turned away"), (api, "API: turned away")] {
        let mut stream = TcpStream::connect(port).unwrap();
        assert!(!matches!(stream.read(&mut [0]), Ok(1)));
        daemon.log.until(says, |lines| lines.iter().any(|line| line.contains(says)).then_some(()));
    }
    reload(&home, &daemon, "deny: [127.0.0.1]", "deny: []");
    assert_eq!(told(&daemon, 2, "configuration: taken up").len(), 2);
    assert_eq!(stat(daemon.address)["available"], 6);
}

#[test]
fn systemd_is_told_when_a_reload_begins_and_when_it_is_over() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let next = || {
        let mut message = [0; 4096];
        let length = socket.recv(&mut message).unwrap();
        String::from_utf8(message[..length].to_vec()).unwrap()
    };
    let home = Home::new(dir.path(), "container: {warm: 0}").with_vectors_key().simulated("boot=10ms");
    let daemon = home.env("NOTIFY_SOCKET", path.to_str().unwrap());
    let (home, daemon) = (&daemon, daemon.start());
    assert_eq!(next().trim(), "READY=1");
    for (from, to, status) in [
        ("warm: 0", "warm: 1", "STATUS=Serving"),
        (
            "warm: 1}",
            "warm: 1}\nport_forwarding: {range: 20000-20999}",
            "a restart is needed for port_forwarding.range",
        ),
        ("warm: 1", "warm: -1", "refused at the last reload"),
    ] {
        reload(home, &daemon, from, to);
        let begun = next();
        let time: i128 = begun.split("MONOTONIC_USEC=").nth(1).unwrap().trim().parse().unwrap();
        assert!(begun.starts_with("RELOADING=1") && time > 0, "{begun}");
        let over = next();
        assert!(over.starts_with("READY=1") && over.contains(status), "{over}");
    }
    daemon.stop();
}
