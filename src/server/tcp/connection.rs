//! One connection, from its first byte to its end.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::{JoinError, spawn_blocking};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;
use zeroize::Zeroizing;

use super::{Shared, Visit, WireConfig};

use crate::link::{Link, random};
use crate::metrics::calls::SPANS;
use crate::metrics::{Stage, Transport};
use crate::model::{Client, EventKind};
use crate::server::handling::{self, Confirm, Handled, Panicked, Undelivered};
use crate::server::instance::Sending;
use crate::server::{Answer, ClientInstance, Moment, Party, RawSocket, telling};
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
    #[error("another client needed its place, and it had not exchanged keys")]
    Displaced,
    #[error("the server stops")]
    Stopping,
    #[error("the server has no random numbers")]
    Random(#[source] io::Error),
    #[error("the session key could not be worked on")]
    Worker(#[source] JoinError),
    #[error(transparent)]
    Handler(#[from] Panicked),
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
            ConnectionError::Displaced => "Displaced",
            ConnectionError::Stopping => "Stopping",
            ConnectionError::Random(_) => "Random",
            ConnectionError::Worker(_) => "Worker",
            ConnectionError::Handler(_) => "Handler",
        }
    }
}

/// Serves one connection. Its failures are told as events and concern nobody else.
pub(super) async fn serve(stream: TcpStream, visit: Visit, shared: Arc<Shared>) {
    let client = telling::client(visit.peer.ip());
    let closed = CancellationToken::new();
    let event = telling::about(EventKind::Connection, &client, shared.events.now());
    let party = Party::Socket(RawSocket::new(visit.peer, closed.clone()));
    let mut link = match Link::new(stream) {
        Ok(link) => link,
        Err(error) => return shared.tell(&client, None, ConnectionError::Broken(error)).await,
    };
    let config = shared.settings.borrow().clone();
    let mut connection = Connection {
        link: &mut link,
        client: &client,
        visit: &visit,
        shared: &shared,
        config: &config,
        connected: None,
    };
    let displaced = visit.place.lost();
    // Whoever closes it has it end here, wherever it is: what was being done is dropped, and by that undone.
    let ended = tokio::select! {
        biased;
        () = closed.cancelled() => Err(ConnectionError::Closed),
        () = shared.abandon.cancelled() => Err(ConnectionError::Stopping),
        () = displaced.cancelled() => Err(ConnectionError::Displaced),
        ended = async {
            shared.events.at(Moment { event, party }).await;
            connection.converse(&closed).await
        } => ended,
    };
    let connected = connection.connected.take();
    closed.cancel();
    let confirm = match ended {
        Ok(confirm) => confirm,
        // Its place is another's: nothing is waited for.
        Err(error @ ConnectionError::Displaced) => {
            return shared.turned_away(visit.peer, error.name(), &error);
        }
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
            link.say(error.reply());
            tokio::select! {
                _ = timeout(config.answer_timeout, link.flush()) => {}
                () = self.abandon.cancelled() => {}
            }
        }
        self.tell(client, connected.map(|connected| &connected.0), error).await;
    }

    async fn tell(&self, client: &Client, instance: Option<&Arc<ClientInstance>>, error: ConnectionError) {
        match error {
            // No failures: we ended it ourselves, or somebody only looked whether the port is open.
            ConnectionError::Closed
            | ConnectionError::Stopping
            | ConnectionError::Displaced
            | ConnectionError::NothingSaid => {}
            ConnectionError::Protocol(_)
            | ConnectionError::Broken(_)
            | ConnectionError::TooSlow(_)
            | ConnectionError::NotAccepted(_)
            | ConnectionError::Gone
            | ConnectionError::Random(_)
            | ConnectionError::Worker(_)
            | ConnectionError::Handler(_) => {
                let event = telling::runtime_error("connection", error.name(), &error, Some(client), self.events.now());
                let party = instance.map_or(Party::Nobody, |instance| Party::Client(Arc::clone(instance)));
                tokio::select! {
                    // Told in any case; only its handlers are not waited for.
                    () = self.events.at(Moment { event, party }) => {}
                    () = self.abandon.cancelled() => {}
                }
            }
        }
    }
}

struct Connection<'a> {
    link: &'a mut Link,
    client: &'a Client,
    visit: &'a Visit,
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
        if !self.visit.place.known() {
            return Err(ConnectionError::Displaced);
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
        let mut asked = shared.requests.begin(Transport::Wire, Some(self.visit.peer));
        asked.by(client.id());
        let handled = match self.visit.pass.request().map(|()| incoming.request) {
            Err(refusal) => {
                shared.turned_away(self.visit.peer, refusal.name(), &refusal);
                Answer::from(Response::refused(Message::RefusedRequest, Some("Too many requests"))).into()
            }
            Ok(Ok(request)) => {
                asked.verb(&request.verb);
                let span = tracing::debug_span!(target: SPANS, "request", id = asked.id(), client = client.id());
                self.handle(&client, &mut sent, request).instrument(span).await?
            }
            Ok(Err(malformed)) => {
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
        let response = Zeroizing::new(handled.answer.response);
        let mut undelivered = Undelivered(handled.answer.undelivered);
        let delivered = timeout(limit, self.deliver(&response, incoming.answering)).await;
        delivered.map_err(|_| ConnectionError::NotAccepted(limit))??;
        asked.told(&response);
        drop(asked);
        // From here on it may arrive, whatever becomes of this connection.
        undelivered.0 = None;
        let confirm = handled.answer.delivered;
        if let Some(delivered) = handled.delivered {
            // It need not wait for it.
            delivered.send(()).ok();
        }
        if let Some(rest) = handled.rest
            && let Err(panicked) = rest.await
        {
            shared.tell(self.client, Some(&client), panicked.into()).await;
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
                ServerStep::Send(reply) => self.link.say(&reply),
                ServerStep::Unwrap(work) => {
                    // That takes its time.
                    self.link.flush().await.map_err(ConnectionError::Broken)?;
                    self.link.say(&exchange.unwrapped(self.unwrap(*work).await?));
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
                ServerStep::Send(reply) => self.link.say(&reply),
                ServerStep::Request(incoming) => return Ok(*incoming),
            }
        }
    }

    /// RSA work, on the blocking pool, when it is this client's turn and as long as it is there.
    async fn unwrap(&self, work: Unwrap) -> Result<Unwrapped, ConnectionError> {
        let fresh = Session::fresh(&*random().map_err(ConnectionError::Random)?);
        let key = self.shared.key.clone();
        let permit = self.shared.key_exchanges.clone().acquire_owned().await;
        if self.link.left() {
            return Err(ConnectionError::Gone);
        }
        let outcome = spawn_blocking(move || {
            // Held until the work is done, even if nobody waits for it any more.
            let _permit = permit;
            work.perform(&key, fresh)
        });
        outcome.await.map_err(ConnectionError::Worker)?.map_err(ConnectionError::Protocol)
    }

    /// Has the request told and handled, for as long as the client is there.
    async fn handle(
        &mut self,
        client: &Arc<ClientInstance>,
        sent: &mut mpsc::Receiver<Sending>,
        request: Request,
    ) -> Result<Handled, ConnectionError> {
        let shared = self.shared;
        let handled = tokio::select! {
            biased;
            handled = handling::handle(&shared.verbs, &*shared.events, client, sent, request) => handled,
            () = self.link.gone(self.config.limits.message) => return Err(ConnectionError::Gone),
        };
        match handled {
            Ok(handled) => Ok(handled),
            Err(panicked) => {
                shared.tell(self.client, Some(client), panicked.into()).await;
                Ok(Answer::from(Response::refused(Message::InternalError, None)).into())
            }
        }
    }

    async fn deliver(&mut self, response: &Response, answering: Answering) -> Result<(), ConnectionError> {
        let next_iv = random().map_err(ConnectionError::Random)?;
        let sealed = answering.seal(response, *next_iv).map_err(ConnectionError::Protocol)?;
        self.link.say(&sealed.header);
        if !sealed.packet.is_empty() {
            let byte = self.link.read_byte().await.map_err(ConnectionError::Broken)?;
            acknowledged(Element::MessageSize, byte).map_err(ConnectionError::Protocol)?;
            self.link.say(&sealed.packet);
        }
        self.link.flush().await.map_err(ConnectionError::Broken)
    }
}
