//! What `anweddol doctor` says of this host, and what a daemon that could run no machine says instead of serving.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;

use serde_json::Value;
use tempfile::tempdir;

use crate::common::daemon::{Home, finish, program, stdout};

/// What a look at the host found; `args` besides.
fn checks(home: &Home, args: &[&str]) -> (Option<i32>, Vec<Value>) {
    let output = finish(
        program(["doctor", "--only", "host", "--no-guest", "-o", "json", "--config"]).arg(&home.config).args(args),
    );
    let report: Value = serde_json::from_str(&stdout(&output)).unwrap();
    (output.status.code(), report["host"].as_array().unwrap().clone())
}

/// Those of a name, as `status message remedy`.
fn said(checks: &[Value], name: &str) -> String {
    let word = |check: &Value, key: &str| check[key].as_str().unwrap_or_default().to_owned();
    let line = |check: &Value| ["status", "message", "remedy"].map(|key| word(check, key)).join(" ");
    let lines: Vec<String> = checks.iter().filter(|check| check["name"] == name).map(line).collect();
    assert!(!lines.is_empty(), "no '{name}' in {checks:?}");
    lines.join("\n")
}

#[test]
fn what_is_wrong_with_this_host_is_told_with_what_to_do() {
    let dir = tempdir().unwrap();
    let image = dir.path().join("image.iso");
    fs::write(&image, "an image").unwrap();
    let config = format!("hypervisor: {{mode: embedded}}\ncontainer: {{image: {{iso: {}}}}}\n", image.display());
    let home = Home::new(dir.path(), &config);
    let (_, good) = checks(&home, &[]);
    for name in ["state directory", "secrets", "image", "disk"] {
        assert!(said(&good, name).starts_with("ok "), "{}", said(&good, name));
    }
    // What was built is compared with what it was.
    fs::write(dir.path().join("SHA256SUMS"), format!("{}  image.iso\n", "0".repeat(64))).unwrap();
    fs::write(home.key(), "a key").unwrap();
    fs::set_permissions(home.key(), fs::Permissions::from_mode(0o644)).unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let text = fs::read_to_string(&home.config).unwrap();
    let text = text.replacen("listen: '127.0.0.1:0'", &format!("listen: '{address}'"), 1);
    fs::write(&home.config, format!("{text}host: {{disk_reserve: 1048576Gi}}\n")).unwrap();
    let (code, bad) = checks(&home, &[]);
    assert_eq!(code, Some(1));
    for (name, word) in [
        ("image", "image build"),
        ("secrets", "chmod 600"),
        ("server.listen", &address.to_string()),
        ("disk", "host.disk_reserve"),
    ] {
        let said = said(&bad, name);
        assert!(said.starts_with("fail ") && said.contains(word), "{name}: {said}");
    }
    fs::remove_file(&image).unwrap();
    assert!(said(&checks(&home, &[]).1, "image").contains("cannot be read"));
}

#[test]
fn a_fresh_host_is_looked_at_too_and_nothing_is_made_on_it() {
    let dir = tempdir().unwrap();
    let state = dir.path().join("none");
    let output = finish(program(["doctor", "--no-guest", "--state"]).arg(&state));
    let text = stdout(&output);
    assert!(text.contains("✗ image:") && text.contains("is not there yet") && text.contains("no records in"), "{text}");
    assert!(!state.exists(), "a look made a state directory");
    // No colours where nobody sees them.
    assert!(!text.contains('\x1b'), "{text}");
}

#[test]
fn a_daemon_without_qemu_does_not_serve_and_says_what_to_install() {
    let dir = tempdir().unwrap();
    let image = dir.path().join("image.iso");
    fs::write(&image, "an image").unwrap();
    let config = format!("hypervisor: {{mode: embedded}}\ncontainer: {{image: {{iso: {}}}}}\n", image.display());
    let home = Home::new(dir.path(), &config).with_vectors_key().env("PATH", dir.path().to_str().unwrap());
    let said = home.refused();
    assert!(said.contains("qemu-system-x86_64") && said.contains("install the package qemu-system-x86"), "{said}");
    // The same words from a doctor.
    let output = finish(
        program(["doctor", "--only", "host", "--no-guest", "--config"]).arg(&home.config).env("PATH", dir.path()),
    );
    assert!(stdout(&output).contains("install the package qemu-system-x86"), "{}", stdout(&output));
}
