//! Errors as Kubernetes writes them.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::api::objects::ObjectError;
use crate::api::{ApiError, LoginError};
use crate::manifest::Fault;
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
    causes: Vec<Fault>,
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
    pub(super) fn invalid(message: impl Into<String>, causes: Vec<Fault>) -> Self {
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
                .map(|fault| json!({ "reason": "FieldValueInvalid", "field": fault.field, "message": fault.message }))
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
        use StatusCode as Code;
        let message = crate::error_chain(&error);
        let about = |code, reason, object| Status {
            object: Some(Box::new(object)),
            ..Status::new(code, reason, message.clone())
        };
        match error {
            ObjectError::NotFound { object } => about(Code::NOT_FOUND, "NotFound", object),
            ObjectError::Exists { object } => about(Code::CONFLICT, "AlreadyExists", object),
            ObjectError::Conflict { object, .. } => about(Code::CONFLICT, "Conflict", object),
            ObjectError::Deleting { object } => about(Code::CONFLICT, "Conflict", object),
            ObjectError::Managed { object, .. } => about(Code::CONFLICT, "Conflict", object),
            ObjectError::Invalid { object, faults } => {
                Status { causes: faults, ..about(Code::UNPROCESSABLE_ENTITY, "Invalid", object) }
            }
            ObjectError::Birth { object, .. } => about(Code::SERVICE_UNAVAILABLE, "ServiceUnavailable", object),
            ObjectError::Record(RecordError::Store(StoreError::Unavailable { .. })) => {
                Status::new(Code::SERVICE_UNAVAILABLE, "ServiceUnavailable", message)
            }
            ObjectError::Record(_) | ObjectError::Task(_) => {
                Status::new(Code::INTERNAL_SERVER_ERROR, "InternalError", message)
            }
        }
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
