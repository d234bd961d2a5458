//! Writing: apply in both ways, edit, patch, scale, delete.

use crate::cluster::Cluster;

const POOL: &str = "containerpool.anweddol.io/web";

#[test]
#[ignore = "needs kubectl (tests/kube/tools.sh)"]
fn a_pool_is_applied_changed_compared_and_deleted() {
    let cluster = Cluster::new();
    let apply = ["apply", "-f", "-"];
    let manifest = |replicas| cluster.pool("web", replicas);
    for (replicas, outcome) in [(2, "created"), (2, "unchanged"), (3, "configured")] {
        let said = cluster.kubectl_with(&apply, &manifest(replicas)).done();
        assert_eq!(said, format!("{POOL} {outcome}\n"));
    }
    assert_eq!(cluster.done(&["get", "cpool", "web", "-o", "jsonpath={.spec.replicas} {.metadata.generation}"]), "3 2");
    let waited = cluster.done(&["wait", "pool/web", "--for=condition=Available", "--timeout=60s"]);
    assert_eq!(waited, format!("{POOL} condition met\n"));
    let waited = cluster.done(&["wait", "pool/web", "--for=jsonpath={.status.readyReplicas}=3", "--timeout=60s"]);
    assert_eq!(waited, format!("{POOL} condition met\n"));
    // What would change is shown, and changes nothing.
    for server_side in ["--server-side=false", "--server-side=true"] {
        let args = ["diff", "--force-conflicts", server_side, "-f", "-"];
        let args = if server_side.ends_with("false") { &["diff", "-f", "-"][..] } else { &args[..] };
        let diff = cluster.kubectl_with(args, &manifest(4));
        assert!(diff.code == 1 && diff.out.contains("-  replicas: 3\n+  replicas: 4\n"), "{diff:?}");
    }
    let tried = cluster.kubectl_with(&["apply", "--dry-run=server", "-f", "-"], &manifest(4)).done();
    assert_eq!(tried, format!("{POOL} configured (server dry run)\n"));
    assert_eq!(cluster.kubectl_with(&["diff", "-f", "-"], &manifest(3)).done(), "");
    assert_eq!(cluster.done(&["scale", "cpool/web", "--replicas=1"]), format!("{POOL} scaled\n"));
    assert_eq!(
        cluster.done(&["scale", "cpool/web", "--current-replicas=1", "--replicas=2"]),
        format!("{POOL} scaled\n")
    );
    assert_eq!(cluster.done(&["get", "cpool", "web", "--subresource=scale", "-o", "jsonpath={.spec.replicas}"]), "2");
    assert_eq!(cluster.done(&["label", "cpool", "web", "tier=front"]), format!("{POOL} labeled\n"));
    assert_eq!(cluster.done(&["annotate", "cpool", "web", "note=hello world"]), format!("{POOL} annotated\n"));
    let merge = r#"{"spec":{"replicas":1}}"#;
    assert_eq!(cluster.done(&["patch", "cpool", "web", "--type=merge", "-p", merge]), format!("{POOL} patched\n"));
    let json = r#"[{"op":"replace","path":"/spec/replicas","value":2}]"#;
    assert_eq!(cluster.done(&["patch", "cpool", "web", "--type=json", "-p", json]), format!("{POOL} patched\n"));
    let strategic = cluster.kubectl(&["patch", "cpool", "web", "-p", merge]).refused();
    assert!(strategic.contains("application/strategic-merge-patch+json is not supported"), "{strategic}");
    let file = cluster.file("pool.yaml", &manifest(2));
    let replaced = loop {
        let said = cluster.kubectl(&["replace", "-f", &file]);
        // kubectl looks and then writes: what the operator writes in between is not lost.
        if !said.err.contains("Conflict") {
            break said.done();
        }
    };
    assert_eq!(replaced, format!("{POOL} replaced\n"));
    let gone = cluster.done(&["delete", "cpool", "web", "--timeout=60s"]);
    assert!(gone.starts_with("containerpool.anweddol.io \"web\" deleted"), "{gone}");
    assert_eq!(cluster.kubectl(&["get", "ctr", "-o", "name"]).done(), "");
}

#[test]
#[ignore = "needs kubectl (tests/kube/tools.sh)"]
fn kinds_of_kubernetes_are_applied_compared_patched_and_edited() {
    let cluster = Cluster::new();
    let secret = |text: &str| {
        format!("apiVersion: v1\nkind: Secret\nmetadata:\n  name: a\ndata:\n  k: {text}\n  only-{text}: eA==\n")
    };
    let namespace =
        |label: &str| format!("apiVersion: v1\nkind: Namespace\nmetadata:\n  name: red\n  labels: {{team: {label}}}\n");
    for (name, of) in [("secret/a", &secret as &dyn Fn(&str) -> String), ("namespace/red", &namespace)] {
        for (text, outcome) in [("YmJi", "created"), ("YmJi", "unchanged"), ("Y2Nj", "configured")] {
            let said = cluster.kubectl_with(&["apply", "-f", "-"], &of(text)).done();
            assert_eq!(said, format!("{name} {outcome}\n"));
        }
        let diff = cluster.kubectl_with(&["diff", "-f", "-"], &of("ZGRk"));
        assert!(diff.code == 1 && diff.out.contains("+++"), "{diff:?}");
        let said = cluster.kubectl_with(&["apply", "--server-side", "-f", "-"], &of("ZWVl")).done();
        assert_eq!(said, format!("{name} serverside-applied\n"));
    }
    assert_eq!(cluster.done(&["get", "secret", "a", "-o", "jsonpath={.data.k} {.data.only-YmJi}"]), "ZWVl ");
    let said = cluster.done(&["patch", "secret", "a", "-p", r#"{"stringData":{"k":"f"}}"#]);
    assert_eq!(said, "secret/a patched\n");
    assert_eq!(cluster.done(&["get", "secret", "a", "-o", "jsonpath={.data.k}"]), "Zg==");
    let mut edit = cluster.tool("ANWEDDOL_KUBECTL", "admin", &["edit", "ns", "red"]);
    let edited = crate::common::daemon::finish(edit.env("KUBE_EDITOR", "sed -i s/team:.ZWVl/team:\\ f/"));
    assert_eq!(crate::common::daemon::stdout(&edited), "namespace/red edited\n", "{edited:?}");
    assert_eq!(cluster.done(&["get", "ns", "red", "-o", "jsonpath={.metadata.labels.team}"]), "f");
}

#[test]
#[ignore = "needs kubectl (tests/kube/tools.sh)"]
fn fields_belong_to_whoever_applied_them() {
    let cluster = Cluster::new();
    let apply = |more: &[&str], replicas| {
        let args = [&["apply", "--server-side", "-f", "-"], more].concat();
        cluster.kubectl_with(&args, &cluster.pool("web", replicas))
    };
    assert_eq!(apply(&[], 2).done(), format!("{POOL} serverside-applied\n"));
    assert_eq!(apply(&[], 3).done(), format!("{POOL} serverside-applied\n"));
    cluster.done(&["patch", "cpool", "web", "--type=merge", "-p", r#"{"spec":{"replicas":1}}"#]);
    let said = apply(&[], 2).refused();
    assert!(said.contains("Apply failed with 1 conflict: conflict with \"kubectl-patch\""), "{said}");
    assert!(said.contains(".spec.replicas") && said.contains("--force-conflicts"), "{said}");
    assert_eq!(apply(&["--force-conflicts"], 2).done(), format!("{POOL} serverside-applied\n"));
    // From the one way of applying to the other, as kubectl moves them.
    cluster.kubectl_with(&["apply", "-f", "-"], &cluster.pool("csa", 2)).done();
    cluster.kubectl_with(&["apply", "--server-side", "-f", "-"], &cluster.pool("csa", 1)).done();
    let managers = "jsonpath={range .metadata.managedFields[*]}{.manager}/{.operation}{\" \"}{end}";
    let managers = cluster.done(&["get", "cpool", "csa", "--show-managed-fields", "-o", managers]);
    assert!(managers.contains("kubectl/Apply") && !managers.contains("client-side"), "{managers}");
}

#[test]
#[ignore = "needs kubectl (tests/kube/tools.sh)"]
fn an_editor_changes_an_object_and_opens_again_with_what_is_wrong() {
    let cluster = Cluster::new();
    cluster.kubectl_with(&["apply", "-f", "-"], &cluster.pool("web", 0)).done();
    let edit = |from: &str, to: &str| {
        let mut command = cluster.tool("ANWEDDOL_KUBECTL", "admin", &["edit", "cpool", "web"]);
        crate::common::daemon::finish(command.env("KUBE_EDITOR", format!("sed -i s/{from}/{to}/")))
    };
    let edited = edit("maxContainers:.6", "maxContainers:\\ 7");
    assert_eq!(crate::common::daemon::stdout(&edited), format!("{POOL} edited\n"), "{edited:?}");
    assert_eq!(cluster.done(&["get", "cpool", "web", "-o", "jsonpath={.spec.maxContainers}"]), "7");
    let wrong = crate::common::daemon::stderr(&edit("maxContainers:.7", "maxContainers:\\ 0"));
    assert!(wrong.contains("is invalid") && wrong.contains("no valid changes were saved"), "{wrong}");
}

#[test]
#[ignore = "needs kubectl (tests/kube/tools.sh)"]
fn what_is_wrong_with_a_manifest_is_said_by_field() {
    let cluster = Cluster::new();
    let apply =
        |more: &[&str], manifest: String| cluster.kubectl_with(&[&["apply", "-f", "-"], more].concat(), &manifest);
    let unknown = cluster.pool("bad", 1).replace("replicas:", "replicaz:");
    let said = apply(&[], unknown.clone()).refused();
    assert!(
        said.contains("(BadRequest)") && said.contains("strict decoding error: unknown field \"spec.replicaz\""),
        "{said}"
    );
    let warned = apply(&["--validate=warn", "--dry-run=server"], unknown);
    assert!(warned.code == 0 && warned.err.contains("Warning: unknown field \"spec.replicaz\""), "{warned:?}");
    let said = apply(&[], cluster.pool("bad", 40).replace("iso: /", "iso: ")).refused();
    assert!(said.starts_with("The ContainerPool \"bad\" is invalid"), "{said}");
    assert!(said.contains("spec.replicas: 40 are more than spec.maxContainers"), "{said}");
    assert!(said.contains("spec.template.image.iso"), "{said}");
    cluster.kubectl_with(&["create", "-f", "-"], &cluster.pool("web", 0)).done();
    let twice = cluster.kubectl_with(&["create", "-f", "-"], &cluster.pool("web", 0)).refused();
    assert!(
        twice.contains("(AlreadyExists)") && twice.contains("containerpools.anweddol.io \"web\" already exists"),
        "{twice}"
    );
    let none = cluster.kubectl(&["get", "cpool", "nope"]).refused();
    assert_eq!(none, "Error from server (NotFound): containerpools.anweddol.io \"nope\" not found\n");
}
