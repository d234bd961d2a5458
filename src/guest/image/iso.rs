//! The bootable CD: isolinux without menu or time-out, the kernel and the initial RAM disk. Its first sector starts it
//! from a disk too.

use std::fs::{self, File, FileTimes};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use super::apt::last_lines;
use super::{ImageError, io_error};

/// 2024-01-01, for everything on the CD: ISO 9660 has no year 1970 that all tools agree on.
pub(super) const EPOCH: u64 = 1_704_067_200;

/// Writes a CD of `files` (path on the CD and content) to `iso`, by way of the empty directory `scratch`, with the first
/// sector that is in the file `mbr`.
pub(super) fn write(scratch: &Path, files: &[(&str, &[u8])], mbr: &Path, iso: &Path) -> Result<(), ImageError> {
    let date = SystemTime::UNIX_EPOCH + Duration::from_secs(EPOCH);
    let mut directories = vec![scratch.to_path_buf()];
    for (path, bytes) in files {
        let path = scratch.join(path);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(io_error(parent))?;
            directories.push(parent.into());
        }
        fs::write(&path, bytes).map_err(io_error(&path))?;
        let file = File::options().write(true).open(&path).map_err(io_error(&path))?;
        file.set_times(FileTimes::new().set_modified(date).set_accessed(date)).map_err(io_error(&path))?;
    }
    for directory in directories {
        let file = File::open(&directory).map_err(io_error(&directory))?;
        file.set_times(FileTimes::new().set_modified(date).set_accessed(date)).map_err(io_error(&directory))?;
    }
    let output = Command::new("xorriso")
        .env("LC_ALL", "C")
        .env("TZ", "UTC")
        // Dates, and with them the volume's UUID, come from here; xorriso then also keeps random ids out.
        .env("SOURCE_DATE_EPOCH", EPOCH.to_string())
        .args(["-no_rc", "-as", "mkisofs", "-quiet", "-volid", "ANWEDDOL", "-rock", "-uid", "0", "-gid", "0"])
        .args(["-file-mode", "0444", "-dir-mode", "0555"])
        .args(["-eltorito-boot", "isolinux/isolinux.bin", "-eltorito-catalog", "isolinux/boot.cat"])
        .args(["-no-emul-boot", "-boot-load-size", "4", "-boot-info-table"])
        .arg("-isohybrid-mbr")
        .arg(mbr)
        .arg("-output")
        .arg(iso)
        .arg(scratch)
        .stdin(Stdio::null())
        .output()
        .map_err(|source| ImageError::Start { program: "xorriso", source })?;
    match output.status.success() {
        true => Ok(()),
        false => Err(ImageError::Iso { reason: last_lines(&output.stderr) }),
    }
}
