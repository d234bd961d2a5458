//! The local API, asked once: an answer counts when all of it came.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use anweddol::server::kube::MANIFEST;
use serde_json::Value;

use crate::common::PATIENCE;

const ROOT: &str = "/apis/anweddol.io/v1alpha1/namespaces/default";

/// Code and body.
pub(crate) fn ask(state: &Path, verb: &str, path: &str, body: &Value) -> io::Result<(u16, Value)> {
    let mut stream = UnixStream::connect(state.join("api.sock"))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let length = body.len();
    // What is patched is described wholly.
    let media = if verb == "PATCH" { MANIFEST } else { "application/json" };
    write!(
        stream,
        "{verb} {ROOT}/{path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Type: {media}\r\nContent-Length: {length}\r\n\r\n{body}"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let broken = || io::Error::from(io::ErrorKind::UnexpectedEof);
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(broken)?;
    let code = head.split(' ').nth(1).and_then(|code| code.parse().ok()).ok_or_else(broken)?;
    Ok((code, serde_json::from_str(body).map_err(|_| broken())?))
}
