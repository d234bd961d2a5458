//! What happened, as Kubernetes tells it: the daemon's own log and the events that clients tell, as one.
//!
//! The log says what happened to which object by name; here each of its entries is an Event in the form of `v1`, and in
//! the form of `events.k8s.io/v1` for those who ask for that. Nothing is stored for it: an entry's name, UID and
//! revision follow from the entry.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Value, json};
use uuid::Uuid;

use super::objects::read::{changes, selected};
use super::objects::{Changes, Listed};
use super::plain::record;
use super::plain::{PlainError, PlainKind, PlainRef};
use crate::manifest::selector::Filter;
use crate::model::{API_VERSION, DEFAULT_NAMESPACE, Event, EventKind, ObjectRef};
use crate::store::records::{self, EVENTS, FOREIGN_EVENTS, RecordError};
use crate::store::{Change, Kv, Store};

/// What both kinds of keys begin with.
const BOTH: &str = "events";
/// Who tells the log.
const COMPONENT: &str = "anweddol";

/// In which form events are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Face {
    /// `v1`.
    Core,
    /// `events.k8s.io/v1`.
    Events,
}

impl Face {
    /// The fields, besides name and namespace, that events can be selected by.
    pub fn selectable(self) -> &'static [&'static str] {
        match self {
            Face::Core => &[
                "involvedObject.kind",
                "involvedObject.namespace",
                "involvedObject.name",
                "involvedObject.uid",
                "involvedObject.apiVersion",
                "involvedObject.resourceVersion",
                "involvedObject.fieldPath",
                "reason",
                "reportingComponent",
                "type",
            ],
            Face::Events => &[
                "regarding.kind",
                "regarding.namespace",
                "regarding.name",
                "regarding.uid",
                "regarding.apiVersion",
                "reason",
                "reportingController",
                "type",
            ],
        }
    }

    /// An event of the form of `v1` in this form.
    pub fn of_core(self, event: Value) -> Value {
        match self {
            Face::Core => event,
            Face::Events => translated(event, &NAMES, "events.k8s.io/v1"),
        }
    }

    /// An event in this form, as it is stored: in the form of `v1`.
    pub fn to_core(self, event: Value) -> Value {
        match self {
            Face::Core => event,
            Face::Events => translated(event, &NAMES.map(|(core, name)| (name, core)), "v1"),
        }
    }
}

/// What the two forms call the same fields.
const NAMES: [(&str, &str); 7] = [
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
    ("reportingComponent", "reportingController"),
];

fn translated(mut event: Value, names: &[(&str, &str)], version: &str) -> Value {
    if let Value::Object(fields) = &mut event {
        for (from, to) in names {
            if let Some(value) = fields.shift_remove(*from) {
                fields.insert((*to).into(), value);
            }
        }
        fields.insert("apiVersion".into(), version.into());
    }
    event
}

/// Events, to read.
pub struct Events {
    store: Arc<dyn Store>,
}

impl Events {
    /// Those of a store.
    pub fn new(store: Arc<dyn Store>) -> Self {
        Events { store }
    }

    /// Those that are meant, in a namespace or in all of them.
    pub fn list(&self, face: Face, namespace: Option<String>, filter: Filter) -> Result<Listed, RecordError> {
        let (kvs, revision) = self.store.list(BOTH)?;
        let (store, mut known) = (Arc::clone(&self.store), HashMap::new());
        let item = move |kv: Kv| {
            let event = shown(&*store, &mut known, &kv)?.map(|event| face.of_core(event));
            Ok(event.filter(|event| within(event, namespace.as_deref()) && filter.takes(event)))
        };
        Ok(Listed { items: Box::new(kvs.into_iter().map(item)), revision })
    }

    /// Those that are meant, as they happen. That the log forgets old ones is no change.
    pub fn watch(&self, face: Face, namespace: Option<String>, filter: Filter, after: u64) -> Changes {
        let store = Arc::clone(&self.store);
        changes(&*self.store, BOTH, after, move |change, rev| {
            if matches!(change, Change::Delete { prev } if prev.key.starts_with(EVENTS)) {
                return Ok(None);
            }
            selected(change, rev, |kv| {
                let event = shown(&*store, &mut HashMap::new(), kv)?.map(|event| face.of_core(event));
                Ok(event.filter(|event| within(event, namespace.as_deref()) && filter.takes(event)))
            })
        })
    }

    /// One of them.
    pub fn get(&self, face: Face, namespace: &str, name: &str) -> Result<Value, PlainError> {
        let object = PlainRef { kind: PlainKind::Event, namespace: namespace.into(), name: name.into() };
        let number = name.rsplit_once('.').and_then(|(_, hex)| u64::from_str_radix(hex, 16).ok());
        let keys =
            [number.map(|number| format!("{EVENTS}{number:020}")), Some(format!("{FOREIGN_EVENTS}{namespace}/{name}"))];
        for key in keys.into_iter().flatten() {
            if let Some(kv) = self.store.get(&key)?.0
                && let Some(event) = shown(&*self.store, &mut HashMap::new(), &kv)?
                && event["metadata"]["name"] == name
                && within(&event, Some(namespace))
            {
                return Ok(face.of_core(event));
            }
        }
        Err(PlainError::NotFound(object))
    }

    /// Whether an event is of the log: nobody can change it.
    pub fn ours(&self, namespace: &str, name: &str) -> Result<bool, PlainError> {
        match self.get(Face::Core, namespace, name) {
            Ok(event) => Ok(event["reportingComponent"] == COMPONENT && event["reportingInstance"] == "log"),
            Err(PlainError::NotFound(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

fn within(event: &Value, namespace: Option<&str>) -> bool {
    namespace.is_none_or(|namespace| event["metadata"]["namespace"] == namespace)
}

/// Of an object that is there: its UID, and since when.
type Known = HashMap<ObjectRef, Option<(String, Timestamp)>>;

fn shown(store: &dyn Store, known: &mut Known, kv: &Kv) -> Result<Option<Value>, RecordError> {
    if kv.key.starts_with(FOREIGN_EVENTS) {
        return Ok(Some(record::shown(PlainKind::Event, records::decode(kv)?.object, kv.mod_rev)));
    }
    let Some(number) = kv.key.strip_prefix(EVENTS).and_then(|digits| digits.parse().ok()) else { return Ok(None) };
    let event = records::decode::<Event>(kv)?.object;
    let uid = match &event.regarding {
        Some(object) => uid(store, known, object, event.at)?,
        None => None,
    };
    Ok(Some(core(&event, number, kv.mod_rev, uid)))
}

/// The UID of the object that an event was about, unless there is only a later one of its name.
fn uid(store: &dyn Store, known: &mut Known, object: &ObjectRef, at: Timestamp) -> Result<Option<String>, RecordError> {
    if !known.contains_key(object) {
        let found = match store.get(&records::key(object))?.0 {
            Some(kv) => {
                let meta = &records::decode::<Value>(&kv)?.object["metadata"];
                let since = meta["creationTimestamp"].as_str().and_then(|text| text.parse().ok());
                since.map(|since| (meta["uid"].as_str().unwrap_or_default().to_owned(), since))
            }
            None => None,
        };
        known.insert(object.clone(), found);
    }
    let found = known.get(object).cloned().flatten();
    Ok(found.filter(|(_, since)| *since <= at).map(|(uid, _)| uid))
}

/// An entry of the log as an Event. Pure.
fn core(event: &Event, number: u64, revision: u64, uid: Option<String>) -> Value {
    let (kind, namespace, name) = match &event.regarding {
        Some(object) => (object.kind.to_string(), object.namespace.as_str(), object.name.as_str()),
        None => ("Daemon".into(), DEFAULT_NAMESPACE, COMPONENT),
    };
    let at = event.at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let mut about = json!({ "kind": kind, "namespace": namespace, "name": name, "apiVersion": API_VERSION });
    if let Some(uid) = uid {
        about["uid"] = uid.into();
    }
    let message = if event.message.is_empty() { details(event) } else { event.message.clone() };
    json!({
        "kind": "Event",
        "apiVersion": "v1",
        "metadata": {
            "name": format!("{name}.{number:x}"),
            "namespace": namespace,
            "uid": Uuid::from_u128(u128::from(number)).to_string(),
            "resourceVersion": revision.to_string(),
            "creationTimestamp": at,
        },
        "involvedObject": about,
        "reason": reason(event.kind),
        "message": message,
        "type": if warns(event.kind) { "Warning" } else { "Normal" },
        "source": { "component": COMPONENT },
        "firstTimestamp": at,
        "lastTimestamp": at,
        "count": 1,
        "eventTime": event.at.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string(),
        "action": reason(event.kind),
        "reportingComponent": COMPONENT,
        "reportingInstance": "log",
    })
}

/// The particulars of an event that says nothing in words.
fn details(event: &Event) -> String {
    let detail = |(name, value): (&String, &Value)| match value {
        Value::String(text) => format!("{name}: {text}"),
        other => format!("{name}: {other}"),
    };
    event.details.iter().map(detail).collect::<Vec<_>>().join(", ")
}

/// `CREATED_CONTAINER` as `CreatedContainer`.
fn reason(kind: EventKind) -> String {
    let word = |word: &str| word[..1].to_owned() + &word[1..].to_lowercase();
    kind.name().split('_').map(word).collect()
}

fn warns(kind: EventKind) -> bool {
    match kind {
        EventKind::MalformedRequest
        | EventKind::RuntimeError
        | EventKind::UnknownVerb
        | EventKind::FailedContainer
        | EventKind::AdoptionRefused
        | EventKind::PausedContainer
        | EventKind::LostClaim
        | EventKind::FailedClaim
        | EventKind::RequeuedClaim
        | EventKind::RefusedManifest => true,
        EventKind::Client
        | EventKind::ClientClosed
        | EventKind::Connection
        | EventKind::CreatedContainer
        | EventKind::CreatedEndpointShell
        | EventKind::DestroyedContainer
        | EventKind::Request
        | EventKind::Started
        | EventKind::Stopped
        | EventKind::ReadyContainer
        | EventKind::BoundClaim
        | EventKind::Adopted
        | EventKind::ForwardAdded
        | EventKind::ForwardRemoved
        | EventKind::Expiring
        | EventKind::Expired
        | EventKind::ExtendedClaim
        | EventKind::AppliedObject
        | EventKind::DeletedObject
        | EventKind::UpdatingPool
        | EventKind::UpdatedPool
        | EventKind::ResumedContainer => false,
    }
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;

    use super::*;
    use crate::api::Sealer;
    use crate::api::objects::WatchEvent;
    use crate::api::plain::Plain;
    use crate::model::{ContainerPool, Image, Kind, Object, ObjectMeta, PoolSpec, PoolStatus, Template};
    use crate::store::{Txn, memory};

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn pool() -> ContainerPool {
        let metadata = ObjectMeta::new("red", "a", Uuid::from_u128(7), at(100));
        let spec = PoolSpec::of(0, 1, Template::of(Image::Iso("/a.iso".into())));
        ContainerPool { metadata, spec, status: PoolStatus::default() }
    }

    fn about(second: i64) -> Event {
        Event::new(EventKind::AppliedObject, at(second)).regarding(pool().object_ref()).message("made")
    }

    #[tokio::test]
    async fn the_log_is_told_as_events_of_the_objects_that_there_were() {
        let store: Arc<dyn Store> = memory();
        // The first is of an earlier object of the same name.
        store.txn(Txn::default().write(&pool()).tell(&[about(50), about(100)])).await.unwrap();
        let events = Events::new(Arc::clone(&store));
        let listed = events.list(Face::Core, Some("red".into()), Filter::default()).unwrap().all().unwrap();
        assert_eq!(listed.len(), 2);
        assert_eq!(
            (&listed[0]["involvedObject"]["uid"], &listed[0]["reason"]),
            (&Value::Null, &json!("AppliedObject"))
        );
        let uid = Uuid::from_u128(7).to_string();
        let fields = crate::manifest::selector::Fields::parse(
            &format!("involvedObject.uid={uid},involvedObject.kind=ContainerPool"),
            Face::Core.selectable(),
        );
        let filter = Filter { fields: fields.unwrap(), ..Filter::default() };
        let its = events.list(Face::Core, None, filter).unwrap().all().unwrap();
        assert_eq!(its, listed[1..]);
        let other = events.list(Face::Events, None, Filter::default()).unwrap().all().unwrap();
        assert_eq!((&other[1]["note"], &other[1]["regarding"]["name"]), (&json!("made"), &json!("a")));
        assert_eq!(events.get(Face::Core, "red", its[0]["metadata"]["name"].as_str().unwrap()).unwrap(), its[0]);
        assert!(events.get(Face::Core, "blue", "a.2").is_err() && events.get(Face::Core, "red", "b.2").is_err());
        assert!(events.ours("red", "a.2").unwrap());
        assert_eq!(pool().object_ref().kind, Kind::ContainerPool);
    }

    #[tokio::test]
    async fn one_watch_sees_the_log_and_what_clients_tell_in_order() {
        let store: Arc<dyn Store> = memory();
        let events = Events::new(Arc::clone(&store));
        let plain = Plain::new(Arc::clone(&store), Arc::new(|| at(100)), Sealer::fresh());
        let revision = events.list(Face::Core, None, Filter::default()).unwrap().revision;
        let mut watch = events.watch(Face::Core, None, Filter::default(), revision);
        store.txn(Txn::default().tell(&[about(100)])).await.unwrap();
        let told = Face::Events.to_core(json!({
            "kind": "Event", "metadata": { "name": "x" }, "regarding": { "name": "a" }, "note": "seen",
        }));
        plain.create(PlainKind::Event, "red", told, false).await.unwrap();
        store.txn(Txn::default().delete("events/00000000000000000001")).await.unwrap();
        store.txn(Txn::default().tell(&[about(101)])).await.unwrap();
        let mut names = Vec::new();
        for _ in 0..3 {
            let Some(Ok(WatchEvent::Added(event))) = watch.next().await else { panic!("no event") };
            names.push((
                event["metadata"]["name"].as_str().unwrap().to_owned(),
                event["message"].as_str().unwrap().to_owned(),
            ));
        }
        let expected = [("a.1", "made"), ("x", "seen"), ("a.2", "made")];
        assert_eq!(names, expected.map(|(name, message)| (name.to_owned(), message.to_owned())));
        assert!(!events.ours("red", "x").unwrap());
    }
}
