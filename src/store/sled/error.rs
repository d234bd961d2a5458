use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};

use super::codec::CodecError;
use crate::store::held::FORMAT;

/// Why a store cannot be opened, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// It is open already.
    #[error(
        "store {} is held by {}: stop that daemon, or give this one another directory",
        dir.display(), holder(*pid)
    )]
    Locked {
        /// The store.
        dir: PathBuf,
        /// Who holds it, if he left his number.
        pid: Option<u32>,
    },
    /// A later version of this program wrote it.
    #[error(
        "store {} has format {found}, and this program knows formats up to {FORMAT}: \
         use the version that wrote it, or a later one",
        dir.display()
    )]
    NewerFormat {
        /// The store.
        dir: PathBuf,
        /// Its format.
        found: u32,
    },
    /// It is not what was written.
    #[error(
        "store {} is damaged ('anweddol store check' says how; 'store export' saves what can be read of it, \
         'store import --replace' puts a document in its place, 'store rebuild' what the machines that run say)",
        dir.display()
    )]
    Damaged {
        /// The store.
        dir: PathBuf,
        /// What is wrong.
        source: Box<dyn Error + Send + Sync>,
    },
    /// There is none.
    #[error("there is no store in {}: name the daemon's state directory with --state", dir.display())]
    Absent {
        /// Where it was looked for.
        dir: PathBuf,
    },
    /// There is one where another is to be put.
    #[error("there is a store in {}: with --replace it is kept aside, and another put in its place", dir.display())]
    Present {
        /// Where.
        dir: PathBuf,
    },
    /// There is something else in its directory.
    #[error("{} holds no store but is not empty ('{found}'): name a new or an empty directory", dir.display())]
    NotAStore {
        /// The directory.
        dir: PathBuf,
        /// One of its files.
        found: String,
    },
    /// Its files belong to somebody else.
    #[error("no permission for {}: it has to belong to the user that runs the daemon", path.display())]
    Permission {
        /// Which.
        path: PathBuf,
        /// As the system says it.
        source: io::Error,
    },
    /// The file system is full.
    #[error("no space left for {}: free some space on its file system", path.display())]
    NoSpace {
        /// Which.
        path: PathBuf,
        /// As the system says it.
        source: io::Error,
    },
    /// Nothing can be written to its file system.
    #[error(
        "the file system of {} is read-only: see the kernel's log for why, and mount it for writing again",
        path.display()
    )]
    ReadOnly {
        /// Which.
        path: PathBuf,
        /// As the system says it.
        source: io::Error,
    },
    /// Something else with its files.
    #[error("cannot use {}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// As the system says it.
        source: io::Error,
    },
}

fn holder(pid: Option<u32>) -> String {
    pid.map_or("another process".into(), |pid| format!("process {pid}"))
}

impl OpenError {
    pub(super) fn from_io(path: &Path, source: io::Error) -> Self {
        let path = path.into();
        match source.kind() {
            io::ErrorKind::PermissionDenied => OpenError::Permission { path, source },
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => OpenError::NoSpace { path, source },
            io::ErrorKind::ReadOnlyFilesystem => OpenError::ReadOnly { path, source },
            _ => OpenError::Io { path, source },
        }
    }

    pub(super) fn from_sled(dir: &Path, error: ::sled::Error) -> Self {
        use ::sled::Error::{CollectionNotFound, Corruption, Io, ReportableBug, Unsupported};
        match error {
            Io(source) => OpenError::from_io(dir, source),
            Corruption { at, .. } => {
                let place = at.map_or_else(String::new, |at| format!(" at {at:?}"));
                let what = format!("sled finds what it did not write{place}");
                OpenError::Damaged { dir: dir.into(), source: what.into() }
            }
            error @ (CollectionNotFound(_) | Unsupported(_) | ReportableBug(_)) => {
                OpenError::Damaged { dir: dir.into(), source: error.into() }
            }
        }
    }

    pub(super) fn from_codec(dir: &Path, error: CodecError) -> Self {
        match error {
            CodecError::Newer { found } => OpenError::NewerFormat { dir: dir.into(), found: found.into() },
            CodecError::Broken { .. } => OpenError::Damaged { dir: dir.into(), source: error.into() },
        }
    }
}
