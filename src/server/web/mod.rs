//! The original's plain web server: the verbs over HTTP, for the clients of its `anwdlclient.web`. Off by default.
//!
//! A path is a verb and a JSON object in the body its parameters; the answer is the response that the wire protocol would
//! give. Such a request goes the wire's way (`super::handling`): the same handlers, the same `REQUEST`, `MALFORMED_REQUEST` and
//! `UNKNOWN_VERB`, the same undoing of what its client never learned of. As with the original there is no `CONNECTION`,
//! `CLIENT` and `CLIENT_CLOSED`: there are no keys to exchange.
//!
//! | request | answer | as the original |
//! | --- | --- | --- |
//! | `GET`, `HEAD` or `POST /` | 200, a greeting with `links` | yes; but where tokens are required it wants one here too |
//! | `GET`, `HEAD` or `POST /stat` | 200, `OK`, `uptime` and `version` | yes; here with `available`, for clients of the first generation |
//! | `POST /create` | 200, `OK`, the six fields | yes |
//! | `POST /destroy` with the pair | 200, `OK` or `Bad authentication` | yes |
//! | `POST /destroy` without it | 200, `Bad request` | yes; here with the reason |
//! | `POST /VERB`, custom | 200, what its handler answers | yes |
//! | `POST /VERB`, unknown | 200, `Bad request` | yes; here with the reason |
//! | a path in letters of another case | the same | yes |
//! | a query | is not looked at | yes |
//! | `/stat/`, `/a/stat`, `//`, `/no1`: no verb | 200, `Bad request` | yes |
//! | `POST` whose body is no object, or breaks the rules | 200, `Bad request` | yes |
//! | `POST` whose body is no JSON | 200, `Bad request` | no: `Internal error`, and a `RUNTIME_ERROR` for each |
//! | `POST` without body | as with `{}` | no: the same |
//! | `/st%61t` | 200, `Bad request` | no: as `/stat`; no client writes it so |
//! | `GET` of anything else | 405, `Bad request` | no: **it makes a machine of `GET /create`**. Whoever only looks (a crawler, a preview of a link) makes none here |
//! | any other method | 501, `Bad request` | yes; there with a page of HTML |
//! | a body of more than 64 KiB | 413, `Bad request` | no: it reads on |
//! | a head or a body that comes too slowly | closed; 408, `Bad request` | no: it waits |
//! | an address that `ip_filter` denies, or that connects too often | closed | no: 200, `Refused request`, after all of it was read |
//! | one that asks too often | 200, `Refused request` | it has no such limit |
//! | a head of more than 64 KiB, or that is no HTTP | 431, 400, or closed | its own limits |
//!
//! Whatever is refused for what it says has the status 200, because the original's client takes any other for a broken
//! server. The content type is `application/json`, whatever a request says of its own. A connection has one request.
//!
//! Sources: each row was asked of the server of Anweddol-server 4.1.4 (`anwdlserver/web/server.py` on Twisted, its
//! machines replaced), the newest there is; from 2.1.2 on that file is the same. That of 2.1.1 read parameters from forms
//! and refused every `POST`, so no client can rely on it. What clients send is `anwdlclient/web/client.py` of
//! Anweddol-client 4.1.2. That `access_token` is a parameter like on the wire, and what is said without it, is
//! `anwdlserver/process.py`.
//!
//! Limits: those of the gate ([`super::gate`]), in one account with the wire; connections at once, who comes then waits;
//! the wire's `client_timeout` for TLS, head and body together, its
//! `answer_timeout` for taking the answer, its longest message for the body.
//!
//! No browser's page of another origin can read an answer: there is no CORS. Passwords cross this port: without TLS, on an
//! address that others reach, the daemon warns at its start.

mod exchange;
mod request;
mod tls;

#[cfg(test)]
mod tests;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use futures::FutureExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::asked::Requests;
use super::connections::{self, Conversation, Entrance};
use super::gate::Gate;
use super::https::HttpsError;
use super::tcp::WireConfig;
use super::{EventSink, Verbs};
use crate::private_file::PrivateFileError;
use exchange::{Shared, Visit};

pub use tls::Tls;

/// The port that clients expect.
pub const DEFAULT_PORT: u16 = 8080;
/// The one with TLS.
pub const DEFAULT_TLS_PORT: u16 = 4443;
/// Connections at once. Who comes then waits until one ends.
const MOST_CONNECTIONS: usize = 512;
/// Its name in the log.
const DOOR: &str = "web";

/// Why the verbs are not served over HTTP.
#[derive(Debug, thiserror::Error)]
pub enum WebError {
    /// The port cannot be had.
    #[error("web.listen: cannot listen on {address}: choose another in 'web.listen', or 'null' for none")]
    Bind {
        /// Where.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The API's authority does not vouch for it.
    #[error(transparent)]
    Authority(#[from] HttpsError),
    /// The certificate cannot be read.
    #[error("web.tls.certificate: cannot read {}", path.display())]
    Certificate {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// There is no certificate in its file.
    #[error("web.tls.certificate: {} holds no certificate: it has to begin with '-----BEGIN CERTIFICATE-----'", path.display())]
    NoCertificate {
        /// Which file.
        path: PathBuf,
    },
    /// The key cannot be read, or others can read it.
    #[error("web.tls.key")]
    KeyFile(#[source] PrivateFileError),
    /// There is no such file.
    #[error("web.tls.key: there is no {}", path.display())]
    KeyMissing {
        /// Which.
        path: PathBuf,
    },
    /// There is no key in its file.
    #[error("web.tls.key: {} holds no private key: it has to be PEM, without a passphrase", path.display())]
    NoKey {
        /// Which file.
        path: PathBuf,
    },
    /// Certificate and key are not of one pair, or of a kind that TLS has no use for.
    #[error("web.tls: {} cannot be served with the key in {}", certificate.display(), key.display())]
    Pair {
        /// The file of the certificate.
        certificate: PathBuf,
        /// The file of the key.
        key: PathBuf,
        /// Why.
        #[source]
        source: rustls::Error,
    },
}

/// How it serves; what a client may take, and for how long, is the wire's.
#[derive(Clone, Debug)]
pub struct WebConfig {
    /// Where to listen.
    pub listen: SocketAddr,
    /// Whether, and with which certificate, over TLS.
    pub tls: Tls,
}

/// The port, open, with what it needs.
pub struct Web {
    listener: TcpListener,
    address: SocketAddr,
    acceptor: Option<TlsAcceptor>,
    gate: Arc<Gate>,
    shared: Arc<Shared>,
}

impl Web {
    /// Opens it. Clients can connect from here on, and are served once it runs.
    pub async fn bind(
        config: &WebConfig,
        gate: Arc<Gate>,
        wire: watch::Receiver<WireConfig>,
        verbs: Arc<dyn Verbs>,
        events: Arc<dyn EventSink>,
        requests: Arc<Requests>,
    ) -> Result<Web, WebError> {
        let failed = |source| WebError::Bind { address: config.listen, source };
        let listener = TcpListener::bind(config.listen).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let acceptor = config.tls.acceptor(address.ip())?;
        if acceptor.is_none() && !address.ip().to_canonical().is_loopback() {
            tracing::warn!(
                %address,
                "web: PLAIN HTTP, and others reach this address: whoever sees the traffic reads the machines' passwords. \
                 Set 'web.tls', or listen on 127.0.0.1 behind a proxy that has TLS"
            );
        }
        let shared = Arc::new(Shared::new(wire, verbs, events, requests));
        Ok(Web { listener, address, acceptor, gate, shared })
    }

    /// Where it listens; tells the port if the system chose it.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `stop` is cancelled, then until its connections have ended or the wire's `stop_grace` is over.
    pub async fn run(self, stop: CancellationToken) {
        let clients = Clients { web: self, stop: stop.clone() };
        let tasks = connections::accept(&clients, MOST_CONNECTIONS, DOOR, stop).await;
        let shared = Arc::clone(&clients.web.shared);
        // Nobody connects any more.
        drop(clients);
        shared.lines.close();
        let grace = shared.settings.borrow().stop_grace;
        if timeout(grace, tasks.wait()).await.is_err() {
            tracing::warn!(connections = tasks.len(), "web: handlers still run after the grace period: dropped");
            shared.abandon.cancel();
            tasks.wait().await;
        }
    }
}

/// Those who connect.
struct Clients {
    web: Web,
    stop: CancellationToken,
}

impl Entrance for Clients {
    async fn next(&self) -> io::Result<Conversation> {
        let (stream, peer) = self.web.listener.accept().await?;
        let pass = match self.web.gate.admit(peer.ip()) {
            Ok(pass) => pass,
            Err(refusal) => {
                // Closed at once, unread.
                self.web.shared.turned_away(peer.ip(), refusal);
                return Ok(Box::pin(std::future::ready(())));
            }
        };
        let (shared, acceptor, stop) = (Arc::clone(&self.web.shared), self.web.acceptor.clone(), self.stop.clone());
        Ok(async move {
            let wire = shared.settings.borrow().clone();
            let deadline = Instant::now() + wire.client_timeout;
            let visit = Visit { peer, pass, wire, deadline };
            match acceptor {
                None => exchange::serve(stream, visit, &shared, &stop).await,
                Some(acceptor) => {
                    let agreed = tokio::select! {
                        () = stop.cancelled() => return,
                        agreed = tokio::time::timeout_at(deadline, acceptor.accept(stream)) => agreed,
                    };
                    match agreed {
                        Ok(Ok(stream)) => exchange::serve(stream, visit, &shared, &stop).await,
                        Ok(Err(error)) => tracing::debug!(%error, %peer, "web: no TLS"),
                        Err(_) => tracing::debug!(%peer, "web: no TLS in time"),
                    }
                }
            }
        }
        .boxed())
    }
}

/// What HTTP is spoken on; in the end the socket below it is what knows what arrived.
trait Stream: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static {
    /// Says that nothing more comes, where the stream has a word for it.
    fn end(self) -> impl Future<Output = TcpStream> + Send;
}

impl Stream for TcpStream {
    async fn end(self) -> TcpStream {
        self
    }
}
