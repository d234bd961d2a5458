//! The documented verbs over the wire, and EXTEND: a request in, the documented response out.

use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use secrecy::ExposeSecret;
use serde_json::{Map, Value, json};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::access::{INVALID, REFUSED};
use super::lines::Lines;
use super::parameters;
use super::{Answer, ClientInstance, EventSink, Lifecycle, Moment, Party, Verbs, telling};
use crate::api::{Api, ApiError, BirthError, Deadline, End, Granted, QuotaError, Wishes};
use crate::model::{Event, EventKind};
use crate::wire::{CREATE, DESTROY, EXTEND, Message, Request, Response, STAT};

/// CREATE, DESTROY, STAT and EXTEND, answered by the rules of [`Api`].
pub struct ApiVerbs {
    api: Arc<Api>,
    events: Arc<dyn EventSink>,
    lifecycle: Option<Arc<dyn Lifecycle>>,
    version: String,
    lines: Lines,
}

impl ApiVerbs {
    /// Answers with this version in STAT.
    pub fn new(
        api: Arc<Api>,
        events: Arc<dyn EventSink>,
        lifecycle: Option<Arc<dyn Lifecycle>>,
        version: String,
    ) -> Self {
        ApiVerbs { api, events, lifecycle, version, lines: Lines::default() }
    }

    async fn create(&self, client: &Arc<ClientInstance>, wishes: Wishes) -> Result<Granted, ApiError> {
        let review = self.lifecycle.as_ref().and_then(|lifecycle| lifecycle.review(client));
        let access_token = client.access_token().map(str::to_owned);
        self.api.create_reviewed(client.client(), wishes, access_token, review).await
    }

    async fn destroy(&self, client: &Arc<ClientInstance>, uuid: Uuid, token: &str) -> Result<(), ApiError> {
        self.api.authenticate(&uuid.to_string(), token)?;
        let told = self.lifecycle.as_ref().map(|lifecycle| lifecycle.destroying(client, uuid));
        let gone = self.api.destroy(uuid, token).await?;
        if let (Some(told), End::Gone) = (told, gone) {
            told.await;
        }
        Ok(())
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

    async fn unknown(&self, client: &Arc<ClientInstance>, verb: &str) -> Response {
        let event = Event::new(EventKind::UnknownVerb, self.events.now()).detail("verb", telling::verb(verb));
        self.tell(event, client).await;
        Response::refused(Message::BadRequest, Some("Unknown verb"))
    }

    async fn failure(&self, verb: &'static str, client: &Arc<ClientInstance>, error: &ApiError) -> Response {
        let chain = crate::error_chain(error);
        match error {
            ApiError::BadAuthentication => Response::refused(Message::BadAuthentication, None),
            ApiError::Quota(QuotaError::Gone { .. }) => {
                let client = client.id();
                self.lines.say(REFUSED, || tracing::info!(verb, client, reason = chain, "{REFUSED}"));
                Response::refused(Message::BadAuthentication, Some(INVALID))
            }
            ApiError::Quota(QuotaError::Used { name, .. }) => {
                let client = client.id();
                let say = || tracing::info!(verb, client, access_token = name, reason = chain, "{REFUSED}");
                self.lines.say(REFUSED, say);
                Response::refused(Message::RefusedRequest, Some(&chain))
            }
            // Said in words of ours, of what the client itself has written.
            ApiError::Wish(_) | ApiError::Extend(_) => Response::refused(Message::RefusedRequest, Some(&chain)),
            ApiError::Full { .. }
            | ApiError::Paused { .. }
            | ApiError::Birth(BirthError::HostFull(_) | BirthError::Stopping) => {
                let client = client.id();
                self.lines.say("unavailable", || tracing::info!(verb, client, reason = chain, "unavailable"));
                Response::refused(Message::Unavailable, None)
            }
            ApiError::Birth(BirthError::NoFreePort { .. }) => {
                self.runtime_error(verb, client, &chain).await;
                Response::refused(Message::Unavailable, None)
            }
            // What went wrong inside is for the administrator, not for the client.
            ApiError::Birth(BirthError::Image(_) | BirthError::Host(_) | BirthError::Record(_))
            | ApiError::NoPool { .. }
            | ApiError::Record(_)
            | ApiError::Login(_)
            | ApiError::Seal(_) => {
                self.runtime_error(verb, client, &chain).await;
                Response::refused(Message::InternalError, None)
            }
            // Its failed step has told its own RUNTIME_ERROR.
            ApiError::NotReady { .. } => Response::refused(Message::InternalError, None),
        }
    }

    async fn runtime_error(&self, verb: &'static str, client: &Arc<ClientInstance>, chain: &str) {
        let event = Event::new(EventKind::RuntimeError, self.events.now()).message(chain);
        self.tell(event.detail("name", verb).detail("error", "ApiError"), client).await;
    }

    async fn tell(&self, event: Event, client: &Arc<ClientInstance>) {
        let event = event.client(client.client());
        self.events.at(Moment { event, party: Party::Client(Arc::clone(client)) }).await;
    }

    /// If the answer does not arrive, nobody knows the password: the grant is taken back. If it does, that is noted.
    fn answer(&self, granted: &Granted) -> Answer {
        let (api, uuid) = (Arc::clone(&self.api), granted.uuid);
        let undelivered = Box::new(move || {
            tokio::spawn(async move { api.insist("revoke", &uuid.to_string(), || api.revoke(uuid)).await });
        });
        let api = Arc::clone(&self.api);
        let delivered = Box::new(move || {
            tokio::spawn(async move {
                if let Err(error) = api.delivered(uuid).await {
                    tracing::warn!(container = %uuid, error = crate::error_chain(&error), "its delivery is not noted");
                }
            });
        });
        let mut data = map(json!({
            "container_uuid": granted.uuid.to_string(),
            "client_token": granted.client_token.expose_secret(),
            "container_iso_sha256": granted.image_sha256,
            "container_username": granted.username,
            "container_password": granted.password.expose_secret(),
            "container_listen_port": granted.port,
        }));
        data.extend(granted.deadline.iter().flat_map(deadline));
        Answer { response: Response::ok(data), undelivered: Some(undelivered), delivered: Some(delivered) }
    }
}

/// The verbs as they are shared by all connections.
pub struct Documented(pub Arc<ApiVerbs>);

impl Verbs for Documented {
    fn handle(&self, client: Arc<ClientInstance>, request: Request) -> BoxFuture<'static, Answer> {
        let (this, request) = (Arc::clone(&self.0), Zeroizing::new(request));
        async move {
            match request.verb.as_str() {
                CREATE => match parameters::wishes(&request.parameters) {
                    Ok(wishes) => match this.create(&client, wishes).await {
                        Ok(granted) => this.answer(&granted),
                        Err(error) => this.failure("CREATE", &client, &error).await.into(),
                    },
                    Err(error) => Response::refused(Message::BadRequest, Some(&error.to_string())).into(),
                },
                EXTEND => match parameters::extension(&request.parameters) {
                    Ok((uuid, token, seconds)) => match this.api.extend(uuid, token, seconds).await {
                        Ok(granted) => Response::ok(Map::from_iter(deadline(&granted))).into(),
                        Err(error) => this.failure("EXTEND", &client, &error).await.into(),
                    },
                    Err(error) => Response::refused(Message::BadRequest, Some(&error.to_string())).into(),
                },
                DESTROY => match parameters::pair(&request.parameters) {
                    Some((uuid, token)) => match this.destroy(&client, uuid, token).await {
                        Ok(()) => Response::ok(Map::new()).into(),
                        Err(error) => this.failure("DESTROY", &client, &error).await.into(),
                    },
                    None => {
                        let reason = "DESTROY needs container_uuid and client_token";
                        Response::refused(Message::BadRequest, Some(reason)).into()
                    }
                },
                STAT => match this.stat() {
                    Ok(response) => response.into(),
                    Err(error) => this.failure("STAT", &client, &error).await.into(),
                },
                verb => this.unknown(&client, verb).await.into(),
            }
        }
        .boxed()
    }
}

/// How a deadline is told: clients whose clocks are wrong can count.
fn deadline(deadline: &Deadline) -> [(String, Value); 2] {
    let at = deadline.at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    [("container_ttl".into(), deadline.seconds.into()), ("container_expires_at".into(), at.into())]
}

fn map(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}
