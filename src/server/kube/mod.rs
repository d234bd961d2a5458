//! The API: HTTP in the form of Kubernetes, the same behind every door.
//!
//! A real kubectl, client-go, kube-rs and helm work with it as with a cluster that has three kinds of its own. The door
//! says who asks: on the Unix socket it is this host's root or the daemon's user ([`super::local`]), over HTTPS whoever
//! has a token ([`super::https`]). Every request goes the same way:
//!
//! ```text
//! who? ─► a place ─► path ─► verb ─► permitted? ─► body ─► objects ─► form ─► audit
//!  401     429       404     405        403       4xx      Status
//! ```
//!
//! | path | what |
//! | --- | --- |
//! | `/apis/anweddol.io/v1alpha1/…` | pools, containers, claims; parts `status`, `scale`, `login` |
//! | `/apis/anweddol.io/v1alpha1/events`, `…/tokens` | the log by number (`?from=N`); who may come in |
//! | `/apis/anweddol.io/v1alpha1/accesstokens` | who is served over the wire protocol |
//! | `/api/v1/…` | namespaces, events, secrets |
//! | `/apis/events.k8s.io/v1`, `…/coordination.k8s.io/v1` | events in their newer form; leases |
//! | `/apis/authentication.k8s.io/v1`, `…/authorization.k8s.io/v1` | what clients ask about themselves |
//! | `/api`, `/apis`, `/openapi/v2`, `/openapi/v3`, `/version` | what there is |
//! | `/doctor`, on the Unix socket alone | GET: what is there, compared with the records; POST: and what is left over removed |
//!
//! Everything has an end: bodies, their depth and the time they take, the requests and watches of one identity,
//! connections. A watch pulls from the store's history, so that one that is not read costs nothing. Every request is a line of
//! the log with the target `request`, and every write one more, with the target `audit`.

mod access_tokens;
mod body;
mod discovery;
pub(super) mod doctor;
mod limits;
mod negotiate;
mod openapi;
mod proto;
mod query;
mod read;
mod reviews;
mod status;
mod table;
mod target;
mod tokens;
mod watch;
mod write;

#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, WWW_AUTHENTICATE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, Request, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json, Router};
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use crate::api::access::{Access, Identity, Verb};
use crate::api::access_tokens::AccessTokenManager;
use crate::api::events::Events;
use crate::api::plain::Plain;
use crate::api::{Api, Objects};
use crate::metrics::Transport;
use crate::metrics::calls::SPANS;
use crate::plan::clock::Clock;
use crate::server::asked::{Asked, Requests};
use crate::server::gate::Refusal;
use crate::store::Store;
use limits::Limits;
use negotiate::Form;
use query::Query;
use status::Status;
use target::Target;

pub use negotiate::MANIFEST;

type Answer = Result<Response, Status>;

/// How others reach the API, for those who are given a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contact {
    /// The address, as `https://127.0.0.1:6151`.
    pub server: String,
    /// The certificate of the authority that the server's own is signed by, as PEM.
    pub authority: String,
}

/// Through which door a request came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// The socket of whoever runs the daemon.
    Local,
    /// HTTPS, from this address.
    Remote(SocketAddr),
}

/// Everything that requests are answered from.
pub struct Kube {
    objects: Arc<Objects>,
    api: Arc<Api>,
    plain: Arc<Plain>,
    events: Events,
    access: Access,
    access_tokens: AccessTokenManager,
    clock: Clock,
    contact: Option<Contact>,
    limits: Arc<Limits>,
    requests: Arc<Requests>,
    cancel: CancellationToken,
}

impl Kube {
    /// Over these; its watches end with `cancel`.
    pub fn new(
        store: &Arc<dyn Store>,
        objects: Arc<Objects>,
        api: Arc<Api>,
        plain: Arc<Plain>,
        clock: Clock,
        contact: Option<Contact>,
        cancel: CancellationToken,
    ) -> Kube {
        let (events, access) = (Events::new(Arc::clone(store)), Access::new(Arc::clone(store), Arc::clone(&clock)));
        let access_tokens = AccessTokenManager::new(Arc::clone(store), Arc::clone(&clock));
        let (limits, requests) = (Arc::default(), Arc::default());
        Kube { objects, api, plain, events, access, access_tokens, clock, contact, limits, requests, cancel }
    }

    /// The same, with its requests told here.
    pub fn telling(self, requests: Arc<Requests>) -> Kube {
        Kube { requests, ..self }
    }

    /// What answers requests that come in through a door.
    pub fn router(self: Arc<Self>, door: Door) -> Router {
        Router::new().fallback(answer).layer(Extension(door)).with_state(self)
    }

    /// What whoever asks too often is told.
    pub(super) fn too_many(refusal: Refusal) -> Response {
        Status::too_many(refusal.to_string()).into_response()
    }

    /// Who asks. Only the local door needs no token.
    fn identify(&self, door: Door, headers: &HeaderMap) -> Result<Identity, Status> {
        match door {
            Door::Local => Ok(Identity::local()),
            Door::Remote(_) => {
                let said = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
                let token =
                    said.and_then(|said| said.split_once(' ')).filter(|(word, _)| word.eq_ignore_ascii_case("bearer"));
                let (_, token) = token.ok_or_else(Status::unauthorized)?;
                self.access.identify(token.trim())?.ok_or_else(Status::unauthorized)
            }
        }
    }

    async fn handle(&self, door: Door, parts: Parts, body: Body, asked: &mut Asked) -> Answer {
        let who = self.identify(door, &parts.headers)?;
        asked.by(&who.name);
        let query = Query::parse(parts.uri.query().unwrap_or_default())?;
        let target = target::parse(parts.uri.path())?;
        let Target::Objects(objects) = target else {
            asked.verb("read");
            let _place = self.limits.enter(&who.name, false)?;
            return self.tell(&target, &parts);
        };
        let verb = objects.verb(&parts.method, query.watch)?;
        asked.verb(verb.name());
        let place = self.limits.enter(&who.name, verb == Verb::Watch)?;
        let attributes = objects.attributes(verb);
        let audited = !verb.reads() && !reviews::always(objects.resource);
        let (name, about, dry_run) = (who.name.clone(), objects.clone(), query.dry_run);
        // Before the body is read: nobody is listened to who may not.
        let answer = if who.grant.permits(&attributes) || reviews::always(objects.resource) {
            let call = Call { who, objects, verb, query, headers: parts.headers };
            self.objects(call, body, place).await
        } else {
            Err(refused(&who, &objects, verb))
        };
        if audited {
            let code = answer.as_ref().map_or_else(Status::code, |response| response.status().as_u16());
            let from = match door {
                Door::Local => "local".to_owned(),
                Door::Remote(address) => address.to_string(),
            };
            tracing::info!(
                target: "audit",
                user = name,
                from,
                verb = verb.name(),
                resource = about.resource.plural(),
                part = about.part.name(),
                namespace = about.namespace.as_deref(),
                name = about.name.as_deref(),
                dry_run,
                code,
                "write"
            );
        }
        answer
    }

    /// What is no object.
    fn tell(&self, target: &Target, parts: &Parts) -> Answer {
        if !matches!(parts.method, Method::GET | Method::HEAD) {
            return Err(Status::no_verb("this path can only be read"));
        }
        let nowhere = || Status::not_found("the server could not find the requested resource");
        let value = match target {
            Target::Health => return Ok("ok".into_response()),
            Target::OpenApi2 => {
                let older = [(CONTENT_TYPE, openapi::OLDER_TYPE)];
                return Ok((older, openapi::OLDER).into_response());
            }
            Target::Version => discovery::version(),
            Target::Api | Target::Apis => {
                let core = *target == Target::Api;
                if let Form::Discovery(version) = negotiate::form(&parts.headers)? {
                    // Clients take it for what they asked for only if it says so.
                    let media = format!("application/json;g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList");
                    return Ok(
                        ([(CONTENT_TYPE, media)], discovery::aggregated(core, version).to_string()).into_response()
                    );
                }
                if core { discovery::core_versions() } else { discovery::groups() }
            }
            Target::Group(name) => discovery::group(name).ok_or_else(nowhere)?,
            Target::Resources(version) => discovery::resources(version).ok_or_else(nowhere)?,
            Target::OpenApi => openapi::index(),
            Target::OpenApiOf(version) => openapi::document(version).ok_or_else(nowhere)?,
            Target::Objects(_) => return Err(nowhere()),
        };
        Ok(Json(value).into_response())
    }
}

/// A request about objects, permitted.
struct Call {
    who: Identity,
    objects: target::Objects,
    verb: Verb,
    query: Query,
    headers: HeaderMap,
}

async fn answer(State(kube): State<Arc<Kube>>, Extension(door): Extension<Door>, request: Request<Body>) -> Response {
    let (parts, body) = request.into_parts();
    let mut asked = match door {
        Door::Local => kube.requests.begin(Transport::Local, None),
        Door::Remote(from) => kube.requests.begin(Transport::Https, Some(from)),
    };
    let span = tracing::debug_span!(target: SPANS, "request", id = asked.id());
    let answer = kube.handle(door, parts, body, &mut asked).instrument(span).await;
    let mut response = answer.unwrap_or_else(IntoResponse::into_response);
    asked.status(response.status().as_u16());
    let unknown = response.status() == StatusCode::UNAUTHORIZED;
    let headers = response.headers_mut();
    // Logins and tokens are told by the same paths as everything else.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if unknown {
        headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"anweddol\""));
    }
    response
}

/// As Kubernetes says it.
fn refused(who: &Identity, objects: &target::Objects, verb: Verb) -> Status {
    let of = match objects.resource.group() {
        "" => objects.resource.plural().to_owned(),
        group => format!("{}.{group}", objects.resource.plural()),
    };
    let named = objects.name.as_ref().map_or(String::new(), |name| format!(" \"{name}\""));
    let part = match objects.part.name() {
        "" => objects.resource.plural().to_owned(),
        part => format!("{}/{part}", objects.resource.plural()),
    };
    let place = match &objects.namespace {
        Some(namespace) => format!("in the namespace \"{namespace}\""),
        None => "at the cluster scope".into(),
    };
    Status::forbidden(format!(
        "{of}{named} is forbidden: User \"{}\" cannot {} resource \"{part}\" in API group \"{}\" {place}",
        who.name,
        verb.name(),
        objects.resource.group(),
    ))
}

/// An object with a status.
fn told(code: StatusCode, value: Value) -> Response {
    (code, Json(value)).into_response()
}
