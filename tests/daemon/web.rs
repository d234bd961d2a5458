//! The original's plain web server in the running daemon.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;

use anweddol::wire::Response;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::{Value, json};
use tempfile::tempdir;

use crate::common::ask::{Grant, create, grant, stat, until_available};
use crate::common::daemon::{Daemon, Home, finish, program, stdout};
use crate::common::log::events;
use crate::common::{PATIENCE, until};

const LOCAL: &str = "web: {listen: '127.0.0.1:0'}";

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Asks as the original's client does: always POST, parameters in JSON.
fn write(stream: &mut impl Write, path: &str, parameters: &Value) {
    let body = parameters.to_string();
    let length = body.len();
    let head = format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: {length}");
    stream.write_all(format!("{head}\r\n\r\n{body}").as_bytes()).unwrap();
}

fn answer(stream: &mut impl Read) -> (u16, Response) {
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {answer:?}"));
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, Response::from_text(body.as_bytes()).unwrap())
}

fn post(address: SocketAddr, path: &str, parameters: &Value) -> Response {
    let mut stream = connect(address);
    write(&mut stream, path, parameters);
    let (status, response) = answer(&mut stream);
    assert_eq!(status, 200, "the original's client takes it for a broken server");
    response
}

fn get(address: SocketAddr, path: &str) -> (u16, Response) {
    let mut stream = connect(address);
    write!(stream, "GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    answer(&mut stream)
}

fn pair(grant: &Grant) -> Value {
    json!({ "container_uuid": grant.uuid, "client_token": grant.token })
}

fn web(daemon: &Daemon) -> SocketAddr {
    daemon.web.expect("it serves the web")
}

#[test]
fn a_web_client_of_the_original_creates_looks_and_destroys() {
    let dir = tempdir().unwrap();
    let daemon = Home::new(dir.path(), LOCAL).with_vectors_key().simulated("boot=10ms").start();
    let web = web(&daemon);
    let (status, home) = get(web, "/");
    assert_eq!((status, home.success, home.data["links"].as_array().unwrap().len()), (200, true, 3));

    let machine = grant(&post(web, "/create", &json!({})));
    let names: Vec<&String> = machine.data.keys().collect();
    #[rustfmt::skip]
    assert_eq!(names, [
        "container_uuid", "client_token", "container_iso_sha256",
        "container_username", "container_password", "container_listen_port",
    ]);
    let (status, by_reading) = get(web, "/stat");
    let by_posting = post(web, "/stat", &json!({}));
    for stat in [&by_reading, &by_posting] {
        assert!(status == 200 && stat.success && stat.data["uptime"].is_u64() && stat.data["version"].is_string());
        assert_eq!(stat.data["available"], 5);
    }
    // One machine, one token, whatever it is asked by.
    let on_the_wire = grant(&create(daemon.address));
    assert_eq!(stat(daemon.address)["available"], 4);

    let mut wrong = pair(&machine);
    wrong["client_token"] = on_the_wire.token.clone().into();
    assert_eq!(post(web, "/destroy", &wrong).message, "Bad authentication");
    assert!(post(web, "/destroy", &json!({})).message.starts_with("Bad request"));
    assert_eq!(post(web, "/destroy", &pair(&machine)).message, "OK");
    assert_eq!(post(web, "/destroy", &pair(&on_the_wire)).message, "OK");
    assert_eq!(post(web, "/destroy", &pair(&machine)).message, "Bad authentication");
    assert_eq!(stat(daemon.address)["available"], 6);
    assert_eq!(post(web, "/ping", &json!({})).message, "Bad request (Unknown verb)");
    assert_eq!(post(web, "/create/", &json!({})).message, "Bad request");
    assert_eq!(get(web, "/create").0, 405);

    let told = daemon.log.event_about("DESTROYED_CONTAINER", &machine.uuid);
    assert!(told.client.is_some_and(|client| client.ends_with("(127.0.0.1)")));
    daemon.log.events("MALFORMED_REQUEST", 1);
    assert_eq!(daemon.log.events("UNKNOWN_VERB", 1)[0].details["verb"], "PING");
    let log = daemon.stop();
    let made = events(&log).into_iter().filter(|event| event.name == "CREATED_CONTAINER").count();
    assert_eq!(made, 2, "a look made a machine");
    assert!(!log.join("\n").contains(&machine.password) && !log.join("\n").contains(&machine.token));
}

#[test]
fn it_is_off_by_default() {
    let (with, without) = (tempdir().unwrap(), tempdir().unwrap());
    let start = |dir: &Path, config| Home::new(dir, config).with_vectors_key().simulated("").start();
    let (with, without) = (start(with.path(), LOCAL), start(without.path(), ""));
    assert!(with.web.is_some() && without.web.is_none());
    until("one open file for the door", || (without.open_files() + 1 == with.open_files()).then_some(()));
}

#[test]
fn an_access_token_is_asked_for_as_on_the_wire() {
    let dir = tempdir().unwrap();
    let home = Home::new(dir.path(), &format!("{LOCAL}\naccess: {{required: true}}"));
    let home = home.with_vectors_key().simulated("boot=10ms");
    let daemon = home.start();
    let web = web(&daemon);
    let made = finish(program(["access-token", "add", "--state"]).arg(&home.state));
    let token = json!({ "access_token": stdout(&made).trim_end() });
    assert!(get(web, "/").1.success);
    assert_eq!(get(web, "/stat").1.message, "Bad request (Access token is required)");
    assert_eq!(post(web, "/create", &json!({})).message, "Bad request (Access token is required)");
    let unknown = json!({ "access_token": "x".repeat(124) });
    assert_eq!(post(web, "/create", &unknown).message, "Bad authentication (Invalid access token)");
    assert_eq!(post(web, "/create", &json!({ "access_token": "short" })).message, "Bad request");
    assert!(post(web, "/stat", &token).success);
    let mut pair = pair(&grant(&post(web, "/create", &token)));
    assert_eq!(post(web, "/destroy", &pair).message, "Bad request (Access token is required)");
    pair["access_token"] = token["access_token"].clone();
    assert_eq!(post(web, "/destroy", &pair).message, "OK");
}

#[test]
fn who_leaves_before_the_machine_is_ready_has_it_undone() {
    let dir = tempdir().unwrap();
    let config = format!("{LOCAL}\ncontainer: {{boot_deadline: 3600}}");
    let daemon = Home::new(dir.path(), &config).with_vectors_key().simulated("boot=3600s").start();
    let mut stream = connect(web(&daemon));
    write(&mut stream, "/create", &json!({}));
    daemon.log.events("CREATED_CONTAINER", 1);
    drop(stream);
    daemon.log.events("DESTROYED_CONTAINER", 1);
    until_available(daemon.address, 6);
    let told = daemon.log.events("RUNTIME_ERROR", 1);
    assert!(told[0].message.contains("went away before its answer was ready"), "{}", told[0].message);
}

#[test]
fn who_got_the_answer_is_known_to_have_it() {
    let dir = tempdir().unwrap();
    let daemon = Home::new(dir.path(), LOCAL).with_vectors_key().simulated("boot=10ms").start();
    let machine = grant(&post(web(&daemon), "/create", &json!({})));
    let state = dir.path().join("s");
    until("the note of its delivery", || {
        let args = ["get", "claims", "-o", "json", "--state", state.to_str().unwrap()];
        let output = finish(&mut program(args));
        let claims: Value = serde_json::from_slice(&output.stdout).ok()?;
        let claim = claims["items"].as_array()?.iter().find(|claim| claim["status"]["container"] == machine.uuid)?;
        claim["status"]["deliveredAt"].as_str().map(drop)
    });
}

#[test]
fn a_stop_answers_who_waits() {
    let dir = tempdir().unwrap();
    let daemon = Home::new(dir.path(), LOCAL).with_vectors_key().simulated("boot=1s").start();
    let mut stream = connect(web(&daemon));
    write(&mut stream, "/create", &json!({}));
    daemon.log.events("CREATED_CONTAINER", 1);
    daemon.terminate();
    grant(&answer(&mut stream).1);
    assert!(daemon.ended().0.success());
}

/// What trusts this authority.
fn trusting(authority: &Path) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(authority).unwrap() {
        roots.add(certificate.unwrap()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    Arc::new(config.with_root_certificates(roots).with_no_client_auth())
}

fn over_tls(address: SocketAddr, name: &str, authority: &Path) -> std::io::Result<Response> {
    let client = ClientConnection::new(trusting(authority), name.to_owned().try_into().unwrap()).unwrap();
    let mut stream = StreamOwned::new(client, connect(address));
    stream.flush()?;
    write(&mut stream, "/stat", &json!({}));
    Ok(answer(&mut stream).1)
}

#[test]
fn over_tls_it_has_the_authority_of_the_api_or_a_certificate_of_ones_own() {
    let dir = tempdir().unwrap();
    let config = "web: {listen: '127.0.0.1:0', tls: {}}";
    let home = Home::new(dir.path(), config).with_vectors_key().simulated("");
    let daemon = home.start();
    let authority = home.state.join("authority.pem");
    for name in ["127.0.0.1", "localhost"] {
        assert!(over_tls(web(&daemon), name, &authority).unwrap().success);
    }
    // Nothing is said in the clear.
    let mut plain = connect(web(&daemon));
    write!(plain, "GET /stat HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    let mut said = Vec::new();
    plain.read_to_end(&mut said).ok();
    assert!(!String::from_utf8_lossy(&said).contains("HTTP"));
    let log = daemon.stop();
    assert!(!log.iter().any(|line| line.contains("PLAIN HTTP")));

    let own = rcgen::generate_simple_self_signed(["web.example".to_owned()]).unwrap();
    let (certificate, key) = (dir.path().join("web.crt"), dir.path().join("web.key"));
    fs::write(&certificate, own.cert.pem()).unwrap();
    fs::write(&key, own.signing_key.serialize_pem()).unwrap();
    let files = format!("{{certificate: {}, key: {}}}", certificate.display(), key.display());
    let other = tempdir().unwrap();
    let home = Home::new(other.path(), &format!("web: {{listen: '127.0.0.1:0', tls: {files}}}"));
    let home = home.with_vectors_key().simulated("");
    // As every program writes it: others can read it.
    let said = home.refused();
    assert!(said.contains("web.tls.key") && said.contains("chmod 600"), "{said}");
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    fs::set_permissions(&key, private).unwrap();
    let daemon = home.start();
    assert!(over_tls(web(&daemon), "web.example", &certificate).unwrap().success);
    assert!(over_tls(web(&daemon), "web.example", &authority).is_err(), "a client trusts whom it should not");
}

#[test]
fn a_port_that_is_taken_is_named_and_plain_http_for_others_is_warned_of() {
    let dir = tempdir().unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let home = Home::new(dir.path(), &format!("web: {{listen: '{address}'}}")).with_vectors_key().simulated("");
    let said = home.refused();
    assert!(said.contains("web.listen") && said.contains(&address), "{said}");
    let other = tempdir().unwrap();
    let daemon = Home::new(other.path(), "web: {listen: '0.0.0.0:0'}").with_vectors_key().simulated("").start();
    let lines = daemon.log.so_far();
    assert!(lines.iter().any(|line| line.contains("WARN") && line.contains("PLAIN HTTP") && line.contains("web.tls")));
    let local = tempdir().unwrap();
    let daemon = Home::new(local.path(), LOCAL).with_vectors_key().simulated("").start();
    assert!(!daemon.log.so_far().iter().any(|line| line.contains("PLAIN HTTP")));
}
