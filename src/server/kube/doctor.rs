//! The doctor's path: the daemon looks with its own eyes, since nobody else can open its store. It is no object, and there
//! is no role for it: only the local door leads there.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};

use super::status::Status;
use crate::api::{Cure, Doctor};
use crate::error_chain;
use crate::plan::drift::Report;

type Answer = Result<Json<Report>, Status>;

pub(in crate::server) fn router(doctor: Arc<dyn Doctor>) -> Router {
    let look = |State(doctor): State<Arc<dyn Doctor>>| examine(doctor, Cure::None);
    let cure = |State(doctor): State<Arc<dyn Doctor>>| examine(doctor, Cure::Remove);
    Router::new().route("/doctor", get(look).post(cure)).with_state(doctor)
}

async fn examine(doctor: Arc<dyn Doctor>, cure: Cure) -> Answer {
    let failed = |why: String| Status::new(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", why);
    match tokio::task::spawn_blocking(move || doctor.examine(cure)).await {
        Ok(Ok(report)) => Ok(Json(report)),
        Ok(Err(error)) => Err(failed(error_chain(&error))),
        Err(panic) => Err(failed(error_chain(&panic))),
    }
}
