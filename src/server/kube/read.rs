//! Getting, listing and watching.

use std::sync::Arc;

use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;

use super::limits::Place;
use super::negotiate::{self, Form};
use super::status::Status;
use super::table::Telling;
use super::target::{Part, Resource};
use super::watch::Watch;
use super::{Answer, Call, Kube, told};
use crate::api::objects::{Changes, Items, Listed};
use crate::api::plain::PlainRef;
use crate::manifest::crd;
use crate::manifest::selector::Filter;
use crate::model::ObjectRef;

/// Entries of the log in one answer. Whoever wants more asks again, from the next number on.
const MOST_EVENTS: usize = 10_000;

impl Call {
    pub(super) fn namespace(&self) -> &str {
        self.objects.namespace.as_deref().unwrap_or_default()
    }

    pub(super) fn name(&self) -> &str {
        self.objects.name.as_deref().unwrap_or_default()
    }

    pub(super) fn ours(&self, kind: crate::model::Kind) -> ObjectRef {
        ObjectRef { kind, namespace: self.namespace().into(), name: self.name().into() }
    }

    pub(super) fn plain(&self, kind: crate::api::plain::PlainKind) -> PlainRef {
        PlainRef { kind, namespace: self.namespace().into(), name: self.name().into() }
    }

    pub(super) fn telling(&self) -> Result<Telling, Status> {
        let form = negotiate::form(&self.headers)?;
        // A scale has no table of its own.
        let form = if self.objects.part == Part::Scale { Form::Whole } else { form };
        Ok(Telling { resource: self.objects.resource, form, include: self.query.include })
    }

    pub(super) fn filter(&self) -> Result<Filter, Status> {
        let fields = match self.objects.resource {
            Resource::Ours(kind) => crd::selectable(kind),
            Resource::Events(face) => face.selectable(),
            Resource::Plain(_) => &["type", "status.phase"],
            Resource::Review(_) | Resource::Log | Resource::Tokens | Resource::AccessTokens => &[],
        };
        self.query.filter(fields)
    }
}

impl Kube {
    pub(super) fn get(&self, call: &Call) -> Answer {
        let telling = call.telling()?;
        let object = match call.objects.resource {
            Resource::Ours(kind) if call.objects.part == Part::Scale => self.objects.scale(&call.ours(kind))?,
            Resource::Ours(kind) => self.objects.get(&call.ours(kind))?,
            Resource::Plain(kind) => self.plain.get(&call.plain(kind))?,
            Resource::Events(face) => self.events.get(face, call.namespace(), call.name())?,
            Resource::Review(_) | Resource::Log | Resource::Tokens | Resource::AccessTokens => {
                return Err(Status::no_verb("there is nothing to get by name"));
            }
        };
        Ok(told(StatusCode::OK, telling.one(object, (self.clock)())))
    }

    pub(super) fn listed(&self, call: &Call, filter: Filter) -> Result<Listed, Status> {
        let namespace = call.objects.namespace.as_deref();
        match call.objects.resource {
            Resource::Ours(kind) => Ok(self.objects.list(kind, namespace, filter)?),
            Resource::Plain(kind) => Ok(self.plain.list(kind, namespace, filter)?),
            Resource::Events(face) => Ok(self.events.list(face, namespace.map(str::to_owned), filter)?),
            Resource::Log => Ok(self.objects.events(call.query.from, MOST_EVENTS)?),
            Resource::Tokens => self.tokens(),
            Resource::AccessTokens => self.access_tokens(),
            Resource::Review(_) => Err(Status::no_verb("there is nothing to list")),
        }
    }

    fn changes(&self, call: &Call, filter: Filter, after: u64) -> Result<Changes, Status> {
        let namespace = call.objects.namespace.as_deref();
        match call.objects.resource {
            Resource::Ours(kind) => Ok(self.objects.watch(kind, namespace, filter, after)),
            Resource::Plain(kind) => Ok(self.plain.watch(kind, namespace, filter, after)),
            Resource::Events(face) => Ok(self.events.watch(face, namespace.map(str::to_owned), filter, after)),
            Resource::Log => Ok(self.objects.watch_events(after)),
            Resource::Tokens | Resource::AccessTokens | Resource::Review(_) => {
                Err(Status::no_verb("there is nothing to watch"))
            }
        }
    }

    pub(super) async fn list(&self, call: &Call) -> Answer {
        let telling = call.telling()?;
        let Listed { items, revision } = self.listed(call, call.filter()?)?;
        match (call.query.revision, call.query.revision_match.as_deref()) {
            // Another life of the store: whoever asks for it has an old picture.
            (Some(asked), _) if asked > revision => {
                return Err(Status::expired(format!("revision {asked} is not there yet: the store is at {revision}")));
            }
            (Some(asked), Some("Exact")) if asked != revision => {
                return Err(Status::expired(format!(
                    "revision {asked} is over: the store is at {revision}, and keeps no older lists"
                )));
            }
            (None, Some(_)) => {
                return Err(Status::invalid("resourceVersionMatch: write resourceVersion with it", vec![]));
            }
            _ => {}
        }
        let now = (self.clock)();
        let mut list = telling.list(revision);
        for item in items {
            pause().await;
            if let Some(object) = item? {
                list.add(&telling.item(object, now));
            }
        }
        Ok(([(CONTENT_TYPE, "application/json")], list.end()).into_response())
    }

    /// The names of what is selected, and as of which revision.
    pub(super) async fn names(&self, call: &Call) -> Result<(Vec<String>, u64), Status> {
        let Listed { items, revision } = self.listed(call, call.filter()?)?;
        let mut names = Vec::new();
        for item in items {
            pause().await;
            names.extend(item?.and_then(|object| object["metadata"]["name"].as_str().map(str::to_owned)));
        }
        Ok((names, revision))
    }

    /// Without a revision, or from 0 on, a watch begins with what is there.
    pub(super) fn watch(&self, call: &Call, place: Place) -> Answer {
        let (telling, filter) = (call.telling()?, call.filter()?);
        let begin = |first: Items, mark: Option<u64>, changes: Changes| {
            let (clock, cancel) = (Arc::clone(&self.clock), self.cancel.clone());
            let timeout = call.query.timeout;
            Watch { telling, first, mark, changes, timeout, clock, cancel, place: Some(place) }.answer()
        };
        let after = call.query.revision.filter(|revision| *revision > 0);
        let initial = match call.query.initial {
            Some(initial) => initial,
            None => after.is_none(),
        };
        if let Some(after) = after.filter(|_| !initial) {
            return Ok(begin(nothing(), None, self.changes(call, filter, after)?));
        }
        let Listed { items, revision } = self.listed(call, filter.clone())?;
        if let Some(after) = after.filter(|after| *after > revision) {
            // It tells so itself: of a revision that is not there yet.
            return Ok(begin(nothing(), None, self.changes(call, filter, after)?));
        }
        let mark = call.query.initial.filter(|initial| *initial).map(|_| revision);
        let items = if initial { items } else { nothing() };
        Ok(begin(items, mark, self.changes(call, filter, revision)?))
    }
}

fn nothing() -> Items {
    Box::new(std::iter::empty())
}

/// Lets everybody else have their turn, now and then: to make thousands of objects takes as long as to serve hundreds of
/// connections (`a_long_list_lets_others_have_their_turn`).
pub(super) async fn pause() {
    tokio::task::coop::consume_budget().await;
}
