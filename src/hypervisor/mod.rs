//! Domains: how they are seen, started and ended. The operator knows this trait; only `daemon` names who keeps it.

pub mod accel;
pub mod account;
pub mod boot;
pub mod fake;

pub mod libvirt;
pub mod xml;

use tokio::sync::broadcast;
use uuid::Uuid;

use crate::model::{DomainSeen, DomainType, Image, Listing, Mark, Memory, NetworkSpec, Trace, Wake};

/// A hypervisor, as the operator needs it. Calls block; every one may be repeated without harm.
pub trait Hypervisor: Send + Sync + 'static {
    /// What it is, for people: URI and version.
    fn describe(&self) -> String;

    /// Whether it can be reached, as far as is known without asking it: never blocks.
    fn reachable(&self) -> Result<(), HypervisorError>;

    /// Every domain with a mark of ours, of any instance, in any state. An error means *unknown*, never *none*.
    fn list(&self) -> Result<Vec<DomainSeen>, HypervisorError>;

    /// One domain, marked or not. `Ok(None)` is a positive absence.
    fn find(&self, uuid: Uuid) -> Result<Option<DomainSeen>, HypervisorError>;

    /// Starts a domain; where its image is a disk, on an overlay of its own that is made before, afresh. If one with
    /// this UUID and mark runs already, that is success, and its overlay stays.
    fn create(&self, spec: &DomainSpec) -> Result<(), HypervisorError>;

    /// Ends a domain that bears this mark, at once. If there is none, that is success; if it bears another mark
    /// or none, it is [`HypervisorError::NotOurs`].
    fn destroy(&self, mark: &Mark) -> Result<(), HypervisorError>;

    /// Has a domain go on that stands still because its disk found no room, if there is some by now. If it runs, or is
    /// not there, that is success; if it bears another mark or none, it is [`HypervisorError::NotOurs`].
    fn resume(&self, mark: &Mark) -> Result<(), HypervisorError>;

    /// Writes what a domain bears of its records, instead of what it bore before. If there is no such domain, there is
    /// nothing to remember and that is success; if it bears another mark or none, it is [`HypervisorError::NotOurs`].
    fn remember(&self, mark: &Mark, digest: &str, text: &str) -> Result<(), HypervisorError>;

    /// What a domain bears of its records, as [`Hypervisor::remember`] wrote it: `Ok(None)` if it bears nothing, or is
    /// not there. Whoever may change domains can have written something else.
    fn recall(&self, uuid: Uuid) -> Result<Option<String>, HypervisorError>;

    /// The address of a domain's card: `Ok(None)` as long as there is none.
    fn address(&self, uuid: Uuid, mac: &str) -> Result<Option<std::net::Ipv4Addr>, HypervisorError>;

    /// Whether this container's disk overlay exists.
    fn has_disk(&self, uuid: Uuid) -> Result<bool, HypervisorError>;

    /// Every container that has a disk overlay of ours.
    fn disks(&self) -> Result<Vec<Uuid>, HypervisorError>;

    /// Removes a container's disk overlay. If there is none, that is success. Never while its domain is there.
    fn remove_disk(&self, uuid: Uuid) -> Result<(), HypervisorError>;

    /// What else there is of machines, or left of them, kind by kind; besides what [`Hypervisor::list`] and
    /// [`Hypervisor::disks`] tell. `instance` is this installation: what bears another one's is somebody else's.
    /// A hypervisor that leaves nothing else behind has none.
    fn traces(&self, _instance: Uuid) -> Vec<Listing> {
        Vec::new()
    }

    /// Removes one of the traces that no domain has. If it is gone, that is success.
    fn remove_trace(&self, _trace: &Trace) -> Result<(), HypervisorError> {
        Ok(())
    }

    /// Hints that something changed. A receiver that lags has to look at everything.
    fn wakes(&self) -> broadcast::Receiver<Wake>;
}

/// Everything a domain is made from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DomainSpec {
    /// Who it is; its UUID is the mark's `uid`.
    pub mark: Mark,
    /// Its network card's address.
    pub mac: String,
    /// What it boots.
    pub image: Image,
    /// Its memory.
    pub memory: Memory,
    /// Its virtual processors.
    pub vcpus: u32,
    /// What runs it.
    pub domain_type: DomainType,
    /// How it is connected, and what it may reach by itself.
    pub network: NetworkSpec,
}

impl DomainSpec {
    /// Its name in libvirt: unique, recognisable, safe in a path.
    pub fn domain_name(&self) -> String {
        domain_name(self.mark.uid)
    }
}

/// A domain's name in libvirt.
pub fn domain_name(uid: Uuid) -> String {
    format!("anweddol-{uid}")
}

/// Why the hypervisor does not do something.
#[derive(Debug, Clone, thiserror::Error)]
pub enum HypervisorError {
    /// It cannot be reached; nothing is known.
    #[error("libvirt at {uri} cannot be reached: {reason}")]
    Unreachable {
        /// Where.
        uri: String,
        /// Why.
        reason: String,
    },
    /// The domain is not ours to touch.
    #[error("domain {uuid} does not bear the mark of this container: it is left alone")]
    NotOurs {
        /// Which.
        uuid: Uuid,
    },
    /// The wish itself is impossible: trying again does not help.
    #[error("{what}: {reason}")]
    Invalid {
        /// What was wished for.
        what: String,
        /// Why it cannot be.
        reason: String,
    },
    /// It was refused or went wrong; trying again may help.
    #[error("{what} of domain {uuid} failed: {reason}")]
    Failed {
        /// The call.
        what: &'static str,
        /// Which domain.
        uuid: Uuid,
        /// libvirt's words.
        reason: String,
    },
}
