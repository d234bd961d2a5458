//! What clients send, as it was recorded, against the API without a socket: what they need of each answer.

mod many;
mod plain;

use std::sync::Mutex;

use axum::http::header::{ACCEPT, WARNING};
use futures::StreamExt;
use http_body_util::BodyExt;
use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use secrecy::ExposeSecret;
use serde_json::json;
use tempfile::TempDir;
use uuid::Uuid;

use super::*;
use crate::api::access::{Grant, Role};
use crate::api::{Births, Digests, Sealer, namespaces};
use crate::store::{HistoryLimits, Op, Txn, memory_with};

const TABLE: &str =
    "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";
const DISCOVERY: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json";
const PROTOBUF: &str = "application/vnd.kubernetes.protobuf,application/json";
const ROOT: &str = "/apis/anweddol.io/v1alpha1";
const POOLS: &str = "/apis/anweddol.io/v1alpha1/namespaces/default/containerpools";
const CLAIMS: &str = "/apis/anweddol.io/v1alpha1/namespaces/default/containerclaims";

struct Bench {
    kube: Arc<Kube>,
    store: Arc<dyn Store>,
    cancel: CancellationToken,
    dir: TempDir,
}

/// An answer.
struct Told {
    code: u16,
    headers: HeaderMap,
    body: Value,
    text: String,
}

impl Bench {
    fn new() -> Bench {
        Bench::remembering(HistoryLimits::default())
    }

    fn remembering(limits: HistoryLimits) -> Bench {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("i.iso"), "image").unwrap();
        let sealer = Sealer::from_file(&dir.path().join("seal.key")).unwrap();
        let births = Arc::new(Births::new(sealer, Digests::default(), 10_000..=10_003, Arc::new(|_| true)));
        let store: Arc<dyn Store> = memory_with(limits);
        let time = Mutex::new(Timestamp::UNIX_EPOCH);
        let clock: Clock = Arc::new(move || {
            let mut time = time.lock().unwrap();
            *time += SignedDuration::from_secs(1);
            *time
        });
        let objects = Arc::new(Objects::new(Arc::clone(&store), Arc::clone(&births), Arc::clone(&clock)));
        let run = Uuid::from_u128(1);
        let api = Arc::new(Api::new(Arc::clone(&store), births, Arc::clone(&clock), run, "default", "default"));
        let plain = Arc::new(Plain::new(Arc::clone(&store), Arc::clone(&clock), Sealer::fresh()));
        let contact = Contact { server: "https://there:6151".into(), authority: "a certificate".into() };
        let cancel = CancellationToken::new();
        tokio::spawn(namespaces::keep(Arc::clone(&plain), Arc::clone(&objects), cancel.clone()));
        let kube = Arc::new(Kube::new(&store, objects, api, plain, clock, Some(contact), cancel.clone()));
        Bench { kube, store, cancel, dir }
    }

    fn pool(&self, name: &str) -> Value {
        let image = self.dir.path().join("i.iso");
        json!({
            "apiVersion": "anweddol.io/v1alpha1", "kind": "ContainerPool",
            "metadata": { "name": name, "namespace": "default", "labels": { "app": name } },
            "spec": { "replicas": 2, "maxContainers": 6, "template": { "image": { "iso": image } } },
        })
    }

    async fn send(&self, door: Door, request: Request<Body>) -> Response {
        answer(State(Arc::clone(&self.kube)), Extension(door), request).await
    }

    async fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: impl Into<Body>) -> Told {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        told_of(self.send(Door::Local, request.body(body.into()).unwrap()).await).await
    }

    async fn get(&self, path: &str) -> Told {
        self.ask("GET", path, &[("accept", "application/json")], Body::empty()).await
    }

    async fn post(&self, path: &str, body: &Value) -> Told {
        self.ask("POST", path, &[("content-type", "application/json")], body.to_string()).await
    }

    async fn watch(&self, path: &str, accept: &str) -> Lines {
        let request = Request::builder().uri(path).header(ACCEPT, accept).body(Body::empty()).unwrap();
        let response = self.send(Door::Local, request).await;
        assert_eq!(response.status(), 200, "{path}");
        Lines { body: response.into_body().into_data_stream(), rest: Vec::new() }
    }
}

async fn told_of(response: Response) -> Told {
    let (code, headers) = (response.status().as_u16(), response.headers().clone());
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    let text = String::from_utf8_lossy(&bytes).into_owned();
    Told { code, headers, body: serde_json::from_slice(&bytes).unwrap_or(Value::Null), text }
}

/// The lines of a watch.
struct Lines {
    body: axum::body::BodyDataStream,
    rest: Vec<u8>,
}

impl Lines {
    /// The next one: its type and its object; `None` at its end.
    async fn next(&mut self) -> Option<(String, Value)> {
        loop {
            if let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.rest.drain(..=end).collect();
                let mut line: Value = serde_json::from_slice(&line).unwrap();
                return Some((line["type"].as_str().unwrap().to_owned(), line["object"].take()));
            }
            self.rest.extend(self.body.next().await?.unwrap());
        }
    }
}

#[tokio::test]
async fn what_clients_read_before_anything_else_is_as_they_need_it() {
    let bench = Bench::new();
    for (path, accept, part, word) in [
        ("/version?timeout=32s", "application/json, */*", "/gitVersion", "anweddol"),
        ("/api?timeout=32s", DISCOVERY, "/items/0/versions/0/version", "v1"),
        ("/apis?timeout=32s", DISCOVERY, "/items/0/metadata/name", "anweddol.io"),
        ("/api", "application/json", "/versions/0", "v1"),
        // As the Python client asks.
        ("/apis/", "*/*", "/groups/0/name", "anweddol.io"),
        ("/apis/anweddol.io", "application/json", "/preferredVersion/version", "v1alpha1"),
        (ROOT, "application/json, */*", "/resources/0/name", "containerpools"),
        (
            "/openapi/v3?timeout=32s",
            "application/json, */*",
            "/paths/apis~1anweddol.io~1v1alpha1/serverRelativeURL",
            "hash=",
        ),
        ("/openapi/v3/apis/anweddol.io/v1alpha1?hash=1&timeout=32s", "application/json", "/openapi", "3.0.0"),
    ] {
        let told = bench.ask("GET", path, &[("accept", accept)], Body::empty()).await;
        let found = told.body.pointer(part).and_then(Value::as_str).unwrap_or_default();
        assert!(told.code == 200 && found.contains(word), "{path}: {} {found}", told.code);
    }
    // Clients believe that it is the one document only if it says so.
    let told = bench.ask("GET", "/apis", &[("accept", DISCOVERY)], Body::empty()).await;
    assert_eq!(told.headers["content-type"], "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList");
    // kube-rs says nothing at all.
    assert_eq!(bench.ask("GET", "/apis", &[], Body::empty()).await.body["kind"], "APIGroupList");
    let older = bench.ask("GET", "/openapi/v2?timeout=32s", &[("accept", PROTOBUF)], Body::empty()).await;
    assert_eq!((older.code, older.text.as_bytes()), (200, openapi::OLDER));
}

#[tokio::test]
async fn the_conversation_of_kubectl_apply_creates_changes_and_scales() {
    let bench = Bench::new();
    let by = "fieldManager=kubectl-client-side-apply&fieldValidation=Strict";
    assert_eq!(bench.get(&format!("{POOLS}/web")).await.code, 404);
    let made = bench.post(&format!("{POOLS}?{by}"), &bench.pool("web")).await;
    assert_eq!((made.code, &made.body["kind"]), (201, &json!("ContainerPool")), "{}", made.text);
    let merge = [("content-type", "application/merge-patch+json"), ("accept", "application/json")];
    let patch = json!({ "spec": { "replicas": 3 } }).to_string();
    let tried = bench.ask("PATCH", &format!("{POOLS}/web?dryRun=All&{by}"), &merge, patch.clone()).await;
    assert_eq!((tried.code, &tried.body["spec"]["replicas"]), (200, &json!(3)));
    assert_eq!(tried.body["metadata"]["resourceVersion"], made.body["metadata"]["resourceVersion"]);
    let changed = bench.ask("PATCH", &format!("{POOLS}/web?{by}"), &merge, patch.clone()).await;
    assert_eq!((changed.code, &changed.body["metadata"]["generation"]), (200, &json!(2)));
    let again = bench.ask("PATCH", &format!("{POOLS}/web?{by}"), &merge, patch).await;
    assert_eq!(again.body["metadata"]["resourceVersion"], changed.body["metadata"]["resourceVersion"]);
    // The scale, as kubectl writes it: patched, or put without a content type.
    let scaled = bench.ask("PATCH", &format!("{POOLS}/web/scale"), &merge, r#"{"spec":{"replicas":4}}"#).await;
    assert_eq!(
        (scaled.code, &scaled.body["kind"], &scaled.body["spec"]["replicas"]),
        (200, &json!("Scale"), &json!(4))
    );
    let mut scale = bench.get(&format!("{POOLS}/web/scale")).await.body;
    scale["spec"]["replicas"] = 5.into();
    assert_eq!(bench.ask("PUT", &format!("{POOLS}/web/scale"), &[], scale.to_string()).await.code, 200);
    // Applied by the server, in YAML, as anybody may write it.
    let apply = [("content-type", "application/apply-patch+yaml")];
    let yaml = serde_yaml::to_string(&bench.pool("web")).unwrap();
    let contested = bench.ask("PATCH", &format!("{POOLS}/web?fieldManager=me&force=false"), &apply, yaml.clone()).await;
    assert_eq!((contested.code, &contested.body["reason"]), (409, &json!("Conflict")), "{}", contested.text);
    assert_eq!(contested.body["details"]["causes"][0]["reason"], "FieldManagerConflict");
    let forced = bench.ask("PATCH", &format!("{POOLS}/web?fieldManager=me&force=true"), &apply, yaml).await;
    assert_eq!((forced.code, &forced.body["spec"]["replicas"]), (200, &json!(2)));
    // Gone at once, with nothing that is left of it.
    let gone = bench.ask("DELETE", &format!("{POOLS}/web"), &[], r#"{"propagationPolicy":"Background"}"#).await;
    assert_eq!(
        (gone.code, &gone.body["status"], &gone.body["details"]["uid"]),
        (200, &json!("Success"), &made.body["metadata"]["uid"])
    );
}

#[tokio::test]
async fn fields_that_are_none_are_refused_told_or_left_out_as_asked() {
    let bench = Bench::new();
    let mut pool = bench.pool("a");
    pool["spec"]["replicaz"] = 1.into();
    let strict = bench.post(&format!("{POOLS}?fieldValidation=Strict"), &pool).await;
    let message = strict.body["message"].as_str().unwrap();
    assert!(
        strict.code == 400 && message.contains("strict decoding error: unknown field \"spec.replicaz\""),
        "{message}"
    );
    let warned = bench.post(&format!("{POOLS}?dryRun=All"), &pool).await;
    let warning = warned.headers[WARNING].to_str().unwrap();
    assert!(warned.code == 201 && warning.starts_with("299 - \"unknown field \\\"spec.replicaz\\\""), "{warning}");
    let ignored = bench.post(&format!("{POOLS}?dryRun=All&fieldValidation=Ignore"), &pool).await;
    assert!(ignored.code == 201 && !ignored.headers.contains_key(WARNING));
    pool["spec"] = json!({ "replicas": 9, "maxContainers": 1, "template": pool["spec"]["template"].clone() });
    let invalid = bench.post(POOLS, &pool).await;
    assert_eq!((invalid.code, &invalid.body["details"]["kind"]), (422, &json!("ContainerPool")));
    assert_eq!(invalid.body["details"]["causes"][0]["field"], "spec.replicas");
}

#[tokio::test]
async fn lists_are_told_as_tables_metadata_and_whole_and_selected() {
    let bench = Bench::new();
    for name in ["a", "b"] {
        bench.post(POOLS, &bench.pool(name)).await;
    }
    let table = bench.ask("GET", &format!("{POOLS}?limit=500"), &[("accept", TABLE)], Body::empty()).await.body;
    assert_eq!(
        (&table["kind"], &table["rows"][1]["cells"][0], &table["rows"][0]["cells"][1]),
        (&json!("Table"), &json!("b"), &json!("0/2"))
    );
    let sorted =
        bench.ask("GET", &format!("{POOLS}?includeObject=Object"), &[("accept", TABLE)], Body::empty()).await.body;
    assert_eq!(sorted["rows"][0]["object"]["spec"]["replicas"], 2);
    let partial = [("accept", "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1")];
    let partial = bench.ask("GET", &format!("{ROOT}/containerpools?&limit=500"), &partial, Body::empty()).await.body;
    assert_eq!((&partial["kind"], &partial["items"][0]["spec"]), (&json!("PartialObjectMetadataList"), &Value::Null));
    let list = bench.get(&format!("{POOLS}?labelSelector=app%20in%20(b,c)")).await.body;
    assert_eq!((list["items"].as_array().unwrap().len(), &list["kind"]), (1, &json!("ContainerPoolList")));
    assert_eq!(
        bench.get(&format!("{POOLS}?fieldSelector=metadata.name%3Da")).await.body["items"][0]["metadata"]["name"],
        "a"
    );
    let one = bench.ask("GET", &format!("{POOLS}/a"), &[("accept", TABLE)], Body::empty()).await.body;
    assert_eq!(one["rows"].as_array().unwrap().len(), 1);
    let scale = bench.ask("GET", &format!("{POOLS}/a/scale"), &[("accept", TABLE)], Body::empty()).await.body;
    assert_eq!(scale["kind"], "Scale");
}

#[tokio::test]
async fn a_streaming_list_tells_what_is_there_then_a_bookmark_then_what_comes() {
    let bench = Bench::new();
    let made = bench.post(POOLS, &bench.pool("a")).await.body;
    let wait = "allowWatchBookmarks=true&fieldSelector=metadata.name%3Da&resourceVersionMatch=NotOlderThan&sendInitialEvents=true&timeoutSeconds=562&watch=true";
    let mut lines = bench.watch(&format!("{POOLS}?{wait}"), "application/json").await;
    let (kind, object) = lines.next().await.unwrap();
    assert_eq!((kind.as_str(), &object["metadata"]["uid"]), ("ADDED", &made["metadata"]["uid"]));
    let (kind, mark) = lines.next().await.unwrap();
    assert_eq!((kind.as_str(), &mark["kind"]), ("BOOKMARK", &json!("ContainerPool")));
    assert_eq!(mark["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");
    bench.post(POOLS, &bench.pool("b")).await;
    bench.ask("DELETE", &format!("{POOLS}/a"), &[], Body::empty()).await;
    let (kind, gone) = lines.next().await.unwrap();
    assert_eq!((kind.as_str(), &gone["metadata"]["name"]), ("DELETED", &json!("a")));
    let revision = |object: &Value| object["metadata"]["resourceVersion"].as_str().unwrap().parse::<u64>().unwrap();
    assert!(revision(&gone) > revision(&mark));
    bench.cancel.cancel();
    assert!(lines.next().await.is_none());
}

#[tokio::test]
async fn a_watch_goes_on_from_a_revision_and_objects_that_leave_the_selection_are_gone() {
    let bench = Bench::new();
    let made = bench.post(POOLS, &bench.pool("a")).await.body;
    let from = made["metadata"]["resourceVersion"].as_str().unwrap();
    let mut lines =
        bench.watch(&format!("{POOLS}?resourceVersion={from}&watch=true&labelSelector=app%3Da"), TABLE).await;
    let merge = [("content-type", "application/merge-patch+json")];
    for label in ["\"b\"", "\"a\"", "\"b\""] {
        let patch = format!("{{\"metadata\":{{\"labels\":{{\"app\":{label}}}}}}}");
        assert_eq!(bench.ask("PATCH", &format!("{POOLS}/a"), &merge, patch).await.code, 200);
    }
    for (expected, named) in [("DELETED", true), ("ADDED", false), ("DELETED", false)] {
        let (kind, table) = lines.next().await.unwrap();
        assert_eq!((kind.as_str(), table["columnDefinitions"].is_array()), (expected, named));
        assert_eq!(table["rows"][0]["cells"][0], "a");
    }
    let mut whole = bench.watch(&format!("{POOLS}?watch=1&timeoutSeconds=0"), "application/json").await;
    while whole.next().await.is_some() {}
}

#[tokio::test]
async fn revisions_that_are_forgotten_or_not_there_yet_are_expired() {
    let bench = Bench::remembering(HistoryLimits { revisions: 2, ..HistoryLimits::default() });
    for name in ["a", "b", "c", "d"] {
        bench.post(POOLS, &bench.pool(name)).await;
    }
    for revision in ["2", "999999", "18446744073709551615"] {
        let mut lines = bench.watch(&format!("{POOLS}?watch=1&resourceVersion={revision}"), "application/json").await;
        let (kind, status) = lines.next().await.unwrap();
        assert_eq!(
            (kind.as_str(), &status["code"], &status["reason"]),
            ("ERROR", &json!(410), &json!("Expired")),
            "{revision}"
        );
        assert!(lines.next().await.is_none());
    }
    assert_eq!(bench.get(&format!("{POOLS}?resourceVersion=999999&resourceVersionMatch=NotOlderThan")).await.code, 410);
    assert_eq!(bench.get(&format!("{POOLS}?resourceVersion=2&resourceVersionMatch=Exact")).await.code, 410);
    let future =
        "watch=1&resourceVersion=999999&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=1";
    let mut lines = bench.watch(&format!("{POOLS}?{future}"), "application/json").await;
    assert_eq!(lines.next().await.unwrap().1["code"], 410);
}

#[tokio::test]
async fn a_watch_that_nobody_reads_holds_up_nothing_and_ends_with_expired() {
    let bench = Bench::remembering(HistoryLimits { revisions: 8, ..HistoryLimits::default() });
    let made = bench.post(POOLS, &bench.pool("a")).await.body;
    let from = made["metadata"]["resourceVersion"].as_str().unwrap();
    let mut lines = bench.watch(&format!("{POOLS}?watch=1&resourceVersion={from}"), "application/json").await;
    let merge = [("content-type", "application/merge-patch+json")];
    for number in 0..50 {
        let patch = format!("{{\"metadata\":{{\"labels\":{{\"n\":\"{number}\"}}}}}}");
        assert_eq!(bench.ask("PATCH", &format!("{POOLS}/a"), &merge, patch).await.code, 200);
    }
    let mut last = lines.next().await.unwrap();
    while let Some(next) = lines.next().await {
        last = next;
    }
    assert_eq!((last.0.as_str(), &last.1["reason"]), ("ERROR", &json!("Expired")));
}

#[tokio::test]
async fn a_record_that_cannot_be_read_fails_a_list_as_a_whole_and_is_the_last_line_of_a_watch() {
    let bench = Bench::new();
    let lease = |name: &str, text: &str| Op::Put { key: format!("plain/leases/default/{name}"), value: text.into() };
    let ops = vec![lease("a", "{"), lease("b", r#"{"metadata":{"name":"b"}}"#)];
    bench.store.txn(Txn { ops, ..Txn::default() }).await.unwrap();
    let leases = "/apis/coordination.k8s.io/v1/namespaces/default/leases";
    let list = bench.get(leases).await;
    assert_eq!((list.code, &list.body["kind"]), (500, &json!("Status")), "{}", list.text);
    let mut lines = bench.watch(&format!("{leases}?watch=1"), "application/json").await;
    let (kind, status) = lines.next().await.unwrap();
    assert_eq!((kind.as_str(), &status["code"]), ("ERROR", &json!(500)), "{status}");
    assert!(status["message"].as_str().unwrap().contains("plain/leases/default/a"), "{status}");
    assert_eq!(lines.next().await, None);
}

#[tokio::test]
async fn refusals_are_statuses_with_the_right_code_and_reason() {
    let bench = Bench::new();
    bench.post(POOLS, &bench.pool("a")).await;
    let (json_type, deep) = ("application/json", "[".repeat(100_000));
    let long = "x".repeat((1 << 20) + 1);
    let labels: serde_json::Map<String, Value> = (0..5000).map(|n| (format!("label-{n}"), "v".into())).collect();
    let mut many = bench.pool("many");
    many["metadata"]["labels"] = labels.into();
    let many = many.to_string();
    let aliases = format!("a: &a [{}]\nb: [{}]\n", "1,".repeat(9000), "*a,".repeat(9000));
    let pool = |name: &str| bench.pool(name).to_string();
    let merge = "application/merge-patch+json";
    for (method, path, media, body, code, reason) in [
        ("GET", "/".to_owned(), json_type, String::new(), 404, "NotFound"),
        ("GET", "/apis/apps/v1/deployments".into(), json_type, String::new(), 404, "NotFound"),
        ("GET", format!("{ROOT}/pods"), json_type, String::new(), 404, "NotFound"),
        ("GET", format!("{POOLS}/../../secrets"), json_type, String::new(), 404, "NotFound"),
        ("GET", format!("{POOLS}/NOPE"), json_type, String::new(), 400, "BadRequest"),
        ("GET", format!("{POOLS}?labelSelector=a%20b"), json_type, String::new(), 400, "BadRequest"),
        ("GET", format!("{POOLS}?fieldSelector=spec.image%3Dx"), json_type, String::new(), 400, "BadRequest"),
        ("GET", format!("{POOLS}?continue=abc&limit=1"), json_type, String::new(), 410, "Expired"),
        ("GET", format!("{POOLS}?watch=1&sendInitialEvents=true"), json_type, String::new(), 422, "Invalid"),
        ("POST", format!("{POOLS}/a"), json_type, pool("a"), 405, "MethodNotAllowed"),
        ("POST", POOLS.into(), json_type, pool("a"), 409, "AlreadyExists"),
        ("POST", POOLS.into(), json_type, "{".into(), 400, "BadRequest"),
        ("POST", POOLS.into(), json_type, String::new(), 400, "BadRequest"),
        ("POST", POOLS.into(), json_type, deep.clone(), 400, "BadRequest"),
        ("POST", POOLS.into(), "application/yaml", deep.clone(), 400, "BadRequest"),
        ("POST", POOLS.into(), "application/yaml", "a: &a [*a, *a]".into(), 400, "BadRequest"),
        ("POST", POOLS.into(), "application/yaml", aliases, 400, "BadRequest"),
        ("POST", POOLS.into(), "application/yaml", "[".repeat(130 << 10), 413, "RequestEntityTooLarge"),
        ("POST", POOLS.into(), json_type, long.clone(), 413, "RequestEntityTooLarge"),
        ("POST", POOLS.into(), json_type, many, 413, "RequestEntityTooLarge"),
        ("POST", POOLS.into(), "text/plain", pool("b"), 415, "UnsupportedMediaType"),
        ("POST", POOLS.into(), "application/vnd.kubernetes.protobuf", pool("b"), 400, "BadRequest"),
        ("POST", POOLS.into(), merge, pool("b"), 415, "UnsupportedMediaType"),
        (
            "PATCH",
            format!("{POOLS}/a"),
            "application/strategic-merge-patch+json",
            "{}".into(),
            415,
            "UnsupportedMediaType",
        ),
        ("PATCH", format!("{POOLS}/a"), json_type, "{}".into(), 415, "UnsupportedMediaType"),
        ("PATCH", format!("{POOLS}/a"), merge, "[1]".into(), 400, "BadRequest"),
        ("PATCH", format!("{POOLS}/a"), "application/json-patch+json", "{}".into(), 400, "BadRequest"),
        ("PATCH", format!("{POOLS}/b"), merge, "{}".into(), 404, "NotFound"),
        ("PATCH", format!("{POOLS}/a"), "application/apply-patch+yaml", pool("a"), 400, "BadRequest"),
        ("PUT", format!("{POOLS}/a"), json_type, pool("a"), 422, "Invalid"),
        ("DELETE", format!("{POOLS}/a"), json_type, r#"{"propagationPolicy":"Sometimes"}"#.into(), 422, "Invalid"),
        ("DELETE", format!("{POOLS}/a"), json_type, r#"{"preconditions":{"uid":"other"}}"#.into(), 409, "Conflict"),
        ("DELETE", format!("{POOLS}/a"), json_type, "[]".into(), 400, "BadRequest"),
        ("DELETE", "/api/v1/namespaces/default".into(), json_type, String::new(), 403, "Forbidden"),
        ("OPTIONS", POOLS.into(), json_type, String::new(), 405, "MethodNotAllowed"),
        ("POST", "/apis".into(), json_type, String::new(), 405, "MethodNotAllowed"),
    ] {
        let told = bench.ask(method, &path, &[("content-type", media)], body).await;
        let context = format!("{method} {path} {media}: {}", &told.text.chars().take(300).collect::<String>());
        assert_eq!(
            (told.code, &told.body["reason"], &told.body["code"]),
            (code, &json!(reason), &json!(code)),
            "{context}"
        );
        assert_eq!((&told.body["kind"], &told.body["status"]), (&json!("Status"), &json!("Failure")), "{context}");
    }
    let picky = bench.ask("GET", POOLS, &[("accept", "application/vnd.kubernetes.protobuf")], Body::empty()).await;
    assert_eq!((picky.code, &picky.body["reason"]), (406, &json!("NotAcceptable")));
}

#[tokio::test]
async fn a_body_that_is_no_object_is_refused_wherever_one_has_to_be() {
    let bench = Bench::new();
    let core = "/api/v1/namespaces/default";
    for path in [
        POOLS.to_owned(),
        format!("{ROOT}/tokens"),
        format!("{ROOT}/accesstokens"),
        format!("{core}/secrets"),
        format!("{core}/events"),
        "/api/v1/namespaces".into(),
        "/apis/authentication.k8s.io/v1/selfsubjectreviews".into(),
        "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews".into(),
        "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews".into(),
    ] {
        for body in ["[]", "null", "1", "\"x\"", "true"] {
            for media in ["application/json", "application/yaml"] {
                let told = bench.ask("POST", &path, &[("content-type", media)], body).await;
                assert_eq!((told.code, &told.body["reason"]), (400, &json!("BadRequest")), "{path} {body} {media}");
            }
        }
    }
}

#[tokio::test]
async fn only_whoever_has_a_token_that_permits_it_is_listened_to() {
    let bench = Bench::new();
    let grant = |role, namespace: Option<&str>| Grant { role, namespace: namespace.map(str::to_owned) };
    let mut tokens = Vec::new();
    for (name, grant) in [("view", grant(Role::View, None)), ("red", grant(Role::Claim, Some("red")))] {
        tokens.push(bench.kube.access.add(name, grant, None).await.unwrap().1.expose_secret().to_owned());
    }
    let remote = Door::Remote("127.0.0.1:1".parse().unwrap());
    let red = "/apis/anweddol.io/v1alpha1/namespaces/red/containerclaims";
    for (token, method, path, code) in [
        (None, "GET", "/version", 401),
        (Some("wrong"), "GET", "/version", 401),
        (Some("view.wrong"), "GET", POOLS, 401),
        (Some(tokens[0].as_str()), "GET", "/version", 200),
        (Some(&tokens[0]), "GET", POOLS, 200),
        (Some(&tokens[0]), "POST", POOLS, 403),
        (Some(&tokens[0]), "DELETE", CLAIMS, 403),
        (Some(&tokens[0]), "GET", "/apis/anweddol.io/v1alpha1/tokens", 403),
        (Some(&tokens[0]), "GET", "/apis/anweddol.io/v1alpha1/accesstokens", 403),
        (Some(&tokens[1]), "POST", "/apis/anweddol.io/v1alpha1/accesstokens", 403),
        (Some(&tokens[1]), "PATCH", "/apis/anweddol.io/v1alpha1/accesstokens/anna", 403),
        (Some(&tokens[0]), "GET", "/api/v1/namespaces/default/secrets", 403),
        (Some(&tokens[1]), "GET", red, 200),
        (Some(&tokens[1]), "GET", CLAIMS, 403),
        (Some(&tokens[1]), "GET", "/apis/anweddol.io/v1alpha1/containerclaims", 403),
        (Some(&tokens[1]), "POST", red, 400),
        // A body that never comes: who may not is not waited for.
        (Some(&tokens[1]), "PUT", "/apis/anweddol.io/v1alpha1/namespaces/red/containerpools/a", 403),
    ] {
        let mut request = Request::builder().method(method).uri(path);
        if let Some(token) = token {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        let never = Body::from_stream(futures::stream::pending::<Result<String, std::io::Error>>());
        let body = if code == 403 { never } else { Body::empty() };
        let told = told_of(bench.send(remote, request.body(body).unwrap()).await).await;
        assert_eq!(told.code, code, "{token:?} {method} {path}: {}", told.text);
    }
    bench.ask("DELETE", "/apis/anweddol.io/v1alpha1/tokens/view", &[], Body::empty()).await;
    let request = Request::builder().uri("/version").header(AUTHORIZATION, format!("Bearer {}", tokens[0]));
    assert_eq!(bench.send(remote, request.body(Body::empty()).unwrap()).await.status(), 401);
    let made = bench
        .post("/apis/anweddol.io/v1alpha1/tokens", &json!({ "metadata": { "name": "ci" }, "spec": { "role": "edit" } }))
        .await;
    assert_eq!((made.code, &made.body["status"]["server"]), (201, &json!("https://there:6151")));
    assert_eq!(made.headers[CACHE_CONTROL], "no-store");
}

#[tokio::test]
async fn an_access_token_is_told_once_listed_without_its_text_and_changed_in_nothing_but_whether_it_is_good() {
    let bench = Bench::new();
    let all = "/apis/anweddol.io/v1alpha1/accesstokens";
    let anna = format!("{all}/anna");
    let spec = json!({ "ttlSeconds": 60, "maxContainers": 2, "requestsPerMinute": 30 });
    let made = bench.post(all, &json!({ "metadata": { "name": "anna" }, "spec": spec })).await;
    let text = made.body["status"]["token"].as_str().unwrap();
    assert_eq!((made.code, text.len(), &made.headers[CACHE_CONTROL]), (201, 124, &"no-store".parse().unwrap()));
    let listed = bench.get(all).await;
    let one = &listed.body["items"][0];
    assert_eq!(one["spec"], json!({ "enabled": true, "maxContainers": 2, "requestsPerMinute": 30 }));
    assert_eq!((&one["metadata"]["name"], &one["status"]["containers"]), (&json!("anna"), &json!(0)));
    assert!(!listed.text.contains(&text[..24]) && !listed.text.contains("sha256"), "{}", listed.text);

    let merge = [("content-type", "application/merge-patch+json")];
    for (body, code) in [
        (r#"{"spec":{"enabled":false}}"#, 200),
        (r#"{"spec":{"maxContainers":9}}"#, 400),
        (r#"{"spec":{"enabled":false},"metadata":{"name":"bert"}}"#, 400),
        ("[]", 400),
    ] {
        let told = bench.ask("PATCH", &anna, &merge, body).await;
        assert_eq!(told.code, code, "{body}: {}", told.text);
    }
    assert_eq!(bench.get(all).await.body["items"][0]["spec"]["enabled"], false);
    for (body, code) in [
        (json!({ "metadata": { "name": "anna" } }), 409),
        (json!({ "metadata": { "name": "No Name" } }), 422),
        (json!({ "spec": { "requestsPerMinute": 0 } }), 400),
        (json!({ "spec": { "maxContainers": -1 } }), 400),
        (json!({ "spec": { "role": "admin" } }), 400),
        (json!({}), 201),
    ] {
        let told = bench.post(all, &body).await;
        assert_eq!(told.code, code, "{body}: {}", told.text);
    }
    for code in [200, 404] {
        assert_eq!(bench.ask("DELETE", &anna, &[], Body::empty()).await.code, code);
    }
    assert_eq!(bench.ask("PATCH", &anna, &merge, r#"{"spec":{"enabled":true}}"#).await.code, 404);
}

#[tokio::test]
async fn a_namespace_is_there_with_its_first_object_and_goes_with_its_last() {
    let bench = Bench::new();
    let mut lines = bench.watch("/api/v1/namespaces?watch=1", "application/json").await;
    let red = "/apis/anweddol.io/v1alpha1/namespaces/red/containerpools";
    let mut pool = bench.pool("a");
    pool["metadata"]["namespace"] = "red".into();
    assert_eq!(bench.post(red, &pool).await.code, 201);
    let mut seen = Vec::new();
    while !seen.contains(&("ADDED".to_owned(), "red".to_owned())) {
        let (kind, object) = lines.next().await.unwrap();
        seen.push((kind, object["metadata"]["name"].as_str().unwrap().to_owned()));
    }
    let gone = bench.ask("DELETE", "/api/v1/namespaces/red", &[], r#"{"propagationPolicy":"Background"}"#).await;
    assert_eq!((gone.code, &gone.body["status"]["phase"]), (200, &json!("Terminating")));
    loop {
        let (kind, object) = lines.next().await.unwrap();
        if kind == "DELETED" {
            assert_eq!(object["metadata"]["name"], "red");
            break;
        }
    }
    assert_eq!(bench.get(&format!("{red}/a")).await.code, 404);
    assert!(bench.store.list("registry/containerpools/red/").unwrap().0.is_empty());
}

/// One of them, or anything.
fn any_of(words: &'static [&'static str]) -> impl Strategy<Value = String> {
    prop_oneof![9 => prop::sample::select(words).prop_map(str::to_owned), 1 => "[a-z0-9.%=\\-]{0,12}"]
}

/// A request that has a part of sense.
fn request() -> impl Strategy<Value = (String, String, String, String, Vec<u8>)> {
    let methods = &["GET", "GET", "POST", "PUT", "PATCH", "PATCH", "DELETE", "HEAD", "OPTIONS"];
    let places = &[
        "/apis/anweddol.io/v1alpha1/namespaces/default",
        "/apis/anweddol.io/v1alpha1/namespaces/red",
        "/apis/anweddol.io/v1alpha1",
        "/api/v1/namespaces/default",
        "/api/v1",
        "/apis/events.k8s.io/v1/namespaces/default",
        "/apis/coordination.k8s.io/v1/namespaces/red",
        "/apis/authorization.k8s.io/v1",
        "/openapi/v3",
    ];
    let plurals = &[
        "containerpools",
        "containers",
        "containerclaims",
        "events",
        "leases",
        "secrets",
        "namespaces",
        "tokens",
        "accesstokens",
        "selfsubjectaccessreviews",
        "selfsubjectrulesreviews",
    ];
    let path = (
        any_of(places),
        any_of(plurals),
        prop::option::of(any_of(&["a", "b", "red", "a.1"])),
        prop::option::of(any_of(&["status", "scale", "login"])),
    );
    let path = path.prop_map(|(place, plural, name, part)| {
        let parts = [Some(place), Some(plural), name, part];
        parts.into_iter().flatten().collect::<Vec<_>>().join("/")
    });
    let queries = &[
        "watch=1",
        "watch=1&resourceVersion=3",
        "resourceVersion=99",
        "fieldManager=me",
        "fieldManager=me&force=true",
        "fieldValidation=Strict",
        "dryRun=All",
        "labelSelector=app%3Da",
        "fieldSelector=metadata.name%3Da",
        "from=1",
        "propagationPolicy=Foreground",
        "limit=1",
        "includeObject=Object",
        "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true",
    ];
    let media = &[
        "application/json",
        "application/yaml",
        "application/merge-patch+json",
        "application/json-patch+json",
        "application/apply-patch+yaml",
        "application/vnd.anweddol.manifest+json",
        "application/vnd.kubernetes.protobuf",
    ];
    (any_of(methods), path, any_of(queries), any_of(media), body())
}

/// A body of any kind with some of its values replaced, or any bytes.
fn body() -> impl Strategy<Value = Vec<u8>> {
    let bodies = vec![
        json!({ "apiVersion": "anweddol.io/v1alpha1", "kind": "ContainerPool", "metadata": { "name": "a" },
            "spec": { "replicas": 1, "maxContainers": 3, "template": { "image": { "iso": "/dev/null" } } } }),
        json!({ "apiVersion": "anweddol.io/v1alpha1", "kind": "ContainerClaim", "metadata": { "name": "a" }, "spec": { "pool": "a" } }),
        json!({ "metadata": { "name": "a", "labels": { "x": "y" } }, "spec": { "holderIdentity": "me" }, "stringData": { "k": "v" } }),
        json!([{ "op": "replace", "path": "/spec/replicas", "value": 2 }, { "op": "copy", "from": "/spec", "path": "/metadata/x" }]),
        json!({ "spec": { "replicas": 2, "role": "view", "resourceAttributes": { "verb": "get", "resource": "containers" } } }),
        json!({ "metadata": { "name": "a" }, "regarding": { "kind": "ContainerPool", "name": "a" }, "note": "seen", "status": {} }),
        json!({ "propagationPolicy": "Background", "dryRun": ["All"], "preconditions": { "uid": "x" } }),
    ];
    let junk =
        prop::sample::select(vec![json!(null), json!(-1), json!("x"), json!([]), json!({}), json!(1e300), json!(true)]);
    let changed = (prop::sample::select(bodies), prop::option::of((any::<prop::sample::Index>(), junk))).prop_map(
        |(mut body, change)| {
            if let Some((index, junk)) = change {
                let mut paths = Vec::new();
                pointers(&body, String::new(), &mut paths);
                if let Some(place) = body.pointer_mut(&paths[index.index(paths.len())]) {
                    *place = junk;
                }
            }
            body.to_string().into_bytes()
        },
    );
    prop_oneof![8 => changed, 1 => prop::collection::vec(any::<u8>(), 0..60), 1 => Just(b"k8s\0\x0a\x0d\x0a\x02v1\x12\x07Secret".to_vec())]
}

fn pointers(value: &Value, at: String, found: &mut Vec<String>) {
    match value {
        Value::Object(map) => map.iter().for_each(|(name, value)| pointers(value, format!("{at}/{name}"), found)),
        Value::Array(list) => {
            list.iter().enumerate().for_each(|(index, value)| pointers(value, format!("{at}/{index}"), found))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
    found.push(at);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    /// Whatever is asked, the daemon is never at fault, and says what is in a form that clients read.
    #[test]
    fn no_history_of_requests_is_the_daemons_fault(requests in prop::collection::vec(request(), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let bench = Bench::new();
            for (method, path, query, media, body) in requests {
                // Every watch ends at once.
                let path = format!("{path}?{query}&timeoutSeconds=0");
                let Ok(request) = Request::builder().method(method.as_str()).uri(&path).header("content-type", &media).body(Body::from(body)) else { continue };
                let told = told_of(bench.send(Door::Local, request).await).await;
                assert!(told.code < 500 || told.body["reason"] == "ServiceUnavailable", "{method} {path} {media}: {} {}", told.code, told.text);
                if told.code >= 400 {
                    assert_eq!((&told.body["kind"], &told.body["code"]), (&json!("Status"), &json!(told.code)), "{method} {path}");
                }
            }
        });
    }
}
