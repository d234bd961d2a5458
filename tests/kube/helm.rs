//! helm installs, upgrades and removes a chart of our kinds.

use crate::cluster::Cluster;
use crate::common::daemon::{finish, stderr, stdout};

#[test]
#[ignore = "needs helm (tests/kube/tools.sh)"]
fn a_chart_of_our_kinds_is_installed_upgraded_and_removed() {
    let cluster = Cluster::new();
    let pool = cluster.pool("{{ .Release.Name }}", 1).replace("replicas: 1", "replicas: {{ .Values.replicas }}");
    cluster.file("chart/Chart.yaml", "apiVersion: v2\nname: pools\nversion: 0.1.0\n");
    cluster.file("chart/values.yaml", "replicas: 1\n");
    let template = cluster.file("chart/templates/pool.yaml", &pool);
    let secret =
        "apiVersion: v1\nkind: Secret\nmetadata: {name: hidden}\nstringData: {replicas: '{{ .Values.replicas }}'}\n";
    cluster.file("chart/templates/secret.yaml", secret);
    let hidden = || cluster.done(&["get", "secret", "hidden", "-o", "jsonpath={.data.replicas}"]);
    let chart = template.strip_suffix("/templates/pool.yaml").unwrap();
    let helm = |args: &[&str]| {
        let output = finish(&mut cluster.tool("ANWEDDOL_HELM", "admin", args));
        assert!(output.status.success(), "helm {args:?}: {}{}", stdout(&output), stderr(&output));
        stdout(&output)
    };
    assert!(helm(&["install", "web", chart, "--wait", "--timeout", "60s"]).contains("STATUS: deployed"));
    assert_eq!(cluster.done(&["get", "cpool", "web", "-o", "jsonpath={.spec.replicas}"]), "1");
    assert_eq!(hidden(), "MQ==");
    assert!(
        helm(&["upgrade", "web", chart, "--set", "replicas=2", "--wait", "--timeout", "60s"]).contains("REVISION: 2")
    );
    assert_eq!(cluster.done(&["get", "cpool", "web", "-o", "jsonpath={.spec.replicas}"]), "2");
    assert_eq!(hidden(), "Mg==");
    assert!(helm(&["ls"]).contains("pools-0.1.0"));
    helm(&["rollback", "web", "1", "--wait", "--timeout", "60s"]);
    assert_eq!(cluster.done(&["get", "cpool", "web", "-o", "jsonpath={.spec.replicas}"]), "1");
    assert_eq!(hidden(), "MQ==");
    // By helm's way before it knew server-side apply as well.
    helm(&["upgrade", "web", chart, "--server-side=false", "--set", "replicas=2", "--wait", "--timeout", "60s"]);
    assert_eq!(hidden(), "Mg==");
    helm(&["uninstall", "web", "--wait", "--timeout", "60s"]);
    assert!(cluster.kubectl(&["get", "secret", "hidden"]).refused().contains("NotFound"));
    assert!(cluster.kubectl(&["get", "cpool", "web"]).refused().contains("NotFound"));
}
