//! The records themselves: what is noted behind a client's back, and what comes of a store that is lost.

use std::fs;

use serde_json::Value;
use tempfile::tempdir;

use crate::common::ask::{create, grant};
use crate::common::daemon::{Home, finish, program, stderr, stdout};
use crate::common::until;

#[test]
fn that_an_answer_arrived_is_noted_beside_its_claim() {
    let dir = tempdir().unwrap();
    let home = Home::new(dir.path(), "").with_vectors_key().simulated("boot=10ms");
    let daemon = home.start();
    let granted = grant(&create(daemon.address));
    let noted = || {
        let listed = finish(program(["get", "claims", "-o", "json", "--config"]).arg(&home.config));
        let listed: Value = serde_json::from_str(&stdout(&listed)).unwrap();
        let claim = &listed["items"][0]["status"];
        assert_eq!(claim["container"], granted.uuid.as_str(), "{listed}");
        claim["deliveredAt"].as_str().map(|at| at.parse::<jiff::Timestamp>().unwrap())
    };
    until("the delivery", noted);
    daemon.stop();
}

#[test]
fn a_daemon_whose_store_is_gone_does_not_start_and_ends_no_machine() {
    let dir = tempdir().unwrap();
    let home = Home::new(dir.path(), "").with_vectors_key().simulated("boot=10ms");
    home.start().stop();
    let state = home.simulated_state();
    let (store, instance) = (state.join("store"), state.join("instance"));
    let written = fs::read_to_string(&instance).unwrap();
    fs::rename(&store, dir.path().join("lost")).unwrap();
    // What it would sweep away it never sees: it says so before there is a hypervisor.
    for _ in 0..2 {
        let error = home.refused();
        assert!(error.contains(written.trim()) && error.contains("anweddol store rebuild"), "{error}");
        assert!(error.contains(instance.to_str().unwrap()), "{error}");
    }
    fs::remove_dir_all(&store).unwrap();
    fs::rename(dir.path().join("lost"), &store).unwrap();
    // The store knows better than a file that was lost, or is another one's.
    for wrong in [None, Some("00000000-0000-4000-8000-000000000001\n")] {
        match wrong {
            None => fs::remove_file(&instance).unwrap(),
            Some(other) => fs::write(&instance, other).unwrap(),
        }
        home.start().stop();
        assert_eq!(fs::read_to_string(&instance).unwrap(), written);
    }
}

#[test]
fn a_store_that_a_daemon_holds_is_not_rebuilt() {
    let dir = tempdir().unwrap();
    let home = Home::new(dir.path(), "").with_vectors_key().simulated("boot=10ms");
    let daemon = home.start();
    let state = home.simulated_state();
    let rebuild = finish(program(["store", "rebuild", "--config"]).arg(&home.config).arg("--state").arg(&state));
    assert_eq!(rebuild.status.code(), Some(1), "{}", stderr(&rebuild));
    let held = format!("held by process {}", daemon.pid());
    assert!(stderr(&rebuild).contains(&held), "{}", stderr(&rebuild));
    daemon.stop();
}
