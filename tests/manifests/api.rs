//! The local API as a socket: what it takes, what it refuses, and how.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;

use serde_json::{Value, json};

use crate::common::daemon::{finish, program, stdout};
use crate::setting::Setting;

/// A manifest that describes its object wholly.
const MANIFEST: &str = "application/vnd.anweddol.manifest+json";
const ROOT: &str = "/apis/anweddol.io/v1alpha1";

/// Sends bytes and reads until the daemon closes: status and body.
fn raw(setting: &Setting, request: &[u8]) -> (u16, Value) {
    let mut stream = UnixStream::connect(setting.home().state.join("api.sock")).unwrap();
    stream.set_read_timeout(Some(crate::common::PATIENCE)).unwrap();
    // Whoever sends too much is answered before all of it is read.
    let _ = stream.write_all(request);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let code = head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
    (code, serde_json::from_str(body).unwrap_or(Value::Null))
}

fn ask(setting: &Setting, verb: &str, path: &str, body: &str) -> (u16, Value) {
    let length = body.len();
    let media = if verb == "PATCH" { MANIFEST } else { "application/json" };
    let head = format!(
        "{verb} {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Type: {media}\r\nContent-Length: {length}\r\n\r\n"
    );
    raw(setting, format!("{head}{body}").as_bytes())
}

#[test]
fn refusals_are_statuses_with_the_right_code_and_say_what_would_be_right() {
    let setting = Setting::plain("");
    let _daemon = setting.start();
    let pools = format!("{ROOT}/namespaces/default/containerpools");
    let pool = format!("{pools}/default");
    let claim = |name: &str| {
        json!({
            "apiVersion": "anweddol.io/v1alpha1", "kind": "ContainerClaim",
            "metadata": { "name": name }, "spec": { "pool": "nowhere" },
        })
        .to_string()
    };
    let claims = format!("{ROOT}/namespaces/default/containerclaims");
    assert_eq!(ask(&setting, "POST", &claims, &claim("a")).0, 201);
    for (verb, path, body, code, reason, word) in [
        ("GET", "/", String::new(), 404, "NotFound", "could not find"),
        ("GET", &format!("{ROOT}/pods"), String::new(), 404, "NotFound", "containerpools"),
        ("GET", &format!("{pools}/nope"), String::new(), 404, "NotFound", "nope"),
        ("GET", &format!("{pools}/NOPE"), String::new(), 400, "BadRequest", "lower-case"),
        ("GET", &format!("{pools}?watch=perhaps"), String::new(), 400, "BadRequest", "watch"),
        ("GET", &format!("{pools}?labelSelector=a%20b"), String::new(), 400, "BadRequest", "label selector"),
        ("PUT", &pools, String::new(), 405, "MethodNotAllowed", "verb"),
        ("POST", &claims, claim("a"), 409, "AlreadyExists", "exists"),
        ("POST", &pools, claim("b"), 400, "BadRequest", "does not belong"),
        ("PATCH", &format!("{claims}/b"), claim("c"), 400, "BadRequest", "the path about"),
        ("PATCH", &format!("{claims}/a"), claim("a").replace("nowhere", "else"), 422, "Invalid", "spec.pool"),
        (
            "PATCH",
            &format!("{claims}/a?fieldValidation=Strict"),
            claim("a").replace("pool", "pol"),
            400,
            "BadRequest",
            "did you mean pool?",
        ),
        ("PATCH", &format!("{claims}/a?resourceVersion=1"), claim("a"), 409, "Conflict", "read it again"),
        ("PATCH", &format!("{claims}/a"), "{".into(), 400, "BadRequest", "line"),
        ("PATCH", &format!("{claims}/a"), String::new(), 400, "BadRequest", "no JSON"),
        ("PUT", &format!("{claims}/a"), claim("a"), 422, "Invalid", "metadata.resourceVersion"),
        ("PUT", &format!("{pool}/scale"), "{}".into(), 422, "Invalid", "replicas"),
        ("PUT", &format!("{pool}/scale"), "{\"spec\":{\"replicas\":7}}".into(), 422, "Invalid", "maxContainers"),
        ("POST", &claims, "x".repeat((1 << 20) + 1), 413, "RequestEntityTooLarge", "1048576"),
    ] {
        let (found, status) = ask(&setting, verb, path, &body);
        let context = format!("{verb} {path}: {found} {status}");
        assert_eq!((found, &status["reason"], &status["code"]), (code, &reason.into(), &code.into()), "{context}");
        assert_eq!((&status["kind"], &status["status"]), (&"Status".into(), &"Failure".into()), "{context}");
        assert!(status["message"].as_str().unwrap().contains(word), "{context}, without {word}");
    }
    let (_, status) = ask(&setting, "PATCH", &format!("{claims}/a"), &claim("a").replace("nowhere", "else"));
    assert_eq!(status["details"]["causes"][0]["field"], "spec.pool");
}

#[test]
fn bytes_that_are_no_request_end_their_connection_and_nothing_else() {
    let setting = Setting::plain("");
    let _daemon = setting.start();
    for bytes in [&b"\x00\xff\x16\x03"[..], b"GET\r\n\r\n", &[b'a'; 200_000], b"GET / HTTP/9.9\r\n\r\n"] {
        let (code, _) = raw(&setting, bytes);
        assert!(code == 0 || code >= 400, "{code}");
    }
    assert_eq!(ask(&setting, "GET", &format!("{ROOT}/containerpools"), "").0, 200);
}

#[test]
fn a_watch_from_a_revision_of_another_life_is_told_to_list_again() {
    let setting = Setting::plain("");
    let _daemon = setting.start();
    let path = format!("{ROOT}/containerpools?watch=1&resourceVersion=999999");
    let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    let mut stream = UnixStream::connect(setting.home().state.join("api.sock")).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("\"ERROR\"") && answer.contains("410"), "{answer}");
}

#[test]
fn the_socket_is_the_owners_alone_and_a_daemon_without_it_has_none() {
    let setting = Setting::plain("");
    let daemon = setting.start();
    let socket = setting.home().state.join("api.sock");
    assert_eq!(fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
    // Left behind by `kill -9`, it is replaced by the next start.
    daemon.kill();
    assert!(socket.exists());
    let daemon = setting.start();
    assert_eq!(ask(&setting, "GET", &format!("{ROOT}/containerpools"), "").0, 200);
    daemon.stop();
    let without = setting.other("without.yaml");
    let state = setting.home().state.display().to_string();
    let server = "{listen: '127.0.0.1:0', health_listen: '127.0.0.1:0', api_listen: null, local_api: false}";
    fs::write(&without, format!("state_dir: {state}\nserver: {server}\n")).unwrap();
    let home = crate::common::daemon::Home::new(setting.home().state.parent().unwrap(), "");
    let _daemon = home.with_config(&without, &["--simulate=boot=10ms"]).start();
    assert!(!socket.exists());
}

#[test]
fn the_door_for_everybody_takes_tls_alone_and_nothing_that_is_none_ends_it() {
    let setting = Setting::plain("");
    let _daemon = setting.start();
    let kubeconfig = setting.good(&["kubeconfig", "--role", "view"]);
    let address = kubeconfig.split("https://").nth(1).unwrap().split_whitespace().next().unwrap();
    let plain = format!("GET {ROOT}/containerpools HTTP/1.1\r\nHost: a\r\n\r\n");
    for bytes in [plain.as_bytes(), b"\x16\x03\x01\xff\xff", &[0; 100_000], &[0xff; 10]] {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(crate::common::PATIENCE)).unwrap();
        let _ = stream.write_all(bytes);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        assert!(!String::from_utf8_lossy(&answer).contains("HTTP/"), "{answer:?}");
    }
    // The authority's key is nobody else's, and no part of what clients are given.
    let authority = setting.home().state.join("authority.pem");
    assert_eq!(fs::metadata(&authority).unwrap().permissions().mode() & 0o777, 0o600);
    let key = fs::read_to_string(&authority).unwrap();
    let key = key.lines().nth(1).unwrap();
    assert!(!kubeconfig.contains(key) && kubeconfig.contains("certificate-authority-data"));
    // A token that was made twice would be two people's.
    assert!(setting.bad(3, &["kubeconfig", "--role", "view"]).contains("there is a token 'kubeconfig' already"));
    assert!(setting.good(&["token", "list"]).contains("kubeconfig"));
    let definitions = stdout(&finish(&mut program(["crds"])));
    assert_eq!(definitions.matches("kind: CustomResourceDefinition").count(), 3);
}
