//! What is wished for one container apart from the verbs: another template, other credentials, its end.

use futures::future::BoxFuture;
use secrecy::SecretString;
use uuid::Uuid;

use super::{Api, ApiError, claims};
use crate::model::{Container, Credentials, ObjectMeta, Template};
use crate::plan::container::released;
use crate::store::records::{self, Versioned};
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
            // What was admitted was what it was made from.
            let txn = match template.memory > read.object.spec.template.memory {
                true => self.births.admit(&*self.store, template.memory, read.object.uuid())?,
                false => Txn::default(),
            };
            let mut open = read.object.clone();
            open.spec.scheduling_gates.retain(|gate| gate != REVIEW_GATE);
            open.spec.template = template.clone().into();
            open.metadata.generation += 1;
            if let TxnResult::Committed(_) = self.store.txn(txn.unchanged(&read).write(&open)).await? {
                return Ok(());
            }
        }
    }

    /// A container, as it is now.
    pub fn container(&self, uuid: Uuid) -> Result<Option<Container>, ApiError> {
        Ok(records::container(&*self.store, uuid)?.map(|read| read.object))
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
        loop {
            let read = records::container(&*self.store, uuid)?;
            let Some(read) = read.filter(|read| !read.object.metadata.deleting()) else { return Ok(()) };
            let (namespace, now) = (&read.object.metadata.namespace, (self.clock)());
            if let Some(claim) = &*read.object.spec.claim {
                claims::withdraw(&*self.store, namespace, claim, now).await?;
            }
            let txn = claims::end(Txn::default(), &read, now);
            if let TxnResult::Committed(_) = self.store.txn(txn).await? {
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
            let read = records::container(&*self.store, uuid)?.ok_or_else(gone)?;
            let ObjectMeta { namespace, name, .. } = &read.object.metadata;
            let key = records::credentials_key(namespace, name);
            let txn = Txn::default().unchanged(&read).put(&key, &credentials);
            if let TxnResult::Committed(_) = self.store.txn(txn).await? {
                return Ok(());
            }
        }
    }

    /// Wishes for the end of every container, whoever's it is, and makes no other one in this run; how many there are
    /// still.
    pub async fn end_all(&self) -> Result<usize, ApiError> {
        self.births.stop();
        let all: Vec<Versioned<Container>> = records::list_all(&*self.store)?;
        let left: Vec<_> = all.into_iter().filter(|read| !released(&read.object)).collect();
        for read in left.iter().filter(|read| !read.object.metadata.deleting()) {
            // What was changed meanwhile is met the next time.
            self.store.txn(claims::end(Txn::default(), read, (self.clock)())).await?;
        }
        Ok(left.len())
    }
}
