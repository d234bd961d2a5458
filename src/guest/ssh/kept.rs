//! Logins that are kept open for the one command that may still come, a bounded number of them.
//!
//! One is lost when its machine ends ([`Shell::forget`](super::Shell::forget)), when it breaks, or when there are too many: then that command costs a login more.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use uuid::Uuid;

use super::EndpointShell;

/// The most at once: each is a socket here and a process in its guest.
const MOST: usize = 256;

/// The logins, by machine; the oldest first.
#[derive(Clone)]
pub(super) struct Kept {
    logins: Arc<Mutex<VecDeque<(Uuid, EndpointShell)>>>,
    most: usize,
}

impl Default for Kept {
    fn default() -> Self {
        Kept::of(MOST)
    }
}

impl Kept {
    /// At most so many.
    pub(super) fn of(most: usize) -> Self {
        Kept { logins: Arc::default(), most }
    }

    /// Keeps one, in the place of another of this machine.
    pub(super) fn put(&self, uuid: Uuid, login: EndpointShell) {
        let mut all = self.lock();
        all.retain(|(other, login)| *other != uuid && !login.is_closed());
        if all.len() == self.most {
            all.pop_front();
        }
        all.push_back((uuid, login));
    }

    /// Gives one away, if it is still open.
    pub(super) fn take(&self, uuid: Uuid) -> Option<EndpointShell> {
        let mut all = self.lock();
        let index = all.iter().position(|(other, _)| *other == uuid)?;
        all.remove(index).map(|(_, login)| login).filter(|login| !login.is_closed())
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<(Uuid, EndpointShell)>> {
        self.logins.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} logins", self.lock().len())
    }
}
