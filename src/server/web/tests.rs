use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use futures::future::BoxFuture;
use hyper::Method;
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::request::{self, HOME, Refused};
use super::*;
use crate::model::{Event, EventKind};
use crate::server::connections::LONGEST_HEAD;
use crate::server::{Answer, ClientInstance, Moment, Party};
use crate::wire::{AccessTokens, Malformed, Message, Request, Response};

const PATIENCE: Duration = Duration::from_secs(30);

fn read(method: &str, path: &str, body: &str) -> Result<Request, Refused> {
    request::read(&method.parse::<Method>().unwrap(), path, body.as_bytes(), AccessTokens::Unknown)
}

/// One row for each of the module's table that a request is read by.
#[test]
fn a_path_is_a_verb_and_a_body_its_parameters() {
    let pair = json!({ "container_uuid": "12345678-1234-1234-1234-123456789012", "client_token": "t".repeat(255) });
    for (method, path, body, verb) in [
        ("GET", "/", "", HOME),
        ("HEAD", "/", "", HOME),
        ("POST", "/", "{}", HOME),
        ("GET", "/stat", "", "STAT"),
        ("HEAD", "/stat", "", "STAT"),
        ("POST", "/stat", "{}", "STAT"),
        ("POST", "/StAt", "{}", "STAT"),
        // A reader's body is not looked at.
        ("GET", "/stat", "no JSON", "STAT"),
        ("POST", "/create", "{}", "CREATE"),
        ("POST", "/create", "", "CREATE"),
        ("POST", "/create", r#"{"ttl": 60}"#, "CREATE"),
        ("POST", "/destroy", &pair.to_string(), "DESTROY"),
        ("POST", "/destroy", "{}", "DESTROY"),
        ("POST", "/ping", r#"{"anything": [1]}"#, "PING"),
    ] {
        let asked = read(method, path, body).unwrap();
        let parameters = match (method, verb) {
            ("POST", verb) if verb != HOME && !body.is_empty() => serde_json::from_str(body).unwrap(),
            _ => json!({}),
        };
        assert_eq!(
            (asked.verb.as_str(), Value::Object(asked.parameters)),
            (verb, parameters),
            "{method} {path} {body}"
        );
    }
}

#[test]
fn what_is_no_request_is_refused_as_the_original_does_but_where_that_does_harm() {
    let fields = |errors: Value| Refused::Malformed(Malformed::Fields(errors.as_object().unwrap().clone()));
    let verb = || fields(json!({ "verb": ["value does not match regex '^[A-Z]{1,}$'"] }));
    let lonely = json!({ "parameters": [{ "client_token": ["field 'container_uuid' is required"] }] });
    let token = json!({ "client_token": "t".repeat(255) }).to_string();
    for (method, path, body, status, refused) in [
        ("POST", "/stat", "[]", 200, fields(json!({ "parameters": ["must be of dict type"] }))),
        ("POST", "/stat", "null", 200, fields(json!({ "parameters": ["null value not allowed"] }))),
        ("POST", "/destroy", &token, 200, fields(lonely)),
        ("POST", "/create", "x", 200, Refused::Malformed(Malformed::NotJson)),
        ("POST", "/", "x", 200, Refused::Malformed(Malformed::NotJson)),
        ("POST", "/stat/", "{}", 200, verb()),
        ("GET", "/stat/", "", 200, verb()),
        ("GET", "/a/stat", "", 200, verb()),
        ("GET", "//", "", 200, verb()),
        ("GET", "/no1", "", 200, verb()),
        ("GET", "/st%61t", "", 200, verb()),
        ("GET", "/create", "", 405, Refused::NeedsPost),
        ("HEAD", "/create", "", 405, Refused::NeedsPost),
        ("GET", "/destroy", "", 405, Refused::NeedsPost),
        ("GET", "/ping", "", 405, Refused::NeedsPost),
        ("PUT", "/stat", "{}", 501, Refused::Method),
        ("DELETE", "/stat", "", 501, Refused::Method),
        ("OPTIONS", "/create", "", 501, Refused::Method),
    ] {
        let said = read(method, path, body).unwrap_err();
        let response = said.response();
        assert_eq!((said.status().as_u16(), &said), (status, &refused), "{method} {path} {body}");
        assert_eq!((response.success, response.kind()), (false, Some(Message::BadRequest)));
    }
    let bytes = request::read(&Method::POST, "/stat", b"{\"a\": \"\xff\"}", AccessTokens::Unknown).unwrap_err();
    assert_eq!(bytes, Malformed::NotText.into());
    let short = json!({ "access_token": "short" }).to_string();
    let access = |known| request::read(&Method::POST, "/stat", short.as_bytes(), known);
    assert!(access(AccessTokens::Unknown).is_ok() && access(AccessTokens::Enabled).is_err());
}

/// What happened, in order.
#[derive(Clone)]
struct Log(watch::Sender<Vec<String>>);

impl Log {
    fn add(&self, what: impl Into<String>) {
        self.0.send_modify(|said| said.push(what.into()));
    }

    fn said(&self) -> Vec<String> {
        self.0.borrow().clone()
    }

    /// Waits until it happened.
    async fn until(&self, what: &str) {
        let mut said = self.0.subscribe();
        let seen = timeout(PATIENCE, said.wait_for(|said| said.iter().any(|one| one == what))).await;
        assert!(seen.is_ok(), "never came: {what}; there was {:?}", self.said());
    }
}

/// Tells its drop.
struct Dropped(Log);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.add("dropped");
    }
}

impl EventSink for Log {
    fn now(&self) -> Timestamp {
        Timestamp::UNIX_EPOCH
    }

    fn emit(&self, event: Event) {
        let more = ["verb", "errors", "error"].iter().find_map(|name| event.details.get(*name));
        let more = more.map_or(String::new(), |more| format!(" {}", more.as_str().unwrap_or(&more.to_string())));
        self.add(format!("{}{more}", event.kind.name()));
    }

    fn at(&self, moment: Moment) -> BoxFuture<'static, ()> {
        let kind = moment.event.kind;
        self.emit(moment.event);
        let Party::Client(client) = moment.party else { return Box::pin(async {}) };
        Box::pin(async move {
            let verb = client.request().map(|request| request.verb.as_str());
            match verb.filter(|_| kind == EventKind::Request) {
                Some("TOLD") => {
                    client.send_response(Response::refused(Message::RefusedRequest, None)).await.ok();
                }
                Some("CLOSED") => {
                    client.close();
                    // A handler is a task of its own.
                    tokio::task::yield_now().await;
                }
                _ if kind == EventKind::RuntimeError && verb == Some("STUCK") => std::future::pending().await,
                _ => {}
            }
        })
    }
}

struct Fake {
    log: Log,
    go_on: CancellationToken,
}

impl Verbs for Fake {
    fn handle(&self, client: Arc<ClientInstance>, request: Request) -> BoxFuture<'static, Answer> {
        let (log, go_on) = (self.log.clone(), self.go_on.clone());
        let echo = json!({ "verb": request.verb, "parameters": request.parameters, "id": client.id() });
        Box::pin(async move {
            match request.verb.as_str() {
                "PANIC" => panic!("on purpose"),
                "LATE" => {
                    client.send_response(Response::ok(Map::new())).await.ok();
                    panic!("after its answer")
                }
                "WAIT" | "STUCK" => {
                    let _dropped = Dropped(log.clone());
                    log.add("waiting");
                    go_on.cancelled().await;
                }
                "GIVE" => {
                    log.add("waiting");
                    go_on.cancelled().await;
                }
                _ => {}
            }
            let (undone, arrived) = (log.clone(), log);
            Answer {
                response: Response::ok(echo.as_object().cloned().unwrap_or_default()),
                undelivered: Some(Box::new(move || undone.add("undelivered"))),
                delivered: Some(Box::new(move || arrived.add("delivered"))),
            }
        })
    }
}

struct Site {
    address: SocketAddr,
    log: Log,
    go_on: CancellationToken,
    stop: CancellationToken,
    run: JoinHandle<()>,
}

const ANYWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// A site where a client may take as long as this.
async fn site(patience: Duration) -> Site {
    behind(Arc::default(), WireConfig { client_timeout: patience, ..WireConfig::new(ANYWHERE) }).await
}

async fn behind(gate: Arc<Gate>, wire: WireConfig) -> Site {
    let log = Log(watch::Sender::new(Vec::new()));
    let (go_on, stop) = (CancellationToken::new(), CancellationToken::new());
    let verbs = Arc::new(Fake { log: log.clone(), go_on: go_on.clone() });
    let config = WebConfig { listen: wire.listen, tls: Tls::Plain };
    let web =
        Web::bind(&config, gate, watch::channel(wire).1, verbs, Arc::new(log.clone()), Arc::default()).await.unwrap();
    let address = web.local_addr();
    let run = tokio::spawn(web.run(stop.clone()));
    Site { address, log, go_on, stop, run }
}

fn text(method: &str, path: &str, body: &str) -> String {
    format!("{method} {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

async fn rest(mut stream: TcpStream) -> String {
    let mut answer = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("an end").ok();
    String::from_utf8(answer).unwrap()
}

impl Site {
    async fn send(&self, text: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(text.as_bytes()).await.unwrap();
        stream
    }

    /// Status, head and body.
    async fn ask(&self, method: &str, path: &str, body: &str) -> (u16, String, Value) {
        let answer = rest(self.send(&text(method, path, body)).await).await;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {answer:?}"));
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, head.to_lowercase(), serde_json::from_str(body).unwrap_or_default())
    }
}

#[tokio::test]
async fn each_answer_is_json_that_nobody_keeps_and_the_last_of_its_connection() {
    let site = site(PATIENCE).await;
    let (status, head, home) = site.ask("GET", "/", "").await;
    assert_eq!((status, &home["success"]), (200, &true.into()));
    assert!(home["message"].as_str().unwrap().starts_with("Hello and welcome"), "{home}");
    assert_eq!(home["data"]["links"].as_array().unwrap().len(), 3);
    for line in ["content-type: application/json", "cache-control: no-store", "connection: close"] {
        assert!(head.contains(line), "no {line} in {head}");
    }
    let (status, head, echo) = site.ask("POST", "/ping?a=b", r#"{"n": [1]}"#).await;
    let said = json!({ "success": true, "message": "OK", "data": {
        "verb": "PING", "parameters": { "n": [1] }, "id": "12ca17b"
    } });
    assert_eq!((status, echo), (200, said));
    assert!(head.contains("content-type: application/json"));
    let (status, head, nothing) = site.ask("HEAD", "/stat", "").await;
    assert_eq!((status, nothing), (200, Value::Null));
    assert!(!head.contains("content-length: 0"), "{head}");
    site.log.until("delivered").await;
    assert_eq!(
        site.ask("GET", "/create", "").await.1.lines().find(|line| line.starts_with("allow")),
        Some("allow: post")
    );
    let first = rest(site.send(&text("GET", "/", "").repeat(2)).await).await;
    assert_eq!(first.matches("HTTP/1.1 200").count(), 1, "{first}");
}

#[tokio::test]
async fn the_events_are_those_of_the_original() {
    let site = site(PATIENCE).await;
    site.ask("GET", "/", "").await;
    site.ask("POST", "/ping", "{}").await;
    site.ask("POST", "/ping", "no JSON").await;
    site.ask("POST", "/ping", "[]").await;
    site.ask("GET", "/create", "").await;
    let (_, _, failed) = site.ask("POST", "/panic", "").await;
    assert_eq!(failed["message"], "Internal error");
    let said = site.log.said();
    let events: Vec<&str> = said.iter().map(String::as_str).filter(|one| *one != "delivered").collect();
    #[rustfmt::skip]
    assert_eq!(events, [
        "REQUEST ",
        "REQUEST PING",
        "MALFORMED_REQUEST {}",
        "MALFORMED_REQUEST {\"parameters\":[\"must be of dict type\"]}",
        "REQUEST PANIC", "RUNTIME_ERROR Handler",
    ]);
}

#[tokio::test]
async fn an_event_handler_may_answer_or_close_the_client() {
    let site = site(PATIENCE).await;
    let (_, _, told) = site.ask("POST", "/told", "").await;
    assert_eq!(told["message"], "Refused request");
    assert_eq!(rest(site.send(&text("POST", "/closed", "")).await).await, "");
}

#[tokio::test]
async fn who_leaves_before_the_answer_has_the_work_dropped() {
    let site = site(PATIENCE).await;
    let stream = site.send(&text("POST", "/wait", "{}")).await;
    site.log.until("waiting").await;
    drop(stream);
    site.log.until("dropped").await;
    site.log.until("RUNTIME_ERROR Gone").await;
}

#[tokio::test]
async fn a_stop_waits_for_no_handler_of_an_error() {
    let wire = WireConfig { stop_grace: Duration::from_millis(20), ..WireConfig::new(ANYWHERE) };
    let site = behind(Arc::default(), wire).await;
    drop(site.send(&text("POST", "/stuck", "{}")).await);
    site.log.until("RUNTIME_ERROR Gone").await;
    site.stop.cancel();
    timeout(PATIENCE, site.run).await.expect("it stops").unwrap();
}

#[tokio::test]
async fn a_panic_after_the_answer_is_told_as_well() {
    let site = site(PATIENCE).await;
    assert_eq!(site.ask("POST", "/late", "{}").await.2["success"], true);
    site.log.until("RUNTIME_ERROR Handler").await;
}

#[tokio::test]
async fn an_answer_that_cannot_be_sent_is_undone() {
    let site = site(PATIENCE).await;
    // What comes ahead hides the end from who waits; the reset meets the answer.
    let stream = site.send(&(text("POST", "/give", "{}") + "ahead")).await;
    site.log.until("waiting").await;
    socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    drop(stream);
    site.go_on.cancel();
    site.log.until("undelivered").await;
    site.log.until("RUNTIME_ERROR Broken").await;
    assert!(!site.log.said().contains(&"delivered".to_owned()));
}

#[tokio::test]
async fn a_body_has_a_limit_whether_its_length_is_told_or_not() {
    let site = site(PATIENCE).await;
    let limit = WireConfig::new(site.address).limits.message;
    let body = |length: usize| format!("{{\"a\": \"{}\"}}", "a".repeat(length - 9));
    assert_eq!(site.ask("POST", "/ping", &body(limit)).await.0, 200);
    let (status, _, said) = site.ask("POST", "/ping", &body(limit + 1)).await;
    assert_eq!(
        (status, &said["message"]),
        (413, &format!("Bad request (the body is longer than {limit} bytes)").into())
    );
    // A length alone is enough.
    let announced = format!("POST /ping HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", limit + 1);
    assert!(rest(site.send(&announced).await).await.starts_with("HTTP/1.1 413"));
    let head = "POST /ping HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    let chunked = format!("{head}{:x}\r\n{}\r\n0\r\n\r\n", limit + 1, body(limit + 1));
    assert!(rest(site.send(&chunked).await).await.starts_with("HTTP/1.1 413"));
}

#[tokio::test]
async fn a_request_has_a_deadline_as_a_whole() {
    let site = site(Duration::from_millis(300)).await;
    // A byte now and then is no reason to wait longer.
    let dribble = |text: &'static str| async move {
        let mut stream = site.send(text).await;
        loop {
            tokio::select! {
                answer = stream.readable() => break answer.unwrap(),
                () = tokio::time::sleep(Duration::from_millis(50)) => drop(stream.write_all(b"a").await),
            }
        }
        (rest(stream).await, site)
    };
    let (answer, site) = dribble("POST /ping HTTP/1.1\r\nHost: a\r\nContent-Length: 9999\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 408") && answer.contains("Bad request (the request took longer"), "{answer}");
    assert_eq!(rest(site.send("POST /ping HTT").await).await, "");
    assert_eq!(rest(site.send("").await).await, "");
    assert_eq!(site.log.said(), [""; 0], "who says nothing is nothing that happens");
}

#[tokio::test]
async fn what_is_no_http_is_closed_and_the_next_client_is_served() {
    let site = site(PATIENCE).await;
    assert!(rest(site.send("no http\r\n\r\n").await).await.starts_with("HTTP/1.1 400"));
    let long = format!("GET /{} HTTP/1.1\r\n", "a".repeat(LONGEST_HEAD));
    let answer = rest(site.send(&long).await).await;
    // The rest of it, unread, may take the answer along.
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
    assert_eq!(site.ask("GET", "/stat", "").await.0, 200);
}

#[tokio::test]
async fn a_stop_answers_who_waits_and_sends_away_who_has_not_asked() {
    // Of its own, so that nobody else is given the port when it is let go.
    let own = SocketAddr::from((Ipv4Addr::new(127, 0, 0, 82), 0));
    let site = behind(Arc::default(), WireConfig { client_timeout: PATIENCE, ..WireConfig::new(own) }).await;
    let silent = site.send("POST /pi").await;
    let waiting = site.send(&text("POST", "/give", "{}")).await;
    site.log.until("waiting").await;
    site.stop.cancel();
    assert_eq!(rest(silent).await, "");
    assert!(TcpStream::connect(site.address).await.is_err(), "it still listens");
    site.go_on.cancel();
    assert!(rest(waiting).await.starts_with("HTTP/1.1 200"));
    site.log.until("delivered").await;
    site.run.await.unwrap();
}

#[tokio::test]
async fn a_port_that_is_taken_is_told_with_the_setting() {
    let site = site(PATIENCE).await;
    let wire = watch::channel(WireConfig::new(site.address)).1;
    let config = WebConfig { listen: site.address, tls: Tls::Plain };
    let verbs = Arc::new(Fake { log: site.log.clone(), go_on: site.go_on.clone() });
    let said = Web::bind(&config, Arc::default(), wire, verbs, Arc::new(site.log.clone()), Arc::default())
        .await
        .err()
        .unwrap()
        .to_string();
    assert!(said.contains("web.listen") && said.contains(&site.address.to_string()), "{said}");
}

#[tokio::test]
async fn who_is_denied_is_closed_unread_and_who_asks_too_often_is_refused() {
    let rates = |text: &str| serde_json::from_str::<crate::config::Rates>(text).unwrap();
    let none = crate::config::IpFilter::default;
    let gate = Arc::new(Gate::new(none(), rates(r#"{"requests_per_minute": 1, "exempt": []}"#)));
    let site = behind(Arc::clone(&gate), WireConfig { client_timeout: PATIENCE, ..WireConfig::new(ANYWHERE) }).await;
    assert_eq!(site.ask("GET", "/stat", "").await.2["message"], "OK");
    let (status, _, said) = site.ask("GET", "/stat", "").await;
    assert_eq!((status, &said["message"]), (200, &"Refused request (Too many requests)".into()));
    let denied = serde_json::from_str(r#"{"deny": ["127.0.0.0/8"]}"#).unwrap();
    gate.change(denied, rates("{}"));
    // A client may have its answer before it is told that it was delivered.
    site.log.until("delivered").await;
    let before = site.log.said();
    assert_eq!(rest(site.send("GET /stat HTTP/1.1\r\nHost: a\r\n\r\n").await).await, "");
    assert_eq!(site.log.said(), before);
    gate.change(none(), rates("{}"));
    assert_eq!(site.ask("GET", "/stat", "").await.0, 200);
}
