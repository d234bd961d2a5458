//! One SSH connection to a guest: log in, run a command, close.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::rand;
use futures::FutureExt;
use futures::future::BoxFuture;
use russh::client::{self, AuthResult};
use russh::keys::{Algorithm, EcdsaCurve};
use russh::{ChannelMsg, Disconnect, Preferred, kex};
use secrecy::{ExposeSecret, SecretString};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};
use zeroize::Zeroizing;

use super::peer::{Peer, Pin};
use super::reach::{Expect, reach};
use super::stream::Prompt;
use super::{ENDPOINT, SET_UP, setup_command, text, within};
use crate::guest::{Exit, OpenShell, Output, ShellError};

/// How much is kept of each output of a command.
const OUTPUT_LIMIT: usize = 64 << 10;
/// How much a command may send at all before the connection is given up.
const TRAFFIC_LIMIT: u64 = 16 << 20;
/// What may be under way per channel; russh's default is 2 MiB.
const WINDOW: u32 = 128 << 10;
/// A connection on which nothing moves for so long is dropped, whoever forgot it.
const INACTIVITY: Duration = Duration::from_secs(120);
/// Between two signs of life of a connection on which nothing else moves, and how many may stay unanswered.
const KEEPALIVE: Duration = Duration::from_secs(45);
const KEEPALIVES_MISSED: usize = 2;
/// How long a polite end may take.
const CLOSE_PATIENCE: Duration = Duration::from_millis(500);
/// How much of a failure's description is told.
const REASON_LIMIT: usize = 200;
/// The protocol's credentials.
const USERNAME_DIGITS: usize = 5;
const PASSWORD_LENGTH: usize = 120;

/// An open connection to a guest, logged in. Commands run one at a time.
pub struct EndpointShell {
    at: SocketAddr,
    connection: client::Handle<Peer>,
}

/// What the guest says to a login.
pub(super) enum Entry {
    In(EndpointShell),
    Refused,
}

impl EndpointShell {
    /// Waits until the guest at `at` answers, and logs in as `endpoint`.
    pub async fn connect(at: SocketAddr, patience: Duration) -> Result<Self, ShellError> {
        Self::connect_as(at, ENDPOINT, &ENDPOINT.into(), patience).await
    }

    /// The same, for who may be told that it will answer soon.
    pub async fn connect_told(at: SocketAddr, soon: &Notify, patience: Duration) -> Result<Self, ShellError> {
        let deadline = Instant::now() + patience;
        let stream = super::reached(at, ENDPOINT, reach(at, Expect::Boot, soon, deadline)).await?;
        match super::log_in(at, stream, &Pin::default(), ENDPOINT, ENDPOINT, deadline).await? {
            Entry::In(shell) => Ok(shell),
            Entry::Refused => Err(ShellError::Refused { at }),
        }
    }

    /// Waits until the guest at `at` answers, and logs in as somebody else.
    pub async fn connect_as(
        at: SocketAddr,
        username: &str,
        password: &SecretString,
        patience: Duration,
    ) -> Result<Self, ShellError> {
        let deadline = Instant::now() + patience;
        match super::enter(at, Expect::Boot, &Pin::default(), username, password.expose_secret(), deadline).await? {
            Entry::In(shell) => Ok(shell),
            Entry::Refused => Err(ShellError::Refused { at }),
        }
    }

    /// The guest's address.
    pub fn at(&self) -> SocketAddr {
        self.at
    }

    /// Runs a command of the guest's shell to its end. A command that takes longer than `patience` is left behind, and the
    /// connection with it.
    pub async fn execute(&mut self, command: &str, patience: Duration) -> Result<Output, ShellError> {
        within(self.at, Instant::now() + patience, self.run(command)).await
    }

    /// A user name and a password as the protocol has them: `user_` and 5 digits, and 120 letters and digits.
    pub fn generate_credentials() -> (String, SecretString) {
        const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
        let username = format!("user_{}", draw(b"0123456789", USERNAME_DIGITS));
        (username, draw(LETTERS, PASSWORD_LENGTH).into())
    }

    /// Runs the set-up script: afterwards the machine belongs to `username`, and `endpoint` is locked.
    pub async fn set_credentials(
        &mut self,
        username: &str,
        password: &SecretString,
        patience: Duration,
    ) -> Result<(), ShellError> {
        let at = self.at;
        let command = setup_command(username, password).map_err(|what| super::not_run(at, SET_UP, what))?;
        let output = self.execute(command.expose_secret(), patience).await?;
        super::ended(at, SET_UP, &output)
    }

    /// Whether it broke, or was ended by the guest.
    pub(super) fn is_closed(&self) -> bool {
        self.connection.is_closed()
    }

    /// Ends the connection.
    pub async fn close(self) {
        // The guest may be gone, or not care: there is nothing to tell then.
        let end = self.connection.disconnect(Disconnect::ByApplication, "", "");
        timeout(CLOSE_PATIENCE, end).await.ok();
    }

    /// Runs a command, for as long as the caller lets it.
    pub(super) async fn run(&mut self, command: &str) -> Result<Output, ShellError> {
        let at = self.at;
        let broken = |error: russh::Error| broken(at, &error);
        let mut channel = self.connection.channel_open_session().await.map_err(broken)?;
        channel.exec(true, command).await.map_err(broken)?;
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        let (mut dropped, mut traffic) = (0, 0);
        let mut exit = None;
        while let Some(message) = channel.wait().await {
            let (data, kept) = match message {
                ChannelMsg::Data { data } => (data, &mut stdout),
                ChannelMsg::ExtendedData { data, .. } => (data, &mut stderr),
                ChannelMsg::ExitStatus { exit_status } => {
                    exit = Some(Exit::Status(exit_status));
                    continue;
                }
                ChannelMsg::ExitSignal { signal_name, .. } => {
                    let name = format!("{signal_name:?}");
                    exit = Some(Exit::Signal(text::printable(name.as_bytes(), 32)));
                    continue;
                }
                ChannelMsg::Failure => {
                    return Err(ShellError::Broken { at, reason: "the guest runs no commands".into() });
                }
                ChannelMsg::Close => break,
                // Window changes, success, end of output: nothing to do. The rest is not for clients, and not ours to list.
                _ => continue,
            };
            traffic += data.len() as u64;
            if traffic > TRAFFIC_LIMIT {
                return Err(ShellError::Broken { at, reason: "the command's output has no end".into() });
            }
            let room = (OUTPUT_LIMIT - kept.len()).min(data.len());
            kept.extend_from_slice(&data[..room]);
            dropped += (data.len() - room) as u64;
        }
        // A server that dies in the middle closes its channels too: without a status nothing is known of the command.
        let exit = exit.ok_or(ShellError::Broken { at, reason: "the command ended without a status".into() })?;
        Ok(Output { stdout, stderr, dropped, exit })
    }
}

impl OpenShell for EndpointShell {
    fn execute<'a>(&'a mut self, command: &'a str, patience: Duration) -> BoxFuture<'a, Result<Output, ShellError>> {
        EndpointShell::execute(self, command, patience).boxed()
    }

    fn close(self: Box<Self>) -> BoxFuture<'static, ()> {
        EndpointShell::close(*self).boxed()
    }
}

/// Makes an SSH connection out of a stream and logs in.
pub(super) async fn enter(
    at: SocketAddr,
    stream: TcpStream,
    pin: &Pin,
    username: &str,
    password: &str,
) -> Result<Entry, ShellError> {
    let config = client::Config {
        // Off, the first packets of every exchange wait 40 ms for an acknowledgement.
        nodelay: true,
        window_size: WINDOW,
        channel_buffer_size: 16,
        inactivity_timeout: Some(INACTIVITY),
        keepalive_interval: Some(KEEPALIVE),
        keepalive_max: KEEPALIVES_MISSED,
        preferred: preferred(),
        ..Default::default()
    };
    let shown = Pin::default();
    let peer = Peer { pin: pin.clone(), shown: shown.clone() };
    let mut connection = match client::connect_stream(Arc::new(config), Prompt(stream), peer).await {
        Ok(connection) => connection,
        Err(russh::Error::Version) => {
            return Err(ShellError::NotAnswering { at, reason: "what answers does not speak SSH".into() });
        }
        Err(russh::Error::UnknownKey) => return Err(ShellError::OtherKey { at }),
        Err(error) => return Err(broken(at, &error)),
    };
    match connection.authenticate_password(username, password).await {
        Ok(AuthResult::Success) if pin.settle(&shown) => Ok(Entry::In(EndpointShell { at, connection })),
        Ok(AuthResult::Success) => Err(ShellError::OtherKey { at }),
        // russh reports a connection that broke while it waited as a refusal that names no methods; a server names some.
        // Taken for a refusal, a crash of the guest's server would look like a locked account.
        Ok(AuthResult::Failure { remaining_methods, .. }) if remaining_methods.is_empty() => {
            Err(ShellError::Broken { at, reason: "it was closed during the login".into() })
        }
        Ok(AuthResult::Failure { .. }) => {
            EndpointShell { at, connection }.close().await;
            Ok(Entry::Refused)
        }
        Err(error) => Err(broken(at, &error)),
    }
}

/// russh's own wishes, with P-256 before them: OpenSSL's is tuned for every processor, and to an emulated guest a login with it
/// is a fifth less work than one with sshd's own arithmetic. A guest that has none of it takes the next ones.
fn preferred() -> Preferred {
    let wishes = Preferred::DEFAULT;
    let p256 = Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 };
    let others = wishes.key.iter().filter(|key| **key != p256).cloned();
    Preferred {
        kex: Cow::Owned([kex::ECDH_SHA2_NISTP256].into_iter().chain(wishes.kex.iter().copied()).collect()),
        key: Cow::Owned([p256.clone()].into_iter().chain(others).collect()),
        ..wishes
    }
}

fn broken(at: SocketAddr, error: &russh::Error) -> ShellError {
    ShellError::Broken { at, reason: text::printable(error.to_string().as_bytes(), REASON_LIMIT) }
}

/// `count` letters of `alphabet`, all equally likely.
fn draw(alphabet: &[u8], count: usize) -> String {
    // Bytes from the last, incomplete round of the alphabet would favour its first letters.
    let fair = 256 - 256 % alphabet.len();
    let mut text = String::with_capacity(count);
    while text.len() < count {
        let mut bytes = Zeroizing::new([0_u8; 64]);
        // Without randomness no secret can be made at all.
        rand::fill(&mut *bytes).expect("the system's random numbers");
        let letters = bytes.iter().map(|&byte| usize::from(byte)).filter(|&byte| byte < fair);
        text.extend(letters.take(count - text.len()).map(|byte| char::from(alphabet[byte % alphabet.len()])));
    }
    text
}
