//! The bootable disk: the CD's bytes, with room behind them, in QEMU's format.

use std::ffi::OsStr;
use std::path::Path;
use std::time::Duration;

use super::ImageError;
use crate::child::{ChildError, Program};
use crate::error_chain;

/// It copies some ten megabytes.
const QEMU_IMG: Program = Program { name: "qemu-img", package: "qemu-utils", deadline: Duration::from_secs(120) };
/// How large a guest finds it. What nobody writes takes no room.
const SIZE: &str = "1G";

/// Makes the disk of a CD.
pub(super) fn write(iso: &Path, disk: &Path) -> Result<(), ImageError> {
    let paths = [iso.as_os_str(), disk.as_os_str()];
    let convert: Vec<&OsStr> = ["convert", "-f", "raw", "-O", "qcow2"].iter().map(OsStr::new).chain(paths).collect();
    let resize = [OsStr::new("resize"), OsStr::new("-q"), disk.as_os_str(), OsStr::new(SIZE)];
    for arguments in [&convert[..], &resize[..]] {
        QEMU_IMG.run(arguments, "").map_err(|error: ChildError| ImageError::Disk { reason: error_chain(&error) })?;
    }
    Ok(())
}
