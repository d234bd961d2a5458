//! The command line against a running daemon: what is printed, what is kept, which exit code.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::{TempDir, tempdir};

use crate::common::daemon::{Daemon, Home, finish, program, stderr, stdout};

/// A user with a home of their own.
struct User {
    home: TempDir,
    server: String,
}

impl User {
    fn of(daemon: &Daemon) -> User {
        User { home: tempdir().unwrap(), server: daemon.address.to_string() }
    }

    fn run(&self, args: &[&str]) -> Output {
        let mut command = program(args);
        command.env("XDG_DATA_HOME", self.home.path()).env("ANWEDDOL_SERVER", &self.server);
        finish(&mut command)
    }

    /// Runs a command that has to succeed: its output.
    fn good(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert_eq!(output.status.code(), Some(0), "{args:?}: {}", stderr(&output));
        stdout(&output)
    }

    /// Runs a command that has to fail with this code: what it said.
    fn bad(&self, code: i32, args: &[&str]) -> String {
        let output = self.run(args);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {}{}", stdout(&output), stderr(&output));
        stderr(&output)
    }

    fn json(&self, args: &[&str]) -> Value {
        serde_json::from_str(&self.good(args)).unwrap()
    }

    fn data(&self) -> PathBuf {
        self.home.path().join("anweddol")
    }
}

fn daemon(dir: &Path, config: &str) -> (Home, Daemon) {
    let home = Home::new(dir, config).with_vectors_key().simulated("boot=10ms");
    let daemon = home.start();
    (home, daemon)
}

#[test]
fn a_machine_is_created_listed_and_destroyed_by_the_beginning_of_its_name() {
    let dir = tempdir().unwrap();
    let (_, daemon) = daemon(dir.path(), "");
    let user = User::of(&daemon);
    assert_eq!(user.json(&["list", "-o", "json"]), Value::Array(vec![]));
    let created = user.json(&["create", "-o", "json"]);
    let uuid = created["container_uuid"].as_str().unwrap();
    let listed = user.json(&["list", "-o", "json"]);
    assert_eq!(listed[0]["container_uuid"], uuid);
    assert_eq!(listed[0]["server"], user.server);
    assert_eq!(listed[0]["container_listen_port"], created["container_listen_port"]);
    assert!(!listed.to_string().contains(created["container_password"].as_str().unwrap()), "a list tells no secret");

    let text = user.good(&["create", "--generation", "1"]);
    assert!(text.contains("reach it   ssh -p ") && text.contains("anweddol destroy "), "{text}");
    assert_eq!(user.json(&["stat", "-o", "json"])["available"], 4);
    assert!(user.bad(1, &["destroy"]).contains("2 saved containers match"));
    let destroyed = user.json(&["destroy", &uuid[..8], "-o", "json"]);
    assert_eq!((&destroyed["container_uuid"], &destroyed["destroyed"]), (&uuid.into(), &true.into()));
    assert!(user.good(&["destroy"]).starts_with("destroyed  "));
    assert_eq!(user.json(&["stat", "-o", "json"])["available"], 6);
    assert_eq!(fs::read_dir(user.data().join("containers")).unwrap().count(), 0);
}

#[test]
fn exit_codes_tell_a_failure_from_a_wrong_command_and_from_a_no() {
    let dir = tempdir().unwrap();
    let home = Home::new(dir.path(), "container: {max_allowed_running_containers: 1}").with_vectors_key();
    let daemon = home.simulated("boot=10ms").at("127.0.0.78").start();
    let user = User::of(&daemon);
    assert!(user.bad(2, &["destroy", "--no-such-option"]).contains("--no-such-option"));
    assert!(user.bad(2, &["stat", "--fingerprint", "zz"]).contains("64 hexadecimal digits"));
    assert!(user.bad(2, &["create", "--name", "A b"]).contains("RFC 1123"));
    assert!(user.bad(1, &["destroy"]).contains("anweddol list"));
    user.good(&["create"]);
    assert!(user.bad(3, &["create"]).contains("Unavailable"));
    let refused = user.run(&["create", "-o", "json"]);
    assert_eq!(refused.status.code(), Some(3));
    let told: Value = serde_json::from_slice(&refused.stdout).unwrap();
    assert_eq!((&told["success"], &told["message"]), (&false.into(), &"Unavailable".into()));

    // Destroyed by somebody else who has the token: the server says no, and the login is forgotten.
    let containers = user.data().join("containers");
    let file = fs::read_dir(&containers).unwrap().next().unwrap().unwrap().path();
    let saved = fs::read(&file).unwrap();
    user.good(&["destroy"]);
    fs::write(&file, saved).unwrap();
    assert!(user.bad(3, &["destroy"]).contains("Bad authentication"));
    assert!(!file.exists());

    daemon.stop();
    let text = user.bad(1, &["stat"]);
    assert!(text.contains(&user.server) && text.contains("anweddol serve"), "{text}");
}

#[test]
fn what_a_user_was_granted_only_they_can_read() {
    let dir = tempdir().unwrap();
    let (_, daemon) = daemon(dir.path(), "");
    let user = User::of(&daemon);
    let uuid = user.json(&["create", "-o", "json"])["container_uuid"].as_str().unwrap().to_owned();
    let mode = |path: PathBuf| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(user.data().join(format!("containers/{uuid}.json"))), 0o600);
    assert_eq!(mode(user.data().join("known_servers")), 0o600);
    assert_eq!(mode(user.data()), 0o700);
    assert_eq!(mode(user.data().join("containers")), 0o700);
}

/// What CREATE prints and says to a user who cannot write a byte, as on a full disk, and knows the server.
fn create_on_a_full_disk(daemon: &Daemon) -> (String, String) {
    let user = User::of(daemon);
    fs::create_dir_all(user.data()).unwrap();
    fs::write(user.data().join("known_servers"), format!("{} {}\n", user.server, daemon.fingerprint)).unwrap();
    let mut command = Command::new("bash");
    command.args(["-c", "trap '' XFSZ; ulimit -f 0; exec \"$0\" create"]).arg(program(["create"]).get_program());
    command.env("XDG_DATA_HOME", user.home.path()).env("ANWEDDOL_SERVER", &user.server);
    let output = finish(&mut command);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(fs::read_dir(user.data().join("containers")).unwrap().count(), 0);
    (stdout(&output), stderr(&output))
}

#[test]
fn a_machine_whose_login_cannot_be_kept_is_not_asked_for_or_given_back() {
    let dir = tempdir().unwrap();
    let (_, daemon) = daemon(dir.path(), "");
    let user = User::of(&daemon);
    fs::create_dir_all(user.data()).unwrap();
    fs::write(user.data().join("containers"), "").unwrap();
    assert!(user.bad(1, &["create"]).contains("/anweddol/containers'"));
    let (printed, said) = create_on_a_full_disk(&daemon);
    assert!(printed.is_empty() && said.contains("was given back"), "{printed}{said}");
    daemon.log.events("DESTROYED_CONTAINER", 1);
    assert_eq!(daemon.log.events("CREATED_CONTAINER", 1).len(), 1);
}

#[test]
fn a_machine_that_can_neither_be_kept_nor_given_back_is_told_in_full() {
    let dir = tempdir().unwrap();
    let (_, daemon) = daemon(dir.path(), "rates: {exempt: [], requests_per_minute: 1}");
    let (printed, said) = create_on_a_full_disk(&daemon);
    assert!(said.contains("Too many requests") && said.contains("lives on"), "{said}");
    let told: Value = serde_json::from_str(&printed).unwrap();
    assert!(told["container_password"].is_string() && told["client_token"].is_string(), "{told}");
}

#[test]
fn what_is_to_run_on_a_machine_is_no_option_of_this_hosts_ssh() {
    let dir = tempdir().unwrap();
    let (_, daemon) = daemon(dir.path(), "");
    let user = User::of(&daemon);
    user.good(&["create"]);
    let ran = user.home.path().join("ran");
    let option = format!("-oProxyCommand=touch {}", ran.display());
    // Nobody listens behind a simulated machine's port.
    user.bad(255, &["ssh", "--", &option]);
    assert!(!ran.exists());
}

#[test]
fn a_server_with_another_key_than_before_is_refused() {
    let dir = tempdir().unwrap();
    let home = Home::new(dir.path(), "").with_vectors_key().simulated("boot=10ms").at("127.0.0.77");
    let daemon = home.start();
    let user = User::of(&daemon);
    user.good(&["stat"]);
    let known = daemon.fingerprint.clone();
    let output = finish(program(["fingerprint", "--state"]).arg(&home.state));
    assert_eq!(stdout(&output).trim(), known);
    assert!(user.good(&["stat", "--fingerprint", &known]).contains("available"));
    let other = "0".repeat(64);
    let text = user.bad(1, &["stat", "--fingerprint", &other]);
    assert!(text.contains(&other) && text.contains(&known), "{text}");
    daemon.stop();

    fs::remove_file(home.key()).unwrap();
    let home = home.arg(format!("--listen={}", user.server));
    let daemon = home.start();
    assert_ne!(daemon.fingerprint, known);
    let text = user.bad(1, &["create"]);
    let file = user.data().join("known_servers");
    for word in [user.server.as_str(), &known, &daemon.fingerprint, file.to_str().unwrap()] {
        assert!(text.contains(word), "no '{word}' in: {text}");
    }
    assert_eq!(user.json(&["list", "-o", "json"]), Value::Array(vec![]));
    // The remedy that the text names.
    fs::write(&file, "").unwrap();
    user.good(&["create"]);
}

#[test]
fn logging_in_to_nothing_says_how_to_get_something() {
    let dir = tempdir().unwrap();
    let user = User { home: dir, server: "127.0.0.1:1".into() };
    assert!(user.bad(1, &["ssh"]).contains("no saved machine at all"));
    assert!(user.bad(1, &["ssh", "abc"]).contains("'abc'"));
    assert!(user.bad(1, &["fingerprint", "--state", "/nowhere"]).contains("/nowhere/server.pem"));
}

#[test]
fn the_configuration_that_is_written_is_good_and_all_defaults() {
    let dir = tempdir().unwrap();
    let file = dir.path().join("config.yaml");
    let file = file.to_str().unwrap();
    let user = User { home: tempdir().unwrap(), server: String::new() };
    assert_eq!(finish(&mut program(["config", "init", file])).status.code(), Some(0));
    assert_eq!(finish(&mut program(["config", "check", file])).status.code(), Some(0));
    assert!(user.bad(1, &["config", "init", file]).contains("exists already"));
    assert_eq!(stdout(&finish(&mut program(["config", "init"]))), fs::read_to_string(file).unwrap());
    let good: Value = serde_json::from_str(&user.good(&["config", "check", file, "-o", "json"])).unwrap();
    assert_eq!((&good["good"], &good["problems"]), (&Value::Bool(true), &Value::Array(vec![])));
}

#[test]
fn every_shell_gets_its_completion() {
    for shell in ["bash", "zsh", "fish"] {
        let output = finish(&mut program(["completion", shell]));
        assert!(output.status.success() && stdout(&output).contains("destroy"), "{shell}");
    }
}

#[test]
fn a_machine_has_the_name_and_the_time_its_user_gave_it() {
    let dir = tempdir().unwrap();
    let (_, daemon) = daemon(dir.path(), "container: {max_ttl: 7200}");
    let user = User::of(&daemon);
    let key = user.home.path().join("id.pub");
    let line = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA me@host\n";
    fs::write(&key, line).unwrap();
    let key = key.to_str().unwrap();
    let args = ["create", "--name", "build", "--ttl", "30m", "--ssh-key", key, "--pool", "default"];
    let told = user.good(&args);
    // Some of it may be over by the time it is shown.
    let nearly =
        |text: &str, before: &str| [" 30m", " 29m"].iter().any(|left| text.contains(&format!("{before}{left}")));
    assert!(nearly(&told, "lives     ") && told.contains("anweddol ssh build "), "{told}");
    assert!(user.bad(1, &["create", "--name", "build"]).contains("called 'build' already"));
    assert!(user.bad(2, &["create", "--name", "My Machine"]).contains("RFC 1123"));
    let list = user.good(&["list"]);
    assert!(nearly(&list, " ") && list.trim_end().ends_with("build"), "{list}");
    let extended = user.json(&["extend", "build", "--ttl", "1h", "-o", "json"]);
    assert_eq!(extended["container_ttl"], 3600);
    let listed = user.json(&["list", "-o", "json"]);
    assert_eq!(listed[0]["name"], "build");
    let left: jiff::Timestamp = listed[0]["expires_at"].as_str().unwrap().parse().unwrap();
    assert!((3000..=3600).contains(&left.duration_since(jiff::Timestamp::now()).as_secs()));
    assert!(user.bad(3, &["extend", "build", "--ttl", "1d"]).contains("7200 s in all"));
    assert!(user.bad(2, &["extend", "build", "--ttl", "soon"]).contains("30m"));
    assert!(user.good(&["destroy", "build"]).starts_with("destroyed  "));
}

#[test]
fn wishes_that_cannot_be_are_said_before_anybody_is_asked_or_by_the_server() {
    let dir = tempdir().unwrap();
    let (_, daemon) = daemon(dir.path(), "container: {max_allowed_running_containers: 1}");
    let user = User::of(&daemon);
    assert!(user.bad(3, &["create", "--pool", "nowhere"]).contains("no pool 'nowhere'"));
    let file = user.home.path().join("id");
    fs::write(&file, "-----BEGIN OPENSSH PRIVATE KEY-----\n").unwrap();
    assert!(user.bad(1, &["create", "--ssh-key", file.to_str().unwrap()]).contains(".pub"));
    assert!(user.bad(1, &["create", "--ssh-key", "/nowhere.pub"]).contains("/nowhere.pub"));
    assert_eq!(user.json(&["stat", "-o", "json"])["available"], 1);
}

#[test]
fn who_waits_gets_the_machine_that_another_gives_back() {
    let dir = tempdir().unwrap();
    let (_, daemon) = daemon(dir.path(), "container: {max_allowed_running_containers: 1}");
    let (first, second) = (User::of(&daemon), User::of(&daemon));
    first.good(&["create"]);
    assert!(second.bad(3, &["create", "--wait", "--timeout", "5s"]).contains("Unavailable"));
    let refusals = |lines: &[String]| lines.iter().filter(|line| line.contains("unavailable")).count();
    let before = refusals(&daemon.log.so_far());
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| second.json(&["create", "--wait", "--timeout", "60s", "-o", "json"]));
        daemon.log.until("a refusal of the one who waits", |lines| (refusals(lines) > before).then_some(()));
        first.good(&["destroy"]);
        assert!(waiting.join().unwrap()["container_uuid"].is_string());
    });
}

#[test]
fn what_is_wrong_in_a_configuration_is_told_to_programs_too() {
    let dir = tempdir().unwrap();
    let file = dir.path().join("c.yaml");
    let check = || {
        let output = finish(&mut program(["config", "check", "-o", "json", file.to_str().unwrap()]));
        assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
        serde_json::from_str::<Value>(&stdout(&output)).unwrap()
    };
    assert!(check()["problems"][0]["message"].as_str().unwrap().contains("cannot be read"));
    fs::write(&file, "container:\n  warm: 9\n  vcpus: 0\n").unwrap();
    let checked = check();
    assert_eq!(checked["problems"].as_array().unwrap().len(), 2);
    let warm = &checked["problems"][0];
    assert_eq!((&warm["line"], &warm["column"]), (&2.into(), &3.into()));
    assert_eq!((&warm["key"], &warm["value"]), (&"container.warm".into(), &"9".into()));
}

#[test]
fn a_key_a_section_and_everything_are_explained() {
    let explain = |args: &[&str]| stdout(&finish(&mut program(["config", "explain"].iter().chain(args))));
    let all = explain(&[]);
    let section = explain(&["container"]);
    assert!(all.contains("server.listen: '0.0.0.0:6150'") && all.contains("container.ttl: null"), "{all}");
    assert!(section.contains("container.ttl: null") && !section.contains("server.listen"), "{section}");
    assert!(explain(&["container.ttl"]).contains("ttl: 3600"));
    let json: Value = serde_json::from_str(&explain(&["container.ttl", "-o", "json"])).unwrap();
    assert_eq!((&json[0]["key"], &json[0]["reloaded"]), (&"container.ttl".into(), &true.into()));
    let wrong = finish(&mut program(["config", "explain", "container.tll"]));
    assert_eq!(wrong.status.code(), Some(1));
    assert!(stderr(&wrong).contains("did you mean container.ttl?"), "{}", stderr(&wrong));
}

#[test]
fn the_python_servers_file_is_converted_and_each_of_its_keys_told() {
    let dir = tempdir().unwrap();
    let (old, new) = (dir.path().join("old.yaml"), dir.path().join("new.yaml"));
    let [old, new] = [&old, &new].map(|path| path.to_str().unwrap());
    fs::write(old, "container:\n  container_memory: 1024\n  nat_interface_name: virbr0\n").unwrap();
    let output = finish(&mut program(["config", "import", old, "--out", new]));
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let told = stderr(&output);
    let taken = format!("{old}:2: container.container_memory: 1024 -> taken over as container.memory: 1024Mi");
    assert!(told.contains(&taken) && told.contains("nat_interface_name: 'virbr0' -> has no counterpart: "), "{told}");
    assert_eq!(finish(&mut program(["config", "check", new])).status.code(), Some(0));
    let again = finish(&mut program(["config", "import", old, "--out", new]));
    assert!(again.status.code() == Some(1) && stderr(&again).contains("exists already"));
    let printed = finish(&mut program(["config", "import", old]));
    assert_eq!(stdout(&printed), fs::read_to_string(new).unwrap());
    let json: Value =
        serde_json::from_str(&stdout(&finish(&mut program(["config", "import", old, "-o", "json"])))).unwrap();
    assert_eq!(json["keys"][0]["as"], "container.memory");
    let own = finish(&mut program(["config", "import", new]));
    assert!(own.status.code() == Some(1) && stderr(&own).contains("needs no import"), "{}", stderr(&own));
}
