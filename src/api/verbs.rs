//! The verbs over one pool: DESTROY and STAT, and CREATE in `create`, which is more than both.

mod create;

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use jiff::Timestamp;
use uuid::Uuid;

use super::births::{BirthError, Births};
use super::placing;
use super::reservations::Reservations;
use super::wishes::WishError;
use super::{Doubts, ExtendError, LoginError, QuotaError, SealError, authentic, claims};
use crate::metrics::Metrics;
use crate::model::{Container, ContainerClaim, Object, ObjectRef};
use crate::plan::backoff;
use crate::plan::clock::Clock;
use crate::plan::placement;
use crate::store::records::{self, RecordError};
use crate::store::{Change, Store, StoreError};

pub use create::Granted;

/// How long DESTROY waits for the machine to be gone. Its end is certain once it is committed.
const DESTROY_PATIENCE: Duration = Duration::from_secs(8);

/// Why a verb is not done.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// No such container for this token.
    #[error("the container UUID and the client token do not belong together")]
    BadAuthentication,
    /// The pool is full.
    #[error("all {limit} containers of pool '{pool}' are in use (max_allowed_running_containers)")]
    Full {
        /// Which.
        pool: String,
        /// `maxContainers`.
        limit: u32,
    },
    /// Policy does not allow what was asked for.
    #[error(transparent)]
    Wish(#[from] WishError),
    /// The access token that it was asked for with does not allow it.
    #[error(transparent)]
    Quota(#[from] QuotaError),
    /// It does not get another time.
    #[error(transparent)]
    Extend(#[from] ExtendError),
    /// Its login is not told.
    #[error(transparent)]
    Login(#[from] LoginError),
    /// The pool makes no machine, and none of those it has is free.
    #[error("pool '{pool}' is paused (spec.paused) and has no free container")]
    Paused {
        /// Which.
        pool: String,
    },
    /// Nothing can be made now.
    #[error(transparent)]
    Birth(#[from] BirthError),
    /// A machine was made but did not become ready.
    #[error("the container could not be made ready: {reason}")]
    NotReady {
        /// Why.
        reason: String,
    },
    /// The pool to take it from does not exist.
    #[error("there is no pool '{pool}'")]
    NoPool {
        /// Which.
        pool: String,
    },
    /// Records cannot be read or written.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// A stored secret cannot be read.
    #[error(transparent)]
    Seal(#[from] SealError),
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        ApiError::Record(error.into())
    }
}

/// How far a container's end has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Nothing is left.
    Gone,
    /// It is certain, and takes a while.
    Going,
}

/// What STAT tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stat {
    /// Whole seconds since the start.
    pub uptime: u64,
    /// Claims that could still be granted, as far as the pool and the host have room.
    pub available: u32,
}

/// The verbs over one pool.
pub struct Api {
    pub(super) store: Arc<dyn Store>,
    pub(super) births: Arc<Births>,
    doubts: Arc<Doubts>,
    pub(super) reservations: Arc<Reservations>,
    /// Held while a machine is made for a client's claim. Transactions alone keep the limit exact; but each of these
    /// counts its machine in the pool, so of those that are made at once, all but one would be in vain.
    making: tokio::sync::Mutex<()>,
    /// Held while a claim is made with a token whose containers are counted, for the same reason. Never waited for with
    /// `making` in hand.
    counting: tokio::sync::Mutex<()>,
    metrics: Arc<Metrics>,
    pub(super) clock: Clock,
    run: Uuid,
    pub(super) namespace: String,
    pool: String,
    started: Timestamp,
}

impl Api {
    /// Verbs of one run of the daemon over one pool.
    pub fn new(
        store: Arc<dyn Store>,
        births: Arc<Births>,
        clock: Clock,
        run: Uuid,
        namespace: &str,
        pool: &str,
    ) -> Self {
        let started = clock();
        let (doubts, reservations, metrics) = (Arc::default(), Arc::default(), Arc::default());
        let (making, counting) = (tokio::sync::Mutex::default(), tokio::sync::Mutex::default());
        let (namespace, pool) = (namespace.into(), pool.into());
        Api { store, births, doubts, reservations, making, counting, metrics, clock, run, namespace, pool, started }
    }

    /// The same, with the operator's doubts: a member that may be dead is passed over.
    pub fn doubting(self, doubts: Arc<Doubts>) -> Self {
        Api { doubts, ..self }
    }

    /// The same, with claims that are refused counted here: there is no record of them.
    pub fn measured(self, metrics: Arc<Metrics>) -> Self {
        Api { metrics, ..self }
    }

    /// Ends the container that UUID and token name together, and waits a moment until it is gone.
    pub async fn destroy(&self, uuid: Uuid, token: &str) -> Result<End, ApiError> {
        let name = uuid.to_string();
        let claim = self.authenticate(&name, token)?;
        self.withdraw(&claim).await?;
        let key =
            records::key(&ObjectRef { kind: Container::KIND, namespace: self.namespace.clone(), name: name.clone() });
        let mut changes = self.store.watch(&key, 0);
        if self.store.get(&key)?.0.is_none() {
            return Ok(End::Gone);
        }
        let gone = async {
            while let Some(Ok(batch)) = changes.next().await {
                if batch.changes.iter().any(|change| matches!(change, Change::Delete { .. })) {
                    return;
                }
            }
        };
        if tokio::time::timeout(DESTROY_PATIENCE, gone).await.is_err() {
            tracing::info!(container = %uuid, "destroying takes long; it goes on");
            return Ok(End::Going);
        }
        Ok(End::Gone)
    }

    /// The claim that a container's name and a token name together.
    pub(crate) fn authenticate(&self, name: &str, token: &str) -> Result<ContainerClaim, ApiError> {
        authentic::authenticate(&*self.store, &self.namespace, name, token)?.ok_or(ApiError::BadAuthentication)
    }

    /// Wishes for the end of a claim and of its machine.
    pub(crate) async fn withdraw(&self, claim: &ContainerClaim) -> Result<(), ApiError> {
        let now = (self.clock)();
        Ok(claims::withdraw(&*self.store, &self.namespace, &claim.metadata.name, now).await?)
    }

    /// Takes something back that nobody knows of: again and again as long as the store takes no writes. That ends by
    /// itself, and the machine would stay nobody's
    /// (`what_nobody_waits_for_is_taken_back_as_soon_as_the_store_takes_writes_again`). With the store it ends, too: the next
    /// start takes back what this one did not.
    pub(crate) async fn insist<F>(&self, what: &str, of: &str, mut again: impl FnMut() -> F)
    where
        F: Future<Output = Result<(), ApiError>>,
    {
        // Nobody writes it: it tells only the end of the store.
        let mut open = self.store.watch(records::INSTANCE, 0);
        for failures in 1.. {
            let Err(error) = again().await else { return };
            tracing::warn!(of, error = crate::error_chain(&error), "{what}");
            let full = matches!(error, ApiError::Record(RecordError::Store(StoreError::Unavailable { .. })));
            let wait = backoff::after(failures).unsigned_abs();
            if !full || tokio::time::timeout(wait, open.next()).await.is_ok_and(|change| change.is_none()) {
                return;
            }
        }
    }

    /// Statistics of this run.
    pub fn stat(&self) -> Result<Stat, ApiError> {
        let uptime = (self.clock)().duration_since(self.started).as_secs().max(0).unsigned_abs();
        let index = self.store.index()?;
        let pool = index.pool(&self.namespace, &self.pool)?.ok_or_else(|| self.no_pool())?;
        let pool = &pool.object;
        let room = self.births.room(index.containers()?.map(|c| &c.object), pool.spec.template.memory);
        let waiting = index.waiting(&self.namespace, &self.pool)?;
        let members = placing::members(&index, pool)?.map(|read| &read.object);
        Ok(Stat { uptime, available: placement::available(pool, members, waiting, room) })
    }

    fn no_pool(&self) -> ApiError {
        ApiError::NoPool { pool: self.pool.clone() }
    }
}
