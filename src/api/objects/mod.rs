//! Reading and writing objects: the rules, the same for every transport and for whoever keeps manifests applied.
//!
//! - `status` is the operator's, and so are labels and annotations that begin with `anweddol.io/`: nobody else's word
//!   on them counts.
//! - `generation` grows when `spec` changes, and only then. A write that changes nothing writes nothing and tells
//!   nothing, so that whoever applies again and again can do so for free.
//! - A claim's pool and key, and all of a container's template, never change.
//! - A deletion is a wish: `deletionTimestamp`, once, for ever. The operator removes the record when nothing of the
//!   object is left; one that it has nothing to do for is removed at once. Until then it takes no other writes.
//! - A write and its event are one transaction.
//!
//! Each of them is a test in `tests.rs`.

pub mod configured;
pub(in crate::api) mod read;
mod view;
mod write;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use serde_json::Value;

use super::births::{BirthError, Births};
use crate::manifest::Fault;
use crate::model::ObjectRef;
use crate::plan::clock::Clock;
use crate::store::records::RecordError;
use crate::store::{Store, StoreError};

pub use read::{Changes, Listed, WatchEvent};

/// Objects of all kinds, to read and to write.
pub struct Objects {
    store: Arc<dyn Store>,
    births: Arc<Births>,
    clock: Clock,
}

/// How an object is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Only if it is not there yet.
    Create,
    /// Only if it is there, as it was read.
    Replace,
    /// Whether it is there or not.
    Apply,
}

/// Under which conditions, and for whom.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    /// Nothing is written; the answer says what would be.
    pub dry_run: bool,
    /// Only if it was last written by this revision.
    pub revision: Option<u64>,
    /// Who keeps the object applied from now on: goes into [`crate::model::MANAGED_BY`].
    pub manager: Option<String>,
}

/// What a write came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was not there.
    Created,
    /// It was changed.
    Configured,
    /// It was so already, and nothing was written.
    Unchanged,
}

/// An object that was written.
#[derive(Clone, Debug, PartialEq)]
pub struct Written {
    /// What the write came to.
    pub outcome: Outcome,
    /// The object, as it is shown.
    pub object: Value,
}

/// Why an object is not read or written.
#[derive(Debug, thiserror::Error)]
pub enum ObjectError {
    /// It is not there.
    #[error("there is no {object}")]
    NotFound {
        /// Which.
        object: ObjectRef,
    },
    /// It is there already.
    #[error("{object} exists already")]
    Exists {
        /// Which.
        object: ObjectRef,
    },
    /// It was written meanwhile.
    #[error("{object} was changed since revision {expected}, by revision {found}: read it again")]
    Conflict {
        /// Which.
        object: ObjectRef,
        /// The condition.
        expected: u64,
        /// What is.
        found: u64,
    },
    /// Its end was wished for.
    #[error("{object} is being deleted: wait until it is gone")]
    Deleting {
        /// Which.
        object: ObjectRef,
    },
    /// Another keeper's.
    #[error("{object} is kept by the manifests in {manager}: change it there")]
    Managed {
        /// Which.
        object: ObjectRef,
        /// Whose.
        manager: String,
    },
    /// Values that cannot be.
    #[error("{object} cannot be so: {}", said(faults))]
    Invalid {
        /// Which.
        object: ObjectRef,
        /// What is wrong.
        faults: Vec<Fault>,
    },
    /// No machine can be made now.
    #[error("{object} cannot be made")]
    Birth {
        /// Which.
        object: ObjectRef,
        /// Why.
        #[source]
        source: BirthError,
    },
    /// Records cannot be read or written.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The task that prepared it died.
    #[error("the task that chooses what is a container's own died")]
    Task(#[from] tokio::task::JoinError),
}

impl From<StoreError> for ObjectError {
    fn from(error: StoreError) -> Self {
        ObjectError::Record(error.into())
    }
}

fn said(faults: &[Fault]) -> String {
    faults.iter().map(Fault::to_string).collect::<Vec<_>>().join("; ")
}

impl Objects {
    /// Over a store; containers without pool are born by `births`.
    pub fn new(store: Arc<dyn Store>, births: Arc<Births>, clock: Clock) -> Self {
        Objects { store, births, clock }
    }
}
