//! Commands that fail in part, or cannot say what they did.

use std::fs;
use std::process::Output;

use tempfile::tempdir;

use crate::common::daemon::{Home, finish, program, stderr, stdout};

fn home(dir: &std::path::Path) -> Home {
    Home::new(dir, "").with_vectors_key().simulated("boot=10ms")
}

fn run(home: &Home, args: &[&str]) -> Output {
    finish(program(args).arg("--config").arg(&home.config))
}

#[test]
fn what_is_refused_of_several_objects_is_told_and_the_others_are_done() {
    let dir = tempdir().unwrap();
    let home = home(dir.path());
    let daemon = home.start();
    let claim = |name: &str, pool: &str| {
        format!(
            "apiVersion: anweddol.io/v1alpha1\nkind: ContainerClaim\nmetadata: {{name: {name}}}\nspec: {{pool: {pool}}}\n---\n"
        )
    };
    let file = dir.path().join("claims.yaml");
    let name = file.to_str().unwrap();
    let write = |pool: &str| fs::write(&file, claim("a", pool) + &claim("b", "default")).unwrap();
    write("default");
    assert!(run(&home, &["apply", "-f", name]).status.success());
    // The pool of a claim is never another one.
    write("other");
    fs::write(&file, fs::read_to_string(&file).unwrap() + &claim("c", "default")).unwrap();
    for command in ["diff", "apply"] {
        let output = run(&home, &[command, "-f", name]);
        assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
        assert!(stderr(&output).contains("error: containerclaim/a: "), "{}", stderr(&output));
        assert!(stdout(&output).contains("containerclaim/c"), "{command} stopped at the first: {}", stdout(&output));
    }
    let output = run(&home, &["delete", "claim", "none", "b"]);
    assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
    assert!(stderr(&output).contains("error: containerclaim/none: "), "{}", stderr(&output));
    assert_eq!(stdout(&output), "containerclaim/b deleted\n");
    daemon.stop();
    let output = run(&home, &["delete", "claim", "a", "c"]);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert_eq!(stderr(&output).lines().count(), 1, "who does not answer is asked again: {}", stderr(&output));
}
