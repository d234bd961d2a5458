//! The journal that keeps nothing: for tests and for trying things out.

use std::sync::Arc;

use super::{Failure, HistoryLimits, Journal, JournalError, LocalStore, Round, Snapshot};

struct Memory;

impl Journal for Memory {
    fn ready(&mut self) -> Result<(), JournalError> {
        Ok(())
    }

    fn write(&mut self, _: &Snapshot, _: &Round) -> Result<(), JournalError> {
        Ok(())
    }
}

/// A store that is gone with the process.
///
/// # Panics
///
/// If the system has no thread left.
pub fn memory() -> Arc<LocalStore> {
    memory_with(HistoryLimits::default())
}

/// The same, with a history of another length.
///
/// # Panics
///
/// If the system has no thread left.
pub fn memory_with(limits: HistoryLimits) -> Arc<LocalStore> {
    LocalStore::start(Memory, Snapshot::new(), limits, Failure::default())
        .expect("the system has a thread for the store")
}
