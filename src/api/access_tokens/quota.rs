//! How many containers there are with a token: counted from the records, and exact under any number of clients.

use crate::api::{Api, ApiError};
use crate::model::{AccessToken, ContainerClaim};
use crate::plan::access;
use crate::store::Txn;
use crate::store::records::{self, access_token_key};

/// Why a claim is not made with a token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QuotaError {
    /// It was disabled or deleted, or its time ran out, after the request came in.
    #[error("access token '{name}' is not good any more")]
    Gone {
        /// Which.
        name: String,
    },
    /// It has as many containers as it may have.
    #[error("{most} containers at once are allowed with this access token, and they are there: give one back first")]
    Used {
        /// The name of the token.
        name: String,
        /// How many.
        most: u32,
    },
}

/// What a claim's transaction has to hold for its token.
pub(in crate::api) struct Allowance {
    /// The token is as it was read; where containers are counted, nobody else counted them since.
    pub(in crate::api) txn: Txn,
    /// Whether containers are counted.
    pub(in crate::api) counts: bool,
}

impl Api {
    /// Whether the token that a claim bears allows another container.
    pub(in crate::api) fn allowance(&self, claim: &ContainerClaim) -> Result<Allowance, ApiError> {
        let Some(name) = &claim.spec.access_token else {
            return Ok(Allowance { txn: Txn::default(), counts: false });
        };
        let key = access_token_key(name);
        let gone = || QuotaError::Gone { name: name.clone() };
        // Before the claims: who counts them after this is seen as a change of it.
        let kv = self.store.get(&key)?.0.ok_or_else(gone)?;
        let token: AccessToken = records::decode(&kv)?.object;
        if !access::good(&token, (self.clock)()) {
            return Err(gone().into());
        }
        let txn = Txn::default().key_unchanged(&kv);
        let Some(most) = token.quotas.max_containers else { return Ok(Allowance { txn, counts: false }) };
        let index = self.store.index()?;
        let (claims, containers) = (index.claims()?.map(|claim| &claim.object), index.containers()?.map(|c| &c.object));
        if access::taken(claims, containers).get(name.as_str()).copied().unwrap_or_default() >= most {
            return Err(QuotaError::Used { name: name.clone(), most }.into());
        }
        // Written as it is: so no other claim that was counted with the same records is committed besides.
        Ok(Allowance { txn: txn.put(&key, &token), counts: true })
    }
}
