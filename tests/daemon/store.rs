//! What the daemon does when its store cannot be opened, and when it fails under it.

use std::fs::{self, File};
use std::path::Path;
use std::process::Output;

use anweddol::model::Phase;
use anweddol::store::{self, Store, Txn, records};
use anweddol::wire::{CREATE, Generation, Request};
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use serde_json::Value;
use tempfile::tempdir;

use crate::common::ask;
use crate::common::daemon::{Home, finish, program, stderr, stdout};

/// `anweddol store` on the records of a daemon that simulates.
fn store_command(home: &Home, args: &[&str]) -> Output {
    finish(program(["store"]).args(args).arg("--state").arg(home.simulated_state()))
}

fn lines(file: &Path) -> Vec<String> {
    fs::read_to_string(file).unwrap().lines().map(str::to_owned).collect()
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

#[test]
fn a_damaged_store_is_refused_checked_saved_and_replaced() {
    let dir = tempdir().unwrap();
    let home = Home::new(dir.path(), "container: {warm: 1}").with_vectors_key().simulated("boot=1ms");
    let daemon = home.start();
    let granted = ask::grant(&ask::create(daemon.address));
    let text = stderr(&store_command(&home, &["check"]));
    assert!(text.contains(&format!("held by process {}", daemon.pid())), "{text}");
    daemon.stop();

    let check = store_command(&home, &["check"]);
    assert!(check.status.success() && stderr(&check).starts_with("good: ") && stdout(&check).is_empty());
    let (whole, again) = (dir.path().join("whole"), dir.path().join("again"));
    assert!(store_command(&home, &["export", &whole.to_string_lossy()]).status.success());
    assert!(!fs::read_to_string(&whole).unwrap().contains(&granted.password), "a password in clear");
    let log = home.simulated_state().join("store/data/db");
    let half = fs::metadata(&log).unwrap().len() / 2;
    File::options().write(true).open(&log).unwrap().set_len(half).unwrap();
    // They may hold all that is missing then.
    ["ahead.0", "ahead.1"].iter().for_each(|name| fs::remove_file(log.with_file_name(name)).unwrap());

    let refused = home.refused();
    for says in ["machines are untouched and run on", "is damaged", "'anweddol store check'", "store rebuild"] {
        assert!(refused.contains(says), "{refused}");
    }
    assert_eq!(home.refused(), refused, "sled mended it, and it is taken for whole");
    let check = store_command(&home, &["check", "-o", "json"]);
    assert_eq!(check.status.code(), Some(1));
    let said: Value = serde_json::from_str(&stdout(&check)).unwrap();
    assert_eq!(said["whole"], false);
    assert!(!said["losses"].as_array().unwrap().is_empty(), "{said}");
    let part = dir.path().join("part");
    let saved = store_command(&home, &["export", &part.to_string_lossy()]);
    assert!(saved.status.code() == Some(1) && stderr(&saved).contains("warning: "), "{}", stderr(&saved));

    let whole_name = whole.to_string_lossy().into_owned();
    let there = store_command(&home, &["import", &whole_name]);
    assert!(there.status.code() == Some(1) && stderr(&there).contains("--replace"), "{}", stderr(&there));
    let imported = store_command(&home, &["import", &whole_name, "--replace"]);
    assert!(imported.status.success() && stderr(&imported).contains("kept: "), "{}", stderr(&imported));
    assert!(!stderr(&imported).contains("warning"), "{}", stderr(&imported));
    assert!(stderr(&imported).contains("rebuild --dry-run"), "{}", stderr(&imported));
    let kept = fs::read_dir(home.simulated_state()).unwrap().map(|entry| entry.unwrap().path());
    let kept: Vec<_> = kept.filter(|path| path.to_string_lossy().contains("/store.replaced-2")).collect();
    assert!(kept.len() == 1 && kept[0].join("data/db").exists(), "{kept:?}");
    assert!(store_command(&home, &["export", &again.to_string_lossy()]).status.success());
    let (whole, again) = (lines(&whole), lines(&again));
    assert_eq!(whole[1..whole.len() - 1], again[1..again.len() - 1], "other records than before");
    assert!(ask::stat(home.start().address).contains_key("available"));
}

#[test]
fn records_that_do_not_agree_are_told_with_what_would_be_right() {
    let dir = tempdir().unwrap();
    let home = Home::new(dir.path(), "").with_vectors_key().simulated("boot=1ms");
    let daemon = home.start();
    let granted = ask::grant(&ask::create(daemon.address));
    daemon.stop();
    let path = home.simulated_state().join("store");
    let port = records::port_key(granted.port);
    let records = store::open(&path, store::Options::default()).unwrap();
    records.txn(Txn::default().delete(&port)).wait().unwrap();
    drop(records);
    let check = store_command(&home, &["check"]);
    let (said, sum) = (stdout(&check), stderr(&check));
    assert!(check.status.code() == Some(1) && sum.starts_with("not good: 1 of "), "{sum}");
    assert!(said.contains("which is not held") && said.contains(&format!("right would be {port}")), "{said}");
}

#[test]
fn a_document_that_was_changed_or_is_none_puts_nothing_in_place() {
    let dir = tempdir().unwrap();
    let home = Home::new(dir.path(), "").with_vectors_key().simulated("");
    home.start().stop();
    let good = String::from_utf8(store_command(&home, &["export"]).stdout).unwrap();
    let file = dir.path().join("document");
    let fresh = Home::new(&dir.path().join("fresh"), "").simulated("");
    let half = &good[..good.len() / 2];
    for text in ["", "{}\n", half, &good.replacen("\"losses\":[]", "\"losses\":[\"\"]", 1)] {
        fs::write(&file, text).unwrap();
        let output = store_command(&fresh, &["import", &file.to_string_lossy()]);
        assert!(
            output.status.code() == Some(1) && stderr(&output).contains("no whole document"),
            "{}",
            stderr(&output)
        );
    }
    assert!(!fresh.simulated_state().exists());
    assert!(stderr(&store_command(&fresh, &["check"])).contains("there is no store in"));
    fs::write(&file, good).unwrap();
    let output = store_command(&fresh, &["import", &file.to_string_lossy()]);
    assert!(output.status.success() && stderr(&output).contains("seal.key"), "{}", stderr(&output));
    assert!(store_command(&fresh, &["check"]).status.success());
}
