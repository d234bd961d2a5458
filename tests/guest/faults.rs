//! Machines that go away, or seem to: by themselves, from outside, and in part. One daemon sees all of it, since emulated
//! guests take their time to boot.

use std::fs;
use std::time::Duration;

use anweddol::guest::ssh::EndpointShell;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::common::ask::{Grant, create, create_parallel, destroy, grant, runtime, until_available};
use crate::common::daemon::{Daemon, finish, program, stdout};
use crate::common::until;
use crate::host::{Host, Mode, at, execute, is_a_machine_of_its_user, log_in, run};
use crate::user::{LISTEN, User};

/// A pool of so many that wait for a client, and at most so many in all. Who waits is asked often, but as patiently as a
/// guest needs that is emulated on a busy host.
pub(crate) fn waiting(host: &Host, replicas: u32, most: u32) -> String {
    format!(
        "apiVersion: anweddol.io/v1alpha1\nkind: ContainerPool\nmetadata: {{name: waiting}}\nspec:\n  replicas: {replicas}\n  \
         maxContainers: {most}\n  template: {{image: {}, memory: 256Mi, readinessProbe: {{periodSeconds: 5, timeoutSeconds: 5}}}}\n",
        host.kernel()
    )
}

/// The members that wait for a client.
fn members(user: &User) -> Vec<String> {
    let listed = user.told(&["get", "containers"]);
    let waits = |c: &&Value| c["status"]["phase"] == "Ready" && c["status"]["pool"] == "waiting";
    let name = |c: &Value| c["metadata"]["name"].as_str().unwrap().to_owned();
    listed["items"].as_array().unwrap().iter().filter(waits).map(name).collect()
}

pub(crate) fn virsh(args: &[&str]) -> String {
    run("virsh", &[&["-q", "-c", "qemu:///system"], args].concat())
}

pub(crate) fn domain(uuid: &str) -> String {
    format!("anweddol-{uuid}")
}

/// A container's condition, if it has it.
pub(crate) fn condition(user: &User, uuid: &str, kind: &str) -> Option<String> {
    let container = user.object("container", uuid)?;
    let found = container["status"]["conditions"].as_array()?.iter().find(|c| c["type"] == kind)?.clone();
    Some(found["status"].as_str()?.to_owned())
}

/// Cuts the way to a machine; its domain runs on.
fn cut(host: &Host, user: &User, uuid: &str) {
    let status = user.object("container", uuid).unwrap()["status"].clone();
    match host.mode {
        // QEMU's own network has no wire to pull: what leads to it is cut.
        Mode::Embedded => {
            run("nft", &["add table ip cut"]);
            run("nft", &["add chain ip cut way { type filter hook input priority 0; }"]);
            run("nft", &[&format!("add rule ip cut way tcp dport {} drop", status["port"])]);
        }
        Mode::System => {
            virsh(&["domif-setlink", &domain(uuid), status["mac"].as_str().unwrap(), "down"]);
        }
    }
}

/// Has a guest do what it does not live to answer for. One that is emulated on a busy host may take the command and not
/// get to it while somebody waits; then it is told again.
fn ends_by(host: &Host, granted: &Grant, command: &str) {
    while host.machine(&granted.uuid).is_some() {
        runtime().block_on(async {
            let password = granted.password.clone().into();
            let login = EndpointShell::connect_as(at(granted), &granted.username, &password, Duration::from_secs(10));
            if let Ok(mut session) = login.await {
                session.execute(command, Duration::from_secs(5)).await.ok();
            }
        });
    }
}

/// Its claim is lost, nothing is left of it, and its token is worth nothing.
fn is_lost(host: &Host, daemon: &Daemon, granted: &Grant) {
    let ended = daemon.log.event_about("DESTROYED_CONTAINER", &granted.uuid);
    assert_eq!(ended.details["reason"], "DomainGone", "{ended:?}");
    daemon.log.event_about("LOST_CLAIM", &granted.uuid);
    daemon.log.event_about("FORWARD_REMOVED", &granted.uuid);
    host.until_gone(granted);
    assert_eq!(destroy(daemon.address, granted).message, "Bad authentication");
}

fn signal_qemu(host: &Host, uuid: &str, signal: Signal) {
    kill_process(Pid::from_raw(host.machine(uuid).expect("its QEMU")).unwrap(), signal).unwrap();
}

/// It stays its user's, who is told; then it goes on, in the same session.
fn a_pause_is_told_and_ends(daemon: &Daemon, user: &User, used: &Grant) {
    let runtime = runtime();
    let mut session = runtime.block_on(log_in(used));
    virsh(&["suspend", &domain(&used.uuid)]);
    daemon.log.event_about("PAUSED_CONTAINER", &used.uuid);
    let condition = |kind: &str| condition(user, &used.uuid, kind);
    assert_eq!((condition("Paused").as_deref(), condition("Ready").as_deref()), (Some("True"), Some("False")));
    virsh(&["resume", &domain(&used.uuid)]);
    daemon.log.event_about("RESUMED_CONTAINER", &used.uuid);
    assert_eq!((condition("Paused").as_deref(), condition("Ready").as_deref()), (Some("False"), Some("True")));
    assert_eq!(runtime.block_on(execute(&mut session, "echo here")), "here\n");
}

/// Made permanent from outside, a domain would come back for ever.
fn a_permanent_one_leaves_no_definition(host: &Host, used: &Grant) {
    let file = host.dir.join("permanent.xml");
    fs::write(&file, virsh(&["dumpxml", &domain(&used.uuid)])).unwrap();
    virsh(&["define", file.to_str().unwrap()]);
    assert!(virsh(&["list", "--persistent", "--name"]).contains(&used.uuid));
    virsh(&["destroy", &domain(&used.uuid)]);
}

#[test]
#[ignore = "needs qemu: run through tests/lab/run.sh"]
fn however_a_machine_goes_away_its_container_ends_and_one_that_cannot_be_given_away_is_replaced() {
    let host = Host::lab();
    let manifests = host.dir.join("faults");
    fs::create_dir(&manifests).unwrap();
    // In embedded mode nobody but the daemon can pause a machine.
    let count = match host.mode {
        Mode::Embedded => 1,
        Mode::System => 2,
    };
    fs::write(manifests.join("waiting.yaml"), waiting(&host, count, 2 * count)).unwrap();
    let home = host.home("", "").arg(LISTEN).arg(format!("--manifests={}", manifests.display()));
    let daemon = home.start();
    let user = User::of(&host, &home);
    let count = count as usize;
    let before = until("members", || Some(members(&user)).filter(|there| there.len() == count));

    // Found by its probes, while other things happen.
    cut(&host, &user, &before[0]);
    if host.mode == Mode::System {
        virsh(&["suspend", &domain(&before[1])]);
        let ended = daemon.log.event_about("DESTROYED_CONTAINER", &before[1]);
        assert_eq!(ended.details["reason"], "Paused", "{ended:?}");
    }

    let granted: Vec<_> = create_parallel(daemon.address, 3).iter().map(grant).collect();
    if host.mode == Mode::System {
        a_pause_is_told_and_ends(&daemon, &user, &granted[2]);
        a_permanent_one_leaves_no_definition(&host, &granted[2]);
    } else {
        signal_qemu(&host, &granted[2].uuid, Signal::KILL);
    }
    ends_by(&host, &granted[0], "echo c | sudo -n tee /proc/sysrq-trigger");
    ends_by(&host, &granted[1], "sudo -n reboot -f");
    granted.iter().for_each(|granted| is_lost(&host, &daemon, granted));
    until_available(daemon.address, 6);

    // It takes three silences, longer than anything else here.
    let silent = |lines: &[String]| lines.iter().any(|line| line.contains("does not answer its probe")).then_some(());
    daemon.log.until("a silence", silent);
    let ended = daemon.log.event_about("DESTROYED_CONTAINER", &before[0]);
    assert_eq!(ended.details["reason"], "NotAnswering", "{ended:?}");
    until("its successor", || {
        let pool = user.object("pool", "waiting")?;
        (pool["status"]["replicas"] == count && !members(&user).contains(&before[0])).then_some(())
    });
    assert!(before.iter().all(|old| host.machine(old).is_none()));
    daemon.stop();
}

/// A QEMU that is stopped as a process answers neither its guest's user nor its monitor.
#[test]
#[ignore = "needs qemu: run through tests/lab/run.sh"]
fn a_qemu_that_stands_still_costs_its_own_machine_alone_and_can_be_ended() {
    let host = Host::lab();
    let home = host.home("", "");
    let daemon = home.start();
    let stopped = grant(&create(daemon.address));
    signal_qemu(&host, &stopped.uuid, Signal::STOP);
    let other = grant(&create(daemon.address));
    is_a_machine_of_its_user(&other);
    let doctor = finish(program(["doctor", "--only", "records", "--config"]).arg(&home.config));
    match host.mode {
        // Its port is its own to tell of, and the look at all ports ends all the same.
        Mode::Embedded => assert!(stdout(&doctor).contains("did not answer within"), "{}", stdout(&doctor)),
        Mode::System => assert!(doctor.status.success(), "{}", stdout(&doctor)),
    }
    destroy(daemon.address, &stopped);
    daemon.log.event_about("DESTROYED_CONTAINER", &stopped.uuid);
    host.until_gone(&stopped);
    assert_eq!(destroy(daemon.address, &other).message, "OK");
    host.until_gone(&other);
    daemon.stop();
}
