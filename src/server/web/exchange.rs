//! One connection: a request, its answer, and whether that arrived.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::{self, BoxFuture};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Body, Bytes, Incoming};
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::{Map, Value, json};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use super::Stream;
use super::request::{self, HOME, Refused};
use crate::link::Link;
use crate::metrics::Transport;
use crate::model::EventKind;
use crate::server::asked::{Asked, Requests};
use crate::server::connections::LONGEST_HEAD;
use crate::server::gate::{Pass, Refusal};
use crate::server::handling::{self, Confirm, Handled, Panicked, Undelivered};
use crate::server::instance::Sending;
use crate::server::lines::Lines;
use crate::server::tcp::WireConfig;
use crate::server::{Answer, ClientInstance, EventSink, Moment, Party, Verbs, telling};
use crate::wire::{Message, Request, Response};

/// What `GET /` says.
const GREETING: &str = "Hello and welcome to this Anweddol server HTTP REST API. This server provides temporary, SSH-controllable virtual machines to enhance anonymity online.";
/// What it leads to.
const LINKS: [&str; 3] = [
    "https://the-anweddol-project.github.io/",
    "https://github.com/the-anweddol-project/",
    "https://anweddol-server.readthedocs.io/",
];

/// What all connections share.
pub(super) struct Shared {
    /// How the wire is served, which may change meanwhile.
    pub(super) settings: watch::Receiver<WireConfig>,
    verbs: Arc<dyn Verbs>,
    events: Arc<dyn EventSink>,
    requests: Arc<Requests>,
    /// What is written about those who are turned away.
    pub(super) lines: Lines,
    /// No work at all.
    pub(super) abandon: CancellationToken,
}

impl Shared {
    pub(super) fn new(
        settings: watch::Receiver<WireConfig>,
        verbs: Arc<dyn Verbs>,
        events: Arc<dyn EventSink>,
        requests: Arc<Requests>,
    ) -> Self {
        let verbs = Arc::new(Front(verbs));
        Shared { settings, verbs, events, requests, lines: Lines::default(), abandon: CancellationToken::new() }
    }

    pub(super) fn turned_away(&self, peer: IpAddr, refusal: Refusal) {
        self.lines.say(refusal.name(), || tracing::warn!(client = %peer, reason = %refusal, "web: turned away"));
    }

    /// Tells what an answer was lost of.
    async fn tell(&self, client: &Arc<ClientInstance>, error: &ExchangeError) {
        let name = match error {
            ExchangeError::Closed | ExchangeError::Stopping => return,
            // Nobody was answered, and anybody can send what is no HTTP as often as they like.
            ExchangeError::NotHeard(_) => {
                let peer = client.ip();
                return tracing::debug!(error = crate::error_chain(error), %peer, "web: a connection broke off");
            }
            ExchangeError::NotAccepted(_) => "NotAccepted",
            ExchangeError::Gone => "Gone",
            ExchangeError::Broken(_) => "Broken",
            ExchangeError::Handler(_) => "Handler",
        };
        let event = telling::runtime_error("web", name, error, Some(client.client()), self.events.now());
        tokio::select! {
            // Told in any case; only its handlers are not waited for.
            () = self.events.at(Moment { event, party: Party::Client(Arc::clone(client)) }) => {}
            () = self.abandon.cancelled() => {}
        }
    }
}

/// The verbs, with what the web alone has: a page to begin with.
struct Front(Arc<dyn Verbs>);

impl Verbs for Front {
    fn handle(&self, client: Arc<ClientInstance>, request: Request) -> BoxFuture<'static, Answer> {
        if request.verb != HOME {
            return self.0.handle(client, request);
        }
        let data = Map::from_iter([("links".to_owned(), json!(LINKS))]);
        let home = Response { message: GREETING.into(), ..Response::ok(data) };
        Box::pin(future::ready(home.into()))
    }
}

/// Why a connection ended before its answer was delivered.
#[derive(Debug, thiserror::Error)]
enum ExchangeError {
    #[error("no request could be read")]
    NotHeard(#[source] hyper::Error),
    #[error("the client took longer than {} s to accept its answer", .0.as_secs_f32())]
    NotAccepted(Duration),
    #[error("the client went away before its answer was ready")]
    Gone,
    #[error("the connection to the client broke")]
    Broken(#[source] hyper::Error),
    #[error("a handler closed the client")]
    Closed,
    #[error("the server stops")]
    Stopping,
    #[error(transparent)]
    Handler(#[from] Panicked),
}

/// Somebody who was let in, and how they are served.
pub(super) struct Visit {
    pub(super) peer: SocketAddr,
    pub(super) pass: Pass,
    pub(super) wire: WireConfig,
    /// By when the request has to be there.
    pub(super) deadline: Instant,
}

/// Serves one connection. Its failures are told as events and concern nobody else.
pub(super) async fn serve(stream: impl Stream, visit: Visit, shared: &Arc<Shared>, stop: &CancellationToken) {
    let closed = CancellationToken::new();
    let now = shared.events.now();
    let (client, sent) = ClientInstance::connected(telling::client(visit.peer.ip()), now, closed.clone());
    let visit = Arc::new(visit);
    // Whoever closes it has it end here, wherever it is: what was being done is dropped, and by that undone.
    let ended = tokio::select! {
        biased;
        () = closed.cancelled() => Err(ExchangeError::Closed),
        () = shared.abandon.cancelled() => Err(ExchangeError::Stopping),
        ended = converse(stream, sent, &visit, &client, shared, stop) => ended,
    };
    closed.cancel();
    match ended {
        Ok((socket, confirm)) => {
            tokio::select! {
                () = last_word(socket, confirm) => {}
                () = shared.abandon.cancelled() => {}
            }
        }
        Err(error) => shared.tell(&client, &error).await,
    }
}

/// Waits until the answer arrived, and has that noted.
async fn last_word(socket: TcpStream, confirm: Option<Confirm>) {
    let Ok(mut link) = Link::new(socket) else { return };
    if let Some(confirm) = confirm
        && link.arrived().await
    {
        confirm();
    }
    link.close().await;
}

/// What is left to be done when the answer is on its way.
struct Settling {
    asked: Asked,
    undelivered: Undelivered,
    handled: Handled,
}

impl Settling {
    /// It was sent: from here on it may arrive, whatever becomes of the connection.
    async fn settle(mut self, shared: &Shared, client: &Arc<ClientInstance>) -> Option<Confirm> {
        self.undelivered.0 = None;
        self.asked.told(&self.handled.answer.response);
        drop(self.asked);
        if let Some(delivered) = self.handled.delivered {
            // It need not wait for it.
            delivered.send(()).ok();
        }
        if let Some(rest) = self.handled.rest
            && let Err(panicked) = rest.await
        {
            shared.tell(client, &panicked.into()).await;
        }
        self.handled.answer.delivered
    }
}

/// The one request of a connection.
struct Turn {
    sent: mpsc::Receiver<Sending>,
    settling: oneshot::Sender<Settling>,
}

/// Reads the request and writes the answer; gives the socket back when all of it is with the system.
async fn converse(
    stream: impl Stream,
    sent: mpsc::Receiver<Sending>,
    visit: &Arc<Visit>,
    client: &Arc<ClientInstance>,
    shared: &Arc<Shared>,
    stop: &CancellationToken,
) -> Result<(TcpStream, Option<Confirm>), ExchangeError> {
    let (settling, mut settled) = oneshot::channel();
    let heard = CancellationToken::new();
    let asking = Arc::new(Asking {
        shared: Arc::clone(shared),
        client: Arc::clone(client),
        visit: Arc::clone(visit),
        heard: heard.clone(),
        turn: Mutex::new(Some(Turn { sent, settling })),
    });
    let service = service_fn(move |request| {
        let asking = Arc::clone(&asking);
        async move { asking.answer(request).await }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(visit.deadline.saturating_duration_since(Instant::now()))
        .max_buf_size(LONGEST_HEAD)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service)
        .without_shutdown();
    let mut connection = std::pin::pin!(connection);
    let stopped = async {
        stop.cancelled().await;
        if heard.is_cancelled() {
            // It is answered first.
            future::pending().await
        }
    };
    let limit = visit.wire.answer_timeout;
    let late = |_| ExchangeError::NotAccepted(limit);
    let (settling, ended) = tokio::select! {
        biased;
        () = stopped => return Err(ExchangeError::Stopping),
        ended = connection.as_mut() => (settled.try_recv().ok(), ended),
        Ok(settling) = &mut settled => (Some(settling), timeout(limit, connection.as_mut()).await.map_err(late)?),
    };
    let parts = ended.map_err(|error| match (heard.is_cancelled(), &settling) {
        (false, _) => ExchangeError::NotHeard(error),
        (true, None) => ExchangeError::Gone,
        (true, Some(_)) => ExchangeError::Broken(error),
    })?;
    let confirm = match settling {
        Some(settling) => settling.settle(shared, client).await,
        None => None,
    };
    let socket = timeout(limit, parts.io.into_inner().end()).await.map_err(late)?;
    Ok((socket, confirm))
}

/// What answers the request of a connection.
struct Asking {
    shared: Arc<Shared>,
    client: Arc<ClientInstance>,
    visit: Arc<Visit>,
    /// Cancelled when the whole request is there.
    heard: CancellationToken,
    turn: Mutex<Option<Turn>>,
}

/// One request was answered: there is no other.
#[derive(Debug, thiserror::Error)]
enum NoAnswer {
    #[error("a connection has one request")]
    Answered,
    #[error("the body broke off")]
    Body(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl Asking {
    /// Hyper drops it when the client goes away first.
    async fn answer(&self, request: hyper::Request<Incoming>) -> Result<hyper::Response<Full<Bytes>>, NoAnswer> {
        let turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner).take();
        let mut turn = turn.ok_or(NoAnswer::Answered)?;
        let heard = self.hear(request).await?;
        self.heard.cancel();
        let mut asked = self.shared.requests.begin(Transport::Web, Some(self.visit.peer));
        asked.by(self.client.id());
        asked.verb(heard.as_ref().map_or("malformed", |request| &request.verb));
        let (mut handled, refused) = match heard {
            Ok(request) => (self.handle(&mut turn.sent, request).await, None),
            Err(refused) => {
                self.refuse(&refused).await;
                (Answer::from(refused.response()).into(), Some(refused))
            }
        };
        let response = written(&handled.answer.response, refused.as_ref());
        asked.answering();
        let settling = Settling { asked, undelivered: Undelivered(handled.answer.undelivered.take()), handled };
        // Who is not there any more drops it, and by that undoes it.
        turn.settling.send(settling).ok();
        Ok(response)
    }

    /// Reads the request to its end.
    async fn hear(&self, request: hyper::Request<Incoming>) -> Result<Result<Request, Refused>, NoAnswer> {
        let wire = &self.visit.wire;
        let (head, body) = request.into_parts();
        let limit = wire.limits.message;
        let body = match request::has_body(&head.method) {
            Err(refused) => return Ok(Err(refused)),
            Ok(false) => Bytes::new(),
            Ok(true) if body.size_hint().lower() > limit as u64 => return Ok(Err(Refused::TooLong { limit })),
            Ok(true) => match timeout_at(self.visit.deadline, Limited::new(body, limit).collect()).await {
                Ok(Ok(body)) => body.to_bytes(),
                Ok(Err(error)) if error.is::<LengthLimitError>() => return Ok(Err(Refused::TooLong { limit })),
                Ok(Err(error)) => return Err(NoAnswer::Body(error)),
                Err(_) => return Ok(Err(Refused::TooSlow { seconds: wire.client_timeout.as_secs() })),
            },
        };
        if let Err(refusal) = self.visit.pass.request() {
            self.shared.turned_away(self.visit.peer.ip(), refusal);
            return Ok(Err(Refused::TooOften));
        }
        Ok(request::read(&head.method, head.uri.path(), &body, wire.access_tokens))
    }

    async fn handle(&self, sent: &mut mpsc::Receiver<Sending>, request: Request) -> Handled {
        let shared = &self.shared;
        match handling::handle(&shared.verbs, &*shared.events, &self.client, sent, request).await {
            Ok(handled) => handled,
            Err(panicked) => {
                shared.tell(&self.client, &panicked.into()).await;
                Answer::from(Response::refused(Message::InternalError, None)).into()
            }
        }
    }

    /// Tells of what the rules refuse.
    async fn refuse(&self, refused: &Refused) {
        let Refused::Malformed(malformed) = refused else {
            return tracing::debug!(peer = %self.client.ip(), reason = %refused, "web: refused");
        };
        let event = telling::about(EventKind::MalformedRequest, self.client.client(), self.shared.events.now())
            .message(malformed.to_string())
            .detail("errors", Value::Object(malformed.dictionary()));
        self.shared.events.at(telling::moment(event, &self.client)).await;
    }
}

fn written(response: &Response, refused: Option<&Refused>) -> hyper::Response<Full<Bytes>> {
    let mut written = hyper::Response::new(Full::from(response.to_text().to_string()));
    let headers = written.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    // Passwords are for nobody's cache.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    match refused {
        Some(Refused::NeedsPost) => drop(headers.insert(ALLOW, HeaderValue::from_static("POST"))),
        Some(Refused::Method) => drop(headers.insert(ALLOW, HeaderValue::from_static("GET, HEAD, POST"))),
        Some(_) | None => {}
    }
    if let Some(refused) = refused {
        *written.status_mut() = refused.status();
    }
    written
}
