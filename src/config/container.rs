//! `container`: what machines are made of.

use serde::{Deserialize, Serialize};

use super::{ConfigError, wrong};
use crate::manifest::rules;
use crate::model::{DomainType, Egress, Image, Memory};

/// The longest that a lifetime can be limited to: a year.
const MAX_LIFETIME: u32 = 365 * 24 * 3600;

/// What machines are made of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Containers {
    /// What they boot; absent: what `anweddol image build` last made in the state directory.
    pub image: Option<Image>,
    /// Memory of each.
    pub memory: Memory,
    /// Virtual processors of each.
    pub vcpus: u32,
    /// `auto`, `kvm` or `qemu`.
    pub domain_type: DomainType,
    /// What each may open connections to.
    pub egress: Egress,
    /// The most at once.
    pub max_allowed_running_containers: u32,
    /// Kept ready before anybody asks.
    pub warm: u32,
    /// Seconds from a machine's start until it has to be ready.
    pub boot_deadline: u32,
    /// Seconds that a client may keep a machine which asks for no other time; absent: no limit.
    pub ttl: Option<u32>,
    /// The most seconds that a client can ask for; absent: no limit.
    pub max_ttl: Option<u32>,
    /// Seconds that a client's machine may be without any SSH connection; absent: no limit.
    pub idle_timeout: Option<u32>,
    /// Seconds that a machine may wait, ready, before it is replaced by a fresh one; absent: no limit.
    pub max_ready: Option<u32>,
}

impl Default for Containers {
    fn default() -> Self {
        Containers {
            image: None,
            memory: Memory::mebibytes(256),
            vcpus: 1,
            domain_type: DomainType::Auto,
            egress: Egress::None,
            max_allowed_running_containers: 6,
            warm: 0,
            boot_deadline: 120,
            ttl: None,
            max_ttl: None,
            idle_timeout: None,
            max_ready: None,
        }
    }
}

impl Containers {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        if self.max_allowed_running_containers == 0 {
            return wrong("container.max_allowed_running_containers", "it is 0: nobody could ever create a container");
        }
        if self.warm > self.max_allowed_running_containers {
            return wrong("container.warm", "it is greater than container.max_allowed_running_containers");
        }
        if self.memory < rules::LEAST_MEMORY {
            return wrong("container.memory", "no guest boots in less than 64Mi");
        }
        if !rules::VCPUS.contains(&self.vcpus) {
            return wrong("container.vcpus", "write 1 to 256");
        }
        if !rules::BOOT_DEADLINE_SECONDS.contains(&self.boot_deadline) {
            return wrong("container.boot_deadline", "write 5 to 3600 seconds");
        }
        for (key, limit) in [
            ("container.ttl", self.ttl),
            ("container.max_ttl", self.max_ttl),
            ("container.idle_timeout", self.idle_timeout),
            ("container.max_ready", self.max_ready),
        ] {
            if limit.is_some_and(|limit| !(10..=MAX_LIFETIME).contains(&limit)) {
                return wrong(key, "write 10 to 31536000 seconds (a year), or 'null' for no limit");
            }
        }
        if self.max_ttl.is_some_and(|most| self.ttl.is_some_and(|ttl| ttl > most)) {
            return wrong("container.ttl", "it is greater than container.max_ttl");
        }
        Ok(())
    }
}
