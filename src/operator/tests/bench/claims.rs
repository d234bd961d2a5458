//! What happens to claims that are objects, to lifetimes, and to containers without pool; and what has to be then.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use secrecy::SecretString;
use uuid::Uuid;

use super::{Bench, MAX, NS, block_on, client, now};
use crate::api::ApiError;
use crate::model::*;
use crate::operator::Boots;
use crate::plan::claim::{finished, turn, waits};
use crate::plan::container::released;
use crate::store::Txn;
use crate::store::records::{self, REGISTRY, Versioned};

/// A key that is one.
pub(crate) const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// What a claim asks for.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Asks {
    pub(crate) ttl: Option<u32>,
    pub(crate) timeout: Option<u32>,
    pub(crate) key: bool,
}

/// Who had a machine, and who waited, when it was last looked.
#[derive(Default)]
pub(crate) struct Queue {
    /// With how many machines ended on their way to them.
    waiting: BTreeMap<(Timestamp, String), u32>,
    bound: BTreeMap<String, String>,
}

impl Bench {
    // --- what happens ---

    pub(crate) fn limit(&self, lifetime: Lifetime) {
        let read = records::get::<ContainerPool>(&*self.store, NS, "default").unwrap().unwrap();
        let mut pool = read.object.clone();
        pool.spec.template.lifetime = lifetime;
        self.store.txn(Txn::default().unchanged(&read).write(&pool)).wait().unwrap();
    }

    fn now(&self) -> Timestamp {
        now(&self.millis)
    }

    /// Somebody writes a claim as an object.
    pub(crate) fn claim(&self, asks: Asks) -> ObjectRef {
        let count = self.store.get("").unwrap().1;
        let claim = ContainerClaim {
            metadata: ObjectMeta::new(NS, &format!("object-{count:06}"), Uuid::new_v4(), self.now()),
            spec: ClaimSpec {
                ttl_seconds: asks.ttl,
                timeout_seconds: asks.timeout,
                ssh_public_key: asks.key.then(|| KEY.into()),
                ..ClaimSpec::of("default", Origin::Object)
            },
            status: ClaimStatus::default(),
        };
        self.store.txn(Txn::default().write(&claim)).wait().unwrap();
        claim.object_ref()
    }

    /// A client asks, with wishes.
    pub(crate) fn create_with(&mut self, asks: Asks) {
        let mut claim = self.api.claim(&client(), &SecretString::from("token"));
        claim.spec.ttl_seconds = asks.ttl;
        claim.spec.ssh_public_key = asks.key.then(|| KEY.into());
        match block_on(self.api.write_claim(&claim, vec![])) {
            Ok(_) => self.claims.push(claim),
            Err(ApiError::Full { .. } | ApiError::Wish(_)) => {}
            Err(error) => panic!("{error}"),
        }
    }

    /// Somebody wishes for the end of an object, as the API does it.
    pub(crate) fn delete<T: Object>(&self, read: &Versioned<T>) {
        let mut gone = read.object.clone();
        gone.meta_mut().deletion_timestamp.get_or_insert(self.now());
        self.store.txn(Txn::default().unchanged(read).write(&gone)).wait().unwrap();
    }

    pub(crate) fn delete_claim(&self, which: usize) {
        let mut claims = self.all_claims();
        claims.retain(|claim| claim.object.spec.origin.is_object());
        if !claims.is_empty() {
            self.delete(&claims[which % claims.len()]);
        }
    }

    pub(crate) fn standalone(&self) {
        let count = self.store.get("").unwrap().1;
        let metadata = ObjectMeta::new(NS, &format!("alone-{count:06}"), Uuid::new_v4(), self.now());
        let template = self.pool().spec.template;
        let birth = self.operator.births.standalone(&*self.store, metadata, template).unwrap();
        self.store.txn(birth.txn).wait().unwrap();
    }

    pub(crate) fn delete_standalone(&self, which: usize) {
        let mut alone: Vec<Versioned<Container>> = records::list(&*self.store, NS).unwrap();
        alone.retain(|c| c.object.spec.pool.is_none());
        if !alone.is_empty() {
            self.delete(&alone[which % alone.len()]);
        }
    }

    pub(crate) fn extend(&self, which: usize, seconds: u32) {
        let mut bound = self.all_claims();
        bound.retain(|claim| claim.object.status.phase == ClaimPhase::Bound);
        if bound.is_empty() {
            return;
        }
        let claim = &bound[which % bound.len()].object.metadata.name;
        match block_on(self.api.extend_claim(NS, claim, seconds)) {
            Ok(deadline) => assert_eq!(deadline.seconds, seconds),
            Err(ApiError::Extend(_)) => {}
            Err(error) => panic!("{error}"),
        }
    }

    /// So many connections on one port, or none on any.
    pub(crate) fn connect(&self, which: Option<(usize, u32)>) {
        let ports: Vec<u16> = self.world.forwards().into_keys().collect();
        match which {
            Some((which, open)) if !ports.is_empty() => self.world.set_connections(ports[which % ports.len()], open),
            Some(_) => {}
            None => (10_000..=10_063).for_each(|port| self.world.set_connections(port, 0)),
        }
    }

    // --- what is ---

    pub(crate) fn all_claims(&self) -> Vec<Versioned<ContainerClaim>> {
        records::list(&*self.store, NS).unwrap()
    }

    pub(crate) fn claim_now(&self, object: &ObjectRef) -> Option<ContainerClaim> {
        records::get(&*self.store, NS, &object.name).unwrap().map(|read| read.object)
    }

    pub(crate) fn container(&self, name: &str) -> Option<Versioned<Container>> {
        records::get(&*self.store, NS, name).unwrap()
    }

    pub(crate) fn login(&self, object: &ObjectRef) -> Result<crate::api::Login, ApiError> {
        block_on(self.api.login_once(object))
    }

    pub(crate) fn all_containers(&self) -> Vec<Container> {
        self.containers()
    }

    pub(crate) fn told(&self, kind: EventKind) -> usize {
        self.events().iter().filter(|event| event.kind == kind).count()
    }

    pub(crate) fn keep_events(&mut self, count: usize) {
        self.operator.kept_events = Arc::new(count.into());
    }

    pub(crate) fn boots(&self) -> &Boots {
        &self.operator.boots
    }

    pub(crate) fn event_numbers(&self) -> Vec<u64> {
        let (log, _) = self.store.list(records::EVENTS).unwrap();
        log.iter().map(|kv| kv.key.rsplit('/').next().unwrap().parse().unwrap()).collect()
    }

    pub(crate) fn seconds(&mut self, seconds: u32) {
        self.wait(seconds * 1000);
    }

    // --- what has to be ---

    /// After everything that happens: nobody is bound again, nobody overtakes.
    pub(crate) fn check_queue(&self, before: &mut Queue) {
        let (mut waiting, mut placed) = (BTreeMap::new(), BTreeSet::new());
        for claim in self.all_claims() {
            let claim = claim.object;
            let (since, name) = turn(&claim);
            let place = (since, name.to_owned());
            if waits(&claim) {
                waiting.insert(place.clone(), claim.status.failures);
            } else if before.waiting.contains_key(&place) && claim.status.container.is_some() {
                placed.insert(place.clone());
            }
            // Nobody has seen the machine of one that is not bound yet: it may be followed by another one.
            if let Some(container) = claim.status.container.as_ref().filter(|_| claim.status.bound_at.is_some()) {
                let had = before.bound.entry(claim.metadata.uid.to_string()).or_insert_with(|| container.clone());
                assert_eq!(had, container, "{name} was given another machine");
            }
            let status = &claim.status;
            assert_eq!(finished(status.phase), status.finished_at.is_some(), "{claim:#?}");
            if let (ClaimPhase::Expired, Some(end), Some(deadline)) =
                (status.phase, status.finished_at, status.expires_at)
                && status.message.contains("time to live")
            {
                assert!(end >= deadline, "it ended before its time: {claim:#?}");
            }
        }
        // One that was placed meanwhile, and waits again, was not overtaken.
        let left = before.waiting.iter().find(|(place, failures)| waiting.get(*place) == Some(*failures));
        if let (Some(last), Some((left, _))) = (placed.last(), left) {
            assert!(last < left, "{} overtook {}", last.1, left.1);
        }
        before.waiting = waiting;
    }

    /// At the fixed point: nothing lives past its time, nothing is left of what ended, nobody waits in vain.
    pub(crate) fn check_claims_settled(&mut self) {
        self.check_always();
        let (containers, claims, at) = (self.containers(), self.all_claims(), self.now());
        let alive: Vec<&Container> = containers.iter().filter(|c| !released(c)).collect();
        let uuids: BTreeSet<Uuid> = alive.iter().map(|c| c.uuid()).collect();
        let domains = self.world.domains();
        let running: BTreeSet<Uuid> = domains.iter().filter(|d| d.spec.is_some()).map(|d| d.uuid).collect();
        assert_eq!(running, uuids, "domains and records differ");
        let forwards: BTreeSet<Uuid> = self.world.forwards().into_values().collect();
        assert_eq!(forwards, uuids, "forwards and records differ");
        for c in &alive {
            assert!(matches!(c.status.phase, Phase::Ready | Phase::Bound), "{c:#?}");
            assert!(c.status.expires_at.is_none_or(|deadline| deadline > at), "it lives past its time: {c:#?}");
        }
        let (all, _) = self.store.list(REGISTRY).unwrap();
        let count = |of: &str| all.iter().filter(|kv| kv.key.starts_with(&format!("{REGISTRY}{of}/"))).count();
        assert_eq!(
            (count("credentials"), count("ports")),
            (alive.len(), alive.len()),
            "credentials or ports were left"
        );
        for claim in claims.iter().map(|claim| &claim.object) {
            assert!(!claim.metadata.deleting(), "{claim:#?}");
            let machine = alive.iter().find(|c| c.spec.claim.as_ref() == Some(&claim.metadata.name));
            assert_eq!(claim.status.phase == ClaimPhase::Bound, machine.is_some(), "{claim:#?}");
            if finished(claim.status.phase) {
                assert!(claim.spec.origin.is_object(), "what became of a wire claim is kept for ever");
            }
            if waits(claim) {
                assert_eq!(self.pool().status.containers, MAX, "it waits in vain: {claim:#?}");
                assert_eq!(self.ready_members(), 0, "it waits in vain: {claim:#?}");
            }
        }
        self.check_remembered();
        self.wait(1000);
        let before = self.revision();
        self.round();
        assert_eq!(self.revision(), before, "the fixed point is none");
    }

    fn ready_members(&self) -> usize {
        let ready = |c: &&Container| c.status.phase == Phase::Ready && c.spec.pool.is_some() && c.spec.claim.is_none();
        self.containers().iter().filter(ready).count()
    }

    /// A doubt, as a hint raises it.
    pub(crate) fn doubt(&self, container: Uuid) {
        self.operator.doubts.raise(container);
    }

    pub(crate) fn passed(&self, object: &ObjectRef) {
        self.operator.pass(object).unwrap();
    }

    /// How long ago that was.
    pub(crate) fn since(&self, moment: Timestamp) -> SignedDuration {
        self.now().duration_since(moment)
    }
}
