//! The client of the local API.

use std::path::PathBuf;
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::UnixStream;
use tokio::time::timeout;

use crate::cli::{ConfigArgs, Result, admin};
use crate::daemon::socket_path;
use crate::model::{API_VERSION, Kind, ObjectRef};
use crate::server::kube::MANIFEST;

/// How long an answer may take; a watch's answer is its beginning.
const PATIENCE: Duration = Duration::from_secs(60);
/// The longest answer, and the longest line of a watch.
const LONGEST: usize = 256 << 20;

/// The daemon said no.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(in crate::cli) struct Refused {
    /// As HTTP numbers it.
    pub(super) code: u16,
    /// Why.
    message: String,
}

/// The daemon on this host, by its socket.
pub(in crate::cli) struct Daemon {
    socket: PathBuf,
}

/// What it said.
pub(in crate::cli) struct Answer {
    /// `created`, `configured` or `unchanged`, of a write.
    pub(super) outcome: String,
    /// The body.
    pub(in crate::cli) value: Value,
}

impl Daemon {
    pub(in crate::cli) fn of(config: &ConfigArgs) -> Result<Daemon> {
        Ok(Daemon { socket: socket_path(&admin::config(config)?.state_dir) })
    }

    #[cfg(test)]
    pub(super) fn at(socket: PathBuf) -> Daemon {
        Daemon { socket }
    }

    async fn send(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Response<Incoming>> {
        let at = self.socket.display();
        let stream = UnixStream::connect(&self.socket).await.map_err(|error| match error.kind() {
            std::io::ErrorKind::PermissionDenied => {
                format!("'{at}' answers only the daemon's own user and root: {error}")
            }
            _ => format!(
                "no daemon answers on '{at}' ({error}): is 'anweddol serve' running, with the same --state or --config?"
            ),
        })?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        let body = body.map(|value| Bytes::from(value.to_string())).unwrap_or_default();
        // What is patched here is described wholly: that is what manifests do.
        let media = if method == Method::PATCH { MANIFEST } else { "application/json" };
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "localhost")
            .header("user-agent", concat!("anweddol/", env!("CARGO_PKG_VERSION")))
            .header("content-type", media)
            .body(Full::new(body))?;
        Ok(sender.send_request(request).await?)
    }

    /// Sends a request and takes the answer; a `Status` that says no is [`Refused`].
    pub(in crate::cli) async fn ask(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Answer> {
        let asking = async {
            let response = self.send(method, path, body).await?;
            let status = response.status();
            let outcome = response.headers().get("anweddol-outcome").and_then(|value| value.to_str().ok());
            let outcome = outcome.unwrap_or_default().to_owned();
            let mut incoming = response.into_body();
            let mut bytes = Vec::new();
            while let Some(frame) = incoming.frame().await {
                bytes.extend_from_slice(&frame?.into_data().unwrap_or_default());
                if bytes.len() > LONGEST {
                    return Err("the daemon's answer does not end".into());
                }
            }
            let value: Value = serde_json::from_slice(&bytes)?;
            if status.is_success() { Ok(Answer { outcome, value }) } else { Err(refused(status, &value).into()) }
        };
        timeout(PATIENCE, asking).await.map_err(|_| format!("the daemon took longer than {} s", PATIENCE.as_secs()))?
    }

    pub(super) async fn get(&self, path: &str) -> Result<Value> {
        Ok(self.ask(Method::GET, path, None).await?.value)
    }

    /// One object, if it is there.
    pub(super) async fn find(&self, object: &ObjectRef) -> Result<Option<Value>> {
        match self.get(&path_of(object)).await {
            Ok(value) => Ok(Some(value)),
            Err(error) if code(&*error) == Some(404) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Begins a watch.
    pub(super) async fn watch(&self, path: &str) -> Result<Lines> {
        let begun = timeout(PATIENCE, self.send(Method::GET, path, None)).await;
        let response = begun.map_err(|_| format!("the daemon took longer than {} s", PATIENCE.as_secs()))??;
        let status = response.status();
        if !status.is_success() {
            let value = serde_json::from_slice(&response.into_body().collect().await?.to_bytes())?;
            return Err(refused(status, &value).into());
        }
        Ok(Lines { body: response.into_body(), bytes: Vec::new() })
    }
}

fn refused(status: StatusCode, value: &Value) -> Refused {
    let message = value["message"].as_str().map_or_else(|| format!("the daemon answered {status}"), str::to_owned);
    Refused { code: status.as_u16(), message }
}

/// The code of a [`Refused`].
pub(super) fn code(error: &(dyn std::error::Error + Send + Sync + 'static)) -> Option<u16> {
    error.downcast_ref::<Refused>().map(|refused| refused.code)
}

/// The events of a watch.
pub(super) struct Lines {
    body: Incoming,
    bytes: Vec<u8>,
}

impl Lines {
    /// The next event: its type and its object. `None` when its time is over, or the daemon stops.
    pub(super) async fn next(&mut self) -> Result<Option<(String, Value)>> {
        loop {
            if let Some(end) = self.bytes.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.bytes.drain(..=end).collect();
                let mut event: Value = serde_json::from_slice(&line)?;
                let object = event["object"].take();
                let kind = event["type"].as_str().unwrap_or_default().to_owned();
                if kind == "ERROR" {
                    let code = object["code"].as_u64().and_then(|code| u16::try_from(code).ok()).unwrap_or(500);
                    let status = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
                    return Err(refused(status, &object).into());
                }
                return Ok(Some((kind, object)));
            }
            match self.body.frame().await {
                Some(frame) => self.bytes.extend_from_slice(&frame?.into_data().unwrap_or_default()),
                None => return Ok(None),
            }
            if self.bytes.len() > LONGEST {
                return Err("the daemon's answer does not end".into());
            }
        }
    }
}

/// The path of a kind's objects, in a namespace or in all of them.
pub(super) fn path_of_kind(kind: Kind, namespace: Option<&str>) -> String {
    match namespace {
        Some(namespace) => format!("/apis/{API_VERSION}/namespaces/{namespace}/{}", kind.plural()),
        None => format!("/apis/{API_VERSION}/{}", kind.plural()),
    }
}

/// The path of an object.
pub(super) fn path_of(object: &ObjectRef) -> String {
    format!("{}/{}", path_of_kind(object.kind, Some(&object.namespace)), object.name)
}

/// A text as it stands in a query.
pub(super) fn encode(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~');
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}
