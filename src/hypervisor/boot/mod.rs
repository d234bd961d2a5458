//! Whether QEMU runs a guest on this host, by running one: a boot sector of our own that needs a tenth of a second.
//!
//! A device that opens proves little. Nested virtual machines often have a `/dev/kvm` under which QEMU starts and no guest
//! gets anywhere. What counts is that code of the guest's ran, to its end, in long mode, and in time. QEMU runs as this
//! process' own user: that the user of machines may open the device is asked by [`super::accel`].

#[cfg(test)]
mod tests;

use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::child::Program;
use crate::error_chain;

use super::xml::Accelerator;

/// Here it takes 130 ms emulated, on a busy machine under two seconds; a KVM that needs longer is none.
const QEMU: Program =
    Program { name: "qemu-system-x86_64", package: "qemu-system-x86", deadline: Duration::from_secs(5) };
/// What the guest says.
const SAID: &str = "a guest ran\n";
/// Firmware boots from no disk that is shorter than a cylinder.
const DISK: u64 = 1 << 20;

/// `sector.s`, assembled.
const SECTOR: &[u8; 150] = &[
    0xfa, 0x31, 0xc0, 0x8e, 0xd8, 0x8e, 0xc0, 0x8e, 0xd0, 0xbf, 0x00, 0x10, 0xb9, 0x00, 0x18, 0xfc, 0xf3, 0xab, 0xc7,
    0x06, 0x00, 0x10, 0x03, 0x20, 0xc7, 0x06, 0x00, 0x20, 0x03, 0x30, 0xc7, 0x06, 0x00, 0x30, 0x83, 0x00, 0x66, 0xb8,
    0x00, 0x10, 0x00, 0x00, 0x0f, 0x22, 0xd8, 0x0f, 0x20, 0xe0, 0x0c, 0x20, 0x0f, 0x22, 0xe0, 0x66, 0xb9, 0x80, 0x00,
    0x00, 0xc0, 0x0f, 0x32, 0x0d, 0x00, 0x01, 0x0f, 0x30, 0x66, 0x0f, 0x01, 0x16, 0x90, 0x7c, 0x0f, 0x20, 0xc0, 0x66,
    0x0d, 0x01, 0x00, 0x00, 0x80, 0x0f, 0x22, 0xc0, 0x66, 0xea, 0x5c, 0x7c, 0x00, 0x00, 0x08, 0x00, 0xbe, 0x73, 0x7c,
    0x00, 0x00, 0xb9, 0x0c, 0x00, 0x00, 0x00, 0x66, 0xba, 0xe9, 0x00, 0xf3, 0x6e, 0xb0, 0xfe, 0xe6, 0x64, 0xf4, 0xeb,
    0xfd, 0x61, 0x20, 0x67, 0x75, 0x65, 0x73, 0x74, 0x20, 0x72, 0x61, 0x6e, 0x0a, 0x90, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x9a, 0x20, 0x00, 0x0f, 0x00, 0x80, 0x7c, 0x00, 0x00,
];

/// Runs the guest and says how long it took; an error is words about what became of it.
pub fn run(accelerator: Accelerator) -> Result<Duration, String> {
    let disk = disk().map_err(|error| format!("its disk cannot be written: {error}"))?;
    let begun = Instant::now();
    match QEMU.run(&arguments(accelerator, disk.path()), "") {
        Ok(said) if said == SAID => Ok(begun.elapsed()),
        Ok(said) => Err(format!("QEMU ended, and its guest had said {said:?} instead of {SAID:?}")),
        // QEMU's first line names the reason; what follows are consequences.
        Err(error) => Err(error_chain(&error).lines().next().unwrap_or_default().to_owned()),
    }
}

fn disk() -> std::io::Result<tempfile::NamedTempFile> {
    let mut sector = [0; 512];
    sector[..SECTOR.len()].copy_from_slice(SECTOR);
    // By these the firmware knows that it boots.
    sector[510..].copy_from_slice(&[0x55, 0xaa]);
    let mut file = tempfile::NamedTempFile::new()?;
    file.write_all(&sector)?;
    file.as_file().set_len(DISK)?;
    Ok(file)
}

fn arguments(accelerator: Accelerator, disk: &Path) -> Vec<String> {
    let (accelerator, processor) = match accelerator {
        Accelerator::Kvm => ("kvm", "host"),
        Accelerator::Tcg => ("tcg", "max"),
    };
    // In QEMU's options a comma stands for itself when it is doubled.
    let disk = disk.to_string_lossy().replace(',', ",,");
    let drive = format!("if=none,id=disk,format=raw,readonly=on,file={disk}");
    let words = ["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-machine", "q35", "-m", "32"];
    let more = ["-accel", accelerator, "-cpu", processor, "-debugcon", "stdio", "-drive", &drive];
    let device = ["-device", "virtio-blk-pci,drive=disk"];
    words.into_iter().chain(more).chain(device).map(str::to_owned).collect()
}
