//! Reading and writing objects: the rules, the same for every transport and for whoever keeps manifests applied.
//!
//! ```text
//! Request ─► draft (PURE) ─► what can be (PURE) ─► who owns which field (PURE) ─► one transaction ─► Written
//!  verb       whole object     manifest::of_value     manifest::fields              record, event
//! ```
//!
//! - `status` is the operator's, and so are labels and annotations that begin with `anweddol.io/`: nobody else's word
//!   on them counts. Through the subresource `status`, other controllers write conditions of types of their own.
//! - `generation` grows when `spec` changes and when the end is wished for, and only then. A write that changes nothing
//!   writes nothing and tells nothing, so that whoever applies again and again can do so for free.
//! - A claim's pool and key, and all of a container's template, never change.
//! - A deletion is a wish: `deletionTimestamp`, once, for ever. The operator removes the record when nothing of the
//!   object is left and no finalizer holds it; one that it has nothing to do for is removed at once. Until then it
//!   takes no other spec and no new finalizer.
//! - Who changes a part loses to nobody: a patch and an apply are tried again on what is there by then. Only a
//!   revision or a UID that they name themselves makes that a conflict.
//! - A write and its event are one transaction.
//!
//! Each of them is a test in `tests.rs`, and each verb in `tests/verbs.rs`.

pub mod configured;
mod delete;
mod draft;
mod error;
mod kinds;
pub(in crate::api) mod read;
mod request;
mod scale;
mod view;
mod write;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use super::births::Births;
use crate::plan::clock::Clock;
use crate::store::Store;

pub use delete::{Deleted, Deletion, Propagation};
pub use error::{Cause, ObjectError};
pub use read::{Changes, Items, Listed, WatchEvent};
pub use request::{FieldValidation, Outcome, Request, Subresource, Terms, Verb, Written};

/// Objects of all kinds, to read and to write.
pub struct Objects {
    store: Arc<dyn Store>,
    births: Arc<Births>,
    clock: Clock,
}

impl Objects {
    /// Over a store; containers without pool are born by `births`.
    pub fn new(store: Arc<dyn Store>, births: Arc<Births>, clock: Clock) -> Self {
        Objects { store, births, clock }
    }
}
