//! What the daemon tells: asked and watched until there is nobody any more to show it to.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::sync::mpsc::Sender;
use tokio::time::{sleep, timeout};

use super::state::{Message, Ready, Server};
use crate::cli::Result;
use crate::cli::objects::client::{Daemon, path_of_kind};
use crate::config::Config;
use crate::daemon::socket_path;
use crate::error_chain;
use crate::model::{API_VERSION, Kind};

/// Between two questions who the daemon is, and two attempts to reach it.
const PAUSE: Duration = Duration::from_secs(1);
/// How long it may take to say who it is: one that is stopped has an open socket, too.
const PATIENCE: Duration = Duration::from_secs(5);
/// The longest answer of the health endpoint.
const MOST: usize = 64 << 10;
/// The kinds that are shown.
const KINDS: [Kind; 2] = [Kind::ContainerPool, Kind::Container];

pub(super) struct Feed {
    daemon: Daemon,
    socket: PathBuf,
    /// Where the health endpoint is, if that is known.
    health: Option<SocketAddr>,
    /// The number of the next event.
    next: u64,
}

impl Feed {
    pub(super) fn new(daemon: Daemon, config: &Config) -> Feed {
        let health = config.server.health_listen.filter(|address| address.port() != 0);
        Feed { daemon, socket: socket_path(&config.state_dir), health, next: 0 }
    }

    /// Goes on until nobody listens.
    pub(super) async fn run(mut self, to: Sender<Message>) {
        loop {
            let (daemon, socket, health) = (&self.daemon, &self.socket, self.health);
            let asking = who(daemon, socket, health, &to);
            let pools = follow(daemon, KINDS[0], &to);
            let machines = follow(daemon, KINDS[1], &to);
            let events = events(daemon, &mut self.next, &to);
            // The first that ends, ends all: they talk to the same daemon.
            let ended = tokio::select! {
                ended = asking => ended.map(|never| match never {}),
                ended = pools => ended,
                ended = machines => ended,
                ended = events => ended,
            };
            let gone = match ended {
                // A watch has its time; the next one begins at once.
                Ok(()) => Ok(()),
                Err(error) => to.send(Message::Away(error_chain(&*error))).await,
            };
            if gone.is_err() || to.is_closed() {
                return;
            }
            sleep(PAUSE).await;
        }
    }
}

/// Asks again and again who the daemon is. What is in its place then, answers.
async fn who(daemon: &Daemon, socket: &Path, health: Option<SocketAddr>, to: &Sender<Message>) -> Result<Infallible> {
    loop {
        let asked = timeout(PATIENCE, daemon.get("/version")).await;
        let version = asked.map_err(|_| format!("it has not answered for {} s", PATIENCE.as_secs()))??;
        // `v1.35.0+anweddol-0.1.0`: whose API it follows is nothing to look at.
        let version = version["gitVersion"].as_str().unwrap_or_default();
        let version = version.split_once("+anweddol-").map_or(version, |(_, own)| own).to_owned();
        // It makes its socket when it starts.
        let since = std::fs::metadata(socket).and_then(|about| about.modified()).ok();
        let since = since.and_then(|time| Timestamp::try_from(time).ok());
        let ready = match health {
            Some(address) => timeout(PATIENCE, readiness(address)).await.unwrap_or(Ok(Ready::NotTold)),
            None => Ok(Ready::NotTold),
        };
        // Somebody else may have that port.
        let ready = ready.unwrap_or(Ready::NotTold);
        to.send(Message::Server(Server { version, since, ready })).await?;
        sleep(PAUSE).await;
    }
}

async fn readiness(address: SocketAddr) -> Result<Ready> {
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let request = Request::builder().method(Method::GET).uri("/readyz").header("host", "localhost");
    let response = sender.send_request(request.body(Empty::<Bytes>::new())?).await?;
    if response.status() == StatusCode::OK {
        return Ok(Ready::Yes);
    }
    let body = Limited::new(response.into_body(), MOST).collect().await?.to_bytes();
    let body: Value = serde_json::from_slice(&body)?;
    let word = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
    Ok(Ready::No(format!("{}: {}", word("reason"), word("message"))))
}

/// Everything of a kind, then its changes.
async fn follow(daemon: &Daemon, kind: Kind, to: &Sender<Message>) -> Result<()> {
    let path = path_of_kind(kind, None);
    let mut listed = daemon.get(&path).await?;
    let revision = listed["metadata"]["resourceVersion"].as_str().unwrap_or_default().to_owned();
    let objects = match listed["items"].take() {
        Value::Array(items) => items,
        _ => Vec::new(),
    };
    to.send(Message::Listed(kind, objects)).await?;
    let mut lines = daemon.watch(&format!("{path}?watch=1&resourceVersion={revision}")).await?;
    while let Some((change, object)) = lines.next().await? {
        let message = match change.as_str() {
            "DELETED" => Message::Deleted(kind, object),
            "ADDED" | "MODIFIED" => Message::Changed(kind, object),
            _ => continue,
        };
        to.send(message).await?;
    }
    Ok(())
}

/// The events from `next` on, then those that come.
async fn events(daemon: &Daemon, next: &mut u64, to: &Sender<Message>) -> Result<()> {
    let number = |event: Option<&Value>| event.and_then(|event| event["number"].as_u64());
    let revision = loop {
        let mut listed = daemon.get(&format!("/apis/{API_VERSION}/events?from={next}")).await?;
        let items = match listed["items"].take() {
            Value::Array(items) if !items.is_empty() => items,
            _ => break listed["metadata"]["resourceVersion"].as_str().unwrap_or_default().to_owned(),
        };
        *next = number(items.last()).unwrap_or(*next) + 1;
        to.send(Message::Events(items)).await?;
    };
    let mut lines = daemon.watch(&format!("/apis/{API_VERSION}/events?watch=1&resourceVersion={revision}")).await?;
    while let Some((_, event)) = lines.next().await? {
        *next = number(Some(&event)).map_or(*next, |number| number + 1);
        to.send(Message::Events(vec![event])).await?;
    }
    Ok(())
}
