//! More time for a machine that somebody uses, or less.

use jiff::Timestamp;
use uuid::Uuid;

use super::{Api, ApiError};
use crate::model::{ClaimPhase, Container, ContainerClaim, Event, EventKind, Object};
use crate::plan::lifetime;
use crate::store::records;
use crate::store::{Txn, TxnResult};

/// Why a machine does not get another time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExtendError {
    /// It would live longer than its pool allows.
    #[error("it may live {most} s in all and has lived {used} s of them: ask for at most {} s from now", most.saturating_sub(*used))]
    TooLong {
        /// The most.
        most: u32,
        /// What of that is over.
        used: u32,
    },
    /// It has no end that could be moved.
    #[error("it has no deadline: there is nothing to extend")]
    NoDeadline,
    /// It has no machine, or none any more.
    #[error("it is {phase:?}, not Bound: only a claim in use can be extended")]
    NotBound {
        /// Where it is instead.
        phase: ClaimPhase,
    },
    /// There is no such claim.
    #[error("there is no claim '{claim}'")]
    NoClaim {
        /// Which.
        claim: String,
    },
}

/// The time a machine has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadline {
    /// Until then.
    pub at: Timestamp,
    /// That is so many seconds from now, or from binding.
    pub seconds: u32,
}

impl Api {
    /// Lets the machine that UUID and token name together live so many seconds from now.
    pub async fn extend(&self, uuid: Uuid, token: &str, seconds: u32) -> Result<Deadline, ApiError> {
        let claim = self.authenticate(&uuid.to_string(), token)?;
        // Whoever has the token was told.
        self.delivered(uuid).await?;
        self.extend_claim(&self.namespace, &claim.metadata.name, seconds).await
    }

    /// Lets a claim's machine live so many seconds from now.
    pub async fn extend_claim(&self, namespace: &str, claim: &str, seconds: u32) -> Result<Deadline, ApiError> {
        loop {
            let read = records::get::<ContainerClaim>(&*self.store, namespace, claim)?;
            let read = read.ok_or_else(|| ExtendError::NoClaim { claim: claim.into() })?;
            let status = &read.object.status;
            let not_bound = || ExtendError::NotBound { phase: status.phase };
            let (since, name) = match (status.phase, status.bound_at, &status.container) {
                (ClaimPhase::Bound, Some(since), Some(name)) if !read.object.metadata.deleting() => (since, name),
                _ => return Err(not_bound().into()),
            };
            let c = records::get::<Container>(&*self.store, namespace, name)?.ok_or_else(not_bound)?.object;
            let (limits, now) = (&c.spec.template.lifetime, (self.clock)());
            if lifetime::granted(limits, read.object.spec.ttl_seconds).is_none() {
                return Err(ExtendError::NoDeadline.into());
            }
            let ttl = lifetime::extended(limits, since, seconds, now).map_err(|most| {
                let used = u32::try_from(now.duration_since(since).as_secs().max(0)).unwrap_or(u32::MAX);
                ExtendError::TooLong { most, used }
            })?;
            let mut extended = read.object.clone();
            extended.spec.ttl_seconds = Some(ttl);
            extended.metadata.generation += 1;
            let at = lifetime::deadline(limits, Some(ttl), since).unwrap_or(now);
            let event = Event::new(EventKind::ExtendedClaim, now)
                .regarding(read.object.object_ref())
                .message(format!("its machine ends at {at}"))
                .detail("container_uuid", c.uuid().to_string())
                .detail("expires_at", at.to_string());
            // Its machine's pass sees the claim change, and moves its deadline. If its time ran out before, the claim
            // is not what was read.
            let txn = Txn::default().unchanged(&read).write(&extended).tell(&[event]);
            if let TxnResult::Committed(_) = self.store.txn(txn).await? {
                return Ok(Deadline { at, seconds });
            }
        }
    }
}
