//! From paths and verbs to [`Objects`].

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::http::header::CACHE_CONTROL;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Json, Router};
use secrecy::ExposeSecret;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::status::Status;
use super::stream;
use crate::api::Login;
use crate::api::objects::{Deletion, Outcome, Request, Subresource, Terms, Verb, Written};
use crate::api::{Api, Objects};
use crate::manifest::selector::Selector;
use crate::manifest::{self, Fault, Manifest};
use crate::model::{API_VERSION, Kind, ObjectRef, valid_name};

/// The longest body.
const MAX_BODY: usize = manifest::MAX_SIZE;
/// Who the command line is, among those who write fields.
const MANAGER: &str = "anweddol";
/// How long a body may take.
const BODY_TIME: Duration = Duration::from_secs(10);
/// Events in one answer. Whoever wants more asks again, from the next number on.
const MOST_EVENTS: usize = 10_000;

#[derive(Clone)]
struct Local {
    objects: Arc<Objects>,
    api: Arc<Api>,
    cancel: CancellationToken,
}

type Answer = Result<Response, Status>;

/// What a request asks for besides its path.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Asked {
    watch: Option<String>,
    resource_version: Option<u64>,
    label_selector: Option<String>,
    dry_run: Option<String>,
    from: Option<u64>,
}

pub(super) fn router(objects: Arc<Objects>, api: Arc<Api>, cancel: CancellationToken) -> Router {
    let root = format!("/apis/{API_VERSION}");
    let at = |rest: &str| format!("{root}{rest}");
    Router::new()
        .route(&at("/events"), get(events))
        .route(&at("/{kinds}"), get(list_all))
        .route(&at("/namespaces/{namespace}/{kinds}"), get(list).post(create))
        .route(&at("/namespaces/{namespace}/{kinds}/{name}"), get(one).put(replace).patch(apply).delete(delete))
        .route(&at("/namespaces/{namespace}/{kinds}/{name}/scale"), put(scale))
        .route(&at("/namespaces/{namespace}/{kinds}/{name}/login"), post(login))
        .fallback(|| async { Status::not_found("there is no such path in the local API") })
        .method_not_allowed_fallback(|| async {
            let message = "this path does not take that verb";
            Status::new(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", message)
        })
        .with_state(Local { objects, api, cancel })
}

impl Asked {
    fn watches(&self) -> bool {
        matches!(self.watch.as_deref(), Some("1" | "true"))
    }

    fn selector(&self) -> Result<Selector, Status> {
        let text = self.label_selector.as_deref().unwrap_or_default();
        text.parse().map_err(|error: manifest::selector::ParseSelectorError| Status::bad_request(error.to_string()))
    }

    fn terms(&self) -> Result<Terms, Status> {
        let dry_run = match self.dry_run.as_deref() {
            None => false,
            Some("All") => true,
            Some(other) => {
                return Err(Status::bad_request(format!("dryRun={other}: write dryRun=All, or leave it out")));
            }
        };
        Ok(Terms { dry_run, revision: self.resource_version, field_manager: Some(MANAGER.into()), ..Terms::default() })
    }
}

/// Parameters that are none are told, not ignored.
type Parameters = Result<Query<Asked>, axum::extract::rejection::QueryRejection>;

fn asked(parameters: Parameters) -> Result<Asked, Status> {
    parameters.map(|Query(asked)| asked).map_err(|error| Status::bad_request(error.body_text()))
}

fn kind(plural: &str) -> Result<Kind, Status> {
    let known = || Kind::ALL.map(Kind::plural).join(", ");
    Kind::from_plural(plural)
        .ok_or_else(|| Status::not_found(format!("there is no resource '{plural}': there are {}", known())))
}

fn namespace(name: &str) -> Result<&str, Status> {
    valid_name(name).map(|()| name).map_err(|error| Status::bad_request(format!("namespace: {error}")))
}

fn object((space, plural, name): &(String, String, String)) -> Result<ObjectRef, Status> {
    valid_name(name).map_err(|error| Status::bad_request(error.to_string()))?;
    Ok(ObjectRef { kind: kind(plural)?, namespace: namespace(space)?.into(), name: name.clone() })
}

async fn list_all(State(local): State<Local>, Path(plural): Path<String>, parameters: Parameters) -> Answer {
    look(&local, kind(&plural)?, None, &asked(parameters)?)
}

async fn list(
    State(local): State<Local>,
    Path((space, plural)): Path<(String, String)>,
    parameters: Parameters,
) -> Answer {
    look(&local, kind(&plural)?, Some(namespace(&space)?), &asked(parameters)?)
}

fn look(local: &Local, kind: Kind, namespace: Option<&str>, asked: &Asked) -> Answer {
    let selector = asked.selector()?;
    // Without a revision, or from 0 on, a watch begins with what is there.
    match asked.resource_version.filter(|revision| *revision > 0) {
        Some(after) if asked.watches() => {
            let changes = local.objects.watch(kind, namespace, selector, after);
            Ok(stream::watch(vec![], changes, local.cancel.clone()))
        }
        _ => {
            let listed = local.objects.list(kind, namespace, &selector)?;
            if asked.watches() {
                let changes = local.objects.watch(kind, namespace, selector, listed.revision);
                return Ok(stream::watch(listed.items, changes, local.cancel.clone()));
            }
            Ok(items(&format!("{kind}List"), listed.items, listed.revision))
        }
    }
}

fn items(kind: &str, items: Vec<Value>, revision: u64) -> Response {
    let metadata = json!({ "resourceVersion": revision.to_string() });
    Json(json!({ "apiVersion": API_VERSION, "kind": kind, "metadata": metadata, "items": items })).into_response()
}

async fn events(State(local): State<Local>, parameters: Parameters) -> Answer {
    let asked = asked(parameters)?;
    match asked.resource_version.filter(|revision| *revision > 0) {
        Some(after) if asked.watches() => {
            Ok(stream::watch(vec![], local.objects.watch_events(after), local.cancel.clone()))
        }
        _ => {
            let listed = local.objects.events(asked.from.unwrap_or(0), MOST_EVENTS)?;
            if asked.watches() {
                let changes = local.objects.watch_events(listed.revision);
                return Ok(stream::watch(listed.items, changes, local.cancel.clone()));
            }
            Ok(items("EventList", listed.items, listed.revision))
        }
    }
}

async fn one(State(local): State<Local>, Path(path): Path<(String, String, String)>) -> Answer {
    Ok(Json(local.objects.get(&object(&path)?)?).into_response())
}

async fn create(
    State(local): State<Local>,
    Path((space, plural)): Path<(String, String)>,
    parameters: Parameters,
    body: Body,
) -> Answer {
    let (terms, kind) = (asked(parameters)?.terms()?, kind(&plural)?);
    let manifest = manifest(body).await?;
    if (manifest.kind(), manifest.namespace.as_str()) != (kind, namespace(&space)?) {
        let object = manifest.object_ref();
        return Err(Status::bad_request(format!("{object} does not belong below namespaces/{space}/{plural}")));
    }
    Ok(written(local.objects.write(&request(&manifest, Verb::Create, terms)).await?))
}

async fn replace(
    State(local): State<Local>,
    Path(path): Path<(String, String, String)>,
    parameters: Parameters,
    body: Body,
) -> Answer {
    let mut terms = asked(parameters)?.terms()?;
    let manifest = manifest_of(&object(&path)?, body).await?;
    let right = "metadata.resourceVersion: who replaces an object says which revision of it they read";
    let revision = manifest.resource_version.as_deref().ok_or_else(|| Status::bad_request(right))?;
    terms.revision = Some(revision.parse().map_err(|_| Status::bad_request(right))?);
    Ok(written(local.objects.write(&request(&manifest, Verb::Replace, terms)).await?))
}

async fn apply(
    State(local): State<Local>,
    Path(path): Path<(String, String, String)>,
    parameters: Parameters,
    body: Body,
) -> Answer {
    let terms = asked(parameters)?.terms()?;
    let manifest = manifest_of(&object(&path)?, body).await?;
    Ok(written(local.objects.write(&request(&manifest, Verb::Describe, terms)).await?))
}

fn request(manifest: &Manifest, verb: Verb, terms: Terms) -> Request {
    Request { terms, ..Request::new(manifest.object_ref(), verb, manifest.to_json()) }
}

async fn delete(
    State(local): State<Local>,
    Path(path): Path<(String, String, String)>,
    parameters: Parameters,
) -> Answer {
    let (object, terms) = (object(&path)?, asked(parameters)?.terms()?);
    let deletion = Deletion { dry_run: terms.dry_run, revision: terms.revision, ..Deletion::default() };
    let deleted = local.objects.delete(&object, &deletion).await?;
    let details = json!({ "name": object.name, "group": "anweddol.io", "kind": object.kind.plural() });
    let code = if deleted.gone { StatusCode::OK } else { StatusCode::ACCEPTED };
    let body = json!({ "kind": "Status", "apiVersion": "v1", "status": "Success", "details": details });
    Ok((code, Json(body)).into_response())
}

/// A body of `scale`.
#[derive(Deserialize)]
struct Scale {
    spec: ScaleSpec,
}

#[derive(Deserialize)]
struct ScaleSpec {
    replicas: u32,
}

async fn scale(
    State(local): State<Local>,
    Path(path): Path<(String, String, String)>,
    parameters: Parameters,
    body: Body,
) -> Answer {
    let (object, terms) = (object(&path)?, asked(parameters)?.terms()?);
    if object.kind != Kind::ContainerPool {
        return Err(Status::not_found(format!("{object} has no scale: only pools have")));
    }
    let right = |error| Status::bad_request(format!("write {{\"spec\": {{\"replicas\": N}}}}: {error}"));
    let scale: Scale = serde_json::from_slice(&whole(body).await?).map_err(right)?;
    let body = json!({ "spec": { "replicas": scale.spec.replicas } });
    let request = Request::new(object.clone(), Verb::MergePatch, body);
    let request = Request { subresource: Some(Subresource::Scale), terms, ..request };
    let done = local.objects.write(&request).await?;
    Ok(written(Written { object: local.objects.get(&object)?, ..done }))
}

/// Tells a login. It is marked as read before it is told: whoever asks again is refused.
async fn login(State(local): State<Local>, Path(path): Path<(String, String, String)>) -> Answer {
    let Login { container, username, password, port, expires_at } = local.api.login_once(&object(&path)?).await?;
    let body = json!({
        "apiVersion": API_VERSION,
        "kind": "Login",
        "container": container,
        "username": username,
        "password": password.expose_secret(),
        "port": port,
        "expiresAt": expires_at,
    });
    Ok(([(CACHE_CONTROL, "no-store")], Json(body)).into_response())
}

fn written(Written { outcome, object, .. }: Written) -> Response {
    let (code, word) = match outcome {
        Outcome::Created => (StatusCode::CREATED, "created"),
        Outcome::Configured => (StatusCode::OK, "configured"),
        Outcome::Unchanged => (StatusCode::OK, "unchanged"),
    };
    (code, [("anweddol-outcome", word)], Json(object)).into_response()
}

async fn whole(body: Body) -> Result<axum::body::Bytes, Status> {
    match tokio::time::timeout(BODY_TIME, axum::body::to_bytes(body, MAX_BODY)).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(_)) => {
            let message = format!("the body broke off, or is longer than {MAX_BODY} bytes");
            Err(Status::new(StatusCode::PAYLOAD_TOO_LARGE, "RequestEntityTooLarge", message))
        }
        Err(_) => {
            let message = format!("the body took longer than {} s", BODY_TIME.as_secs());
            Err(Status::new(StatusCode::REQUEST_TIMEOUT, "Timeout", message))
        }
    }
}

async fn manifest(body: Body) -> Result<Manifest, Status> {
    let manifest::Read { mut manifests, problems } = manifest::read("the request", &whole(body).await?);
    if !problems.is_empty() {
        let said: Vec<String> = problems.iter().map(ToString::to_string).collect();
        let causes = problems.into_iter().map(|problem| Fault::new(problem.field, problem.message)).collect();
        return Err(Status::invalid(said.join("\n"), causes));
    }
    match (manifests.pop(), manifests.is_empty()) {
        (Some(located), true) => Ok(located.manifest),
        _ => Err(Status::bad_request("the body is not one manifest: send exactly one")),
    }
}

async fn manifest_of(object: &ObjectRef, body: Body) -> Result<Manifest, Status> {
    let manifest = manifest(body).await?;
    let other = manifest.object_ref();
    if other == *object {
        Ok(manifest)
    } else {
        Err(Status::bad_request(format!("the body is about {other}, and the path about {object}")))
    }
}
