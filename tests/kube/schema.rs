//! What the API's own documents say can be asked for is asked for, with whatever schemathesis makes of them.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::cluster::Cluster;
use crate::common::daemon::{finish, stderr, stdout};

/// Of each operation.
const REQUESTS: &str = "20";

#[test]
#[ignore = "needs schemathesis (tests/kube/tools.sh)"]
fn nothing_that_the_openapi_documents_describe_is_the_daemons_fault() {
    let cluster = Cluster::new();
    cluster.kubectl_with(&["apply", "-f", "-"], &cluster.pool("web", 1)).done();
    let view = |path: &str| cluster.done(&["config", "view", "--raw", "-o", &format!("jsonpath={{{path}}}")]);
    let encoded = view(".clusters[0].cluster.certificate-authority-data");
    let authority = STANDARD.decode(encoded).unwrap();
    let authority = cluster.file("authority.pem", std::str::from_utf8(&authority).unwrap());
    let (server, token) = (view(".clusters[0].cluster.server"), view(".users[0].user.token"));
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/kube/schema.py");
    let output =
        finish(&mut cluster.tool("ANWEDDOL_PYTHON", "admin", &[script, &server, &authority, &token, REQUESTS]));
    assert!(output.status.success(), "{}{}", stdout(&output), stderr(&output));
    // Not all of it was refused, and afterwards the daemon still does what it does.
    let said = stdout(&output);
    assert!(["200", "201", "404", "422"].iter().all(|code| said.contains(&format!(" of {code}"))), "{said}");
    print!("{said}");
    cluster.kubectl_with(&["apply", "-f", "-"], &cluster.pool("after", 1)).done();
    cluster.done(&["wait", "cpool/after", "--for=condition=Available", "--timeout=60s"]);
    let log = cluster.stop();
    assert!(!log.iter().any(|line| line.contains("panicked")), "{log:?}");
}
