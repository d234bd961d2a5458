//! Errors as Kubernetes writes them.

use axum::Json;
use axum::http::StatusCode;
use axum::http::header::RETRY_AFTER;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::api::access::AccessError;
use crate::api::access_tokens::AccessTokenError;
use crate::api::objects::{Cause, ObjectError};
use crate::api::plain::{PlainError, PlainRef};
use crate::api::{ApiError, LoginError};
use crate::manifest::Fault;
use crate::manifest::patch::PatchError;
use crate::manifest::selector::ParseSelectorError;
use crate::model::{GROUP, ObjectRef};
use crate::store::StoreError;
use crate::store::records::RecordError;

/// A `Status` that says why not.
#[derive(Debug)]
pub(super) struct Status {
    code: StatusCode,
    reason: &'static str,
    message: String,
    about: Option<Box<About>>,
    causes: Vec<Cause>,
    retry_after: Option<u32>,
}

/// Which object a status is about.
#[derive(Debug)]
struct About {
    group: String,
    kind: String,
    name: String,
}

impl Status {
    pub(super) fn new(code: StatusCode, reason: &'static str, message: impl Into<String>) -> Self {
        Status { code, reason, message: message.into(), about: None, causes: vec![], retry_after: None }
    }

    pub(super) fn bad_request(message: impl Into<String>) -> Self {
        Status::new(StatusCode::BAD_REQUEST, "BadRequest", message)
    }

    pub(super) fn not_found(message: impl Into<String>) -> Self {
        Status::new(StatusCode::NOT_FOUND, "NotFound", message)
    }

    pub(super) fn no_verb(message: impl Into<String>) -> Self {
        Status::new(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", message)
    }

    pub(super) fn forbidden(message: impl Into<String>) -> Self {
        Status::new(StatusCode::FORBIDDEN, "Forbidden", message)
    }

    pub(super) fn unauthorized() -> Self {
        Status::new(StatusCode::UNAUTHORIZED, "Unauthorized", "Unauthorized")
    }

    pub(super) fn too_large(message: impl Into<String>) -> Self {
        Status::new(StatusCode::PAYLOAD_TOO_LARGE, "RequestEntityTooLarge", message)
    }

    pub(super) fn media_type(message: impl Into<String>) -> Self {
        Status::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "UnsupportedMediaType", message)
    }

    /// Too much at once: come again after a second.
    pub(super) fn too_many(message: impl Into<String>) -> Self {
        Status { retry_after: Some(1), ..Status::new(StatusCode::TOO_MANY_REQUESTS, "TooManyRequests", message) }
    }

    /// A revision that nobody remembers.
    pub(super) fn expired(message: impl Into<String>) -> Self {
        Status::new(StatusCode::GONE, "Expired", message)
    }

    /// Values of a body that cannot be.
    pub(super) fn invalid(message: impl Into<String>, faults: Vec<Fault>) -> Self {
        let cause = |Fault { field, message, kind }: Fault| Cause { reason: kind.reason(), message, field };
        let causes = faults.into_iter().map(cause).collect();
        Status { causes, ..Status::new(StatusCode::UNPROCESSABLE_ENTITY, "Invalid", message) }
    }

    /// A record that cannot be read, or a store that does not answer.
    fn internal(error: &(dyn std::error::Error + 'static)) -> Self {
        Status::new(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", crate::error_chain(error))
    }

    /// As HTTP numbers it.
    pub(super) fn code(&self) -> u16 {
        self.code.as_u16()
    }

    fn about(self, group: &str, kind: &str, name: &str) -> Self {
        let about = About { group: group.into(), kind: kind.into(), name: name.into() };
        Status { about: Some(Box::new(about)), ..self }
    }

    fn of_plain(self, object: &PlainRef) -> Self {
        self.about(object.kind.group(), object.kind.plural(), &object.name)
    }

    pub(super) fn body(&self) -> Value {
        let mut details = json!({});
        if let Some(about) = &self.about {
            details = json!({ "name": about.name, "group": about.group, "kind": about.kind });
        }
        if !self.causes.is_empty() {
            let cause =
                |cause: &Cause| json!({ "reason": cause.reason, "field": cause.field, "message": cause.message });
            details["causes"] = self.causes.iter().map(cause).collect();
        }
        if let Some(seconds) = self.retry_after {
            details["retryAfterSeconds"] = seconds.into();
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

impl From<&RecordError> for Status {
    fn from(error: &RecordError) -> Self {
        match error {
            RecordError::Store(StoreError::Compacted { .. }) => Status::expired(error.to_string()),
            RecordError::Store(StoreError::Unavailable { .. }) => {
                Status::new(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", error.to_string())
            }
            // Larger than a record may be: nothing else of a request reaches the store unchecked.
            RecordError::Store(StoreError::Invalid { reason }) => Status::too_large(reason.clone()),
            RecordError::Store(StoreError::Unknown { .. })
            | RecordError::Unreadable { .. }
            | RecordError::Unopened { .. } => Status::internal(error),
        }
    }
}

impl From<RecordError> for Status {
    fn from(error: RecordError) -> Self {
        Status::from(&error)
    }
}

impl From<ObjectError> for Status {
    fn from(error: ObjectError) -> Self {
        let (code, reason) = error.status();
        let code = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        // What clients show people most often is said in the words that they know.
        let message = match &error {
            ObjectError::NotFound { object } => format!("{} not found", quoted(object)),
            ObjectError::Exists { object } => format!("{} already exists", quoted(object)),
            other => crate::error_chain(other),
        };
        let mut status = Status { causes: error.causes(), ..Status::new(code, reason, message) };
        if let Some(object) = error.object() {
            // Of what is invalid Kubernetes names the kind, and of everything else the resource.
            let kind = if reason == "Invalid" { object.kind.to_string() } else { object.kind.plural().into() };
            status = status.about(GROUP, &kind, &object.name);
        }
        status
    }
}

fn quoted(object: &ObjectRef) -> String {
    format!("{}.{GROUP} \"{}\"", object.kind.plural(), object.name)
}

impl From<PlainError> for Status {
    fn from(error: PlainError) -> Self {
        let message = crate::error_chain(&error);
        match error {
            PlainError::NotFound(object) => Status::not_found(message).of_plain(&object),
            PlainError::Exists(object) => Status::new(StatusCode::CONFLICT, "AlreadyExists", message).of_plain(&object),
            PlainError::Conflict(object) => Status::new(StatusCode::CONFLICT, "Conflict", message).of_plain(&object),
            PlainError::Invalid { field, message: why } => Status::invalid(message, vec![Fault::new(field, why)]),
            PlainError::Patch(PatchError::Malformed { .. }) => Status::bad_request(message),
            PlainError::Patch(PatchError::Failed { .. }) => {
                Status::new(StatusCode::UNPROCESSABLE_ENTITY, "Invalid", message)
            }
            PlainError::Patch(PatchError::TooLarge) => Status::too_large(message),
            PlainError::Forbidden { .. } | PlainError::TooMany { .. } => Status::forbidden(message),
            PlainError::Record(error) => Status::from(&error),
        }
    }
}

impl From<AccessError> for Status {
    fn from(error: AccessError) -> Self {
        let message = crate::error_chain(&error);
        match error {
            AccessError::Role { .. } => Status::invalid(message.clone(), vec![Fault::new("spec.role", message)]),
            AccessError::Name(_) => Status::invalid(message.clone(), vec![Fault::new("metadata.name", message)]),
            AccessError::Exists { .. } => Status::new(StatusCode::CONFLICT, "AlreadyExists", message),
            AccessError::NotFound { .. } => Status::not_found(message),
            AccessError::TooMany => Status::forbidden(message),
            AccessError::Record(error) => Status::from(&error),
        }
    }
}

impl From<AccessTokenError> for Status {
    fn from(error: AccessTokenError) -> Self {
        let message = crate::error_chain(&error);
        match error {
            AccessTokenError::Name(_) => Status::invalid(message.clone(), vec![Fault::new("metadata.name", message)]),
            AccessTokenError::Sha256 => Status::invalid(message.clone(), vec![Fault::new("spec.sha256", message)]),
            AccessTokenError::Exists { .. } | AccessTokenError::Same { .. } => {
                Status::new(StatusCode::CONFLICT, "AlreadyExists", message)
            }
            AccessTokenError::NotFound { .. } => Status::not_found(message),
            AccessTokenError::TooMany => Status::forbidden(message),
            AccessTokenError::Record(error) => Status::from(&error),
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

impl From<ParseSelectorError> for Status {
    fn from(error: ParseSelectorError) -> Self {
        Status::bad_request(error.to_string())
    }
}

impl IntoResponse for Status {
    fn into_response(self) -> Response {
        let mut response = (self.code, Json(self.body())).into_response();
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(RETRY_AFTER, seconds.into());
        }
        response
    }
}
