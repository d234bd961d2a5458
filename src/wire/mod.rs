//! The wire protocol.
use serde_json::{Map, Value};

/// A well-formed request.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// `^[A-Z]+$`.
    pub verb: String,
    /// What goes with it.
    pub parameters: Map<String, Value>,
}

/// A response.
#[derive(Clone, Debug, PartialEq)]
pub struct Response {
    /// Whether it was done.
    pub success: bool,
    /// One of the documented messages, perhaps with a reason in parentheses.
    pub message: String,
    /// What there is to say.
    pub data: Map<String, Value>,
}
