//! The API behind its doors, without a socket. The first byte of an input is the role of a token that holds in the namespace
//! `default`, or that of whoever runs the daemon; then come requests: method, target and media type in one line, and a body.
//! In the namespace `red` there are objects of others.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock, Mutex};

use anweddol::api::access::{Access, Grant, Role};
use anweddol::api::plain::Plain;
use anweddol::api::{Api, Births, Digests, Objects, Sealer};
use anweddol::plan::clock::Clock;
use anweddol::server::kube::{Contact, Door, Kube};
use anweddol::store::{Kv, Op, Store, Txn, consistency, memory};
use axum::body::Body;
use axum::http::{Request, Response};
use http_body_util::BodyExt;
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;
use jiff::{SignedDuration, Timestamp};
use secrecy::ExposeSecret;
use serde_json::Value;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Stands in what others have, in the clear and as it is where bytes are in Base64.
const THEIRS: [&str; 2] = ["nobody-elses-business", "bm9ib2R5LWVsc2VzLWJ1c2luZXNz"];
/// So many requests are made of one input.
const MOST: usize = 6;

/// Files, and what is there at the beginning.
struct World {
    _dir: tempfile::TempDir,
    seal: std::path::PathBuf,
    records: Vec<Kv>,
    tokens: BTreeMap<&'static str, String>,
}

static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime"));
static WORLD: LazyLock<World> = LazyLock::new(|| RUNTIME.block_on(world()));

const POOL: &str = r#"{"apiVersion":"anweddol.io/v1alpha1","kind":"ContainerPool","metadata":{"name":"a","annotations":
    {"note":"NOTE"}},"spec":{"maxContainers":3,"template":{"image":{"iso":"/dev/null"}}}}"#;
const SECRET: &str = r#"{"apiVersion":"v1","kind":"Secret","metadata":{"name":"a"},"stringData":{"key":"NOTE"}}"#;
const CLAIM: &str =
    r#"{"apiVersion":"anweddol.io/v1alpha1","kind":"ContainerClaim","metadata":{"name":"a"},"spec":{"pool":"a"}}"#;

async fn world() -> World {
    let dir = tempfile::tempdir().expect("a directory");
    let seal = dir.path().join("seal.key");
    let store: Arc<dyn Store> = memory();
    let kube = kube(&store, &seal);
    for (namespace, note) in [("default", "ours"), ("red", THEIRS[0])] {
        let ours = format!("/apis/anweddol.io/v1alpha1/namespaces/{namespace}");
        for (path, body) in [
            (format!("{ours}/containerpools"), POOL),
            (format!("{ours}/containerclaims"), CLAIM),
            (format!("/api/v1/namespaces/{namespace}/secrets"), SECRET),
        ] {
            let request = Request::post(&path).body(Body::from(body.replace("NOTE", note))).expect("a request");
            let response = asked(&kube, Door::Local, request).await;
            assert_eq!(response.status(), 201, "{path}");
        }
    }
    let access = Access::new(Arc::clone(&store), clock());
    let mut tokens = BTreeMap::new();
    for role in Role::ALL {
        let grant = Grant { role, namespace: Some("default".into()) };
        let (_, token) = access.add(role.name(), grant, None).await.expect("a token");
        tokens.insert(role.name(), token.expose_secret().to_owned());
    }
    let records = store.list("").expect("records").0;
    World { _dir: dir, seal, records, tokens }
}

fn clock() -> Clock {
    let time = Mutex::new(Timestamp::UNIX_EPOCH);
    Arc::new(move || {
        let mut time = time.lock().expect("the time");
        *time += SignedDuration::from_secs(1);
        *time
    })
}

fn kube(store: &Arc<dyn Store>, seal: &std::path::Path) -> Arc<Kube> {
    let sealer = || Sealer::from_file(seal).expect("a key");
    let plain = Arc::new(Plain::new(Arc::clone(store), clock(), Arc::new(sealer())));
    let births = Arc::new(Births::new(sealer(), Digests::default(), 10_000..=10_003, Arc::new(|_| true)));
    let (clock, run) = (clock(), Uuid::from_u128(1));
    let objects = Arc::new(Objects::new(Arc::clone(store), Arc::clone(&births), Arc::clone(&clock)));
    let api = Arc::new(Api::new(Arc::clone(store), births, Arc::clone(&clock), run, "default", "default"));
    let contact = Contact { server: "https://there:6151".into(), authority: "a certificate".into() };
    Arc::new(Kube::new(store, objects, api, plain, clock, Some(contact), CancellationToken::new()))
}

async fn asked(kube: &Arc<Kube>, door: Door, request: Request<Body>) -> Response<Body> {
    let router = TowerToHyperService::new(Arc::clone(kube).router(door));
    router.call(request).await.expect("a router does not fail")
}

pub(super) fn run(input: &[u8]) {
    let [role, rest @ ..] = input else { return };
    let role = Role::ALL.get(usize::from(*role) % 5).map(|role| role.name());
    let world = &*WORLD;
    RUNTIME.block_on(async {
        let store: Arc<dyn Store> = memory();
        let ops = world.records.iter().map(|kv| Op::Put { key: kv.key.to_string(), value: kv.value.clone() }).collect();
        store.txn(Txn { conds: Vec::new(), ops }).await.expect("written");
        let theirs = others(&store);
        let kube = kube(&store, &world.seal);
        for request in rest.split(|byte| *byte == 0xff).take(MOST) {
            let Some((line, request)) = request_of(request, role.map(|role| world.tokens[role].as_str())) else {
                continue;
            };
            let door = role.map_or(Door::Local, |_| Door::Remote(([127, 0, 0, 1], 1).into()));
            let response = asked(&kube, door, request).await;
            answered(&line, response, role.is_some()).await;
            if role.is_some() {
                assert_eq!(others(&store), theirs, "{line}");
            }
        }
        let records = store.list("").expect("records").0;
        assert_eq!(consistency::check(&records), []);
    });
}

/// What a request of a token for `default` may not change.
fn others(store: &Arc<dyn Store>) -> Vec<Kv> {
    let mut records = store.list("").expect("records").0;
    let ours =
        |key: &str| key.contains("/default/") || key.starts_with("events/") || key.starts_with("registry/ports/");
    records.retain(|kv| !ours(&kv.key));
    records
}

/// A request, and how it begins.
fn request_of(bytes: &[u8], token: Option<&str>) -> Option<(String, Request<Body>)> {
    let end = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len());
    let (line, body) = (std::str::from_utf8(&bytes[..end]).ok()?, bytes.get(end + 1..).unwrap_or_default());
    let mut words = line.splitn(3, ' ');
    let (method, target) = (words.next()?, words.next()?);
    // No client sends what a fragment is, and every watch ends at once.
    let target = target.split('#').next()?;
    let target = format!("{target}{}timeoutSeconds=0", if target.contains('?') { '&' } else { '?' });
    let mut request = Request::builder().method(method).uri(&target);
    if let Some(media) = words.next() {
        request = request.header("content-type", media);
    }
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    Some((line.into(), request.body(Body::from(body.to_vec())).ok()?))
}

async fn answered(line: &str, response: Response<Body>, remote: bool) {
    let code = response.status().as_u16();
    let body = response.into_body().collect().await.expect("a body").to_bytes();
    let text = String::from_utf8_lossy(&body);
    if remote {
        assert!(!THEIRS.iter().any(|theirs| text.contains(theirs)), "{line}: {text}");
    }
    // HEAD is answered without a body.
    if code >= 400 && !line.starts_with("HEAD ") {
        let status: Value =
            serde_json::from_slice(&body).unwrap_or_else(|error| panic!("{line}: {code} {error}: {text}"));
        assert_eq!((status["kind"].as_str(), status["code"].as_u64()), (Some("Status"), Some(code.into())), "{line}");
        assert!(code < 500 || status["reason"] == "ServiceUnavailable", "{line}: {text}");
    }
}
