//! The files of a store.
//!
//! ```text
//! DIR/lock        held while the store is open; the holder's process number
//! DIR/creating    only until the store is made: what is in data/ then was never acknowledged
//! DIR/data/       mode 0700: sled's files, and
//! DIR/data/format the format's number, outside sled so that it is known before sled touches anything
//! DIR/data/told   the last revision that anybody may know of
//! DIR/data/ahead.0, ahead.1  the rounds that sled may not have brought to the disk
//! ```

use std::fs::{self, DirBuilder, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use super::error::OpenError;
use super::{ahead, lock};
use crate::failpoint::failpoint;
use crate::store::held::FORMAT;

const CREATING: &str = "creating";
const DATA: &str = "data";
const FORMAT_FILE: &str = "format";
/// sled's log.
const LOG: &str = "db";
const FORMAT_TEXT: &str = "anweddol store format ";
/// A format file is one short line.
const FORMAT_MAX: u64 = 64;

pub(super) fn data(dir: &Path) -> PathBuf {
    dir.join(DATA)
}

pub(super) fn log(dir: &Path) -> PathBuf {
    data(dir).join(LOG)
}

pub(super) fn make_dir(dir: &Path) -> Result<(), OpenError> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|source| OpenError::from_io(dir, source))
}

/// Whether the store still has to be made: nothing is there, or nothing but what an interrupted start left.
pub(super) fn is_new(dir: &Path) -> Result<bool, OpenError> {
    let io = |source| OpenError::from_io(dir, source);
    let mut names = Vec::new();
    for entry in fs::read_dir(dir).map_err(io)? {
        names.push(entry.map_err(io)?.file_name().to_string_lossy().into_owned());
    }
    let has = |name: &str| names.iter().any(|found| found == name);
    if has(CREATING) {
        return Ok(true);
    }
    if has(DATA) {
        return Ok(false);
    }
    match names.into_iter().find(|name| name != lock::FILE) {
        None => Ok(true),
        Some(found) => Err(OpenError::NotAStore { dir: dir.into(), found }),
    }
}

/// An empty `data/`, marked as unfinished. The mark is durable before `data/` is there, and removed after.
pub(super) fn begin_new(dir: &Path) -> Result<(), OpenError> {
    let begin = || {
        File::create(dir.join(CREATING))?;
        sync_dir(dir)?;
        match fs::remove_dir_all(data(dir)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        failpoint!("store-begun");
        DirBuilder::new().mode(0o700).create(data(dir))
    };
    begin().map_err(|source| OpenError::from_io(dir, source))
}

pub(super) fn finish_new(dir: &Path) -> Result<(), OpenError> {
    let finish = || {
        let mut format = File::create(data(dir).join(FORMAT_FILE))?;
        writeln!(format, "{FORMAT_TEXT}{FORMAT}")?;
        format.sync_all()?;
        sync_dir(&data(dir))?;
        sync_dir(dir)?;
        failpoint!("store-complete");
        fs::remove_file(dir.join(CREATING))?;
        sync_dir(dir)?;
        // Its parent may not be readable for us; then somebody else made the directory.
        let _ = sync_parent(dir);
        Ok(())
    };
    finish().map_err(|source| OpenError::from_io(dir, source))
}

pub(super) fn check_format(dir: &Path) -> Result<(), OpenError> {
    let path = data(dir).join(FORMAT_FILE);
    let mut text = Vec::new();
    let read = File::open(&path).and_then(|file| file.take(FORMAT_MAX).read_to_end(&mut text));
    let damaged =
        |what: &str| OpenError::Damaged { dir: dir.into(), source: format!("{what} its file 'format'").into() };
    match read {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(damaged("it lacks")),
        Err(error) => return Err(OpenError::from_io(&path, error)),
    }
    let text = String::from_utf8_lossy(&text);
    match text.strip_prefix(FORMAT_TEXT).and_then(|number| number.trim_end().parse::<u32>().ok()) {
        Some(found) if found > u32::from(FORMAT) => Err(OpenError::NewerFormat { dir: dir.into(), found }),
        Some(found) if found == u32::from(FORMAT) => Ok(()),
        Some(_) | None => Err(damaged("it does not understand")),
    }
}

/// sled takes a half-written snapshot for the newest one and then refuses to open, at every start. It is never
/// needed: the one before it and the log hold everything.
pub(super) fn remove_partial_snapshots(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(data(dir))? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with("snap.") && name.ends_with(".generating") {
            tracing::warn!(file = %entry.path().display(), "removing a snapshot that a killed process left half-written");
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// What is read from here on is what the disk holds. After a write that failed the kernel may go on to show pages that
/// never came to the disk, and calls them clean: what a killed process wrote is brought there first, and then
/// everything is read anew (`what_failed_to_come_to_the_disk_is_not_read_by_the_next_start`, tests/store).
pub(super) fn forget_cached(dir: &Path) -> io::Result<()> {
    for path in ahead::paths(dir).into_iter().chain([log(dir)]) {
        let file = match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            opened => opened?,
        };
        rustix::fs::fdatasync(&file)?;
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed)?;
    }
    Ok(())
}

/// Brings the directory's own name to the disk.
pub(super) fn sync_parent(dir: &Path) -> io::Result<()> {
    dir.canonicalize()?.parent().map_or(Ok(()), sync_dir)
}

pub(super) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}
