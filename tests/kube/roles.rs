//! Who may do what.

use crate::cluster::Cluster;

#[test]
#[ignore = "needs kubectl (tests/kube/tools.sh)"]
fn whoever_may_only_read_reads_and_nothing_else() {
    let cluster = Cluster::new();
    cluster.user("bob", &["--role", "view"]);
    cluster.kubectl_with(&["apply", "-f", "-"], &cluster.pool("web", 0)).done();
    let bob = |args: &[&str]| cluster.kubectl_as("bob", args);
    let me = bob(&["auth", "whoami"]).done();
    assert!(me.contains("bob") && me.contains("anweddol:view"), "{me}");
    assert_eq!(bob(&["auth", "can-i", "get", "cpool"]).done(), "yes\n");
    let no = bob(&["auth", "can-i", "delete", "cpool"]);
    assert!(no.code == 1 && no.out.starts_with("no"), "{no:?}");
    let rules = bob(&["auth", "can-i", "--list"]).done();
    let pools = rules.lines().find(|line| line.starts_with("containerpools.anweddol.io ")).unwrap();
    assert!(pools.ends_with("[get list watch]") && !rules.contains("secrets"), "{rules}");
    assert_eq!(bob(&["get", "cpool", "web", "-o", "name"]).done(), "containerpool.anweddol.io/web\n");
    let refused = bob(&["delete", "cpool", "web"]).refused();
    let said = "containerpools.anweddol.io \"web\" is forbidden: User \"bob\" cannot delete resource \"containerpools\" in API group \"anweddol.io\" in the namespace \"default\"";
    assert!(refused.contains("(Forbidden)") && refused.contains(said), "{refused}");
    assert!(cluster.anweddol(&["token", "list"]).done().contains("bob"));
    assert_eq!(cluster.anweddol(&["token", "delete", "bob"]).done(), "token/bob deleted\n");
    let stranger = bob(&["get", "cpool"]).refused();
    assert!(stranger.contains("must be logged in"), "{stranger}");
    // Every write is in the log, and who made it: what was refused as well.
    let log = cluster.stop();
    let audit: Vec<&String> = log.iter().filter(|line| line.contains("\"target\":\"audit\"")).collect();
    for (user, code) in [("admin", 201), ("bob", 403)] {
        let told = [format!("\"user\":\"{user}\""), format!("\"code\":{code}")];
        assert!(audit.iter().any(|line| told.iter().all(|part| line.contains(part))), "{user}: {audit:?}");
    }
}

#[test]
#[ignore = "needs kubectl (tests/kube/tools.sh)"]
fn whoever_may_only_claim_gets_a_machine_and_its_login() {
    let cluster = Cluster::new();
    cluster.user("eve", &["--role", "claim", "--namespace", "red"]);
    cluster.kubectl_with(&["-n", "red", "apply", "-f", "-"], &cluster.pool("web", 1)).done();
    let claim = "apiVersion: anweddol.io/v1alpha1\nkind: ContainerClaim\nmetadata: {name: mine}\nspec: {pool: web}\n";
    let file = cluster.file("claim.yaml", claim);
    let eve = |args: &[&str]| cluster.kubectl_as("eve", args);
    assert_eq!(eve(&["create", "-f", &file]).done(), "containerclaim.anweddol.io/mine created\n");
    assert!(eve(&["wait", "claim/mine", "--for=condition=Ready", "--timeout=60s"]).done().contains("condition met"));
    assert!(eve(&["get", "claims"]).done().contains("Bound"));
    let login = cluster.anweddol(&["login", "claim", "mine", "--namespace", "red"]).done();
    assert!(login.contains("password"), "{login}");
    for args in [&["get", "cpool", "-A"][..], &["-n", "default", "get", "claims"], &["delete", "cpool", "web"]] {
        let said = eve(args).refused();
        assert!(said.contains("(Forbidden)"), "{args:?}: {said}");
    }
    assert!(eve(&["delete", "claim", "mine", "--timeout=60s"]).done().contains("deleted"));
}

#[test]
#[ignore = "needs kubectl (tests/kube/tools.sh)"]
fn a_doctor_comes_by_the_hosts_own_door_alone() {
    let cluster = Cluster::new();
    let report = cluster.anweddol(&["doctor", "--only", "records", "-o", "json"]).done();
    assert!(report.contains("\"looked\""), "{report}");
    assert!(cluster.kubectl(&["get", "--raw", "/doctor"]).refused().contains("(NotFound)"));
}
