//! The login of what was wished for as an object: read once, by whoever may, and never again.

use jiff::Timestamp;
use secrecy::SecretString;
use uuid::Uuid;

use super::{Api, ApiError};
use crate::model::{ClaimPhase, Container, ContainerClaim, Kind, Object, ObjectRef, Phase};
use crate::plan::container::standalone;
use crate::store::records::{self, Versioned};
use crate::store::{Txn, TxnResult};

/// How to log in.
#[derive(Clone, Debug)]
pub struct Login {
    /// To which container.
    pub container: Uuid,
    /// As whom.
    pub username: String,
    /// With what.
    pub password: SecretString,
    /// On which port of the host.
    pub port: u16,
    /// Until when.
    pub expires_at: Option<Timestamp>,
}

/// Why a login is not told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LoginError {
    /// Not there.
    #[error("there is no {object}")]
    NotFound {
        /// Which.
        object: ObjectRef,
    },
    /// It has none of its own.
    #[error("{object} has no login to read: {reason}")]
    NoLogin {
        /// Which.
        object: ObjectRef,
        /// Why.
        reason: &'static str,
    },
    /// Its machine cannot be used yet, or not any more.
    #[error("{object} is {phase}: its login can be read when it is {wanted}")]
    NotReady {
        /// Which.
        object: ObjectRef,
        /// Where it is.
        phase: String,
        /// Where it should be.
        wanted: &'static str,
    },
    /// That works once.
    #[error("the login of {object} was read at {at}, and that works once: delete it and make another one")]
    Read {
        /// Which.
        object: ObjectRef,
        /// When.
        at: Timestamp,
    },
}

impl Api {
    /// Tells the login of a claim, or of a container without pool, that was written as an object. It is marked as read
    /// before it is told: of two readers at most one gets it.
    pub async fn login_once(&self, object: &ObjectRef) -> Result<Login, ApiError> {
        loop {
            let now = (self.clock)();
            let (container, txn) = match object.kind {
                Kind::ContainerClaim => self.read_by_claim(object, now)?,
                Kind::Container => self.read_by_container(object, now)?,
                Kind::ContainerPool => {
                    return Err(LoginError::NoLogin { object: object.clone(), reason: "claim a machine of it" }.into());
                }
            };
            let login = self.login_of(object, &container)?;
            if let TxnResult::Committed(_) = self.store.txn(txn).await? {
                return Ok(login);
            }
        }
    }

    fn read_by_claim(&self, object: &ObjectRef, now: Timestamp) -> Result<(Container, Txn), ApiError> {
        let read: Versioned<ContainerClaim> = self.required(object)?;
        let claim = &read.object;
        if !claim.spec.origin.is_object() {
            let reason = "its client was told it when it was made";
            return Err(LoginError::NoLogin { object: object.clone(), reason }.into());
        }
        let status = &claim.status;
        let name = match (&status.container, status.phase) {
            (Some(name), ClaimPhase::Bound) if !claim.metadata.deleting() => name,
            _ => return Err(not_ready(object, status.phase, "Bound").into()),
        };
        unread(object, status.login_read_at)?;
        let container = records::get::<Container>(&*self.store, &object.namespace, name)?;
        let container = container.ok_or_else(|| not_ready(object, "without machine", "Bound"))?.object;
        let mut told = claim.clone();
        told.status.login_read_at = Some(now);
        Ok((container, Txn::default().unchanged(&read).write(&told)))
    }

    fn read_by_container(&self, object: &ObjectRef, now: Timestamp) -> Result<(Container, Txn), ApiError> {
        let read: Versioned<Container> = self.required(object)?;
        let c = &read.object;
        if !standalone(c) {
            let reason = "it belongs to a pool; read that of its claim";
            return Err(LoginError::NoLogin { object: object.clone(), reason }.into());
        }
        if c.status.phase != Phase::Ready || c.metadata.deleting() {
            return Err(not_ready(object, c.status.phase, "Ready").into());
        }
        unread(object, *c.status.login_read_at)?;
        let mut told = c.clone();
        told.status.login_read_at = Some(now).into();
        Ok((c.clone(), Txn::default().unchanged(&read).write(&told)))
    }

    fn required<T: Object>(&self, object: &ObjectRef) -> Result<Versioned<T>, ApiError> {
        let read = records::get(&*self.store, &object.namespace, &object.name)?;
        Ok(read.ok_or_else(|| LoginError::NotFound { object: object.clone() })?)
    }

    fn login_of(&self, object: &ObjectRef, c: &Container) -> Result<Login, ApiError> {
        let credentials = records::credentials(&*self.store, &c.metadata.namespace, &c.metadata.name)?;
        let credentials = credentials.ok_or_else(|| not_ready(object, "without credentials", "Ready"))?;
        let password = self.births.sealer().open(c.uuid(), &credentials.sealed_password)?;
        let (port, expires_at) = (c.spec.machine.port, *c.status.expires_at);
        Ok(Login { container: c.uuid(), username: credentials.username, password, port, expires_at })
    }
}

fn unread(object: &ObjectRef, read_at: Option<Timestamp>) -> Result<(), LoginError> {
    read_at.map_or(Ok(()), |at| Err(LoginError::Read { object: object.clone(), at }))
}

fn not_ready(object: &ObjectRef, phase: impl std::fmt::Debug, wanted: &'static str) -> LoginError {
    let phase = format!("{phase:?}").trim_matches('"').to_owned();
    LoginError::NotReady { object: object.clone(), phase, wanted }
}
