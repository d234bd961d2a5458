//! Reading a store without changing it, as far as it can be read.
//!
//! sled mends what it opens, and what it mends is no longer there to be looked at. So it is given a copy: first as
//! the files are, then without what it can do without (its settings, its snapshots) and with its log's last segment
//! filled up. The attempt that finds most counts.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use sled::IVec;

use super::codec::{self, Entry, Meta};
use super::contain::contained;
use super::error::OpenError;
use super::lock::Lock;
use super::{Base, SEGMENT, catch_up, layout, told};
use crate::store::engine::Snapshot;
use crate::store::{Contents, Kv};

/// What is left of a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Salvage {
    /// What could be read.
    pub contents: Contents,
    /// What could not, in words: nothing, if the store is whole.
    pub losses: Vec<String>,
}

/// Reads the store in `dir` from a copy in the system's directory for temporary files, which needs as much space as the
/// store has. Nobody else may have it open meanwhile; nothing in it is changed, so a disk that is full or read-only is
/// good enough. Blocks.
pub fn salvage(dir: &Path) -> Result<Salvage, OpenError> {
    let _lock = Lock::hold(dir)?;
    held(dir)
}

/// The same of a store that is held already.
pub(super) fn held(dir: &Path) -> Result<Salvage, OpenError> {
    let data = layout::data(dir);
    match fs::metadata(&data) {
        Ok(found) if found.is_dir() => {}
        // One that may not be looked at is there perhaps.
        Err(error) if !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Err(OpenError::from_io(&data, error));
        }
        Ok(_) | Err(_) => return Err(OpenError::Absent { dir: dir.into() }),
    }
    let mut losses = Vec::new();
    match layout::check_format(dir) {
        Ok(()) => {}
        Err(error @ OpenError::NewerFormat { .. }) => return Err(error),
        Err(error) => losses.push(said(&error)),
    }
    let noted = told::read(dir).map_err(|source| OpenError::from_io(dir, source))?;
    let plain = attempt(dir, As::Is)?;
    let best = match plain.losses.is_empty() {
        true => plain,
        false => {
            let mended = attempt(dir, As::Little)?;
            // Losses are said of the files as they are; the other attempt is only a way to more records.
            let found = |salvage: &Salvage| (salvage.contents.revision, salvage.contents.records.len());
            match found(&mended) > found(&plain) {
                true => Salvage { losses: plain.losses, ..mended },
                false => plain,
            }
        }
    };
    let Salvage { mut contents, losses: lost } = best;
    losses.extend(lost);
    if let Some(noted) = noted.filter(|noted| *noted > contents.revision) {
        let revision = contents.revision;
        losses.push(format!("revision {noted} was told, but what can be read ends at revision {revision}"));
        // Nothing that is written from here on may bear a revision that somebody saw with other contents.
        contents.revision = noted;
    }
    Ok(Salvage { contents, losses })
}

/// How sled is shown the files.
#[derive(Clone, Copy)]
enum As {
    Is,
    Little,
}

fn attempt(dir: &Path, how: As) -> Result<Salvage, OpenError> {
    let scratch = scratch().map_err(|source| OpenError::from_io(&std::env::temp_dir(), source))?;
    copy(&layout::data(dir), &layout::data(scratch.path()), how)?;
    let path = scratch.path().to_owned();
    let read = contained(dir, move || {
        let base = Base::open(&path)?;
        catch_up(&path, &base.db)?;
        Ok(read(&base.db))
    });
    Ok(read.unwrap_or_else(|error| {
        let contents = Contents { revision: 1, records: vec![], logs: BTreeMap::new() };
        Salvage { contents, losses: vec![said(&error)] }
    }))
}

/// Where a copy is read: for nobody else, as the store is.
pub(super) fn scratch() -> io::Result<tempfile::TempDir> {
    let private = fs::Permissions::from_mode(0o700);
    tempfile::Builder::new().prefix("anweddol-store-").permissions(private).tempdir()
}

fn copy(from: &Path, to: &Path, how: As) -> Result<(), OpenError> {
    let at = |path: &Path| {
        let path = path.to_owned();
        move |source| OpenError::from_io(&path, source)
    };
    fs::create_dir_all(to).map_err(at(to))?;
    for entry in fs::read_dir(from).map_err(at(from))? {
        let path = entry.map_err(at(from))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let spare = name == "conf" || name.starts_with("snap.");
        match how {
            As::Is if !name.ends_with(".generating") => {}
            As::Little if !spare => {}
            As::Is | As::Little => continue,
        }
        // Pages in files of their own are not written by this program.
        if path.is_file() {
            fs::copy(&path, to.join(&name)).map_err(at(&path))?;
        }
    }
    if let As::Little = how {
        fill_up(&to.join("db")).map_err(at(to))?;
    }
    Ok(())
}

/// sled refuses a log that ends within a segment.
fn fill_up(log: &PathBuf) -> io::Result<()> {
    let file = match File::options().write(true).open(log) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        opened => opened?,
    };
    let len = file.metadata()?.len();
    file.set_len(len.next_multiple_of(SEGMENT as u64))
}

/// Everything that sled still finds.
fn read(db: &::sled::Db) -> Salvage {
    let (pairs, mut losses) = pairs(db);
    let (mut state, mut meta) = (Snapshot::new(), None);
    let (mut records, mut logs) = (Vec::new(), BTreeMap::new());
    for (key, value) in &pairs {
        match codec::decode(key, value) {
            Ok(Entry::Meta(found)) => meta = Some(found),
            Ok(Entry::Counter { prefix, last }) => drop(logs.insert(prefix, last)),
            Ok(Entry::Record { key, held }) => {
                records.push(held.kv(&key));
                state.put(key, held);
            }
            Err(error) => losses.push(error.to_string()),
        }
    }
    // Without the totals, no revision is known but those that records bear.
    state.revision = meta.map_or_else(|| last(&records), |meta| meta.revision);
    let found = Meta::of(&state);
    match meta {
        None => losses.push("it holds no revision".into()),
        Some(meta) if meta != found => losses.push(format!("it should hold {meta}, but holds {found}")),
        Some(_) => {}
    }
    Salvage { contents: Contents { revision: state.revision, records, logs }, losses }
}

fn last(records: &[Kv]) -> u64 {
    records.iter().map(|kv| kv.mod_rev).max().unwrap_or(1)
}

type Pairs = BTreeMap<IVec, IVec>;

/// Every pair that can be read, from both ends as far as it goes.
fn pairs(db: &::sled::Db) -> (Pairs, Vec<String>) {
    let (mut found, mut losses) = (Pairs::new(), Vec::new());
    for pair in db.iter() {
        match pair {
            Ok((key, value)) => drop(found.insert(key, value)),
            Err(error) => {
                losses.push(format!("not all records can be read: {error}"));
                break;
            }
        }
    }
    if !losses.is_empty() {
        found.extend(db.iter().rev().map_while(Result::ok));
    }
    (found, losses)
}

fn said(error: &OpenError) -> String {
    match error {
        // Its own text is advice.
        OpenError::Damaged { source, .. } => source.to_string(),
        other => crate::error_chain(other),
    }
}
