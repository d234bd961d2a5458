//! The operator as the daemon runs it (queue, passes, watch), with a world whose faults tests can order.

use std::collections::HashSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anweddol::api::{Api, ApiError, BirthError, Births, Digests, Doubts, Granted, Sealer};
use anweddol::guest::fake::{FakeForwarder, FakeShell};
use anweddol::guest::{Forwarder, Login, Patience, Shell, ShellError, ShellObserver};
use anweddol::hypervisor::fake::{Call, FakeHypervisor, FakeWorld, Options, Wakes};
use anweddol::model::{
    ClaimPhase, ClaimSpec, ClaimStatus, Client, Container, ContainerClaim, ContainerPool, DEFAULT_NAMESPACE, Event,
    EventKind, Image, Network, ObjectMeta, Origin, Phase, PoolSpec, PoolStatus, Template,
};
use anweddol::operator::{self, Boots, Clock, Operator};
use anweddol::plan::container::IN_LINE;
use anweddol::plan::container::conditions::STARTED;
use anweddol::server::events::Bus;
use anweddol::server::verbs::{ApiVerbs, Documented};
use anweddol::server::{ClientInstance, EventSink, Verbs};
use anweddol::store::{Change, Store, Txn, TxnResult, memory, records};
use anweddol::wire::{CREATE, Request};
use futures::StreamExt;
use jiff::Timestamp;
use secrecy::ExposeSecret;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::common::PATIENCE;

const POOL: &str = "default";
const PORTS: RangeInclusive<u16> = 10_000..=10_511;

fn client() -> Client {
    Client { ip: Ipv4Addr::LOCALHOST.into(), id: "1234567".into() }
}

/// A look at everything that comes after every test: what is noticed was told.
const NEVER: Duration = Duration::from_secs(24 * 60 * 60);

/// A running operator; stopped when dropped.
struct Running {
    world: Arc<FakeWorld>,
    store: Arc<dyn Store>,
    api: Arc<Api>,
    births: Arc<Births>,
    doubts: Arc<Doubts>,
    boots: Arc<Boots>,
    bus: Arc<Bus>,
    stop: CancellationToken,
    _dir: TempDir,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Running {
    fn start(max: u32, change: impl FnOnce(&mut PoolSpec, &mut Options)) -> Running {
        Running::with_shell(max, change, |world| Arc::new(FakeShell::new(Arc::clone(world))))
    }

    fn with_shell(
        max: u32,
        change: impl FnOnce(&mut PoolSpec, &mut Options),
        shell: impl FnOnce(&Arc<FakeWorld>) -> Arc<dyn Shell>,
    ) -> Running {
        Running::with(max, change, shell, Arc::new(Timestamp::now), NEVER)
    }

    fn with(
        max: u32,
        change: impl FnOnce(&mut PoolSpec, &mut Options),
        shell: impl FnOnce(&Arc<FakeWorld>) -> Arc<dyn Shell>,
        clock: Clock,
        resync: Duration,
    ) -> Running {
        let dir = tempfile::tempdir().unwrap();
        let image = dir.path().join("image.iso");
        std::fs::write(&image, "image").unwrap();
        let mut spec = PoolSpec::of(0, max, Template::of(Image::Iso(image)));
        let mut options = Options { boot: Duration::from_millis(20), ..Options::default() };
        change(&mut spec, &mut options);
        let addressed = options.network == Network::Nat;

        let world = FakeWorld::new(options);
        let store: Arc<dyn Store> = memory();
        let metadata = ObjectMeta::new(DEFAULT_NAMESPACE, POOL, Uuid::new_v4(), Timestamp::now());
        let pool = ContainerPool { metadata, spec, status: PoolStatus::default() };
        store.txn(Txn::default().write(&pool)).wait().unwrap();

        let forwarder: Arc<dyn Forwarder> = Arc::new(FakeForwarder::new(Arc::clone(&world)));
        let free = Arc::clone(&forwarder);
        let sealer = Sealer::from_file(&dir.path().join("seal.key")).unwrap();
        let births = Arc::new(Births::new(sealer, Digests::default(), PORTS, Arc::new(move |port| free.is_free(port))));
        let operator = Arc::new(Operator {
            store: Arc::clone(&store),
            hypervisor: Arc::new(FakeHypervisor::new(Arc::clone(&world))),
            shell: shell(&world),
            observer: None,
            forwarder,
            births: Arc::clone(&births),
            doubts: Arc::default(),
            metrics: Arc::default(),
            probes: Arc::default(),
            boots: Arc::default(),
            kept_events: Arc::new(10_000.into()),
            clock: Arc::clone(&clock),
            instance: Uuid::new_v4(),
            addressed,
            quit: CancellationToken::new(),
        });
        let run = Uuid::new_v4();
        let api = Api::new(Arc::clone(&store), Arc::clone(&births), Arc::clone(&clock), run, DEFAULT_NAMESPACE, POOL);
        let api = Arc::new(api.doubting(Arc::clone(&operator.doubts)));
        let (doubts, boots) = (Arc::clone(&operator.doubts), Arc::clone(&operator.boots));
        let (bus, stop) = (Arc::new(Bus::new(Arc::clone(&clock))), operator.quit.clone());
        let teller = Arc::clone(&bus);
        tokio::spawn(Bus::follow(Arc::clone(&store), stop.clone(), move |event, _| teller.emit(event)));
        tokio::spawn(operator::run(operator, resync));
        Running { world, store, api, births, doubts, boots, bus, stop, _dir: dir }
    }

    fn available(&self) -> u32 {
        self.api.stat().unwrap().available
    }

    fn containers(&self) -> Vec<Container> {
        let all = records::list::<Container>(&*self.store, DEFAULT_NAMESPACE).unwrap();
        all.into_iter().map(|versioned| versioned.object).collect()
    }

    fn scale(&self, replicas: u32) {
        let mut pool = records::get::<ContainerPool>(&*self.store, DEFAULT_NAMESPACE, POOL).unwrap().unwrap();
        pool.object.spec.replicas = replicas;
        self.store.txn(Txn::default().write(&pool.object)).wait().unwrap();
    }

    async fn destroy(&self, granted: &Granted) {
        self.api.destroy(granted.uuid, granted.client_token.expose_secret()).await.unwrap();
    }

    /// Nothing is there, and nothing is recorded but the pool and what happened.
    async fn until_empty(&self, max: u32) {
        until("an empty world", || {
            let keys = self.store.list(records::REGISTRY).unwrap().0;
            let empty = self.world.domains().is_empty() && self.world.forwards().is_empty();
            // What became of claims is told for a while.
            let left = keys.iter().filter(|kv| !kv.key.contains("/containerclaims/")).count();
            (empty && left == 1 && self.available() == max).then_some(())
        })
        .await;
    }
}

async fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let looking = async {
        loop {
            match look() {
                Some(found) => return found,
                None => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    };
    tokio::time::timeout(PATIENCE, looking).await.unwrap_or_else(|_| panic!("never came: {what}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn thirty_creates_and_destroys_at_once_converge() {
    for failure_rate in [0.0, 0.05] {
        let running = Arc::new(Running::start(30, |_, options| options.failure_rate = failure_rate));
        let clients: Vec<_> = (0..30)
            .map(|_| {
                let running = Arc::clone(&running);
                tokio::spawn(async move {
                    let granted = running.api.create(&client()).await.unwrap();
                    running.destroy(&granted).await;
                })
            })
            .collect();
        for client in clients {
            client.await.unwrap();
        }
        running.until_empty(30).await;
        assert!(running.world.calls(Call::Create) >= 30);
    }
}

/// Whatever fails on the way.
#[tokio::test(flavor = "multi_thread")]
async fn no_more_machines_boot_at_once_than_may_and_all_get_their_turn() {
    const MOST: usize = 3;
    let running = Running::start(20, |_, options| options.failure_rate = 0.1);
    running.boots.set(NonZeroUsize::new(MOST));
    let mut changes = running.store.watch(records::REGISTRY, 0);
    running.scale(20);
    let (mut booting, mut ready, mut most) = (HashSet::new(), HashSet::new(), 0);
    let filling = async {
        while ready.len() < 20 {
            for change in changes.next().await.unwrap().unwrap().changes {
                let (kv, gone) = match &change {
                    Change::Put { kv, .. } => (kv, false),
                    Change::Delete { prev } => (prev, true),
                };
                let Ok(c) = records::decode::<Container>(kv) else { continue };
                let (phase, uuid) = (c.object.status.phase, c.object.uuid());
                for (set, of) in [(&mut booting, Phase::Booting), (&mut ready, Phase::Ready)] {
                    if phase == of && !gone {
                        set.insert(uuid)
                    } else {
                        set.remove(&uuid)
                    };
                }
                most = most.max(booting.len());
            }
        }
    };
    tokio::time::timeout(PATIENCE, filling).await.expect("twenty members");
    assert_eq!(most, MOST);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_higher_limit_of_boots_is_taken_up_at_once() {
    let running = Running::start(3, |_, options| options.boot = NEVER);
    running.boots.set(NonZeroUsize::new(1));
    running.scale(3);
    let booting = async |count: usize| {
        until(&format!("{count} that boot, and others in line"), || {
            let all = running.containers();
            let in_line = all.iter().flat_map(|c| &c.status.conditions).filter(|c| c.reason == IN_LINE).count();
            let booting = all.iter().filter(|c| c.status.phase == Phase::Booting).count();
            (booting == count && in_line == 3 - count).then_some(())
        })
        .await;
    };
    booting(1).await;
    running.boots.set(NonZeroUsize::new(2));
    booting(2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_ends_by_itself_ends_its_container_at_once() {
    let running = Running::start(2, |_, _| {});
    let mut events = running.bus.listen();
    let granted = running.api.create(&client()).await.unwrap();
    assert_eq!(running.available(), 1);
    running.world.kill(granted.uuid);
    running.until_empty(2).await;
    let told = async {
        loop {
            let event = events.recv().await.unwrap();
            if event.kind == EventKind::DestroyedContainer {
                return event;
            }
        }
    };
    let event = tokio::time::timeout(PATIENCE, told).await.unwrap();
    assert_eq!(event.details["container_uuid"], granted.uuid.to_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_hint_tells_of_is_found_by_the_look_at_everything() {
    let shell = |world: &Arc<FakeWorld>| Arc::new(FakeShell::new(Arc::clone(world))) as Arc<dyn Shell>;
    let often = Duration::from_millis(50);
    let running = Running::with(2, |_, _| {}, shell, Arc::new(Timestamp::now), often);
    let granted = running.api.create(&client()).await.unwrap();
    running.world.set_wakes(Wakes::Lost);
    running.world.kill(granted.uuid);
    running.until_empty(2).await;
}

/// The next one is always due before it is over.
#[tokio::test(flavor = "multi_thread")]
async fn a_look_that_takes_longer_than_its_time_comes_to_the_last_one_too() {
    const MEMBERS: u32 = 200;
    let shell = |world: &Arc<FakeWorld>| Arc::new(FakeShell::new(Arc::clone(world))) as Arc<dyn Shell>;
    let warm = |spec: &mut PoolSpec, _: &mut Options| spec.replicas = MEMBERS;
    let running = Running::with(MEMBERS, warm, shell, Arc::new(Timestamp::now), Duration::from_millis(1));
    let ready = || {
        let ready = running.containers().into_iter().filter(|c| c.status.phase == Phase::Ready);
        let uuids: Vec<Uuid> = ready.map(|c| c.uuid()).collect();
        (uuids.len() == MEMBERS as usize).then_some(uuids)
    };
    let last = until("a full pool", ready).await.into_iter().max().unwrap();
    running.world.set_wakes(Wakes::Lost);
    running.world.kill(last);
    until("its end", || running.containers().iter().all(|c| c.uuid() != last).then_some(())).await;
}

/// A member that is cut off, whose domain runs on: nothing tells of it but that it does not answer.
#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_stops_answering_is_replaced_before_anybody_gets_it() {
    let shell = |world: &Arc<FakeWorld>| Arc::new(FakeShell::new(Arc::clone(world))) as Arc<dyn Shell>;
    // A minute passes in a second.
    let (start, begin) = (Timestamp::now(), std::time::Instant::now());
    let fast: Clock = Arc::new(move || start + begin.elapsed() * 60);
    let warm = |spec: &mut PoolSpec, _: &mut Options| {
        spec.replicas = 2;
        spec.template.boot_deadline_seconds = 3600;
    };
    let running = Running::with(3, warm, shell, fast, NEVER);
    let members = || {
        let ready = running.containers().into_iter().filter(|c| c.status.phase == Phase::Ready);
        let uuids: Vec<Uuid> = ready.map(|c| c.uuid()).collect();
        (uuids.len() == 2).then_some(uuids)
    };
    let before = until("two members", members).await;
    until("a probe of each", || (running.world.calls(Call::Probe) >= 4).then_some(())).await;
    assert_eq!(members(), Some(before.clone()), "one that answers was replaced");
    running.world.set_answers(before[0], false);
    let after = until("another member", || members().filter(|now| !now.contains(&before[0]))).await;
    assert!(after.contains(&before[1]), "one that answers was replaced");
    // It may go after the other one came.
    let ended = || {
        let (log, _) = running.store.list(records::EVENTS).unwrap();
        let ended = log.iter().map(|kv| records::decode::<Event>(kv).unwrap().object);
        let ended: Vec<Event> = ended.filter(|event| event.kind == EventKind::DestroyedContainer).collect();
        (!ended.is_empty()).then_some(ended)
    };
    let ended = until("its end", ended).await;
    let about = |event: &Event| (event.details["container_uuid"].clone(), event.details["reason"].clone());
    assert_eq!(ended.iter().map(about).collect::<Vec<_>>(), [(before[0].to_string().into(), "NotAnswering".into())]);
    // Nobody asks a machine in use.
    let granted = running.api.create(&client()).await.unwrap();
    running.world.set_answers(granted.uuid, false);
    let asked = running.world.calls(Call::Probe);
    until("probes of the others", || (running.world.calls(Call::Probe) >= asked + 4).then_some(())).await;
    assert!(running.containers().iter().any(|c| c.uuid() == granted.uuid && c.status.phase == Phase::Bound));
}

/// It may be dead, and it may only be slow.
#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_did_not_answer_once_is_passed_over_until_it_does() {
    let shell = |world: &Arc<FakeWorld>| Arc::new(FakeShell::new(Arc::clone(world))) as Arc<dyn Shell>;
    // Time stands still, but for the test's steps.
    let (start, minutes) = (Timestamp::now(), Arc::new(AtomicU64::new(0)));
    let passed = Arc::clone(&minutes);
    let clock: Clock = Arc::new(move || start + Duration::from_secs(60 * passed.load(Ordering::SeqCst)));
    let running = Running::with(2, |spec, _| spec.replicas = 1, shell, clock, NEVER);
    let ready = || running.containers().into_iter().find(|c| c.status.phase == Phase::Ready);
    let member = until("a member", ready).await.uuid();
    running.world.set_answers(member, false);
    until("a probe", || {
        let asked = running.world.calls(Call::Probe) > 0;
        minutes.fetch_add(u64::from(!asked), Ordering::SeqCst);
        asked.then_some(())
    })
    .await;
    until("a doubt", || running.doubts.all().contains(&member).then_some(())).await;
    let granted = running.api.create(&client()).await.unwrap();
    assert_ne!(granted.uuid, member);
    running.destroy(&granted).await;
    running.world.set_answers(member, true);
    minutes.fetch_add(1, Ordering::SeqCst);
    until("no doubt", || running.doubts.all().is_empty().then_some(())).await;
    assert_eq!(running.api.create(&client()).await.unwrap().uuid, member);
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_a_guest_leases_later_its_address_stays_the_recorded_one() {
    let running = Running::start(2, |_, options| options.network = Network::Nat);
    let granted = running.api.create(&client()).await.unwrap();
    let asked = running.world.calls(Call::Address);
    assert!(asked > 0);
    // All passes of its life go by what is recorded.
    running.destroy(&granted).await;
    running.until_empty(2).await;
    assert_eq!(running.world.calls(Call::Address), asked);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_never_answers_is_taken_down_at_its_deadline() {
    let running = Running::start(2, |spec, _| spec.template.boot_deadline_seconds = 5);
    running.world.set_new_guests_answer(false);
    let error = running.api.create(&client()).await.unwrap_err();
    assert!(matches!(error, ApiError::NotReady { .. }), "{error}");
    assert!(error.to_string().contains("5 s"), "{error}");
    running.until_empty(2).await;
    running.world.set_new_guests_answer(true);
    let granted = running.api.create(&client()).await.unwrap();
    running.destroy(&granted).await;
    running.until_empty(2).await;
}

/// A shell that only hears whether its guest is still wanted.
struct Deaf;

impl Shell for Deaf {
    fn personalise(
        &self,
        at: SocketAddr,
        _: &Login,
        patience: Patience<'_>,
        _: Option<&dyn ShellObserver>,
    ) -> Result<(), ShellError> {
        while (patience.wanted)() {
            std::thread::sleep(Duration::from_millis(10));
        }
        Err(ShellError::Unwanted { at })
    }

    fn authorize(&self, at: SocketAddr, _: &Login, _: &str, _: Patience<'_>) -> Result<(), ShellError> {
        Err(ShellError::Unwanted { at })
    }

    fn probe(&self, at: SocketAddr, _: Uuid, _: Patience<'_>) -> Result<(), ShellError> {
        Err(ShellError::Unwanted { at })
    }

    fn soon(&self, _: Uuid) {}

    fn forget(&self, _: Uuid) {}
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_ends_while_it_boots_is_not_waited_for() {
    let running = Running::with_shell(2, |spec, _| spec.template.boot_deadline_seconds = 3600, |_| Arc::new(Deaf));
    let api = Arc::clone(&running.api);
    let asking = tokio::spawn(async move { api.create(&client()).await });
    let booting = until("a pass that waits for the guest", || {
        let booting = running.containers().pop()?;
        let started = anweddol::model::condition(&booting.status.conditions, STARTED);
        started.then(|| booting.uuid())
    });
    running.world.kill(booting.await);
    let error = tokio::time::timeout(PATIENCE, asking).await.unwrap().unwrap().unwrap_err();
    assert!(matches!(error, ApiError::NotReady { .. }), "{error}");
    running.until_empty(2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_free_port_a_create_is_unavailable_and_the_range_is_told() {
    let running = Running::start(2, |_, _| {});
    PORTS.for_each(|port| running.world.take_port(port));
    let error = running.api.create(&client()).await.unwrap_err();
    assert!(matches!(error, ApiError::Birth(BirthError::NoFreePort { first: 10_000, last: 10_511 })), "{error}");

    let mut events = running.bus.listen();
    let verbs = ApiVerbs::new(Arc::clone(&running.api), Arc::clone(&running.bus) as _, None, "1".into());
    let answer = Documented(Arc::new(verbs))
        .handle(ClientInstance::gone(client(), Timestamp::now()), Request::bare(CREATE))
        .await;
    assert_eq!((answer.response.success, answer.response.message.as_str()), (false, "Unavailable"));
    let event = events.recv().await.unwrap();
    assert_eq!(event.kind, EventKind::RuntimeError);
    assert!(event.message.contains("10000-10511") && event.message.contains("port_forwarding.range"), "{event:?}");
    running.until_empty(2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_warm_pool_answers_from_what_is_ready_and_fills_up_again() {
    let running = Running::start(3, |spec, options| {
        spec.replicas = 1;
        // What is not ready before anybody asks is not ready in time.
        options.boot = Duration::from_millis(300);
    });
    let ready = || running.containers().into_iter().find(|c| c.status.ready_at.is_some() && c.spec.claim.is_none());
    let warm = until("a warm member", ready).await;
    let granted = running.api.create(&client()).await.unwrap();
    assert_eq!(granted.uuid, warm.uuid());
    let next = until("the next warm member", ready).await;
    assert_ne!(next.uuid(), warm.uuid());
    running.destroy(&granted).await;
    assert!(running.world.domains().iter().all(|domain| domain.uuid != granted.uuid), "a used machine stayed");
    until("all places but the warm one's", || (running.available() == 3).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_template_change_rolls_what_nobody_claimed_and_leaves_the_bound_one() {
    let running = Running::start(6, |spec, _| spec.replicas = 3);
    let free = || running.containers().into_iter().filter(|c| c.spec.claim.is_none()).collect::<Vec<_>>();
    let pool = || records::get::<ContainerPool>(&*running.store, DEFAULT_NAMESPACE, POOL).unwrap().unwrap();
    let filled = |bound| {
        let status = pool().object.status;
        (status.ready_replicas == 3 && status.bound_containers == bound).then_some(())
    };
    until("a filled pool", || filled(0)).await;
    let granted = running.api.create(&client()).await.unwrap();
    until("a refilled pool", || filled(1)).await;
    let before: Vec<Uuid> = free().iter().map(Container::uuid).collect();

    loop {
        let read = pool();
        let mut changed = read.object.clone();
        changed.spec.template.vcpus += 1;
        changed.metadata.generation += 1;
        let txn = Txn::default().unchanged(&read).write(&changed);
        if let TxnResult::Committed(_) = running.store.txn(txn).wait().unwrap() {
            break;
        }
    }
    // Nothing but the commits themselves drives it: a look at everything would come too late.
    let updated = || {
        let ContainerPool { metadata, status, .. } = pool().object;
        let seen = status.observed_generation == metadata.generation && status.updating.is_none();
        (seen && (status.updated_replicas, status.ready_replicas) == (3, 3)).then_some(())
    };
    until("a pool of the new template", updated).await;
    assert!(free().iter().all(|c| c.spec.template.vcpus == 2 && !before.contains(&c.uuid())));
    let bound = running.containers().into_iter().find(|c| c.uuid() == granted.uuid).unwrap();
    assert_eq!((bound.status.phase, bound.spec.template.vcpus), (Phase::Bound, 1));
    let (log, _) = running.store.list(records::EVENTS).unwrap();
    let events = log.iter().map(|kv| records::decode::<Event>(kv).unwrap().object.kind);
    let updates: Vec<_> =
        events.filter(|kind| matches!(kind, EventKind::UpdatingPool | EventKind::UpdatedPool)).collect();
    assert_eq!(updates, [EventKind::UpdatingPool, EventKind::UpdatedPool]);
}

fn object_claim(name: &str) -> ContainerClaim {
    ContainerClaim {
        metadata: ObjectMeta::new(DEFAULT_NAMESPACE, name, Uuid::new_v4(), Timestamp::now()),
        spec: ClaimSpec::of(POOL, Origin::Object),
        status: ClaimStatus::default(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_that_waits_is_served_as_soon_as_a_place_is_free_and_then_the_next() {
    let running = Running::start(1, |_, _| {});
    let granted = running.api.create(&client()).await.unwrap();
    for name in ["first", "second"] {
        running.store.txn(Txn::default().write(&object_claim(name))).await.unwrap();
    }
    let claim = |name: &str| records::get::<ContainerClaim>(&*running.store, DEFAULT_NAMESPACE, name).unwrap().unwrap();
    let phase = |name: &str| claim(name).object.status.phase;
    until("a queue", || (!claim("first").object.status.conditions.is_empty()).then_some(())).await;
    running.destroy(&granted).await;
    until("the first one's machine", || (phase("first") == ClaimPhase::Bound).then_some(())).await;
    assert_eq!(phase("second"), ClaimPhase::Pending);
    assert!(matches!(running.api.create(&client()).await, Err(ApiError::Full { .. })), "a client overtook");
    let mut gone = claim("first");
    gone.object.metadata.deletion_timestamp = Some(Timestamp::now()).into();
    running.store.txn(Txn::default().write(&gone.object)).await.unwrap();
    until("the second one's machine", || (phase("second") == ClaimPhase::Bound).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_without_pool_is_found_by_its_wake_although_its_name_is_not_its_uuid() {
    let running = Running::start(1, |_, _| {});
    let metadata = ObjectMeta::new(DEFAULT_NAMESPACE, "mine", Uuid::new_v4(), Timestamp::now());
    let template = records::get::<ContainerPool>(&*running.store, DEFAULT_NAMESPACE, POOL).unwrap().unwrap();
    let birth = running.births.standalone(&*running.store, metadata, template.object.spec.template).unwrap();
    running.store.txn(birth.txn).await.unwrap();
    let phase = |wanted: Phase| {
        let found = running.containers().pop().filter(|c| c.status.phase == wanted);
        found.map(|c| c.uuid())
    };
    let uuid = until("a machine without pool", || phase(Phase::Ready)).await;
    running.world.kill(uuid);
    until("its end", || phase(Phase::Failed)).await;
    until("nothing but its record", || {
        let keys = running.store.list(records::REGISTRY).unwrap().0;
        (keys.len() == 2 && running.world.forwards().is_empty()).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_time_that_is_over_ends_the_machine_within_seconds() {
    let running = Running::start(2, |spec, _| spec.template.lifetime.ttl_seconds = Some(1));
    let granted = running.api.create(&client()).await.unwrap();
    let deadline = granted.deadline.unwrap();
    running.until_empty(2).await;
    let late = Timestamp::now().duration_since(deadline.at);
    assert!((0..10).contains(&late.as_secs()), "{late:?} after its time");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_warm_claim_is_granted_while_neither_hypervisor_nor_guest_nor_forwards_can_be_reached() {
    let running = Running::start(2, |spec, _| spec.replicas = 1);
    let ready = || running.containers().into_iter().find(|c| c.status.phase == Phase::Ready);
    let warm = until("a warm machine", ready).await;
    running.world.set_reachable(false);
    for call in [Call::Admin, Call::Publish, Call::LookAtForwards, Call::Personalise, Call::Authorize] {
        running.world.fail_next(call, usize::MAX);
    }
    let granted = running.api.create(&client()).await.unwrap();
    assert_eq!(granted.uuid, warm.uuid());
}
