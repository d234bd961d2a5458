use std::borrow::Cow;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A part of an object that many others have alike: the members of a pool differ in little but their names. It is read and
/// written as what it holds; whoever changes it has a copy of its own from then on.
#[derive(PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Common<T>(Arc<T>);

impl<T: PartialEq> Common<T> {
    /// Is the same as another one in memory too, if it is the same at all.
    pub(crate) fn share(&mut self, other: &Self) {
        if self.0 == other.0 {
            self.0 = Arc::clone(&other.0);
        }
    }
}

impl<T: Clone> Common<T> {
    /// What it holds.
    pub fn into_inner(self) -> T {
        Arc::unwrap_or_clone(self.0)
    }
}

impl<T> Deref for Common<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: Clone> DerefMut for Common<T> {
    fn deref_mut(&mut self) -> &mut T {
        Arc::make_mut(&mut self.0)
    }
}

impl<T> From<T> for Common<T> {
    fn from(value: T) -> Self {
        Common(Arc::new(value))
    }
}

impl From<&str> for Common<String> {
    fn from(text: &str) -> Self {
        String::from(text).into()
    }
}

impl<T> Clone for Common<T> {
    fn clone(&self) -> Self {
        Common(Arc::clone(&self.0))
    }
}

impl<T: Default> Default for Common<T> {
    fn default() -> Self {
        T::default().into()
    }
}

impl<T: fmt::Debug> fmt::Debug for Common<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<T: fmt::Display> fmt::Display for Common<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<T: Serialize> Serialize for Common<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        T::serialize(self, serializer)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Common<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        T::deserialize(deserializer).map(Common::from)
    }
}

impl<T: JsonSchema> JsonSchema for Common<T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }

    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }

    fn schema_id() -> Cow<'static, str> {
        T::schema_id()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}
