//! Who holds which container: what the documented `DatabaseInterface` stands for.
//!
//! [`SessionsStore`] keeps nothing of its own. A session **is** a bound [`ContainerClaim`]: the record that CREATE
//! writes and DESTROY ends. So there is no second list that could say something else, a session that is added here is
//! one that a client of the wire protocol can end, and the other way round.
//!
//! | session | claim |
//! | --- | --- |
//! | added, for a container that nobody holds | bound to that Ready container, as CREATE binds a pool member |
//! | looked up by container and token | authenticated, as DESTROY does it |
//! | listed | Bound, and its end is not wished for |
//! | deleted | withdrawn: **the container ends with it**, and is never given to another |
//!
//! Of a token only the SHA-256 is stored; it is told once, by [`SessionsStore::add`].

use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use secrecy::SecretString;
use uuid::Uuid;

use crate::api::{authentic, claims};
use crate::clock;
use crate::model::{
    ClaimPhase, ClaimSpec, ClaimStatus, Client, Container, ContainerClaim, DEFAULT_NAMESPACE, ObjectMeta, Origin, Phase,
};
use crate::store::records::{self, RecordError};
use crate::store::{Store, StoreError, TxnResult};

/// Why a session is not added or deleted.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// There is no such container.
    #[error("there is no container {container} to hold")]
    NoContainer {
        /// Which.
        container: Uuid,
    },
    /// It cannot be held yet, or not any more.
    #[error("container {container} is {phase:?}: only one that is Ready can be held")]
    NotReady {
        /// Which.
        container: Uuid,
        /// Where it is on its way.
        phase: Phase,
    },
    /// Somebody holds it, or it is being made for somebody.
    #[error("container {container} is somebody's already")]
    Taken {
        /// Which.
        container: Uuid,
    },
    /// Nobody holds it.
    #[error("nobody holds a container {container}")]
    NoSession {
        /// Which.
        container: Uuid,
    },
    /// Records cannot be read or written.
    #[error(transparent)]
    Record(#[from] RecordError),
}

impl From<StoreError> for SessionError {
    fn from(error: StoreError) -> Self {
        SessionError::Record(error.into())
    }
}

/// Somebody holds a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// The container.
    pub container: Uuid,
    /// Since when.
    pub created_at: Timestamp,
    /// The client it was made for; absent if the session was added here.
    pub client: Option<Client>,
}

/// The sessions in a store.
#[derive(Clone)]
pub struct SessionsStore {
    store: Arc<dyn Store>,
    namespace: String,
}

impl fmt::Debug for SessionsStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SessionsStore({})", self.namespace)
    }
}

impl SessionsStore {
    /// The sessions of the default namespace, which is the wire protocol's.
    pub fn new(store: Arc<dyn Store>) -> Self {
        SessionsStore::in_namespace(store, DEFAULT_NAMESPACE)
    }

    /// The sessions of another namespace.
    pub fn in_namespace(store: Arc<dyn Store>, namespace: &str) -> Self {
        SessionsStore { store, namespace: namespace.into() }
    }

    /// Gives a Ready container that nobody holds to who gets the returned client token, which is kept nowhere.
    pub async fn add(&self, container: Uuid) -> Result<SecretString, SessionError> {
        let token = claims::token();
        loop {
            let read = records::get::<Container>(&*self.store, &self.namespace, &container.to_string())?;
            let read = read.ok_or(SessionError::NoContainer { container })?;
            // One without pool is whoever's wrote it.
            if read.object.spec.claim.is_some() || read.object.spec.pool.is_none() {
                return Err(SessionError::Taken { container });
            }
            if read.object.status.phase != Phase::Ready || read.object.metadata.deleting() {
                let phase = if read.object.metadata.deleting() { Phase::Terminating } else { read.object.status.phase };
                return Err(SessionError::NotReady { container, phase });
            }
            let now = clock::of(&*self.store)?;
            let uid = Uuid::new_v4();
            let claim = ContainerClaim {
                metadata: ObjectMeta::new(&self.namespace, &format!("session-{}", uid.simple()), uid, now),
                spec: ClaimSpec {
                    token_sha256: Some(claims::token_sha256(&token)),
                    ..ClaimSpec::of(read.object.spec.pool.as_deref().map_or("", String::as_str), Origin::Embedder)
                },
                status: ClaimStatus::default(),
            };
            let (_, txn) = claims::bind(claim, &read, now);
            if let TxnResult::Committed(_) = self.store.txn(txn).await? {
                return Ok(token);
            }
        }
    }

    /// The session that container and client token name together. A wrong pair, whichever half of it, takes as long
    /// and says as much as any other.
    pub fn look_up(&self, container: Uuid, token: &str) -> Result<Option<Session>, SessionError> {
        let claim = authentic::authenticate(&*self.store, &self.namespace, &container.to_string(), token)?;
        Ok(claim.as_ref().and_then(session))
    }

    /// All sessions, the oldest first.
    pub fn list(&self) -> Result<Vec<Session>, SessionError> {
        let claims = records::list::<ContainerClaim>(&*self.store, &self.namespace)?;
        let mut sessions: Vec<Session> = claims.iter().filter_map(|claim| session(&claim.object)).collect();
        sessions.sort_by_key(|session| (session.created_at, session.container));
        Ok(sessions)
    }

    /// Ends a session, and with it its container: the end is certain when this returns, and then takes its time.
    pub async fn delete(&self, container: Uuid) -> Result<(), SessionError> {
        let claim = claims::of_container(&*self.store, &self.namespace, &container.to_string())?;
        let claim = claim.filter(|claim| session(claim).is_some()).ok_or(SessionError::NoSession { container })?;
        let now = clock::of(&*self.store)?;
        Ok(claims::withdraw(&*self.store, &self.namespace, &claim.metadata.name, now).await?)
    }
}

/// What a claim is as a session, if it is one.
fn session(claim: &ContainerClaim) -> Option<Session> {
    if claim.status.phase != ClaimPhase::Bound || claim.metadata.deleting() {
        return None;
    }
    let client = match &claim.spec.origin {
        Origin::Wire { client, .. } => Some(client.clone()),
        Origin::Embedder | Origin::Object => None,
    };
    Some(Session {
        container: claim.status.container.as_ref()?.parse().ok()?,
        created_at: claim.status.bound_at.unwrap_or(claim.metadata.creation_timestamp),
        client,
    })
}

#[cfg(test)]
mod tests;
