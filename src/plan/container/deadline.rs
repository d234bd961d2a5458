//! How long a machine may take to become Ready.

use jiff::{SignedDuration, Timestamp};

use super::conditions::{PERSONALISED, STARTED};
use super::{Draft, IN_LINE};
use crate::model::{Condition, condition};

impl Draft<'_> {
    /// Why it is given up now, if it took too long. One that nobody waits for may wait itself until libvirt is back: its
    /// time begins with its start.
    pub(super) fn overdue(&self) -> Option<String> {
        let deadline = self.deadline();
        let (since, what) = match self.status.started_at {
            Some(started) if condition(&self.status.conditions, PERSONALISED) => (started, "was not published"),
            Some(started) => (started, "did not answer"),
            None => (self.held_up_since()?, "could not be started"),
        };
        if self.now.duration_since(since) <= deadline {
            return None;
        }
        let mut message = format!("the machine {what} within {} s (bootDeadlineSeconds)", deadline.as_secs());
        let trouble = self.blind().or(self.in_line()).map_or(&*self.status.message, |condition| &condition.message);
        if !trouble.is_empty() {
            message.push_str(": ");
            message.push_str(trouble);
        }
        Some(message)
    }

    /// How long it may still be held up before its start, if somebody waits for it.
    pub(super) fn patience(&self) -> Option<SignedDuration> {
        Some(self.deadline() - self.now.duration_since(self.held_up_since()?))
    }

    fn deadline(&self) -> SignedDuration {
        SignedDuration::from_secs(self.c.spec.template.boot_deadline_seconds.into())
    }

    /// Since when somebody waits for one that cannot be started. A claim that is an object says itself how long it stands
    /// in line.
    fn held_up_since(&self) -> Option<Timestamp> {
        let claim = self.claim.filter(|_| self.c.spec.scheduling_gates.is_empty())?;
        let in_line = self.in_line().filter(|_| !claim.spec.origin.is_object());
        let held_up = self.blind().or(in_line)?;
        Some(held_up.last_transition_time.max(claim.metadata.creation_timestamp))
    }

    /// What says that its turn to boot has not come.
    fn in_line(&self) -> Option<&Condition> {
        self.status.conditions.iter().find(|condition| condition.kind == STARTED && condition.reason == IN_LINE)
    }
}
