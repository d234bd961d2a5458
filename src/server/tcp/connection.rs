//! One connection, from its first byte to its end.

use std::any::Any;
use std::io;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::task::{JoinError, spawn_blocking};
use tokio::time::timeout;

use super::{Shared, telling};
use crate::link::{Link, random};
use crate::model::{Client, EventKind};
use crate::server::Answer;
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
    shared.events.emit(telling::about(EventKind::Connection, &client));
    let mut link = match Link::new(stream) {
        Ok(link) => link,
        Err(error) => return tell(&shared, &client, ConnectionError::Broken(error)),
    };
    let mut connection = Connection { link: &mut link, client: &client, shared: &shared, connected: None };
    let ended = connection.converse().await;
    // Told when this function is left, after the socket was closed.
    let _connected = connection.connected.take();
    if let Err(error) = ended {
        if let ConnectionError::Protocol(error) = &error {
            // It may be gone, or listen to nothing: then it need not know.
            let _ = timeout(shared.config.answer_timeout, link.send(error.reply())).await;
        }
        tell(&shared, &client, error);
    }
    tokio::select! {
        () = link.close() => {}
        () = shared.abandon.cancelled() => {}
    }
}

fn tell(shared: &Shared, client: &Client, error: ConnectionError) {
    match error {
        // No failures: we ended it ourselves, or somebody only looked whether the port is open.
        ConnectionError::Stopping | ConnectionError::NothingSaid => {}
        ConnectionError::Protocol(_)
        | ConnectionError::Broken(_)
        | ConnectionError::TooSlow(_)
        | ConnectionError::NotAccepted(_)
        | ConnectionError::Gone
        | ConnectionError::Random(_)
        | ConnectionError::Worker(_)
        | ConnectionError::Handler { .. } => {
            shared.events.emit(telling::runtime_error("connection", error.name(), &error, Some(client)));
        }
    }
}

struct Connection<'a> {
    link: &'a mut Link,
    client: &'a Client,
    shared: &'a Arc<Shared>,
    connected: Option<Connected>,
}

/// A client whose keys were exchanged. Its end is told once, whatever ends it.
struct Connected {
    client: Client,
    shared: Arc<Shared>,
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.shared.events.emit(telling::about(EventKind::ClientClosed, &self.client));
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

impl Connection<'_> {
    async fn converse(&mut self) -> Result<(), ConnectionError> {
        let shared = self.shared;
        let limit = shared.config.client_timeout;
        let incoming = tokio::select! {
            biased;
            () = shared.stop.cancelled() => return Err(ConnectionError::Stopping),
            incoming = timeout(limit, self.request()) => incoming.map_err(|_| ConnectionError::TooSlow(limit))??,
        };
        let answer = match incoming.request {
            Ok(request) => {
                let event = telling::about(EventKind::Request, self.client).detail("verb", request.verb.as_str());
                shared.events.emit(event);
                self.handle(request).await?
            }
            Err(malformed) => {
                let event = telling::about(EventKind::MalformedRequest, self.client)
                    .message(malformed.to_string())
                    .detail("errors", Value::Object(malformed.dictionary()));
                shared.events.emit(event);
                Response::refused(Message::BadRequest, None).into()
            }
        };
        let limit = shared.config.answer_timeout;
        let mut undelivered = Undelivered(answer.undelivered);
        tokio::select! {
            biased;
            delivered = timeout(limit, self.deliver(&answer.response, incoming.answering)) => {
                delivered.map_err(|_| ConnectionError::NotAccepted(limit))??;
            }
            () = shared.abandon.cancelled() => return Err(ConnectionError::Stopping),
        }
        undelivered.0 = None;
        Ok(())
    }

    /// Exchanges keys and reads the request.
    async fn request(&mut self) -> Result<Incoming, ConnectionError> {
        let config = &self.shared.config;
        let mut exchange = ServerExchange::new(self.shared.key.clone(), config.limits, config.access_tokens);
        let mut said = false;
        loop {
            let bytes = self.link.read(exchange.want()).await.map_err(|error| match error.kind() {
                io::ErrorKind::UnexpectedEof if !said => ConnectionError::NothingSaid,
                _ => ConnectionError::Broken(error),
            })?;
            said = true;
            match exchange.receive(&mut &bytes[..]).map_err(ConnectionError::Protocol)? {
                ServerStep::More => {}
                ServerStep::Send(reply) => self.send(&reply).await?,
                ServerStep::Unwrap(work) => {
                    let reply = exchange.unwrapped(self.unwrap(*work).await?);
                    self.send(&reply).await?;
                }
                ServerStep::Connected => {
                    self.connected = Some(Connected { client: self.client.clone(), shared: self.shared.clone() });
                    self.shared.events.emit(telling::about(EventKind::Client, self.client));
                }
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

    /// Has the request handled, for as long as the client is there.
    async fn handle(&mut self, request: Request) -> Result<Answer, ConnectionError> {
        let verb = request.verb.clone();
        let verbs = self.shared.verbs.clone();
        let client = self.client.clone();
        // Within the future, so that a panic before the handler's own future exists is caught too.
        let work = AssertUnwindSafe(async move { verbs.handle(client, request).await }).catch_unwind();
        let handled = tokio::select! {
            biased;
            handled = work => handled,
            () = self.link.gone(self.shared.config.limits.message) => return Err(ConnectionError::Gone),
            () = self.shared.abandon.cancelled() => return Err(ConnectionError::Stopping),
        };
        Ok(handled.unwrap_or_else(|panic| {
            tell(self.shared, self.client, ConnectionError::Handler { verb, panic: told(&*panic) });
            Response::refused(Message::InternalError, None).into()
        }))
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

/// What a panic says.
fn told(panic: &(dyn Any + Send)) -> String {
    match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(text), _) => (*text).into(),
        (None, Some(text)) => text.clone(),
        (None, None) => "no text".into(),
    }
}
