//! Whom a hint is for.

use std::sync::Arc;

use super::owned::Owned;
use super::unaddressed::Unaddressed;
use super::waiting::Waiting;
use super::{Boots, Operator};
use crate::api::Doubts;
use crate::model::Object;
use crate::store::{Index, RecordError};

/// What records say of each other, as far as a change of one concerns others.
#[derive(Default)]
pub(super) struct Known {
    pub(super) waiting: Waiting,
    pub(super) owned: Owned,
    pub(super) unaddressed: Unaddressed,
    pub(super) boots: Arc<Boots>,
    pub(super) doubts: Arc<Doubts>,
}

impl Known {
    /// Nothing yet.
    pub(super) fn of(operator: &Operator) -> Self {
        let (boots, doubts) = (Arc::clone(&operator.boots), Arc::clone(&operator.doubts));
        Known { boots, doubts, ..Known::default() }
    }

    /// As all records say, and these.
    pub(super) fn anew(&mut self, operator: &Operator) -> Option<Index> {
        let all = operator.store.index().map_err(RecordError::from).and_then(|index| {
            // Before anything is forgotten: one that cannot be read leaves all as it is.
            let (containers, again) = (index.containers()?, index.containers()?);
            let (pools, claims) = (index.pools()?, index.claims()?);
            *self = Known::of(operator);
            self.boots.reset(containers.map(|read| &read.object));
            for c in again {
                self.unaddressed.note(&c.object, false);
                if c.object.spec.pool.is_none() {
                    self.owned.add(&c.object);
                }
            }
            pools.for_each(|pool| self.owned.add(&pool.object));
            for claim in claims {
                self.owned.add(&claim.object);
                self.waiting.note(&claim.object.object_ref(), Some(&claim.object));
            }
            Ok(index)
        });
        listed(all)
    }
}

/// What was listed, if it was.
pub(super) fn listed<T>(listed: Result<T, RecordError>) -> Option<T> {
    let warn = |error| tracing::warn!(error = crate::error_chain(&error), "the records cannot be listed");
    listed.map_err(warn).ok()
}
