//! CREATE: a claim is written with its place, and its client waits until it is bound.

use std::sync::Arc;

use futures::{StreamExt, TryFutureExt};
use jiff::SignedDuration;
use secrecy::SecretString;
use uuid::Uuid;

use super::{Api, ApiError};
use crate::api::placing::{self, Found, Place, Places};
use crate::api::review::{REVIEW_GATE, Review};
use crate::api::wishes::{self, WishError, Wishes};
use crate::api::{BirthError, Deadline, claims};
use crate::metrics::{Claimed, Start};
use crate::model::{
    ClaimPhase, ClaimSpec, ClaimStatus, Client, Container, ContainerClaim, ContainerPool, Object, ObjectMeta, Origin,
};
use crate::store::records::{self, RecordError};
use crate::store::{Change, Shared, StoreError, Txn, TxnResult};

/// How long CREATE waits beyond the boot deadline: for the queue before it and the clean-up after it.
const CREATE_GRACE: SignedDuration = SignedDuration::from_secs(60);

/// What a successful CREATE tells.
#[derive(Debug)]
pub struct Granted {
    /// The container.
    pub uuid: Uuid,
    /// Needed to destroy it; told once.
    pub client_token: SecretString,
    /// Of its image.
    pub image_sha256: String,
    /// Its user.
    pub username: String,
    /// Its user's password.
    pub password: SecretString,
    /// The host's port that leads to its SSH server.
    pub port: u16,
    /// When it ends, if it does by itself, and how many seconds after it was bound that is.
    pub deadline: Option<Deadline>,
}

impl Api {
    /// Grants a container to a client and waits until it is ready. Dropped before that, it takes its wish back.
    pub async fn create(self: &Arc<Self>, client: &Client) -> Result<Granted, ApiError> {
        self.create_reviewed(client, Wishes::default(), None, None).await
    }

    /// The same, for a client with wishes, with the name of the access token that it bears, and with somebody who looks
    /// at the container first: one that is made for this client is not started before that.
    pub async fn create_reviewed(
        self: &Arc<Self>,
        client: &Client,
        wishes: Wishes,
        access_token: Option<String>,
        review: Option<Review>,
    ) -> Result<Granted, ApiError> {
        let token = claims::token();
        let claim = self.wished(client, wishes, access_token, &token)?;
        let mut wish = Wish { api: Arc::clone(self), claim, granted: false };
        let gates = review.iter().map(|_| REVIEW_GATE.to_owned()).collect();
        let written = self.write_claim(&wish.claim, gates).await;
        let refused = |_: &ApiError| self.metrics.claim(Start::None, Claimed::Refused);
        let written = written.inspect_err(refused)?;
        if let Some(review) = review {
            // With memory of its own: few are.
            Box::pin(self.reviewed(&written.container, review)).await?;
        }
        let granted = match written.bound {
            Some(Bound { container, user }) => granted(&container, user?, token),
            None => {
                self.bound(&wish.claim, written.rev, written.boot).await?;
                self.granted(&self.read_container(&written.container)?, token)?
            }
        };
        wish.granted = true;
        Ok(granted)
    }

    fn wished(
        &self,
        client: &Client,
        wishes: Wishes,
        access_token: Option<String>,
        token: &SecretString,
    ) -> Result<Arc<ContainerClaim>, WishError> {
        let mut claim = self.claim(client, token);
        let Wishes { pool, ttl, ssh_public_key } = wishes.checked()?;
        claim.spec.pool = pool.unwrap_or(claim.spec.pool);
        (claim.spec.ttl_seconds, claim.spec.ssh_public_key) = (ttl, ssh_public_key);
        claim.spec.access_token = access_token;
        Ok(Arc::new(claim))
    }

    pub(crate) fn claim(&self, client: &Client, token: &SecretString) -> ContainerClaim {
        let uid = Uuid::new_v4();
        let name = format!("wire-{}", uid.simple());
        ContainerClaim {
            metadata: ObjectMeta::new(&self.namespace, &name, uid, (self.clock)()),
            spec: ClaimSpec {
                token_sha256: Some(claims::token_sha256(token)),
                ..ClaimSpec::of(&self.pool, Origin::Wire { client: client.clone(), run: self.run })
            },
            status: ClaimStatus::default(),
        }
    }

    /// Writes the claim with its place, in one transaction that holds only if nobody was faster, and keeps trying as
    /// long as somebody is. It has no place as long as the pool's free ones are needed for claims that wait.
    pub(crate) async fn write_claim(&self, claim: &ContainerClaim, gates: Vec<String>) -> Result<Written, ApiError> {
        let name = &claim.spec.pool;
        let (mut making, mut counting) = (None, None);
        loop {
            let allowance = self.allowance(claim)?;
            if allowance.counts && counting.is_none() {
                making = None;
                counting = Some(self.counting.lock().await);
                continue;
            }
            let pool = match placing::pool_of(&*self.store, claim)? {
                Some(pool) => pool,
                None if *name == self.pool => return Err(self.no_pool()),
                None => return Err(WishError::NoPool { pool: name.clone() }.into()),
            };
            wishes::allows(&pool.object, claim.spec.ttl_seconds)?;
            let place = match self.find(&pool.object, claim, !gates.is_empty())? {
                Found::Member(place) => place,
                Found::Room if making.is_none() => {
                    making = Some(self.making.lock().await);
                    continue;
                }
                Found::Room => self.make(&pool, claim, &gates).await?,
                Found::Full { .. } => {
                    let (pool, spec) = (name.clone(), &pool.object.spec);
                    let full = ApiError::Full { pool: pool.clone(), limit: spec.max_containers };
                    return Err(if spec.paused { ApiError::Paused { pool } } else { full });
                }
            };
            let Place { container, txn, reservation: _kept_meanwhile, bound } = place;
            let committed = self.store.txn(txn.and(allowance.txn));
            // It is on its way: there is time for this while the disk works.
            let bound = bound.map(|container| Bound { user: self.user(&container), container });
            if let TxnResult::Committed(rev) = committed.await? {
                let boot = SignedDuration::from_secs(pool.object.spec.template.boot_deadline_seconds.into());
                return Ok(Written { container, rev, boot, bound });
            }
        }
    }

    /// On this very thread: it looks at what is in memory, at no more members than are taken, and to wake a thread for it
    /// costs more than that.
    fn find(&self, pool: &ContainerPool, claim: &ContainerClaim, reviewed: bool) -> Result<Found, RecordError> {
        let (store, births, doubts) = (&*self.store, &*self.births, &*self.doubts);
        let places = Places { store, births, doubts, reservations: &self.reservations };
        places.find(pool, claim, false, reviewed, (self.clock)())
    }

    async fn make(
        &self,
        pool: &Shared<ContainerPool>,
        claim: &ContainerClaim,
        gates: &[String],
    ) -> Result<Place, BirthError> {
        let (pool, claim, gates, now) = (Arc::clone(pool), claim.clone(), gates.to_vec(), (self.clock)());
        let (store, births, doubts) = (Arc::clone(&self.store), Arc::clone(&self.births), Arc::clone(&self.doubts));
        let reservations = Arc::clone(&self.reservations);
        // On a thread that may block: images are read, and ports are tried.
        let work = move || {
            let (store, births, doubts) = (&*store, &*births, &*doubts);
            Places { store, births, doubts, reservations: &reservations }.make(&pool, &claim, &gates, now)
        };
        match tokio::task::spawn_blocking(work).await {
            Ok(done) => done,
            Err(panic) => std::panic::resume_unwind(panic.into_panic()),
        }
    }

    /// Waits until the claim is bound, or can never be.
    async fn bound(&self, claim: &ContainerClaim, rev: u64, boot: SignedDuration) -> Result<(), ApiError> {
        let waiting = self.follow(claim, rev);
        let patience = (boot + CREATE_GRACE).unsigned_abs();
        let late = || ApiError::NotReady { reason: format!("not within {} s", patience.as_secs()) };
        tokio::time::timeout(patience, waiting).await.map_err(|_| late())?
    }

    async fn follow(&self, claim: &ContainerClaim, rev: u64) -> Result<(), ApiError> {
        let key = records::key(&claim.object_ref());
        let mut changes = self.store.watch(&key, rev);
        loop {
            let current: Option<ContainerClaim> = match changes.next().await {
                Some(Ok(batch)) => match batch.changes.into_iter().find(|change| change.key() == key) {
                    Some(Change::Put { kv, .. }) => Some(records::decode(&kv)?.object),
                    Some(Change::Delete { .. }) => None,
                    None => continue,
                },
                Some(Err(StoreError::Compacted { .. })) => {
                    // Too slow for the history: what is now says all there is to know.
                    changes = self.store.watch(&key, 0);
                    self.read_claim(claim)?
                }
                Some(Err(error)) => return Err(error.into()),
                None => return Err(StoreError::Unavailable { reason: "the daemon stops".into() }.into()),
            };
            let Some(current) = current else {
                return Err(ApiError::NotReady { reason: "it was withdrawn".into() });
            };
            match current.status.phase {
                ClaimPhase::Bound => return Ok(()),
                ClaimPhase::Failed | ClaimPhase::Lost | ClaimPhase::Expired => {
                    return Err(ApiError::NotReady { reason: current.status.message });
                }
                ClaimPhase::Pending => {}
            }
        }
    }

    pub(crate) fn granted(&self, c: &Container, client_token: SecretString) -> Result<Granted, ApiError> {
        Ok(granted(c, self.user(c)?, client_token))
    }

    fn user(&self, c: &Container) -> Result<User, ApiError> {
        let credentials = records::credentials(&*self.store, &self.namespace, &c.metadata.name)?.ok_or_else(gone)?;
        let password = self.births.sealer().open(c.uuid(), &credentials.sealed_password)?;
        Ok(User { name: credentials.username, password })
    }

    pub(crate) fn read_container(&self, name: &str) -> Result<Container, ApiError> {
        let read = records::get::<Container>(&*self.store, &self.namespace, name)?;
        Ok(read.ok_or_else(gone)?.object)
    }

    fn read_claim(&self, claim: &ContainerClaim) -> Result<Option<ContainerClaim>, ApiError> {
        let read = records::get::<ContainerClaim>(&*self.store, &self.namespace, &claim.metadata.name)?;
        Ok(read.map(|claim| claim.object))
    }
}

fn granted(c: &Container, user: User, client_token: SecretString) -> Granted {
    Granted {
        uuid: c.uuid(),
        client_token,
        image_sha256: c.spec.machine.image_sha256.to_string(),
        username: user.name,
        password: user.password,
        port: c.spec.machine.port,
        deadline: c.status.expires_at.zip(*c.status.bound_at).map(|(at, since)| {
            let seconds = u32::try_from(at.duration_since(since).as_secs()).unwrap_or(u32::MAX);
            Deadline { at, seconds }
        }),
    }
}

fn gone() -> ApiError {
    ApiError::NotReady { reason: "it ended before it could be told".into() }
}

/// A claim that is written with its place.
#[derive(Debug)]
pub(crate) struct Written {
    /// Its machine.
    pub(crate) container: String,
    /// By this revision.
    pub(crate) rev: u64,
    /// How long the machine may boot.
    boot: SignedDuration,
    /// The machine, if it is bound already.
    bound: Option<Bound>,
}

/// A machine that is the claim's.
#[derive(Debug)]
struct Bound {
    container: Arc<Container>,
    user: Result<User, ApiError>,
}

/// A machine's user.
#[derive(Debug)]
struct User {
    name: String,
    password: SecretString,
}

/// A claim on its way. Dropped before it is granted (the client went away, or it failed), it is withdrawn.
struct Wish {
    api: Arc<Api>,
    claim: Arc<ContainerClaim>,
    granted: bool,
}

impl Drop for Wish {
    fn drop(&mut self) {
        if self.granted {
            return;
        }
        let (api, claim) = (Arc::clone(&self.api), Arc::clone(&self.claim));
        // Without a runtime the daemon is on its way out, and the next start withdraws what nobody waits for.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                let name = &claim.metadata.name;
                // The claim itself may still be in the committer's queue; behind an empty transaction it is not.
                let withdraw =
                    || api.store.txn(Txn::default()).map_err(ApiError::from).and_then(|_| api.withdraw(&claim));
                api.insist("withdraw", name, withdraw).await;
            });
        }
    }
}
