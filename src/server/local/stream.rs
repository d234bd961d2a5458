//! Watches as lines of JSON.

use axum::body::Body;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use futures::StreamExt;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::status::Status;
use crate::api::objects::{Changes, WatchEvent};

/// What is there first, then the changes; ends when the daemon stops, or with a line that says why.
///
/// A reader holds up nobody: lines are made as it takes them, and one that is slower than what the store remembers
/// gets `410 Expired` (`a_watch_from_a_forgotten_revision_is_told_to_list_again`).
pub(super) fn watch(first: Vec<Value>, changes: Changes, cancel: CancellationToken) -> Response {
    let first = futures::stream::iter(first.into_iter().map(|object| line("ADDED", &object)));
    let changes = changes.map(|change| match change {
        Ok(WatchEvent::Added(object)) => line("ADDED", &object),
        Ok(WatchEvent::Modified(object)) => line("MODIFIED", &object),
        Ok(WatchEvent::Deleted(object)) => line("DELETED", &object),
        Err(error) => line("ERROR", &Status::of_watch(&error)),
    });
    let lines = first.chain(changes).take_until(cancel.cancelled_owned());
    let body = Body::from_stream(lines.map(Ok::<_, std::convert::Infallible>));
    ([(CONTENT_TYPE, "application/json")], body).into_response()
}

fn line(kind: &str, object: &Value) -> String {
    let mut line = json!({ "type": kind, "object": object }).to_string();
    line.push('\n');
    line
}
