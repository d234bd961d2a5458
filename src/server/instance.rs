//! A client in the hands of handlers: who it is, what it asked, and the ways to answer and to end it.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::model::Client;
use crate::wire::{Request, Response};

/// Why a response is not sent through the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// It asked nothing yet, or nothing well-formed.
    #[error("the client has not sent a well-formed request: there is nothing to answer")]
    NoRequest,
    /// A request has one answer.
    #[error("the client's request is answered already")]
    Answered,
    /// The connection ended first.
    #[error("the client's connection ended before the response was delivered")]
    Closed,
}

/// A response on its way, and whom to tell of its delivery.
pub(crate) struct Sending {
    pub(crate) response: Response,
    pub(crate) delivered: oneshot::Sender<()>,
}

/// A client that may ask, on the wire once the keys are exchanged: what the original calls `ClientInstance`.
///
/// When it is closed, its connection ends at once: whatever is still done for it is dropped and undone.
#[derive(Debug)]
pub struct ClientInstance {
    client: Client,
    created_at: Timestamp,
    request: OnceLock<Request>,
    access_token: OnceLock<String>,
    closed: CancellationToken,
    answered: AtomicBool,
    sending: mpsc::Sender<Sending>,
}

impl ClientInstance {
    /// One with a connection, which takes what is sent from the receiver.
    pub(crate) fn connected(
        client: Client,
        created_at: Timestamp,
        closed: CancellationToken,
    ) -> (Arc<Self>, mpsc::Receiver<Sending>) {
        let (sending, sent) = mpsc::channel(1);
        let (request, access_token) = (OnceLock::new(), OnceLock::new());
        let answered = AtomicBool::new(false);
        (Arc::new(ClientInstance { client, created_at, request, access_token, closed, answered, sending }), sent)
    }

    /// One whose connection is over, as far as it is still known.
    pub fn gone(client: Client, created_at: Timestamp) -> Arc<Self> {
        let closed = CancellationToken::new();
        closed.cancel();
        ClientInstance::connected(client, created_at, closed).0
    }

    /// Who it is.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Where it connects from.
    pub fn ip(&self) -> IpAddr {
        self.client.ip
    }

    /// The first seven hex digits of the SHA-256 of its address.
    pub fn id(&self) -> &str {
        &self.client.id
    }

    /// When it connected.
    pub fn created_at(&self) -> Timestamp {
        self.created_at
    }

    /// What it asked, from the `REQUEST` event on.
    pub fn request(&self) -> Option<&Request> {
        self.request.get()
    }

    /// The name of the access token that its request bears, once that was found good.
    pub fn access_token(&self) -> Option<&str> {
        self.access_token.get().map(String::as_str)
    }

    /// Answers its request, and returns when the answer was delivered. What the request's handler returns afterwards is
    /// ignored.
    pub async fn send_response(&self, response: Response) -> Result<(), SendError> {
        self.request().ok_or(SendError::NoRequest)?;
        if self.closed.is_cancelled() {
            return Err(SendError::Closed);
        }
        if self.answered.swap(true, Ordering::SeqCst) {
            return Err(SendError::Answered);
        }
        let (delivered, arrived) = oneshot::channel();
        self.sending.send(Sending { response, delivered }).await.map_err(|_| SendError::Closed)?;
        arrived.await.map_err(|_| SendError::Closed)
    }

    /// Whether somebody answered it by [`ClientInstance::send_response`].
    pub fn is_answered(&self) -> bool {
        self.answered.load(Ordering::SeqCst)
    }

    /// Ends its connection, at once.
    pub fn close(&self) {
        self.closed.cancel();
    }

    /// Whether its connection is over.
    pub fn is_closed(&self) -> bool {
        self.closed.is_cancelled()
    }

    /// Keeps which token it was admitted with.
    pub(crate) fn admitted(&self, access_token: String) {
        self.access_token.set(access_token).ok();
    }

    /// Keeps what it asked.
    pub(crate) fn asked(&self, request: Request) {
        // There is one request a connection.
        self.request.set(request).ok();
    }
}

/// A connection before the keys are exchanged: who is there is known, and nothing else.
#[derive(Clone, Debug)]
pub struct RawSocket {
    peer: SocketAddr,
    closed: CancellationToken,
}

impl RawSocket {
    pub(crate) fn new(peer: SocketAddr, closed: CancellationToken) -> Self {
        RawSocket { peer, closed }
    }

    /// The other end.
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// The other end's address, the same for IPv4 clients whatever the socket.
    pub fn ip(&self) -> IpAddr {
        self.peer.ip().to_canonical()
    }

    /// Ends it, at once.
    pub fn close(&self) {
        self.closed.cancel();
    }

    /// Whether it is over.
    pub fn is_closed(&self) -> bool {
        self.closed.is_cancelled()
    }
}
