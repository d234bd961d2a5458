//! The rounds that sled has not brought to the disk yet: a log ahead of its own.
//!
//! Through sled a round waits for the disk twice, on threads that wake each other: for `sync_file_range`, which no
//! power cut respects, and then for our `fdatasync`. So it is written here first, by the thread that commits, and waits
//! once; sled gets it on a thread of its own ([`super::behind`]). A start gives sled whatever is here
//! (`what_sled_did_not_bring_to_the_disk_is_there_after_a_start`), all of it in order: each round says what its keys hold
//! after it, so what sled has already changes nothing.
//!
//! ```text
//! revision before | revision after | length | CRC-32 of all else | pairs       and the next round
//!                                                                  └ key's length | value's, or NONE | key | value
//! ```
//!
//! There are two files. When one is full the other is begun again, without being cleared: everything in it is on the disk
//! in sled's own by then. Revisions only grow, so what is left of an earlier time never goes on where a later round ended.
//! Their place on the disk is taken before the first round: then the file system has nothing to write but the round
//! itself.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crc32fast::Hasher;
use sled::IVec;

use super::{codec, layout};

/// When a file is full. Of so much sled writes less than a segment ([`super::SEGMENT`]): it does not come to write over one
/// whose successor is not on the disk.
pub(super) const FULL: usize = 512 * 1024;
/// What a file has from the beginning; a round that needs more gets it.
const TAKEN: usize = 2 * FULL;
/// Memory that is kept for the text of a round when another file is begun.
const TEXT: usize = 256 * 1024;
/// Revisions and length.
const NUMBERS: usize = 8 + 8 + 4;
const SUM: usize = 4;
const HEAD: usize = NUMBERS + SUM;
/// The length of a value that is none: the key is removed.
const NONE: u32 = u32::MAX;

pub(super) fn paths(dir: &Path) -> [PathBuf; 2] {
    ["ahead.0", "ahead.1"].map(|name| layout::data(dir).join(name))
}

/// What a round does to sled's pairs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Written {
    /// The revision that it goes on from.
    pub(super) from: u64,
    /// Its last one.
    pub(super) to: u64,
    pairs: Vec<Pair>,
}

/// A key and what it is set to, or that it is removed.
type Pair = (Key, Option<IVec>);

/// A key of sled's.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Key {
    /// Of the record with this key: sled's is made when sled gets it.
    Record(Arc<str>),
    Any(IVec),
}

impl Key {
    /// In two parts.
    fn parts(&self) -> [&[u8]; 2] {
        match self {
            Key::Record(key) => [&[codec::RECORD], key.as_bytes()],
            Key::Any(key) => [&[], key],
        }
    }

    fn len(&self) -> usize {
        self.parts().iter().map(|part| part.len()).sum()
    }
}

impl Written {
    pub(super) fn new(from: u64, to: u64) -> Self {
        Written { from, to, pairs: Vec::new() }
    }

    /// Sets a pair, or removes it.
    pub(super) fn set(&mut self, key: impl Into<IVec>, value: Option<IVec>) {
        self.pairs.push((Key::Any(key.into()), value));
    }

    /// Sets a record, or removes it.
    pub(super) fn set_record(&mut self, key: &Arc<str>, value: Option<IVec>) {
        self.pairs.push((Key::Record(Arc::clone(key)), value));
    }

    fn encode(&self, text: &mut Vec<u8>) {
        // Neither is longer than a transaction may be.
        let length = |length: usize| (length as u32).to_be_bytes();
        let size = |(key, value): &Pair| 8 + key.len() + value.as_ref().map_or(0, |value| value.len());
        text.clear();
        text.reserve(HEAD + self.pairs.iter().map(size).sum::<usize>());
        text.resize(HEAD, 0);
        for (key, value) in &self.pairs {
            text.extend(length(key.len()));
            text.extend(value.as_ref().map_or(NONE.to_be_bytes(), |value| length(value.len())));
            key.parts().into_iter().for_each(|part| text.extend_from_slice(part));
            text.extend_from_slice(value.as_deref().unwrap_or_default());
        }
        let (head, pairs) = text.split_at_mut(HEAD);
        let (numbers, sum) = head.split_at_mut(NUMBERS);
        let length = length(pairs.len());
        numbers.copy_from_slice(&[&self.from.to_be_bytes()[..], &self.to.to_be_bytes(), &length].concat());
        sum.copy_from_slice(&checksum(numbers, pairs));
    }

    /// The round at the beginning of a text, if there is a whole one.
    fn decode(text: &mut &[u8]) -> Option<Written> {
        let (head, rest) = text.split_at_checked(HEAD)?;
        let (numbers, sum) = head.split_at(NUMBERS);
        let (from, after) = numbers.split_first_chunk()?;
        let (to, length) = after.split_first_chunk()?;
        let length = u32::from_be_bytes(length.try_into().ok()?) as usize;
        let (mut pairs, rest) = rest.split_at_checked(length)?;
        if checksum(numbers, pairs) != sum {
            return None;
        }
        *text = rest;
        let pairs = std::iter::from_fn(|| pair(&mut pairs)).collect();
        Some(Written { from: u64::from_be_bytes(*from), to: u64::from_be_bytes(*to), pairs })
    }
}

/// Tells a round that is on the disk as a whole from one that a power cut tore: as sled's, etcd's and others' logs do.
fn checksum(numbers: &[u8], pairs: &[u8]) -> [u8; SUM] {
    let mut sum = Hasher::new();
    sum.update(numbers);
    sum.update(pairs);
    sum.finalize().to_be_bytes()
}

fn pair(rest: &mut &[u8]) -> Option<Pair> {
    let (key, after) = rest.split_first_chunk()?;
    let (value, after) = after.split_first_chunk()?;
    let (key, after) = after.split_at_checked(u32::from_be_bytes(*key) as usize)?;
    let (value, after) = match u32::from_be_bytes(*value) {
        NONE => (None, after),
        length => after.split_at_checked(length as usize).map(|(value, after)| (Some(value.into()), after))?,
    };
    *rest = after;
    Some((Key::Any(key.into()), value))
}

/// Rounds in a row for sled: of a key that was set twice, the last.
pub(super) fn batch(rounds: impl IntoIterator<Item = Written>) -> ::sled::Batch {
    let mut batch = ::sled::Batch::default();
    for (key, value) in rounds.into_iter().flat_map(|round| round.pairs) {
        let key: IVec = match key {
            Key::Record(key) => codec::record_key(&key).into(),
            Key::Any(key) => key,
        };
        match value {
            Some(value) => batch.insert(key, value),
            None => batch.remove(key),
        }
    }
    batch
}

/// The files, open for writing.
pub(super) struct Ahead {
    /// The one that is being written, and the other.
    files: [File; 2],
    end: usize,
    /// The last round, as it was written: the next one is written into the same memory.
    text: Vec<u8>,
}

impl Ahead {
    /// Opens them, and makes them if need be. Whatever is in them has to be sled's, and on the disk.
    pub(super) fn begin(dir: &Path) -> io::Result<Ahead> {
        let [first, second] = paths(dir);
        let files = [open(&first)?, open(&second)?];
        layout::sync_dir(&layout::data(dir))?;
        Ok(Ahead { files, end: 0, text: Vec::new() })
    }

    /// The one that is being written.
    pub(super) fn file(&self) -> &File {
        &self.files[0]
    }

    /// Writes a round behind those that are there. It is on the disk when the file is synced.
    pub(super) fn append(&mut self, round: &Written) -> io::Result<()> {
        round.encode(&mut self.text);
        self.file().write_all_at(&self.text, self.end as u64)?;
        self.end += self.text.len();
        Ok(())
    }

    /// Whether the other one has to be begun.
    pub(super) fn is_full(&self) -> bool {
        self.end >= FULL
    }

    /// Begins the other one: everything in it is sled's, and on the disk.
    pub(super) fn turn(&mut self) {
        self.files.swap(0, 1);
        self.end = 0;
        self.text.shrink_to(TEXT);
    }
}

fn open(path: &Path) -> io::Result<File> {
    let file = File::options().write(true).create(true).truncate(false).mode(0o600).open(path)?;
    if file.metadata()?.len() < TAKEN as u64 {
        file.write_all_at(&vec![0; TAKEN], 0)?;
        file.sync_all()?;
    }
    Ok(file)
}

/// The rounds in the files, each from where the one before it ended, up to the last.
pub(super) fn read(dir: &Path) -> io::Result<Vec<Written>> {
    let [first, second] = paths(dir);
    let mut found = [read_one(&first)?, read_one(&second)?];
    found.sort_by_key(|rounds| rounds.first().map(|round| round.from));
    let [mut earlier, later] = found;
    // Else those of the earlier file are of an earlier time: sled has them on the disk.
    if earlier.last().zip(later.first()).is_none_or(|(last, next)| last.to != next.from) {
        earlier.clear();
    }
    earlier.extend(later);
    Ok(earlier)
}

fn read_one(path: &Path) -> io::Result<Vec<Written>> {
    match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(vec![]),
        read => Ok(rounds(&read?)),
    }
}

fn rounds(mut text: &[u8]) -> Vec<Written> {
    let mut found: Vec<Written> = Vec::new();
    while let Some(next) = Written::decode(&mut text) {
        if found.last().is_some_and(|last| last.to != next.from) {
            break;
        }
        found.push(next);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(round: &Written) -> Vec<u8> {
        let mut text = b"what was there before".to_vec();
        round.encode(&mut text);
        text
    }

    fn round(from: u64, value: &[u8]) -> Written {
        let mut round = Written::new(from, from + 1);
        round.set(b"a", Some(value.into()));
        round.set(b"b", None);
        round
    }

    fn in_files(dir: &Path) -> Vec<u64> {
        read(dir).unwrap().iter().map(|round| round.to).collect()
    }

    #[test]
    fn rounds_are_read_as_they_were_written_up_to_the_first_that_is_not_whole() {
        let written = [round(1, b"x"), round(2, &[7; 300]), round(3, b"")];
        let text: Vec<u8> = written.iter().flat_map(encoded).collect();
        assert_eq!(rounds(&text), written);
        let (first, second) = (encoded(&written[0]).len(), encoded(&written[1]).len());
        for at in first..first + second {
            let mut changed = text.clone();
            changed[at] ^= 1;
            assert_eq!(rounds(&changed), written[..1], "byte {at}");
            assert_eq!(rounds(&text[..at]), written[..1], "{at} bytes");
        }
    }

    #[test]
    fn what_is_left_of_an_earlier_time_is_not_read_beside_or_behind_later_rounds() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(layout::data(dir.path())).unwrap();
        assert_eq!(in_files(dir.path()), [0; 0]);
        let mut ahead = Ahead::begin(dir.path()).unwrap();
        (1..=4).for_each(|from| ahead.append(&round(from, b"x")).unwrap());
        assert_eq!(in_files(dir.path()), [2, 3, 4, 5]);
        ahead.turn();
        (5..=6).for_each(|from| ahead.append(&round(from, b"x")).unwrap());
        assert_eq!(in_files(dir.path()), [2, 3, 4, 5, 6, 7], "both files");
        // Of the same length: what follows it is whole.
        ahead.turn();
        ahead.append(&round(7, b"y")).unwrap();
        assert_eq!(in_files(dir.path()), [6, 7, 8]);
        ahead.append(&round(8, &[1; TAKEN])).unwrap();
        assert!(ahead.is_full(), "one that is longer than the file");
        assert_eq!(in_files(dir.path()), [6, 7, 8, 9]);

        let mut ahead = Ahead::begin(dir.path()).unwrap();
        assert!(!ahead.is_full());
        assert_eq!(in_files(dir.path()), [6, 7, 8, 9], "nothing is lost before the next round");
        ahead.append(&round(9, b"x")).unwrap();
        assert_eq!(in_files(dir.path()), [10], "the other file ends before that");
    }
}
