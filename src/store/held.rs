//! A record as a store holds it. The engine, its readers and sled's pages share this one piece of memory: there are many
//! records, and a second copy of each would be the most of what a container takes.
//!
//! ```text
//! format | create_rev | mod_rev | value        numbers are big-endian
//! ```

use std::sync::Arc;

use bytes::Bytes;
use sled::IVec;

use super::Kv;

/// The format that this program writes, and the newest it reads: of any entry of a store on disk.
pub(super) const FORMAT: u8 = 1;

const NUMBER: usize = size_of::<u64>();
const HEAD: usize = 1 + 2 * NUMBER;

/// A record but for its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Held(IVec);

impl Held {
    pub(super) fn new(value: &[u8], create_rev: u64, mod_rev: u64) -> Held {
        let mut text = Vec::with_capacity(HEAD + value.len());
        text.push(FORMAT);
        text.extend(create_rev.to_be_bytes());
        text.extend(mod_rev.to_be_bytes());
        text.extend(value);
        Held(text.into())
    }

    /// What was written by [`Held::new`], unless it is too short or of another format.
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
        Kv { key: Arc::clone(key), value: self.bytes().into(), create_rev: self.create_rev(), mod_rev: self.mod_rev() }
    }

    /// What of it is the value.
    pub(super) fn bytes(&self) -> Bytes {
        Bytes::from_owner(Tail(self.0.clone()))
    }

    /// All of it, as it is written.
    pub(super) fn text(&self) -> &IVec {
        &self.0
    }
}

/// What of a record follows its head.
struct Tail(IVec);

impl AsRef<[u8]> for Tail {
    fn as_ref(&self) -> &[u8] {
        self.0.get(HEAD..).unwrap_or_default()
    }
}
