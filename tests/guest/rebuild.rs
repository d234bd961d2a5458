//! Machines outlive the records.

use std::fs;
use std::os::unix::fs::FileExt;

use serde_json::Value;

use crate::common::ask::{Grant, runtime, stat, until_available};
use crate::common::daemon::{Daemon, Home, finish, program, stderr, stdout};
use crate::common::until;
use crate::host::{Host, execute, is_a_machine_of_its_user, log_in};
use crate::user::{LISTEN, User};

/// `anweddol store rebuild`, which has to succeed: what it said.
fn rebuild(home: &Home, args: &[&str]) -> Value {
    let mut command = program(["store", "rebuild", "-o", "json", "--config"]);
    let output = finish(command.arg(&home.config).args(args));
    assert!(output.status.success(), "{}", stderr(&output));
    serde_json::from_str(&stdout(&output)).unwrap()
}

/// Kills the daemon once the machine's domain bears this deadline: it is written there after the client was answered.
fn kill_when_it_bears(home: &Home, daemon: Daemon, granted: &Grant, expires_at: &Value) {
    let mut running = Some(daemon);
    until("what its domain bears", || {
        running.take().unwrap_or_else(|| home.start()).kill();
        let found = rebuild(home, &["--dry-run"]);
        let machine = found["machines"].as_array().unwrap().iter().find(|m| m["uid"] == granted.uuid.as_str()).cloned();
        machine.filter(|machine| whole_seconds(&machine["expiresAt"]) == whole_seconds(expires_at)).map(|_| ())
    });
}

fn whole_seconds(time: &Value) -> i64 {
    time.as_str().unwrap().parse::<jiff::Timestamp>().unwrap().as_second()
}

#[test]
#[ignore = "needs qemu: run through tests/lab/run.sh"]
fn a_session_outlives_the_store_and_its_client_still_extends_and_ends_its_machine() {
    let host = Host::lab();
    let home = host.home("ttl: 1800, max_ttl: 7200", "").arg(LISTEN);
    let daemon = home.start();
    let user = User::of(&host, &home);
    let granted = user.create(&[]);
    let expires_at = user.extend(&granted, "1h");
    let claim = user.told(&["get", "claims"])["items"][0]["metadata"]["name"].as_str().unwrap().to_owned();
    let store = home.state.join("store");
    let daemon = runtime().block_on(async {
        let mut session = log_in(&granted).await;
        assert_eq!(execute(&mut session, "echo before").await, "before\n");
        let (home, granted) = (&home, &granted);
        let damage = || {
            kill_when_it_bears(home, daemon, granted, &expires_at);
            let log = fs::File::options().write(true).open(store.join("data/db")).unwrap();
            log.write_all_at(&[0xa5; 4096], 0).unwrap();
            // It does not begin with an empty one: it would end the machine.
            let refused = home.refused();
            assert!(refused.contains("damaged"), "{refused}");
        };
        tokio::task::block_in_place(damage);
        assert_eq!(execute(&mut session, "echo while").await, "while\n");
        let report = tokio::task::block_in_place(|| rebuild(home, &[]));
        assert_eq!(report["machines"][0]["claim"], claim.as_str(), "{report}");
        assert_eq!(report["leftOut"].as_array().unwrap().len(), 0, "{report}");
        assert!(fs::exists(report["aside"].as_str().unwrap()).unwrap(), "{report}");
        let daemon = tokio::task::block_in_place(|| home.start());
        daemon.log.event_about("ADOPTED", &granted.uuid);
        assert_eq!(execute(&mut session, "echo after").await, "after\n");
        session.close().await;
        daemon
    });
    is_a_machine_of_its_user(&granted);
    assert_eq!(stat(daemon.address)["available"], 5);
    let kept = user.until_phase("claim", &claim, "Bound");
    assert_eq!(whole_seconds(&kept["status"]["expiresAt"]), whole_seconds(&expires_at));
    assert!(kept["status"]["deliveredAt"].is_string(), "{kept}");
    assert_ne!(user.extend(&granted, "90m"), expires_at);
    user.good(&["destroy", &granted.uuid]);
    until_available(daemon.address, 6);
    host.until_gone(&granted);
    let lines = daemon.stop();
    assert!(!lines.iter().any(|line| line.contains("panicked")), "{}", lines.join("\n"));
}
