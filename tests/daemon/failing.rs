//! Commands that fail in part, or cannot say what they did.

use std::fs::{self, File};
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
        assert!(stderr(&output).contains("error: ContainerClaim default/a "), "{}", stderr(&output));
        assert!(stdout(&output).contains("containerclaim/c"), "{command} stopped at the first: {}", stdout(&output));
    }
    let output = run(&home, &["delete", "claim", "none", "b"]);
    assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
    assert!(stderr(&output).contains("none"), "{}", stderr(&output));
    assert_eq!(stdout(&output), "containerclaim/b deleted\n");
    daemon.stop();
    let output = run(&home, &["delete", "claim", "a", "c"]);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert_eq!(stderr(&output).lines().count(), 1, "who does not answer is asked again: {}", stderr(&output));
}

#[test]
fn output_that_cannot_be_written_is_an_error_and_no_token_stays_that_was_not_told() {
    let dir = tempdir().unwrap();
    let home = home(dir.path());
    let daemon = home.start();
    let full = |args: &[&str]| {
        let mut command = program(args);
        if args[0] != "completion" {
            command.arg("--config").arg(&home.config);
        }
        command.stdout(File::options().write(true).open("/dev/full").unwrap());
        command.output().unwrap()
    };
    for args in [
        &["completion", "bash"][..],
        &["get", "pools"],
        &["access-token", "add", "--name", "anna"],
        &["token", "add", "ci", "--role", "view"],
        &["kubeconfig", "--role", "view"],
    ] {
        let output = full(args);
        assert_eq!(output.status.code(), Some(1), "{args:?}: {}", stderr(&output));
        let last = stderr(&output).lines().last().unwrap().to_owned();
        assert!(last.starts_with("error: ") && last.contains("No space left on device"), "{args:?}: {last}");
        assert!(!stderr(&output).contains("panicked"), "{args:?}: {}", stderr(&output));
    }
    for kind in ["token", "access-token"] {
        let listed = stdout(&run(&home, &[kind, "list"]));
        assert_eq!(listed.lines().count(), 1, "one is left: {listed}");
    }
    daemon.stop();
}

#[test]
fn what_the_environment_does_not_say_is_not_guessed() {
    let empty = finish(program(["stat"]).env("ANWEDDOL_SERVER", "").env("XDG_DATA_HOME", "/nowhere"));
    assert!(stderr(&empty).contains("127.0.0.1:6150"), "{}", stderr(&empty));
    let dir = tempdir().unwrap();
    let check = ["store", "check", "--state", dir.path().to_str().unwrap()];
    let empty = finish(program(check).env("ANWEDDOL_CONFIG", ""));
    assert!(stderr(&empty).contains("there is no store in"), "{}", stderr(&empty));
    let typed = finish(&mut program(["store", "check", "--config", ""]));
    assert_eq!(typed.status.code(), Some(2), "{}", stderr(&typed));
    for command in ["list", "create"] {
        let program = &mut program([command]);
        let homeless = finish(program.current_dir(dir.path()).env_remove("XDG_DATA_HOME").env("HOME", "relative"));
        let told = stderr(&homeless);
        assert!(homeless.status.code() == Some(1) && told.contains("XDG_DATA_HOME"), "{command}: {told}");
    }
    assert_eq!(dir.path().read_dir().unwrap().count(), 0, "something was written where one happens to be");
}
