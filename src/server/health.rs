//! `/healthz` and `/readyz`: whether the daemon lives, and whether it can serve.
//!
//! A daemon whose hypervisor cannot be reached is not ready, and says why: machines that wait are still given out, and those
//! in use go on, but none can be made.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// What readiness is told from.
pub struct Health {
    ready: AtomicBool,
    /// What the store failed of.
    failure: Mutex<Option<String>>,
    simulated: bool,
    hypervisor: String,
    reachable: Reachable,
}

/// Says what keeps the hypervisor from being reached, if anything does; does not block.
pub type Reachable = Box<dyn Fn() -> Result<(), String> + Send + Sync>;

impl Health {
    /// Not ready yet.
    pub fn new(simulated: bool, hypervisor: String, reachable: Reachable) -> Arc<Self> {
        Arc::new(Health { ready: AtomicBool::new(false), failure: Mutex::default(), simulated, hypervisor, reachable })
    }

    /// Says whether clients are served.
    pub fn set_ready(&self, ready: bool) {
        self.ready.store(ready, Ordering::Relaxed);
    }

    /// Says that clients cannot be served any more, since the store failed of this.
    pub fn store_failed(&self, message: String) {
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(message);
        self.set_ready(false);
    }

    fn answer(&self) -> (StatusCode, Json<Value>) {
        let failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let hindrance = match (failure, self.ready.load(Ordering::Relaxed)) {
            (Some(message), _) => Some(("StoreFailed", message)),
            (None, false) => Some(("NotServing", "it is starting or stopping".to_owned())),
            (None, true) => (self.reachable)().err().map(|message| ("HypervisorUnreachable", message)),
        };
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

/// Answers until cancelled.
pub async fn serve(listener: TcpListener, health: Arc<Health>, cancel: CancellationToken) {
    let router = Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(|State(health): State<Arc<Health>>| async move { health.answer() }))
        .with_state(health);
    if let Err(error) = axum::serve(listener, router).with_graceful_shutdown(cancel.cancelled_owned()).await {
        tracing::error!(%error, "health endpoints");
    }
}

/// Binds the socket, naming the address when it cannot be had.
pub async fn bind(listen: SocketAddr) -> std::io::Result<TcpListener> {
    TcpListener::bind(listen).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readiness_says_what_is_in_its_way() {
        let away = Arc::new(AtomicBool::new(false));
        let gone = Arc::clone(&away);
        let reachable = move || if gone.load(Ordering::Relaxed) { Err("no such socket".into()) } else { Ok(()) };
        let health = Health::new(false, "libvirt".into(), Box::new(reachable));
        let answer = || {
            let (status, Json(body)) = health.answer();
            (status.as_u16(), body["ready"].clone(), body["reason"].clone(), body["message"].clone())
        };
        assert_eq!((answer().0, answer().2), (503, "NotServing".into()));
        health.set_ready(true);
        assert_eq!(answer(), (200, true.into(), Value::Null, Value::Null));
        away.store(true, Ordering::Relaxed);
        assert_eq!(answer(), (503, false.into(), "HypervisorUnreachable".into(), "no such socket".into()));
        away.store(false, Ordering::Relaxed);
        assert_eq!(answer().0, 200);
        health.store_failed("Input/output error".into());
        assert_eq!(answer(), (503, false.into(), "StoreFailed".into(), "Input/output error".into()));
    }
}
