//! One process a store: `flock` on a file that names its holder. sled locks its log itself, but only after it has
//! begun to work on its directory, and its message names nobody.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::error::OpenError;

pub(super) const FILE: &str = "lock";
/// A process number and a line's end fit.
const TEXT_MAX: u64 = 16;

/// How long sled's threads may hold its log after a close, and how often they are asked. They let go of it once what they
/// are about is done: of a database that this very process has closed, a little after the close.
const PATIENCE: Duration = Duration::from_secs(5);
const RETRY: Duration = Duration::from_millis(1);

/// Held until dropped, or until the process ends in whatever way.
pub(super) struct Lock {
    _file: File,
}

impl Lock {
    pub(super) fn take(dir: &Path) -> Result<Lock, OpenError> {
        let path = dir.join(FILE);
        let io = |source| OpenError::from_io(&path, source);
        let mut file =
            File::options().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path).map_err(io)?;
        lock(&mut file, dir)?;
        // The file stays when the lock is gone: removing it would let two processes lock two files of one name.
        sign(&mut file).map_err(io)?;
        Ok(Lock { _file: file })
    }

    /// The same for who only reads, where nothing can be written: full and read-only disks can be looked at. Without
    /// the file nobody has the store open.
    pub(super) fn hold(dir: &Path) -> Result<Option<Lock>, OpenError> {
        let path = dir.join(FILE);
        let writable = File::options().read(true).write(true).open(&path);
        match writable.or_else(|_| File::open(&path)) {
            Ok(mut file) => {
                lock(&mut file, dir)?;
                // Where that cannot be, somebody else is told an earlier holder.
                let _ = sign(&mut file);
                Ok(Some(Lock { _file: file }))
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
            Err(error) => Err(OpenError::from_io(&path, error)),
        }
    }
}

fn lock(file: &mut File, dir: &Path) -> Result<(), OpenError> {
    match flock(&*file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(()),
        Err(Errno::WOULDBLOCK) => Err(OpenError::Locked { dir: dir.into(), pid: holder(file) }),
        Err(error) => Err(OpenError::from_io(&dir.join(FILE), error.into())),
    }
}

fn sign(file: &mut File) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", std::process::id())
}

/// Who holds it; he may not have signed yet.
fn holder(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.take(TEXT_MAX).read_to_string(&mut text).ok()?;
    text.trim_end().parse().ok()
}

/// Waits until sled has let go of its log, which it locks as this file does: then it can be opened again, moved, or its
/// file system be unmounted (`a_closed_store_has_let_go_of_its_files`, `who_opens_waits_for_an_opening_that_failed`). Who has
/// not after so long is met by what comes next.
pub(super) fn let_go(log: &File) {
    let begin = Instant::now();
    while let Err(Errno::WOULDBLOCK) = flock(log, FlockOperation::NonBlockingLockExclusive) {
        if begin.elapsed() > PATIENCE {
            return;
        }
        std::thread::sleep(RETRY);
    }
    // Closing it does the same.
    let _ = flock(log, FlockOperation::Unlock);
}
