//! Reading: what there is, tables, watches, events, what fields mean.

use std::io::{BufRead, BufReader};

use crate::cluster::{Cluster, cells};

#[test]
#[ignore = "needs kubectl (tests/kube/tools.sh)"]
fn what_there_is_is_told_with_names_columns_and_meanings() {
    let cluster = Cluster::new();
    let version = cluster.done(&["version"]);
    assert!(version.contains("Server Version: v1.") && version.contains("+anweddol-"), "{version}");
    assert!(cluster.done(&["api-versions"]).contains("anweddol.io/v1alpha1\n"));
    let resources = cluster.done(&["api-resources", "--api-group=anweddol.io"]);
    let resources = cells(&resources);
    assert_eq!(resources.len(), 4, "{resources:?}");
    for (plural, short, kind) in [
        ("containerclaims", "claim,claims", "ContainerClaim"),
        ("containerpools", "cpool,pool,pools", "ContainerPool"),
        ("containers", "ctr,ctrs", "Container"),
    ] {
        assert!(resources.contains(&vec![plural, short, "anweddol.io/v1alpha1", "true", kind]), "{resources:?}");
    }
    cluster.kubectl_with(&["apply", "-f", "-"], &cluster.pool("web", 2)).done();
    cluster.done(&["wait", "pool/web", "--for=jsonpath={.status.readyReplicas}=2", "--timeout=60s"]);
    let pools = cluster.done(&["get", "pools"]);
    let pools = cells(&pools);
    assert_eq!(pools[0], ["NAME", "READY", "UPDATED", "BOUND", "CONTAINERS", "AGE"]);
    assert_eq!(pools[2][..5], ["web", "2/2", "2", "0", "2/6"]);
    let wide = cluster.done(&["get", "cpool,ctr", "-o", "wide", "-A"]);
    let wide = cells(&wide);
    assert_eq!(wide[0][..2], ["NAMESPACE", "NAME"]);
    assert_eq!(wide[2][1], "containerpool.anweddol.io/web");
    let named = cluster.done(&["get", "anweddol", "-o", "name"]);
    assert!(named.contains("containerpool.anweddol.io/web\n") && named.contains("container.anweddol.io/"), "{named}");
    let ready = ["get", "ctr", "--field-selector", "status.phase=Ready,status.pool=web", "-o", "name"];
    assert_eq!(cluster.done(&ready).lines().count(), 2);
    assert_eq!(
        cluster.done(&["get", "ctr", "--chunk-size=1", "--sort-by=.metadata.name", "-o", "name"]).lines().count(),
        2
    );
    assert_eq!(cluster.done(&["get", "cpool", "-l", "app in (web)", "-o", "name"]), "containerpool.anweddol.io/web\n");
    let unknown = cluster.kubectl(&["get", "ctr", "--field-selector", "spec.image=x"]).refused();
    assert!(unknown.contains("field label not supported: spec.image"), "{unknown}");
    let explained = cluster.done(&["explain", "cpool.spec.updateStrategy", "--recursive"]);
    assert!(
        explained.contains("KIND:       ContainerPool") && explained.contains("enum: RollingUpdate, Recreate"),
        "{explained}"
    );
    assert!(cluster.done(&["explain", "claim.spec.ttlSeconds"]).contains("Seconds from binding"));
}

#[test]
#[ignore = "needs kubectl (tests/kube/tools.sh)"]
fn a_watch_shows_every_change_as_it_comes() {
    let cluster = Cluster::new();
    cluster.kubectl_with(&["apply", "-f", "-"], &cluster.pool("web", 0)).done();
    let mut watch = cluster.kubectl_on(&["get", "cpool", "web", "-w", "-o", "jsonpath={.spec.maxContainers}{\"\\n\"}"]);
    let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert_eq!(lines.next().unwrap(), "6");
    for most in ["7", "8"] {
        let patch = format!("{{\"spec\":{{\"maxContainers\":{most}}}}}");
        cluster.done(&["patch", "cpool", "web", "--type=merge", "-p", &patch]);
        // The operator's own writes are changes as well.
        let found = lines.find(|line| line == most);
        assert!(found.is_some(), "{most}");
    }
    watch.kill().unwrap();
    watch.wait().unwrap();
}

#[test]
#[ignore = "needs kubectl (tests/kube/tools.sh)"]
fn events_are_told_of_their_objects() {
    let cluster = Cluster::new();
    cluster.kubectl_with(&["apply", "-f", "-"], &cluster.pool("web", 1)).done();
    cluster.done(&["wait", "pool/web", "--for=jsonpath={.status.readyReplicas}=1", "--timeout=60s"]);
    let described = cluster.done(&["describe", "cpool", "web"]);
    assert!(described.contains("Max Containers:             6") && described.contains("AppliedObject"), "{described}");
    let of_it = cluster.done(&["events", "--for", "containerpool.anweddol.io/web"]);
    assert!(of_it.contains("ContainerPool default/web created"), "{of_it}");
    let all = cluster.done(&["get", "events", "--field-selector", "reason=ReadyContainer"]);
    let all = cells(&all);
    assert_eq!(all[0], ["LAST SEEN", "TYPE", "REASON", "OBJECT", "MESSAGE"]);
    assert!(all.len() == 2 && all[1][3].starts_with("container/"), "{all:?}");
}

#[test]
#[ignore = "needs kubectl (tests/kube/tools.sh)"]
fn a_namespace_is_made_filled_and_emptied() {
    let cluster = Cluster::new();
    assert_eq!(cluster.done(&["create", "namespace", "red"]), "namespace/red created\n");
    cluster.kubectl_with(&["-n", "red", "apply", "-f", "-"], &cluster.pool("web", 1)).done();
    let waited = ["-n", "red", "wait", "pool/web", "--for=jsonpath={.status.readyReplicas}=1", "--timeout=60s"];
    cluster.done(&waited);
    // The other way round, a namespace is there as soon as something is in it.
    cluster.kubectl_with(&["-n", "blue", "apply", "-f", "-"], &cluster.pool("web", 0)).done();
    cluster.done(&["wait", "namespace/blue", "--for=create", "--timeout=60s"]);
    let gone = cluster.done(&["delete", "namespace", "red", "--timeout=60s"]);
    assert_eq!(gone, "namespace \"red\" deleted\n");
    let left = cluster.done(&["get", "cpool,ctr", "-A", "-o", "custom-columns=N:.metadata.namespace", "--no-headers"]);
    assert!(left.lines().all(|namespace| namespace != "red") && left.contains("blue"), "{left}");
}
