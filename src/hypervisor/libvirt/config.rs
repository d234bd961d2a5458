//! Which libvirt is opened, and what follows from that.

use std::path::PathBuf;

use super::{NatNetwork, embedded};
use crate::model::Network;

/// Which libvirt, and how guests are connected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Which libvirt.
    pub mode: Mode,
    /// Where the overlays of machines with a disk are; of this installation alone. QEMU's user has to be able to pass
    /// there.
    pub disks: PathBuf,
}

/// Which libvirt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Inside this process.
    Embedded {
        /// Its directory: short (see the error if not), of one process at a time. Where this process is root, other
        /// users have to be able to pass through it, because QEMU runs as one of them.
        root: PathBuf,
    },
    /// A daemon of the host.
    System {
        /// Where.
        uri: String,
        /// The network of its guests; made if there is none of this name.
        network: NatNetwork,
    },
}

impl Config {
    /// libvirt inside this process.
    pub fn embedded(root: impl Into<PathBuf>) -> Self {
        let root = root.into();
        Config { disks: root.join("disks"), mode: Mode::Embedded { root } }
    }

    /// The host's libvirtd.
    pub fn system() -> Self {
        let mode = Mode::System { uri: "qemu:///system".into(), network: NatNetwork::default() };
        Config { mode, disks: "/var/lib/anweddol/disks".into() }
    }

    /// The URI that is opened.
    pub fn uri(&self) -> String {
        match &self.mode {
            Mode::Embedded { root } => embedded::uri(root),
            Mode::System { uri, .. } => uri.clone(),
        }
    }

    /// The only network that guests can have here.
    pub fn network(&self) -> Network {
        match &self.mode {
            Mode::Embedded { .. } => Network::User,
            Mode::System { .. } => Network::Nat,
        }
    }
}
