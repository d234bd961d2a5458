//! What an HTTP request asks in the protocol's words. Pure: a method, a path and a body in, a request out.

use hyper::{Method, StatusCode};
use serde_json::{Map, Value};

use crate::wire::{AccessTokens, Malformed, Message, Request, Response, STAT, sanitize};

/// The verb of `GET /`, as the original's handlers see it.
pub(super) const HOME: &str = "";

/// Why a request is not handled, and what its client is told.
#[derive(Debug, PartialEq, thiserror::Error)]
pub(super) enum Refused {
    /// It breaks the protocol's rules.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// Whoever only looks changes nothing.
    #[error("only '/' and '/stat' can be read: everything else needs the method POST")]
    NeedsPost,
    /// A method that the original has none of.
    #[error("the method is none of GET, HEAD and POST")]
    Method,
    /// Its body is too long.
    #[error("the body is longer than {limit} bytes")]
    TooLong {
        /// The most.
        limit: usize,
    },
    /// Its address asks too often.
    #[error("Too many requests")]
    TooOften,
    /// It did not come in time.
    #[error("the request took longer than {seconds} s")]
    TooSlow {
        /// The most.
        seconds: u64,
    },
}

impl Refused {
    /// Clients of the original take every status but 200 for a broken server, so what that one answers has it too.
    pub(super) fn status(&self) -> StatusCode {
        match self {
            Refused::Malformed(_) | Refused::TooOften => StatusCode::OK,
            Refused::NeedsPost => StatusCode::METHOD_NOT_ALLOWED,
            Refused::Method => StatusCode::NOT_IMPLEMENTED,
            Refused::TooLong { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Refused::TooSlow { .. } => StatusCode::REQUEST_TIMEOUT,
        }
    }

    /// Of a malformed request nobody is told what is wrong with it, as on the wire.
    pub(super) fn response(&self) -> Response {
        match self {
            Refused::Malformed(_) => Response::refused(Message::BadRequest, None),
            Refused::TooOften => Response::refused(Message::RefusedRequest, Some(&self.to_string())),
            Refused::NeedsPost | Refused::Method | Refused::TooLong { .. } | Refused::TooSlow { .. } => {
                Response::refused(Message::BadRequest, Some(&self.to_string()))
            }
        }
    }
}

/// Whether requests of this method have a body that counts.
pub(super) fn has_body(method: &Method) -> Result<bool, Refused> {
    match *method {
        Method::POST => Ok(true),
        Method::GET | Method::HEAD => Ok(false),
        _ => Err(Refused::Method),
    }
}

/// Reads a request: its path is the verb, in letters of any case, its body the parameters.
pub(super) fn read(method: &Method, path: &str, body: &[u8], access: AccessTokens) -> Result<Request, Refused> {
    let parameters = if has_body(method)? { parameters(body)? } else { Map::new().into() };
    let verb = path.strip_prefix('/').unwrap_or(path).to_ascii_uppercase();
    if verb == HOME {
        return Ok(Request::bare(HOME));
    }
    let object = Map::from_iter([("verb".to_owned(), Value::from(verb)), ("parameters".to_owned(), parameters)]);
    let request = sanitize::request(object, access)?;
    if *method != Method::POST && request.verb != STAT {
        return Err(Refused::NeedsPost);
    }
    Ok(request)
}

/// Nothing is an object with nothing in it.
fn parameters(body: &[u8]) -> Result<Value, Malformed> {
    if body.is_empty() {
        return Ok(Map::new().into());
    }
    let text = std::str::from_utf8(body).map_err(|_| Malformed::NotText)?;
    serde_json::from_str(text).map_err(|_| Malformed::NotJson)
}
