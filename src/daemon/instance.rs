//! This installation's UUID in a file beside the store: a store that is lost does not take it along, and is missed.

use std::path::{Path, PathBuf};

use uuid::Uuid;

use crate::private_file::{self, PrivateFileError};
use crate::store::Store;
use crate::store::records::{self, RecordError};

const FILE: &str = "instance";
/// A UUID and a line's end fit.
const LONGEST: usize = 64;

/// Why it is not known which installation this is.
#[derive(Debug, thiserror::Error)]
pub enum InstanceError {
    /// Records.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// Its file.
    #[error(transparent)]
    File(#[from] PrivateFileError),
    /// Its file cannot be written.
    #[error("cannot write {}", path.display())]
    Unwritten {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Its file holds something else.
    #[error("{} holds no UUID: write the one of this installation there, or remove it", path.display())]
    NoUuid {
        /// Which.
        path: PathBuf,
    },
    /// The file is there, and the store it belongs to is not.
    #[error(
        "the store of this installation ({instance}) is gone: put it back, or run 'anweddol store rebuild' to write it \
         anew from the machines that run. To begin without them, remove {}", path.display()
    )]
    StoreGone {
        /// The installation.
        instance: Uuid,
        /// Where it is written.
        path: PathBuf,
    },
}

/// Where the UUID is written.
pub(super) fn path(state_dir: &Path) -> PathBuf {
    state_dir.join(FILE)
}

/// The UUID of the installation whose store this is, made at its first start. Machines that the records do not know are
/// ended: a store without records where there was one before is not begun with.
///
/// Kept by `a_daemon_whose_store_is_gone_does_not_start_and_ends_no_machine` (tests/daemon).
pub(super) fn of(store: &dyn Store, state_dir: &Path) -> Result<Uuid, InstanceError> {
    let known = records::known_instance(store)?;
    let written = read(state_dir)?;
    let instance = match (known, written) {
        (Some(known), _) => known,
        (None, Some(instance)) => return Err(InstanceError::StoreGone { instance, path: path(state_dir) }),
        (None, None) => records::instance(store, Uuid::new_v4())?,
    };
    if written != Some(instance) {
        write(state_dir, instance)?;
    }
    Ok(instance)
}

/// What is written beside the store.
pub(super) fn read(state_dir: &Path) -> Result<Option<Uuid>, InstanceError> {
    let path = path(state_dir);
    let Some(text) = private_file::read(&path, LONGEST)? else { return Ok(None) };
    let uuid = std::str::from_utf8(&text).ok().and_then(|text| text.trim().parse().ok());
    uuid.map(Some).ok_or(InstanceError::NoUuid { path })
}

/// Writes it beside the store.
pub(super) fn write(state_dir: &Path, instance: Uuid) -> Result<(), InstanceError> {
    let path = path(state_dir);
    private_file::replace(&path, format!("{instance}\n").as_bytes())
        .map_err(|source| InstanceError::Unwritten { path, source })
}
