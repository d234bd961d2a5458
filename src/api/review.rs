//! What is wished for one container apart from the verbs: another template, other credentials, its end.

use futures::future::BoxFuture;
use secrecy::SecretString;
use uuid::Uuid;

use super::{Api, ApiError, claims};
use crate::model::{Container, Credentials, Template};
use crate::store::records;
use crate::store::{Txn, TxnResult};

/// Keeps a container from being started until it was looked at.
pub(super) const REVIEW_GATE: &str = "anweddol.io/review";

/// Looks at a container that was just made for a client, and says what it is to be made from, or why it is not to be.
pub type Review = Box<dyn FnOnce(Container) -> BoxFuture<'static, Result<Template, String>> + Send>;

impl Api {
    /// Has a container looked at, and opens its gate with what that changed of it.
    pub(super) async fn reviewed(&self, name: &str, review: Review) -> Result<(), ApiError> {
        let gone = || ApiError::NotReady { reason: "it ended while it was looked at".into() };
        let read = records::get::<Container>(&*self.store, &self.namespace, name)?.ok_or_else(gone)?;
        let template = review(read.object).await.map_err(|reason| ApiError::NotReady { reason })?;
        loop {
            let read = records::get::<Container>(&*self.store, &self.namespace, name)?.ok_or_else(gone)?;
            if read.object.spec.scheduling_gates.is_empty() {
                return Ok(());
            }
            let mut open = read.object.clone();
            open.spec.scheduling_gates.retain(|gate| gate != REVIEW_GATE);
            open.spec.template = template.clone();
            open.metadata.generation += 1;
            if let TxnResult::Committed(_) = self.store.txn(Txn::default().unchanged(&read).write(&open)).await? {
                return Ok(());
            }
        }
    }

    /// A container, as it is now.
    pub fn container(&self, uuid: Uuid) -> Result<Option<Container>, ApiError> {
        let read = records::get::<Container>(&*self.store, &self.namespace, &uuid.to_string())?;
        Ok(read.map(|read| read.object))
    }

    /// Takes back a grant whose answer did not reach its client.
    pub async fn revoke(&self, uuid: Uuid) -> Result<(), ApiError> {
        if let Some(claim) = claims::of_container(&*self.store, &self.namespace, &uuid.to_string())? {
            self.withdraw(&claim).await?;
        }
        Ok(())
    }

    /// Wishes for the end of a container, claimed or not.
    pub async fn end(&self, uuid: Uuid) -> Result<(), ApiError> {
        self.revoke(uuid).await?;
        loop {
            let read = records::get::<Container>(&*self.store, &self.namespace, &uuid.to_string())?;
            let Some(read) = read.filter(|read| !read.object.metadata.deleting()) else { return Ok(()) };
            let mut ended = read.object.clone();
            ended.metadata.deletion_timestamp = Some((self.clock)());
            if let TxnResult::Committed(_) = self.store.txn(Txn::default().unchanged(&read).write(&ended)).await? {
                return Ok(());
            }
        }
    }

    /// Gives a container another login than the one it was made with, before it is set up.
    pub async fn set_credentials(&self, uuid: Uuid, username: &str, password: &SecretString) -> Result<(), ApiError> {
        let gone = || ApiError::NotReady { reason: "it ended before its credentials were set".into() };
        let sealed_password = self.births.sealer().seal(uuid, password);
        let credentials = Credentials { username: username.into(), sealed_password };
        loop {
            let read = records::get::<Container>(&*self.store, &self.namespace, &uuid.to_string())?.ok_or_else(gone)?;
            let key = records::credentials_key(&self.namespace, &read.object.metadata.name);
            let txn = Txn::default().unchanged(&read).put(&key, &credentials);
            if let TxnResult::Committed(_) = self.store.txn(txn).await? {
                return Ok(());
            }
        }
    }

    /// Wishes for the end of every container of the pool, and of no more to be made; how many there are still.
    pub async fn end_all(&self) -> Result<usize, ApiError> {
        let pool = self.pool()?;
        if pool.object.spec.replicas > 0 {
            let mut empty = pool.object.clone();
            empty.spec.replicas = 0;
            // Whoever was faster is met the next time.
            self.store.txn(Txn::default().unchanged(&pool).write(&empty)).await?;
        }
        let members = self.members()?;
        for member in members.iter().filter(|member| !member.object.metadata.deleting()) {
            let mut ended = member.object.clone();
            ended.metadata.deletion_timestamp = Some((self.clock)());
            self.store.txn(Txn::default().unchanged(member).write(&ended)).await?;
        }
        Ok(members.len())
    }
}
