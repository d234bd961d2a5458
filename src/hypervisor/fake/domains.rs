//! The domains of a world, as a hypervisor shows them.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::broadcast;
use uuid::Uuid;

use super::{Call, FakeDomain, FakeWorld, State, When};
use crate::hypervisor::xml::{self, Accelerator, Attachment, Host, Kept};
use crate::hypervisor::{DomainSpec, Hypervisor, HypervisorError, domain_name};
use crate::model::{DomainSeen, DomainState, Egress, Image, Listing, Mark, Network, Trace, TraceKind, Wake};

/// One daemon's view of a world.
pub struct FakeHypervisor {
    world: Arc<FakeWorld>,
}

impl FakeHypervisor {
    /// Looks at a world.
    pub fn new(world: Arc<FakeWorld>) -> Self {
        FakeHypervisor { world }
    }

    /// Makes a call: refused while unreachable, failing where it is to fail.
    fn call<T>(
        &self,
        call: Call,
        uuid: Uuid,
        act: impl FnOnce(&FakeWorld, &mut State) -> Result<T, HypervisorError>,
    ) -> Result<T, HypervisorError> {
        let mut state = self.world.lock();
        let what = match call {
            Call::List => "listing",
            Call::Find => "look-up",
            Call::Create => "start",
            Call::Destroy => "end",
            Call::Resume => "resuming",
            Call::Remember | Call::Recall => "keepsake",
            Call::Address => "address",
            Call::LookAtDisks | Call::RemoveDisk => "disk",
            Call::LookAtTraces | Call::RemoveTrace => "trace",
            Call::Personalise | Call::Authorize | Call::Probe => "guest",
            Call::Admin | Call::Publish | Call::Withdraw | Call::LookAtForwards => "forward",
        };
        let before = self.world.fault(&mut state, call, When::Before);
        if !state.reachable {
            return Err(unreachable());
        }
        if let Some(reason) = before {
            return Err(HypervisorError::Failed { what, uuid, reason });
        }
        let done = act(&self.world, &mut state)?;
        match self.world.fault(&mut state, call, When::After) {
            Some(reason) => Err(HypervisorError::Failed { what, uuid, reason }),
            None => Ok(done),
        }
    }
}

fn unreachable() -> HypervisorError {
    HypervisorError::Unreachable { uri: "simulation".into(), reason: "the simulation says so".into() }
}

/// A domain as it is seen, if it is visible yet.
fn see(world: &FakeWorld, state: &State, domain: &FakeDomain) -> Option<DomainSeen> {
    let visible = world.now(state) >= domain.started + state.visible_after;
    visible.then(|| DomainSeen {
        uuid: domain.uuid,
        name: domain_name(domain.uuid),
        mark: domain.spec.as_ref().map(|spec| spec.mark.clone()),
        state: domain.state,
        keepsake: domain.keepsake.as_ref().map(|kept| kept.digest.clone()),
    })
}

/// A host that can connect this domain: a simulation offers every network.
fn host(spec: &DomainSpec) -> Host {
    let attachment = match (spec.network.mode, spec.network.egress) {
        (Network::User, _) | (Network::Auto, Egress::None | Egress::All) => Attachment::User,
        (Network::Nat, _) | (Network::Auto, Egress::Internet) => {
            Attachment::Network { name: "simulated".into(), bridge: "simulated".into() }
        }
    };
    Host { auto: Accelerator::Tcg, attachment, disks: "/simulated".into() }
}

/// What tests left of one kind.
pub(crate) fn of_kind(state: &State, kind: TraceKind) -> Vec<Trace> {
    state.traces.iter().filter(|trace| trace.kind == kind).cloned().collect()
}

impl Hypervisor for FakeHypervisor {
    fn describe(&self) -> String {
        format!("a simulation: no machine is started (boot {:?})", self.world.options.boot)
    }

    fn reachable(&self) -> Result<(), HypervisorError> {
        match self.world.lock().reachable {
            true => Ok(()),
            false => Err(unreachable()),
        }
    }

    fn list(&self) -> Result<Vec<DomainSeen>, HypervisorError> {
        self.call(Call::List, Uuid::nil(), |world, state| {
            let seen = state.domains.values().filter_map(|domain| see(world, state, domain));
            Ok(seen.filter(|domain| domain.mark.is_some()).collect())
        })
    }

    fn find(&self, uuid: Uuid) -> Result<Option<DomainSeen>, HypervisorError> {
        self.call(Call::Find, uuid, |world, state| {
            Ok(state.domains.get(&uuid).and_then(|domain| see(world, state, domain)))
        })
    }

    fn create(&self, spec: &DomainSpec) -> Result<(), HypervisorError> {
        // What libvirt would refuse is refused here.
        xml::domain(spec, &host(spec))?;
        let uuid = spec.mark.uid;
        self.call(Call::Create, uuid, |world, state| {
            match state.domains.get(&uuid) {
                Some(there) if there.spec.as_ref().map(|spec| &spec.mark) != Some(&spec.mark) => {
                    return Err(HypervisorError::NotOurs { uuid });
                }
                Some(there) if there.state == DomainState::Running => return Ok(()),
                Some(there) => {
                    let reason = format!("it exists already and is {:?}", there.state).to_lowercase();
                    return Err(HypervisorError::Failed { what: "start", uuid, reason });
                }
                None => {}
            }
            let domain = FakeDomain {
                uuid,
                spec: Some(spec.clone()),
                state: DomainState::Running,
                started: world.now(state),
                answers: state.new_guests_answer,
                user: None,
                keys: Vec::new(),
                keepsake: None,
            };
            match spec.image {
                Image::Disk { .. } => drop(state.disks.insert(uuid)),
                Image::Iso(_) | Image::Kernel { .. } => {}
            }
            state.domains.insert(uuid, domain);
            world.wake(state, Wake::Domain(uuid));
            Ok(())
        })
    }

    fn destroy(&self, mark: &Mark) -> Result<(), HypervisorError> {
        let uuid = mark.uid;
        self.call(Call::Destroy, uuid, |world, state| match state.domains.get(&uuid) {
            None => Ok(()),
            Some(there) if there.spec.as_ref().map(|spec| &spec.mark) != Some(mark) => {
                Err(HypervisorError::NotOurs { uuid })
            }
            Some(_) => {
                world.end(state, uuid);
                Ok(())
            }
        })
    }

    fn resume(&self, mark: &Mark) -> Result<(), HypervisorError> {
        let uuid = mark.uid;
        self.call(Call::Resume, uuid, |_, state| {
            let full = state.full;
            match state.domains.get_mut(&uuid) {
                None => Ok(()),
                Some(there) if there.spec.as_ref().map(|spec| &spec.mark) != Some(mark) => {
                    Err(HypervisorError::NotOurs { uuid })
                }
                Some(_) if full => {
                    let reason = "there is no room for its disk in the simulation".into();
                    Err(HypervisorError::Failed { what: "resuming", uuid, reason })
                }
                Some(there) => {
                    there.state = DomainState::Running;
                    Ok(())
                }
            }
        })
    }

    fn remember(&self, mark: &Mark, digest: &str, text: &str) -> Result<(), HypervisorError> {
        let uuid = mark.uid;
        xml::keepsake(digest, text)?;
        self.call(Call::Remember, uuid, |_, state| match state.domains.get_mut(&uuid) {
            None => Ok(()),
            Some(there) if there.spec.as_ref().map(|spec| &spec.mark) != Some(mark) => {
                Err(HypervisorError::NotOurs { uuid })
            }
            Some(there) => {
                there.keepsake = Some(Kept { digest: digest.into(), text: text.into() });
                Ok(())
            }
        })
    }

    fn recall(&self, uuid: Uuid) -> Result<Option<String>, HypervisorError> {
        self.call(Call::Recall, uuid, |_, state| {
            let kept = state.domains.get(&uuid).and_then(|domain| domain.keepsake.as_ref());
            Ok(kept.map(|kept| kept.text.clone()))
        })
    }

    fn address(&self, uuid: Uuid, _mac: &str) -> Result<Option<Ipv4Addr>, HypervisorError> {
        self.call(Call::Address, uuid, |world, state| match world.options.network {
            Network::User | Network::Auto => Ok(None),
            Network::Nat => {
                let up = state.domains.get(&uuid).and_then(|domain| world.answers_in(state, domain));
                // Somewhere in 10.0.0.0/8, always the same for one UUID.
                let [.., a, b, c] = *uuid.as_bytes();
                Ok(up.filter(Duration::is_zero).map(|_| Ipv4Addr::new(10, a, b, c)))
            }
        })
    }

    fn has_disk(&self, uuid: Uuid) -> Result<bool, HypervisorError> {
        self.call(Call::LookAtDisks, uuid, |_, state| Ok(state.disks.contains(&uuid)))
    }

    fn disks(&self) -> Result<Vec<Uuid>, HypervisorError> {
        self.call(Call::LookAtDisks, Uuid::nil(), |_, state| Ok(state.disks.iter().copied().collect()))
    }

    fn remove_disk(&self, uuid: Uuid) -> Result<(), HypervisorError> {
        self.call(Call::RemoveDisk, uuid, |_, state| {
            state.disks.remove(&uuid);
            Ok(())
        })
    }

    fn traces(&self, _instance: Uuid) -> Vec<Listing> {
        [TraceKind::Domain, TraceKind::Save, TraceKind::Log, TraceKind::Socket, TraceKind::Tap, TraceKind::Lease]
            .map(|kind| {
                let found = self.call(Call::LookAtTraces, Uuid::nil(), |_, state| Ok(of_kind(state, kind)));
                Listing::new(kind, found)
            })
            .into()
    }

    fn remove_trace(&self, trace: &Trace) -> Result<(), HypervisorError> {
        self.call(Call::RemoveTrace, Uuid::nil(), |_, state| {
            state.traces.remove(trace);
            Ok(())
        })
    }

    fn wakes(&self) -> broadcast::Receiver<Wake> {
        self.world.wakes.subscribe()
    }
}
