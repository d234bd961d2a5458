//! Looking at the world, for one container. An error is *unknown*, never *absent*.
//!
//! A machine's address is the first one that its card leased, and is recorded before anything is sent to it. A guest may ask
//! for others: nobody looks (`whatever_a_guest_leases_later_its_address_stays_the_recorded_one`).

use super::Operator;
use crate::guest::Forward;
use crate::model::{Container, Machine, Observed, Phase, Seen};
use crate::plan::container::in_use;

impl Operator {
    pub(super) fn observe(&self, c: &Container) -> Observed {
        let domain = Seen::from_look(self.hypervisor.find(c.uuid()));
        let address = match (self.addressed, c.status.address, c.status.phase) {
            (false, _, _) => Seen::Present(None),
            (true, Some(known), _) => Seen::Present(Some(known)),
            (true, None, Phase::Pending | Phase::Booting) if matches!(domain, Seen::Present(_)) => {
                match self.hypervisor.address(c.uuid(), &c.spec.machine.mac.to_string()) {
                    Ok(Some(address)) => Seen::Present(Some(address)),
                    Ok(None) => Seen::Absent,
                    Err(error) => Seen::Unknown(error.to_string()),
                }
            }
            (true, None, _) => Seen::Absent,
        };
        let at = forward(c);
        let forward = match (self.addressed, c.status.address, c.status.phase) {
            // Its address is recorded before anything is made on its way there.
            (true, None, Phase::Pending | Phase::Booting) => Seen::Absent,
            _ => Seen::from_look(self.forwarder.is_published(&at).map(|there| there.then_some(()))),
        };
        let watched = c.spec.template.lifetime.idle_timeout_seconds.is_some() && in_use(c);
        let connections = match watched {
            true => Seen::from_look(self.forwarder.connections(&at).map(|open| Some(Some(open)))),
            false => Seen::Present(None),
        };
        let disk = Seen::from_look(self.hypervisor.has_disk(c.uuid()).map(|there| there.then_some(())));
        let (answers, may_boot) = (self.probes.answers(c), self.boots.may(c.uuid()));
        Observed { domain, address, forward, connections, disk, answers, may_boot }
    }
}

/// A container's way to the outside.
pub(super) fn forward(c: &Container) -> Forward {
    let Machine { mac, port, .. } = &c.spec.machine;
    let egress = c.spec.template.network.egress;
    Forward { uuid: c.uuid(), port: *port, address: c.status.address, mac: mac.to_string(), egress }
}
