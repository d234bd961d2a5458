//! The host's libvirtd goes away and comes back, and machines, their sessions and the daemon go on. In the lab with a
//! libvirtd; embedded mode has none. One that hangs is in the suite `libvirt`.

use std::fs;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::common::ask::{create, destroy, grant, runtime, until_available};
use crate::common::daemon::Daemon;
use crate::common::{libvirtd, until};
use crate::faults::{condition, waiting};
use crate::host::{Host, Mode, execute, is_a_machine_of_its_user, log_in};
use crate::user::{LISTEN, User};

/// The lab's libvirtd runs again when this is dropped: other tests need it.
struct Running;

impl Drop for Running {
    fn drop(&mut self) {
        if !libvirtd::runs() {
            libvirtd::start();
        }
    }
}

/// Readiness, and what is in its way.
fn until_ready(daemon: &Daemon, ready: bool) {
    until(&format!("ready: {ready}"), || {
        let (status, body) = daemon.http("/readyz");
        let body: Value = serde_json::from_str(&body).unwrap();
        let reason = if ready { Value::Null } else { "HypervisorUnreachable".into() };
        (status == if ready { 200 } else { 503 } && body["ready"] == ready && body["reason"] == reason).then_some(())
    });
}

fn until_seen(user: &User, uuid: &str, seen: &str) {
    until(&format!("Seen={seen}"), || (condition(user, uuid, "Seen").as_deref() == Some(seen)).then_some(()));
}

fn version(user: &User, uuid: &str) -> Value {
    user.object("container", uuid).unwrap()["metadata"]["resourceVersion"].clone()
}

fn kill_qemu(host: &Host, uuid: &str) {
    kill_process(Pid::from_raw(host.machine(uuid).expect("its QEMU")).unwrap(), Signal::KILL).unwrap();
}

#[test]
#[ignore = "needs qemu and libvirtd: run through tests/lab/run.sh"]
fn libvirtd_goes_away_and_comes_back_and_nothing_is_lost_but_what_died() {
    let host = Host::lab();
    assert_eq!(host.mode, Mode::System, "embedded mode has no libvirtd");
    let _running = Running;
    let manifests = host.dir.join("libvirtd");
    fs::create_dir(&manifests).unwrap();
    fs::write(manifests.join("waiting.yaml"), waiting(&host, 2, 2)).unwrap();
    let home = host.home("", "").arg(LISTEN).arg(format!("--manifests={}", manifests.display()));
    let daemon = home.start();
    let (address, user) = (daemon.address, User::of(&host, &home));
    daemon.log.events("READY_CONTAINER", 2);
    let warm = || user.create(&["--pool", "waiting"]);
    let dies = warm();
    let runtime = runtime();

    // Stopped in order. It is told once, and a machine that waits is given away all the same.
    libvirtd::end(Signal::TERM);
    until_ready(&daemon, false);
    until_seen(&user, &dies.uuid, "False");
    let told = version(&user, &dies.uuid);
    let mine = warm();
    let mut session = runtime.block_on(log_in(&mine));
    until_seen(&user, &mine.uuid, "False");
    // No machine waits for this one: it waits for libvirt.
    let cold = std::thread::spawn(move || create(address));
    // Nobody tells of this one's end.
    kill_qemu(&host, &dies.uuid);
    assert_eq!(runtime.block_on(execute(&mut session, "echo while")), "while\n");
    assert_eq!(version(&user, &dies.uuid), told, "more than one change tells of it");
    libvirtd::start();
    until_ready(&daemon, true);
    daemon.log.event_about("DESTROYED_CONTAINER", &dies.uuid);
    host.until_gone(&dies);
    until_seen(&user, &mine.uuid, "True");
    let cold = grant(&cold.join().unwrap());
    assert_eq!(runtime.block_on(execute(&mut session, "echo after")), "after\n");

    // Killed in the middle of work: a start, an end and a death.
    let ending = cold.clone();
    let ends = std::thread::spawn(move || destroy(address, &ending));
    let starts = std::thread::spawn(move || create(address));
    daemon.log.until("a start", |lines| {
        let started = lines.iter().filter(|line| line.contains("CREATED_CONTAINER")).count();
        (started >= 4).then_some(())
    });
    libvirtd::end(Signal::KILL);
    libvirtd::start();
    let started = grant(&starts.join().unwrap());
    assert_eq!(ends.join().unwrap().message, "OK");
    host.until_gone(&cold);
    is_a_machine_of_its_user(&started);
    // The new connection has its callbacks again.
    kill_qemu(&host, &started.uuid);
    daemon.log.event_about("DESTROYED_CONTAINER", &started.uuid);
    host.until_gone(&started);

    assert_eq!(runtime.block_on(execute(&mut session, "echo still")), "still\n");
    assert_eq!(destroy(address, &mine).message, "OK");
    host.until_gone(&mine);
    until_available(address, 6);
    let lines = daemon.stop();
    assert!(!lines.iter().any(|line| line.contains("panicked")), "{}", lines.join("\n"));
}
