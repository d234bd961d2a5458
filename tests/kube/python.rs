//! The Python client makes, reads, changes, watches and deletes.

use crate::cluster::Cluster;
use crate::common::daemon::{finish, stderr, stdout};

#[test]
#[ignore = "needs the Python client (tests/kube/tools.sh)"]
fn the_python_client_does_what_it_does_with_every_cluster() {
    let cluster = Cluster::new();
    let pool = cluster.file("pool.yaml", &cluster.pool("py", 1));
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/kube/client.py");
    let output = finish(&mut cluster.tool("ANWEDDOL_PYTHON", "admin", &[script, &pool]));
    assert!(output.status.success(), "{}{}", stdout(&output), stderr(&output));
    let said = stdout(&output);
    let lines: Vec<&str> = said.lines().collect();
    let expected =
        ["made 1", "found in discovery", "replaced 2", "conflict 409", "patched 0", "ended by DELETED", "lease b"];
    assert_eq!(lines, expected, "{}", stderr(&output));
}
