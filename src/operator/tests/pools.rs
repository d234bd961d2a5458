//! What happens to a pool and around it, and what it has to keep whatever happens.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use proptest::prelude::*;

use super::bench::{Bench, MAX, NS};
use crate::api::{ApiError, BirthError};
use crate::host::Host;
use crate::model::*;
use crate::plan::admission::Capacity;
use crate::plan::pool::template_hash;
use crate::store::records::{self, REGISTRY};
use crate::store::{Cond, Op, Store, Txn, TxnResult};

/// The memory of the largest template here.
const LARGEST: u64 = 260;

/// One thing that happens.
#[derive(Clone, Debug)]
pub(super) enum Act {
    /// The template's memory changes.
    Template(u64),
    /// The image changes, or goes.
    Image(Option<usize>),
    /// The strategy changes.
    Strategy(UpdateStrategy),
    /// The pool is paused or not.
    Pause(bool),
    /// How long members may wait.
    MaxReady(Option<u32>),
    /// How fast they are made.
    Refill(Refill),
    /// The host has memory for so many, or any number.
    Host(Option<u64>),
}

pub(super) fn act() -> impl Strategy<Value = Act> {
    let kind = prop_oneof![Just(UpdateKind::RollingUpdate), Just(UpdateKind::Recreate), Just(UpdateKind::OnReplenish)];
    let strategy = (kind, 1..3_u32).prop_map(|(kind, max_unavailable)| UpdateStrategy { kind, max_unavailable });
    let refill = (0..500_u32, 1..3_u32, prop::option::of(2..9_u32)).prop_map(|(debounce, max_starting, per_minute)| {
        Refill { debounce_milliseconds: debounce, max_starting, per_minute }
    });
    prop_oneof![
        3 => (LARGEST - 3..=LARGEST).prop_map(Act::Template),
        2 => prop::option::weighted(0.7, 0..3_usize).prop_map(Act::Image),
        2 => strategy.prop_map(Act::Strategy),
        1 => any::<bool>().prop_map(Act::Pause),
        1 => prop::option::of(1..9_u32).prop_map(Act::MaxReady),
        1 => refill.prop_map(Act::Refill),
        1 => prop::option::of(0..4_u64).prop_map(Act::Host),
    ]
}

/// What a pool needs of the host: an image, and room.
pub(super) struct Surroundings {
    pub(super) image: PathBuf,
    capacity: Arc<FakeHost>,
}

struct FakeHost(Mutex<Capacity>);

impl Host for FakeHost {
    fn capacity(&self) -> io::Result<Capacity> {
        Ok(*self.0.lock().unwrap())
    }
}

impl Surroundings {
    pub(super) fn new(image: PathBuf) -> Self {
        fs::write(&image, "image").unwrap();
        Surroundings { image, capacity: Arc::new(FakeHost(Mutex::new(Capacity::UNLIMITED))) }
    }

    pub(super) fn host(&self) -> Arc<dyn Host> {
        Arc::clone(&self.capacity) as Arc<dyn Host>
    }

    /// Room for so many machines of the largest template, or any number.
    pub(super) fn set_host(&self, machines: Option<u64>) {
        let limited = |machines| Capacity { memory: machines * (LARGEST << 20), ..Capacity::UNLIMITED };
        *self.capacity.0.lock().unwrap() = machines.map_or(Capacity::UNLIMITED, limited);
    }

    pub(super) fn set_image(&self, number: Option<usize>) {
        match number {
            // Of another length each: the clock of a file system may stand still between two of them.
            Some(number) => fs::write(&self.image, format!("image{}", "!".repeat(number))).unwrap(),
            None => fs::remove_file(&self.image).or_else(missing).unwrap(),
        }
    }

    /// A client may only be refused for a reason that is there.
    pub(super) fn check_refusal(&self, error: &ApiError) {
        match error {
            ApiError::Birth(BirthError::HostFull(_)) => {
                assert_ne!(*self.capacity.0.lock().unwrap(), Capacity::UNLIMITED, "{error}");
            }
            ApiError::Birth(BirthError::Image(_)) => assert!(!self.image.exists(), "{error}"),
            other => panic!("{other}"),
        }
    }
}

fn missing(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
}

/// Before the operator's transaction is done: where a pool ends a member, nobody has it, and it stays if somebody
/// was faster.
pub(super) fn check_written(store: &dyn Store, txn: &Txn) {
    let puts = |kind: Kind| {
        let prefix = format!("{REGISTRY}{}/", kind.plural());
        txn.ops.iter().filter_map(move |op| match op {
            Op::Put { key, value } if key.starts_with(&prefix) => Some((key, value)),
            _ => None,
        })
    };
    if puts(Kind::ContainerPool).next().is_none() {
        return;
    }
    for (key, value) in puts(Kind::Container) {
        let written: Container = serde_json::from_slice(value).unwrap();
        if written.metadata.deleting() {
            assert_eq!(written.spec.claim, None, "a pool ends a container that is claimed");
            let read = |cond: &Cond| matches!(cond, Cond::ModRev(of, _) if of == key);
            assert!(txn.conds.iter().any(read), "a pool ends a container whatever became of it");
        }
    }
    let written = puts(Kind::ContainerPool).next().unwrap().1;
    let written: ContainerPool = serde_json::from_slice(written).unwrap();
    let made = puts(Kind::Container).any(|(key, _)| store.get(key).unwrap().0.is_none());
    assert!(!(made && written.spec.paused), "a pool makes a member although it is paused");
}

impl Bench {
    pub(super) fn pool_act(&self, act: &Act) {
        match act {
            Act::Template(mib) => self.respec(|spec| spec.template.memory = Memory::mebibytes(*mib)),
            Act::Image(number) => self.around.set_image(*number),
            Act::Strategy(strategy) => self.respec(|spec| spec.update_strategy = *strategy),
            Act::Pause(paused) => self.respec(|spec| spec.paused = *paused),
            Act::MaxReady(seconds) => self.respec(|spec| spec.template.lifetime.max_ready_seconds = *seconds),
            Act::Refill(refill) => self.respec(|spec| spec.refill = *refill),
            Act::Host(machines) => self.around.set_host(*machines),
        }
    }

    pub(super) fn scale(&self, replicas: u32) {
        self.respec(|spec| spec.replicas = replicas);
    }

    fn respec(&self, change: impl Fn(&mut PoolSpec)) {
        loop {
            let read = records::get::<ContainerPool>(&*self.store, NS, "default").unwrap().unwrap();
            let mut pool = read.object.clone();
            change(&mut pool.spec);
            pool.metadata.generation += 1;
            let txn = Txn::default().unchanged(&read).write(&pool);
            if let TxnResult::Committed(_) = self.store.txn(txn).wait().unwrap() {
                return;
            }
        }
    }

    /// Nothing keeps the pool any more from being as wished for, and nothing makes it go on for ever.
    pub(super) fn unhinder(&self) {
        if !self.around.image.exists() {
            self.around.set_image(Some(0));
        }
        self.around.set_host(None);
        self.respec(|spec| {
            spec.paused = false;
            spec.template.lifetime.max_ready_seconds = None;
        });
    }

    /// An update is told once when it begins, for each hash, and once when it is over.
    pub(super) fn check_updates(&self) {
        let mut under_way = None;
        for event in self.events() {
            let hash = || event.details["template_hash"].clone();
            match event.kind {
                EventKind::UpdatingPool => {
                    assert_ne!(under_way, Some(hash()), "an update was told twice");
                    under_way = Some(hash());
                }
                EventKind::UpdatedPool => assert!(under_way.take().is_some(), "an update ended that never began"),
                _ => {}
            }
        }
        assert_eq!(under_way.is_some(), self.pool().status.updating.is_some(), "the last update was told wrongly");
    }

    /// At the fixed point, with nothing that hinders.
    pub(super) fn check_pool_settled(&self) {
        let (pool, containers) = (self.pool(), self.containers());
        let free: Vec<_> = containers.iter().filter(|c| c.spec.claim.is_none()).collect();
        let hash = |c: &Container| c.metadata.labels.get(TEMPLATE_HASH).cloned();
        for c in &containers {
            let own = template_hash(&c.spec.template, &c.spec.machine.image_sha256);
            // One that was behind a gate is not what the pool's template says.
            assert!(hash(c) == Some(own) || c.spec.claim.is_some(), "a member bears another's hash: {c:#?}");
        }
        let current = free.iter().filter(|c| hash(c).as_ref() == Some(&pool.status.template_hash)).count();
        if pool.spec.update_strategy.kind != UpdateKind::OnReplenish {
            assert_eq!(current, free.len(), "outdated members were left: {pool:#?}");
            assert_eq!(pool.status.updating, None);
        }
        let status = &pool.status;
        let (replicas, bound) = (free.len() as u32, (containers.len() - free.len()) as u32);
        let told = (status.replicas, status.ready_replicas, status.updated_replicas, status.bound_containers);
        assert_eq!(told, (replicas, replicas, current as u32, bound), "the numbers are wrong: {pool:#?}");
        assert_eq!(status.observed_generation, pool.metadata.generation);
        let (progressing, degraded) = ("Progressing", "Degraded");
        assert!(condition(&status.conditions, progressing) && !condition(&status.conditions, degraded), "{status:#?}");
        assert!(condition(&status.conditions, "ImageReady"), "{status:#?}");
    }
}

fn why(pool: &ContainerPool, kind: &str) -> (String, String) {
    let condition = pool.status.conditions.iter().find(|c| c.kind == kind).unwrap();
    (condition.reason.clone(), condition.message.clone())
}

#[test]
fn a_pool_on_a_full_host_holds_and_says_so_and_fills_when_there_is_room() {
    let mut bench = Bench::new(true, 0.0);
    bench.around.set_host(Some(1));
    bench.scale(2);
    for _ in 0..40 {
        bench.round();
        bench.wait(500);
    }
    assert_eq!((bench.ready(), bench.containers().len()), (1, 1));
    let (reason, message) = why(&bench.pool(), "Degraded");
    assert_eq!(reason, "HostFull");
    assert!(message.contains("256Mi") && message.contains("host.memory"), "{message}");
    let (before, made) = (bench.revision(), bench.events().len());
    bench.wait(10_000);
    bench.round();
    assert_eq!((bench.revision(), bench.events().len()), (before, made), "it holds, but not still");
    bench.create(false);
    bench.create(false);
    assert_eq!(bench.bound(), 1, "the second claim was given a machine that does not fit");
    bench.settle();
    bench.check_settled();
    assert_eq!(bench.ready(), 2);
}

#[test]
fn a_pool_without_its_image_holds_and_says_so_and_fills_when_it_is_there() {
    let mut bench = Bench::new(true, 0.0);
    bench.scale(1);
    bench.settle();
    bench.around.set_image(None);
    bench.scale(2);
    for _ in 0..10 {
        bench.round();
        bench.wait(500);
    }
    assert_eq!((bench.ready(), bench.containers().len()), (1, 1), "what is Ready stays, and no other one is made");
    let (reason, message) = why(&bench.pool(), "ImageReady");
    assert_eq!(reason, "ImageMissing");
    assert!(message.contains("image.iso"), "{message}");
    assert_eq!(bench.pool().status.failures, 0);
    bench.settle();
    bench.check_settled();
}

#[test]
fn a_changed_image_rolls_the_members_that_nobody_claimed() {
    let mut bench = Bench::new(true, 0.0);
    bench.scale(2);
    bench.settle();
    bench.create(false);
    bench.settle();
    let before: Vec<Container> = bench.containers();
    bench.around.set_image(Some(1));
    bench.settle();
    bench.check_settled();
    let after = bench.containers();
    let bound = |all: &[Container]| all.iter().find(|c| c.status.phase == Phase::Bound).cloned();
    assert_eq!(bound(&before), bound(&after), "the bound one was touched");
    let kept = after.iter().filter(|c| before.iter().any(|b| b.metadata.name == c.metadata.name)).count();
    assert_eq!((kept, after.len()), (1, 3));
    let told = |kind| bench.events().iter().filter(|event| event.kind == kind).count();
    assert_eq!((told(EventKind::UpdatingPool), told(EventKind::UpdatedPool)), (1, 1));
}

#[test]
fn no_pool_is_larger_than_its_limit_even_if_it_wishes_to_be() {
    let mut bench = Bench::new(false, 0.0);
    bench.scale(MAX + 5);
    bench.settle();
    bench.check_settled();
    assert_eq!(bench.ready(), MAX as usize);
}

#[test]
fn a_member_that_does_not_answer_by_its_deadline_is_replaced_and_the_condition_says_why() {
    let mut bench = Bench::new(true, 0.0);
    bench.world.set_new_guests_answer(false);
    bench.scale(1);
    let mut lives = Vec::new();
    while lives.len() < 3 {
        bench.round();
        bench.wait(1_000);
        for c in bench.containers() {
            if lives.last() != Some(&c.metadata.name) {
                lives.push(c.metadata.name);
            }
        }
        assert!(bench.containers().len() <= 1, "the next one was made before the last was gone");
    }
    let pool = bench.pool();
    assert_eq!(pool.status.failures, 2);
    let (reason, message) = why(&pool, "Degraded");
    assert_eq!(reason, "BootsFail");
    assert!(message.contains("2 members in a row") && message.contains("bootDeadlineSeconds"), "{message}");
    bench.world.set_new_guests_answer(true);
    bench.settle();
    bench.check_settled();
}
