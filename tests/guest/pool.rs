//! Machines that are ready before anybody asks, as a manifest in a directory says.

use std::fs;

use serde_json::Value;

use crate::common::ask::runtime;
use crate::common::until;
use crate::host::{Host, execute, log_in};
use crate::lifetimes::{ends, time};
use crate::user::{LISTEN, User, write};

/// Two that wait, and room for who takes them.
fn pair(host: &Host, memory: &str) -> String {
    format!(
        "apiVersion: anweddol.io/v1alpha1\nkind: ContainerPool\nmetadata: {{name: pair}}\nspec:\n  replicas: 2\n  \
         maxContainers: 4\n  updateStrategy: {{type: RollingUpdate, maxUnavailable: 1}}\n  template:\n    image: {}\n    \
         memory: {memory}\n    lifetime: {{ttlSeconds: 600}}\n",
        host.kernel()
    )
}

/// Waits until two of this memory wait, all is as the manifest says, and so many are bound: the two.
fn until_two(user: &User, memory: &str, bound: u32) -> Vec<String> {
    until(&format!("two of {memory}"), || {
        let pool = user.object("pool", "pair")?;
        let status = &pool["status"];
        let as_wished = [("readyReplicas", 2), ("updatedReplicas", 2), ("boundContainers", bound)];
        let as_wished = as_wished.iter().all(|(name, count)| status[name] == *count)
            && status["containers"] == bound + 2
            && status["observedGeneration"] == pool["metadata"]["generation"]
            && pool["spec"]["template"]["memory"] == memory;
        let listed = user.told(&["get", "containers"]);
        let waits = |c: &&Value| c["status"]["phase"] == "Ready" && c["spec"]["template"]["memory"] == memory;
        let two: Vec<String> = listed["items"].as_array()?.iter().filter(waits).map(name).collect();
        (as_wished && two.len() == 2).then_some(two)
    })
}

fn name(object: &Value) -> String {
    object["metadata"]["name"].as_str().unwrap().to_owned()
}

#[test]
#[ignore = "needs qemu: run through tests/lab/run.sh"]
fn a_pool_of_two_is_as_its_manifest_says_and_never_touches_a_machine_in_use() {
    let host = Host::lab();
    let manifests = host.dir.join("manifests");
    fs::create_dir(&manifests).unwrap();
    let file = manifests.join("pair.yaml");
    write(&file, &pair(&host, "256Mi"));
    let home = host.home("", "").arg(LISTEN).arg(format!("--manifests={}", manifests.display()));
    let daemon = home.start();
    let user = User::of(&host, &home);
    daemon.log.events("READY_CONTAINER", 2);
    let first = until_two(&user, "256Mi", 0);
    assert_eq!(host.machines().len(), 2);

    // One is taken as it stands, and another one takes its place.
    let mine = user.create(&["--pool", "pair"]);
    assert!(first.contains(&mine.uuid), "another machine was booted for it");
    let qemu = host.machine(&mine.uuid).unwrap();
    let runtime = runtime();
    let mut session = runtime.block_on(log_in(&mine));
    assert_eq!(runtime.block_on(execute(&mut session, "id -un")).trim(), mine.username);
    daemon.log.events("READY_CONTAINER", 3);
    let second = until_two(&user, "256Mi", 1);
    assert!(first.iter().all(|name| *name == mine.uuid || second.contains(name)), "{first:?}, {second:?}");

    // Another template replaces those that wait, and nothing else.
    write(&file, &pair(&host, "320Mi"));
    daemon.log.events("UPDATING_POOL", 1);
    daemon.log.events("UPDATED_POOL", 1);
    let third = until_two(&user, "320Mi", 1);
    for uuid in &third {
        let line = host.arguments(uuid);
        assert!(line.contains("-m 320") || line.contains("-m size=327680k"), "{line}");
    }
    until("the ends of those it replaced", || second.iter().all(|uuid| host.machine(uuid).is_none()).then_some(()));
    assert_eq!(host.machine(&mine.uuid), Some(qemu), "the machine in use is another one");
    assert_eq!(runtime.block_on(execute(&mut session, "echo here")), "here\n");

    // Its time ends it, in the middle of a session; the two that wait stay.
    let deadline = time(&user.extend(&mine, "10s"));
    ends(&host, &daemon, &user, &mine, "Expired", Some(deadline));
    assert_eq!(until_two(&user, "320Mi", 0), third);

    fs::remove_file(&file).unwrap();
    user.until_none("pool", "pair");
    assert_eq!(host.machines(), [0; 0]);
    daemon.stop();
}
