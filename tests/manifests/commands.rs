//! The command line over objects.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use serde_json::Value;

use crate::common::daemon::{program, stderr, stdout};
use crate::common::until;
use crate::setting::Setting;

#[test]
fn a_pool_is_applied_shown_scaled_edited_and_deleted() {
    let setting = Setting::plain("");
    let _daemon = setting.start();
    let file = setting.other("pool.yaml");
    let file = file.to_str().unwrap();
    fs::write(file, setting.pool("a", 1)).unwrap();
    assert_eq!(setting.good(&["apply", "-f", file, "--dry-run"]), "containerpool/a created (dry run)\n");
    let diff = setting.run(&["diff", "-f", file]);
    assert_eq!((diff.status.code(), stdout(&diff).contains("+  replicas: 1")), (Some(1), true), "{}", stdout(&diff));
    assert_eq!(setting.good(&["apply", "-f", file]), "containerpool/a created\n");
    assert_eq!(setting.good(&["apply", "-f", file]), "containerpool/a unchanged\n");
    assert_eq!(setting.good(&["diff", "-f", file]), "");
    setting.until_pool("a ready member", "a", |pool| (pool["status"]["readyReplicas"] == 1).then_some(()));

    let table = setting.good(&["get", "pools,ctr"]);
    assert!(table.contains("NAME") && table.contains("1/1") && table.contains("Ready"), "{table}");
    assert!(setting.good(&["get", "cpool/a", "-o", "wide"]).contains("image.iso"));
    assert_eq!(setting.good(&["get", "containerpools", "a", "-o", "name"]), "containerpool/a\n");
    let described = setting.good(&["describe", "pool", "a"]);
    for word in ["Spec:", "maxContainers: 4", "Available", "Containers:", "APPLIED_OBJECT"] {
        assert!(described.contains(word), "no {word} in {described}");
    }
    assert_eq!(setting.good(&["scale", "pool", "a", "--replicas", "2"]), "containerpool/a scaled\n");
    setting.until_replicas("a", 2);

    setting.good(&["delete", "-f", file, "--wait"]);
    assert!(setting.pool_now("a").is_none());
    let all = setting.good(&["get", "containers", "-o", "name"]);
    assert_eq!(all, "", "its members went with it");
}

#[test]
fn whatever_is_shown_as_yaml_can_be_applied_and_is_unchanged() {
    let setting = Setting::plain("container: {warm: 1}");
    let _daemon = setting.start();
    let image = setting.other("image.iso");
    let more = format!(
        "apiVersion: anweddol.io/v1alpha1\nkind: Container\nmetadata: {{name: box, labels: {{team: red}}}}\nspec: {{template: {{image: {{iso: {}}}}}}}\n---\napiVersion: anweddol.io/v1alpha1\nkind: ContainerClaim\nmetadata: {{name: mine}}\nspec: {{pool: nowhere, ttlSeconds: 60}}\n",
        image.display()
    );
    let applied = setting.run_with(&["apply", "-f", "-"], &more, &[]);
    assert_eq!(stdout(&applied), "container/box created\ncontainerclaim/mine created\n", "{}", stderr(&applied));
    // A pool, its member, a container of its own, a claim.
    until("a ready member", || {
        (setting.good(&["get", "containers", "-o", "json"]).matches("\"phase\": \"Ready\"").count() == 2).then_some(())
    });
    let shown = setting.good(&["get", "all", "-o", "yaml"]);
    assert_eq!(shown.lines().filter(|line| line.starts_with("apiVersion")).count(), 4, "{shown}");
    let again = setting.run_with(&["apply", "-f", "-"], &shown, &[]);
    let said = stdout(&again);
    assert_eq!(said.matches(" unchanged\n").count(), 4, "{said}{}", stderr(&again));
    let red = setting.good(&["get", "all", "-l", "team=red", "-o", "name"]);
    assert_eq!(red, "container/box\n");
}

#[test]
fn a_watch_prints_each_change_as_it_comes() {
    let setting = Setting::plain("");
    let _daemon = setting.start();
    let mut command = program(["get", "pools", "-w", "-o", "json", "--state"]);
    let mut child = command.arg(&setting.home().state).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut next = || {
        let event: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
        (event["type"].as_str().unwrap().to_owned(), event["object"]["metadata"]["name"].as_str().unwrap().to_owned())
    };
    let told = |kind: &str, name: &str| (kind.to_owned(), name.to_owned());
    assert_eq!(next(), told("ADDED", "default"));
    setting.run_with(&["apply", "-f", "-"], &setting.pool("a", 0), &[]);
    // The operator writes conditions of either pool as it likes.
    let mut until = |wanted: (String, String)| while next() != wanted {};
    until(told("ADDED", "a"));
    setting.good(&["scale", "pool", "a", "--replicas", "1"]);
    until(told("MODIFIED", "a"));
    setting.good(&["delete", "pool", "a"]);
    until(told("DELETED", "a"));
    child.kill().unwrap();
    child.wait().unwrap();
}

/// An editor that does what each of its lines says, one line a call.
fn editor(setting: &Setting, steps: &[&str]) -> String {
    let script = setting.other("editor");
    let count = setting.other("calls");
    let mut text = format!("#!/bin/sh\necho x >> {0}\ncase $(wc -l < {0}) in\n", count.display());
    for (index, step) in steps.iter().enumerate() {
        text.push_str(&format!("{}) {step};;\n", index + 1));
    }
    text.push_str("*) exit 9;;\nesac\n");
    fs::write(&script, text).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o700)).unwrap();
    if count.exists() {
        fs::remove_file(count).unwrap();
    }
    script.to_str().unwrap().to_owned()
}

#[test]
fn an_edit_is_written_reopened_with_its_errors_or_left() {
    let setting = Setting::plain("");
    let _daemon = setting.start();
    let edit = |steps: &[&str]| {
        let editor = editor(&setting, steps);
        setting.run_with(&["edit", "pool", "default"], "", &[("EDITOR", &editor), ("VISUAL", "")])
    };
    let left = edit(&["true"]);
    assert_eq!(stdout(&left), "containerpool/default unchanged\n", "{}", stderr(&left));

    let seen = setting.other("seen");
    let save = format!("cp $1 {} && sed -i s/replcas/replicas/ $1", seen.display());
    let written = edit(&["sed -i 's/replicas: 0/replcas: 2/' $1", &save]);
    assert_eq!(stdout(&written), "containerpool/default edited\n", "{}", stderr(&written));
    let reopened = fs::read_to_string(seen).unwrap();
    assert!(
        reopened.contains("# It was not written, because:") && reopened.contains("did you mean replicas?"),
        "{reopened}"
    );
    setting.until_replicas("default", 2);

    let given_up = edit(&["sed -i 's/vcpus: 1/vcpus: 0/' $1", "true"]);
    let said = stderr(&given_up);
    assert_eq!(given_up.status.code(), Some(1), "{said}");
    assert!(said.contains("spec.template.vcpus") && said.contains("what was edited is in"), "{said}");
    let failed = edit(&["exit 3"]);
    assert!(stderr(&failed).contains("nothing was written"), "{}", stderr(&failed));
    assert_eq!(setting.pool_now("default").unwrap()["spec"]["template"]["vcpus"], 1);
}

#[test]
fn exit_codes_and_errors_say_whose_fault_it_is() {
    let setting = Setting::plain("");
    let said = setting.bad(1, &["get", "pools"]);
    assert!(said.contains("api.sock") && said.contains("anweddol serve"), "{said}");
    let daemon = setting.start();
    assert!(setting.bad(3, &["get", "pool", "nope"]).contains("containerpools.anweddol.io \"nope\" not found"));
    assert!(setting.bad(3, &["delete", "claim/nope"]).contains("not found"));
    setting.good(&["delete", "claim/nope", "--ignore-not-found"]);
    assert!(setting.bad(1, &["get", "vms"]).contains("pool, container or claim"));
    assert!(setting.bad(2, &["get", "pools", "-l", "a b"]).contains("label selector"));
    assert!(setting.bad(3, &["scale", "pool", "default", "--replicas", "99"]).contains("spec.maxContainers"));
    assert!(setting.bad(3, &["scale", "ctr", "x", "--replicas", "1"]).contains("only containerpools have"));
    let bad = setting.other("bad.yaml");
    let (good, bad) = (setting.pool("a", 1), (bad.to_str().unwrap(), "kind: 3\n"));
    fs::write(bad.0, format!("{good}---\n{}", bad.1)).unwrap();
    let said = setting.bad(1, &["apply", "-f", bad.0]);
    assert!(said.contains("nothing was done") && setting.pool_now("a").is_none(), "{said}");
    assert!(setting.bad(2, &["diff", "-f", bad.0]).contains("nothing was done"));
    daemon.stop();
    assert!(!setting.home().state.join("api.sock").exists(), "the socket goes with the daemon");
}

#[test]
fn events_are_listed_from_a_number_on() {
    let setting = Setting::plain("");
    let _daemon = setting.start();
    setting.run_with(&["apply", "-f", "-"], &setting.pool("a", 0), &[]);
    setting.run_with(&["apply", "-f", "-"], &setting.pool("b", 0), &[]);
    let applied = setting.events("APPLIED_OBJECT");
    assert_eq!(applied.len(), 2);
    let last = applied[1]["number"].to_string();
    let from = setting.good(&["events", "--from", &last]);
    assert!(from.contains("containerpool/b") && !from.contains("containerpool/a"), "{from}");
}

#[test]
fn objects_of_another_namespace_live_through_a_restart() {
    let setting = Setting::plain("");
    let daemon = setting.start();
    let there = setting.pool("a", 1).replace("{name: a}", "{name: a, namespace: there}");
    setting.run_with(&["apply", "-f", "-"], &there, &[]);
    let ready = || {
        let listed = setting.good(&["get", "containers", "-n", "there", "-o", "json"]);
        let listed: Value = serde_json::from_str(&listed).unwrap();
        let found = &listed["items"][0];
        (found["status"]["phase"] == "Ready").then(|| found["metadata"]["uid"].clone())
    };
    until("a ready member", ready);
    daemon.kill();
    let _daemon = setting.start();
    until("a ready member again", ready);
    assert!(setting.good(&["get", "containers"]).is_empty(), "none of the default namespace");
    assert!(setting.good(&["get", "pools", "-A"]).contains("there"));
}

#[test]
fn the_login_of_a_claim_and_of_a_container_is_read_once() {
    let setting = Setting::plain("container: {warm: 1}");
    let _daemon = setting.start();
    let image = setting.other("image.iso");
    let both = format!(
        "apiVersion: anweddol.io/v1alpha1\nkind: Container\nmetadata: {{name: box}}\nspec: {{template: {{image: {{iso: {}}}}}}}\n---\napiVersion: anweddol.io/v1alpha1\nkind: ContainerClaim\nmetadata: {{name: mine}}\nspec: {{pool: default}}\n",
        image.display()
    );
    setting.run_with(&["apply", "-f", "-"], &both, &[]);
    for (kind, phase) in [("claim/mine", "Bound"), ("container/box", "Ready")] {
        let (name, object) = kind.split_once('/').unwrap();
        until(phase, || setting.object(name, object).filter(|shown| shown["status"]["phase"] == phase));
        let told: Value = serde_json::from_str(&setting.good(&["login", kind, "-o", "json"])).unwrap();
        assert_eq!(told["password"].as_str().map(str::len), Some(120));
        assert!(told["username"].as_str().unwrap().starts_with("user_") && told["port"].is_u64());
        assert!(setting.bad(3, &["login", kind]).contains("works once"));
        let shown = setting.good(&["get", name, object, "-o", "yaml"]);
        assert!(!shown.contains(told["password"].as_str().unwrap()), "a login is in no object");
    }
    assert!(setting.bad(3, &["login", "claim", "nope"]).contains("there is no"));
    assert!(setting.bad(3, &["login", "pool", "default"]).contains("only containers, containerclaims have"));
    setting.good(&["delete", "claim/mine", "container/box", "--wait"]);
}
