//! `/healthz` and `/readyz`: whether the daemon lives, and whether it can serve.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

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
    simulated: bool,
    hypervisor: String,
}

impl Health {
    /// Not ready yet.
    pub fn new(simulated: bool, hypervisor: String) -> Arc<Self> {
        Arc::new(Health { ready: AtomicBool::new(false), simulated, hypervisor })
    }

    /// Says whether clients are served.
    pub fn set_ready(&self, ready: bool) {
        self.ready.store(ready, Ordering::Relaxed);
    }

    fn answer(&self) -> (StatusCode, Json<Value>) {
        let ready = self.ready.load(Ordering::Relaxed);
        let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        let body = json!({ "ready": ready, "simulated": self.simulated, "hypervisor": self.hypervisor });
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
