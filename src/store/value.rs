//! What a key holds.

use std::any::Any;
use std::fmt;
use std::ops::Deref;
use std::sync::{Arc, Weak};

use bytes::Bytes;

/// A record's bytes. Fresh from a transaction of this process they come with the object that they were made from, so that
/// who follows the changes has not to read each of them again ([`decode`](super::records::decode) takes it). They read as
/// that very object: [`Txn::write`](super::Txn::write) checks it wherever debug assertions are on, so in every test.
#[derive(Clone)]
pub struct Value {
    bytes: Bytes,
    object: Weak<Original>,
    /// Keeps the object, on the way to the engine; from there on that does.
    kept: Option<Arc<Original>>,
}

/// What a value was made from. In a box, so that nothing of it stays when nobody keeps it.
pub(super) type Original = Box<dyn Any + Send + Sync>;

impl Value {
    /// Of an object.
    pub(super) fn of<T: Any + Send + Sync>(bytes: Vec<u8>, object: T) -> Value {
        let object: Arc<Original> = Arc::new(Box::new(object));
        Value { bytes: bytes.into(), object: Arc::downgrade(&object), kept: Some(object) }
    }

    /// What it was made from, if that is still there, and is one of these.
    pub(super) fn object<T: Any + Clone>(&self) -> Option<T> {
        self.object.upgrade()?.downcast_ref().cloned()
    }

    /// The same where another piece of memory has the bytes, and what keeps its object.
    pub(super) fn moved_to(self, bytes: Bytes) -> (Value, Option<Arc<Original>>) {
        (Value { bytes, object: self.object, kept: None }, self.kept)
    }
}

impl<T: Into<Bytes>> From<T> for Value {
    fn from(bytes: T) -> Self {
        Value { bytes: bytes.into(), object: Weak::new(), kept: None }
    }
}

impl Deref for Value {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }
}

impl Eq for Value {}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.bytes.fmt(f)
    }
}
