//! How a connection to libvirt is opened, and what to do where it is not.

use virt::connect::Connect;
use virt::error::Error;

use super::{Config, Mode};

/// Seconds between keep-alives.
const KEEPALIVE_SECONDS: i32 = 5;
/// Keep-alives without answer after which a connection is dead.
const KEEPALIVES_MISSED: u32 = 3;

/// Opens a connection; an error is words about what to do.
pub(super) fn open(config: &Config) -> Result<Connect, String> {
    let connect = Connect::open(Some(&config.uri())).map_err(|error| hint(&config.mode, error.message()))?;
    match &config.mode {
        Mode::Embedded { .. } => {}
        Mode::System { .. } => {
            // Not every driver has it; one that has none is local and cannot hang half-way.
            let _ = connect.set_keep_alive(KEEPALIVE_SECONDS, KEEPALIVES_MISSED);
        }
    }
    Ok(connect)
}

pub(super) fn hint(mode: &Mode, reason: &str) -> String {
    let advice = match mode {
        Mode::Embedded { root } if reason.contains("pid file") || reason.contains("already open") => {
            return format!("another process has {} open: one daemon at a time can use it ({reason})", root.display());
        }
        Mode::Embedded { .. } => "are QEMU and libvirt's QEMU driver installed (qemu-system-x86, libvirt-daemon)?",
        Mode::System { .. } if reason.contains("denied") || reason.contains("authenticat") => {
            "is this user in the group libvirt? Without it, use embedded mode"
        }
        Mode::System { .. } => {
            "is libvirtd running (systemctl start libvirtd)? Without libvirtd or root, use embedded mode"
        }
    };
    format!("{reason}; {advice}")
}

pub(super) fn version(connect: &Connect) -> Result<String, Error> {
    let dotted = |number: u32| format!("{}.{}.{}", number / 1_000_000, number / 1000 % 1000, number % 1000);
    Ok(format!(
        "libvirt {}, {} {}",
        dotted(connect.lib_version()?),
        connect.driver_type()?,
        dotted(connect.hyp_version()?)
    ))
}
