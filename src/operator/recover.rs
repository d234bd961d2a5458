//! After a start, and now and then: what has no record is removed, what has nobody who waits for it is withdrawn.

use std::collections::HashSet;

use uuid::Uuid;

use super::{Operator, PassError};
use crate::api::claims;
use crate::guest::Forward;
use crate::model::{ClaimPhase, Container, ContainerClaim, DomainState, Event, EventKind, Origin, Phase};
use crate::plan::container::{about, released};
use crate::store::Txn;
use crate::store::records::{self, Versioned};

impl Operator {
    /// Runs once before the first pass. `run` is this run of the daemon.
    pub fn recover(&self, run: Uuid) -> Result<(), PassError> {
        self.withdraw_unawaited(run)?;
        self.tell_adoptions()?;
        self.sweep()
    }

    /// A wire claim of an earlier run that is not Bound: its client cannot be answered any more.
    fn withdraw_unawaited(&self, run: Uuid) -> Result<(), PassError> {
        for claim in records::list_all::<ContainerClaim>(&*self.store)? {
            let made_by = match &claim.object.spec.origin {
                Origin::Wire { run, .. } => run,
                // Nobody waits for it on a connection.
                Origin::Embedder | Origin::Object => continue,
            };
            if *made_by == run || claim.object.status.phase != ClaimPhase::Pending || claim.object.metadata.deleting() {
                continue;
            }
            self.store.txn(claims::withdrawal(&*self.store, &claim, self.now())?).wait()?;
        }
        Ok(())
    }

    /// Says which machines in use were found as they were left. What is not as it should be, its next pass mends
    /// or takes down.
    fn tell_adoptions(&self) -> Result<(), PassError> {
        let mut events = Vec::new();
        for Versioned { object: c, .. } in records::list_all::<Container>(&*self.store)? {
            if !matches!(c.status.phase, Phase::Ready | Phase::Bound) || c.metadata.deleting() {
                continue;
            }
            let refusal = match self.hypervisor.find(c.uuid()) {
                Err(error) => {
                    tracing::warn!(container = c.metadata.name, %error, "a machine in use cannot be looked for now");
                    continue;
                }
                Ok(None) => Some("its domain is gone"),
                Ok(Some(domain)) if domain.mark.as_ref() != Some(&self.mark(&c)) => Some("its domain is not ours"),
                Ok(Some(domain)) if domain.state == DomainState::Off => Some("its domain is off"),
                Ok(Some(_)) => None,
            };
            let event = match refusal {
                None => about(&c, None, EventKind::Adopted, self.now()),
                Some(reason) => about(&c, None, EventKind::AdoptionRefused, self.now()).message(reason),
            };
            events.push(event);
        }
        if !events.is_empty() {
            self.store.txn(Txn::default().tell(&events)).wait()?;
        }
        Ok(())
    }

    /// Ends what bears our mark and has no record. The world is listed before the records are read: whatever is
    /// made meanwhile has its record first.
    pub fn sweep(&self) -> Result<(), PassError> {
        self.trim_events()?;
        let domains = self.hypervisor.list();
        // Where a machine's QEMU makes its forward there is none without it, and it may not answer for half a minute: one that
        // was just being started when the last daemon died.
        let ports = if self.addressed { self.forwarder.list() } else { Ok(Vec::new()) };
        let disks = self.hypervisor.disks();
        let (mut uuids, mut held) = (HashSet::new(), HashSet::new());
        for c in records::list_all::<Container>(&*self.store)? {
            if released(&c.object) {
                continue;
            }
            uuids.insert(c.object.uuid());
            held.insert(c.object.spec.machine.port);
        }
        match domains {
            Ok(domains) => {
                for domain in domains {
                    let Some(mark) = domain.mark else { continue };
                    if mark.instance != self.instance || mark.uid != domain.uuid || uuids.contains(&domain.uuid) {
                        continue;
                    }
                    match self.hypervisor.destroy(&mark) {
                        Ok(()) => self.tell_orphan(domain.uuid)?,
                        Err(error) => tracing::warn!(domain = %domain.uuid, %error, "a domain without record stays"),
                    }
                }
            }
            Err(error) => tracing::warn!(%error, "domains cannot be listed; they are looked at again later"),
        }
        match ports {
            Ok(ports) => {
                for port in ports.into_iter().filter(|port| !held.contains(port)) {
                    if let Err(error) = self.forwarder.withdraw(&Forward::of_port(port)) {
                        tracing::warn!(port, %error, "a forward without record stays");
                    }
                }
            }
            Err(error) => tracing::warn!(%error, "forwards cannot be listed; they are looked at again later"),
        }
        match disks {
            Ok(disks) => {
                for uuid in disks.into_iter().filter(|uuid| !uuids.contains(uuid)) {
                    // One whose domain could not be ended stays for the next time.
                    if !matches!(self.hypervisor.find(uuid), Ok(None)) {
                        continue;
                    }
                    if let Err(error) = self.hypervisor.remove_disk(uuid) {
                        tracing::warn!(container = %uuid, %error, "a disk without record stays");
                    }
                }
            }
            Err(error) => tracing::warn!(%error, "disks cannot be listed; they are looked at again later"),
        }
        Ok(())
    }

    fn tell_orphan(&self, uuid: Uuid) -> Result<(), PassError> {
        let event = Event::new(EventKind::AdoptionRefused, self.now())
            .message("a domain of ours without a record was removed")
            .detail("container_uuid", uuid.to_string());
        self.store.txn(Txn::default().tell(&[event])).wait()?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use jiff::Timestamp;
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::api::{Births, Digests, Sealer};
    use crate::guest::fake::{FakeForwarder, FakeShell};
    use crate::hypervisor::fake::{FakeHypervisor, FakeWorld, Options};
    use crate::model::{Image, ObjectMeta, Template};
    use crate::store::{Store, memory};

    /// Whose record is in another namespace has a record: its machine is nobody's to sweep away.
    #[test]
    fn a_sweep_spares_the_machines_of_every_namespace() {
        let dir = tempfile::tempdir().unwrap();
        let image = dir.path().join("i.iso");
        std::fs::write(&image, "image").unwrap();
        let world = FakeWorld::new(Options { boot: std::time::Duration::ZERO, ..Options::default() });
        let store: Arc<dyn Store> = memory();
        let sealer = Sealer::from_file(&dir.path().join("seal.key")).unwrap();
        let births = Births::new(sealer, Digests::default(), 10_000..=10_003, Arc::new(|_| true));
        let operator = Operator {
            store: Arc::clone(&store),
            hypervisor: Arc::new(FakeHypervisor::new(Arc::clone(&world))),
            shell: Arc::new(FakeShell::new(Arc::clone(&world))),
            observer: None,
            forwarder: Arc::new(FakeForwarder::new(Arc::clone(&world))),
            births: Arc::new(births),
            clock: Arc::new(|| Timestamp::UNIX_EPOCH),
            instance: Uuid::new_v4(),
            addressed: false,
            doubts: Arc::default(),
            kept_events: 1000,
            quit: CancellationToken::new(),
        };
        let meta = ObjectMeta::new("there", "box", Uuid::new_v4(), Timestamp::UNIX_EPOCH);
        let template = Template::of(Image::Iso(image));
        let birth = operator.births.standalone(&*store, meta, template).unwrap();
        let object = crate::model::Object::object_ref(&birth.container);
        store.txn(birth.txn).wait().unwrap();
        let ready =
            || records::get::<Container>(&*store, "there", "box").unwrap().unwrap().object.status.phase == Phase::Ready;
        for _ in 0..50 {
            operator.pass(&object).unwrap();
            if ready() {
                break;
            }
        }
        assert!(ready());
        operator.recover(Uuid::new_v4()).unwrap();
        assert_eq!((world.domains().len(), world.forwards().len()), (1, 1));
    }
}
