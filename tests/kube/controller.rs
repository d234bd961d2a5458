//! A controller written with kube-rs (`examples/controller`) works, and goes on when the daemon starts again.

use std::process::{Child, Stdio};

use crate::cluster::Cluster;

/// Ended with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
#[ignore = "needs the controller (tests/kube/tools.sh builds it)"]
fn a_controller_of_kube_rs_goes_on_after_a_restart_that_forgets_all_revisions() {
    let cluster = Cluster::at("127.0.0.75");
    cluster.user("controller", &["--role", "edit"]);
    let mut command = cluster.tool("ANWEDDOL_CONTROLLER", "controller", &[]);
    let _controller = Running(command.stdout(Stdio::null()).spawn().unwrap());
    let labelled = |name: &str| cluster.pool(name, 0).replace("labels: {", "labels: {example.org/claimed: 'true', ");
    let claimed = |cluster: &Cluster, name: &str| {
        let claim = format!("claim/{name}-claimed");
        cluster.done(&["wait", &claim, "--for=create", "--timeout=60s"]);
        cluster.done(&["wait", &claim, "--for=condition=Ready", "--timeout=60s"]);
    };
    cluster.kubectl_with(&["apply", "-f", "-"], &labelled("before")).done();
    claimed(&cluster, "before");
    let (before, after) = (cluster.pool("before", 0), labelled("after"));
    let cluster = cluster.restarted();
    cluster.kubectl_with(&["apply", "-f", "-"], &after).done();
    claimed(&cluster, "after");
    // Without its label it has no claim, and with its pool its claim goes.
    cluster.kubectl_with(&["apply", "-f", "-"], &before).done();
    cluster.done(&["wait", "claim/before-claimed", "--for=delete", "--timeout=60s"]);
    cluster.done(&["delete", "pool", "after", "--timeout=60s"]);
    assert!(cluster.kubectl(&["get", "claim", "after-claimed"]).refused().contains("NotFound"));
}
