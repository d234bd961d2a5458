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
    convert(iso, disk)?;
    qemu_img(&[OsStr::new("resize"), OsStr::new("-q"), disk.as_os_str(), OsStr::new(SIZE)])
}

/// Makes a disk in QEMU's format of the bytes of one.
pub(super) fn convert(raw: &Path, disk: &Path) -> Result<(), ImageError> {
    let paths = [raw.as_os_str(), disk.as_os_str()];
    let arguments: Vec<&OsStr> = ["convert", "-f", "raw", "-O", "qcow2"].iter().map(OsStr::new).chain(paths).collect();
    qemu_img(&arguments)
}

fn qemu_img(arguments: &[&OsStr]) -> Result<(), ImageError> {
    let failed = |error: ChildError| ImageError::Disk { reason: error_chain(&error) };
    QEMU_IMG.run(arguments, "").map(drop).map_err(failed)
}
