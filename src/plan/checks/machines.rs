//! What runs machines.

use super::{Check, Group, Seen};
use crate::model::DomainType;

const GROUP: Group = Group::Machines;

/// The two ways to run machines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// libvirt inside the daemon.
    Embedded,
    /// The host's libvirtd.
    System,
}

/// What is known of it.
#[derive(Clone, Debug)]
pub struct Machines {
    /// How machines are run.
    pub way: Way,
    /// Why so.
    pub why: String,
    /// Where QEMU is.
    pub qemu: Option<String>,
    /// Where `qemu-img` is.
    pub qemu_img: Option<String>,
    /// Whether the image is a disk, so that machines have overlays.
    pub disks: bool,
    /// libvirt's version as it answered, or why it did not; absent: it was not asked.
    pub libvirt: Option<Seen<String>>,
    /// libvirt's QEMU driver, for embedded mode: where it is, if it was found.
    pub driver: Option<String>,
    /// Where it was looked for.
    pub driver_places: String,
    /// Whether `domain_type: auto` means KVM here.
    pub kvm: bool,
    /// Why.
    pub kvm_reason: String,
    /// What the configuration wants.
    pub wanted: DomainType,
    /// Whether guests run; absent: none was started.
    pub boots: Option<Boots>,
}

/// Whether the smallest guest there is ran to its end: for how many milliseconds, or what QEMU said.
#[derive(Clone, Debug)]
pub struct Boots {
    /// Emulated.
    pub emulated: Seen<u128>,
    /// By KVM; absent: there is no device.
    pub kvm: Option<Seen<u128>>,
}

/// Judges it.
pub fn judge(facts: &Machines) -> Vec<Check> {
    let mut checks = vec![qemu(facts), way(facts)];
    checks.extend(driver(facts));
    checks.extend(qemu_img(facts));
    checks.push(accelerator(facts));
    if let Some(boots) = &facts.boots {
        checks.push(emulated(boots));
        checks.extend(boots.kvm.as_ref().map(|kvm| accelerated(facts, kvm)));
    }
    checks
}

fn qemu(facts: &Machines) -> Check {
    match &facts.qemu {
        Some(path) => Check::ok(GROUP, "qemu", path),
        None => Check::fail(GROUP, "qemu", "there is no qemu-system-x86_64", "install the package qemu-system-x86")
            .stopping(),
    }
}

fn way(facts: &Machines) -> Check {
    let mode = match facts.way {
        Way::Embedded => "embedded mode",
        Way::System => "system mode",
    };
    match &facts.libvirt {
        Some(Ok(version)) => Check::ok(GROUP, "libvirt", format!("{version}; {mode}: {}", facts.why)),
        None => Check::ok(GROUP, "libvirt", format!("{mode}: {}", facts.why)),
        // What was said has its own advice.
        Some(Err(said)) => Check::fail(
            GROUP,
            "libvirt",
            format!("{mode}, but {said}"),
            match facts.way {
                Way::Embedded => "see what it says; 'anweddol serve' would say the same",
                Way::System => "start libvirtd, or set 'hypervisor.mode: embedded'",
            },
        ),
    }
}

fn driver(facts: &Machines) -> Option<Check> {
    match (facts.way, &facts.driver) {
        (Way::System, _) => None,
        (Way::Embedded, Some(path)) => Some(Check::ok(GROUP, "libvirt's QEMU driver", path)),
        (Way::Embedded, None) => {
            let remedy = "install the package libvirt-daemon (on others than Debian: libvirt-daemon-driver-qemu)";
            let message = format!("it is in none of {}", facts.driver_places);
            let check = Check::fail(GROUP, "libvirt's QEMU driver", message, remedy);
            // A libvirt that opened found it somewhere else.
            match facts.libvirt {
                Some(Ok(_)) => None,
                Some(Err(_)) | None => Some(check),
            }
        }
    }
}

fn qemu_img(facts: &Machines) -> Option<Check> {
    let name = "qemu-img";
    match (&facts.qemu_img, facts.disks) {
        (Some(path), _) => Some(Check::ok(GROUP, name, path)),
        (None, true) => {
            let message = "it is not there, and the image is a disk: no machine gets an overlay";
            Some(Check::fail(GROUP, name, message, "install the package qemu-utils").stopping())
        }
        (None, false) => {
            let message = "it is not there: images that are disks cannot be used";
            Some(Check::warn(GROUP, name, message, "install the package qemu-utils to use them"))
        }
    }
}

fn accelerator(facts: &Machines) -> Check {
    let name = "kvm";
    match (facts.wanted, facts.kvm) {
        (DomainType::Auto | DomainType::Kvm, true) => Check::ok(GROUP, name, &facts.kvm_reason),
        (DomainType::Qemu, _) => Check::ok(GROUP, name, "'container.domain_type' is qemu: machines are emulated"),
        (DomainType::Auto, false) => {
            let message = format!("machines are emulated, and slow: {}", facts.kvm_reason);
            Check::warn(GROUP, name, message, kvm_advice())
        }
        (DomainType::Kvm, false) => {
            let message = format!("'container.domain_type' is kvm, but {}", facts.kvm_reason);
            Check::fail(GROUP, name, message, format!("{}, or set 'container.domain_type: auto'", kvm_advice()))
        }
    }
}

fn kvm_advice() -> &'static str {
    "switch virtualisation on in the firmware (for a virtual host: nested, at its own host), 'modprobe kvm_intel' or \
     'kvm_amd', and put the user that runs QEMU into the group kvm"
}

fn emulated(boots: &Boots) -> Check {
    let name = "an emulated guest runs";
    match &boots.emulated {
        Ok(millis) => Check::ok(GROUP, name, format!("to its end, in {millis} ms")),
        Err(said) => Check::fail(
            GROUP,
            name,
            said,
            "run 'qemu-system-x86_64 -version', and reinstall qemu-system-x86 if that fails",
        ),
    }
}

/// What opens is not what runs: nested virtual machines often have a device and guests that never boot.
fn accelerated(facts: &Machines, kvm: &Seen<u128>) -> Check {
    let name = "a KVM guest runs";
    let used = match facts.wanted {
        DomainType::Kvm => true,
        DomainType::Auto => facts.kvm,
        DomainType::Qemu => false,
    };
    match (kvm, used) {
        (Ok(millis), _) => Check::ok(GROUP, name, format!("to its end, in {millis} ms")),
        (Err(said), true) => Check::fail(
            GROUP,
            name,
            said,
            "set 'container.domain_type: qemu' until it does: machines are emulated then",
        ),
        (Err(said), false) => {
            let message = format!("{said}; machines are emulated here anyway");
            Check::warn(GROUP, name, message, "leave 'container.domain_type' as it is: 'kvm' would not work")
        }
    }
}
