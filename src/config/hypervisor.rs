//! `hypervisor` and `host`: what runs machines, and what it gives to them.

use std::num::NonZeroU32;

use serde::{Deserialize, Serialize};

use super::Faults;
use crate::model::{Memory, Subnet};

/// What runs machines.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Hypervisor {
    /// Which libvirt.
    pub mode: Mode,
    /// The libvirt network of system mode; made if it is missing.
    pub network: String,
    /// Its bridge.
    pub bridge: String,
    /// Its addresses.
    pub subnet: Subnet,
}

/// Which libvirt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// System where libvirtd answers and this process may change networks (root, or `CAP_NET_ADMIN`), embedded elsewhere.
    #[default]
    Auto,
    /// libvirt inside this process, user networking, no root.
    Embedded,
    /// `qemu:///system`, a NAT network, nftables.
    System,
}

impl Default for Hypervisor {
    fn default() -> Self {
        Hypervisor { mode: Mode::Auto, network: "anweddol".into(), bridge: "anw0".into(), subnet: Subnet::default() }
    }
}

impl Hypervisor {
    pub(super) fn check(&self, f: &mut Faults) {
        let name = |text: &str| {
            (1..=15).contains(&text.len()) && text.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-' || c == b'_')
        };
        f.unless(
            name(&self.bridge),
            "hypervisor.bridge",
            "write 1 to 15 letters, digits, '-' or '_' (the kernel's limit)",
        );
        f.unless(
            !self.network.is_empty() && !self.network.contains(|c: char| c == '/' || c.is_control()),
            "hypervisor.network",
            "write a libvirt network name: not empty, no '/' and no control characters",
        );
    }
}

/// What this host gives to machines. A simulated host has no limits but those that are written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Host {
    /// Memory of all machines together; absent: what the host has, less 512Mi for itself.
    pub memory: Option<Memory>,
    /// What has to stay free of the file system that holds the state directory; absent: [`DISK_RESERVE`].
    pub disk_reserve: Option<Memory>,
    /// Machines that boot at once; absent: [`crate::host::local::boots_at_once`].
    pub parallel_boots: Option<NonZeroU32>,
}

/// See [`Host::disk_reserve`].
pub const DISK_RESERVE: Memory = Memory::mebibytes(512);
