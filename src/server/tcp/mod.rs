//! The wire protocol's TCP server: many connections, each with its own deadline, none able to hold up another.
//!
//! ```text
//! accept ─► key exchange and request ─► handler ─► answer ─► close
//!           └─── client_timeout ────┘   no limit   └ answer_timeout ┘
//!           stop: at once               stop: within stop_grace
//! ```
//!
//! The accept loop waits for nobody. What a client can take from us is bounded: connections by its address
//! ([`Gate`]) and by `max_connections` (`places`: who has not exchanged keys makes room for a newcomer), RSA work by
//! `key_exchanges`, memory by [`Limits`], time by one deadline for all that it sends up to its request, not one for each
//! byte; waiting for its turn at the RSA work counts, and who left meanwhile has none done.
//!
//! | a connection that stops | costs the process, in bytes |
//! | --- | --- |
//! | before its first byte, within its key, before the session key | 7,700 to 9,600 |
//! | a byte before the end of the largest public key (16 KiB) | 24,100 |
//! | with keys exchanged, before its request | 12,300 |
//! | a byte before the end of the largest request (64 KiB) | 78,000 |
//!
//! Resident memory of a debug build with 10,000 of them on loopback, less what it has with none, by 10,000: 73 MiB to
//! 743 MiB; with the default of 1,024 places at most 77 MiB. `ten_thousand_connections_cost_no_more_than_is_stated`
//! (tests/hostile) measures it. Of what is not asked for yet 4 KiB at most are kept here, and 32 KiB by the system.
//!
//! A handler may take as long as it takes; it is dropped when its client goes away, and its work undone when its answer
//! cannot be delivered ([`Answer::undelivered`]). That it was is known when the client's system has confirmed all of it
//! ([`Answer::delivered`]). In between it may have been, and nothing is done:
//! `an_answer_that_nobody_confirmed_is_neither_undone_nor_counted_as_delivered` (tests/wire).
//!
//! [`Answer::undelivered`]: super::Answer
//! [`Answer::delivered`]: super::Answer

mod connection;
mod places;

use std::fmt::Display;
use std::io;
use std::net::SocketAddr;
use std::num::NonZero;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::{Semaphore, watch};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::asked::Requests;
use super::gate::{Gate, Pass};
use super::lines::Lines;
use super::{EventSink, Verbs, descriptors, telling};
use crate::wire::{AccessTokens, Limits, PrivateKey};
use places::{Place, Places};

/// How long to wait when no connection can be accepted, for one to end and free what is lacking.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Bytes that the system keeps of a client before they are read; Linux takes twice as much for them. What is not asked
/// for yet stays with the client.
const RECEIVED: u32 = 16 << 10;
/// Connections that wait to be accepted.
const BACKLOG: u32 = 1024;

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

/// Listens, with buffers that are no larger than what a client has to say.
fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    // Connections have the listener's.
    socket.set_recv_buffer_size(RECEIVED)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Processors of this host.
pub fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, NonZero::get)
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
    gate: Arc<Gate>,
    places: Arc<Places>,
    /// A permit for each exchange at the same time: more would only queue in the kernel, and starve the rest.
    key_exchanges: Arc<Semaphore>,
    /// What is written about those who are turned away.
    lines: Lines,
    /// No new work.
    stop: CancellationToken,
    /// No work at all.
    abandon: CancellationToken,
}

/// Somebody who was let in, until this is dropped.
struct Visit {
    peer: SocketAddr,
    pass: Pass,
    place: Place,
}

impl Shared {
    /// Lets in who may, if there is a place. The others are closed at once, unread.
    fn let_in(&self, most: usize, peer: SocketAddr) -> Option<Visit> {
        match self.gate.admit(peer.ip()) {
            Ok(pass) => match self.places.take(most) {
                Some(place) => return Some(Visit { peer, pass, place }),
                None => {
                    self.turned_away(peer, "NoPlace", &"everybody who has a place is known (server.max_connections)")
                }
            },
            Err(refusal) => self.turned_away(peer, refusal.name(), &refusal),
        }
        None
    }

    fn turned_away(&self, peer: SocketAddr, name: &'static str, reason: &dyn Display) {
        self.lines.say(name, || tracing::warn!(client = %peer.ip(), %reason, "turned away"));
    }
}

/// A server that listens already.
pub struct WireServer {
    listener: TcpListener,
    address: SocketAddr,
    settings: watch::Sender<WireConfig>,
    gate: Arc<Gate>,
    key_exchanges: Arc<Semaphore>,
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
        let listener = listen(config.listen).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let (gate, key_exchanges) = (Arc::default(), Arc::new(Semaphore::new(processors())));
        Ok(WireServer {
            listener,
            address,
            settings: watch::Sender::new(config),
            gate,
            key_exchanges,
            key,
            verbs,
            events,
            requests: Arc::default(),
        })
    }

    /// Who is let in, and a permit for each exchange of keys at the same time. Where nobody says so: everybody, at the
    /// rates of the default configuration, and one for each processor.
    pub fn limited(self, gate: Arc<Gate>, key_exchanges: Arc<Semaphore>) -> Self {
        WireServer { gate, key_exchanges, ..self }
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
        let room = descriptors::for_connections(self.settings.borrow().max_connections);
        let tasks = TaskTracker::new();
        let shared = Arc::new(Shared {
            settings: self.settings.subscribe(),
            key: self.key,
            verbs: self.verbs,
            events: self.events,
            requests: self.requests,
            gate: self.gate,
            places: Arc::default(),
            key_exchanges: self.key_exchanges,
            lines: Lines::default(),
            stop: stop.clone(),
            abandon: CancellationToken::new(),
        });
        loop {
            let accepted = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                accepted = self.listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, peer)) => {
                    let most = shared.settings.borrow().max_connections.min(room);
                    if let Some(visit) = shared.let_in(most, peer) {
                        tasks.spawn(connection::serve(stream, visit, Arc::clone(&shared)));
                    }
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
        shared.lines.close();
        tasks.close();
        let grace = shared.settings.borrow().stop_grace;
        if timeout(grace, tasks.wait()).await.is_err() {
            tracing::warn!(connections = tasks.len(), "handlers still run after the grace period: dropped");
            shared.abandon.cancel();
            tasks.wait().await;
        }
    }
}
