//! The wire protocol's TCP server: many connections, each with its own deadline, none able to hold up another.
//!
//! ```text
//! accept ─► key exchange and request ─► handler ─► answer ─► close
//!           └─── client_timeout ────┘   no limit   └ answer_timeout ┘
//!           stop: at once               stop: within stop_grace
//! ```
//!
//! The accept loop waits for nobody. What a client can take from us is bounded: connections by `max_connections` (a
//! surplus is closed at once), RSA work by the number of cores, memory by [`Limits`], time by one deadline for all
//! that it sends up to its request, not one for each byte. A handler may take as long as it takes; it is dropped when
//! its client goes away, and its work undone when its answer cannot be delivered ([`Answer::undelivered`]). That it was
//! is known when the client's system has confirmed all of it ([`Answer::delivered`]). In between it may have been, and
//! nothing is done: `an_answer_that_nobody_confirmed_is_neither_undone_nor_counted_as_delivered` (tests/wire).
//!
//! [`Answer::undelivered`]: super::Answer
//! [`Answer::delivered`]: super::Answer

mod connection;
mod telling;

use std::io;
use std::net::SocketAddr;
use std::num::NonZero;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::asked::Requests;
use super::{EventSink, Verbs};
use crate::wire::{AccessTokens, Limits, PrivateKey};

/// How long to wait when no connection can be accepted, for one to end and free what is lacking.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How long a client may take for the key exchange and its request, where nobody says otherwise.
pub const DEFAULT_CLIENT_TIMEOUT: Duration = Duration::from_secs(10);

/// How the server serves.
#[derive(Clone, Debug)]
pub struct WireConfig {
    /// Where to listen.
    pub listen: SocketAddr,
    /// How long a client may take for the key exchange and its request together: 10 s.
    pub client_timeout: Duration,
    /// How long a client may take to accept its answer: 10 s.
    pub answer_timeout: Duration,
    /// How long handlers may go on when the server stops: 10 s.
    pub stop_grace: Duration,
    /// Connections at the same time: 1024.
    pub max_connections: usize,
    /// What a client may send.
    pub limits: Limits,
    /// Whether access tokens are known.
    pub access_tokens: AccessTokens,
}

impl WireConfig {
    /// The defaults, on an address.
    pub fn new(listen: SocketAddr) -> Self {
        WireConfig {
            listen,
            client_timeout: DEFAULT_CLIENT_TIMEOUT,
            answer_timeout: Duration::from_secs(10),
            stop_grace: Duration::from_secs(10),
            max_connections: 1024,
            limits: Limits::default(),
            access_tokens: AccessTokens::default(),
        }
    }
}

/// Why the server cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Somebody else does.
    #[error("cannot listen on {address}: another program does already. Stop it, or choose another address or port")]
    InUse {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The address is not one of this host.
    #[error(
        "cannot listen on {address}: no interface of this host has this address. Use one that `ip address` shows, or 0.0.0.0 for all"
    )]
    NotHere {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The port is not for everybody.
    #[error(
        "cannot listen on {address}: not permitted. Ports below 1024 need CAP_NET_BIND_SERVICE; choose a higher one"
    )]
    NotPermitted {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// Something else.
    #[error("cannot listen on {address}")]
    Other {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
}

impl BindError {
    fn new(address: SocketAddr, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::AddrInUse => BindError::InUse { address, source },
            io::ErrorKind::AddrNotAvailable => BindError::NotHere { address, source },
            io::ErrorKind::PermissionDenied => BindError::NotPermitted { address, source },
            _ => BindError::Other { address, source },
        }
    }
}

/// What all connections share.
struct Shared {
    settings: watch::Receiver<WireConfig>,
    key: Arc<PrivateKey>,
    verbs: Arc<dyn Verbs>,
    events: Arc<dyn EventSink>,
    requests: Arc<Requests>,
    /// One permit for each core: RSA work beyond that would only queue in the kernel, and starve the rest.
    rsa: Arc<Semaphore>,
    /// No new work.
    stop: CancellationToken,
    /// No work at all.
    abandon: CancellationToken,
}

/// A server that listens already.
pub struct WireServer {
    listener: TcpListener,
    address: SocketAddr,
    settings: watch::Sender<WireConfig>,
    key: Arc<PrivateKey>,
    verbs: Arc<dyn Verbs>,
    events: Arc<dyn EventSink>,
    requests: Arc<Requests>,
}

impl WireServer {
    /// Listens. Clients can connect from here on, and are served once it runs.
    pub async fn bind(
        config: WireConfig,
        key: Arc<PrivateKey>,
        verbs: Arc<dyn Verbs>,
        events: Arc<dyn EventSink>,
    ) -> Result<Self, BindError> {
        let failed = |source| BindError::new(config.listen, source);
        let listener = TcpListener::bind(config.listen).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let (settings, requests) = (watch::Sender::new(config), Arc::default());
        Ok(WireServer { listener, address, settings, key, verbs, events, requests })
    }

    /// The same, with its requests told here.
    pub fn telling(self, requests: Arc<Requests>) -> Self {
        WireServer { requests, ..self }
    }

    /// Where it listens; tells the port if the system chose it.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// How it serves, to be changed while it does: connections that are accepted from then on are served so. Where it
    /// listens does not change.
    pub fn settings(&self) -> watch::Sender<WireConfig> {
        self.settings.clone()
    }

    /// Serves until `stop` is cancelled, then until its connections have ended or `stop_grace` is over.
    pub async fn run(self, stop: CancellationToken) {
        let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
        let tasks = TaskTracker::new();
        let shared = Arc::new(Shared {
            settings: self.settings.subscribe(),
            key: self.key,
            verbs: self.verbs,
            events: self.events,
            requests: self.requests,
            rsa: Arc::new(Semaphore::new(cores)),
            stop: stop.clone(),
            abandon: CancellationToken::new(),
        });
        loop {
            let accepted = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                accepted = self.listener.accept() => accepted,
            };
            let limit = shared.settings.borrow().max_connections;
            match accepted {
                Ok((stream, peer)) if tasks.len() < limit => {
                    tasks.spawn(connection::serve(stream, peer, shared.clone()));
                }
                Ok((stream, peer)) => {
                    tracing::warn!(%peer, limit, "too many connections: closed at once");
                    drop(stream);
                }
                // It was gone before it was accepted: its own affair.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    let now = shared.events.now();
                    shared.events.emit(telling::runtime_error("accept", "io::Error", &error, None, now));
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        drop(self.listener);
        tasks.close();
        let grace = shared.settings.borrow().stop_grace;
        if timeout(grace, tasks.wait()).await.is_err() {
            tracing::warn!(connections = tasks.len(), "handlers still run after the grace period: dropped");
            shared.abandon.cancel();
            tasks.wait().await;
        }
    }
}
