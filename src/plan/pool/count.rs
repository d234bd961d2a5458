//! What a pool keeps of containers that come and go, in the transactions that make and remove them.

use jiff::Timestamp;

use super::{MINUTE, hash, left};
use crate::model::{Container, ContainerStatus, Phase, PoolSpec, PoolStatus, RefillWindow};
use crate::plan::backoff;

/// The status of a pool that is made. Usually nothing counts against it; but a machine in use can be older than its pool's
/// record, after the store was lost.
pub fn counted(members: usize) -> PoolStatus {
    PoolStatus { containers: u32::try_from(members).unwrap_or(u32::MAX), ..PoolStatus::default() }
}

/// A member is begun.
pub fn count_in(status: &mut PoolStatus, spec: &PoolSpec, now: Timestamp) {
    status.containers += 1;
    status.refill_window = spec.refill.per_minute.map(|_| match status.refill_window {
        Some(window) if left(window.started_at, MINUTE, now).is_some() => {
            RefillWindow { made: window.made.saturating_add(1), ..window }
        }
        _ => RefillWindow { started_at: now, made: 1 },
    });
}

/// Nothing is left of a container, which ended with this status. A member of the pool's template that never became
/// Ready makes the next one wait; what failed of an earlier template says nothing about this one.
pub fn count_out(status: &mut PoolStatus, c: &Container, ended: &ContainerStatus, now: Timestamp) {
    status.containers = status.containers.saturating_sub(1);
    if c.spec.claim.is_none() && ended.phase == Phase::Failed && hash::bears(c, &status.template_hash) {
        status.failures = status.failures.saturating_add(1);
        status.failed_at = Some(now);
        status.retry_at = Some(now + backoff::after(status.failures));
        status.message = ended.message.to_string();
    }
}
