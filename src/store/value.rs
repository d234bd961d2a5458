//! What a key holds.

use std::any::Any;
use std::fmt;
use std::ops::Deref;
use std::sync::{Arc, Weak};

use sled::IVec;

use super::held::HEAD;

/// A record's bytes. Fresh from a transaction of this process they come with the object that they were made from, so that
/// who follows the changes has not to read each of them again ([`shared`](super::records::shared) takes it). They read as
/// that very object: [`Txn::write`](super::Txn::write) checks it wherever debug assertions are on, so in every test.
#[derive(Clone)]
pub struct Value {
    /// With room for a record's head before them: they are copied into this piece of memory once, and stay there.
    pub(super) text: IVec,
    object: Weak<Original>,
    /// Keeps the object, on the way to the engine; from there on that does.
    kept: Option<Arc<Original>>,
}

/// What a value was made from, as an `Arc<T>` within: so nothing of it stays when nobody keeps it.
pub(super) type Original = dyn Any + Send + Sync;

impl Value {
    /// Of bytes that have room for a head before them.
    pub(super) fn of(text: IVec) -> Value {
        Value { text, object: Weak::<()>::new(), kept: None }
    }

    /// The same, of an object.
    pub(super) fn made_from<T: Any + Send + Sync>(text: IVec, object: Arc<T>) -> Value {
        let object: Arc<Original> = Arc::new(object);
        Value { text, object: Arc::downgrade(&object), kept: Some(object) }
    }

    /// What it was made from, if that is still there, and is one of these.
    pub(super) fn object<T: Any + Send + Sync>(&self) -> Option<Arc<T>> {
        self.object.upgrade()?.downcast_ref().cloned()
    }

    /// What keeps its object.
    pub(super) fn let_go(&mut self) -> Option<Arc<Original>> {
        self.kept.take()
    }
}

impl<T: AsRef<[u8]>> From<T> for Value {
    fn from(bytes: T) -> Self {
        Value::of([&[0; HEAD], bytes.as_ref()].concat().into())
    }
}

impl Deref for Value {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.text[HEAD..]
    }
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Value {}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "b\"{}\"", self.escape_ascii())
    }
}
