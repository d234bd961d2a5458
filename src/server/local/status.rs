//! Errors as Kubernetes writes them.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::api::objects::{Cause, ObjectError};
use crate::api::{ApiError, LoginError};
use crate::manifest::{Fault, FaultKind};
use crate::model::ObjectRef;
use crate::store::StoreError;
use crate::store::records::RecordError;

/// A `Status` that says why not.
#[derive(Debug)]
pub(super) struct Status {
    code: StatusCode,
    reason: &'static str,
    message: String,
    object: Option<Box<ObjectRef>>,
    causes: Vec<Cause>,
}

impl Status {
    pub(super) fn new(code: StatusCode, reason: &'static str, message: impl Into<String>) -> Self {
        Status { code, reason, message: message.into(), object: None, causes: vec![] }
    }

    pub(super) fn bad_request(message: impl Into<String>) -> Self {
        Status::new(StatusCode::BAD_REQUEST, "BadRequest", message)
    }

    pub(super) fn not_found(message: impl Into<String>) -> Self {
        Status::new(StatusCode::NOT_FOUND, "NotFound", message)
    }

    /// Values of a body that cannot be.
    pub(super) fn invalid(message: impl Into<String>, faults: Vec<Fault>) -> Self {
        let cause = |Fault { field, message, kind }| Cause { reason: FaultKind::reason(kind), message, field };
        let causes = faults.into_iter().map(cause).collect();
        Status { causes, ..Status::new(StatusCode::UNPROCESSABLE_ENTITY, "Invalid", message) }
    }

    /// A watch's last word.
    pub(super) fn of_watch(error: &RecordError) -> Value {
        match error {
            RecordError::Store(StoreError::Compacted { .. }) => {
                Status::new(StatusCode::GONE, "Expired", error.to_string()).body()
            }
            RecordError::Store(_) | RecordError::Unreadable { .. } => {
                Status::new(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", crate::error_chain(error)).body()
            }
        }
    }

    pub(super) fn body(&self) -> Value {
        let mut details = json!({});
        if let Some(object) = &self.object {
            details = json!({ "name": object.name, "group": "anweddol.io", "kind": object.kind.plural() });
        }
        if !self.causes.is_empty() {
            let causes = self.causes.iter();
            details["causes"] = causes
                .map(|cause| json!({ "reason": cause.reason, "field": cause.field, "message": cause.message }))
                .collect();
        }
        json!({
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
            "details": details,
            "code": self.code.as_u16(),
        })
    }
}

impl From<ObjectError> for Status {
    fn from(error: ObjectError) -> Self {
        let (code, reason) = error.status();
        let code = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let object = error.object().cloned().map(Box::new);
        Status { object, causes: error.causes(), ..Status::new(code, reason, crate::error_chain(&error)) }
    }
}

impl From<ApiError> for Status {
    fn from(error: ApiError) -> Self {
        let message = crate::error_chain(&error);
        let (code, reason) = match error {
            ApiError::Login(LoginError::NotFound { .. }) => (StatusCode::NOT_FOUND, "NotFound"),
            ApiError::Login(_) => (StatusCode::CONFLICT, "Conflict"),
            _ => (StatusCode::INTERNAL_SERVER_ERROR, "InternalError"),
        };
        Status::new(code, reason, message)
    }
}

impl IntoResponse for Status {
    fn into_response(self) -> Response {
        (self.code, Json(self.body())).into_response()
    }
}
