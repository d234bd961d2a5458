//! Whom word of a lease wakes: the machines that boot and have no address. Built from what the store tells; nothing is decided
//! by it, because a pass asks for the address again.

use std::collections::BTreeSet;

use crate::model::{Container, Object, ObjectRef, Phase};

/// The machines that wait for an address; all that boot, where none ever gets one.
#[derive(Default)]
pub(super) struct Unaddressed(BTreeSet<ObjectRef>);

impl Unaddressed {
    /// Takes note of a container as it is now, or was before it went.
    pub(super) fn note(&mut self, c: &Container, gone: bool) {
        match !gone && c.status.phase == Phase::Booting && c.status.address.is_none() {
            true => self.0.insert(c.object_ref()),
            false => self.0.remove(&c.object_ref()),
        };
    }

    /// Who waits.
    pub(super) fn all(&self) -> impl Iterator<Item = ObjectRef> {
        self.0.iter().cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operator::tests::container;

    #[test]
    fn a_machine_is_woken_by_leases_while_it_boots_without_an_address() {
        let mut c = container(1);
        let mut waiting = Unaddressed::default();
        let mut waits = |c: &Container, gone| {
            waiting.note(c, gone);
            waiting.all().eq([c.object_ref()])
        };
        assert!(!waits(&c, false));
        c.status.phase = Phase::Booting;
        assert!(waits(&c, false) && !waits(&c, true) && waits(&c, false));
        c.status.address = Some([192, 168, 127, 2].into());
        assert!(!waits(&c, false));
    }
}
