//! A record as a store holds it. The engine, its readers and sled's pages share this one piece of memory: there are many
//! records, and a second copy of each would be the most of what a container takes.
//!
//! ```text
//! format | create_rev | mod_rev | value        numbers are big-endian
//! ```

use std::sync::Arc;

use sled::IVec;

use super::{Kv, Value};

/// The format that this program writes, and the newest it reads: of any entry of a store on disk.
pub(super) const FORMAT: u8 = 1;

const NUMBER: usize = size_of::<u64>();
/// Bytes before the value.
pub(super) const HEAD: usize = 1 + 2 * NUMBER;

/// A record but for its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Held(IVec);

impl Held {
    /// Of a value, whose piece of memory it takes if nobody else has it.
    pub(super) fn new(value: &mut Value, create_rev: u64, mod_rev: u64) -> Held {
        let (head, _) = value.text.split_at_mut(HEAD);
        head[0] = FORMAT;
        head[1..][..NUMBER].copy_from_slice(&create_rev.to_be_bytes());
        head[1 + NUMBER..].copy_from_slice(&mod_rev.to_be_bytes());
        Held(value.text.clone())
    }

    /// What [`Held::new`] made, unless it is too short or of another format.
    pub(super) fn read(text: &IVec) -> Option<Held> {
        (text.len() >= HEAD && text.first() == Some(&FORMAT)).then(|| Held(text.clone()))
    }

    pub(super) fn create_rev(&self) -> u64 {
        self.number(1)
    }

    pub(super) fn mod_rev(&self) -> u64 {
        self.number(1 + NUMBER)
    }

    fn number(&self, at: usize) -> u64 {
        let bytes = self.0.get(at..).and_then(<[u8]>::first_chunk);
        u64::from_be_bytes(*bytes.expect("both ways to make one have a whole head"))
    }

    /// The record for who reads it.
    pub(super) fn kv(&self, key: &Arc<str>) -> Kv {
        let value = Value::of(self.0.clone());
        Kv { key: Arc::clone(key), value, create_rev: self.create_rev(), mod_rev: self.mod_rev() }
    }

    /// All of it, as it is written.
    pub(super) fn text(&self) -> &IVec {
        &self.0
    }
}
