use std::borrow::Cow;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// What a machine is made from; the same in a pool's template and in a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Template {
    /// What it boots.
    pub image: Image,
    /// Its memory: a whole number with Ki, Mi or Gi.
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
    pub network: NetworkSpec,
    /// Seconds from the start of its domain until it has to be Ready.
    #[serde(default = "default_boot_deadline")]
    pub boot_deadline_seconds: u32,
    /// How long it may live.
    #[serde(default)]
    pub lifetime: Lifetime,
    /// How a machine that waits for a claim is asked whether it still answers.
    #[serde(default)]
    pub readiness_probe: ReadinessProbe,
}

/// How a machine that waits for a claim is asked for its SSH server's first words (see [`crate::plan::probe`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct ReadinessProbe {
    /// Seconds from Ready, and from each answer, until it is asked again.
    pub period_seconds: u32,
    /// Seconds that an answer may take. A healthy guest takes milliseconds; one that is emulated on a busy host, seconds.
    pub timeout_seconds: u32,
    /// Questions in a row without an answer after which it is replaced.
    pub failure_threshold: u32,
}

impl Default for ReadinessProbe {
    /// Few and patient: under software emulation an answer costs a guest about a second of its processor, and a busy host
    /// makes many seconds of that.
    fn default() -> Self {
        ReadinessProbe { period_seconds: 30, timeout_seconds: 10, failure_threshold: 3 }
    }
}

/// How long a machine may live. What is absent has no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Lifetime {
    /// Seconds from its binding, where the claim does not ask for another time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_seconds: Option<u32>,
    /// The most seconds from its binding that a claim can ask for, or be extended to: the hard end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_ttl_seconds: Option<u32>,
    /// Seconds that a bound machine may be without any connection to its SSH port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_timeout_seconds: Option<u32>,
    /// Seconds that a Ready machine may wait for a claim before it is replaced by a fresh one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_ready_seconds: Option<u32>,
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
            network: NetworkSpec::default(),
            boot_deadline_seconds: default_boot_deadline(),
            lifetime: Lifetime::default(),
            readiness_probe: ReadinessProbe::default(),
        }
    }
}

/// A bootable image that keeps the guest contract (see [`crate::guest`]). Written as a map with exactly one of the
/// keys `iso`, `kernel` and `disk`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "ImageForm", into = "ImageForm")]
pub enum Image {
    /// A bootable CD image.
    Iso(PathBuf),
    /// A kernel started directly, without boot loader: the fastest way to a login.
    Kernel {
        /// The kernel.
        path: PathBuf,
        /// Its initial RAM disk.
        initrd: PathBuf,
        /// Its command line, after our own words.
        cmdline: String,
    },
    /// A bootable disk. Every machine writes to an overlay of its own; the disk itself is never written.
    Disk {
        /// The disk.
        path: PathBuf,
        /// Its format.
        format: DiskFormat,
    },
}

/// How an image is written.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(rename = "Image", extend("x-kubernetes-map-type" = "atomic"))]
struct ImageForm {
    /// A bootable CD image: its path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    iso: Option<PathBuf>,
    /// A kernel started directly, without boot loader: the fastest way to a login.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    kernel: Option<KernelForm>,
    /// A bootable disk: every machine writes to an overlay of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    disk: Option<DiskForm>,
}

/// A kernel and its initial RAM disk.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(rename = "KernelImage")]
struct KernelForm {
    /// The kernel.
    path: PathBuf,
    /// Its initial RAM disk.
    initrd: PathBuf,
    /// Its command line, after our own words.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    cmdline: String,
}

/// A disk.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(rename = "DiskImage")]
struct DiskForm {
    /// The disk.
    path: PathBuf,
    /// Its format.
    #[serde(default)]
    format: DiskFormat,
}

/// Format of a disk image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum DiskFormat {
    /// QEMU's own.
    #[default]
    Qcow2,
    /// The bytes of the disk as they are.
    Raw,
}

impl DiskFormat {
    /// Its name, as QEMU has it too.
    pub fn name(self) -> &'static str {
        match self {
            DiskFormat::Qcow2 => "qcow2",
            DiskFormat::Raw => "raw",
        }
    }
}

impl TryFrom<ImageForm> for Image {
    type Error = String;

    fn try_from(form: ImageForm) -> Result<Self, Self::Error> {
        match form {
            ImageForm { iso: Some(path), kernel: None, disk: None } => Ok(Image::Iso(path)),
            ImageForm { iso: None, kernel: Some(KernelForm { path, initrd, cmdline }), disk: None } => {
                Ok(Image::Kernel { path, initrd, cmdline })
            }
            ImageForm { iso: None, kernel: None, disk: Some(DiskForm { path, format }) } => {
                Ok(Image::Disk { path, format })
            }
            _ => Err("image: write exactly one of iso, kernel and disk".into()),
        }
    }
}

impl From<Image> for ImageForm {
    fn from(image: Image) -> ImageForm {
        let none = ImageForm { iso: None, kernel: None, disk: None };
        match image {
            Image::Iso(path) => ImageForm { iso: Some(path), ..none },
            Image::Kernel { path, initrd, cmdline } => {
                ImageForm { kernel: Some(KernelForm { path, initrd, cmdline }), ..none }
            }
            Image::Disk { path, format } => ImageForm { disk: Some(DiskForm { path, format }), ..none },
        }
    }
}

impl JsonSchema for Image {
    fn schema_name() -> Cow<'static, str> {
        "Image".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        ImageForm::json_schema(generator)
    }
}

impl Image {
    /// The file beside those of an image that says how they were built, as `sha256sum -c` reads it.
    pub const SUMS: &'static str = "SHA256SUMS";

    /// The files it is made of, in the order in which its SHA-256 covers them.
    pub fn files(&self) -> Vec<&PathBuf> {
        match self {
            Image::Iso(path) | Image::Disk { path, .. } => vec![path],
            Image::Kernel { path, initrd, .. } => vec![path, initrd],
        }
    }
}

/// libvirt's domain type.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
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

/// How a machine is connected, and what it may reach by itself. Machines never reach each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NetworkSpec {
    /// By what. A host offers one of them, which follows from its hypervisor: embedded `user`, system `nat`.
    #[serde(default)]
    pub mode: Network,
    /// What it may open connections to.
    #[serde(default)]
    pub egress: Egress,
}

/// By what a machine is connected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Network {
    /// What the host offers.
    #[default]
    Auto,
    /// QEMU's user networking: needs no root.
    User,
    /// A libvirt NAT network with nftables forwards.
    Nat,
}

/// What a machine may open connections to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Egress {
    /// Nothing: it only answers who connects to it.
    #[default]
    None,
    /// Public addresses; neither this host nor private networks. Only on a NAT network.
    Internet,
    /// Everything this host reaches, private networks and its own services included; other machines not.
    All,
}

/// An amount of memory, written as a Kubernetes quantity: `256Mi`, `2Gi`, or plain bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(into = "String")]
pub struct Memory(u64);

super::text::from_text!(Memory);

impl JsonSchema for Memory {
    fn schema_name() -> Cow<'static, str> {
        "Memory".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["string", "integer"], "pattern": "^[0-9]+(Ki|Mi|Gi|Ti|k|M|G|T)?$" })
    }
}

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
