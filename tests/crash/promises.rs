//! The promises of `anweddol::operator`, over the records and what clients were told. Nothing here waits: each check
//! says what is not as it should be. What has to be so of the world besides, the worlds say: [`crate::sight`] of the
//! simulated one, [`crate::real`] of the real one.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use anweddol::api::Sealer;
use anweddol::model::{
    ClaimPhase, Container, ContainerClaim, ContainerPool, Credentials, Event, EventKind, Image, Kind, ObjectRef,
    Origin, Phase, TEMPLATE_HASH,
};
use anweddol::plan::claim::DELIVERED;
use anweddol::plan::lifetime;
use anweddol::store::records;
use secrecy::ExposeSecret;
use serde::de::DeserializeOwned;
use serde_json::Value;
use uuid::Uuid;

use crate::daemon::Records;
use crate::faults::{Breach, Faults, Thing};
use crate::ledger::{Grant, Holder, Known, Ledger};

/// Everything that is recorded, by what it is.
#[derive(Default)]
pub(crate) struct View {
    pub(crate) revision: u64,
    pub(crate) instance: Uuid,
    pub(crate) containers: BTreeMap<Uuid, Container>,
    pub(crate) claims: BTreeMap<String, ContainerClaim>,
    pools: BTreeMap<String, ContainerPool>,
    pub(crate) credentials: BTreeMap<String, Credentials>,
    pub(crate) ports: BTreeMap<u16, Uuid>,
    /// Events that were read earlier, and not again.
    known: Arc<Vec<Event>>,
    /// Those after them, as they are recorded.
    log: Vec<(String, Value)>,
    /// And as they are read.
    events: Vec<Event>,
}

/// What the world holds that bears our mark.
pub(crate) struct Things {
    pub(crate) domains: BTreeSet<Uuid>,
    pub(crate) disks: BTreeSet<Uuid>,
    pub(crate) forwards: BTreeSet<u16>,
}

fn read<T: DeserializeOwned>(value: &Value) -> T {
    serde_json::from_value(value.clone()).unwrap()
}

impl View {
    /// Of records with the whole log: what is known of it is compared, event by event.
    pub(crate) fn of(records: &Records) -> View {
        View::after(records, Arc::default())
    }

    /// Of records without the events that are known.
    pub(crate) fn after(records: &Records, known: Arc<Vec<Event>>) -> View {
        let mut view = View { revision: records.revision, known, ..View::default() };
        for (key, value) in &records.keys {
            let object = records::parse_key(key).map(|ObjectRef { kind, name, .. }| (kind, name));
            let last = key.rsplit('/').next().unwrap_or_default().to_owned();
            match object {
                Some((Kind::Container, _)) => {
                    let container: Container = read(value);
                    view.containers.insert(container.uuid(), container);
                }
                Some((Kind::ContainerClaim, name)) => drop(view.claims.insert(name, read(value))),
                Some((Kind::ContainerPool, name)) => drop(view.pools.insert(name, read(value))),
                None if key.starts_with("registry/credentials/") => drop(view.credentials.insert(last, read(value))),
                None if key.starts_with("registry/ports/") => {
                    view.ports.insert(last.parse().unwrap(), read(value));
                }
                None if key.starts_with(records::EVENTS) => {
                    view.log.push((key.clone(), value.clone()));
                    view.events.push(read(value));
                }
                None if key == "instance" => view.instance = read(value),
                None => {}
            }
        }
        view
    }

    /// Claims of wire clients that were bound, and whose clients were not told so: the daemon died between its commit
    /// and its answer. It cannot know whether the answer came, and so it keeps them.
    pub(crate) fn stranded(&self, ledger: &Ledger) -> Vec<String> {
        let bound = self.claims.iter().filter(|(_, claim)| {
            let wire = matches!(claim.spec.origin, Origin::Wire { .. });
            wire && claim.status.phase == ClaimPhase::Bound && !claim.metadata.deleting()
        });
        let known = |claim: &ContainerClaim| {
            let uuid = claim.status.container.as_ref().and_then(|name| name.parse().ok());
            uuid.is_some_and(|uuid| ledger.told.contains(&uuid))
        };
        bound.filter(|(_, claim)| !known(claim)).map(|(name, _)| name.clone()).collect()
    }

    /// Whether a claim says that its client may not know of it, and not that it does.
    pub(crate) fn doubts(&self, claim: &str) -> bool {
        let status = &self.claims[claim].status;
        let doubt = status.conditions.iter().any(|c| c.kind == DELIVERED && c.status == "Unknown");
        doubt && status.delivered_at.is_none()
    }

    /// What has to hold at every moment: in the middle of anything, and right after a start.
    pub(crate) fn recorded(&self, ledger: &Ledger, state: &Path) -> Faults {
        let mut faults = ledger.breaches.clone();
        self.check_counters(&mut faults);
        self.check_log(ledger, &mut faults);
        self.check_told(&mut faults);
        // Without a key there are no secrets: no daemon got so far.
        let sealer = state.join("seal.key").exists().then(|| Sealer::from_file(&state.join("seal.key")).unwrap());
        for grant in ledger.granted.values().filter(|grant| !ledger.killed.contains_key(&grant.uuid)) {
            if let Err(fault) = self.holds(grant, sealer.as_ref()) {
                faults.push(Breach::Lost.of(format!("acknowledged machine {}: {fault}", grant.uuid)));
            }
        }
        self.check_claims(ledger, &mut faults);
        self.check_unawaited(ledger, &mut faults);
        let names: BTreeSet<&str> = self.containers.values().map(|c| c.metadata.name.as_str()).collect();
        for name in self.credentials.keys().filter(|name| !names.contains(name.as_str())) {
            faults.push(Breach::Leaked(Thing::Credential).of(format!("a login of {name}, which is not recorded")));
        }
        for (port, uuid) in &self.ports {
            if self.containers.get(uuid).is_none_or(|c| c.spec.machine.port != *port) {
                faults.push(
                    Breach::Leaked(Thing::Port).of(format!("port {port} of {uuid}, which has another or is not")),
                );
            }
        }
        faults
    }

    /// What is in the world and outlives its record. A record is there before anything of it, and goes last.
    pub(crate) fn leaked(&self, things: &Things) -> Faults {
        let unrecorded = |uuid: &&Uuid| !self.containers.contains_key(uuid);
        let held: BTreeSet<u16> = self.containers.values().map(|c| c.spec.machine.port).collect();
        let leak = |thing: Thing, what: String| Breach::Leaked(thing).of(format!("{what} is not recorded"));
        let domains =
            things.domains.iter().filter(unrecorded).map(|uuid| leak(Thing::Domain, format!("domain {uuid}")));
        let disks = things.disks.iter().filter(unrecorded).map(|uuid| leak(Thing::Disk, format!("disk {uuid}")));
        let forwards = things.forwards.difference(&held).map(|port| leak(Thing::Forward, format!("forward of {port}")));
        domains.chain(disks).chain(forwards).collect()
    }

    /// Machines that a start of a daemon finds in use, and says how it finds them. One that was on its way to a client who
    /// was cut off is taken down before that.
    pub(crate) fn in_use(&self) -> BTreeSet<Uuid> {
        let withdrawn = |claim: &ContainerClaim| {
            matches!(claim.spec.origin, Origin::Wire { .. }) && claim.status.phase == ClaimPhase::Pending
        };
        let found = |c: &&Container| {
            let up = matches!(c.status.phase, Phase::Ready | Phase::Bound) && !c.metadata.deleting();
            up && !c.spec.claim.as_ref().and_then(|name| self.claims.get(name)).is_some_and(withdrawn)
        };
        self.containers.values().filter(found).map(Container::uuid).collect()
    }

    /// How many events of this kind are about a machine, from this number on, counted from 0.
    pub(crate) fn told(&self, kind: EventKind, uuid: Uuid, from: usize) -> usize {
        let uuid = uuid.to_string();
        let about = |event: &&Event| event.kind == kind && event.details["container_uuid"] == uuid.as_str();
        self.all_events().skip(from).filter(about).count()
    }

    /// Claims that failed, because their machine did not get so far as to be theirs.
    pub(crate) fn failed(&self) -> usize {
        self.all_events().filter(|event| event.kind == EventKind::FailedClaim).count()
    }

    /// How many events there are.
    pub(crate) fn events(&self) -> usize {
        self.known.len() + self.events.len()
    }

    fn all_events(&self) -> impl Iterator<Item = &Event> {
        self.known.iter().chain(&self.events)
    }

    /// What has to be recorded when there is nothing left to do.
    pub(crate) fn rested(&self, ledger: &Ledger) -> Faults {
        let mut faults = Faults::new();
        for (uuid, c) in &self.containers {
            if !matches!(c.status.phase, Phase::Ready | Phase::Bound) || c.metadata.deleting() {
                let what = format!("machine {uuid} rests as {:?}: {}", c.status.phase, c.status.message);
                faults.push(Breach::Unrest.of(what));
            }
        }
        self.check_pools(&mut faults);
        for (name, claim) in &self.claims {
            let wire = matches!(claim.spec.origin, Origin::Wire { .. });
            if claim.metadata.deleting() || (wire && claim.status.phase == ClaimPhase::Pending) {
                faults.push(Breach::Leaked(Thing::Claim).of(format!("claim '{name}' is left")));
            }
        }
        for uuid in &ledger.destroyed {
            if self.containers.contains_key(uuid) {
                faults.push(Breach::Lost.of(format!("machine {uuid} was destroyed, and is there")));
            }
            self.check_once(*uuid, EventKind::DestroyedContainer, &mut faults);
        }
        let had = ledger.granted.keys().filter(|uuid| ledger.killed.contains_key(uuid));
        for uuid in had.chain(&ledger.lost) {
            if self.containers.contains_key(uuid) {
                faults.push(Breach::Unrest.of(format!("machine {uuid} died, and is recorded")));
            }
            self.check_once(*uuid, EventKind::LostClaim, &mut faults);
        }
        faults
    }

    fn check_once(&self, uuid: Uuid, kind: EventKind, faults: &mut Faults) {
        let breach = match self.told(kind, uuid, 0) {
            0 => Breach::Missing,
            1 => return,
            _ => Breach::Doubled,
        };
        faults.push(breach.of(format!("{kind:?} of machine {uuid}")));
    }

    /// The overlays that there have to be.
    pub(crate) fn on_disk(&self) -> BTreeSet<Uuid> {
        let on_disk = |c: &&Container| matches!(c.spec.template.image, Image::Disk { .. });
        self.containers.values().filter(on_disk).map(Container::uuid).collect()
    }

    fn check_counters(&self, faults: &mut Faults) {
        for (name, pool) in &self.pools {
            let members = self.members(name).count();
            if pool.status.containers as usize != members {
                let what = format!("pool '{name}' counts {}, and has {members}", pool.status.containers);
                faults.push(Breach::Unrest.of(what));
            }
            if members > pool.spec.max_containers as usize {
                let what = format!("pool '{name}' has {members} of at most {}", pool.spec.max_containers);
                faults.push(Breach::Unrest.of(what));
            }
        }
    }

    fn members<'a>(&'a self, pool: &'a str) -> impl Iterator<Item = &'a Container> {
        self.containers.values().filter(move |c| c.spec.pool.as_ref().is_some_and(|its| *pool == **its))
    }

    fn check_pools(&self, faults: &mut Faults) {
        for (name, pool) in &self.pools {
            let bound = self.members(name).filter(|c| c.status.phase == Phase::Bound).count() as u32;
            let free: Vec<&Container> = self.members(name).filter(|c| c.spec.claim.is_none()).collect();
            let (status, most) = (&pool.status, pool.spec.max_containers);
            let waiting = self
                .claims
                .values()
                .any(|claim| claim.spec.pool == *name && claim.status.phase == ClaimPhase::Pending && bound < most);
            let wished = pool.spec.replicas.min(most - bound.min(most));
            if waiting || free.len() as u32 != wished || status.ready_replicas != wished {
                let what = format!("pool '{name}' is not as wished: {wished} wanted, {status:?}, {waiting}");
                faults.push(Breach::Unrest.of(what));
            }
            if status.bound_containers != bound {
                let what = format!("pool '{name}' counts {} bound, and has {bound}", status.bound_containers);
                faults.push(Breach::Unrest.of(what));
            }
            let outdated = |c: &&&Container| c.metadata.labels.get(TEMPLATE_HASH) != Some(&status.template_hash);
            let old = free.iter().filter(outdated).count();
            if old > 0 || status.updated_replicas != wished || status.observed_generation != pool.metadata.generation {
                let what = format!("pool '{name}' has {old} members of an earlier template: {status:?}");
                faults.push(Breach::Unrest.of(what));
            }
        }
    }

    /// Numbers without a gap, and nothing of what was there changed.
    fn check_log(&self, ledger: &Ledger, faults: &mut Faults) {
        for (index, (key, _)) in self.log.iter().enumerate() {
            if *key != format!("{}{:020}", records::EVENTS, self.known.len() + index + 1) {
                faults.push(Breach::Missing.of(format!("the log has a gap before {key}")));
                return;
            }
        }
        if self.known.is_empty() && self.log.get(..ledger.log.len()) != Some(&ledger.log[..]) {
            let what = format!("of {} events that were there, some are gone or changed", ledger.log.len());
            faults.push(Breach::Missing.of(what));
        }
    }

    /// Every change of a machine has its events, once and in order.
    fn check_told(&self, faults: &mut Faults) {
        let mut told: BTreeMap<&str, Vec<EventKind>> = BTreeMap::new();
        for event in self.all_events() {
            if let Some(object) = event.regarding.as_ref().filter(|object| object.kind == Kind::Container) {
                told.entry(&object.name).or_default().push(event.kind);
            }
        }
        let there: BTreeMap<&str, Phase> =
            self.containers.values().map(|c| (c.metadata.name.as_str(), c.status.phase)).collect();
        for (name, kinds) in &told {
            let count = |kind| kinds.iter().filter(|&&k| k == kind).count();
            for once in [
                EventKind::CreatedContainer,
                EventKind::ReadyContainer,
                EventKind::BoundClaim,
                EventKind::FailedContainer,
                EventKind::DestroyedContainer,
            ] {
                if count(once) > 1 {
                    let what = format!("{once:?} was told {} times of {name}: {kinds:?}", count(once));
                    faults.push(Breach::Doubled.of(what));
                }
            }
            let last = kinds.iter().rfind(|kind| **kind != EventKind::AdoptionRefused);
            let gone = !there.contains_key(name);
            if gone != (last == Some(&EventKind::DestroyedContainer)) {
                faults.push(Breach::Missing.of(format!("machine {name} gone: {gone}, told: {kinds:?}")));
            }
            let (added, removed) = (count(EventKind::ForwardAdded), count(EventKind::ForwardRemoved));
            if removed > added || (gone && removed != added) {
                let breach = if removed > added { Breach::Doubled } else { Breach::Missing };
                faults.push(breach.of(format!("forwards of {name}: {kinds:?}")));
            }
        }
        for (name, phase) in there {
            let count = |kind| told.get(name).map_or(0, |kinds| kinds.iter().filter(|&&k| k == kind).count());
            let wanted = match phase {
                Phase::Ready => [EventKind::ReadyContainer, EventKind::ForwardAdded].to_vec(),
                Phase::Bound => {
                    [EventKind::ReadyContainer, EventKind::CreatedContainer, EventKind::BoundClaim].to_vec()
                }
                Phase::Pending | Phase::Booting | Phase::Failed | Phase::Terminating => vec![],
            };
            if wanted.iter().any(|kind| count(*kind) == 0) {
                faults.push(Breach::Missing.of(format!("machine {name} is {phase:?}, told: {:?}", told.get(name))));
            }
        }
    }

    /// A machine is its client's as they were told: the same, with the same login and port, for no less time.
    fn holds(&self, grant: &Grant, sealer: Option<&Sealer>) -> Result<(), String> {
        let c = self.containers.get(&grant.uuid).ok_or("it is not recorded")?;
        let claim = c.spec.claim.as_ref().and_then(|name| self.claims.get(name)).ok_or("its claim is not recorded")?;
        if c.status.phase != Phase::Bound || claim.status.phase != ClaimPhase::Bound {
            return Err(format!("it is {:?}, its claim {:?}", c.status.phase, claim.status.phase));
        }
        if claim.status.container.as_ref() != Some(&c.metadata.name) {
            return Err("its claim has another machine".into());
        }
        if let Holder::Claim(name) = &grant.by
            && *name != claim.metadata.name
        {
            return Err("it is another claim's".into());
        }
        if c.metadata.deleting() || claim.metadata.deleting() {
            return Err("it is being deleted".into());
        }
        let credentials = self.credentials.get(&c.metadata.name).ok_or("its credentials are not recorded")?;
        let sealer = sealer.ok_or("the key to its password is gone")?;
        let password = sealer.open(grant.uuid, &credentials.sealed_password).map_err(|error| error.to_string())?;
        if (&credentials.username, password.expose_secret()) != (&grant.username, grant.password.as_str()) {
            return Err("it has another login".into());
        }
        if c.spec.machine.port != grant.port || self.ports.get(&grant.port) != Some(&grant.uuid) {
            return Err("it has another port".into());
        }
        let (limits, ttl) = (&c.spec.template.lifetime, claim.spec.ttl_seconds);
        let ends = claim.status.bound_at.and_then(|since| lifetime::deadline(limits, ttl, since));
        if let Some(told) = grant.until
            && ends.is_none_or(|ends| ends < told)
        {
            return Err(format!("it was to live until {told}, and ends at {ends:?}"));
        }
        Ok(())
    }

    /// A claim written as an object is there until it is deleted, and has the machine it had.
    fn check_claims(&self, ledger: &Ledger, faults: &mut Faults) {
        for (name, wanted) in &ledger.claims {
            let claim = self.claims.get(name);
            match wanted.known {
                Known::Asked | Known::Leaving => continue,
                Known::There if claim.is_none() => {
                    faults.push(Breach::Lost.of(format!("acknowledged claim '{name}' is gone")))
                }
                Known::Gone if claim.is_some_and(|claim| !claim.metadata.deleting()) => {
                    faults.push(Breach::Lost.of(format!("deleted claim '{name}' is there")));
                }
                Known::There | Known::Gone => {}
            }
            let Some(status) = claim.map(|claim| &claim.status) else { continue };
            let machine = status.container.as_ref().and_then(|name| name.parse::<Uuid>().ok());
            let killed = machine.is_some_and(|uuid| ledger.killed.contains_key(&uuid));
            if wanted.bound.is_some() && wanted.bound != machine {
                faults.push(
                    Breach::Lost.of(format!("claim '{name}' was bound to {:?}, and names {machine:?}", wanted.bound)),
                );
            }
            let ended = match status.phase {
                // Whatever became of its machines, one that may wait as long as it takes is not given up.
                ClaimPhase::Failed => true,
                ClaimPhase::Lost | ClaimPhase::Expired => !killed,
                ClaimPhase::Pending | ClaimPhase::Bound => false,
            };
            if ended {
                faults.push(Breach::Lost.of(format!("claim '{name}' is {:?}: {}", status.phase, status.message)));
            }
            if wanted.bound.is_some() && !matches!(status.phase, ClaimPhase::Bound | ClaimPhase::Lost) {
                faults.push(Breach::Lost.of(format!("claim '{name}' was bound, and is {:?}", status.phase)));
            }
        }
    }

    /// A wire client that was cut off gets no machine any more: only one that it had by then may be kept for it.
    fn check_unawaited(&self, ledger: &Ledger, faults: &mut Faults) {
        for (name, claim) in &self.claims {
            let Origin::Wire { .. } = claim.spec.origin else { continue };
            let Some(cut_off) = ledger.end_of_daemon_at(claim.metadata.creation_timestamp) else { continue };
            let waits = claim.status.phase == ClaimPhase::Pending && !claim.metadata.deleting();
            let late = claim.status.bound_at.is_some_and(|at| at > cut_off);
            if waits || late {
                faults.push(
                    Breach::Leaked(Thing::Claim)
                        .of(format!("claim '{name}' of a client that was cut off is {:?}", claim.status.phase)),
                );
            }
        }
    }

    /// What was not answered is known now: it was done, or it was not.
    pub(crate) fn tell(&self, ledger: &mut Ledger) {
        let Ledger { granted, leaving, told, lost, killed, claims, .. } = ledger;
        for (name, wanted) in claims.iter_mut() {
            let claim = self.claims.get(name);
            if matches!(wanted.known, Known::Asked | Known::Leaving) {
                wanted.known = if claim.is_some() { Known::There } else { Known::Gone };
            }
            if let Some(status) = claim.map(|claim| &claim.status).filter(|s| s.phase == ClaimPhase::Bound) {
                wanted.bound = status.container.as_ref().and_then(|name| name.parse().ok());
                told.extend(wanted.bound);
            }
        }
        for (uuid, grant) in std::mem::take(leaving) {
            if self.containers.contains_key(&uuid) {
                granted.insert(uuid, grant);
            }
        }
        let died: Vec<Uuid> = granted.keys().filter(|uuid| killed.contains_key(uuid)).copied().collect();
        for uuid in died {
            granted.remove(&uuid);
            lost.insert(uuid);
        }
        ledger.cut_off = 0;
        self.remember(ledger);
    }

    /// The log as it is now stays so.
    pub(crate) fn remember(&self, ledger: &mut Ledger) {
        ledger.log.truncate(self.known.len());
        ledger.log.extend_from_slice(&self.log);
        ledger.events = Arc::new(self.all_events().cloned().collect());
    }
}
