//! libvirt: domains that run QEMU, in one of two ways.
//!
//! - **Embedded** (`qemu:///embed?root=DIR`): libvirt's driver inside this process. No service, no root. Guests are
//!   connected by QEMU's user networking and outlive the process.
//! - **System** (`qemu:///system`): the host's libvirtd, a NAT network, forwards by nftables.
//!
//! Domains are transient: a domain that ended leaves no definition behind. Whose they are is written in each one's
//! metadata, so that nothing has to be remembered: the mark is read again before anything is done to a domain.

mod config;
mod dhcp;
mod disks;
mod embedded;
mod events;
mod ffi;
mod leases;
mod link;
mod network;
mod open;
mod seen;
mod traces;

#[cfg(test)]
mod tests;

use std::fs;
use std::net::Ipv4Addr;
use std::sync::Arc;

use tokio::sync::broadcast;
use uuid::Uuid;
use virt::connect::Connect;
use virt::domain::Domain;
use virt::error::{Error, ErrorNumber};

use super::accel::{self, Device};
use super::account::Account;
use super::xml::{self, Attachment, Host};
use super::{DomainSpec, Hypervisor, HypervisorError};
use crate::failpoint::failpoint;
use crate::model::{DomainSeen, DomainState, DomainType, Image, Listing, Mark, Network, Trace, Wake};
use disks::Disks;
use embedded::Runner;
use leases::Leases;
use link::{CallError, Link};
use seen::{domain_mark, failed, is, see};

pub use config::{Config, Mode};
pub use ffi::quiet;
pub use network::NatNetwork;

/// As many connections to libvirtd, each with one call at a time.
const CALLS_AT_ONCE: usize = 4;

/// What libvirt keeps of a permanent domain, and would not undefine it for. Ours have no firmware variables.
const KEPT: u32 = virt::sys::VIR_DOMAIN_UNDEFINE_MANAGED_SAVE | virt::sys::VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA;

/// Whether a libvirtd of this host answers this user.
pub fn system_answers() -> bool {
    if events::start().is_err() {
        return false;
    }
    Connect::open_read_only(Some("qemu:///system")).is_ok()
}

/// The version of the host's libvirtd, for who may use it; an error is words about what to do.
pub fn system_version() -> Result<String, String> {
    events::start()?;
    let connect = open::open(&Config::system())?;
    open::version(&connect).map_err(|error| error.message().to_owned())
}

/// Removes the network of system mode, by its name, where there is one.
pub fn remove_network(config: &Config, name: &str) -> Result<(), String> {
    events::start()?;
    network::remove(&open::open(config)?, name).map_err(|error| error.message().to_owned())
}

/// A libvirt.
pub struct Libvirt {
    config: Config,
    link: Link,
    host: Host,
    accelerator: accel::Choice,
    device: accel::Facts,
    /// Who runs QEMU, where that is known for sure.
    runner: Option<Runner>,
    disks: Disks,
    version: String,
    /// Where there is a network of ours, and word of it.
    _leases: Option<Leases>,
}

impl Libvirt {
    /// Opens it. What is wrong is told at once; a connection that breaks later comes back by itself.
    pub fn connect(config: Config) -> Result<Arc<Libvirt>, HypervisorError> {
        let uri = config.uri();
        let unreachable = |reason| HypervisorError::Unreachable { uri: uri.clone(), reason };
        let (runner, attachment, limit) = match &config.mode {
            Mode::Embedded { root } => {
                let runner = Runner::of_this_process()?;
                embedded::prepare(root, &runner)?;
                (Some(runner), Attachment::User, None)
            }
            Mode::System { network: NatNetwork { name, bridge, .. }, .. } => {
                let attachment = Attachment::Network { name: name.clone(), bridge: bridge.clone() };
                (None, attachment, Some(CALLS_AT_ONCE))
            }
        };
        events::start().map_err(unreachable)?;
        let opener = config.clone();
        let link = Link::open(uri.clone(), limit, Box::new(move || open::open(&opener)))?;
        let qemu = match &runner {
            Some(runner) => runner.account().cloned(),
            None => Account::of_qemu(),
        };
        let device = accel::probe(qemu.as_ref());
        let accelerator = accel::decide(&device);
        if let (Device::Closed { to }, Some(_)) = (&device.device, &qemu) {
            tracing::warn!(
                user = to,
                "/dev/kvm is closed to the user that runs QEMU, and libvirt then probes QEMU anew at every start of a \
                 guest, for many seconds: chgrp kvm /dev/kvm; chmod 660 /dev/kvm"
            );
        }
        let version = link.call(open::version).map_err(|error| failed("asking the version", Uuid::nil(), error))?;
        let host = Host { auto: accelerator.accelerator, attachment, disks: config.disks.clone() };
        let disks = Disks { dir: config.disks.clone(), account: qemu };
        let leases = match &config.mode {
            Mode::Embedded { .. } => None,
            Mode::System { network, .. } => {
                // Its errors are words already; the inner result carries them past the link's own.
                link.call(|connect| Ok(network::ensure(connect, network)))
                    .map_err(|error| failed("making the network", Uuid::nil(), error))??;
                let leases = Leases::watch(&network.bridge, link.teller());
                leases.inspect_err(|error| tracing::info!(%error, "no word of leases: addresses are looked for")).ok()
            }
        };
        let this = Libvirt { config, link, host, accelerator, device, runner, disks, version, _leases: leases };
        tracing::info!(libvirt = this.describe(), "connected");
        Ok(Arc::new(this))
    }

    /// The versions of libvirt and of QEMU.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The only network that guests can have here.
    pub fn network(&self) -> Network {
        self.config.network()
    }

    /// What it was opened with.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Sends a command to the monitor of a container's domain: `Ok(None)` if there is no such domain.
    pub(crate) fn monitor(&self, uuid: Uuid, command: &str) -> Result<Option<String>, HypervisorError> {
        let answer = self.on_domain(uuid, |domain| {
            if domain_mark(domain)?.is_none_or(|mark| mark.uid != uuid) {
                return Ok(Err(HypervisorError::NotOurs { uuid }));
            }
            domain.qemu_monitor_command(command, virt::sys::VIR_DOMAIN_QEMU_MONITOR_COMMAND_HMP).map(Ok)
        });
        answer.map_err(|error| failed("monitor command", uuid, error))?.transpose()
    }

    /// Does something with a domain. One that is not there, or goes away meanwhile, is `None`.
    fn on_domain<T>(&self, uuid: Uuid, act: impl FnOnce(&Domain) -> Result<T, Error>) -> Result<Option<T>, CallError> {
        let outcome = self.link.call(|connect| act(&connect.lookup_domain_by_uuid(uuid)?));
        match outcome {
            Ok(done) => Ok(Some(done)),
            Err(CallError::Refused(error)) if is(&error, ErrorNumber::NoDomain) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn check_wish(&self, spec: &DomainSpec) -> Result<(), HypervisorError> {
        let invalid = |what: String, reason: String| Err(HypervisorError::Invalid { what, reason });
        match (spec.domain_type, &self.device.device) {
            (DomainType::Kvm, Device::Missing | Device::Closed { .. }) => {
                return invalid("domain type kvm".into(), self.accelerator.reason.clone());
            }
            (DomainType::Kvm, Device::Opens) | (DomainType::Auto | DomainType::Qemu, _) => {}
        }
        for file in spec.image.files() {
            let found = match &self.runner {
                Some(runner) => embedded::check_readable(file, runner),
                // libvirtd may see what this process may not; but what is not there is there for nobody.
                None => match fs::metadata(file) {
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err(error.to_string()),
                    Ok(_) | Err(_) => Ok(()),
                },
            };
            if let Err(reason) = found {
                return invalid(format!("image {}", file.display()), reason);
            }
        }
        Ok(())
    }

    /// Whether a domain stands in the way of one to be made.
    fn already(&self, spec: &DomainSpec) -> Result<Already, HypervisorError> {
        let uuid = spec.mark.uid;
        Ok(match self.find(uuid)? {
            None => Already::No,
            Some(seen) if seen.mark.as_ref() != Some(&spec.mark) => return Err(HypervisorError::NotOurs { uuid }),
            Some(seen) => match seen.state {
                DomainState::Running => Already::Runs,
                DomainState::Paused(_) | DomainState::Off => {
                    let reason = format!("it exists already and is {:?}", seen.state).to_lowercase();
                    return Err(HypervisorError::Failed { what: "start", uuid, reason });
                }
            },
        })
    }
}

enum Already {
    No,
    Runs,
}

impl Hypervisor for Libvirt {
    fn describe(&self) -> String {
        let kind = match self.accelerator.accelerator {
            xml::Accelerator::Kvm => "KVM",
            xml::Accelerator::Tcg => "software emulation",
        };
        format!("{}, {}, {kind} by default ({})", self.config.uri(), self.version, self.accelerator.reason)
    }

    fn reachable(&self) -> Result<(), HypervisorError> {
        self.link.is_up()
    }

    fn list(&self) -> Result<Vec<DomainSeen>, HypervisorError> {
        let look = |connect: &Connect| {
            let mut seen = Vec::new();
            for domain in connect.list_all_domains(0)? {
                match see(&domain) {
                    Ok(domain) => seen.push(domain),
                    // It ended between the list and the look.
                    Err(error) if is(&error, ErrorNumber::NoDomain) => {}
                    Err(error) => return Err(error),
                }
            }
            Ok(seen)
        };
        let seen = self.link.call(look).map_err(|error| failed("listing", Uuid::nil(), error))?;
        Ok(seen.into_iter().filter(|domain| domain.mark.is_some()).collect())
    }

    fn find(&self, uuid: Uuid) -> Result<Option<DomainSeen>, HypervisorError> {
        self.on_domain(uuid, see).map_err(|error| failed("look-up", uuid, error))
    }

    fn create(&self, spec: &DomainSpec) -> Result<(), HypervisorError> {
        let uuid = spec.mark.uid;
        self.check_wish(spec)?;
        let text = xml::domain(spec, &self.host)?;
        match self.already(spec)? {
            Already::Runs => return Ok(()),
            Already::No => {}
        }
        match &spec.image {
            Image::Disk { path, format } => self.disks.make(uuid, path, *format)?,
            Image::Iso(_) | Image::Kernel { .. } => {}
        }
        failpoint!("domain-absent");
        let created = self.link.call(|connect| connect.create_domain_xml(&text, virt::sys::VIR_DOMAIN_NONE).map(drop));
        failpoint!("domain-created");
        match created {
            Ok(()) => Ok(()),
            // A call that was given up may have been done all the same, and then this one finds its domain.
            Err(error) => match self.already(spec) {
                Ok(Already::Runs) => Ok(()),
                Ok(Already::No) | Err(HypervisorError::Failed { .. }) => Err(failed("start", uuid, error)),
                Err(worse) => Err(worse),
            },
        }
    }

    fn destroy(&self, mark: &Mark) -> Result<(), HypervisorError> {
        let uuid = mark.uid;
        let end = |domain: &Domain| {
            if domain_mark(domain)?.as_ref() != Some(mark) {
                return Ok(Err(HypervisorError::NotOurs { uuid }));
            }
            // Ours are transient; if somebody made one permanent, it would come back for ever.
            let permanent = domain.is_persistent()?;
            match domain.destroy() {
                Err(error) if permanent && is(&error, ErrorNumber::OperationInvalid) => {}
                other => other?,
            }
            if permanent {
                domain.undefine_flags(KEPT)?;
            }
            Ok(Ok(()))
        };
        let outcome = self.on_domain(uuid, end).map_err(|error| failed("end", uuid, error))?;
        outcome.transpose()?;
        // libvirt keeps one for every UUID, for ever.
        self.remove_logs(uuid);
        Ok(())
    }

    fn resume(&self, mark: &Mark) -> Result<(), HypervisorError> {
        let uuid = mark.uid;
        self.disks.has_room(uuid)?;
        let resume = |domain: &Domain| {
            if domain_mark(domain)?.as_ref() != Some(mark) {
                return Ok(Err(HypervisorError::NotOurs { uuid }));
            }
            match domain.resume() {
                // Somebody else was faster.
                Err(_) if see(domain)?.state == DomainState::Running => Ok(Ok(())),
                other => other.map(Ok),
            }
        };
        let resumed = self.on_domain(uuid, resume).map_err(|error| failed("resuming", uuid, error))?;
        resumed.transpose().map(|_| ())
    }

    fn remember(&self, mark: &Mark, digest: &str, text: &str) -> Result<(), HypervisorError> {
        let (uuid, text) = (mark.uid, xml::keepsake(digest, text)?);
        let write = |domain: &Domain| {
            if domain_mark(domain)?.as_ref() != Some(mark) {
                return Ok(Err(HypervisorError::NotOurs { uuid }));
            }
            let (element, live) = (virt::sys::VIR_DOMAIN_METADATA_ELEMENT, virt::sys::VIR_DOMAIN_AFFECT_LIVE);
            let (prefix, namespace) = (xml::KEEPSAKE_PREFIX, xml::KEEPSAKE_NAMESPACE);
            domain.set_metadata(element as i32, Some(&text), Some(prefix), Some(namespace), live)?;
            Ok(Ok(()))
        };
        let written = self.on_domain(uuid, write).map_err(|error| failed("remembering the records", uuid, error))?;
        written.transpose().map(|_| ())
    }

    fn recall(&self, uuid: Uuid) -> Result<Option<String>, HypervisorError> {
        let read = |domain: &Domain| Ok(xml::bears(&domain.xml_desc(0)?).keepsake.map(|kept| kept.text));
        let read = self.on_domain(uuid, read).map_err(|error| failed("recalling the records", uuid, error))?;
        Ok(read.flatten())
    }

    fn address(&self, uuid: Uuid, mac: &str) -> Result<Option<Ipv4Addr>, HypervisorError> {
        let subnet = match &self.config.mode {
            // User networking gives every guest the same address, which leads nowhere.
            Mode::Embedded { .. } => return Ok(None),
            Mode::System { network, .. } => network.subnet,
        };
        // Of a lease, its card and its address count, within the network. What a guest calls itself is not even read
        // (`a_guests_address_is_its_lease_inside_the_network`).
        let leases = self.on_domain(uuid, ffi::leases).map_err(|error| failed("address", uuid, error))?;
        let ours = leases.unwrap_or_default().into_iter().filter(|lease| lease.mac.eq_ignore_ascii_case(mac));
        // A guest may ask for several; the same one has to be found every time.
        Ok(ours.filter_map(|lease| lease.address.parse().ok()).filter(|&address| subnet.has_guest(address)).min())
    }

    fn has_disk(&self, uuid: Uuid) -> Result<bool, HypervisorError> {
        self.disks.has(uuid)
    }

    fn disks(&self) -> Result<Vec<Uuid>, HypervisorError> {
        self.disks.list()
    }

    fn remove_disk(&self, uuid: Uuid) -> Result<(), HypervisorError> {
        match self.find(uuid)? {
            None => self.disks.remove(uuid),
            Some(_) => {
                let reason = "its domain is still there".into();
                Err(HypervisorError::Failed { what: "removing the disk", uuid, reason })
            }
        }
    }

    fn traces(&self, instance: Uuid) -> Vec<Listing> {
        self.all_traces(instance)
    }

    fn remove_trace(&self, trace: &Trace) -> Result<(), HypervisorError> {
        self.remove(trace)
    }

    fn wakes(&self) -> broadcast::Receiver<Wake> {
        self.link.wakes()
    }
}
