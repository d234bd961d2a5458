//! How the store's data looks as sled's keys and values. Pure.
//!
//! Keys begin with a letter for what they are; values begin with the format's number, so that data of a later
//! program is recognised wherever it is met. Numbers are big-endian.

use std::fmt;
use std::sync::Arc;

use sled::IVec;

use crate::store::engine::Snapshot;
use crate::store::held::{FORMAT, Held};

/// The key of the totals.
pub(super) const META: &[u8] = b"m";
const COUNTER: u8 = b'c';
/// What a record's key begins with.
pub(super) const RECORD: u8 = b'r';

/// What belongs to the whole store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Meta {
    /// Its revision.
    pub(super) revision: u64,
    /// How many records there are.
    pub(super) records: u64,
    /// The sum of their `mod_rev`, wrapping.
    pub(super) mod_rev_sum: u64,
}

impl fmt::Display for Meta {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} records (check sum {}) at revision {}", self.records, self.mod_rev_sum, self.revision)
    }
}

impl Meta {
    pub(super) fn of(state: &Snapshot) -> Self {
        Meta { revision: state.revision, records: state.len() as u64, mod_rev_sum: state.mod_rev_sum }
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        numbers(&[self.revision, self.records, self.mod_rev_sum])
    }
}

/// One of sled's pairs.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Entry {
    Meta(Meta),
    Counter { prefix: String, last: u64 },
    Record { key: Arc<str>, held: Held },
}

/// Why a pair cannot be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum CodecError {
    #[error("an entry has format {found}")]
    Newer { found: u8 },
    #[error("the entry '{key}' makes no sense")]
    Broken { key: String },
}

pub(super) fn record_key(key: &str) -> Vec<u8> {
    [&[RECORD], key.as_bytes()].concat()
}

pub(super) fn counter_key(prefix: &str) -> Vec<u8> {
    [&[COUNTER], prefix.as_bytes()].concat()
}

pub(super) fn encode_counter(last: u64) -> Vec<u8> {
    numbers(&[last])
}

fn numbers(numbers: &[u64]) -> Vec<u8> {
    let mut out = vec![FORMAT];
    out.extend(numbers.iter().flat_map(|number| number.to_be_bytes()));
    out
}

pub(super) fn decode(key: &[u8], value: &IVec) -> Result<Entry, CodecError> {
    let broken = || CodecError::Broken { key: String::from_utf8_lossy(key).into_owned() };
    let (&format, mut rest) = value.split_first().ok_or_else(broken)?;
    if format > FORMAT {
        return Err(CodecError::Newer { found: format });
    }
    let mut number = || {
        let (number, after) = rest.split_first_chunk().ok_or_else(broken)?;
        rest = after;
        Ok(u64::from_be_bytes(*number))
    };
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).map_err(|_| broken());
    let (entry, rest) = match key {
        META => (Entry::Meta(Meta { revision: number()?, records: number()?, mod_rev_sum: number()? }), rest),
        [COUNTER, prefix @ ..] => (Entry::Counter { prefix: text(prefix)?, last: number()? }, rest),
        [RECORD, key @ ..] => {
            (Entry::Record { key: text(key)?.into(), held: Held::read(value).ok_or_else(broken)? }, &[][..])
        }
        _ => return Err(broken()),
    };
    if format == FORMAT && rest.is_empty() { Ok(entry) } else { Err(broken()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let meta = Meta { revision: 7, records: 2, mod_rev_sum: 9 };
        assert_eq!(decode(META, &meta.encode().into()).unwrap(), Entry::Meta(meta));
        let counter = Entry::Counter { prefix: "log/".into(), last: 12 };
        assert_eq!(decode(&counter_key("log/"), &encode_counter(12).into()).unwrap(), counter);
        let held = Held::new(&mut "v".into(), 3, u64::MAX);
        let kv = held.kv(&"a/b".into());
        assert_eq!((&*kv.key, &kv.value[..], kv.create_rev, kv.mod_rev), ("a/b", &b"v"[..], 3, u64::MAX));
        assert_eq!(decode(&record_key("a/b"), held.text()).unwrap(), Entry::Record { key: "a/b".into(), held });
    }

    #[test]
    fn a_later_format_is_recognised_in_any_entry() {
        let mut value = Held::new(&mut "v".into(), 3, 4).text().to_vec();
        value[0] = FORMAT + 1;
        assert!(matches!(decode(&record_key("a/b"), &value.into()), Err(CodecError::Newer { found: 2 })));
    }

    #[test]
    fn what_was_not_written_by_this_program_is_refused() {
        let cases: [(&[u8], &[u8]); 7] = [
            (b"m", b""),
            (b"m", b"\x01short"),
            (b"", b"\x01"),
            (b"x", b"\x01"),
            (b"rkey", b"\x01\0\0\0\0\0\0\0\x01\0"),
            (b"c\xff", b"\x01\0\0\0\0\0\0\0\x01"),
            (b"clog/", b"\x01\0\0\0\0\0\0\0\x01more"),
        ];
        for (key, value) in cases {
            assert!(matches!(decode(key, &value.into()), Err(CodecError::Broken { .. })), "{key:?}");
        }
    }
}
