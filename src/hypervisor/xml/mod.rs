//! Domain XML, both ways: written from a [`DomainSpec`], and what a live domain bears of ours read back.
//!
//! Pure. Everything is written by a writer that escapes, never pasted, and whatever could not survive the way
//! through XML unchanged (control characters, relative paths) is refused before: a name or a path can be odd, but
//! it cannot become an element.
//!
//! What a domain is *not* given matters as much: no disk but its own overlay, no USB, no sound, no balloon, no boot ROM of the card, a
//! serial port that leads nowhere. Each costs boot time or is a way out of the guest, and unbounded output of a
//! guest in a file on the host would be a leak.

use std::io;
use std::path::{Path, PathBuf};

use quick_xml::Writer;
use quick_xml::events::BytesText;
use uuid::Uuid;

use super::{DomainSpec, HypervisorError};
use crate::model::{DiskFormat, DomainType, Egress, Image, Network};

mod metadata;

#[cfg(test)]
mod tests;

use metadata::write_mark;
pub use metadata::{Bears, KEEPSAKE_NAMESPACE, KEEPSAKE_PREFIX, Kept, MARK_NAMESPACE, bears, keepsake, mark};

/// The namespace of libvirt's way to hand arguments to QEMU.
const QEMU_NAMESPACE: &str = "http://libvirt.org/schemas/domain/qemu/1.0";

/// The name of the user network's back end in QEMU, for monitor commands.
pub const USER_NETDEV: &str = "anwnet";

/// The translation cache of software emulation. A guest's memory is mostly this. More makes no guest boot faster; one that is
/// full is emptied, and with less this came in the midst of the set-up of the reference image, where all is translated anew.
const TB_CACHE_MIB: &str = "48";

/// Words that make every guest's kernel boot faster and end its domain after a panic.
const WORDS: &str = "quiet panic=-1 cryptomgr.notests rcupdate.rcu_expedited=1";

/// More of them, under software emulation only: there, no neighbour shares a processor's caches with the guest,
/// and the emulated clocks are right by construction.
const WORDS_EMULATED: &str = "mitigations=off nokaslr tsc=reliable no_timer_check";

/// What domain XML needs to know about the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// What [`DomainType::Auto`] means here.
    pub auto: Accelerator,
    /// How guests are connected.
    pub attachment: Attachment,
    /// Where their overlays are, each by [`overlay`]'s name.
    pub disks: PathBuf,
}

/// A domain type, decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Accelerator {
    /// Hardware virtualisation.
    Kvm,
    /// Software emulation.
    Tcg,
}

impl Accelerator {
    /// A wish, where `auto` means `self`.
    fn for_wish(self, wish: DomainType) -> Accelerator {
        match wish {
            DomainType::Auto => self,
            DomainType::Kvm => Accelerator::Kvm,
            DomainType::Qemu => Accelerator::Tcg,
        }
    }
}

/// What [`log_mark`] begins with, whosoever it is. libvirt takes only names that begin with its first three letters.
pub const LOG_MARK: &str = "ua-anweddol-";

/// How a guest's card is connected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attachment {
    /// To QEMU's user networking.
    User,
    /// To a libvirt network.
    Network {
        /// Its name.
        name: String,
        /// Its bridge.
        bridge: String,
    },
}

/// What the names of all cards on a bridge begin with. By it, packets of guests are known without looking into them,
/// and those of one bridge from those of another.
pub fn cards(bridge: &str) -> String {
    // FNV-1a, folded: stable for ever, since the rules of a running host depend on it.
    let hash = bridge.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    format!("a{:04x}", (hash >> 16) ^ (hash & 0xffff))
}

/// The name that a machine's card has on the host: 15 letters, the most there can be.
pub fn card(bridge: &str, uid: Uuid) -> String {
    let uid = uid.simple().to_string();
    format!("{}{}", cards(bridge), &uid[..10])
}

/// What the logs of an installation's machines have in the command line at their top.
pub fn log_mark(instance: Uuid) -> String {
    format!("{}{instance}", LOG_MARK)
}

/// The name of a machine's overlay.
pub fn overlay(uid: Uuid) -> String {
    format!("{uid}.qcow2")
}

/// Writes a domain.
pub fn domain(spec: &DomainSpec, host: &Host) -> Result<String, HypervisorError> {
    check(spec)?;
    check_network(spec, &host.attachment)?;
    let mut writer = Writer::new(Vec::new());
    write_domain(&mut writer, spec, host).map_err(|error| invalid("the domain's XML", error.to_string()))?;
    String::from_utf8(writer.into_inner()).map_err(|error| invalid("the domain's XML", error.to_string()))
}

fn invalid(what: impl Into<String>, reason: impl Into<String>) -> HypervisorError {
    HypervisorError::Invalid { what: what.into(), reason: reason.into() }
}

/// Refuses what XML cannot carry or libvirt would understand otherwise.
fn check(spec: &DomainSpec) -> Result<(), HypervisorError> {
    plain("namespace", &spec.mark.namespace)?;
    plain("name", &spec.mark.name)?;
    for path in spec.image.files() {
        if !path.is_absolute() {
            return Err(invalid(format!("image {path:?}"), "a path has to be absolute"));
        }
        plain("image", text(path)?)?;
    }
    if let Image::Kernel { cmdline, .. } = &spec.image {
        plain("cmdline", cmdline)?;
    }
    check_mac(&spec.mac)?;
    if spec.vcpus == 0 {
        return Err(invalid("vcpus 0", "a machine has at least one processor"));
    }
    if spec.memory.bytes() == 0 {
        return Err(invalid("memory 0", "a machine has some memory"));
    }
    Ok(())
}

/// Refuses what is no address of a network card.
pub fn check_mac(mac: &str) -> Result<(), HypervisorError> {
    let bytes: Vec<&str> = mac.split(':').collect();
    match bytes.len() == 6 && bytes.iter().all(|b| b.len() == 2 && b.bytes().all(|c| c.is_ascii_hexdigit())) {
        true => Ok(()),
        false => Err(invalid(format!("MAC address {mac:?}"), "write six bytes, as in 52:54:00:0a:0b:0c")),
    }
}

/// Refuses what this host's way to connect guests cannot do.
fn check_network(spec: &DomainSpec, attachment: &Attachment) -> Result<(), HypervisorError> {
    let (offered, name) = match attachment {
        Attachment::User => (Network::User, "user"),
        Attachment::Network { name, .. } => {
            plain("network", name)?;
            (Network::Nat, "nat")
        }
    };
    if spec.network.mode != Network::Auto && spec.network.mode != offered {
        let wish = format!("{:?}", spec.network.mode).to_lowercase();
        return Err(invalid(
            format!("network.mode {wish}"),
            format!("this host offers '{name}': write that, or 'auto'"),
        ));
    }
    match (attachment, spec.network.egress) {
        (Attachment::User, Egress::Internet) => Err(invalid(
            "network.egress internet",
            "QEMU's user networking cannot tell public addresses from others: write 'none' or 'all', or run machines on \
             a NAT network (hypervisor.mode: system)",
        )),
        (Attachment::User, Egress::None | Egress::All) | (Attachment::Network { .. }, _) => Ok(()),
    }
}

/// Refuses control characters and what is no character in XML 1.0.
fn plain(field: &str, value: &str) -> Result<(), HypervisorError> {
    match value.chars().find(|&c| c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}')) {
        None => Ok(()),
        Some(c) => Err(invalid(format!("{field} {value:?}"), format!("the character {c:?} is not allowed in it"))),
    }
}

fn text(path: &Path) -> Result<&str, HypervisorError> {
    path.to_str().ok_or_else(|| invalid(format!("image {path:?}"), "a path has to be UTF-8"))
}

type Out = Writer<Vec<u8>>;

fn write_domain(w: &mut Out, spec: &DomainSpec, host: &Host) -> io::Result<()> {
    let accelerator = host.auto.for_wish(spec.domain_type);
    let kind = match accelerator {
        Accelerator::Kvm => "kvm",
        Accelerator::Tcg => "qemu",
    };
    let root = w.create_element("domain").with_attributes([("type", kind), ("xmlns:qemu", QEMU_NAMESPACE)]);
    root.write_inner_content(|w| {
        leaf(w, "name", &spec.domain_name())?;
        leaf(w, "uuid", &spec.mark.uid.to_string())?;
        w.create_element("metadata").write_inner_content(|w| write_mark(w, &spec.mark))?;
        w.create_element("memory")
            .with_attribute(("unit", "KiB"))
            .write_text_content(BytesText::new(&spec.memory.kibibytes().to_string()))?;
        leaf(w, "vcpu", &spec.vcpus.to_string())?;
        write_boot(w, &spec.image, accelerator)?;
        write_machine(w, accelerator)?;
        // A guest that powers off, reboots or panics is at its end. One that lives in memory would come back as the
        // image made it, with its `endpoint` account open.
        for event in ["on_poweroff", "on_reboot", "on_crash"] {
            leaf(w, event, "destroy")?;
        }
        w.create_element("devices").write_inner_content(|w| write_devices(w, spec, host))?;
        match &host.attachment {
            Attachment::User => write_user_network(w, &spec.mac, spec.network.egress),
            Attachment::Network { .. } => Ok(()),
        }
    })?;
    Ok(())
}

fn leaf(w: &mut Out, name: &str, content: &str) -> io::Result<()> {
    w.create_element(name).write_text_content(BytesText::new(content))?;
    Ok(())
}

fn empty(w: &mut Out, name: &str, attributes: &[(&str, &str)]) -> io::Result<()> {
    w.create_element(name).with_attributes(attributes.iter().copied()).write_empty()?;
    Ok(())
}

fn write_boot(w: &mut Out, image: &Image, accelerator: Accelerator) -> io::Result<()> {
    w.create_element("os").write_inner_content(|w| {
        w.create_element("type")
            .with_attributes([("arch", "x86_64"), ("machine", "q35")])
            .write_text_content(BytesText::new("hvm"))?;
        match image {
            Image::Iso(_) => empty(w, "boot", &[("dev", "cdrom")]),
            Image::Disk { .. } => empty(w, "boot", &[("dev", "hd")]),
            Image::Kernel { path, initrd, cmdline } => {
                leaf(w, "kernel", &path.to_string_lossy())?;
                leaf(w, "initrd", &initrd.to_string_lossy())?;
                leaf(w, "cmdline", &words(accelerator, cmdline))
            }
        }
    })?;
    Ok(())
}

fn words(accelerator: Accelerator, own: &str) -> String {
    let emulated = match accelerator {
        Accelerator::Kvm => "",
        Accelerator::Tcg => WORDS_EMULATED,
    };
    [WORDS, emulated, own].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ")
}

fn write_machine(w: &mut Out, accelerator: Accelerator) -> io::Result<()> {
    w.create_element("features").write_inner_content(|w| {
        empty(w, "acpi", &[])?;
        empty(w, "apic", &[])?;
        match accelerator {
            Accelerator::Kvm => Ok(()),
            Accelerator::Tcg => {
                w.create_element("tcg").write_inner_content(|w| {
                    w.create_element("tb-cache")
                        .with_attribute(("unit", "MiB"))
                        .write_text_content(BytesText::new(TB_CACHE_MIB))?;
                    Ok(())
                })?;
                Ok(())
            }
        }
    })?;
    match accelerator {
        // The default model lacks instructions that today's distributions take for granted.
        Accelerator::Kvm => empty(w, "cpu", &[("mode", "host-passthrough"), ("migratable", "off")]),
        Accelerator::Tcg => Ok(()),
    }
}

fn write_devices(w: &mut Out, spec: &DomainSpec, host: &Host) -> io::Result<()> {
    match &spec.image {
        Image::Iso(path) => {
            w.create_element("disk").with_attributes([("type", "file"), ("device", "cdrom")]).write_inner_content(
                |w| {
                    empty(w, "driver", &[("name", "qemu"), ("type", "raw")])?;
                    empty(w, "source", &[("file", &path.to_string_lossy())])?;
                    empty(w, "target", &[("dev", "sda"), ("bus", "sata")])?;
                    empty(w, "readonly", &[])
                },
            )?;
            write_screen(w)?;
        }
        Image::Disk { path, format } => {
            write_overlay(w, &host.disks.join(overlay(spec.mark.uid)), path, *format)?;
            write_screen(w)?;
        }
        Image::Kernel { .. } => {}
    }
    empty(w, "controller", &[("type", "usb"), ("model", "none")])?;
    match &host.attachment {
        Attachment::User => {}
        Attachment::Network { name, bridge } => {
            w.create_element("interface").with_attribute(("type", "network")).write_inner_content(|w| {
                empty(w, "mac", &[("address", &spec.mac)])?;
                empty(w, "source", &[("network", name)])?;
                empty(w, "target", &[("dev", &card(bridge, spec.mark.uid))])?;
                empty(w, "model", &[("type", "virtio")])?;
                // Guests of one bridge do not see each other.
                empty(w, "port", &[("isolated", "yes")])?;
                empty(w, "rom", &[("enabled", "no")])
            })?;
        }
    }
    empty(w, "serial", &[("type", "null")])?;
    empty(w, "memballoon", &[("model", "none")])?;
    // A kernel with a driver for it says here that it panics, and that ends its domain, whatever its command line makes it
    // do then. One that has neither (nor `panic=`) stands still in a domain that runs: for a readiness probe to find.
    empty(w, "panic", &[("model", "isa")])?;
    w.create_element("rng").with_attribute(("model", "virtio")).write_inner_content(|w| {
        // A name that QEMU is started with: by it a log tells whose machine it was of. The guest does not see it.
        empty(w, "alias", &[("name", &log_mark(spec.mark.instance))])?;
        w.create_element("backend")
            .with_attribute(("model", "random"))
            .write_text_content(BytesText::new("/dev/urandom"))?;
        Ok(())
    })?;
    Ok(())
}

/// Boot loaders with a graphical menu do not start without a screen.
fn write_screen(w: &mut Out) -> io::Result<()> {
    w.create_element("video").write_inner_content(|w| empty(w, "model", &[("type", "vga")]))?;
    Ok(())
}

/// The disk that is written, over the one that never is.
fn write_overlay(w: &mut Out, overlay: &Path, base: &Path, format: DiskFormat) -> io::Result<()> {
    w.create_element("disk").with_attributes([("type", "file"), ("device", "disk")]).write_inner_content(|w| {
        // An overlay does not outlive its machine, and no machine outlives its host: nothing is gained by waiting for
        // the host's disk. What a guest deletes gives its room back.
        let driver = [("name", "qemu"), ("type", "qcow2"), ("cache", "unsafe"), ("discard", "unmap")];
        empty(w, "driver", &driver)?;
        empty(w, "source", &[("file", &overlay.to_string_lossy())])?;
        // Said here, so that nobody looks into the file to find it out: a guest could have written that. Its owner and
        // mode stay as they are, since others may use it too.
        w.create_element("backingStore").with_attribute(("type", "file")).write_inner_content(|w| {
            empty(w, "format", &[("type", format.name())])?;
            w.create_element("source")
                .with_attribute(("file", base.to_string_lossy().as_ref()))
                .write_inner_content(|w| empty(w, "seclabel", &[("model", "dac"), ("relabel", "no")]))?;
            match format {
                DiskFormat::Raw => empty(w, "backingStore", &[]),
                // Its own header says, if there is one more.
                DiskFormat::Qcow2 => Ok(()),
            }
        })?;
        empty(w, "target", &[("dev", "vda"), ("bus", "virtio")])
    })?;
    Ok(())
}

/// User networking as arguments of QEMU: libvirt's own element cannot say `restrict`.
fn write_user_network(w: &mut Out, mac: &str, egress: Egress) -> io::Result<()> {
    let restrict = match egress {
        Egress::None | Egress::Internet => "on",
        Egress::All => "off",
    };
    let arguments = [
        "-netdev".to_owned(),
        format!("user,id={USER_NETDEV},restrict={restrict}"),
        "-device".to_owned(),
        // libvirt does not know of this card: the slot is one that it leaves free on this machine type.
        format!("virtio-net-pci,netdev={USER_NETDEV},mac={mac},romfile=,bus=pcie.0,addr=0x10"),
    ];
    w.create_element("qemu:commandline").write_inner_content(|w| {
        arguments.iter().try_for_each(|argument| empty(w, "qemu:arg", &[("value", argument)]))
    })?;
    Ok(())
}
