//! `container`: what machines are made of.

use serde::{Deserialize, Serialize};

use super::Faults;
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
    pub(super) fn check(&self, f: &mut Faults) {
        let most = self.max_allowed_running_containers;
        f.unless(
            most > 0,
            "container.max_allowed_running_containers",
            "nobody could ever create a container; write at least 1",
        );
        f.unless_with(
            self.warm <= most,
            "container.warm",
            "container.max_allowed_running_containers",
            format!("write no more than container.max_allowed_running_containers, which is {most}"),
        );
        f.unless(
            self.memory >= rules::LEAST_MEMORY,
            "container.memory",
            format!("no guest boots in less than {}; write at least that", rules::LEAST_MEMORY),
        );
        f.unless(
            self.image.as_ref().is_none_or(|image| image.files().iter().all(|file| file.is_absolute())),
            "container.image",
            "write absolute paths, as /srv/images/guest.iso",
        );
        f.range(rules::VCPUS, self.vcpus, "container.vcpus", "");
        f.range(rules::BOOT_DEADLINE_SECONDS, self.boot_deadline, "container.boot_deadline", " seconds");
        for (key, limit) in [
            ("container.ttl", self.ttl),
            ("container.max_ttl", self.max_ttl),
            ("container.idle_timeout", self.idle_timeout),
            ("container.max_ready", self.max_ready),
        ] {
            let unit = " seconds (the most is a year), or null for no limit";
            f.range(10..=MAX_LIFETIME, limit.unwrap_or(MAX_LIFETIME), key, unit);
        }
        if let (Some(ttl), Some(most)) = (self.ttl, self.max_ttl) {
            f.unless_with(
                ttl <= most,
                "container.ttl",
                "container.max_ttl",
                format!("write no more than container.max_ttl, which is {most}"),
            );
        }
    }
}
