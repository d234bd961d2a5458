//! Who may do what: tokens, their roles, and the decision. The decision is pure; tokens are records.
//!
//! A token's text is `NAME.SECRET`, with 256 random bits of secret: it is told once, and only its SHA-256 is kept. Its
//! role is for all namespaces, or for one.
//!
//! | role | may |
//! | --- | --- |
//! | `admin` | everything, tokens included |
//! | `edit` | read and write pools, containers, claims, leases, events and secrets; read logins |
//! | `view` | read pools, containers, claims, namespaces, events and leases; never a login |
//! | `claim` | make, read, extend, delete claims and read their logins; read pools, containers and events |
//!
//! Whoever shares a namespace with role `claim` shares its claims: give each user a namespace of their own.

#[cfg(test)]
mod tests;

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::authentic::NO_TOKEN;
use crate::model::{NameError, valid_name};
use crate::plan::clock::Clock;
use crate::sha256;
use crate::store::records::{self, RecordError, TOKENS};
use crate::store::{Store, StoreError, Txn, TxnResult};

/// The most tokens there can be.
pub const MOST_TOKENS: usize = 1000;

/// What a token is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Everything.
    Admin,
    /// To write objects.
    Edit,
    /// To read objects.
    View,
    /// To claim machines.
    Claim,
}

impl Role {
    /// All of them.
    pub const ALL: [Role; 4] = [Role::Admin, Role::Edit, Role::View, Role::Claim];

    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Role::Admin => "admin",
            Role::Edit => "edit",
            Role::View => "view",
            Role::Claim => "claim",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Role {
    type Err = AccessError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = Role::ALL.into_iter().find(|role| role.name() == text);
        found.ok_or_else(|| AccessError::Role { text: text.into() })
    }
}

/// What is asked for, as Kubernetes names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verb {
    /// One object.
    Get,
    /// All of them.
    List,
    /// Their changes.
    Watch,
    /// A new one.
    Create,
    /// Another in its place.
    Update,
    /// A part of it.
    Patch,
    /// Its end.
    Delete,
    /// The end of all of them.
    DeleteCollection,
}

impl Verb {
    /// All of them.
    pub const ALL: [Verb; 8] = [
        Verb::Create,
        Verb::Delete,
        Verb::DeleteCollection,
        Verb::Get,
        Verb::List,
        Verb::Patch,
        Verb::Update,
        Verb::Watch,
    ];

    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Verb::Get => "get",
            Verb::List => "list",
            Verb::Watch => "watch",
            Verb::Create => "create",
            Verb::Update => "update",
            Verb::Patch => "patch",
            Verb::Delete => "delete",
            Verb::DeleteCollection => "deletecollection",
        }
    }

    /// Whether it changes nothing.
    pub fn reads(self) -> bool {
        match self {
            Verb::Get | Verb::List | Verb::Watch => true,
            Verb::Create | Verb::Update | Verb::Patch | Verb::Delete | Verb::DeleteCollection => false,
        }
    }
}

/// A request, as far as its permission depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attributes<'a> {
    /// What is asked for.
    pub verb: Verb,
    /// Of which group; empty: Kubernetes' own.
    pub group: &'a str,
    /// Of which resource, in the plural.
    pub resource: &'a str,
    /// Of which part of it; empty: all.
    pub subresource: &'a str,
    /// In which namespace; `None`: in all of them, or outside of any.
    pub namespace: Option<&'a str>,
    /// Of which name, where one is asked for.
    pub name: Option<&'a str>,
}

/// A role, and where it holds.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Grant {
    /// What for.
    pub role: Role,
    /// The namespace that it holds in; absent: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
}

impl Grant {
    /// Everything, everywhere.
    pub const fn everything() -> Grant {
        Grant { role: Role::Admin, namespace: None }
    }

    /// Whether it permits a request.
    pub fn permits(&self, asked: &Attributes<'_>) -> bool {
        let place = match &self.namespace {
            None => true,
            // A namespace is an object without one; its own may be read.
            Some(mine) if asked.resource == "namespaces" => {
                asked.name == Some(mine.as_str()) && asked.verb == Verb::Get && asked.group.is_empty()
            }
            Some(mine) => asked.namespace == Some(mine.as_str()),
        };
        place && self.role.permits(asked)
    }
}

impl Role {
    fn permits(self, asked: &Attributes<'_>) -> bool {
        let ours = asked.group == crate::model::GROUP;
        let login = ours && asked.subresource == "login";
        match self {
            Role::Admin => true,
            Role::Edit => match (ours, asked.resource) {
                (true, "tokens" | "accesstokens") => false,
                (true, _) => true,
                (false, "namespaces") => asked.verb.reads(),
                (false, "secrets" | "leases" | "events") => true,
                (false, _) => false,
            },
            Role::View => {
                let known = match (ours, asked.resource) {
                    (true, "tokens" | "accesstokens") | (false, "secrets") => false,
                    (true, _) => true,
                    (false, resource) => matches!(resource, "namespaces" | "leases" | "events"),
                };
                known && asked.verb.reads() && !login
            }
            Role::Claim => match (ours, asked.resource) {
                (true, "containerclaims") => true,
                (true, "containerpools" | "containers" | "events") => asked.verb.reads() && !login,
                (false, "namespaces" | "events") => asked.verb.reads(),
                (true | false, _) => false,
            },
        }
    }
}

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    /// Their name, for logs and conditions.
    pub name: String,
    /// What they may do.
    pub grant: Grant,
}

impl Identity {
    /// This host's root, or the daemon's own user.
    pub fn local() -> Identity {
        Identity { name: "local".into(), grant: Grant::everything() }
    }
}

/// A token as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Token {
    /// Its name.
    pub name: String,
    /// What it is good for.
    pub grant: Grant,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it ends; absent: when it is deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// SHA-256 of its text, in hex.
    sha256: String,
}

/// Why a token is not made, found or deleted.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// No such role.
    #[error("'{text}' is no role: write admin, edit, view or claim")]
    Role {
        /// What was given.
        text: String,
    },
    /// No name for a token, or for its namespace.
    #[error(transparent)]
    Name(#[from] NameError),
    /// Its name is taken.
    #[error("there is a token '{name}' already: delete it first, or choose another name")]
    Exists {
        /// Which.
        name: String,
    },
    /// There is none.
    #[error("there is no token '{name}'")]
    NotFound {
        /// Which.
        name: String,
    },
    /// There are too many.
    #[error("there are {MOST_TOKENS} tokens already: delete some")]
    TooMany,
    /// Records cannot be read or written.
    #[error(transparent)]
    Record(#[from] RecordError),
}

impl From<StoreError> for AccessError {
    fn from(error: StoreError) -> Self {
        AccessError::Record(error.into())
    }
}

/// The tokens.
pub struct Access {
    store: Arc<dyn Store>,
    clock: Clock,
}

impl Access {
    /// Those of a store.
    pub fn new(store: Arc<dyn Store>, clock: Clock) -> Self {
        Access { store, clock }
    }

    /// Makes a token: the record, and its text, which nobody can ask for again.
    pub async fn add(&self, name: &str, grant: Grant, ttl: Option<u32>) -> Result<(Token, SecretString), AccessError> {
        valid_name(name)?;
        grant.namespace.as_deref().map(valid_name).transpose()?;
        if self.store.list(TOKENS)?.0.len() >= MOST_TOKENS {
            return Err(AccessError::TooMany);
        }
        let text = text(name);
        let created_at = (self.clock)();
        let expires_at = ttl.and_then(|seconds| {
            let seconds = jiff::SignedDuration::from_secs(i64::from(seconds));
            created_at.checked_add(seconds).ok()
        });
        let token = Token { name: name.into(), grant, created_at, expires_at, sha256: sha256(text.expose_secret()) };
        let key = format!("{TOKENS}{name}");
        match self.store.txn(Txn::default().absent(&key).put(&key, &token)).await? {
            TxnResult::Committed(_) => Ok((token, text)),
            TxnResult::Conflict { .. } => Err(AccessError::Exists { name: name.into() }),
        }
    }

    /// All tokens, in the order of their names.
    pub fn list(&self) -> Result<Vec<Token>, AccessError> {
        let kvs = self.store.list(TOKENS)?.0;
        Ok(kvs.iter().map(|kv| Ok(records::decode::<Token>(kv)?.object)).collect::<Result<_, RecordError>>()?)
    }

    /// Deletes a token: whoever uses it is refused from the next request on.
    pub async fn delete(&self, name: &str) -> Result<(), AccessError> {
        valid_name(name)?;
        let key = format!("{TOKENS}{name}");
        let Some(kv) = self.store.get(&key)?.0 else { return Err(AccessError::NotFound { name: name.into() }) };
        self.store.txn(Txn::default().key_unchanged(&kv).delete(&key)).await?;
        Ok(())
    }

    /// Whose token a text is, if it is one and its time is not over. What it is compared by tells nothing about it by the
    /// time that takes.
    pub fn identify(&self, text: &str) -> Result<Option<Identity>, AccessError> {
        let Some((name, _)) = text.split_once('.').filter(|(name, _)| valid_name(name).is_ok()) else {
            return Ok(None);
        };
        let found = self.store.get(&format!("{TOKENS}{name}"))?.0;
        let token = found.map(|kv| records::decode::<Token>(&kv)).transpose()?.map(|read| read.object);
        // A name that is nobody's costs the digest and the comparison all the same.
        let expected = token.as_ref().map_or(NO_TOKEN, |token| token.sha256.as_str());
        let right: bool = sha256(text).as_bytes().ct_eq(expected.as_bytes()).into();
        let living = |token: &Token| token.expires_at.is_none_or(|end| (self.clock)() < end);
        let token = token.filter(|token| right && living(token));
        Ok(token.map(|token| Identity { name: token.name, grant: token.grant }))
    }
}

/// A new token's. It never grows, so that nothing of it is left anywhere.
fn text(name: &str) -> SecretString {
    let mut bytes = Zeroizing::new([0_u8; 32]);
    aws_lc_rs::rand::fill(&mut *bytes).expect("the system's randomness");
    let mut text = String::with_capacity(name.len() + 1 + 43);
    text.push_str(name);
    text.push('.');
    URL_SAFE_NO_PAD.encode_string(*bytes, &mut text);
    text.into()
}
