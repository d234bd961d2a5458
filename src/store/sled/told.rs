//! How far the store has told: the last revision that anybody may know of, in a file beside sled's.
//!
//! sled ends its log before the first message that is not whole. After a power cut that is right: what was not synced
//! was told to nobody. But a message that was told, and damaged later, would end the log as silently, and the records
//! would be whole as of some time ago. So the last revision told is noted, after it is durable and before it is told,
//! and a store that opens with less is damaged. The note itself is never waited for: it can only be late, which costs
//! nothing but this check; it is never ahead of the disk.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use super::layout;

const FILE: &str = "told";
/// A revision, and its complement: half of something else is no note.
const LEN: usize = 16;

/// The note, open for writing.
pub(super) struct Told {
    file: File,
}

impl Told {
    /// Opens the note and says this revision, on the disk.
    pub(super) fn begin(dir: &Path, revision: u64) -> io::Result<Told> {
        let path = layout::data(dir).join(FILE);
        let file = File::options().write(true).create(true).truncate(false).mode(0o600).open(path)?;
        let told = Told { file };
        told.note(revision)?;
        told.file.set_len(LEN as u64)?;
        told.file.sync_all()?;
        layout::sync_dir(&layout::data(dir))?;
        Ok(told)
    }

    /// One small write in place: it allocates nothing and waits for nothing.
    pub(super) fn note(&self, revision: u64) -> io::Result<()> {
        self.file.write_all_at(&encode(revision), 0)
    }
}

/// What was noted. A note that makes no sense says nothing: it is no reason to keep whole records shut.
pub(super) fn read(dir: &Path) -> io::Result<Option<u64>> {
    let path = layout::data(dir).join(FILE);
    match fs::read(&path) {
        Ok(text) => {
            let noted = decode(&text);
            if noted.is_none() {
                tracing::warn!(file = %path.display(), "it does not say how far the store was; it is written anew");
            }
            Ok(noted)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn encode(revision: u64) -> [u8; LEN] {
    let mut text = [0; LEN];
    text[..8].copy_from_slice(&revision.to_be_bytes());
    text[8..].copy_from_slice(&(!revision).to_be_bytes());
    text
}

fn decode(text: &[u8]) -> Option<u64> {
    let (revision, check) = text.split_first_chunk::<8>()?;
    let revision = u64::from_be_bytes(*revision);
    (check == (!revision).to_be_bytes()).then_some(revision)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_read_as_it_was_written_or_not_at_all() {
        let note = encode(0x1234_5678);
        assert_eq!(decode(&note), Some(0x1234_5678));
        for at in 0..LEN {
            let mut changed = note;
            changed[at] ^= 1;
            assert_eq!(decode(&changed), None);
            assert_eq!(decode(&note[..at]), None);
        }
        assert_eq!(decode(&[&note[..], b"more"].concat()), None);
        assert_eq!(decode(&[0; LEN]), None);
    }
}
