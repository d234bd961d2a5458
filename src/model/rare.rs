use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::{Deref, DerefMut};

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A part of an object that few others have anything of: where it is nothing, it takes no more than a pointer, since every
/// object that is kept has it. It is read, changed and written as what it holds.
#[derive(Clone)]
pub struct Rare<T>(Option<Box<T>>);

/// What can be nothing: no text, no elements, no value.
pub trait Nothing: Default + PartialEq + 'static {
    /// That.
    const NOTHING: &'static Self;
}

impl<T: PartialEq + 'static> Nothing for Option<T> {
    const NOTHING: &'static Self = &None;
}

impl Nothing for String {
    const NOTHING: &'static Self = &String::new();
}

impl<T: PartialEq + 'static> Nothing for Vec<T> {
    const NOTHING: &'static Self = &Vec::new();
}

impl<K: Ord + 'static, V: PartialEq + 'static> Nothing for BTreeMap<K, V> {
    const NOTHING: &'static Self = &BTreeMap::new();
}

impl<T> Rare<T> {
    /// Nothing.
    pub const fn nothing() -> Self {
        Rare(None)
    }
}

impl<T: Nothing> Deref for Rare<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.as_deref().unwrap_or(T::NOTHING)
    }
}

impl<T: Nothing> DerefMut for Rare<T> {
    fn deref_mut(&mut self) -> &mut T {
        self.0.get_or_insert_default()
    }
}

impl<T: Nothing> From<T> for Rare<T> {
    fn from(value: T) -> Self {
        Rare((value != *T::NOTHING).then(|| Box::new(value)))
    }
}

impl From<&str> for Rare<String> {
    fn from(text: &str) -> Self {
        String::from(text).into()
    }
}

impl<T> Default for Rare<T> {
    fn default() -> Self {
        Rare::nothing()
    }
}

// What was taken out again is nothing, too.
impl<T: Nothing> PartialEq for Rare<T> {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl<T: Nothing + Eq> Eq for Rare<T> {}

impl<T: Nothing> PartialEq<T> for Rare<T> {
    fn eq(&self, other: &T) -> bool {
        **self == *other
    }
}

impl<T: Nothing + fmt::Debug> fmt::Debug for Rare<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: Nothing + fmt::Display> fmt::Display for Rare<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: Nothing + Serialize> Serialize for Rare<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (**self).serialize(serializer)
    }
}

impl<'de, T: Nothing + Deserialize<'de>> Deserialize<'de> for Rare<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        T::deserialize(deserializer).map(Rare::from)
    }
}

impl<T: JsonSchema> JsonSchema for Rare<T> {
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
