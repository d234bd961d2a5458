//! `/healthz`, `/readyz` and `/metrics`: whether the daemon lives, whether it can serve, and what it counts.
//!
//! A daemon that is not ready says why, with one of these words as `reason`:
//!
//! | `reason` | what it means |
//! | --- | --- |
//! | `Starting` | records are read and machines taken over; nobody is served yet |
//! | `Stopping` | it was asked to end; machines live on |
//! | `StoreUnavailable` | no record can be written now (the disk is full, say); it goes on by itself |
//! | `StoreFailed` | no record can be written any more; it is about to end, for whoever supervises it to start it again |
//! | `HypervisorUnreachable` | machines that wait are still given out, and those in use go on, but none can be made |
//!
//! None of them asks the hypervisor anything, and none can be held up by another: connections and scrapes are so many at
//! once, and a scrape has a deadline.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::State;
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::connections::{self, Doorway, Ready};
use crate::metrics::{Exposition, Form};
use crate::store::{Store, Txn};

/// Connections at once: supervisors and scrapers are few.
const MOST_CONNECTIONS: usize = 64;
/// Scrapes at once, of two servers, say.
const MOST_SCRAPES: usize = 2;
/// How long a store may take to say that it takes writes.
const STORE_TIME: Duration = Duration::from_secs(2);
/// How long a scrape may take, in which Prometheus waits ten seconds.
const SCRAPE_TIME: Duration = Duration::from_secs(8);

/// What readiness is told from.
pub struct Health {
    stage: Mutex<Life>,
    store: Arc<dyn Store>,
    /// What the store failed of.
    failure: Mutex<Option<String>>,
    simulated: bool,
    hypervisor: String,
    reachable: Reachable,
}

/// How far a daemon is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// It takes over what there is.
    Starting,
    /// Clients are served.
    Serving,
    /// No client is served any more.
    Stopping,
}

/// Says what keeps the hypervisor from being reached, if anything does; does not block.
pub type Reachable = Box<dyn Fn() -> Result<(), String> + Send + Sync>;

impl Health {
    /// Not ready yet.
    pub fn new(simulated: bool, hypervisor: String, reachable: Reachable, store: Arc<dyn Store>) -> Arc<Self> {
        let (stage, failure) = (Mutex::new(Life::Starting), Mutex::default());
        Arc::new(Health { stage, store, failure, simulated, hypervisor, reachable })
    }

    /// Says how far the daemon is.
    pub fn set(&self, stage: Life) {
        *self.stage.lock().unwrap_or_else(PoisonError::into_inner) = stage;
    }

    /// Says that clients cannot be served any more, since the store failed of this.
    pub fn store_failed(&self, message: String) {
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(message);
        self.set(Life::Stopping);
    }

    /// What keeps it from serving, if anything does: a reason and a message.
    async fn hindrance(&self) -> Option<(&'static str, String)> {
        if let Some(message) = self.failure.lock().unwrap_or_else(PoisonError::into_inner).clone() {
            return Some(("StoreFailed", message));
        }
        match *self.stage.lock().unwrap_or_else(PoisonError::into_inner) {
            Life::Starting => return Some(("Starting", "it takes over what there is".into())),
            Life::Stopping => return Some(("Stopping", "it was asked to stop".into())),
            Life::Serving => {}
        }
        // Of nothing: it writes nothing, and is refused as any other would be.
        match tokio::time::timeout(STORE_TIME, self.store.txn(Txn::default())).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return Some(("StoreUnavailable", error.to_string())),
            Err(_) => {
                return Some(("StoreUnavailable", format!("it does not answer within {} s", STORE_TIME.as_secs())));
            }
        }
        (self.reachable)().err().map(|message| ("HypervisorUnreachable", message))
    }

    async fn answer(&self) -> (StatusCode, Json<Value>) {
        let hindrance = self.hindrance().await;
        let (status, ready) = match hindrance {
            None => (StatusCode::OK, true),
            Some(_) => (StatusCode::SERVICE_UNAVAILABLE, false),
        };
        let mut body = json!({ "ready": ready, "simulated": self.simulated, "hypervisor": self.hypervisor });
        if let Some((reason, message)) = hindrance {
            body["reason"] = reason.into();
            body["message"] = message.into();
        }
        (status, Json(body))
    }
}

/// What is told here.
struct Told {
    health: Arc<Health>,
    exposition: Arc<Exposition>,
    scrapes: Arc<Semaphore>,
}

/// Answers until cancelled.
pub async fn serve(listener: TcpListener, health: Arc<Health>, exposition: Arc<Exposition>, cancel: CancellationToken) {
    let told = Told { health, exposition, scrapes: Arc::new(Semaphore::new(MOST_SCRAPES)) };
    let router = Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(|State(told): State<Arc<Told>>| async move { told.health.answer().await }))
        .route("/metrics", get(scraped))
        .with_state(Arc::new(told));
    connections::answer(&Visitors { listener, router }, MOST_CONNECTIONS, "health", cancel).await;
}

async fn scraped(State(told): State<Arc<Told>>, headers: HeaderMap) -> Response {
    let accept = headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let form = Form::accepted(accept);
    let Ok(place) = Arc::clone(&told.scrapes).try_acquire_owned() else {
        return (StatusCode::SERVICE_UNAVAILABLE, "other scrapes are under way\n").into_response();
    };
    let ready = told.health.hindrance().await.is_none();
    let exposition = Arc::clone(&told.exposition);
    let work = tokio::task::spawn_blocking(move || {
        // Held until the work is done, even if nobody waits for it any more.
        let _place = place;
        exposition.text(form, ready)
    });
    match tokio::time::timeout(SCRAPE_TIME, work).await {
        Ok(Ok(Ok(text))) => ([(CONTENT_TYPE, form.content_type())], text).into_response(),
        Ok(Ok(Err(error))) => {
            let error = crate::error_chain(&error);
            tracing::warn!(error, "scrape");
            (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response()
        }
        Ok(Err(_)) => (StatusCode::INTERNAL_SERVER_ERROR, "the scrape died\n").into_response(),
        Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "it takes too long\n").into_response(),
    }
}

/// Those who connect.
struct Visitors {
    listener: TcpListener,
    router: Router,
}

impl Doorway for Visitors {
    type Stream = TcpStream;

    async fn come(&self) -> std::io::Result<Ready<TcpStream>> {
        let (stream, _) = self.listener.accept().await?;
        Ok(Box::pin(std::future::ready(Some((stream, self.router.clone())))))
    }
}

/// Binds the socket, naming the address when it cannot be had.
pub async fn bind(listen: SocketAddr) -> std::io::Result<TcpListener> {
    TcpListener::bind(listen).await
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;
    use crate::store::memory;

    #[tokio::test]
    async fn readiness_says_what_is_in_its_way() {
        let away = Arc::new(AtomicBool::new(false));
        let gone = Arc::clone(&away);
        let reachable = move || if gone.load(Ordering::Relaxed) { Err("no such socket".into()) } else { Ok(()) };
        let store = memory();
        let health = Health::new(false, "libvirt".into(), Box::new(reachable), Arc::clone(&store) as _);
        let answer = async || {
            let (status, Json(body)) = health.answer().await;
            (status.as_u16(), body["ready"].clone(), body["reason"].clone(), body["message"].clone())
        };
        assert_eq!((answer().await.0, answer().await.2), (503, "Starting".into()));
        health.set(Life::Serving);
        assert_eq!(answer().await, (200, true.into(), Value::Null, Value::Null));
        away.store(true, Ordering::Relaxed);
        assert_eq!(answer().await, (503, false.into(), "HypervisorUnreachable".into(), "no such socket".into()));
        away.store(false, Ordering::Relaxed);
        assert_eq!(answer().await.0, 200);
        store.close();
        let closed = "the store takes no more writes: it is closed";
        assert_eq!(answer().await, (503, false.into(), "StoreUnavailable".into(), closed.into()));
        health.set(Life::Stopping);
        assert_eq!(answer().await.2, "Stopping");
        health.store_failed("Input/output error".into());
        assert_eq!(answer().await, (503, false.into(), "StoreFailed".into(), "Input/output error".into()));
    }
}
