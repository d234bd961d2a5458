//! Access tokens: what clients of the wire protocol show to be served. Tokens of the API are others ([`super::access`]).
//!
//! A token has 124 random characters. It is told once, and only its SHA-256 is kept. Whoever has it may have so many
//! containers at once and ask so often as its quotas say. A claim remembers the name of the token that it was made with:
//!
//! | what is done to a token | its requests from then on | its machines |
//! | --- | --- | --- |
//! | disabled, or its time is over | are refused as those of no token are | live on; enabled again, they can be given back |
//! | deleted | the same | live on until their time is over, or an administrator deletes their claims |
//! | made anew with the same name | with the new text only | of the former one count for its quota, too |
//!
//! Quotas of containers are exact, whoever asks at the same time: they are counted from the records, in the transaction that
//! makes the claim. Rates are counted by each run of the daemon, in memory.

mod quota;
mod rate;

#[cfg(test)]
mod tests;

use std::num::NonZeroU32;
use std::sync::Arc;

use jiff::SignedDuration;
use secrecy::{ExposeSecret, SecretString};

use super::claims::TOKEN_ALPHABET;
use super::random_text;
use crate::model::{AccessToken, NameError, Quotas, valid_name};
use crate::plan::access::{self, Recognised};
use crate::plan::clock::Clock;
use crate::sha256;
use crate::store::records::{self, RecordError, access_token_key};
use crate::store::{Store, StoreError, Txn, TxnResult};
pub use quota::QuotaError;
use rate::Rates;

/// Characters of an access token, as the protocol documents them.
pub const LENGTH: usize = 124;
/// The most access tokens there can be: all of them are in memory, and in one list.
pub const MOST: usize = 1000;
/// What names that nobody chose are made of.
const NAME_ALPHABET: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";

/// Why an access token is not made, found or changed.
#[derive(Debug, thiserror::Error)]
pub enum AccessTokenError {
    /// No name for one.
    #[error(transparent)]
    Name(#[from] NameError),
    /// Its name is taken.
    #[error("there is an access token '{name}' already: delete it first, or choose another name")]
    Exists {
        /// Which.
        name: String,
    },
    /// Another one is the same.
    #[error("access token '{name}' has this SHA-256 already: it is the same token")]
    Same {
        /// Which.
        name: String,
    },
    /// No SHA-256.
    #[error("a SHA-256 has 64 digits, 0 to 9 and a to f: write it as the Python server keeps it")]
    Sha256,
    /// There is none.
    #[error("there is no access token '{name}'")]
    NotFound {
        /// Which.
        name: String,
    },
    /// There are too many.
    #[error("there are {MOST} access tokens already: delete some")]
    TooMany,
    /// Records cannot be read or written.
    #[error(transparent)]
    Record(#[from] RecordError),
}

impl From<StoreError> for AccessTokenError {
    fn from(error: StoreError) -> Self {
        AccessTokenError::Record(error.into())
    }
}

/// Why a request is not listened to.
#[derive(Debug, thiserror::Error)]
pub enum AdmitError {
    /// It bears no good token. Whoever asks is told the same, whatever the reason is.
    #[error("its access token is {why}")]
    Invalid {
        /// For the log: unknown, or whose it is and what is wrong with it.
        why: String,
    },
    /// Its token was used too often.
    #[error("{per_minute} requests a minute are allowed with this access token: wait {wait} s")]
    TooOften {
        /// The name of the token.
        name: String,
        /// How often it may be used.
        per_minute: NonZeroU32,
        /// Whole seconds until it may be used again.
        wait: u64,
    },
    /// Records cannot be read.
    #[error(transparent)]
    Record(#[from] RecordError),
}

/// What is asked for when a token is made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Order {
    /// What it is to be called; absent: something random.
    pub name: Option<String>,
    /// Seconds that it is good for; absent: until it is deleted.
    pub ttl: Option<u32>,
    /// Whether it has to be enabled before it is good.
    pub disabled: bool,
    /// How much whoever has it may take.
    pub quotas: Quotas,
}

/// A token and what is taken with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The token.
    pub token: AccessToken,
    /// Containers that count for its quota.
    pub containers: u32,
}

/// The access tokens of a store.
pub struct AccessTokenManager {
    store: Arc<dyn Store>,
    clock: Clock,
    rates: Rates,
}

impl AccessTokenManager {
    /// Those of a store.
    pub fn new(store: Arc<dyn Store>, clock: Clock) -> Self {
        AccessTokenManager { store, clock, rates: Rates::default() }
    }

    /// Makes a token: the record, and its text, which nobody can ask for again.
    pub async fn add(&self, order: Order) -> Result<(AccessToken, SecretString), AccessTokenError> {
        let text = SecretString::from(random_text(TOKEN_ALPHABET, LENGTH));
        Ok((self.keep(order, sha256(text.expose_secret())).await?, text))
    }

    /// Takes over a token that somebody has already, by the SHA-256 of its text in hex: all that the Python server keeps
    /// of one.
    pub async fn take_over(&self, order: Order, sha256: &str) -> Result<AccessToken, AccessTokenError> {
        if sha256.len() != 64 || !sha256.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(AccessTokenError::Sha256);
        }
        self.keep(order, sha256.into()).await
    }

    async fn keep(&self, order: Order, sha256: String) -> Result<AccessToken, AccessTokenError> {
        let name = order.name.unwrap_or_else(|| format!("token-{}", random_text(NAME_ALPHABET, 6)));
        valid_name(&name)?;
        let index = self.store.index()?;
        let tokens = index.access_tokens()?;
        if tokens.count() >= MOST {
            return Err(AccessTokenError::TooMany);
        }
        if let Some(same) = tokens.of_sha256(&sha256) {
            return Err(AccessTokenError::Same { name: same.name.clone() });
        }
        let created_at = (self.clock)();
        let end = |seconds: u32| created_at.checked_add(SignedDuration::from_secs(seconds.into())).ok();
        let token = AccessToken {
            sha256,
            created_at,
            expires_at: order.ttl.and_then(end),
            enabled: !order.disabled,
            quotas: order.quotas,
            name,
        };
        let key = access_token_key(&token.name);
        match self.store.txn(Txn::default().absent(&key).put(&key, &token)).await? {
            TxnResult::Committed(_) => Ok(token),
            TxnResult::Conflict { .. } => Err(AccessTokenError::Exists { name: token.name }),
        }
    }

    /// All tokens, in the order of their names.
    pub fn list(&self) -> Result<Vec<Listed>, AccessTokenError> {
        let index = self.store.index()?;
        let (claims, containers) = (index.claims()?.map(|claim| &claim.object), index.containers()?.map(|c| &c.object));
        let taken = access::taken(claims, containers);
        let listed = |token: &Arc<AccessToken>| {
            let containers = taken.get(token.name.as_str()).copied().unwrap_or_default();
            Listed { token: AccessToken::clone(token), containers }
        };
        Ok(index.access_tokens()?.iter().map(listed).collect())
    }

    /// Enables or disables a token: from the next request on.
    pub async fn set_enabled(&self, name: &str, enabled: bool) -> Result<AccessToken, AccessTokenError> {
        valid_name(name)?;
        let key = access_token_key(name);
        loop {
            let not_found = || AccessTokenError::NotFound { name: name.into() };
            let kv = self.store.get(&key)?.0.ok_or_else(not_found)?;
            let token = AccessToken { enabled, ..records::decode(&kv)?.object };
            let txn = Txn::default().key_unchanged(&kv).put(&key, &token);
            if let TxnResult::Committed(_) = self.store.txn(txn).await? {
                return Ok(token);
            }
        }
    }

    /// Deletes a token: whoever shows it is refused from the next request on.
    pub async fn delete(&self, name: &str) -> Result<(), AccessTokenError> {
        valid_name(name)?;
        let key = access_token_key(name);
        self.store.get(&key)?.0.ok_or_else(|| AccessTokenError::NotFound { name: name.into() })?;
        self.store.txn(Txn::default().delete(&key)).await?;
        Ok(())
    }

    /// The name of the token that a text is, if it is a good one and was not used too often. Whoever asks pays for one
    /// search, however many tokens there are.
    pub fn admit(&self, text: &str) -> Result<String, AdmitError> {
        let index = self.store.index().map_err(RecordError::from)?;
        let tokens = index.access_tokens()?;
        let invalid = |why: String| Err(AdmitError::Invalid { why });
        let sha256 = sha256(text);
        let found = tokens.of_sha256(&sha256).map(|token| &**token);
        let token = match access::recognise(found, &sha256, (self.clock)()) {
            Recognised::Good(token) => token,
            Recognised::Disabled(token) => return invalid(format!("'{}', which is disabled", token.name)),
            Recognised::Expired(token) => return invalid(format!("'{}', whose time is over", token.name)),
            Recognised::Unknown => return invalid("unknown".into()),
        };
        let Some(per_minute) = token.quotas.requests_per_minute else { return Ok(token.name.clone()) };
        self.rates.retain(tokens.count(), |name| tokens.named(name).is_some());
        match self.rates.enter(&token.name, per_minute) {
            Ok(()) => Ok(token.name.clone()),
            Err(wait) => Err(AdmitError::TooOften { name: token.name.clone(), per_minute, wait }),
        }
    }

    /// Whether there is any token that is good now.
    pub fn any_good(&self) -> Result<bool, RecordError> {
        let now = (self.clock)();
        let index = self.store.index()?;
        Ok(index.access_tokens()?.iter().any(|token| access::good(token, now)))
    }
}
