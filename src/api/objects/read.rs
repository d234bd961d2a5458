//! Getting, listing and watching.

use std::collections::BTreeMap;
use std::pin::Pin;

use futures::{Stream, StreamExt};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use super::view::{self, Shown};
use super::{ObjectError, Objects};
use crate::manifest::keep::Present;
use crate::manifest::selector::Filter;
use crate::model::{Container, ContainerClaim, ContainerPool, Event, EventKind, Kind, MANAGED_BY, Object, ObjectRef};
use crate::store::records::{self, EVENTS, REGISTRY, RecordError};
use crate::store::{Batch, Change, Index, Indexed, Kv, Shared, Store, StoreError, Txn};

/// Objects as they are shown, each made when it is asked for: there are thousands, and as trees of JSON they take more
/// memory than the records. One that is not selected is `None`, so that whoever goes through them can pause there too.
pub type Items = Box<dyn Iterator<Item = Result<Option<Value>, RecordError>> + Send>;

/// Objects, and the revision of the store they are of.
pub struct Listed {
    /// In the order of their names.
    pub items: Items,
    /// To watch from.
    pub revision: u64,
}

impl Listed {
    /// Of a few that are there already.
    pub fn of(items: Vec<Value>, revision: u64) -> Self {
        Listed { items: Box::new(items.into_iter().map(|item| Ok(Some(item)))), revision }
    }

    /// All that are selected, at once: for a few.
    pub fn all(self) -> Result<Vec<Value>, RecordError> {
        self.items.filter_map(Result::transpose).collect()
    }
}

/// A change, as Kubernetes tells it.
#[derive(Clone, Debug, PartialEq)]
pub enum WatchEvent {
    /// It is new, or is selected now.
    Added(Value),
    /// It changed.
    Modified(Value),
    /// It is gone, or is not selected any more.
    Deleted(Value),
}

/// Changes as they come; ends with an error, or with the store.
pub type Changes = Pin<Box<dyn Stream<Item = Result<WatchEvent, RecordError>> + Send>>;

fn viewer(kind: Kind) -> fn(&Kv) -> Result<Value, RecordError> {
    match kind {
        Kind::Container => view::view_kv::<Container>,
        Kind::ContainerPool => view::view_kv::<ContainerPool>,
        Kind::ContainerClaim => view::view_kv::<ContainerClaim>,
    }
}

fn prefix(kind: Kind, namespace: Option<&str>) -> String {
    match namespace {
        Some(namespace) => format!("{REGISTRY}{}/{namespace}/", kind.plural()),
        None => format!("{REGISTRY}{}/", kind.plural()),
    }
}

/// Every change below a prefix after a revision, as `look` tells it. A revision that is forgotten, or that the store has
/// not reached, is [`StoreError::Compacted`]: list again.
pub(in crate::api) fn changes(
    store: &dyn Store,
    prefix: &str,
    after: u64,
    look: impl Fn(&Change, u64) -> Result<Option<WatchEvent>, RecordError> + Send + 'static,
) -> Changes {
    let current = match store.get(prefix) {
        Ok((_, revision)) => revision,
        Err(error) => return Box::pin(futures::stream::iter([Err(error.into())])),
    };
    // A number of another life of the store: whoever waits for it to come would wait with an old picture.
    if after > current {
        return Box::pin(futures::stream::iter([Err(StoreError::Compacted { rev: current }.into())]));
    }
    let events = move |batch: Batch| {
        let told = batch.changes.iter().filter_map(|change| look(change, batch.rev).transpose());
        told.collect::<Vec<_>>()
    };
    let batches = store.watch(prefix, after + 1);
    Box::pin(batches.flat_map(move |batch| {
        let told = batch.map_or_else(|error| vec![Err(error.into())], &events);
        futures::stream::iter(told)
    }))
}

/// A change as whoever sees only what `taken` gives is told of it.
pub(in crate::api) fn selected(
    change: &Change,
    rev: u64,
    taken: impl Fn(&Kv) -> Result<Option<Value>, RecordError>,
) -> Result<Option<WatchEvent>, RecordError> {
    let (now, before) = match change {
        Change::Put { kv, prev } => (taken(kv)?, prev.as_ref().map(&taken).transpose()?.flatten()),
        Change::Delete { prev } => (None, taken(prev)?),
    };
    Ok(match (now, before) {
        (Some(now), None) => Some(WatchEvent::Added(now)),
        (Some(now), Some(_)) => Some(WatchEvent::Modified(now)),
        (None, Some(mut last)) => {
            // Its last state, as of its end: whoever goes on from here does not meet the end again.
            last["metadata"]["resourceVersion"] = rev.to_string().into();
            Some(WatchEvent::Deleted(last))
        }
        (None, None) => None,
    })
}

impl Objects {
    /// One object as it is shown.
    pub fn get(&self, object: &ObjectRef) -> Result<Value, ObjectError> {
        let kv = self.store.get(&records::key(object))?.0;
        let kv = kv.ok_or_else(|| ObjectError::NotFound { object: object.clone() })?;
        Ok(viewer(object.kind)(&kv)?)
    }

    /// The selected objects of a kind, in a namespace or in all of them: as they are now, whenever they are looked at.
    pub fn list(&self, kind: Kind, namespace: Option<&str>, filter: Filter) -> Result<Listed, ObjectError> {
        fn items<T: Shown + Indexed>(index: &Index, prefix: &str, filter: Filter) -> Result<Items, RecordError> {
            let all: Vec<Shared<T>> = index.below(prefix)?.cloned().collect();
            Ok(Box::new(
                all.into_iter().map(move |read| Ok(Some(view::view(&read)).filter(|value| filter.takes(value)))),
            ))
        }
        let (index, prefix) = (self.store.index()?, prefix(kind, namespace));
        let items = match kind {
            Kind::Container => items::<Container>(&index, &prefix, filter),
            Kind::ContainerPool => items::<ContainerPool>(&index, &prefix, filter),
            Kind::ContainerClaim => items::<ContainerClaim>(&index, &prefix, filter),
        };
        Ok(Listed { items: items?, revision: index.revision() })
    }

    /// The names of a kind's objects in a namespace, and whether their end is wished for.
    pub fn names(&self, kind: Kind, namespace: &str) -> Result<Vec<(String, bool)>, ObjectError> {
        fn names<T: Indexed>(index: &Index, prefix: &str) -> Result<Vec<(String, bool)>, RecordError> {
            let metas = index.below::<T>(prefix)?.map(|read| read.object.meta());
            Ok(metas.map(|meta| (meta.name.to_string(), meta.deleting())).collect())
        }
        let (index, prefix) = (self.store.index()?, prefix(kind, Some(namespace)));
        let names = match kind {
            Kind::Container => names::<Container>(&index, &prefix),
            Kind::ContainerPool => names::<ContainerPool>(&index, &prefix),
            Kind::ContainerClaim => names::<ContainerClaim>(&index, &prefix),
        };
        Ok(names?)
    }

    /// Every change of the selected objects of a kind after a revision. A revision that is forgotten, or that the
    /// store has not reached, is [`StoreError::Compacted`]: list again.
    pub fn watch(&self, kind: Kind, namespace: Option<&str>, filter: Filter, after: u64) -> Changes {
        let look = viewer(kind);
        changes(&*self.store, &prefix(kind, namespace), after, move |change, rev| {
            selected(change, rev, |kv| Ok(Some(look(kv)?).filter(|value| filter.takes(value))))
        })
    }

    /// Events from this number on, as many as asked for, and the revision to watch from.
    pub fn events(&self, from: u64, most: usize) -> Result<Listed, ObjectError> {
        let (kvs, revision) = self.store.list(EVENTS)?;
        let later = kvs.into_iter().filter(move |kv| view::event_number(&kv.key) >= from);
        let items = Box::new(later.take(most).map(|kv| view::view_event(&kv).map(Some)));
        Ok(Listed { items, revision })
    }

    /// Events after a revision, as they happen.
    pub fn watch_events(&self, after: u64) -> Changes {
        changes(&*self.store, EVENTS, after, |change, _| match change {
            Change::Put { kv, .. } => Ok(Some(WatchEvent::Added(view::view_event(kv)?))),
            // The log is trimmed: nothing happened.
            Change::Delete { .. } => Ok(None),
        })
    }

    /// Everything that is there, for whoever keeps manifests applied.
    pub fn present(&self) -> Result<Vec<Present>, ObjectError> {
        fn present<T: Object>(object: &T, written: bool) -> Present {
            let meta = object.meta();
            let managed_by = meta.annotations.get(MANAGED_BY).cloned();
            Present { object: object.object_ref(), managed_by, deleting: meta.deleting(), written }
        }
        let pools = records::list_all::<ContainerPool>(&*self.store)?;
        let mut found: Vec<Present> = pools.iter().map(|read| present(&read.object, true)).collect();
        let index = self.store.index()?;
        found.extend(index.containers()?.map(|read| present(&read.object, read.object.spec.pool.is_none())));
        found.extend(index.claims()?.map(|read| present(&read.object, read.object.spec.origin.is_object())));
        Ok(found)
    }

    /// A word whenever an object of these kinds was written by somebody, was deleted, or is gone. Status alone is no
    /// reason. Like every watch, it can end with [`StoreError::Compacted`].
    pub fn rewritten(&self) -> Pin<Box<dyn Stream<Item = Result<(), StoreError>> + Send>> {
        /// What somebody writes of a record: all of it is read for every change, so no more of it than this.
        #[derive(PartialEq, Deserialize)]
        struct Written {
            metadata: Meta,
        }
        #[derive(PartialEq, Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Meta {
            #[serde(default)]
            generation: i64,
            deletion_timestamp: Option<Timestamp>,
            #[serde(default)]
            labels: BTreeMap<String, String>,
            #[serde(default)]
            annotations: BTreeMap<String, String>,
        }
        fn shape(kv: &Kv) -> Option<Written> {
            serde_json::from_slice(&kv.value).ok()
        }
        fn rewritten(change: &Change) -> bool {
            records::parse_key(change.key()).is_some()
                && match change {
                    Change::Put { kv, prev } => prev.as_ref().and_then(shape) != shape(kv),
                    Change::Delete { .. } => true,
                }
        }
        let batches = self.store.watch(REGISTRY, 0);
        Box::pin(batches.filter_map(|batch| {
            let word = match batch {
                Ok(batch) => batch.changes.iter().any(rewritten).then_some(Ok(())),
                Err(error) => Some(Err(error)),
            };
            futures::future::ready(word)
        }))
    }

    /// Tells events that belong to no write.
    pub async fn tell(&self, events: &[Event]) -> Result<(), ObjectError> {
        if !events.is_empty() {
            self.store.txn(Txn::default().tell(events)).await?;
        }
        Ok(())
    }

    /// An event of now.
    pub fn event(&self, kind: EventKind) -> Event {
        Event::new(kind, (self.clock)())
    }
}
