//! What supervisors ask.

use serde_json::Value;
use tempfile::tempdir;

use crate::common::daemon::Home;

#[test]
fn readyz_says_that_it_serves_and_that_it_simulates() {
    let dir = tempdir().unwrap();
    let daemon = Home::new(dir.path(), "").with_vectors_key().simulated("boot=7ms").start();
    let (status, body) = daemon.http("/readyz");
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status, &body["ready"], &body["simulated"]), (200, &true.into(), &true.into()), "{body}");
    assert!(body["hypervisor"].as_str().unwrap().contains("simulation"), "{body}");
    assert_eq!(daemon.http("/healthz"), (200, "ok\n".to_owned()));
    assert_eq!(daemon.http("/other").0, 404);
    assert!(daemon.log.so_far().iter().any(|line| line.contains("SIMULATION") && line.contains("WARN")));
}
