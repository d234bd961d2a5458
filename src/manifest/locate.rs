//! On which line a field stands. The parser knows that only while it reads, so it is made to read again up to that
//! field and to stumble there.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// Line and column of the key at the end of a path, if it is there; of the document, if the path is empty.
pub(crate) fn place(text: &str, document: usize, path: &[&str]) -> Option<(usize, usize)> {
    let document = serde_yaml::Deserializer::from_str(text).nth(document - 1)?;
    let place = Find(path).deserialize(document).err()?.location()?;
    Some((place.line(), place.column()))
}

/// The line of a field in a document of a text, or of the nearest thing around it that is there.
pub(super) fn line(text: &str, document: usize, path: &str) -> usize {
    let path: Vec<&str> = if path.is_empty() { vec![] } else { keys(path) };
    (0..=path.len()).rev().find_map(|length| place(text, document, &path[..length])).map_or(0, |(line, _)| line)
}

/// The keys of a path; one with dots of its own stands in brackets: `metadata.labels[a.b/c]`.
fn keys(path: &str) -> Vec<&str> {
    let (plain, bracketed) = match path.split_once('[') {
        Some((plain, rest)) => (plain, Some(rest.trim_end_matches(']'))),
        None => (path, None),
    };
    plain.split('.').chain(bracketed).collect()
}

/// Where a document begins.
pub(super) fn start(document: serde_yaml::Deserializer<'_>) -> usize {
    Find(&[]).deserialize(document).err().and_then(first_line).unwrap_or(0)
}

fn first_line(error: serde_yaml::Error) -> Option<usize> {
    error.location().map(|location| location.line())
}

/// Stumbles over the key at the end of a path; over anything, if the path is empty.
struct Find<'a>(&'a [&'a str]);

impl<'de> DeserializeSeed<'de> for Find<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Find<'_> {
    fn here<E: Error>(&self) -> Result<(), E> {
        if self.0.is_empty() { Err(E::custom("here")) } else { Ok(()) }
    }
}

impl<'de> Visitor<'de> for Find<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("anything")
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        self.here()
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<(), E> {
        self.here()
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<(), E> {
        self.here()
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<(), E> {
        self.here()
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<(), E> {
        self.here()
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<(), E> {
        self.here()
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        self.here()?;
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        self.here()?;
        let (wanted, rest) = (self.0[0], &self.0[1..]);
        while let Some(found) = map.next_key_seed(Key { wanted, last: rest.is_empty() })? {
            if found {
                map.next_value_seed(Find(rest))?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }
}

/// Whether a key is the wanted one; the last one of a path is stumbled over.
struct Key<'a> {
    wanted: &'a str,
    last: bool,
}

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Key<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<bool, E> {
        match (key == self.wanted, self.last) {
            (true, true) => Err(E::custom("here")),
            (found, _) => Ok(found),
        }
    }
}
