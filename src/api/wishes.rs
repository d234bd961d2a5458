//! What a client may ask of its machine, besides that there is one, and what policy says to it.

use crate::model::{ContainerPool, valid_name};
use crate::plan::lifetime;
use crate::plan::public_key::{self, PublicKeyError};

/// What a client asks of its machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wishes {
    /// The pool to take it from; the one for everybody where there is none.
    pub pool: Option<String>,
    /// Seconds from binding that it may live.
    pub ttl: Option<u32>,
    /// A public key that may log in, besides the password.
    pub ssh_public_key: Option<String>,
}

/// Why a wish is not granted, whatever room there is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WishError {
    /// No such pool.
    #[error("there is no pool '{pool}'")]
    NoPool {
        /// Which; what is no name is not repeated.
        pool: String,
    },
    /// More time than the pool gives.
    #[error("ttl: {asked} s were asked for, and pool '{pool}' gives at most {most} s")]
    TooLong {
        /// What was asked for.
        asked: u32,
        /// What there is.
        most: u32,
        /// The pool.
        pool: String,
    },
    /// Not a public key.
    #[error(transparent)]
    PublicKey(#[from] PublicKeyError),
}

impl Wishes {
    /// What does not depend on the pool: a name that is one, a key that is one, without its comment.
    pub(super) fn checked(mut self) -> Result<Wishes, WishError> {
        if self.pool.as_deref().is_some_and(|pool| valid_name(pool).is_err()) {
            return Err(WishError::NoPool { pool: "…".into() });
        }
        self.ssh_public_key = self.ssh_public_key.as_deref().map(public_key::read).transpose()?;
        Ok(self)
    }
}

/// Whether a pool gives that much time.
pub(super) fn allows(pool: &ContainerPool, ttl: Option<u32>) -> Result<(), WishError> {
    lifetime::allowed(&pool.spec.template.lifetime, ttl).map_err(|most| WishError::TooLong {
        asked: ttl.unwrap_or_default(),
        most,
        pool: pool.metadata.name.clone(),
    })
}
