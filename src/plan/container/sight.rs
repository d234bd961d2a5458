//! What cannot be looked at, and since when.

use super::Draft;
use super::conditions::SEEN;
use crate::model::{Condition, Observed, set_condition};

impl Draft<'_> {
    /// Says that something cannot be looked at, and that everything can again. The first cause stays: libvirt finds
    /// another word for it at every attempt, and none of them is worth a commit of every record.
    pub(super) fn note_sight(&mut self, seen: &Observed) {
        match (unseen(seen), self.blind()) {
            (Some((reason, message)), None) => {
                set_condition(&mut self.status.conditions, SEEN, false, reason, &message, self.now);
            }
            (None, Some(_)) => set_condition(&mut self.status.conditions, SEEN, true, "Seen", "", self.now),
            (Some(_), Some(_)) | (None, None) => {}
        }
    }

    /// What cannot be looked at, as the record says.
    pub(super) fn blind(&self) -> Option<&Condition> {
        self.status.conditions.iter().find(|c| c.kind == SEEN && c.status == "False")
    }
}

/// The first that could not be looked at, as reason and message.
fn unseen(seen: &Observed) -> Option<(&'static str, String)> {
    let Observed { domain, address, forward, connections: _, disk, answers: _, may_boot: _ } = seen;
    let looks = [
        ("DomainUnknown", "its domain", domain.unknown()),
        ("AddressUnknown", "its address", address.unknown()),
        ("ForwardUnknown", "its forward", forward.unknown()),
        ("DiskUnknown", "its disk", disk.unknown()),
    ];
    let first = looks.into_iter().find_map(|(reason, what, why)| Some((reason, what, why?)));
    first.map(|(reason, what, why)| (reason, format!("{what} cannot be seen: {why}")))
}
