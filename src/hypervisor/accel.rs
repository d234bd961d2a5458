//! What `domainType: auto` means on this host.
//!
//! Hardware virtualisation where `/dev/kvm` opens **for the user that runs QEMU** and the processor has `vmx` or
//! `svm`; software emulation elsewhere. The second half matters: nested machines often have a device that opens
//! and guests that never boot.

use std::fs;
use std::path::Path;

use super::account::{Account, Want};
use super::xml::Accelerator;

const DEVICE: &str = "/dev/kvm";

/// What was found out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The device.
    pub device: Device,
    /// The processor.
    pub processor: Processor,
}

/// `/dev/kvm`, for the user that runs QEMU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Device {
    /// It can be opened.
    Opens,
    /// There is none.
    Missing,
    /// It is there, but closed to this user.
    Closed {
        /// Who cannot open it.
        to: String,
    },
}

/// The processor's own word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Processor {
    /// It has `vmx` or `svm`.
    Virtualises,
    /// It has neither.
    Plain,
}

/// Which of the two, and why, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// What it is.
    pub accelerator: Accelerator,
    /// Why.
    pub reason: String,
}

/// Decides from facts.
pub fn decide(facts: &Facts) -> Choice {
    let (accelerator, reason) = match (&facts.device, facts.processor) {
        (Device::Opens, Processor::Virtualises) => {
            (Accelerator::Kvm, format!("{DEVICE} opens and the processor has vmx or svm"))
        }
        (Device::Opens, Processor::Plain) => {
            (Accelerator::Tcg, format!("{DEVICE} opens, but the processor shows neither vmx nor svm"))
        }
        (Device::Missing, _) => (Accelerator::Tcg, format!("there is no {DEVICE}: is the module kvm loaded?")),
        (Device::Closed { to }, _) => (
            Accelerator::Tcg,
            format!("{DEVICE} is closed to the user '{to}', who runs QEMU: is that user in the device's group?"),
        ),
    };
    Choice { accelerator, reason }
}

/// Looks at this host, for a QEMU run by `account`, or by this process' own user.
pub fn probe(account: Option<&Account>) -> Facts {
    let device = match account {
        _ if !Path::new(DEVICE).exists() => Device::Missing,
        Some(account) => match account.obstacle(Path::new(DEVICE), Want::ReadWrite) {
            Ok(None) => Device::Opens,
            Ok(Some(_)) | Err(_) => Device::Closed { to: account.name.clone() },
        },
        None => match fs::File::options().read(true).write(true).open(DEVICE) {
            Ok(_) => Device::Opens,
            Err(_) => Device::Closed { to: format!("uid {}", rustix::process::geteuid().as_raw()) },
        },
    };
    Facts { device, processor: processor(&fs::read_to_string("/proc/cpuinfo").unwrap_or_default()) }
}

fn processor(cpuinfo: &str) -> Processor {
    let flags = cpuinfo.lines().find(|line| line.starts_with("flags"));
    match flags.is_some_and(|line| line.split_whitespace().any(|flag| flag == "vmx" || flag == "svm")) {
        true => Processor::Virtualises,
        false => Processor::Plain,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kvm_needs_the_device_and_the_processor() {
        let closed = Device::Closed { to: "libvirt-qemu".into() };
        for (device, processor, want, word) in [
            (Device::Opens, Processor::Virtualises, Accelerator::Kvm, "opens"),
            (Device::Opens, Processor::Plain, Accelerator::Tcg, "neither vmx nor svm"),
            (Device::Missing, Processor::Virtualises, Accelerator::Tcg, "no /dev/kvm"),
            (closed, Processor::Virtualises, Accelerator::Tcg, "'libvirt-qemu'"),
        ] {
            let choice = decide(&Facts { device, processor });
            assert_eq!(choice.accelerator, want, "{}", choice.reason);
            assert!(choice.reason.contains(word), "{}", choice.reason);
        }
    }

    #[test]
    fn a_processor_virtualises_by_a_whole_flag() {
        assert_eq!(processor("model : svm\nflags\t\t: fpu vmx sse\n"), Processor::Virtualises);
        assert_eq!(processor("flags : fpu svm\n"), Processor::Virtualises);
        assert_eq!(processor("model : vmx\nflags : fpu svm_lock avmx\nvmx flags : vnmi\n"), Processor::Plain);
        assert_eq!(processor(""), Processor::Plain);
    }
}
