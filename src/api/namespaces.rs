//! Namespaces: there as soon as something is in them, and gone when their end was wished for and nothing is left.
//!
//! Nobody has to make a namespace first, whether objects come from a directory of manifests, from the API or from
//! the wire: what is written into one that is not there makes it. Its deletion deletes what is in it, and its record
//! goes last. All of it is found again from the records after any crash.

use std::sync::Arc;

use futures::StreamExt;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::Objects;
use super::objects::{Deletion, ObjectError};
use super::plain::{Plain, PlainError, PlainKind, PlainRef, Preconditions};
use crate::manifest::selector::Filter;
use crate::model::{DEFAULT_NAMESPACE, Kind, ObjectRef};
use crate::store::records::{self, REGISTRY, RecordError};
use crate::store::{Batch, Change, StoreError, Txn};

/// Keeps namespaces so, until cancelled.
pub async fn keep(plain: Arc<Plain>, objects: Arc<Objects>, cancel: CancellationToken) {
    let keeper = Namespaces { plain, objects };
    tokio::select! {
        () = cancel.cancelled() => {}
        () = keeper.run() => {}
    }
}

/// A namespace's name as a reference.
pub fn namespace(name: &str) -> PlainRef {
    PlainRef { kind: PlainKind::Namespace, namespace: String::new(), name: name.into() }
}

struct Namespaces {
    plain: Arc<Plain>,
    objects: Arc<Objects>,
}

/// Why a namespace is not kept now; it is tried again with the next change.
#[derive(Debug, thiserror::Error)]
enum KeepError {
    #[error(transparent)]
    Plain(#[from] PlainError),
    #[error(transparent)]
    Object(#[from] ObjectError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Record(#[from] RecordError),
}

impl Namespaces {
    async fn run(&self) {
        loop {
            // Watched before looked at: what changes in between is seen twice rather than never.
            let mut batches = self.plain.store().watch("", 0);
            if let Err(error) = self.all().await {
                tracing::warn!(error = crate::error_chain(&error), "namespaces");
            }
            loop {
                match batches.next().await {
                    Some(Ok(batch)) => self.changed(&batch).await,
                    // Fallen behind: everything is looked at again.
                    Some(Err(StoreError::Compacted { .. })) => break,
                    Some(Err(_)) | None => return,
                }
            }
        }
    }

    /// Looks at every namespace that has a record or an object.
    async fn all(&self) -> Result<(), KeepError> {
        self.make(DEFAULT_NAMESPACE).await?;
        let keys = self.plain.store().list(REGISTRY)?.0;
        let mut used: Vec<String> =
            keys.iter().filter_map(|kv| records::parse_key(&kv.key)).map(|object| object.namespace).collect();
        used.sort();
        used.dedup();
        for name in &used {
            self.make(name).await?;
        }
        for record in self.plain.list(PlainKind::Namespace, None, Filter::default())?.all()? {
            self.end(record["metadata"]["name"].as_str().unwrap_or_default()).await?;
        }
        Ok(())
    }

    async fn changed(&self, batch: &Batch) {
        for change in &batch.changes {
            let done = match (change, records::parse_key(change.key())) {
                (Change::Put { prev: None, .. }, Some(object)) => {
                    let made = self.make(&object.namespace).await;
                    if made.is_ok() { self.end(&object.namespace).await } else { made }
                }
                (Change::Put { prev: Some(_), .. }, Some(_)) => Ok(()),
                (Change::Delete { .. }, Some(object)) => self.end(&object.namespace).await,
                (Change::Put { kv, .. }, None) => match kv.key.strip_prefix("plain/namespaces/") {
                    Some(name) => self.end(name).await,
                    None => Ok(()),
                },
                (Change::Delete { .. }, None) => Ok(()),
            };
            if let Err(error) = done {
                tracing::warn!(error = crate::error_chain(&error), "namespaces");
            }
        }
    }

    /// Makes a namespace's record, if there is none.
    async fn make(&self, name: &str) -> Result<(), KeepError> {
        match self.plain.get(&namespace(name)) {
            Ok(_) => return Ok(()),
            Err(PlainError::NotFound(_)) => {}
            Err(error) => return Err(error.into()),
        }
        let body = json!({ "metadata": { "name": name } });
        match self.plain.create(PlainKind::Namespace, "", body, false).await {
            Ok(_) | Err(PlainError::Exists(_)) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Takes a namespace further towards its end, if that was wished for.
    async fn end(&self, name: &str) -> Result<(), KeepError> {
        match self.plain.get(&namespace(name)) {
            Ok(record) if !record["metadata"]["deletionTimestamp"].is_null() => {}
            Ok(_) | Err(PlainError::NotFound(_)) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        let mut left = false;
        // Claims first: what they hold goes with them.
        for kind in [Kind::ContainerClaim, Kind::ContainerPool, Kind::Container] {
            for (object, deleting) in self.objects.names(kind, name)? {
                let reference = ObjectRef { kind, namespace: name.into(), name: object };
                left = true;
                if !deleting {
                    match self.objects.delete(&reference, &Deletion::default()).await {
                        Ok(_) | Err(ObjectError::NotFound { .. }) => {}
                        Err(error) => return Err(error.into()),
                    }
                }
            }
        }
        for kind in PlainKind::ALL.into_iter().filter(|kind| kind.namespaced()) {
            for object in self.plain.list(kind, Some(name), Filter::default())?.all()? {
                let Some(object_name) = object["metadata"]["name"].as_str() else { continue };
                let reference = PlainRef { kind, namespace: name.into(), name: object_name.into() };
                match self.plain.delete(&reference, &Preconditions::default(), false).await {
                    Ok(_) | Err(PlainError::NotFound(_)) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        // What went just now tells of itself, and this is called again.
        if !left {
            self.plain.store().txn(Txn::default().delete(&format!("plain/namespaces/{name}"))).await?;
        }
        Ok(())
    }
}
