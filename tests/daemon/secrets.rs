//! Passwords and tokens are told to their client and to nobody else.

use std::fs;
use std::path::Path;

use tempfile::tempdir;

use crate::common::ask::{create, destroy, grant, stat};
use crate::common::daemon::Home;

fn holds(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

/// The files below a directory that hold a text.
pub(crate) fn files_with(dir: &Path, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files_with(&path, text));
        } else if holds(&fs::read(&path).unwrap(), text) {
            found.push(path.display().to_string());
        }
    }
    found
}

#[test]
fn no_password_and_no_token_is_in_the_log_or_in_the_state_directory() {
    let dir = tempdir().unwrap();
    let home = Home::new(dir.path(), "").with_vectors_key().simulated("boot=10ms").env("RUST_LOG", "anweddol=trace");
    let daemon = home.start();
    let (kept, gone) = (grant(&create(daemon.address)), grant(&create(daemon.address)));
    assert!(destroy(daemon.address, &gone).success);
    stat(daemon.address);
    let log = daemon.stop().join("\n");
    assert!(log.contains("\"DEBUG\""), "the log is not at the level that this test is about");
    // What is looked for can be found: the kept container is in both.
    assert!(log.contains(&kept.uuid) && !files_with(&home.state, &kept.uuid).is_empty());
    for secret in [&kept.password, &kept.token, &gone.password, &gone.token] {
        assert!(!log.contains(secret.as_str()), "a secret is in the log");
        // A part of it would be a leak too, and a store that compresses might hide the whole.
        assert_eq!(files_with(&home.state, &secret[..24]), [""; 0]);
    }
    for pem in ["/client/private_pem", "/server/private_pem"] {
        let pem = crate::common::daemon::VECTORS.pointer(pem).unwrap().as_str().unwrap();
        assert!(!log.contains(pem.lines().nth(1).unwrap()), "a private key is in the log");
    }
}
