//! How long a machine may take to become Ready.

use jiff::SignedDuration;

use super::Draft;
use super::conditions::PERSONALISED;
use crate::model::condition;

impl Draft<'_> {
    /// Why it is given up now, if it took too long. One that nobody waits for may wait itself until libvirt is back: its
    /// time begins with its start.
    pub(super) fn overdue(&self) -> Option<String> {
        let deadline = SignedDuration::from_secs(self.c.spec.template.boot_deadline_seconds.into());
        let awaited = self.claim.is_some() && self.c.spec.scheduling_gates.is_empty();
        let (since, what) = match self.status.started_at {
            Some(started) if condition(&self.status.conditions, PERSONALISED) => (started, "was not published"),
            Some(started) => (started, "did not answer"),
            None => (self.unseen_since().filter(|_| awaited)?, "could not be started"),
        };
        if self.now.duration_since(since) <= deadline {
            return None;
        }
        let mut message = format!("the machine {what} within {} s (bootDeadlineSeconds)", deadline.as_secs());
        let trouble = self.blind().map_or(&self.status.message, |condition| &condition.message);
        if !trouble.is_empty() {
            message.push_str(": ");
            message.push_str(trouble);
        }
        Some(message)
    }
}
