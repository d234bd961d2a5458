//! One pool: how many machines to make, which to let go.

use jiff::{SignedDuration, Timestamp};

use crate::model::{Container, ContainerPool, Phase, PoolStatus, set_condition};

/// What a pass for a pool commits and then does.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// The pool's status from now on; its exact counter stays as it is.
    pub status: PoolStatus,
    /// What comes then.
    pub next: Next,
}

/// What comes after the commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Make one member.
    Make,
    /// Let this member go.
    Release(String),
    /// Look again after this long.
    Look(SignedDuration),
    /// Nothing, until something changes.
    Rest,
    /// It was deleted and nothing is left of it: remove its record.
    Remove,
}

/// Decides for one pool, given all its containers.
///
/// Members on their way count as if they were there, and those that go away hold their place until they are gone:
/// so it never makes one too many. A bound member is never let go.
pub fn decide(pool: &ContainerPool, members: &[Container], now: Timestamp) -> Decision {
    let rising = |c: &&Container| {
        c.spec.claim.is_none()
            && !c.metadata.deleting()
            && matches!(c.status.phase, Phase::Pending | Phase::Booting | Phase::Ready)
    };
    let mut warm: Vec<&Container> = members.iter().filter(rising).collect();
    let ready = warm.iter().filter(|c| c.status.phase == Phase::Ready).count() as u32;
    let bound = members.iter().filter(|c| c.status.phase == Phase::Bound && !c.metadata.deleting()).count() as u32;
    let wanted = if pool.metadata.deleting() { 0 } else { pool.spec.replicas };

    let mut status = PoolStatus { ready, bound, observed_generation: pool.metadata.generation, ..pool.status.clone() };
    if ready > 0 {
        status.failures = 0;
        status.retry_at = None;
    }
    let (reason, message) = match (ready >= wanted, status.failures) {
        (true, _) => ("AsWished", String::new()),
        (false, 0) => ("Filling", String::new()),
        (false, n) => ("BootsFail", format!("{n} members in a row failed: {}", status.message)),
    };
    set_condition(&mut status.conditions, "Available", ready >= wanted, reason, &message, now);

    let have = warm.len() as u32;
    let next = if have > wanted {
        // Not-ready ones first, then the newest: what took longest to get stays.
        warm.sort_by_key(|c| (c.status.phase == Phase::Ready, std::cmp::Reverse(c.metadata.creation_timestamp)));
        Next::Release(warm[0].metadata.name.clone())
    } else if pool.metadata.deleting() && pool.status.containers == 0 {
        Next::Remove
    } else if have < wanted && pool.status.containers < pool.spec.max_containers {
        match status.retry_at {
            Some(at) if at > now => Next::Look(at.duration_since(now)),
            _ => Next::Make,
        }
    } else {
        Next::Rest
    };
    Decision { status, next }
}
