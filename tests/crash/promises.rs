//! The promises of `anweddol::operator`, over the records, the world, and what clients were told. Nothing here waits:
//! each check says what is not as it should be.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anweddol::api::Sealer;
use anweddol::model::{
    ClaimPhase, Container, ContainerClaim, ContainerPool, Credentials, DomainState, Event, EventKind, Image, Keepsake,
    Kind, ObjectRef, Origin, Phase, TEMPLATE_HASH,
};
use anweddol::plan::claim::DELIVERED;
use anweddol::plan::container::in_use;
use anweddol::store::records;
use secrecy::ExposeSecret;
use serde::de::DeserializeOwned;
use serde_json::Value;
use uuid::Uuid;

use crate::daemon::Records;
use crate::ledger::{Grant, Holder, Known, Ledger};
use crate::world::Sight;

/// Everything that is recorded, by what it is.
#[derive(Default)]
pub(crate) struct View {
    pub(crate) revision: u64,
    pub(crate) instance: Uuid,
    pub(crate) containers: BTreeMap<Uuid, Container>,
    pub(crate) claims: BTreeMap<String, ContainerClaim>,
    pools: BTreeMap<String, ContainerPool>,
    credentials: BTreeMap<String, Credentials>,
    ports: BTreeMap<u16, Uuid>,
    log: Vec<(String, Value)>,
    events: Vec<Event>,
}

/// What is wrong, in words.
pub(crate) type Faults = Vec<String>;

fn read<T: DeserializeOwned>(value: &Value) -> T {
    serde_json::from_value(value.clone()).unwrap()
}

impl View {
    pub(crate) fn of(records: &Records) -> View {
        let mut view = View { revision: records.revision, ..View::default() };
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
    pub(crate) fn always(&self, sight: &Sight, ledger: &Ledger, state: &Path) -> Faults {
        let mut faults = ledger.breaches.clone();
        self.check_counters(&mut faults);
        self.check_log(ledger, &mut faults);
        self.check_told(&mut faults);
        if sight.others.len() != 2 {
            faults.push("a domain of somebody else was touched".into());
        }
        let sealer = Sealer::from_file(&state.join("seal.key")).unwrap();
        for grant in ledger.granted.values().filter(|grant| !ledger.killed.contains(&grant.uuid)) {
            if let Err(fault) = self.holds(grant, sight, &sealer) {
                faults.push(format!("acknowledged machine {}: {fault}", grant.uuid));
            }
        }
        self.check_claims(ledger, &mut faults);
        self.check_unawaited(ledger, &mut faults);
        faults
    }

    /// What has to hold when there is nothing left to do.
    pub(crate) fn settled(&self, sight: &Sight, ledger: &Ledger, state: &Path) -> Faults {
        let mut faults = self.always(sight, ledger, state);
        let uuids: BTreeSet<Uuid> = self.containers.keys().copied().collect();
        let names: BTreeSet<&String> = self.containers.values().map(|c| &c.metadata.name).collect();
        let ports: BTreeMap<u16, Uuid> = self.containers.values().map(|c| (c.spec.machine.port, c.uuid())).collect();
        let on_disk = |c: &&Container| matches!(c.spec.template.image, Image::Disk { .. });
        let overlays: BTreeSet<Uuid> = self.containers.values().filter(on_disk).map(Container::uuid).collect();
        let mut same = |what: &str, same: bool, seen: &dyn std::fmt::Debug| {
            if !same {
                faults.push(format!("leaked or missing {what}: {seen:?}, recorded are {uuids:?}"));
            }
        };
        same("domains", sight.domains.keys().eq(&uuids), &sight.domains.keys());
        same("forwards", sight.forwards == ports, &sight.forwards);
        same("disks", sight.disks == overlays, &sight.disks);
        same("ports", self.ports == ports, &self.ports);
        same("credentials", self.credentials.keys().eq(names), &self.credentials.keys());
        for (uuid, domain) in &sight.domains {
            let mark = domain.spec.as_ref().map(|spec| (spec.mark.instance, spec.mark.uid));
            if mark != Some((self.instance, *uuid)) {
                faults.push(format!("domain {uuid} bears {mark:?}"));
            }
        }
        for (uuid, c) in &self.containers {
            if !matches!(c.status.phase, Phase::Ready | Phase::Bound) || c.metadata.deleting() {
                faults.push(format!("machine {uuid} rests as {:?}: {}", c.status.phase, c.status.message));
            }
            let user = sight.domains.get(uuid).and_then(|domain| domain.user.as_ref());
            if user != self.credentials.get(&c.metadata.name).map(|credentials| &credentials.username) {
                faults.push(format!("machine {uuid} is {:?} with user {user:?}", c.status.phase));
            }
        }
        self.check_remembered(sight, &mut faults);
        self.check_pools(&mut faults);
        for (name, claim) in &self.claims {
            let wire = matches!(claim.spec.origin, Origin::Wire { .. });
            if claim.metadata.deleting() || (wire && claim.status.phase == ClaimPhase::Pending) {
                faults.push(format!("claim '{name}' is left"));
            }
        }
        for uuid in &ledger.destroyed {
            if self.containers.contains_key(uuid) || self.count(*uuid, EventKind::DestroyedContainer) != 1 {
                faults.push(format!("machine {uuid} was destroyed, and is there or was not said to be gone"));
            }
        }
        let had = ledger.granted.keys().filter(|uuid| ledger.killed.contains(uuid));
        for uuid in had.chain(&ledger.lost) {
            if self.containers.contains_key(uuid) || self.count(*uuid, EventKind::LostClaim) != 1 {
                faults.push(format!("machine {uuid} died, and its client was not told so, once"));
            }
        }
        faults
    }

    /// Every machine in use would be found again by its domain, if the records were lost.
    fn check_remembered(&self, sight: &Sight, faults: &mut Faults) {
        for (uuid, c) in self.containers.iter().filter(|(_, c)| in_use(c)) {
            let Some(domain) = sight.domains.get(uuid) else { continue };
            let claim = c.spec.claim.as_ref().and_then(|name| self.claims.get(name));
            let credentials = self.credentials.get(&c.metadata.name).cloned();
            let records = credentials.map(|credentials| Keepsake::of(c, claim, credentials));
            let kept = domain.spec.as_ref().zip(domain.keepsake.as_ref());
            let borne = kept.map(|(spec, kept)| Keepsake::read(&kept.text, &spec.mark));
            if !matches!((&borne, &records), (Some(Ok(borne)), Some(records)) if borne == records) {
                faults.push(format!("machine {uuid}: its domain bears {borne:?}, and recorded is {records:?}"));
            }
        }
    }

    fn check_counters(&self, faults: &mut Faults) {
        for (name, pool) in &self.pools {
            let members = self.members(name).count();
            if pool.status.containers as usize != members {
                faults.push(format!("pool '{name}' counts {}, and has {members}", pool.status.containers));
            }
            if members > pool.spec.max_containers as usize {
                faults.push(format!("pool '{name}' has {members} of at most {}", pool.spec.max_containers));
            }
        }
    }

    fn members<'a>(&'a self, pool: &'a str) -> impl Iterator<Item = &'a Container> {
        self.containers.values().filter(move |c| c.spec.pool.as_deref() == Some(pool))
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
                faults.push(format!("pool '{name}' is not as wished: {wished} wanted, {status:?}, {waiting}"));
            }
            if status.bound_containers != bound {
                faults.push(format!("pool '{name}' counts {} bound, and has {bound}", status.bound_containers));
            }
            let outdated = |c: &&&Container| c.metadata.labels.get(TEMPLATE_HASH) != Some(&status.template_hash);
            let old = free.iter().filter(outdated).count();
            if old > 0 || status.updated_replicas != wished || status.observed_generation != pool.metadata.generation {
                faults.push(format!("pool '{name}' has {old} members of an earlier template: {status:?}"));
            }
        }
    }

    /// Numbers without a gap, and nothing of what was there changed.
    fn check_log(&self, ledger: &Ledger, faults: &mut Faults) {
        for (index, (key, _)) in self.log.iter().enumerate() {
            if *key != format!("{}{:020}", records::EVENTS, index + 1) {
                faults.push(format!("the log has a gap before {key}"));
                return;
            }
        }
        if self.log.get(..ledger.log.len()) != Some(&ledger.log[..]) {
            faults.push(format!("of {} events that were there, some are gone or changed", ledger.log.len()));
        }
    }

    fn count(&self, uuid: Uuid, kind: EventKind) -> usize {
        let uuid = uuid.to_string();
        let about = |event: &&Event| event.kind == kind && event.details["container_uuid"] == uuid.as_str();
        self.events.iter().filter(about).count()
    }

    /// Every change of a machine has its events, once and in order.
    fn check_told(&self, faults: &mut Faults) {
        let mut told: BTreeMap<&str, Vec<EventKind>> = BTreeMap::new();
        for event in &self.events {
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
                    faults.push(format!("{once:?} was told {} times of {name}: {kinds:?}", count(once)));
                }
            }
            let last = kinds.iter().rfind(|kind| **kind != EventKind::AdoptionRefused);
            let gone = !there.contains_key(name);
            if gone != (last == Some(&EventKind::DestroyedContainer)) {
                faults.push(format!("machine {name} gone: {gone}, told: {kinds:?}"));
            }
            let (added, removed) = (count(EventKind::ForwardAdded), count(EventKind::ForwardRemoved));
            if removed > added || (gone && removed != added) {
                faults.push(format!("forwards of {name}: {kinds:?}"));
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
                faults.push(format!("machine {name} is {phase:?}, told: {:?}", told.get(name)));
            }
        }
    }

    /// A machine is its client's as they were told: the same, with the same login and port, and running since then.
    fn holds(&self, grant: &Grant, sight: &Sight, sealer: &Sealer) -> Result<(), String> {
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
        let password = sealer.open(grant.uuid, &credentials.sealed_password).map_err(|error| error.to_string())?;
        if (&credentials.username, password.expose_secret()) != (&grant.username, grant.password.as_str()) {
            return Err("it has another login".into());
        }
        if c.spec.machine.port != grant.port || self.ports.get(&grant.port) != Some(&grant.uuid) {
            return Err("it has another port".into());
        }
        if sight.forwards.get(&grant.port) != Some(&grant.uuid) {
            return Err("its port does not lead to it".into());
        }
        let domain = sight.domains.get(&grant.uuid).ok_or("its domain is gone")?;
        if domain.state != DomainState::Running || domain.user.as_ref() != Some(&grant.username) {
            return Err(format!("its domain is {:?} with user {:?}", domain.state, domain.user));
        }
        if grant.started.is_some_and(|started| started != domain.started) {
            return Err("its domain was started again".into());
        }
        Ok(())
    }

    /// A claim written as an object is there until it is deleted, and has the machine it had.
    fn check_claims(&self, ledger: &Ledger, faults: &mut Faults) {
        for (name, wanted) in &ledger.claims {
            let claim = self.claims.get(name);
            match wanted.known {
                Known::Asked | Known::Leaving => continue,
                Known::There if claim.is_none() => faults.push(format!("acknowledged claim '{name}' is gone")),
                Known::Gone if claim.is_some_and(|claim| !claim.metadata.deleting()) => {
                    faults.push(format!("deleted claim '{name}' is there"));
                }
                Known::There | Known::Gone => {}
            }
            let Some(status) = claim.map(|claim| &claim.status) else { continue };
            let machine = status.container.as_ref().and_then(|name| name.parse::<Uuid>().ok());
            let killed = machine.is_some_and(|uuid| ledger.killed.contains(&uuid));
            if wanted.bound.is_some() && wanted.bound != machine {
                faults.push(format!("claim '{name}' was bound to {:?}, and names {machine:?}", wanted.bound));
            }
            if matches!(status.phase, ClaimPhase::Failed | ClaimPhase::Lost | ClaimPhase::Expired) && !killed {
                faults.push(format!("claim '{name}' is {:?}: {}", status.phase, status.message));
            }
            if wanted.bound.is_some() && !matches!(status.phase, ClaimPhase::Bound | ClaimPhase::Lost) {
                faults.push(format!("claim '{name}' was bound, and is {:?}", status.phase));
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
                faults.push(format!("claim '{name}' of a client that was cut off is {:?}", claim.status.phase));
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
        let died: Vec<Uuid> = granted.keys().filter(|uuid| killed.contains(uuid)).copied().collect();
        for uuid in died {
            granted.remove(&uuid);
            lost.insert(uuid);
        }
        ledger.cut_off = 0;
        ledger.log = self.log.clone();
    }
}
