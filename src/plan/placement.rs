//! Which machine a claim gets.

use crate::model::{Container, ContainerPool, Phase};

/// Where a new claim goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Placement {
    /// It takes this member, which is Ready.
    Warm(String),
    /// A machine is made for it.
    Cold,
    /// The pool is full.
    Full,
}

/// Places one claim in a pool, given all containers of the pool. The one that waited longest goes first.
pub fn place(pool: &ContainerPool, members: &[Container]) -> Placement {
    if pool.metadata.deleting() {
        return Placement::Full;
    }
    let warm = members.iter().filter(|c| claimable(c)).min_by_key(|c| (c.status.ready_at, &c.metadata.name));
    match warm {
        Some(member) => Placement::Warm(member.metadata.name.clone()),
        None if pool.status.containers < pool.spec.max_containers => Placement::Cold,
        None => Placement::Full,
    }
}

/// How many claims the pool could still take: what STAT tells as `available`.
pub fn available(pool: &ContainerPool, members: &[Container]) -> u32 {
    let warm = members.iter().filter(|c| claimable(c)).count() as u32;
    pool.spec.max_containers.saturating_sub(pool.status.containers) + warm
}

fn claimable(member: &Container) -> bool {
    member.status.phase == Phase::Ready && member.spec.claim.is_none() && !member.metadata.deleting()
}
