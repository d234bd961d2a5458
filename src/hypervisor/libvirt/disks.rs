//! Overlays: what machines write, over disk images that nobody ever writes.
//!
//! One file for each machine, named by its UUID, in a directory that is ours alone: so what is left behind is found
//! without any record. Made by `qemu-img`, which writes no more than a header. QEMU holds a lock on the overlay of a
//! machine that runs; one that is replaced meanwhile is another file.
//!
//! What `create` and `remove_disk` promise of them is kept by `an_overlay_is_made_afresh_and_stays_as_long_as_its_domain`
//! (tests/libvirt).

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use uuid::Uuid;

use crate::child::{ChildError, Program};
use crate::error_chain;
use crate::failpoint::failpoint;
use crate::hypervisor::HypervisorError;
use crate::hypervisor::account::{Account, Want};
use crate::hypervisor::xml::overlay;
use crate::model::DiskFormat;
use crate::privilege;

/// It takes a few milliseconds, and more where the base is far away.
const QEMU_IMG: Program = Program { name: "qemu-img", package: "qemu-utils", deadline: Duration::from_secs(30) };

/// What has to be free where overlays are before a machine goes on that found no room.
const ROOM: u64 = 16 << 20;

/// The overlays of this installation.
#[derive(Clone, Debug)]
pub(super) struct Disks {
    /// Where they are.
    pub(super) dir: PathBuf,
    /// Who has to be able to write them, where that is not this process' own user.
    pub(super) account: Option<Account>,
}

impl Disks {
    /// Makes a machine's overlay, in the place of one that may be there. No domain may run on it.
    pub(super) fn make(&self, uuid: Uuid, base: &Path, format: DiskFormat) -> Result<(), HypervisorError> {
        self.prepare()?;
        let path = self.path(uuid);
        let failed = |reason: String| HypervisorError::Failed { what: "making the disk", uuid, reason };
        gone(fs::remove_file(&path)).map_err(|error| failed(format!("{}: {error}", path.display())))?;
        let words = ["create", "-q", "-f", "qcow2", "-F", format.name(), "-b"].map(OsStr::new);
        // Two words that begin with '/': neither can be an option, nor the name of a protocol.
        let arguments: Vec<&OsStr> = words.into_iter().chain([base.as_os_str(), path.as_os_str()]).collect();
        QEMU_IMG.run(&arguments, "").map_err(|error| match error {
            ChildError::Failed { said } => HypervisorError::Invalid {
                what: format!("image {} as a {} disk", base.display(), format.name()),
                reason: said,
            },
            error @ (ChildError::Start { .. } | ChildError::Late { .. }) => failed(error_chain(&error)),
        })?;
        failpoint!("disk-made");
        self.hand_over(&path).map_err(|error| failed(format!("{}: {error}", path.display())))
    }

    /// Whether a machine has one.
    pub(super) fn has(&self, uuid: Uuid) -> Result<bool, HypervisorError> {
        match fs::symlink_metadata(self.path(uuid)) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(HypervisorError::Failed { what: "look at the disk", uuid, reason: error.to_string() }),
        }
    }

    /// Whether a machine that found no room for what it wrote would find some now: enough that it does not stand still
    /// again at once.
    pub(super) fn has_room(&self, uuid: Uuid) -> Result<(), HypervisorError> {
        let failed = |reason: String| HypervisorError::Failed { what: "resuming", uuid, reason };
        let place = self.dir.display();
        let space = rustix::fs::statvfs(&self.dir).map_err(|error| failed(format!("{place}: {error}")))?;
        match space.f_bavail.saturating_mul(space.f_frsize) >= ROOM {
            true => Ok(()),
            false => Err(failed(format!(
                "there is no room for its disk in {place}: it goes on by itself when {} MiB are free there",
                ROOM >> 20
            ))),
        }
    }

    /// Every machine that has one. Other files are nobody's business.
    pub(super) fn list(&self) -> Result<Vec<Uuid>, HypervisorError> {
        let failed = |error: io::Error| HypervisorError::Invalid {
            what: format!("directory of disks {}", self.dir.display()),
            reason: error.to_string(),
        };
        let entries = match fs::read_dir(&self.dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(failed)?,
        };
        let mut uuids = Vec::new();
        for entry in entries {
            let name = entry.map_err(failed)?.file_name();
            let uuid = name.to_str().and_then(|name| Uuid::parse_str(name.strip_suffix(".qcow2")?).ok());
            uuids.extend(uuid.filter(|uuid| name == *overlay(*uuid)));
        }
        Ok(uuids)
    }

    /// Removes a machine's, if there is one.
    pub(super) fn remove(&self, uuid: Uuid) -> Result<(), HypervisorError> {
        gone(fs::remove_file(self.path(uuid))).map_err(|error| HypervisorError::Failed {
            what: "removing the disk",
            uuid,
            reason: error.to_string(),
        })
    }

    fn path(&self, uuid: Uuid) -> PathBuf {
        self.dir.join(overlay(uuid))
    }

    /// Makes the directory; others may pass through it where QEMU is another user, but not list it.
    fn prepare(&self) -> Result<(), HypervisorError> {
        let invalid = |reason: String| HypervisorError::Invalid {
            what: format!("directory of disks {}", self.dir.display()),
            reason,
        };
        let failed = |error: io::Error| invalid(error.to_string());
        let mode = if self.account.is_some() { 0o711 } else { 0o700 };
        DirBuilder::new().recursive(true).mode(mode).create(&self.dir).map_err(failed)?;
        fs::set_permissions(&self.dir, Permissions::from_mode(mode)).map_err(failed)?;
        if let Some(account) = &self.account
            && let Some(part) = account.obstacle(&self.dir, Want::Enter).map_err(failed)?
        {
            return Err(invalid(format!(
                "the user '{}', who runs QEMU, cannot pass {part:?}: chmod o+x it, or choose a state directory elsewhere",
                account.name
            )));
        }
        Ok(())
    }

    /// What a guest writes is read by QEMU's user and nobody else. Where this process may not give it to that user,
    /// libvirtd does when it starts the machine, as it does by itself (`dynamic_ownership`).
    fn hand_over(&self, path: &Path) -> io::Result<()> {
        fs::set_permissions(path, Permissions::from_mode(0o600))?;
        match &self.account {
            Some(account) if privilege::may_give_files_away() => {
                std::os::unix::fs::lchown(path, Some(account.uid), account.gids.first().copied())
            }
            Some(_) | None => Ok(()),
        }
    }
}

/// What is gone already is no error.
fn gone(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disks() -> (tempfile::TempDir, Disks) {
        let scratch = tempfile::tempdir().unwrap();
        let disks = Disks { dir: scratch.path().join("disks"), account: None };
        (scratch, disks)
    }

    #[test]
    fn only_overlays_are_listed_and_one_that_is_gone_is_no_error() {
        let (_scratch, disks) = disks();
        let uuid = Uuid::from_u128(0xabc);
        assert!(disks.list().unwrap().is_empty());
        assert!(!disks.has(uuid).unwrap());
        disks.prepare().unwrap();
        for name in ["x.qcow2", "readme", &format!("{uuid}.raw"), &format!("{{{uuid}}}.qcow2"), &overlay(uuid)] {
            fs::write(disks.dir.join(name), "").unwrap();
        }
        assert_eq!(disks.list().unwrap(), [uuid]);
        assert!(disks.has(uuid).unwrap());
        disks.remove(uuid).unwrap();
        disks.remove(uuid).unwrap();
        assert!(disks.list().unwrap().is_empty());
    }

    #[test]
    fn a_directory_that_cannot_be_listed_is_unknown_and_not_empty() {
        let (_scratch, disks) = disks();
        fs::write(&disks.dir, "a file").unwrap();
        assert!(disks.list().is_err() && disks.has(Uuid::nil()).is_err());
    }
}
