//! `/healthz` and `/readyz`: whether the daemon lives, and whether it can serve.

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
}

impl Health {
    /// Not ready yet.
    pub fn new(simulated: bool, hypervisor: String) -> Arc<Self> {
        Arc::new(Health { ready: AtomicBool::new(false), failure: Mutex::default(), simulated, hypervisor })
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
        let ready = self.ready.load(Ordering::Relaxed);
        let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        let mut body = json!({ "ready": ready, "simulated": self.simulated, "hypervisor": self.hypervisor });
        if let Some(message) = &*self.failure.lock().unwrap_or_else(PoisonError::into_inner) {
            body["reason"] = "StoreFailed".into();
            body["message"] = message.as_str().into();
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
    fn a_store_that_failed_is_said() {
        let health = Health::new(true, "a simulation".into());
        health.set_ready(true);
        assert_eq!(health.answer().0, StatusCode::OK);
        health.store_failed("Input/output error".into());
        let (status, Json(body)) = health.answer();
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(
            (&body["ready"], &body["reason"], &body["message"]),
            (&false.into(), &"StoreFailed".into(), &"Input/output error".into())
        );
    }
}
