//! A document as a tree of values: what the schema is asked about. The same key twice is an error here, because
//! most readers silently take the last.
//!
//! Aliases are written out in it, and a few bytes of them can stand for any number of values: a list of a thousand, a thousand
//! times. So a text has [`Room`] for about twice what it could say without them; whatever is read of it besides is no larger
//! than its tree (`aliases_make_no_more_of_a_text_than_there_is_room_for`).

use std::cell::Cell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// What aliases may make of a short text.
const SMALL: usize = 64 << 10;

/// So many brackets of a text in YAML may be open at once. Its parser looks at all of them again for each word: 100,000 cost
/// it a minute of processor (`brackets_without_end_are_refused_before_they_are_parsed`).
const MOST_OPEN: usize = 1000;

/// Refuses what the parser would take too long for. A bracket in a text counts, too: few texts have more of them open.
pub(super) fn open_brackets<E: Error>(text: &str) -> Result<(), E> {
    let mut open = 0_usize;
    for byte in text.bytes() {
        match byte {
            b'[' | b'{' => open += 1,
            b']' | b'}' => open = open.saturating_sub(1),
            _ => {}
        }
        if open > MOST_OPEN {
            return Err(E::custom(format!(
                "more than {MOST_OPEN} brackets are open at once: nest less, or write JSON"
            )));
        }
    }
    Ok(())
}

/// How much the documents of a text may still hold: one for each value and key, and one for each of their bytes.
pub(super) struct Room(Cell<usize>);

impl Room {
    /// For all documents of a text.
    pub(super) fn of(text: &str) -> Room {
        Room(Cell::new(2 * text.len() + SMALL))
    }

    /// Reads a document.
    pub(super) fn read<'de, D: Deserializer<'de>>(&self, document: D) -> Result<Value, D::Error> {
        Values(self).deserialize(document)
    }

    fn take<E: Error>(&self, bytes: usize) -> Result<(), E> {
        let left = self.0.get().checked_sub(1 + bytes);
        self.0.set(left.unwrap_or(0));
        left.map(drop).ok_or_else(|| E::custom("aliases make too much of it: write out what they stand for"))
    }
}

/// Reads one value.
#[derive(Clone, Copy)]
struct Values<'a>(&'a Room);

impl<'de> DeserializeSeed<'de> for Values<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        self.0.take(0)?;
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Values<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map, a list, a text, a number, true, false or nothing")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("write a number that is one"))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        self.0.take(value.len())?;
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = list.next_element_seed(self)? {
            values.push(value);
        }
        Ok(values.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut values = Map::new();
        while let Some(key) = map.next_key_seed(Fresh(&values))? {
            self.0.take(key.len())?;
            let value = map.next_value_seed(self)?;
            values.insert(key, value);
        }
        Ok(values.into())
    }
}

/// A key that is not there yet. Its error is raised while the key is read, so that the parser says where.
struct Fresh<'a>(&'a Map<String, Value>);

impl<'de> DeserializeSeed<'de> for Fresh<'_> {
    type Value = String;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<String, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Fresh<'_> {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<String, E> {
        if self.0.contains_key(key) {
            return Err(E::custom(format!("the key '{key}' stands here twice: leave one of the two")));
        }
        Ok(key.into())
    }
}
