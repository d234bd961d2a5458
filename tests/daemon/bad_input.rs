//! What cannot work is refused at the start, in words: what is wrong, with which object, what to do about it.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

use tempfile::tempdir;

use crate::common::ask::create;
use crate::common::daemon::{Home, finish, program, stderr};

fn says(text: &str, words: &[&str]) {
    for word in words {
        assert!(text.contains(word), "no '{word}' in: {text}");
    }
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// A listener on any port, and its address.
fn taken() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    (listener, address)
}

#[test]
fn a_missing_image_is_named_with_the_command_that_makes_it() {
    let dir = tempdir().unwrap();
    let home = Home::new(dir.path(), "hypervisor: {mode: embedded}").with_vectors_key();
    says(&home.refused(), &[home.state.join("images/vmlinuz").to_str().unwrap(), "anweddol image build"]);
    let home = Home::new(dir.path(), "container: {image: {iso: /nowhere/guest.iso}}\nhypervisor: {mode: embedded}");
    says(&home.with_vectors_key().refused(), &["/nowhere/guest.iso", "container.image"]);
    assert!(!dir.path().join("s/embed").exists(), "a hypervisor was set up for nothing");
}

#[test]
fn a_port_that_is_taken_is_named() {
    let dir = tempdir().unwrap();
    let (_listener, address) = taken();
    let home = Home::new(dir.path(), "").with_vectors_key().simulated("").arg(format!("--listen={address}"));
    says(&home.refused(), &[&address, "another program", "choose another address or port"]);
}

#[test]
fn a_health_port_that_is_taken_is_named() {
    let dir = tempdir().unwrap();
    let (_listener, address) = taken();
    let file = dir.path().join("taken.yaml");
    fs::write(&file, format!("server: {{health_listen: '{address}', api_listen: null}}")).unwrap();
    let home = Home::new(dir.path(), "").with_vectors_key().simulated("").arg("--listen=127.0.0.1:0");
    let home = home.with_config(&file, &["--state", dir.path().join("s").to_str().unwrap()]);
    says(&home.refused(), &[&address, "server.health_listen", "null"]);
}

#[test]
fn a_store_that_another_daemon_holds_is_refused_with_its_process_number() {
    let dir = tempdir().unwrap();
    let home = Home::new(dir.path(), "").with_vectors_key().simulated("boot=10ms");
    let first = home.start();
    says(
        &home.refused(),
        &[home.simulated_state().to_str().unwrap(), &format!("process {}", first.pid()), "stop that"],
    );
    assert_eq!(first.http("/readyz").0, 200);
    first.stop();
    home.start().stop();
}

/// What is secret below a state directory, and the mode that it has.
fn secrets(home: &Home) -> [(PathBuf, u32); 5] {
    let state = home.simulated_state();
    [
        (home.key(), 0o600),
        (home.state.join("authority.pem"), 0o600),
        (state.join("seal.key"), 0o600),
        (state.join("instance"), 0o600),
        // Records, tokens among them.
        (state.join("store"), 0o700),
    ]
}

#[test]
fn a_secret_that_others_can_reach_is_refused_whichever_it_is() {
    let dir = tempdir().unwrap();
    let home = Home::new(dir.path(), "").with_vectors_key().simulated("boot=10ms");
    home.start().stop();
    for (file, mode) in secrets(&home) {
        let name = file.to_str().unwrap();
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o7777, mode, "{name}");
        for wider in [mode | 0o040, mode | 0o004, mode | 0o002] {
            chmod(&file, wider);
            says(&home.refused(), &[name, &format!("{wider:04o}"), &format!("chmod {mode:o} {name}")]);
        }
        chmod(&file, mode);
        // What is elsewhere can be as good as it likes: who made the link chose it.
        let elsewhere = dir.path().join("elsewhere");
        fs::rename(&file, &elsewhere).unwrap();
        symlink(&elsewhere, &file).unwrap();
        says(&home.refused(), &[name, "symbolic link"]);
        fs::remove_file(&file).unwrap();
        fs::rename(&elsewhere, &file).unwrap();
        // Only root can give a file away.
        if rustix::process::geteuid().is_root() {
            chown(&file, Some(65_533), None).unwrap();
            says(&home.refused(), &[name, "belongs to user 65533"]);
            chown(&file, Some(0), None).unwrap();
        }
    }
    home.start().stop();
}

/// Names, and what others may do with them.
fn reachable(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let about = fs::symlink_metadata(&path).unwrap();
        if about.permissions().mode() & 0o077 == 0 {
            continue;
        }
        found.push(path.clone());
        if about.is_dir() {
            reachable(&path, found);
        }
    }
}

#[test]
fn nothing_that_a_daemon_writes_can_be_reached_by_others_but_the_image_that_qemu_reads() {
    let dir = tempdir().unwrap();
    let home = Home::new(dir.path(), "container: {warm: 1}").simulated("boot=10ms").with_vectors_key();
    let daemon = home.start();
    assert!(create(daemon.address).success);
    let mut found = Vec::new();
    reachable(&home.state, &mut found);
    let state = home.simulated_state();
    // Only to pass through: QEMU can be another user.
    assert_eq!(fs::metadata(&state).unwrap().permissions().mode() & 0o777, 0o711);
    found.sort();
    assert_eq!(found, [state.clone(), state.join("simulated.iso")]);
}

#[test]
fn files_that_hold_no_key_are_refused_and_kept() {
    let dir = tempdir().unwrap();
    let home = Home::new(dir.path(), "").with_vectors_key().simulated("boot=10ms");
    home.start().stop();
    for file in [home.key(), home.simulated_state().join("seal.key")] {
        let good = fs::read(&file).unwrap();
        fs::write(&file, "no key\n").unwrap();
        says(&home.refused(), &[file.to_str().unwrap()]);
        assert_eq!(fs::read_to_string(&file).unwrap(), "no key\n");
        fs::write(&file, good).unwrap();
    }
}

#[test]
fn a_state_directory_that_cannot_be_used_is_named() {
    let dir = tempdir().unwrap();
    let home = Home::new(dir.path(), "").with_vectors_key().simulated("");
    for mode in [0o770, 0o707, 0o1777] {
        chmod(&home.state, mode);
        says(&home.refused(), &[home.state.to_str().unwrap(), &format!("{mode:04o}"), "chmod go-w"]);
    }
    chmod(&home.state, 0o700);
    // A file in its place stops root too.
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    let home = home.arg(format!("--state={}", file.join("s").display()));
    says(&home.refused(), &[file.to_str().unwrap(), "--state"]);
}

#[test]
fn what_is_wrong_in_a_configuration_is_named_with_what_would_be_right() {
    let dir = tempdir().unwrap();
    for (config, words) in [
        ("container: {memroy: 256Mi}", &["memroy", "memory"][..]),
        ("container: {memory: lots}", &["memory", "Mi"]),
        ("container: {memory: 1Mi}", &["container.memory", "64Mi"]),
        ("container: {warm: 7}", &["container.warm", "max_allowed_running_containers"]),
        ("container: {max_allowed_running_containers: 0}", &["container.max_allowed_running_containers"]),
        ("container: {boot_deadline: 1}", &["container.boot_deadline", "5 to 3600"]),
        ("port_forwarding: {range: 5-1}", &["5-1", "FIRST-LAST"]),
        ("port_forwarding: {range: 10000-10001}", &["port_forwarding.range", "at least as many ports"]),
        ("hypervisor: {mode: cloud}", &["cloud", "embedded"]),
        ("hypervisor: {subnet: 10.0.0.0}", &["10.0.0.0"]),
        ("hypervisor: [", &["config.yaml:4:"]),
    ] {
        let home = Home::new(dir.path(), config).with_vectors_key().simulated("");
        let text = home.refused();
        says(&text, words);
        let check = finish(&mut program(["config", "check", dir.path().join("config.yaml").to_str().unwrap()]));
        assert_eq!((check.status.code(), stderr(&check).trim()), (Some(1), text.trim()), "{config}");
    }
}

#[test]
fn a_configuration_that_is_not_there_is_named() {
    let dir = tempdir().unwrap();
    let file = dir.path().join("none.yaml");
    let home = Home::new(dir.path(), "").simulated("").with_config(&file, &[]);
    says(&home.refused(), &[file.to_str().unwrap(), "cannot be read"]);
}

#[test]
fn a_bad_setting_of_the_simulation_is_a_wrong_command() {
    for (setting, words) in [
        ("boot=fast", &["boot=fast", "200ms"][..]),
        ("fail=2", &["fail=2", "0 to 1"]),
        ("speed=9", &["speed=9", "boot=TIME"]),
    ] {
        let output = finish(&mut program(["serve", &format!("--simulate={setting}")]));
        assert_eq!(output.status.code(), Some(2));
        says(&stderr(&output), words);
    }
}

#[cfg(not(feature = "otlp"))]
#[test]
fn a_collector_is_refused_by_a_program_that_cannot_send_spans() {
    let dir = tempdir().unwrap();
    let said = Home::new(dir.path(), "observe: {otlp_endpoint: 'http://127.0.0.1:4317'}").simulated("").refused();
    assert!(said.contains("observe.otlp_endpoint") && said.contains("built without the feature 'otlp'"), "{said}");
}
