//! A directory that is kept applied.

use std::fs;
use std::os::unix::fs::symlink;

use crate::common::until;
use crate::setting::Setting;

#[test]
fn what_is_added_changed_renamed_and_deleted_in_the_directory_is_so_in_the_daemon() {
    let setting = Setting::kept();
    setting.write("before.yaml", &setting.pool("before", 1));
    let _daemon = setting.start();
    setting.until_replicas("before", 1);

    let both = format!("{}---\n# nothing\n---\n{}", setting.pool("a", 1), setting.pool("b", 0));
    setting.write("two.yml", &both);
    let uid = setting.until_replicas("a", 1)["metadata"]["uid"].clone();
    setting.until_replicas("b", 0);
    setting.write("two.yml", &both.replace("replicas: 1", "replicas: 2"));
    let a = setting.until_replicas("a", 2);
    assert_eq!(a["metadata"]["generation"], 2);
    let directory = setting.file("").canonicalize().unwrap();
    assert_eq!(a["metadata"]["annotations"]["anweddol.io/managed-by"], directory.to_str().unwrap());

    // A hidden file, and one that is no manifest: as if they were not there.
    setting.write(".hidden.yaml", "broken: [");
    setting.write("notes.txt", "broken: [");
    fs::rename(setting.file("two.yml"), setting.file("renamed.json")).unwrap();
    setting.write("renamed.json", &setting.pool("a", 3));
    setting.until_no_pool("b");
    assert_eq!(setting.until_replicas("a", 3)["metadata"]["uid"], uid, "renaming a file makes no new object");
    assert!(setting.pool_now("before").is_some() && setting.pool_now("default").is_some());
    assert_eq!(setting.events("REFUSED_MANIFEST"), [] as [serde_json::Value; 0]);

    fs::remove_file(setting.file("renamed.json")).unwrap();
    fs::remove_file(setting.file("before.yaml")).unwrap();
    setting.until_no_pool("a");
    setting.until_no_pool("before");
    assert!(setting.pool_now("default").is_some(), "the configuration's is not this directory's");
}

#[test]
fn a_file_with_an_error_changes_nothing_and_is_told_once_with_file_line_and_field() {
    let setting = Setting::kept();
    setting.write("good.yaml", &setting.pool("good", 1));
    setting.write("bad.yaml", &setting.pool("bad", 1));
    let daemon = setting.start();
    setting.until_replicas("good", 1);
    setting.until_replicas("bad", 1);

    let broken = setting.pool("bad", 2).replace("maxContainers", "maxContianers");
    setting.write("bad.yaml", &broken);
    daemon.log.events("REFUSED_MANIFEST", 1);
    // While a file is broken others are applied, and nothing is deleted.
    fs::remove_file(setting.file("good.yaml")).unwrap();
    setting.write("new.yaml", &setting.pool("new", 1));
    setting.until_replicas("new", 1);
    assert_eq!(setting.pool_now("bad").unwrap()["spec"]["replicas"], 1);
    assert!(setting.pool_now("good").is_some(), "it may be what the broken file would describe");
    let told = setting.events("REFUSED_MANIFEST");
    assert_eq!(told.len(), 1, "{told:?}");
    let details = &told[0]["details"];
    assert!(details["file"].as_str().unwrap().ends_with("bad.yaml"), "{details}");
    assert_eq!((&details["line"], &details["field"]), (&6.into(), &"spec.maxContianers".into()));
    assert!(told[0]["message"].as_str().unwrap().contains("did you mean maxContainers?"), "{}", told[0]);
    assert_eq!(fs::read_to_string(setting.file("bad.yaml")).unwrap(), broken, "files are never written to");

    setting.write("bad.yaml", &setting.pool("bad", 2));
    setting.until_replicas("bad", 2);
    setting.until_no_pool("good");

    // The same object in two files: neither counts, and both places are told.
    setting.write("twice.yaml", &setting.pool("bad", 3));
    let told = daemon.log.events("REFUSED_MANIFEST", 2);
    assert!(told[1].message.contains("twice.yaml") && told[1].message.contains("bad.yaml"), "{told:?}");
    assert_eq!(setting.pool_now("bad").unwrap()["spec"]["replicas"], 2);
}

#[test]
fn what_somebody_changes_or_deletes_of_a_kept_object_is_put_back() {
    let setting = Setting::kept();
    setting.write("a.yaml", &setting.pool("a", 1));
    let _daemon = setting.start();
    let uid = setting.until_replicas("a", 1)["metadata"]["uid"].clone();
    let output = setting.run(&["scale", "pool", "a", "--replicas", "3"]);
    assert!(crate::common::daemon::stderr(&output).contains("will put it back"));
    // Generation 2 is the scale; 3 puts it back.
    setting.until_pool("the manifest's replicas", "a", |pool| {
        (pool["metadata"]["generation"] == 3 && pool["spec"]["replicas"] == 1).then_some(())
    });
    setting.good(&["delete", "pool", "a"]);
    setting.until_pool("another pool of that name", "a", |pool| (pool["metadata"]["uid"] != uid).then_some(()));
}

#[test]
fn what_changed_while_the_daemon_was_dead_is_applied_when_it_lives() {
    let setting = Setting::kept();
    setting.write("old.yaml", &setting.pool("old", 2));
    setting.write("same.yaml", &setting.pool("same", 1));
    let daemon = setting.start();
    setting.until_replicas("old", 2);
    let uid = setting.until_replicas("same", 1)["metadata"]["uid"].clone();
    daemon.kill();
    fs::remove_file(setting.file("old.yaml")).unwrap();
    setting.write("new.yaml", &setting.pool("new", 1));
    let _daemon = setting.start();
    setting.until_replicas("new", 1);
    setting.until_no_pool("old");
    let same = setting.pool_now("same").unwrap();
    assert_eq!((&same["metadata"]["uid"], &same["metadata"]["generation"]), (&uid, &1.into()));
}

#[test]
fn a_directory_that_goes_away_deletes_nothing_and_is_kept_again_when_it_is_back() {
    let setting = Setting::kept();
    setting.write("a.yaml", &setting.pool("a", 1));
    let daemon = setting.start();
    setting.until_replicas("a", 1);
    let (here, away) = (setting.file(""), setting.other("away"));
    fs::rename(&here, &away).unwrap();
    let told = daemon.log.events("REFUSED_MANIFEST", 1);
    assert!(told[0].message.contains("stays as it is"), "{told:?}");
    assert_eq!(setting.pool_now("a").unwrap()["metadata"]["deletionTimestamp"], serde_json::Value::Null);
    fs::rename(&away, &here).unwrap();
    setting.write("b.yaml", &setting.pool("b", 1));
    // Whoever wrote an object wakes the keeper too: nobody waits for the next regular look.
    setting.good(&["scale", "pool", "a", "--replicas", "2"]);
    setting.until_replicas("b", 1);
    setting.until_replicas("a", 1);
}

#[test]
fn links_are_followed_as_kubernetes_mounts_them() {
    let setting = Setting::kept();
    let version = |number: u32| {
        let data = setting.file(&format!("..data_{number}"));
        fs::create_dir(&data).unwrap();
        fs::write(data.join("a.yaml"), setting.pool("a", number)).unwrap();
        let link = setting.file("..data_tmp");
        symlink(format!("..data_{number}"), &link).unwrap();
        fs::rename(link, setting.file("..data")).unwrap();
    };
    version(1);
    symlink("..data/a.yaml", setting.file("a.yaml")).unwrap();
    let _daemon = setting.start();
    setting.until_replicas("a", 1);
    version(2);
    setting.until_replicas("a", 2);
}

#[test]
fn the_configurations_pool_keeps_what_was_changed_until_a_manifest_takes_it_over() {
    let setting = Setting::kept();
    let daemon = setting.start();
    setting.until_replicas("default", 0);
    setting.good(&["scale", "pool/default", "--replicas", "2"]);
    daemon.stop();
    let daemon = setting.start();
    setting.until_replicas("default", 2);
    setting.write("default.yaml", &setting.pool("default", 3));
    setting.until_replicas("default", 3);
    daemon.stop();
    let daemon = setting.start();
    assert_eq!(setting.until_replicas("default", 3)["spec"]["maxContainers"], 4);
    assert!(daemon.log.so_far().iter().any(|line| line.contains("was made by a manifest or by hand")));
}

#[test]
fn another_directorys_object_is_refused() {
    let setting = Setting::kept();
    let daemon = setting.start();
    setting.write("a.yaml", &setting.pool("a", 1));
    setting.until_replicas("a", 1);
    daemon.stop();
    let other = setting.other("other");
    fs::create_dir(&other).unwrap();
    fs::write(other.join("mine.yaml"), setting.pool("a", 2)).unwrap();
    let home = crate::common::daemon::Home::new(setting.home().state.parent().unwrap(), "");
    let daemon = home.simulated("boot=10ms").arg(format!("--manifests={}", other.display())).start();
    let told = daemon.log.events("REFUSED_MANIFEST", 1);
    assert!(told[0].message.contains(setting.file("").canonicalize().unwrap().to_str().unwrap()), "{told:?}");
    assert_eq!(setting.pool_now("a").unwrap()["spec"]["replicas"], 1);
}

#[test]
fn a_daemon_without_its_directory_does_not_start() {
    let setting = Setting::kept();
    fs::remove_dir(setting.file("")).unwrap();
    let said = setting.home().refused();
    assert!(said.contains("--manifests") && said.contains("cannot be read"), "{said}");
    assert!(!setting.home().state.join("api.sock").exists());
}

#[test]
fn a_claim_and_a_container_are_kept_too() {
    let setting = Setting::kept();
    let _daemon = setting.start();
    let image = setting.other("image.iso");
    let container = format!(
        "apiVersion: anweddol.io/v1alpha1\nkind: Container\nmetadata: {{name: box}}\nspec: {{template: {{image: {{iso: {}}}}}}}\n",
        image.display()
    );
    setting.write("box.yaml", &container);
    until("a container that is ready", || {
        setting.object("container", "box").filter(|container| container["status"]["phase"] == "Ready")
    });
    setting.write(
        "claim.yaml",
        "apiVersion: anweddol.io/v1alpha1\nkind: ContainerClaim\nmetadata: {name: mine}\nspec: {pool: nowhere}\n",
    );
    until("a claim", || setting.object("claim", "mine"));
    fs::remove_file(setting.file("box.yaml")).unwrap();
    fs::remove_file(setting.file("claim.yaml")).unwrap();
    until("nothing", || {
        (setting.object("container", "box").is_none() && setting.object("claim", "mine").is_none()).then_some(())
    });
}
