//! What a doctor tells.

use std::collections::HashMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Drift, Looked, Wrong};
use crate::model::{Condition, Container, ContainerClaim, ContainerPool, DomainSeen, Keepsake, Object, TraceKind};
use crate::plan::container::in_use;

/// The whole of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// What was looked at, kind by kind.
    pub looked: Vec<Looked>,
    /// What is not as records say; after a cure, what still is not.
    pub drifts: Vec<Drift>,
    /// What the cure did.
    #[serde(default)]
    pub removed: Vec<Removal>,
    /// What asks for somebody's attention.
    #[serde(default)]
    pub attention: Vec<Attention>,
    /// Everything else that was checked.
    #[serde(default)]
    pub checks: Vec<Check>,
    /// The daemon's own time when it ended.
    #[serde(default)]
    pub time: Option<Timestamp>,
}

impl Report {
    /// Whether everything was seen and all of it is as records say. What is somebody else's is none of our illness,
    /// and what asks for attention is no drift.
    pub fn is_clean(&self) -> bool {
        self.looked.iter().all(|looked| looked.unknown.is_empty())
            && self.drifts.iter().all(|drift| drift.wrong == Wrong::Others)
            && self.checks.iter().all(|check| matches!(check.outcome, Outcome::Good(_)))
    }
}

/// One thing that a cure removed, or could not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Removal {
    /// What it was.
    pub kind: TraceKind,
    /// What it was called.
    pub name: String,
    /// Why it is still there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
}

/// An object that somebody should look at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Attention {
    /// Which, as `Kind namespace/name`.
    pub object: String,
    /// Why.
    pub reason: String,
}

/// One of the checks that are no comparison with records. Whoever has another one adds it to the list of its caller.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Check {
    /// What was checked.
    pub name: String,
    /// How it is.
    pub outcome: Outcome,
}

/// How a check ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Outcome {
    /// As it should be; what was seen.
    Good(String),
    /// Not as it should be, and what would be right.
    Bad(String),
}

/// The conditions that tell of something only people can settle, with the status that is no reason to.
const SETTLED: [(&str, &str); 2] = [("Delivered", "True"), ("Degraded", "False")];

/// What asks for attention: machines whose passes fail, and conditions that only people can settle.
pub fn attention<'a>(
    containers: impl Iterator<Item = &'a Container> + Clone,
    claims: impl Iterator<Item = &'a ContainerClaim>,
    pools: &[ContainerPool],
) -> Vec<Attention> {
    let failing = containers.clone().filter(|c| c.status.failures > 0).map(|c| Attention {
        object: c.object_ref().to_string(),
        reason: format!("{} steps in a row failed: {}", c.status.failures, c.status.message),
    });
    let containers = containers.flat_map(|c| of(c, &c.status.conditions));
    let claims = claims.flat_map(|claim| of(claim, &claim.status.conditions));
    let pools = pools.iter().flat_map(|pool| of(pool, &pool.status.conditions));
    failing.chain(containers).chain(claims).chain(pools).collect()
}

/// Machines in use whose domain does not bear what their records say: without the store nobody would know of them, or of
/// what changed last. Where there is no domain, something else is wrong.
pub fn forgetful<'a>(
    containers: impl Iterator<Item = &'a Container>,
    claims: impl Iterator<Item = &'a ContainerClaim>,
    domains: &[DomainSeen],
) -> Vec<Attention> {
    let claims: HashMap<_, _> = claims.map(|c| ((&*c.metadata.namespace, &*c.metadata.name), c)).collect();
    let domains: HashMap<_, _> = domains.iter().map(|domain| (domain.uuid, domain)).collect();
    let bears = |c: &&Container| {
        let claim = c.spec.claim.as_ref().and_then(|name| claims.get(&(&*c.metadata.namespace, &**name)).copied());
        let claim = claim.filter(|claim| claim.status.container.as_ref() == Some(&c.metadata.name));
        Some(domains.get(&c.uuid())?.keepsake.as_ref() == Some(&Keepsake::digest(c, claim)))
    };
    let forgetful = containers.filter(|c| in_use(c) && !c.metadata.deleting() && bears(c) == Some(false));
    let reason = "its domain does not bear its records as they are: were the store lost, it could not be rebuilt";
    forgetful.map(|c| Attention { object: c.object_ref().to_string(), reason: reason.into() }).collect()
}

fn of<T: Object>(object: &T, conditions: &[Condition]) -> impl Iterator<Item = Attention> {
    let unsettled = |c: &&Condition| SETTLED.iter().any(|(kind, settled)| c.kind == *kind && c.status != *settled);
    let attention = |c: &Condition| {
        let words = [&c.reason, &c.message].into_iter().filter(|text| !text.is_empty());
        let why = words.cloned().collect::<Vec<_>>().join(": ");
        Attention { object: object.object_ref().to_string(), reason: format!("{} is {} ({why})", c.kind, c.status) }
    };
    conditions.iter().filter(unsettled).map(attention).collect::<Vec<_>>().into_iter()
}
