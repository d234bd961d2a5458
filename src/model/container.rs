use std::net::Ipv4Addr;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Common, Condition, Kind, Mac, Object, ObjectMeta, Rare, Template, is_zero};

/// One machine, from its wish to its end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Container {
    /// Name, UUID (the domain's too), deletion.
    pub metadata: ObjectMeta,
    /// What is wished for.
    pub spec: ContainerSpec,
    /// What is.
    #[serde(default)]
    pub status: ContainerStatus,
}

impl Object for Container {
    const KIND: Kind = Kind::Container;

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

impl Container {
    /// The UUID of the container, which its domain bears too.
    pub fn uuid(&self) -> Uuid {
        self.metadata.uid
    }
}

/// What is wished for. All of it is chosen when the record is made and committed before the first step, so that
/// a step taken again takes the same step again, and what a crash left behind is found by name.
///
/// A manifest writes `template` alone, and its container belongs to no pool: it is its user's as soon as it is Ready.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ContainerSpec {
    /// The pool it counts against, in its own namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(skip)]
    pub pool: Option<Common<String>>,
    /// The claim it is for, in its own namespace: from birth on a cold start, from binding for a pool member.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(skip)]
    pub claim: Rare<Option<String>>,
    /// What it is made from.
    pub template: Common<Template>,
    /// Who still has to look at it before its domain is started. As with the pods of Kubernetes, they are put in
    /// when it is made, only ever taken away, and until the last one is gone the template may change.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(skip)]
    pub scheduling_gates: Rare<Vec<String>>,
    /// What is its own.
    #[schemars(skip)]
    pub machine: Machine,
}

/// What tells a machine from its siblings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Machine {
    /// Address of its network card.
    pub mac: Mac,
    /// Port of the host that leads to its SSH server.
    pub port: u16,
    /// SHA-256 of its image when the record was made, in hex.
    pub image_sha256: Common<String>,
}

/// Where a container is on its way.
///
/// ```text
/// Pending ──► Booting ──► Ready ──► Bound ──► Terminating ──► (record removed)
///    └───────────┴──────────┴─────────┴──► Failed ──► Terminating
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum Phase {
    /// Recorded; no domain yet.
    #[default]
    Pending,
    /// Its domain runs or is being started.
    Booting,
    /// Personalised, reachable, unclaimed.
    Ready,
    /// Given to a claim.
    Bound,
    /// It could not become Ready, or its machine died; being taken down. One without pool stays so until it is deleted.
    Failed,
    /// Being taken down.
    Terminating,
}

/// What is, as last committed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ContainerStatus {
    /// Where it is on its way.
    #[serde(default)]
    pub phase: Phase,
    /// Why it is there, one CamelCase word.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: Rare<String>,
    /// Why it is there, for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: Rare<String>,
    /// Its address, where the network gives one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<Ipv4Addr>,
    /// When its domain was first asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    /// When it became Ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready_at: Option<Timestamp>,
    /// When it was bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bound_at: Rare<Option<Timestamp>>,
    /// When it ends, as far as its lifetime says now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Rare<Option<Timestamp>>,
    /// Since when nobody is connected to its port; absent while somebody is, or when nobody asks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_since: Rare<Option<Timestamp>>,
    /// When the login of one without pool was read through the API: that works once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub login_read_at: Rare<Option<Timestamp>>,
    /// Steps in a row that failed.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub failures: u32,
    /// Not before then is a failed step tried again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_at: Rare<Option<Timestamp>>,
    /// `Started`, `Personalised`, `Published`, `Authorized`, `Ready`, `Seen`, `Paused`, `Expiring`, `Released`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

/// The login of a container. Kept beside the container, not in it, so that who may read containers need not see it;
/// written and removed in the same transactions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Credentials {
    /// `user_` and five digits.
    pub username: String,
    /// The password, sealed with the daemon's own key ([`crate::api::Sealer`]).
    pub sealed_password: String,
}
