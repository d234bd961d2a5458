//! Watches as lines of JSON.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::Body;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use futures::future::{Either, ready};
use futures::{StreamExt, stream};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::limits::Place;
use super::read::pause;
use super::status::Status;
use super::table::Telling;
use crate::api::objects::{Changes, Items, WatchEvent};
use crate::plan::clock::Clock;

/// How long a watch lives whose client does not say.
const LIFE: Duration = Duration::from_secs(1800);

/// A watch that begins.
pub(super) struct Watch {
    /// How objects are told.
    pub(super) telling: Telling,
    /// What is there already.
    pub(super) first: Items,
    /// Says that this was all, as of a revision.
    pub(super) mark: Option<u64>,
    /// What comes.
    pub(super) changes: Changes,
    /// When it ends.
    pub(super) timeout: Option<u64>,
    /// For ages in tables.
    pub(super) clock: Clock,
    /// Ends it when the daemon stops.
    pub(super) cancel: CancellationToken,
    /// Held until it ends.
    pub(super) place: Option<Place>,
}

impl Watch {
    /// What is there first, then the changes; ends by time, when the daemon stops, or with a line that says why
    /// (`a_record_that_cannot_be_read_fails_a_list_as_a_whole_and_is_the_last_line_of_a_watch`).
    ///
    /// A reader holds up nobody and costs no memory: lines are made as it takes them, and one that is slower than what
    /// the store remembers gets `410 Expired` (`a_watch_that_nobody_reads_holds_up_nothing_and_ends_with_expired`).
    pub(super) fn answer(self) -> Response {
        let Watch { telling, first, mark, changes, timeout, clock, cancel, place } = self;
        let first = first.map(|item| item.transpose().map(|object| object.map(WatchEvent::Added)));
        let (now, mut named) = (clock, false);
        let mark = stream::iter(mark.map(|revision| line("BOOKMARK", &telling.bookmark(revision))));
        let mut told = move |change| {
            // Dropped with the stream.
            let _ = &place;
            let (kind, object) = match change {
                Ok(WatchEvent::Added(object)) => ("ADDED", object),
                Ok(WatchEvent::Modified(object)) => ("MODIFIED", object),
                Ok(WatchEvent::Deleted(object)) => ("DELETED", object),
                Err(error) => return line("ERROR", &Status::from(&error).body()),
            };
            let text = line(kind, &telling.line(object, !named, now()));
            named = true;
            text
        };
        // The mark stands between the two, and is no change: it is told by itself.
        let marked = stream::iter(first).map(Either::Left).chain(mark.map(Either::Right));
        let all = marked.chain(changes.map(|change| Either::Left(Some(change))));
        let lines = all.scan(false, move |failed, next| {
            let line = (!*failed).then(|| match next {
                Either::Left(change) => {
                    *failed = matches!(change, Some(Err(_)));
                    change.map(&mut told)
                }
                Either::Right(line) => Some(line),
            });
            async {
                pause().await;
                line
            }
        });
        let life = timeout.map_or(LIFE, Duration::from_secs);
        let end = async move {
            tokio::select! {
                () = cancel.cancelled() => {}
                () = tokio::time::sleep(life) => {}
            }
        };
        let body = Body::from_stream(lines.filter_map(ready).take_until(Box::pin(end)).map(Ok::<_, Infallible>));
        ([(CONTENT_TYPE, "application/json")], body).into_response()
    }
}

/// Words of ours need no quotes of theirs.
fn line(kind: &'static str, object: &Value) -> String {
    format!("{{\"type\":\"{kind}\",\"object\":{object}}}\n")
}
