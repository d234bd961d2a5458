//! kubectl 1.20, of Debian 12: older discovery, JSON bodies, its own idea of OpenAPI.

use crate::cluster::{Cluster, Said, cells};

#[test]
#[ignore = "needs kubectl 1.20 (tests/kube/tools.sh)"]
fn a_kubectl_of_years_ago_does_what_people_do_every_day() {
    let cluster = Cluster::new();
    let tool = |args: &[&str]| -> Said { cluster.run("ANWEDDOL_KUBECTL_OLDER", "admin", args) };
    let done = |args: &[&str]| tool(args).done();
    assert!(done(&["version"]).contains("Minor:\"20\""));
    assert!(done(&["api-resources", "--api-group=anweddol.io"]).contains("cpool,pool,pools"));
    let file = cluster.file("web.yaml", &cluster.pool("web", 1));
    assert_eq!(done(&["apply", "-f", &file]), "containerpool.anweddol.io/web created\n");
    assert_eq!(done(&["apply", "-f", &file]), "containerpool.anweddol.io/web unchanged\n");
    cluster.file("web.yaml", &cluster.pool("web", 2));
    assert_eq!(done(&["apply", "-f", &file]), "containerpool.anweddol.io/web configured\n");
    done(&["wait", "cpool/web", "--for=condition=Available", "--timeout=60s"]);
    done(&["wait", "ctr", "--all", "--for=condition=Ready", "--timeout=60s"]);
    let pools = done(&["get", "cpool,ctr"]);
    let pools = cells(&pools);
    assert_eq!(pools[0], ["NAME", "READY", "UPDATED", "BOUND", "CONTAINERS", "AGE"]);
    assert!(done(&["describe", "cpool", "web"]).contains("AppliedObject"));
    done(&["label", "cpool", "web", "tier=front"]);
    assert_eq!(done(&["get", "cpool", "-l", "tier=front", "-o", "name"]), "containerpool.anweddol.io/web\n");
    done(&["patch", "cpool", "web", "--type=merge", "-p", "{\"spec\":{\"maxContainers\":7}}"]);
    done(&["scale", "cpool", "web", "--replicas=0"]);
    assert_eq!(done(&["get", "cpool", "web", "-o", "jsonpath={.spec.replicas} {.spec.maxContainers}"]), "0 7");
    let wrong = tool(&["patch", "cpool", "web", "--type=merge", "-p", "{\"spec\":{\"replicas\":-1}}"]).refused();
    assert!(wrong.contains("spec.replicas"), "{wrong}");
    assert_eq!(done(&["delete", "cpool", "web"]), "containerpool.anweddol.io \"web\" deleted\n");
    let gone = tool(&["get", "cpool", "web"]).refused();
    assert!(gone.contains("NotFound") && gone.contains("\"web\" not found"), "{gone}");
}
