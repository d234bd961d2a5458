//! An operator on a simulated world, driven pass by pass, with a daemon that can die at any call.

pub(super) mod claims;
mod held;

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use secrecy::SecretString;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::mortal::{Crash, Fuse, Mortal};
use super::pools::Surroundings;
use crate::api::{Api, ApiError, Births, Digests, Sealer};
use crate::guest::fake::{FakeForwarder, FakeShell};
use crate::guest::{Forwarder, Shell};
use crate::hypervisor::fake::{self, FakeHypervisor, FakeWorld};
use crate::hypervisor::{DomainSpec, Hypervisor};
use crate::model::*;
use crate::operator::{Inventory, Operator, Requeue};
use crate::plan::container::{in_use, released};
use crate::plan::rebuild::{Found, Rebuilt, rebuild};
use crate::store::records::{self, EVENTS, REGISTRY};
use crate::store::{Store, Txn, consistency};

/// The pool's limit.
pub(super) const MAX: u32 = 4;
pub(super) const NS: &str = DEFAULT_NAMESPACE;
const FOREIGN: Uuid = Uuid::from_u128(0xf0e1);
const INSTANCE: Uuid = Uuid::from_u128(0x1257);

pub(super) struct Bench {
    pub(super) world: Arc<FakeWorld>,
    pub(super) around: Surroundings,
    operator: Operator,
    api: Arc<Api>,
    pub(super) store: Arc<dyn Store>,
    fuse: Arc<Fuse>,
    millis: Arc<AtomicI64>,
    /// Claims that clients made, in order.
    claims: Vec<ContainerClaim>,
    /// Every container that ever had a record.
    seen: BTreeSet<String>,
    _dir: tempfile::TempDir,
}

fn now(millis: &AtomicI64) -> Timestamp {
    Timestamp::from_millisecond(1_000_000_000_000 + millis.load(Ordering::SeqCst)).unwrap()
}

/// Waits for the API as a server would, on a runtime: it reads images on another thread.
fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(work)
}

fn client() -> Client {
    Client { ip: Ipv4Addr::LOCALHOST.into(), id: "1234567".into() }
}

impl Bench {
    pub(super) fn new(nat: bool, failure_rate: f64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let around = Surroundings::new(dir.path().join("image.iso"));
        let network = if nat { Network::Nat } else { Network::User };
        let world = FakeWorld::new(fake::Options {
            boot: Duration::from_millis(200),
            failure_rate,
            seed: 1,
            network,
            clock: fake::Clock::Manual,
        });
        world.add_foreign_domain(FOREIGN);
        let store: Arc<dyn Store> = crate::store::memory();
        let fuse = Arc::new(Fuse::new());
        let millis = Arc::new(AtomicI64::new(0));
        let clock = {
            let millis = Arc::clone(&millis);
            Arc::new(move || now(&millis))
        };
        let sealer = Sealer::from_file(&dir.path().join("seal.key")).unwrap();
        let forwarder: Arc<dyn Forwarder> = Arc::new(FakeForwarder::new(Arc::clone(&world)));
        let free = Arc::clone(&forwarder);
        let free = Arc::new(move |port| free.is_free(port));
        let births = Births::new(sealer, Digests::default(), 10_000..=10_063, free).on(around.host());
        let births = Arc::new(births);
        let mortal = |inner| Mortal { fuse: Arc::clone(&fuse), store: Arc::clone(&store), inner };
        let mortal_store = Mortal { fuse: Arc::clone(&fuse), store: Arc::clone(&store), inner: Arc::clone(&store) };
        let hypervisor: Arc<dyn Hypervisor> = Arc::new(FakeHypervisor::new(Arc::clone(&world)));
        let shell: Arc<dyn Shell> = Arc::new(FakeShell::new(Arc::clone(&world)));
        let operator = Operator {
            store: Arc::new(mortal_store),
            hypervisor: Arc::new(mortal(hypervisor)),
            shell: Arc::new(Mortal { fuse: Arc::clone(&fuse), store: Arc::clone(&store), inner: shell }),
            observer: None,
            forwarder: Arc::new(Mortal { fuse: Arc::clone(&fuse), store: Arc::clone(&store), inner: forwarder }),
            births: Arc::clone(&births),
            doubts: Arc::default(),
            metrics: Arc::default(),
            probes: Arc::default(),
            boots: Arc::default(),
            kept_events: Arc::new(usize::MAX.into()),
            clock: clock.clone(),
            instance: INSTANCE,
            addressed: nat,
            quit: CancellationToken::new(),
        };
        let pool = ContainerPool {
            metadata: ObjectMeta::new(NS, "default", Uuid::new_v4(), now(&millis)),
            spec: PoolSpec::of(0, MAX, Template::of(Image::Iso(around.image.clone()))),
            status: PoolStatus::default(),
        };
        store.txn(Txn::default().write(&pool)).wait().unwrap();
        let api = Api::new(Arc::clone(&store), births, clock, Uuid::new_v4(), NS, "default");
        let api = Arc::new(api.doubting(Arc::clone(&operator.doubts)));
        Bench { world, around, operator, api, store, fuse, millis, claims: vec![], seen: BTreeSet::new(), _dir: dir }
    }

    // --- what happens ---

    /// A client asks; its container waits behind a gate, or not.
    pub(super) fn create(&mut self, gated: bool) {
        let claim = self.api.claim(&client(), &SecretString::from("token"));
        let gates = if gated { vec!["test".to_owned()] } else { vec![] };
        match block_on(self.api.write_claim(&claim, gates)) {
            Ok(_) => self.claims.push(claim),
            Err(ApiError::Paused { .. }) => assert!(self.pool().spec.paused && self.ready() == 0, "refused a warm one"),
            Err(ApiError::Full { .. }) => {
                let pool = self.pool();
                let free = self.containers().iter().any(|c| c.status.phase == Phase::Ready && !c.metadata.deleting());
                assert!(pool.status.containers >= MAX && !free, "refused although there was place");
            }
            Err(error) => self.around.check_refusal(&error),
        }
    }

    /// The systems of all clients confirm what they were told.
    pub(super) fn delivered(&self) {
        for c in self.containers() {
            block_on(self.api.delivered(c.uuid())).unwrap();
        }
    }

    pub(super) fn claims_of_clients(&self) -> Vec<ContainerClaim> {
        let claims = records::list::<ContainerClaim>(&*self.store, NS).unwrap();
        claims.into_iter().map(|read| read.object).collect()
    }

    pub(super) fn withdraw(&mut self, which: usize) {
        if !self.claims.is_empty() {
            let claim = self.claims.remove(which % self.claims.len());
            block_on(self.api.withdraw(&claim)).unwrap();
        }
    }

    /// Opens the gates of one container, or of all.
    pub(super) fn open(&self, which: Option<usize>) {
        let mut gated: Vec<_> = records::list::<Container>(&*self.store, NS).unwrap();
        gated.retain(|c| !c.object.spec.scheduling_gates.is_empty());
        if let Some(which) = which.filter(|_| !gated.is_empty()) {
            gated = vec![gated[which % gated.len()].clone()];
        }
        for read in gated {
            let mut open = read.object.clone();
            open.spec.scheduling_gates.clear();
            open.spec.template.vcpus = 2;
            self.store.txn(Txn::default().unchanged(&read).write(&open)).wait().unwrap();
        }
    }

    /// One of our domains.
    fn any_domain(&self, which: usize) -> Option<Uuid> {
        let ours: Vec<Uuid> = self.world.domains().iter().filter(|d| d.spec.is_some()).map(|d| d.uuid).collect();
        (!ours.is_empty()).then(|| ours[which % ours.len()])
    }

    pub(super) fn kill(&self, which: usize) {
        if let Some(uuid) = self.any_domain(which) {
            self.world.kill(uuid);
        }
    }

    pub(super) fn pause(&self, which: usize, pause: bool) {
        match self.any_domain(which) {
            Some(uuid) if pause => self.world.pause(uuid, Pause::Asked),
            Some(uuid) => self.world.resume(uuid),
            None => {}
        }
    }

    /// A guest finds no room for its disk, nor does any other one until there is some.
    pub(super) fn starve(&self, which: usize) {
        self.world.set_room(false);
        if let Some(uuid) = self.any_domain(which) {
            self.world.pause(uuid, Pause::DiskFull);
        }
    }

    /// A guest answered none of as many probes as it takes.
    pub(super) fn silence(&self, which: usize) {
        if let Some(uuid) = self.any_domain(which) {
            self.operator.probes.silence(uuid, now(&self.millis));
        }
    }

    /// A domain with our mark that no record knows.
    pub(super) fn orphan(&self) {
        let uid = Uuid::new_v4();
        let spec = DomainSpec {
            mark: Mark { instance: INSTANCE, namespace: NS.into(), name: uid.to_string(), uid },
            mac: "02:00:00:00:00:01".into(),
            image: self.pool().spec.template.image,
            memory: Memory::mebibytes(64),
            vcpus: 1,
            domain_type: DomainType::Qemu,
            network: NetworkSpec::default(),
        };
        FakeHypervisor::new(Arc::clone(&self.world)).create(&spec).unwrap();
    }

    pub(super) fn wait(&self, millis: u32) {
        self.millis.fetch_add(millis.into(), Ordering::SeqCst);
        self.world.advance(Duration::from_millis(millis.into()));
    }

    fn all(&mut self) -> Vec<ObjectRef> {
        let (all, _) = self.store.list(REGISTRY).unwrap();
        let objects: Vec<ObjectRef> = all.iter().filter_map(|kv| records::parse_key(&kv.key)).collect();
        self.seen.extend(objects.iter().filter(|o| o.kind == Kind::Container).map(|o| o.name.clone()));
        objects
    }

    pub(super) fn round(&mut self) {
        for object in self.all() {
            self.operator.pass(&object).unwrap();
        }
    }

    /// One pass.
    pub(super) fn pass(&self, object: &ObjectRef) {
        self.operator.pass(object).unwrap();
    }

    pub(super) fn inventory(&self) -> Inventory {
        self.operator.inventory(None)
    }

    pub(super) fn quit(&self) -> CancellationToken {
        self.operator.quit.clone()
    }

    pub(super) fn into_operator(self) -> Arc<Operator> {
        Arc::new(self.operator)
    }

    pub(super) fn crash_after(&self, calls: usize) {
        self.fuse.set(Some(calls));
    }

    /// A round; if the daemon dies in it, it starts again. The claims' clients stay, as this test says it.
    pub(super) fn round_or_crash(&mut self) {
        if self.survives(Self::round) {
            return;
        }
        self.fuse.set(None);
        self.operator.sweep().unwrap();
    }

    pub(super) fn crashed_pass(&mut self, object: usize, calls: usize) {
        let objects = self.all();
        let object = objects[object % objects.len()].clone();
        self.crash_after(calls);
        self.survives(|bench| {
            bench.operator.pass(&object).unwrap();
        });
        self.fuse.set(None);
    }

    pub(super) fn restart(&mut self, calls: Option<usize>) {
        self.fuse.set(calls);
        self.survives(|bench| {
            bench.operator.recover(Uuid::new_v4()).unwrap();
            bench.operator.sweep().unwrap();
        });
        self.fuse.set(None);
    }

    fn survives(&mut self, work: impl FnOnce(&mut Self)) -> bool {
        match catch_unwind(AssertUnwindSafe(|| work(self))) {
            Ok(()) => true,
            Err(death) if death.is::<Crash>() => false,
            Err(other) => std::panic::resume_unwind(other),
        }
    }

    /// Lets the operator work until nothing is left to do.
    pub(super) fn settle(&mut self) {
        self.fuse.set(None);
        self.world.set_reachable(true);
        self.world.set_room(true);
        self.open(None);
        self.unhinder();
        self.free();
        self.operator.sweep().unwrap();
        self.rest();
    }

    /// Lets the operator work until nothing is left to do, with whatever hinders it.
    pub(super) fn rest(&mut self) {
        for _ in 0..400 {
            let before = self.revision();
            let mut next = None;
            for object in self.all() {
                if let Requeue::After(wait) = self.operator.pass(&object).unwrap() {
                    next = Some(next.map_or(wait, |next: SignedDuration| next.min(wait)));
                }
            }
            let quiet = self.revision() == before;
            match next {
                None if quiet => return,
                // Whatever is due comes, however far off it is: the end of a time, the end of a record's.
                Some(next) if quiet => self.wait(u32::try_from(next.as_millis()).unwrap().max(100)),
                _ => self.wait(100),
            }
        }
        panic!("no fixed point: {:#?}", self.containers());
    }

    // --- what is ---

    pub(super) fn revision(&self) -> u64 {
        self.store.get("").unwrap().1
    }

    pub(super) fn containers(&self) -> Vec<Container> {
        records::list(&*self.store, NS).unwrap().into_iter().map(|c| c.object).collect()
    }

    pub(super) fn pool(&self) -> ContainerPool {
        records::get(&*self.store, NS, "default").unwrap().unwrap().object
    }

    pub(super) fn ready(&self) -> usize {
        self.containers().iter().filter(|c| c.status.phase == Phase::Ready).count()
    }

    pub(super) fn bound(&self) -> usize {
        self.containers().iter().filter(|c| c.status.phase == Phase::Bound).count()
    }

    pub(super) fn events(&self) -> Vec<Event> {
        self.store.list(EVENTS).unwrap().0.iter().map(|kv| records::decode(kv).unwrap().object).collect()
    }

    // --- what has to be ---

    /// At every moment, in the middle of anything.
    pub(super) fn check_always(&self) {
        let containers = self.containers();
        let containers: Vec<_> = containers.iter().filter(|c| c.spec.pool.is_some()).collect();
        assert_eq!(self.pool().status.containers as usize, containers.len(), "the pool's counter is not exact");
        assert!(containers.len() <= MAX as usize, "more containers than allowed");
        let domains = self.world.domains();
        assert!(domains.iter().any(|domain| domain.uuid == FOREIGN), "somebody else's domain was touched");
        assert_eq!(consistency::check(&self.store.list("").unwrap().0), [], "records do not agree");
        self.check_events();
        self.check_conditions();
        self.check_updates();
    }

    /// No condition of the operator's is another controller's to write.
    fn check_conditions(&self) {
        fn check<T: Object>(bench: &Bench, of: impl Fn(&T) -> &[Condition]) {
            for read in records::list::<T>(&*bench.store, NS).unwrap() {
                let own = |condition: &Condition| T::KIND.conditions().contains(&condition.kind.as_str());
                assert!(of(&read.object).iter().all(own), "{:?}", of(&read.object));
            }
        }
        check::<Container>(self, |c| &c.status.conditions);
        check::<ContainerPool>(self, |p| &p.status.conditions);
        check::<ContainerClaim>(self, |c| &c.status.conditions);
    }

    fn check_events(&self) {
        let (log, _) = self.store.list(EVENTS).unwrap();
        for (index, kv) in log.iter().enumerate() {
            assert_eq!(*kv.key, *format!("{EVENTS}{:020}", index + 1), "the log has a gap");
        }
        let mut told: BTreeMap<String, Vec<EventKind>> = BTreeMap::new();
        let mut bound: BTreeSet<String> = BTreeSet::new();
        for event in self.events() {
            if event.kind == EventKind::BoundClaim {
                let claim = event.details["claim"].as_str().unwrap().to_owned();
                assert!(bound.insert(claim), "a claim was bound twice");
            }
            // What others write on a record says nothing of its machine: one can be held that never comes to be.
            let of_machine = event.kind != EventKind::AppliedObject;
            if let Some(object) = event.regarding.filter(|object| of_machine && object.kind == Kind::Container) {
                told.entry(object.name).or_default().push(event.kind);
            }
        }
        let records: BTreeSet<String> =
            self.containers().into_iter().filter(|c| !released(c)).map(|c| c.metadata.name).collect();
        for (name, kinds) in told {
            let count = |kind| kinds.iter().filter(|&&k| k == kind).count();
            for once in [
                EventKind::CreatedContainer,
                EventKind::ReadyContainer,
                EventKind::BoundClaim,
                EventKind::FailedContainer,
                EventKind::DestroyedContainer,
            ] {
                assert!(count(once) <= 1, "{once:?} was told {} times of {name}: {kinds:?}", count(once));
            }
            let added = count(EventKind::ForwardAdded);
            assert!(count(EventKind::ForwardRemoved) <= added, "{kinds:?}");
            let last = *kinds.iter().rfind(|kind| !matches!(kind, EventKind::AdoptionRefused)).unwrap();
            let gone = !records.contains(&name);
            assert_eq!(last == EventKind::DestroyedContainer, gone, "{name} gone: {gone}, told: {kinds:?}");
            if gone {
                assert_eq!(count(EventKind::ForwardRemoved), added, "{kinds:?}");
            }
        }
    }

    /// What domains bear is what a lost store is rebuilt from: every machine in use, with its records as they are.
    pub(super) fn check_remembered(&self) {
        let rebuilt = self.rebuilt();
        assert!(!rebuilt.left.iter().any(|left| left.why.in_use()), "{:?}", rebuilt.left);
        let used: Vec<Keepsake> = self.containers().iter().filter(|c| in_use(c)).map(|c| self.keepsake(c)).collect();
        assert_eq!(rebuilt.machines.len(), used.len());
        for keepsake in used {
            assert!(rebuilt.machines.contains(&keepsake), "its domain bears something else: {keepsake:#?}");
        }
    }

    fn rebuilt(&self) -> Rebuilt {
        let found = self.world.domains().into_iter().map(|domain| {
            let (mark, kept) = (domain.spec.map(|spec| spec.mark), domain.keepsake.as_ref());
            let (uuid, state, keepsake) = (domain.uuid, domain.state, kept.map(|kept| kept.digest.clone()));
            let domain = DomainSeen { uuid, name: String::new(), mark, state, keepsake };
            Found { domain, text: kept.map(|kept| kept.text.clone()) }
        });
        rebuild(INSTANCE, found.collect())
    }

    fn keepsake(&self, c: &Container) -> Keepsake {
        let claim = c.spec.claim.as_ref().map(|name| records::get(&*self.store, NS, name).unwrap().unwrap().object);
        let credentials = records::credentials(&*self.store, NS, &c.metadata.name).unwrap().unwrap();
        Keepsake::of(c, claim.as_ref(), credentials)
    }

    /// All records are gone, and are written anew from what the domains bear; then the pool is made again.
    pub(super) fn lose_the_store(&mut self) {
        let (all, _) = self.store.list(REGISTRY).unwrap();
        let gone = all.iter().fold(Txn::default(), |txn, kv| txn.delete(&kv.key));
        self.store.txn(gone).wait().unwrap();
        for Keepsake { container, claim, credentials } in &self.rebuilt().machines {
            let name = &container.metadata.name;
            let txn = Txn::default().write(container).put(&records::credentials_key(NS, name), credentials);
            let txn = txn.put(&records::port_key(container.spec.machine.port), &container.uuid());
            self.store.txn(claim.iter().fold(txn, |txn, claim| txn.write(claim))).wait().unwrap();
        }
        let spec = PoolSpec::of(0, MAX, Template::of(Image::Iso(self.around.image.clone())));
        let metadata = ObjectMeta::new(NS, "default", Uuid::new_v4(), now(&self.millis));
        let made = crate::api::placing::make_pool(&*self.store, metadata, &spec).unwrap();
        self.store.txn(made.1).wait().unwrap();
    }

    /// At the fixed point.
    pub(super) fn check_settled(&mut self) {
        self.check_always();
        let containers = self.containers();
        let uuids: BTreeSet<Uuid> = containers.iter().map(Container::uuid).collect();
        let running: BTreeSet<Uuid> =
            self.world.domains().iter().filter(|d| d.spec.is_some()).map(|d| d.uuid).collect();
        assert_eq!(running, uuids, "domains and records differ");
        let forwards: BTreeSet<Uuid> = self.world.forwards().into_values().collect();
        assert_eq!(forwards, uuids, "forwards and records differ");
        for c in &containers {
            assert!(matches!(c.status.phase, Phase::Ready | Phase::Bound), "{c:#?}");
        }
        let (all, _) = self.store.list(REGISTRY).unwrap();
        let count = |of: &str| all.iter().filter(|kv| kv.key.starts_with(&format!("{REGISTRY}{of}/"))).count();
        assert_eq!(count("credentials"), containers.len(), "credentials were left");
        assert_eq!(count("ports"), containers.len(), "ports were left");
        assert_eq!(count("containerclaims"), self.bound(), "claims were left");
        self.check_remembered();
        let wished = self.pool().spec.replicas.min(MAX - self.bound() as u32);
        assert_eq!(self.ready() as u32, wished, "the pool is not as wished");
        self.check_pool_settled();
        // Nothing is left to do: another second and another look change nothing.
        self.wait(1000);
        let before = self.revision();
        self.round();
        assert_eq!(self.revision(), before, "the fixed point is none");
    }
}
