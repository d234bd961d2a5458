use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What a machine is made from; the same in a pool's template and in a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Template {
    /// What it boots.
    pub image: Image,
    /// Its memory.
    #[serde(default = "default_memory")]
    pub memory: Memory,
    /// Its virtual processors.
    #[serde(default = "default_vcpus")]
    pub vcpus: u32,
    /// What runs it.
    #[serde(default)]
    pub domain_type: DomainType,
    /// How it is connected.
    #[serde(default)]
    pub network: Network,
    /// Seconds from the start of its domain until it has to be Ready.
    #[serde(default = "default_boot_deadline")]
    pub boot_deadline_seconds: u32,
}

fn default_memory() -> Memory {
    Memory::mebibytes(256)
}

fn default_vcpus() -> u32 {
    1
}

fn default_boot_deadline() -> u32 {
    120
}

impl Template {
    /// The defaults around an image.
    pub fn of(image: Image) -> Self {
        Template {
            image,
            memory: default_memory(),
            vcpus: default_vcpus(),
            domain_type: DomainType::default(),
            network: Network::default(),
            boot_deadline_seconds: default_boot_deadline(),
        }
    }
}

/// A bootable image that keeps the guest contract (see [`crate::guest`]).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Image {
    /// A bootable CD image.
    Iso(PathBuf),
    /// A kernel started directly, without boot loader: the fastest way to a login.
    #[serde(rename_all = "camelCase")]
    Kernel {
        /// The kernel.
        path: PathBuf,
        /// Its initial RAM disk.
        initrd: PathBuf,
        /// Its command line, after our own words.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        cmdline: String,
    },
}

impl Image {
    /// The files it is made of, in the order in which its SHA-256 covers them.
    pub fn files(&self) -> Vec<&PathBuf> {
        match self {
            Image::Iso(path) => vec![path],
            Image::Kernel { path, initrd, .. } => vec![path, initrd],
        }
    }
}

/// libvirt's domain type.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DomainType {
    /// KVM where it works for the user that runs QEMU, software emulation elsewhere.
    #[default]
    Auto,
    /// Hardware virtualisation.
    Kvm,
    /// Software emulation.
    Qemu,
}

/// How a machine is connected. Which one a host offers follows from its hypervisor: embedded `user`, system `nat`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Network {
    /// What the host offers.
    #[default]
    Auto,
    /// QEMU's user networking: needs no root. The guest reaches nothing but who connects to it.
    User,
    /// A libvirt NAT network with nftables forwards.
    Nat,
}

/// An amount of memory, written as a Kubernetes quantity: `256Mi`, `2Gi`, or plain bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(into = "String")]
pub struct Memory(u64);

super::text::from_text!(Memory);

impl Memory {
    /// So many MiB.
    pub const fn mebibytes(mib: u64) -> Self {
        Memory(mib << 20)
    }

    /// In bytes.
    pub fn bytes(self) -> u64 {
        self.0
    }

    /// In KiB, libvirt's unit, rounded up.
    pub fn kibibytes(self) -> u64 {
        self.0.div_ceil(1024)
    }
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (shift, unit) in [(30, "Gi"), (20, "Mi"), (10, "Ki")] {
            if self.0 != 0 && self.0.is_multiple_of(1 << shift) {
                return write!(f, "{}{unit}", self.0 >> shift);
            }
        }
        write!(f, "{}", self.0)
    }
}

impl From<Memory> for String {
    fn from(memory: Memory) -> String {
        memory.to_string()
    }
}

/// Why a text is no amount of memory.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{text}' is no amount of memory: write a whole number with Ki, Mi, Gi, Ti, k, M, G, T or no unit (bytes), as in 256Mi"
)]
pub struct ParseMemoryError {
    /// What was given.
    pub text: String,
}

impl FromStr for Memory {
    type Err = ParseMemoryError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || ParseMemoryError { text: text.into() };
        let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        let factor: u64 = match unit {
            "" => 1,
            "Ki" => 1 << 10,
            "Mi" => 1 << 20,
            "Gi" => 1 << 30,
            "Ti" => 1 << 40,
            "k" => 1_000,
            "M" => 1_000_000,
            "G" => 1_000_000_000,
            "T" => 1_000_000_000_000,
            _ => return Err(bad()),
        };
        number.parse::<u64>().ok().and_then(|n| n.checked_mul(factor)).map(Memory).ok_or_else(bad)
    }
}
