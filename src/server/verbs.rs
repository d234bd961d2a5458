//! The documented verbs over the wire: a request in, the documented response out.

use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use jiff::Timestamp;
use secrecy::ExposeSecret;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::{Answer, EventSink, Parameters, Verbs};
use crate::api::{Api, ApiError, BirthError, Granted};
use crate::model::{Client, Event, EventKind};
use crate::wire::{CREATE, DESTROY, Message, Request, Response, STAT};

/// CREATE, DESTROY and STAT, answered by the rules of [`Api`].
pub struct ApiVerbs {
    api: Arc<Api>,
    events: Arc<dyn EventSink>,
    version: String,
}

impl ApiVerbs {
    /// Answers with this version in STAT.
    pub fn new(api: Arc<Api>, events: Arc<dyn EventSink>, version: String) -> Self {
        ApiVerbs { api, events, version }
    }

    fn stat(&self) -> Result<Response, ApiError> {
        let stat = self.api.stat()?;
        // Both generations in one answer: the first insists on `available`, the second on `version`.
        Ok(Response::ok(map(json!({
            "uptime": stat.uptime,
            "available": stat.available,
            "version": self.version,
        }))))
    }

    fn unknown(&self, client: &Client, verb: &str) -> Response {
        let event = Event::new(EventKind::UnknownVerb, Timestamp::now()).client(client).detail("verb", verb);
        self.events.emit(event);
        Response::refused(Message::BadRequest, Some("Unknown verb"))
    }

    fn failure(&self, verb: &'static str, client: &Client, error: &ApiError) -> Response {
        let chain = crate::error_chain(error);
        match error {
            ApiError::BadAuthentication => Response::refused(Message::BadAuthentication, None),
            ApiError::Full { .. } => {
                tracing::info!(verb, client = client.id, reason = chain, "unavailable");
                Response::refused(Message::Unavailable, None)
            }
            ApiError::Birth(BirthError::NoFreePort { .. }) => {
                self.runtime_error(verb, client, &chain);
                Response::refused(Message::Unavailable, None)
            }
            // What went wrong inside is for the administrator, not for the client.
            ApiError::Birth(BirthError::Image(_) | BirthError::Record(_))
            | ApiError::NoPool { .. }
            | ApiError::Record(_)
            | ApiError::Seal(_) => {
                self.runtime_error(verb, client, &chain);
                Response::refused(Message::InternalError, None)
            }
            // Its failed step has told its own RUNTIME_ERROR.
            ApiError::NotReady { .. } => Response::refused(Message::InternalError, None),
        }
    }

    fn runtime_error(&self, verb: &'static str, client: &Client, chain: &str) {
        let event = Event::new(EventKind::RuntimeError, Timestamp::now()).client(client).message(chain);
        self.events.emit(event.detail("name", verb));
    }

    /// If the answer does not arrive, nobody knows the password: the grant is taken back.
    fn answer(&self, granted: &Granted) -> Answer {
        let (api, uuid) = (Arc::clone(&self.api), granted.uuid);
        let undelivered = Box::new(move || {
            tokio::spawn(async move {
                if let Err(error) = api.revoke(uuid).await {
                    tracing::warn!(container = %uuid, error = crate::error_chain(&error), "revoke");
                }
            });
        });
        let data = json!({
            "container_uuid": granted.uuid.to_string(),
            "client_token": granted.client_token.expose_secret(),
            "container_iso_sha256": granted.image_sha256,
            "container_username": granted.username,
            "container_password": granted.password.expose_secret(),
            "container_listen_port": granted.port,
        });
        Answer { response: Response::ok(map(data)), undelivered: Some(undelivered) }
    }
}

/// The verbs as they are shared by all connections.
pub struct Documented(pub Arc<ApiVerbs>);

impl Verbs for Documented {
    fn handle(&self, client: Client, request: Request) -> BoxFuture<'static, Answer> {
        let this = Arc::clone(&self.0);
        async move {
            match request.verb.as_str() {
                CREATE => match this.api.create(&client).await {
                    Ok(granted) => this.answer(&granted),
                    Err(error) => this.failure("CREATE", &client, &error).into(),
                },
                DESTROY => match pair(&request.parameters) {
                    Some((uuid, token)) => match this.api.destroy(uuid, token).await {
                        Ok(()) => Response::ok(Map::new()).into(),
                        Err(error) => this.failure("DESTROY", &client, &error).into(),
                    },
                    None => {
                        let reason = "DESTROY needs container_uuid and client_token";
                        Response::refused(Message::BadRequest, Some(reason)).into()
                    }
                },
                STAT => match this.stat() {
                    Ok(response) => response.into(),
                    Err(error) => this.failure("STAT", &client, &error).into(),
                },
                verb => this.unknown(&client, verb).into(),
            }
        }
        .boxed()
    }
}

fn pair(parameters: &Parameters) -> Option<(Uuid, &str)> {
    let text = |name| parameters.get(name).and_then(Value::as_str);
    Some((text("container_uuid")?.parse().ok()?, text("client_token")?))
}

fn map(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}
