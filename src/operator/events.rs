//! The event log does not grow for ever: the oldest go, the newest stay.

use std::sync::atomic::Ordering;

use super::{Operator, PassError};
use crate::store::Txn;
use crate::store::records::EVENTS;

/// The most that go in one transaction: others wait no longer for it than for any other write.
const BATCH: usize = 256;

impl Operator {
    /// Removes what is older than the newest events that are kept. Numbers are never given again, so a reader goes on
    /// where it was, and sees by a gap in them that it came too late for some.
    pub(super) fn trim_events(&self) -> Result<(), PassError> {
        let (log, _) = self.store.list(EVENTS)?;
        let old = log.len().saturating_sub(self.kept_events.load(Ordering::Relaxed));
        for batch in log[..old].chunks(BATCH) {
            let txn = batch.iter().fold(Txn::default(), |txn, event| txn.delete(&event.key));
            self.store.txn(txn).wait()?;
        }
        Ok(())
    }
}
