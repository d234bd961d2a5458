//! Making a store of given contents, whole or not at all.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::codec::{self, Meta};
use super::error::OpenError;
use super::lock::Lock;
use super::told::Told;
use super::{Disk, RealDisk, layout, open_sled};
use crate::store::Contents;
use crate::store::engine::Snapshot;

/// Pairs written at once: nobody sees the store before all are.
const BATCH: usize = 256;

/// Where the store that was there is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Aside {
    /// Nowhere: there must not be one.
    Nowhere,
    /// Under this name, beside it.
    As(String),
}

/// Puts a store of these contents in `dir`. It is made beside it, on the disk, and takes its name in one step, so that
/// at any time there is the old store or the new one there; says where the old one is now. Blocks.
pub fn install(dir: &Path, contents: &Contents, aside: &Aside) -> Result<Option<PathBuf>, OpenError> {
    let making = dir.with_extension("importing");
    let there = dir.exists();
    // Nobody has it open while it is exchanged.
    let _lock = there.then(|| Lock::take(dir)).transpose()?;
    let empty = !there || layout::is_new(dir)?;
    let kept = match (empty, aside) {
        (true, _) => None,
        (false, Aside::Nowhere) => return Err(OpenError::Present { dir: dir.into() }),
        (false, Aside::As(name)) => Some(dir.with_file_name(name)),
    };
    make(&making, contents)?;
    let exchange = || -> io::Result<()> {
        match &kept {
            None if !there => renameat_with(CWD, &making, CWD, dir, RenameFlags::NOREPLACE)?,
            None => {
                renameat_with(CWD, &making, CWD, dir, RenameFlags::EXCHANGE)?;
                fs::remove_dir_all(&making)?;
            }
            // It gets the old one's future name first: whenever this ends, no store lies under a name that the next
            // attempt would clear away.
            Some(kept) => {
                renameat_with(CWD, &making, CWD, kept, RenameFlags::NOREPLACE)?;
                renameat_with(CWD, kept, CWD, dir, RenameFlags::EXCHANGE)?;
            }
        }
        layout::sync_parent(dir)
    };
    exchange().map_err(|source| OpenError::from_io(dir, source))?;
    Ok(kept)
}

fn make(dir: &Path, contents: &Contents) -> Result<(), OpenError> {
    layout::make_dir(dir)?;
    let _lock = Lock::take(dir)?;
    layout::begin_new(dir)?;
    let sled = |error| OpenError::from_sled(dir, error);
    let (db, file) = open_sled(dir)?;
    let mut state = Snapshot::new();
    for records in contents.records.chunks(BATCH) {
        let mut batch = ::sled::Batch::default();
        for kv in records {
            batch.insert(codec::record_key(&kv.key), codec::encode_record(kv));
            state.put(kv.clone());
        }
        db.apply_batch(batch).map_err(sled)?;
    }
    for (prefix, last) in &contents.logs {
        db.insert(codec::counter_key(prefix), codec::encode_counter(*last)).map_err(sled)?;
    }
    state.revision = contents.revision;
    db.insert(codec::META, Meta::of(&state).encode()).map_err(sled)?;
    db.flush().map_err(sled)?;
    RealDisk.sync(&file).and_then(|()| Told::begin(dir, contents.revision)).map_err(|e| OpenError::from_io(dir, e))?;
    drop(db);
    // What sled wrote when it was closed.
    RealDisk.sync(&file).map_err(|source| OpenError::from_io(dir, source))?;
    layout::finish_new(dir)
}
