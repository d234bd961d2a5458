//! Records as the store holds them: JSON under keys that read like a Kubernetes URL.
//!
//! | key | what |
//! | --- | --- |
//! | `registry/KIND/NAMESPACE/NAME` | an object |
//! | `registry/credentials/NAMESPACE/NAME` | the login of the container of that name |
//! | `registry/ports/PORT` | the UUID of the container that holds a port of the host |
//! | `events/NUMBER` | what happened |
//! | `tokens/NAME` | a token of the API |
//! | `access-tokens/NAME` | an access token of the wire protocol |
//! | `admission` | the UUID of the machine that the host last admitted |
//! | `uncounted` | the UUID of the container that last went without a pool to count it |
//! | `clock` | the anchor of the daemon's time |
//! | `instance` | this installation's UUID, which its domains bear |

use std::cell::RefCell;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;
use sled::IVec;
use uuid::Uuid;

use super::held::HEAD;
use super::{Cond, Kv, MAX_WISH, Op, Store, StoreError, Txn, TxnResult, Value};
use crate::model::{Container, Credentials, DEFAULT_NAMESPACE, Event, Kind, Object, ObjectRef};
use crate::plan::clock::Anchor;

/// Below it: everything that is reconciled.
pub const REGISTRY: &str = "registry/";
/// Below it: the event log.
pub const EVENTS: &str = "events/";
/// Below it: the tokens that requests over the network bear.
pub const TOKENS: &str = "tokens/";
/// Below it: what clients of the wire protocol show to be served.
pub const ACCESS_TOKENS: &str = "access-tokens/";
/// Below it: objects of Kubernetes' own kinds, as clients wrote them.
pub const PLAIN: &str = "plain/";
/// Below it: what of those only few may read. The value is sealed as a whole ([`SEALED`]), but for what a version before
/// sealing wrote.
pub const SECRETS: &str = "plain/secrets/";
/// What anything sealed begins with, and no JSON does.
pub const SEALED: &str = "v1:";
/// Below it: events that clients told.
pub const FOREIGN_EVENTS: &str = "events.k8s.io/";
/// Written by whoever admits a machine to the host, if it is as it was when the machines were counted.
pub const ADMISSION: &str = "admission";
/// Written by whoever removes a member whose pool is not there: whoever makes a pool counts its members, and that number
/// holds if this is as it was before.
pub const UNCOUNTED: &str = "uncounted";
/// The anchor of the daemon's time.
pub const CLOCK: &str = "clock";
/// This installation's UUID.
pub const INSTANCE: &str = "instance";

/// An object and the revision that last wrote it.
#[derive(Clone, Debug, PartialEq)]
pub struct Versioned<T> {
    /// The object.
    pub object: T,
    /// For [`Txn::unchanged`].
    pub rev: u64,
}

/// Why records cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The store's own trouble.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A record that is not what its key says.
    #[error("record '{key}' cannot be read")]
    Unreadable {
        /// Which.
        key: String,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// A record that is sealed, and not with the key that is there.
    #[error("record '{key}' cannot be opened")]
    Unopened {
        /// Which.
        key: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// An object's key.
pub fn key(object: &ObjectRef) -> String {
    key_of_kind(object.kind, &object.namespace, &object.name)
}

fn key_of<T: Object>(object: &T) -> String {
    key_of_kind(T::KIND, &object.meta().namespace, &object.meta().name)
}

fn key_of_kind(kind: Kind, namespace: &str, name: &str) -> String {
    // In one piece of the right size: it is asked for all the time.
    [REGISTRY, kind.plural(), "/", namespace, "/", name].concat()
}

/// The object a key names, if it names one.
pub fn parse_key(key: &str) -> Option<ObjectRef> {
    let mut parts = key.strip_prefix(REGISTRY)?.split('/');
    let (kind, namespace, name) = (Kind::from_plural(parts.next()?)?, parts.next()?, parts.next()?);
    parts.next().is_none().then(|| ObjectRef { kind, namespace: namespace.into(), name: name.into() })
}

/// The key of a container's credentials.
pub fn credentials_key(namespace: &str, name: &str) -> String {
    format!("{REGISTRY}credentials/{namespace}/{name}")
}

/// The key that holds a port.
pub fn port_key(port: u16) -> String {
    format!("{REGISTRY}ports/{port}")
}

/// One object, if it is there.
pub fn get<T: Object>(store: &dyn Store, namespace: &str, name: &str) -> Result<Option<Versioned<T>>, RecordError> {
    store.get(&key_of_kind(T::KIND, namespace, name))?.0.map(|kv| decode(&kv)).transpose()
}

/// All objects of a kind in a namespace, in the order of their names.
pub fn list<T: Object>(store: &dyn Store, namespace: &str) -> Result<Vec<Versioned<T>>, RecordError> {
    let prefix = format!("{REGISTRY}{}/{namespace}/", T::KIND.plural());
    store.list(&prefix)?.0.iter().map(decode).collect()
}

/// All objects of a kind, whatever their namespace.
pub fn list_all<T: Object>(store: &dyn Store) -> Result<Vec<Versioned<T>>, RecordError> {
    store.list(&format!("{REGISTRY}{}/", T::KIND.plural()))?.0.iter().map(decode).collect()
}

/// The container of a UUID, if it is there: a pool's bears it as its name, one without pool the name that its user chose.
pub fn container(store: &dyn Store, uuid: Uuid) -> Result<Option<Versioned<Container>>, RecordError> {
    let its = |read: &Versioned<Container>| read.object.uuid() == uuid;
    // Where nearly all of them are.
    if let Some(read) = get(store, DEFAULT_NAMESPACE, &uuid.to_string())?.filter(its) {
        return Ok(Some(read));
    }
    let index = store.index()?;
    Ok(index.containers()?.find(|read| its(read)).map(|read| Versioned::clone(read)))
}

/// The key of an access token.
pub fn access_token_key(name: &str) -> String {
    format!("{ACCESS_TOKENS}{name}")
}

/// A container's credentials, if they are there.
pub fn credentials(store: &dyn Store, namespace: &str, name: &str) -> Result<Option<Credentials>, RecordError> {
    let kv = store.get(&credentials_key(namespace, name))?.0;
    Ok(kv.map(|kv| decode::<Credentials>(&kv)).transpose()?.map(|versioned| versioned.object))
}

/// What a key holds.
pub fn decode<T: DeserializeOwned + Clone + Send + Sync + 'static>(kv: &Kv) -> Result<Versioned<T>, RecordError> {
    Ok(Versioned { object: Arc::unwrap_or_clone(shared(kv)?), rev: kv.mod_rev })
}

/// The same, for who only looks at it.
pub fn shared<T: DeserializeOwned + Send + Sync + 'static>(kv: &Kv) -> Result<Arc<T>, RecordError> {
    // It was written by this process, and is the same (`an_object_that_was_written_here_is_not_decoded_by_who_follows`).
    if let Some(object) = kv.value.object() {
        return Ok(object);
    }
    #[cfg(test)]
    DECODED.with(|count| count.set(count.get() + 1));
    let object = serde_json::from_slice(&kv.value);
    object.map(Arc::new).map_err(|source| RecordError::Unreadable { key: kv.key.to_string(), source })
}

/// The anchor of the daemon's time, if one was taken.
pub fn anchor(store: &dyn Store) -> Result<Option<Anchor>, RecordError> {
    Ok(store.get(CLOCK)?.0.map(|kv| decode(&kv)).transpose()?.map(|versioned| versioned.object))
}

/// This installation's UUID, if it was chosen.
pub fn known_instance(store: &dyn Store) -> Result<Option<Uuid>, RecordError> {
    Ok(store.get(INSTANCE)?.0.map(|kv| decode(&kv)).transpose()?.map(|versioned| versioned.object))
}

/// This installation's UUID, made on first use.
pub fn instance(store: &dyn Store, fresh: Uuid) -> Result<Uuid, RecordError> {
    let first = Txn::default().absent(INSTANCE).put(INSTANCE, &fresh);
    match store.txn(first).wait()? {
        TxnResult::Committed(_) => Ok(fresh),
        TxnResult::Conflict { current, .. } => match current.into_iter().flatten().next() {
            Some(kv) => Ok(decode(&kv)?.object),
            None => Err(StoreError::Invalid { reason: "the instance key vanished".into() }.into()),
        },
    }
}

/// Transactions over records, written as they read.
impl Txn {
    /// Only if there is no such key.
    pub fn absent(mut self, key: &str) -> Self {
        self.conds.push(Cond::Absent(key.into()));
        self
    }

    /// Only if this object is as it was read.
    pub fn unchanged<T: Object>(mut self, read: &Versioned<T>) -> Self {
        self.conds.push(Cond::ModRev(key_of(&read.object), read.rev));
        self
    }

    /// Only if a key still holds what was read.
    pub fn key_unchanged(mut self, read: &Kv) -> Self {
        self.conds.push(Cond::ModRev(read.key.to_string(), read.mod_rev));
        self
    }

    /// This and another one, or neither.
    pub fn and(mut self, other: Txn) -> Self {
        self.conds.extend(other.conds);
        self.ops.extend(other.ops);
        self
    }

    /// Writes anything.
    pub fn put<T: Serialize>(mut self, key: &str, value: &T) -> Self {
        self.ops.push(Op::Put { key: key.into(), value: Value::of(json(value)) });
        self
    }

    /// Writes an object.
    pub fn write<T: Object>(self, object: &T) -> Self {
        self.write_shared(Arc::new(object.clone()))
    }

    /// Writes an object that somebody goes on with.
    pub fn write_shared<T: Object>(mut self, object: Arc<T>) -> Self {
        let text = json(&*object);
        debug_assert!(
            serde_json::from_slice::<T>(&text[HEAD..]).is_ok_and(|read| read == *object),
            "{} is read as another one than was written: {}",
            object.object_ref(),
            String::from_utf8_lossy(&text[HEAD..])
        );
        self.ops.push(Op::Put { key: key_of(&*object), value: Value::made_from(text, object) });
        self
    }

    /// Refuses a record so large that what the daemon adds to it later would not fit: a client's record must never be in the
    /// way of its own end. One that is no longer than what it replaces is taken (`what_a_client_writes_leaves_room_for_its_end`).
    pub fn leaving_room(self, store: &dyn Store) -> Result<Self, StoreError> {
        for op in &self.ops {
            let Op::Put { key, value } = op else { continue };
            let longer = || Ok::<_, StoreError>(store.get(key)?.0.is_none_or(|kv| value.len() > kv.value.len()));
            if value.len() > MAX_WISH && longer()? {
                // Clients know its name, and no keys.
                let name = key.rsplit('/').next().unwrap_or_default();
                let reason = format!("'{name}' takes {} bytes as a record, at most {MAX_WISH} are taken", value.len());
                return Err(StoreError::Invalid { reason });
            }
        }
        Ok(self)
    }

    /// Removes a key.
    pub fn delete(mut self, key: &str) -> Self {
        self.ops.push(Op::Delete { key: key.into() });
        self
    }

    /// Removes an object.
    pub fn remove<T: Object>(self, object: &T) -> Self {
        self.delete(&key_of(object))
    }

    /// Tells events, in this order.
    pub fn tell(mut self, events: &[Event]) -> Self {
        let appends = events.iter().map(|event| Op::Append { prefix: EVENTS.into(), value: Value::of(json(event)) });
        self.ops.extend(appends);
        self
    }
}

/// Memory that each thread keeps for the next record, in bytes: more than nearly all of them have.
const DRAFT_ROOM: usize = 8 * 1024;

thread_local! {
    /// Where a record is written down first: what is kept of it then is one piece of memory of the right size.
    static DRAFT: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// With room for a record's head before it.
fn json<T: Serialize>(value: &T) -> IVec {
    DRAFT.with_borrow_mut(|draft| {
        draft.clear();
        draft.resize(HEAD, 0);
        // Records are structs, strings and numbers; only maps with keys that are no strings could fail.
        serde_json::to_writer(&mut *draft, value).expect("records serialise");
        let text = IVec::from(&draft[..]);
        // One that is refused for its size leaves nothing behind.
        draft.shrink_to(DRAFT_ROOM);
        text
    })
}

#[cfg(test)]
thread_local! {
    /// Records that were decoded on this thread.
    static DECODED: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// How many records some work on this thread decodes.
#[cfg(test)]
pub(crate) fn decoded(work: impl FnOnce()) -> usize {
    let before = DECODED.with(std::cell::Cell::get);
    work();
    DECODED.with(std::cell::Cell::get) - before
}
