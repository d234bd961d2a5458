//! What the daemon does when its store cannot be opened, and when it fails under it.

use anweddol::model::Phase;
use anweddol::store::{self, records};
use anweddol::wire::{CREATE, Generation, Request};
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use tempfile::tempdir;

use crate::common::ask;
use crate::common::daemon::Home;

#[test]
fn a_second_daemon_on_one_state_directory_says_who_holds_it() {
    let dir = tempdir().unwrap();
    let home = Home::new(dir.path(), "").with_vectors_key().simulated("");
    let first = home.start();
    let text = home.refused();
    let holder = format!("is held by process {}:", first.pid());
    assert!(text.contains(&holder) && text.contains("stop that daemon"), "{text}");
    assert_eq!(first.http("/readyz").0, 200, "the first one was disturbed");
}

#[test]
fn a_store_that_fails_ends_the_daemon_with_an_error_and_the_next_start_goes_on() {
    let dir = tempdir().unwrap();
    let home = Home::new(dir.path(), "container: {warm: 1}").with_vectors_key().simulated("boot=1ms").limited();
    let daemon = home.start();
    let granted = ask::grant(&ask::create(daemon.address));

    // From now on no file of it can be written to.
    let none = Rlimit { current: Some(0), maximum: None };
    prlimit(Pid::from_raw(i32::try_from(daemon.pid()).unwrap()), Resource::Fsize, none).unwrap();
    let lost = ask::try_ask(daemon.address, Generation::Second, &Request::bare(CREATE));
    assert!(lost.as_ref().is_ok_and(|answer| !answer.success) || lost.is_err(), "granted what was not recorded");
    let (status, lines) = daemon.ended();
    assert_eq!(status.code(), Some(1), "{}", lines.join("\n"));
    let last = lines.iter().rfind(|line| line.starts_with("error: ")).unwrap();
    assert!(last.contains("the store failed") && last.contains("File too large"), "{last}");
    assert!(last.contains("machines run on"), "{last}");

    let store = store::open(&home.simulated_state().join("store"), store::Options::default()).unwrap();
    let kept = records::container(&*store, granted.uuid.parse().unwrap()).unwrap().unwrap();
    assert_eq!(kept.object.status.phase, Phase::Bound, "what was told is lost");
    drop(store);
    assert!(ask::create(home.start().address).success);
}
