//! One connection, from its first byte to its end.

use std::io;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinError, spawn_blocking};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use super::{Shared, WireConfig, telling};
use crate::link::{Link, random};
use crate::metrics::calls::SPANS;
use crate::metrics::{Stage, Transport};
use crate::model::{Client, EventKind};
use crate::server::instance::Sending;
use crate::server::{Answer, ClientInstance, Moment, Party, RawSocket, panic_text};
use crate::wire::exchange::{Answering, Incoming, ServerExchange, ServerStep, Unwrap, Unwrapped, acknowledged};
use crate::wire::{Element, Message, Request, Response, Session, WireError};

/// Why a connection ended before its answer was delivered.
#[derive(Debug, thiserror::Error)]
enum ConnectionError {
    #[error("the client does not keep to the protocol")]
    Protocol(#[source] WireError),
    #[error("the connection to the client broke")]
    Broken(#[source] io::Error),
    #[error("the client went away without a word")]
    NothingSaid,
    #[error("the client took longer than {} s to send its request", .0.as_secs_f32())]
    TooSlow(Duration),
    #[error("the client took longer than {} s to accept its answer", .0.as_secs_f32())]
    NotAccepted(Duration),
    #[error("the client went away before its answer was ready")]
    Gone,
    #[error("a handler closed the client")]
    Closed,
    #[error("the server stops")]
    Stopping,
    #[error("the server has no random numbers")]
    Random(#[source] io::Error),
    #[error("the session key could not be worked on")]
    Worker(#[source] JoinError),
    #[error("the handler of {verb} panicked: {panic}")]
    Handler { verb: String, panic: String },
}

impl ConnectionError {
    fn name(&self) -> &'static str {
        match self {
            ConnectionError::Protocol(_) => "Protocol",
            ConnectionError::Broken(_) => "Broken",
            ConnectionError::NothingSaid => "NothingSaid",
            ConnectionError::TooSlow(_) => "TooSlow",
            ConnectionError::NotAccepted(_) => "NotAccepted",
            ConnectionError::Gone => "Gone",
            ConnectionError::Closed => "Closed",
            ConnectionError::Stopping => "Stopping",
            ConnectionError::Random(_) => "Random",
            ConnectionError::Worker(_) => "Worker",
            ConnectionError::Handler { .. } => "Handler",
        }
    }
}

/// Serves one connection. Its failures are told as events and concern nobody else.
pub(super) async fn serve(stream: TcpStream, peer: SocketAddr, shared: Arc<Shared>) {
    let client = telling::client(peer.ip());
    let closed = CancellationToken::new();
    let event = telling::about(EventKind::Connection, &client, shared.events.now());
    let party = Party::Socket(RawSocket::new(peer, closed.clone()));
    let mut link = match Link::new(stream) {
        Ok(link) => link,
        Err(error) => return shared.tell(&client, None, ConnectionError::Broken(error)).await,
    };
    let config = shared.settings.borrow().clone();
    let mut connection =
        Connection { link: &mut link, peer, client: &client, shared: &shared, config: &config, connected: None };
    // Whoever closes it has it end here, wherever it is: what was being done is dropped, and by that undone.
    let ended = tokio::select! {
        biased;
        () = closed.cancelled() => Err(ConnectionError::Closed),
        () = shared.abandon.cancelled() => Err(ConnectionError::Stopping),
        ended = async {
            shared.events.at(Moment { event, party }).await;
            connection.converse(&closed).await
        } => ended,
    };
    let connected = connection.connected.take();
    closed.cancel();
    let confirm = match ended {
        Ok(confirm) => confirm,
        Err(error) => {
            shared.failed(&config, &client, connected.as_ref(), &mut link, error).await;
            None
        }
    };
    if let Some(confirm) = confirm {
        tokio::select! {
            arrived = link.arrived() => if arrived { confirm() },
            () = shared.abandon.cancelled() => {}
        }
    }
    tokio::select! {
        () = link.close() => {}
        () = shared.abandon.cancelled() => {}
    }
    if let Some(connected) = connected {
        tokio::select! {
            // Told in any case; only its handlers are not waited for.
            biased;
            () = connected.end(&shared) => {}
            () = shared.abandon.cancelled() => {}
        }
    }
}

impl Shared {
    /// Tells why a connection ended, the client first.
    async fn failed(
        &self,
        config: &WireConfig,
        client: &Client,
        connected: Option<&Connected>,
        link: &mut Link,
        error: ConnectionError,
    ) {
        if let ConnectionError::Protocol(error) = &error {
            // It may be gone, or listen to nothing: then it need not know.
            let _ = timeout(config.answer_timeout, link.send(error.reply())).await;
        }
        self.tell(client, connected.map(|connected| &connected.0), error).await;
    }

    async fn tell(&self, client: &Client, instance: Option<&Arc<ClientInstance>>, error: ConnectionError) {
        match error {
            // No failures: we ended it ourselves, or somebody only looked whether the port is open.
            ConnectionError::Closed | ConnectionError::Stopping | ConnectionError::NothingSaid => {}
            ConnectionError::Protocol(_)
            | ConnectionError::Broken(_)
            | ConnectionError::TooSlow(_)
            | ConnectionError::NotAccepted(_)
            | ConnectionError::Gone
            | ConnectionError::Random(_)
            | ConnectionError::Worker(_)
            | ConnectionError::Handler { .. } => {
                let event = telling::runtime_error("connection", error.name(), &error, Some(client), self.events.now());
                let party = instance.map_or(Party::Nobody, |instance| Party::Client(Arc::clone(instance)));
                self.events.at(Moment { event, party }).await;
            }
        }
    }
}

struct Connection<'a> {
    link: &'a mut Link,
    peer: SocketAddr,
    client: &'a Client,
    shared: &'a Arc<Shared>,
    /// As it was when the connection was accepted.
    config: &'a WireConfig,
    connected: Option<Connected>,
}

/// A client whose keys were exchanged.
struct Connected(Arc<ClientInstance>);

impl Connected {
    /// Its end, which is told once, whatever ended it, after the socket was closed.
    async fn end(self, shared: &Shared) {
        let event = telling::about(EventKind::ClientClosed, self.0.client(), shared.events.now());
        shared.events.at(telling::moment(event, &self.0)).await;
    }
}

/// Undoes the work of an answer unless it was delivered: also if its task is dropped.
struct Undelivered(Option<Box<dyn FnOnce() + Send>>);

impl Drop for Undelivered {
    fn drop(&mut self) {
        if let Some(undo) = self.0.take() {
            // A panic in here could be one within another, which aborts the process.
            let _ = std::panic::catch_unwind(AssertUnwindSafe(undo));
        }
    }
}

/// To be run once the client has its answer.
type Confirm = Box<dyn FnOnce() + Send>;

/// What is sent, and what is left to be done then.
struct Handled<'a> {
    answer: Answer,
    delivered: Option<oneshot::Sender<()>>,
    rest: Option<BoxFuture<'a, ()>>,
}

impl From<Answer> for Handled<'_> {
    fn from(answer: Answer) -> Self {
        Handled { answer, delivered: None, rest: None }
    }
}

impl Connection<'_> {
    async fn converse(&mut self, closed: &CancellationToken) -> Result<Option<Confirm>, ConnectionError> {
        let shared = self.shared;
        let limit = self.config.client_timeout;
        let late = |_| ConnectionError::TooSlow(limit);
        let exchanging = Instant::now();
        let deadline = exchanging + limit;
        let mut exchange = ServerExchange::new(shared.key.clone(), self.config.limits, self.config.access_tokens);
        tokio::select! {
            biased;
            () = shared.stop.cancelled() => return Err(ConnectionError::Stopping),
            done = timeout_at(deadline, self.keys(&mut exchange)) => done.map_err(late)??,
        }
        shared.requests.metrics().stage(Stage::Exchange, exchanging.elapsed());
        let now = shared.events.now();
        let (client, mut sent) = ClientInstance::connected(self.client.clone(), now, closed.clone());
        let began = Instant::now();
        self.connected = Some(Connected(client.clone()));
        shared.events.at(telling::moment(telling::about(EventKind::Client, self.client, now), &client)).await;
        // A handler's time is not the client's.
        let deadline = deadline + began.elapsed();
        let incoming = tokio::select! {
            biased;
            () = shared.stop.cancelled() => return Err(ConnectionError::Stopping),
            incoming = timeout_at(deadline, self.request(&mut exchange)) => incoming.map_err(late)??,
        };
        let mut asked = shared.requests.begin(Transport::Wire, Some(self.peer));
        asked.by(client.id());
        let handled = match incoming.request {
            Ok(request) => {
                asked.verb(&request.verb);
                let span = tracing::debug_span!(target: SPANS, "request", id = asked.id(), client = client.id());
                self.handle(&client, &mut sent, request).instrument(span).await?
            }
            Err(malformed) => {
                asked.verb("malformed");
                let event = telling::about(EventKind::MalformedRequest, self.client, shared.events.now())
                    .message(malformed.to_string())
                    .detail("errors", Value::Object(malformed.dictionary()));
                shared.events.at(telling::moment(event, &client)).await;
                Answer::from(Response::refused(Message::BadRequest, None)).into()
            }
        };
        asked.answering();
        let limit = self.config.answer_timeout;
        let mut undelivered = Undelivered(handled.answer.undelivered);
        let delivered = timeout(limit, self.deliver(&handled.answer.response, incoming.answering)).await;
        delivered.map_err(|_| ConnectionError::NotAccepted(limit))??;
        asked.told(&handled.answer.response);
        drop(asked);
        // From here on it may arrive, whatever becomes of this connection.
        undelivered.0 = None;
        let confirm = handled.answer.delivered;
        if let Some(delivered) = handled.delivered {
            // It need not wait for it.
            delivered.send(()).ok();
        }
        if let Some(rest) = handled.rest {
            rest.await;
        }
        Ok(confirm)
    }

    /// Exchanges keys.
    async fn keys(&mut self, exchange: &mut ServerExchange) -> Result<(), ConnectionError> {
        let mut said = false;
        loop {
            let bytes = self.link.read(exchange.want()).await.map_err(|error| match error.kind() {
                io::ErrorKind::UnexpectedEof if !said => ConnectionError::NothingSaid,
                _ => ConnectionError::Broken(error),
            })?;
            said = true;
            match exchange.receive(&mut &bytes[..]).map_err(ConnectionError::Protocol)? {
                ServerStep::More | ServerStep::Request(_) => {}
                ServerStep::Send(reply) => self.send(&reply).await?,
                ServerStep::Unwrap(work) => {
                    let reply = exchange.unwrapped(self.unwrap(*work).await?);
                    self.send(&reply).await?;
                }
                ServerStep::Connected => return Ok(()),
            }
        }
    }

    /// Reads the request.
    async fn request(&mut self, exchange: &mut ServerExchange) -> Result<Incoming, ConnectionError> {
        loop {
            let bytes = self.link.read(exchange.want()).await.map_err(ConnectionError::Broken)?;
            match exchange.receive(&mut &bytes[..]).map_err(ConnectionError::Protocol)? {
                // The keys are exchanged: their steps do not come again.
                ServerStep::More | ServerStep::Unwrap(_) | ServerStep::Connected => {}
                ServerStep::Send(reply) => self.send(&reply).await?,
                ServerStep::Request(incoming) => return Ok(*incoming),
            }
        }
    }

    /// RSA work, on the blocking pool and on no more cores than there are.
    async fn unwrap(&self, work: Unwrap) -> Result<Unwrapped, ConnectionError> {
        let fresh = Session::fresh(&*random().map_err(ConnectionError::Random)?);
        let key = self.shared.key.clone();
        let permit = self.shared.rsa.clone().acquire_owned().await;
        let outcome = spawn_blocking(move || {
            // Held until the work is done, even if nobody waits for it any more.
            let _permit = permit;
            work.perform(&key, fresh)
        });
        outcome.await.map_err(ConnectionError::Worker)?.map_err(ConnectionError::Protocol)
    }

    /// Has the request told and handled, for as long as the client is there; until its first answer, whoever gives it.
    async fn handle(
        &mut self,
        client: &Arc<ClientInstance>,
        sent: &mut mpsc::Receiver<Sending>,
        request: Request,
    ) -> Result<Handled<'static>, ConnectionError> {
        let (shared, verb) = (self.shared.clone(), request.verb.clone());
        let event = telling::about(EventKind::Request, self.client, shared.events.now());
        let event = event.detail("verb", request.verb.as_str());
        client.asked(request.clone());
        let told = shared.events.at(telling::moment(event, client));
        let (verbs, instance) = (shared.verbs.clone(), client.clone());
        // Within the future, so that a panic before the handler's own future exists is caught too.
        let work = AssertUnwindSafe(async move {
            told.await;
            // Answered by who was told: there is nothing left to do.
            if instance.is_answered() { None } else { Some(verbs.handle(instance, request).await) }
        });
        let mut work = Box::pin(work.catch_unwind());
        let handled = tokio::select! {
            biased;
            Some(sending) = sent.recv() => {
                let answer = Answer::from(sending.response);
                let rest = work.map(|ended| {
                    if let Ok(Some(Answer { undelivered: Some(undo), .. })) = ended {
                        undo();
                    }
                });
                return Ok(Handled { answer, delivered: Some(sending.delivered), rest: Some(rest.boxed()) });
            }
            handled = &mut work => handled,
            () = self.link.gone(self.config.limits.message) => return Err(ConnectionError::Gone),
        };
        let answer = match handled {
            Ok(Some(answer)) => answer,
            // It said that it would answer by itself, and was dropped before it did.
            Ok(None) => Response::refused(Message::InternalError, None).into(),
            Err(panic) => {
                let panic = panic_text(&*panic);
                self.shared.tell(self.client, Some(client), ConnectionError::Handler { verb, panic }).await;
                Response::refused(Message::InternalError, None).into()
            }
        };
        Ok(answer.into())
    }

    async fn deliver(&mut self, response: &Response, answering: Answering) -> Result<(), ConnectionError> {
        let next_iv = random().map_err(ConnectionError::Random)?;
        let sealed = answering.seal(response, *next_iv).map_err(ConnectionError::Protocol)?;
        self.send(&sealed.header).await?;
        if !sealed.packet.is_empty() {
            let byte = self.link.read_byte().await.map_err(ConnectionError::Broken)?;
            acknowledged(Element::MessageSize, byte).map_err(ConnectionError::Protocol)?;
            self.send(&sealed.packet).await?;
        }
        Ok(())
    }

    async fn send(&mut self, bytes: &[u8]) -> Result<(), ConnectionError> {
        self.link.send(bytes).await.map_err(ConnectionError::Broken)
    }
}
