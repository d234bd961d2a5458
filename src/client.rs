//! The client of the wire protocol: connect, exchange keys, ask once.
//!
//! The protocol gives a server no proof of who it is. A client that knows its fingerprint says so
//! ([`ClientConfig::expect`]) and sends no key to another; one that does not can see whom it talked to.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::task::{JoinError, spawn_blocking};
use tokio::time::timeout;

use crate::link::{Link, random};
use crate::wire::exchange::{ClientExchange, ClientStep, ResponseExchange, ResponseStep, acknowledged};
use crate::wire::frame::ACK;
use crate::wire::keys::Backend;
use crate::wire::session::FRESH;
use crate::wire::{
    Element, Fingerprint, Generation, KeyError, KeySize, Limits, PrivateKey, Request, Response, Session, WireError,
};

/// How to ask.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// Which generation to speak: the second.
    pub generation: Generation,
    /// The server's fingerprint, if it is known.
    pub expect: Option<Fingerprint>,
    /// Our key. Without one, each connection makes its own of 2048 bits, which takes a moment.
    pub key: Option<Arc<PrivateKey>>,
    /// How long connecting and the key exchange may take together: 10 s.
    pub exchange_timeout: Duration,
    /// How long the answer may take: 5 minutes, because a machine may have to boot for it.
    pub answer_timeout: Duration,
    /// What a server may send.
    pub limits: Limits,
}

impl Default for ClientConfig {
    fn default() -> Self {
        ClientConfig {
            generation: Generation::Second,
            expect: None,
            key: None,
            exchange_timeout: Duration::from_secs(10),
            answer_timeout: Duration::from_secs(300),
            limits: Limits::default(),
        }
    }
}

/// What a client waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The key exchange.
    Exchange,
    /// The answer.
    Answer,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Stage::Exchange => "key exchange",
            Stage::Answer => "answer",
        })
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens.
    #[error("nothing listens on {address}: is the server running there? (`anweddol serve` starts one)")]
    NobodyThere {
        /// Where.
        address: String,
        /// What the system said.
        source: io::Error,
    },
    /// It cannot be connected to for another reason.
    #[error("cannot connect to {address}")]
    Connect {
        /// Where.
        address: String,
        /// What the system said.
        source: io::Error,
    },
    /// Something else listens there.
    #[error("what listens on {address} is no Anweddol server")]
    NoServer {
        /// Where.
        address: String,
        /// How that shows.
        source: WireError,
    },
    /// It is another server than expected.
    #[error(
        "the server on {address} has fingerprint {seen}, but {expected} was expected: \
         it has got a new key, or somebody is between; nothing was sent to it"
    )]
    Fingerprint {
        /// Where.
        address: String,
        /// The one expected.
        expected: Fingerprint,
        /// The one seen.
        seen: Fingerprint,
    },
    /// It took too long.
    #[error("the {stage} with {address} took longer than {} s", (after.as_secs_f32() * 10.0).round() / 10.0)]
    TooSlow {
        /// Where.
        address: String,
        /// What did.
        stage: Stage,
        /// The deadline.
        after: Duration,
    },
    /// It hung up.
    #[error(
        "the server on {address} closed the connection during the {stage}: it may be stopping or have too many connections"
    )]
    Closed {
        /// Where.
        address: String,
        /// When.
        stage: Stage,
    },
    /// The connection broke.
    #[error("the connection to {address} broke during the {stage}")]
    Broken {
        /// Where.
        address: String,
        /// When.
        stage: Stage,
        /// What the system said.
        source: io::Error,
    },
    /// The server refused, or does not keep to the protocol.
    #[error("the {stage} with {address} failed")]
    Protocol {
        /// Where.
        address: String,
        /// When.
        stage: Stage,
        /// How.
        source: WireError,
    },
    /// No key of our own could be made.
    #[error("cannot make a key for the connection")]
    Key(#[source] KeyError),
    /// The system gives no random numbers.
    #[error("cannot make a session key")]
    Random(#[source] io::Error),
    /// The key was not finished.
    #[error("making a key for the connection was interrupted")]
    Worker(#[source] JoinError),
}

/// A connection whose keys are exchanged.
pub struct WireClient {
    link: Link,
    session: Session,
    fingerprint: Fingerprint,
    address: String,
    config: ClientConfig,
}

/// Makes a key for a client; slow enough to be done aside.
pub async fn make_key() -> Result<Arc<PrivateKey>, ClientError> {
    let make = || PrivateKey::from_pem(&PrivateKey::generate(KeySize::Bits2048)?, Backend::default());
    let key = spawn_blocking(make).await.map_err(ClientError::Worker)?;
    Ok(Arc::new(key.map_err(ClientError::Key)?))
}

/// Connects, asks once, and returns the answer.
pub async fn ask(address: &str, request: &Request, config: &ClientConfig) -> Result<Response, ClientError> {
    WireClient::connect(address, config).await?.ask(request).await
}

impl WireClient {
    /// Connects to `host:port` and exchanges keys.
    pub async fn connect(address: &str, config: &ClientConfig) -> Result<Self, ClientError> {
        // Before the deadline begins: our slowness is not the server's.
        let key = match &config.key {
            Some(key) => key.clone(),
            None => make_key().await?,
        };
        let fresh = random::<FRESH>().map_err(ClientError::Random)?;
        let exchange = async {
            let stream = TcpStream::connect(address).await.map_err(|source| connect_error(address, source))?;
            let mut link = Link::new(stream).map_err(|source| connect_error(address, source))?;
            let (session, fingerprint) = exchange_keys(&mut link, address, key, &fresh, config).await?;
            Ok(WireClient { link, session, fingerprint, address: address.into(), config: config.clone() })
        };
        let after = config.exchange_timeout;
        let too_slow = |_| ClientError::TooSlow { address: address.into(), stage: Stage::Exchange, after };
        timeout(after, exchange).await.map_err(too_slow)?
    }

    /// The fingerprint of the server's key.
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// Asks, and waits for the answer. A connection is good for one question.
    pub async fn ask(self, request: &Request) -> Result<Response, ClientError> {
        let after = self.config.answer_timeout;
        let too_slow = ClientError::TooSlow { address: self.address.clone(), stage: Stage::Answer, after };
        timeout(after, self.converse(request)).await.map_err(|_| too_slow)?
    }

    async fn converse(mut self, request: &Request) -> Result<Response, ClientError> {
        let broken = |source| broken(&self.address, Stage::Answer, source);
        let failed = |source| ClientError::Protocol { address: self.address.clone(), stage: Stage::Answer, source };
        let next_iv = random().map_err(ClientError::Random)?;
        let sealed = self.session.seal(self.config.generation, &request.to_text(), *next_iv).map_err(failed)?;
        // Both at once, with the last word of the key exchange: a server reads by count.
        self.link.say(&sealed.header);
        self.link.say(&sealed.packet);
        let byte = self.link.read_byte().await.map_err(broken)?;
        acknowledged(Element::MessageSize, byte).map_err(failed)?;
        let mut exchange = ResponseExchange::new(self.session, self.config.generation, self.config.limits);
        loop {
            let bytes = self.link.read(exchange.want()).await.map_err(broken)?;
            match exchange.receive(&mut &bytes[..]).map_err(failed)? {
                ResponseStep::More => {}
                ResponseStep::Send(reply) => self.link.say(&reply),
                ResponseStep::Response(response) => return Ok(response),
            }
        }
    }
}

async fn exchange_keys(
    link: &mut Link,
    address: &str,
    key: Arc<PrivateKey>,
    fresh: &[u8; FRESH],
    config: &ClientConfig,
) -> Result<(Session, Fingerprint), ClientError> {
    let broken = |source| broken(address, Stage::Exchange, source);
    let failed = |source| exchange_error(address, source);
    let (mut exchange, first) = ClientExchange::start(key.clone(), config.limits).map_err(failed)?;
    link.say(&first);
    loop {
        let bytes = link.read(exchange.want()).await.map_err(broken)?;
        match exchange.receive(&mut &bytes[..]).map_err(failed)? {
            ClientStep::More => {}
            ClientStep::Send(reply) => link.say(&reply),
            ClientStep::Wrap(server_key) => {
                let seen = server_key.fingerprint();
                if let Some(expected) = config.expect.filter(|expected| *expected != seen) {
                    return Err(ClientError::Fingerprint { address: address.into(), expected, seen });
                }
                let wrapped = server_key.wrap(fresh).map_err(|error| failed(WireError::Wrap(error)))?;
                link.say(&exchange.wrapped(&wrapped));
            }
            ClientStep::Unwrap { wrapped, server } => {
                // A few milliseconds, and this side has nobody else to serve.
                let secret = key.unwrap(&wrapped).map_err(|_| failed(WireError::SessionKey))?;
                let session = Session::from_bytes(&secret).map_err(failed)?;
                link.say(&[ACK]);
                return Ok((session, server));
            }
        }
    }
}

fn connect_error(address: &str, source: io::Error) -> ClientError {
    let address = address.into();
    match source.kind() {
        io::ErrorKind::ConnectionRefused => ClientError::NobodyThere { address, source },
        _ => ClientError::Connect { address, source },
    }
}

fn broken(address: &str, stage: Stage, source: io::Error) -> ClientError {
    let address = address.into();
    match source.kind() {
        // It resets what it closes with our words unread.
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => {
            ClientError::Closed { address, stage }
        }
        _ => ClientError::Broken { address, stage, source },
    }
}

/// Tells a server that says no from something that is no server.
fn exchange_error(address: &str, source: WireError) -> ClientError {
    let address = address.into();
    match source {
        WireError::NoAcknowledgement { .. } | WireError::NoSize { .. } | WireError::PublicKey(_) => {
            ClientError::NoServer { address, source }
        }
        WireError::Refused { .. }
        | WireError::Size { .. }
        | WireError::SessionKey
        | WireError::Wrap(_)
        | WireError::Cipher
        | WireError::Response(_) => ClientError::Protocol { address, stage: Stage::Exchange, source },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_told_as_it_was_meant() {
        let told = |after| ClientError::TooSlow { address: "h:1".into(), stage: Stage::Answer, after }.to_string();
        assert!(told(Duration::from_micros(1_999_931)).ends_with("took longer than 2 s"));
        assert!(told(Duration::from_millis(500)).ends_with("took longer than 0.5 s"));
    }
}
