//! Looking at the world, for one container. An error is *unknown*, never *absent*.

use super::Operator;
use crate::guest::Forward;
use crate::model::{Container, Observed, Phase, Seen};

impl Operator {
    pub(super) fn observe(&self, c: &Container) -> Observed {
        let domain = Seen::from_look(self.hypervisor.find(c.uuid()));
        let address = match (self.addressed, c.status.address, c.status.phase) {
            (false, _, _) => Seen::Present(None),
            (true, Some(known), _) => Seen::Present(Some(known)),
            (true, None, Phase::Pending | Phase::Booting) if matches!(domain, Seen::Present(_)) => {
                match self.hypervisor.address(c.uuid(), &c.spec.machine.mac) {
                    Ok(Some(address)) => Seen::Present(Some(address)),
                    Ok(None) => Seen::Absent,
                    Err(error) => Seen::Unknown(error.to_string()),
                }
            }
            (true, None, _) => Seen::Absent,
        };
        let forward = match self.forwarder.is_published(&forward(c)) {
            Ok(true) => Seen::Present(()),
            Ok(false) => Seen::Absent,
            Err(error) => Seen::Unknown(error.to_string()),
        };
        Observed { domain, address, forward }
    }
}

/// A container's way to the outside.
pub(super) fn forward(c: &Container) -> Forward {
    Forward { uuid: c.uuid(), port: c.spec.machine.port, address: c.status.address }
}
