//! The event log does not grow for ever: the oldest go, the newest stay.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures::StreamExt;
use tokio_util::sync::CancellationToken;

use super::{Operator, PassError};
use crate::store::records::EVENTS;
use crate::store::{Change, StoreError, Txn};

/// The most that go in one transaction: others wait no longer for it than for any other write.
const BATCH: usize = 256;
/// The log is trimmed when a part of what is kept has come anew: it is never longer than that for long, and it is not
/// listed for every event.
const PART: usize = 4;

/// Trims the log as it grows, however long nothing is swept
/// (`operator::tests::scale::the_event_log_is_trimmed_as_it_grows_whatever_is_swept`).
pub(super) async fn trims(operator: Arc<Operator>, cancel: CancellationToken) {
    let mut log = operator.store.watch(EVENTS, 0);
    // Nobody counted what came before the watch.
    let mut came = usize::MAX;
    loop {
        if came > operator.kept_events.load(Ordering::Relaxed) / PART {
            came = 0;
            let trimmer = Arc::clone(&operator);
            if let Ok(Err(error)) = tokio::task::spawn_blocking(move || trimmer.trim_events()).await {
                tracing::warn!(error = crate::error_chain(&error), "the event log is not trimmed");
            }
        }
        let batch = tokio::select! {
            () = cancel.cancelled() => return,
            batch = log.next() => batch,
        };
        match batch {
            Some(Ok(batch)) => came += batch.changes.iter().filter(|c| matches!(c, Change::Put { .. })).count(),
            // Nor what this watch came too late for.
            Some(Err(StoreError::Compacted { .. })) => {
                log = operator.store.watch(EVENTS, 0);
                came = usize::MAX;
            }
            // The sweep says what is wrong.
            Some(Err(_)) | None => return,
        }
    }
}

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
