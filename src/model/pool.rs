use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Condition, Kind, Object, ObjectMeta, Template};

/// Machines made from one template: warm ones that wait, and bound ones that count against its limit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerPool {
    /// Name and deletion.
    pub metadata: ObjectMeta,
    /// What is wished for.
    pub spec: PoolSpec,
    /// What is.
    #[serde(default)]
    pub status: PoolStatus,
}

impl Object for ContainerPool {
    const KIND: Kind = Kind::ContainerPool;

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

/// What is wished for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PoolSpec {
    /// Machines kept Ready and unclaimed.
    #[serde(default)]
    pub replicas: u32,
    /// The most machines at once, of any phase: those that are going away hold their place until they are gone.
    pub max_containers: u32,
    /// What they are made from.
    pub template: Template,
}

/// What is, as last committed.
///
/// `containers` is exact: it changes only in the transactions that make and remove a container of the pool, and
/// each of them is conditional on the pool's revision. That makes the limit exact under any number of clients.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PoolStatus {
    /// Records of containers of this pool, of any phase.
    #[serde(default)]
    pub containers: u32,
    /// Those Ready and unclaimed.
    #[serde(default)]
    pub ready: u32,
    /// Those bound.
    #[serde(default)]
    pub bound: u32,
    /// `spec`'s generation these numbers were made for.
    #[serde(default)]
    pub observed_generation: i64,
    /// Members in a row that failed before they were Ready.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub failures: u32,
    /// Not before then is another one made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_at: Option<Timestamp>,
    /// Why the last one failed.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// `Available`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

fn is_zero(n: &u32) -> bool {
    *n == 0
}
