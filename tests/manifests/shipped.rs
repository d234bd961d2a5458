//! The manifests that come with the program.

use std::fs;
use std::path::Path;

use anweddol::manifest;

use crate::common::daemon::{finish, program, stderr, stdout};

fn shipped() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests")
}

#[test]
fn every_manifest_that_ships_is_good() {
    let output = finish(program(["validate", "-f"]).arg(shipped()));
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(stdout(&output).starts_with("good: 9 objects in 6 files"), "{}", stdout(&output));
    let mut kinds = std::collections::BTreeSet::new();
    for entry in fs::read_dir(shipped()).unwrap() {
        let path = entry.unwrap().path();
        let read = manifest::read(path.to_str().unwrap(), &fs::read(&path).unwrap());
        assert_eq!(read.problems, [], "{}", path.display());
        for located in read.manifests {
            kinds.insert(located.manifest.kind());
            let text = fs::read_to_string(&path).unwrap();
            for image in text.lines().filter(|line| line.contains("path: ") || line.contains("iso: /")) {
                assert!(image.contains("/var/lib/anweddol/images/"), "{image}");
            }
        }
    }
    assert_eq!(kinds.len(), 3, "every kind has an example");
}

#[test]
fn nothing_at_all_is_not_good() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("a.yaml"), "# nothing yet\n").unwrap();
    let output = finish(program(["validate"]).arg(dir.path()));
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(stderr(&output), "error: there is no manifest in what was given\n");
}

#[test]
fn what_is_wrong_is_said_without_any_daemon() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
    let claim = "apiVersion: anweddol.io/v1alpha1\nkind: ContainerClaim\nmetadata: {name: a}\nspec: {pool: b}\n";
    file("a.yaml", claim);
    file("b.yaml", claim);
    file("c.yaml", &claim.replace("pool: b", "pol: b"));
    let output = finish(program(["validate"]).arg(dir.path()));
    assert_eq!(output.status.code(), Some(1));
    let said = stderr(&output);
    assert!(said.contains("c.yaml:4: ") && said.contains("did you mean pool?"), "{said}");
    assert!(said.contains("b.yaml:1: ") && said.contains("a.yaml:1 already"), "{said}");
    let explained = finish(&mut program(["explain", "claim.spec.ttlSeconds"]));
    assert!(stdout(&explained).contains("Seconds from binding"), "{}", stdout(&explained));
    assert_eq!(finish(&mut program(["explain", "claim.spec.tll"])).status.code(), Some(1));
    let schema = finish(&mut program(["explain", "pool", "--json-schema"]));
    assert!(serde_json::from_slice::<serde_json::Value>(&schema.stdout).unwrap()["properties"]["spec"].is_object());
}
