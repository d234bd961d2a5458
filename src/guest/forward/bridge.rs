//! The bridge that guests' cards are on, as the tables need it.
//!
//! Frames to 01:80:c2:00:00:0X are for a bridge itself, and the kernel hands them to this host as if they came from no
//! bridge at all. All of them pass at least the hook `input`, but those to ..:0e (LLDP): unless the bridge forwards them,
//! no table sees them, and it learns their sender. So it has to forward them, by the way of all frames.

use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::child::Program;
use crate::error_chain;

/// It takes a few milliseconds.
const IP: Program = Program { name: "ip", package: "iproute2", deadline: Duration::from_secs(10) };
/// The bit of the address that ends with 0e.
const LLDP: u16 = 1 << 0xe;

/// Whether a bridge is as [`set_up`] leaves it; libvirt makes it anew with its network, and then it is not. Nothing where
/// the kernel does not say: there is no bridge, or no `/sys`.
pub(super) fn is_set_up(bridge: &str) -> Option<bool> {
    forwards_lldp(&fs::read_to_string(format!("/sys/class/net/{bridge}/bridge/group_fwd_mask")).ok()?)
}

/// Lets no frame past the tables. And connections of this host to its own loopback address may leave through the bridge,
/// after the table gave them the bridge's address; the table drops what comes back by the same way unasked.
pub(super) fn set_up(bridge: &str) -> Result<(), String> {
    if is_set_up(bridge) != Some(true) {
        // By netlink: the daemon's unit can write nothing below /sys.
        let mask = format!("{LLDP:#x}");
        let link = ["link", "set", "dev", bridge, "type", "bridge", "group_fwd_mask", &mask];
        IP.run(&link, "").map_err(|error| error_chain(&error))?;
    }
    switch_on(Path::new(&format!("/proc/sys/net/ipv4/conf/{bridge}/route_localnet")))
}

/// Writes 1 to a file of the kernel's.
pub(super) fn switch_on(file: &Path) -> Result<(), String> {
    let wrong = |error: std::io::Error| format!("{}: {error}", file.display());
    match fs::read_to_string(file).map_err(wrong)?.trim() {
        "1" => Ok(()),
        _ => fs::write(file, "1").map_err(wrong),
    }
}

/// What the kernel says of a mask: `0x4000`.
fn forwards_lldp(mask: &str) -> Option<bool> {
    let mask = u16::from_str_radix(mask.trim().strip_prefix("0x")?, 16).ok()?;
    Some(mask & LLDP != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mask_is_read_as_the_kernel_writes_it() {
        for (told, masks) in
            [(Some(true), ["0x4000\n", "0xfff8\n"]), (Some(false), ["0x0\n", "0xbff8\n"]), (None, ["", "0x"])]
        {
            assert!(masks.into_iter().all(|mask| forwards_lldp(mask) == told), "{masks:?}");
        }
    }
}
