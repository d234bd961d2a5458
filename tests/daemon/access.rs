//! Access tokens, from the command that makes one to the clients that show it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use anweddol::wire::{CREATE, Generation, Request, Response, STAT};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use tempfile::{TempDir, tempdir};

use crate::common::ask::{ask, ask_many, destroy, grant};
use crate::common::daemon::{Daemon, Home, finish, program, stderr, stdout};
use crate::secrets::files_with;

/// A daemon, whoever runs it, and one of its users.
struct Setting {
    dir: TempDir,
    home: Home,
    user: TempDir,
}

impl Setting {
    fn new(config: &str) -> Setting {
        let dir = tempdir().unwrap();
        let home =
            Home::new(dir.path(), config).with_vectors_key().simulated("boot=10ms").env("RUST_LOG", "anweddol=trace");
        Setting { dir, home, user: tempdir().unwrap() }
    }

    fn admin(&self, args: &[&str]) -> Output {
        finish(program(["access-token"]).args(args).arg("--state").arg(&self.home.state))
    }

    /// A command of the administrator's that has to succeed: its output.
    fn done(&self, args: &[&str]) -> String {
        let output = self.admin(args);
        assert_eq!(output.status.code(), Some(0), "{args:?}: {}", stderr(&output));
        stdout(&output)
    }

    /// Makes a token.
    fn add(&self, args: &[&str]) -> String {
        let text = self.done(&[&["add"], args].concat());
        assert_eq!(text.trim_end().len(), 124, "{text}");
        text.trim_end().to_owned()
    }

    /// A token in a file.
    fn file(&self, token: &str) -> PathBuf {
        let path = self.dir.path().join("token");
        fs::write(&path, format!("{token}\n")).unwrap();
        path
    }

    fn user(&self, daemon: &Daemon, args: &[&str], token: &str) -> Output {
        let mut command = program(args);
        command.env("XDG_DATA_HOME", self.user.path()).env("ANWEDDOL_SERVER", daemon.address.to_string());
        finish(command.env("ANWEDDOL_ACCESS_TOKEN", token))
    }
}

fn asked(daemon: &Daemon, generation: Generation, request: &Request) -> Response {
    ask(daemon.address, generation, request)
}

fn with(verb: &str, token: &str) -> Request {
    Request::new(verb, Map::from_iter([("access_token".to_owned(), token.into())]))
}

const REQUIRED: &str = "access: {required: true}";
const MISSING: &str = "Bad request (Access token is required)";
const INVALID: &str = "Bad authentication (Invalid access token)";

#[test]
fn where_a_token_is_required_a_machines_whole_life_takes_one() {
    let setting = Setting::new(REQUIRED);
    let daemon = setting.home.start();
    daemon.log.until("a warning that nobody is served", |lines| {
        lines.iter().any(|line| line.contains("nobody is served")).then_some(())
    });
    let text = setting.add(&["--name", "anna"]);
    let file = setting.file(&text);
    let user = |args: &[&str]| setting.user(&daemon, args, "");
    let refused = |args: &[&str], says: &str| {
        let output = user(args);
        assert_eq!(output.status.code(), Some(3), "{args:?}: {}", stdout(&output));
        assert!(stderr(&output).contains(says), "{args:?}: {}", stderr(&output));
    };
    refused(&["create"], MISSING);
    refused(&["create", "--generation", "1"], MISSING);
    refused(&["stat"], MISSING);
    let file = file.to_str().unwrap();
    for args in [
        &["create", "--ttl", "1h", "--access-token", file][..],
        &["stat", "--generation", "1", "--access-token", file],
        // What it was made with is remembered.
        &["extend", "--ttl", "2h"],
    ] {
        let output = user(args);
        assert_eq!(output.status.code(), Some(0), "{args:?}: {}", stderr(&output));
    }
    // A token that is not good says nothing of the machine: its login stays.
    let wrong = setting.user(&daemon, &["destroy"], &"x".repeat(124));
    assert_eq!(wrong.status.code(), Some(3));
    assert!(stderr(&wrong).contains(INVALID) && !stderr(&wrong).contains("removed"), "{}", stderr(&wrong));
    let claims = stdout(&finish(program(["get", "claims", "-o", "json"]).arg("--state").arg(&setting.home.state)));
    assert!(claims.contains("access token 'anna'"), "{claims}");
    let destroyed = user(&["destroy"]);
    assert!(stdout(&destroyed).starts_with("destroyed "), "{}", stderr(&destroyed));
    // From the environment.
    assert_eq!(setting.user(&daemon, &["stat"], &text).status.code(), Some(0));
}

#[test]
fn a_token_is_in_no_list_no_log_and_no_file_and_is_good_after_kill_9() {
    let setting = Setting::new(REQUIRED);
    let daemon = setting.home.start();
    let (good, gone) = (setting.add(&["--name", "anna", "--max-containers", "2"]), setting.add(&["--name", "bert"]));
    let machine = grant(&asked(&daemon, Generation::Second, &with(CREATE, &good)));
    asked(&daemon, Generation::First, &with(STAT, &gone));
    let lists = [setting.done(&["list"]), setting.done(&["list", "-o", "json"])];
    assert!(lists[0].contains("anna") && lists[0].contains("1/2"), "{}", lists[0]);
    setting.done(&["delete", "bert"]);
    assert_eq!(asked(&daemon, Generation::Second, &with(STAT, &gone)).message, INVALID);
    let log = daemon.kill().join("\n");
    assert!(log.contains("\"DEBUG\"") && log.contains("\"access_token\":\"anna\""), "{log}");

    let daemon = setting.home.start();
    assert!(asked(&daemon, Generation::Second, &with(STAT, &good)).success);
    assert_eq!(asked(&daemon, Generation::Second, &with(STAT, &gone)).message, INVALID);
    let said = destroy(daemon.address, &machine);
    assert_eq!(said.message, MISSING);
    let log = format!("{log}{}", daemon.stop().join("\n"));
    // What is looked for can be found.
    assert!(!files_with(&setting.home.state, "access-tokens/anna").is_empty());
    for token in [&good, &gone] {
        for part in [&token[..24], &token[50..74]] {
            assert_eq!(files_with(&setting.home.state, part), [""; 0]);
            assert!(!log.contains(part) && lists.iter().all(|list| !list.contains(part)), "a token is told");
        }
    }
    carried_over(&setting, &good);
}

#[test]
fn a_token_that_the_python_server_made_stays_good() {
    let setting = Setting::new(REQUIRED);
    let daemon = setting.home.start();
    let text = "aZ09-_".repeat(21)[..124].to_owned();
    let sha256: String = Sha256::digest(&text).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(asked(&daemon, Generation::Second, &with(STAT, &text)).message, INVALID);
    assert_eq!(setting.done(&["add", "--name", "anna", "--sha256", &sha256]), "accesstoken/anna taken over\n");
    assert!(asked(&daemon, Generation::First, &with(STAT, &text)).success);
}

/// `anweddol store` knows such records.
fn carried_over(setting: &Setting, good: &str) {
    let state = setting.home.simulated_state();
    let store = |args: &[&str]| {
        let output = finish(program(["store"]).args(args).arg("--state").arg(&state));
        assert_eq!(output.status.code(), Some(0), "{args:?}: {}{}", stdout(&output), stderr(&output));
    };
    let backup = setting.dir.path().join("backup.jsonl");
    let backup = backup.to_str().unwrap();
    store(&["check"]);
    store(&["export", backup]);
    fs::remove_dir_all(state.join("store")).unwrap();
    store(&["import", backup]);
    store(&["check"]);
    let daemon = setting.home.start();
    assert!(asked(&daemon, Generation::Second, &with(STAT, good)).success);
}

#[test]
fn a_disabled_token_is_refused_at_once_and_its_machines_live_on() {
    let setting = Setting::new("");
    let daemon = setting.home.start();
    let text = setting.add(&["--name", "anna", "--expires", "30d", "--disabled"]);
    let stat = || asked(&daemon, Generation::Second, &with(STAT, &text));
    assert_eq!(stat().message, INVALID);
    setting.done(&["enable", "anna"]);
    assert!(stat().success);
    let machine = grant(&asked(&daemon, Generation::Second, &with(CREATE, &text)));
    setting.done(&["disable", "anna"]);
    let unknown = asked(&daemon, Generation::Second, &with(STAT, &"x".repeat(124)));
    assert_eq!((stat().message.as_str(), stat()), (INVALID, unknown));
    let listed: Value = serde_json::from_str(&setting.done(&["list", "-o", "json"])).unwrap();
    assert_eq!((&listed[0]["spec"]["enabled"], &listed[0]["status"]["containers"]), (&json!(false), &json!(1)));
    // None is required here: whoever has the machine's own token gives it back.
    assert_eq!(asked(&daemon, Generation::Second, &Request::bare(STAT)).data["available"], 5);
    assert!(destroy(daemon.address, &machine).success);
    let shapeless = asked(&daemon, Generation::Second, &with(STAT, "short"));
    assert_eq!(shapeless.message, "Bad request");
}

#[test]
fn a_quota_of_containers_is_exact_under_parallel_requests() {
    let setting = Setting::new("container: {max_allowed_running_containers: 12, warm: 4}");
    let daemon = setting.home.start();
    // Members that wait and machines that are made.
    daemon.log.events("READY_CONTAINER", 4);
    let text = setting.add(&["--name", "anna", "--max-containers", "6"]);
    let create = || ask_many(daemon.address, &with(CREATE, &text), 20, 20);
    let is_used = |answer: &&Response| answer.message.starts_with("Refused request (6 containers at once");
    let answers = create();
    let machines: Vec<_> = answers.iter().filter(|answer| answer.success).map(grant).collect();
    assert_eq!((machines.len(), answers.iter().filter(is_used).count()), (6, 14), "{answers:?}");
    assert!(destroy(daemon.address, &machines[0]).success);
    let answers = create();
    assert_eq!(
        (answers.iter().filter(|answer| answer.success).count(), answers.iter().filter(is_used).count()),
        (1, 19)
    );
    // Nobody else's are counted.
    let bert = setting.add(&["--max-containers", "1"]);
    grant(&asked(&daemon, Generation::Second, &with(CREATE, &bert)));
    grant(&asked(&daemon, Generation::Second, &Request::bare(CREATE)));
}

#[test]
fn a_token_that_asks_too_often_is_told_to_wait() {
    let setting = Setting::new("");
    let daemon = setting.home.start();
    let text = setting.add(&["--rate", "5/min"]);
    let answers = ask_many(daemon.address, &with(STAT, &text), 20, 20);
    let refused = answers.iter().filter(|answer| answer.message.starts_with("Refused request (5 requests a minute"));
    let (refused, served) = (refused.count(), answers.iter().filter(|answer| answer.success).count());
    // One more for each twelve seconds that this took.
    assert!(served >= 5 && refused >= 1 && served + refused == 20, "{served} were served, {refused} refused");
}

#[test]
fn wrong_commands_say_what_would_be_right() {
    let setting = Setting::new("");
    let _daemon = setting.home.start();
    setting.add(&["--name", "anna"]);
    for (args, code, says) in [
        (&["add", "--name", "anna"][..], 3, "there is an access token 'anna' already"),
        (&["add", "--name", "A b"], 2, "--name"),
        (&["add", "--rate", "0/min"], 2, "30/min"),
        (&["add", "--expires", "soon"], 2, "30m"),
        (&["add", "--sha256", "abc"], 3, "64 digits"),
        (&["delete", "bert"], 3, "there is no access token 'bert'"),
        (&["enable", "bert"], 3, "there is no access token 'bert'"),
    ] {
        let output = setting.admin(args);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(says), "{args:?}: {}", stderr(&output));
    }
    let in_clear = setting.add(&[]);
    let output = finish(&mut program(["stat", "--access-token", &in_clear]));
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("into a file") && !stderr(&output).contains(&in_clear), "{}", stderr(&output));
    assert!(!Path::new(&in_clear).exists());
}
