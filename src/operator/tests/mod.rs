//! The promises, over random histories with a crash at every point.

mod bench;
mod claims;
mod model;
mod mortal;
mod owners;
mod pools;
mod scale;

use proptest::prelude::*;

use bench::Bench;

use jiff::Timestamp;
use uuid::Uuid;

use crate::model::{
    Container, ContainerSpec, ContainerStatus, EventKind, Image, Mac, Machine, ObjectMeta, Phase, Template,
};
use crate::plan::claim::DELIVERED;

/// A member of pool 'default' that is not started: its number is its name, its UUID and the second it was made in.
pub(super) fn container(number: u32) -> Container {
    let (uuid, since) = (Uuid::from_u128(number.into()), Timestamp::from_second(number.into()).unwrap());
    Container {
        metadata: ObjectMeta::new("default", &number.to_string(), uuid, since),
        spec: ContainerSpec {
            pool: Some("default".into()),
            claim: None.into(),
            template: Template::of(Image::Iso("/image.iso".into())).into(),
            scheduling_gates: vec![].into(),
            machine: Machine { mac: Mac::default(), port: 1, image_sha256: "".into() },
        },
        status: ContainerStatus::default(),
    }
}

/// One thing that happens.
#[derive(Clone, Debug)]
enum Act {
    /// A client asks.
    Create { gated: bool },
    /// A gate is opened.
    Open(usize),
    /// A claim is withdrawn.
    Withdraw(usize),
    /// A guest dies.
    Kill(usize),
    /// A guest stands still, or goes on.
    Pause(usize, bool),
    /// A guest finds no room for its disk.
    Starve(usize),
    /// There is room for disks.
    Room,
    /// A guest answered no probe.
    Silence(usize),
    /// The pool's size is changed.
    Scale(u32),
    /// Something else happens to the pool or to what it needs.
    Pool(pools::Act),
    /// A controller of somebody else's wants to see an object's end.
    Hold(usize),
    /// libvirt goes away or comes back.
    Reachable(bool),
    /// Time passes, in milliseconds.
    Wait(u32),
    /// Every object gets a pass.
    Round,
    /// One object gets a pass, which the daemon does not survive: so many calls to the world or the store later.
    CrashedPass { object: usize, calls: usize },
    /// The daemon starts again; perhaps it does not survive that either.
    Restart { calls: Option<usize> },
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        4 => any::<bool>().prop_map(|gated| Act::Create { gated }),
        2 => any::<usize>().prop_map(Act::Open),
        2 => any::<usize>().prop_map(Act::Withdraw),
        1 => any::<usize>().prop_map(Act::Kill),
        1 => (any::<usize>(), any::<bool>()).prop_map(|(which, pause)| Act::Pause(which, pause)),
        1 => any::<usize>().prop_map(Act::Starve),
        1 => Just(Act::Room),
        1 => any::<usize>().prop_map(Act::Silence),
        1 => (0..3_u32).prop_map(Act::Scale),
        2 => pools::act().prop_map(Act::Pool),
        1 => any::<usize>().prop_map(Act::Hold),
        1 => any::<bool>().prop_map(Act::Reachable),
        3 => (0..2_000_u32).prop_map(Act::Wait),
        6 => Just(Act::Round),
        6 => (any::<usize>(), 0..14_usize).prop_map(|(object, calls)| Act::CrashedPass { object, calls }),
        2 => prop::option::of(0..12_usize).prop_map(|calls| Act::Restart { calls }),
    ];
    prop::collection::vec(act, 1..40)
}

fn play(bench: &mut Bench, acts: &[Act]) {
    for act in acts {
        match act {
            Act::Create { gated } => bench.create(*gated),
            Act::Open(which) => bench.open(Some(*which)),
            Act::Withdraw(which) => bench.withdraw(*which),
            Act::Kill(which) => bench.kill(*which),
            Act::Pause(which, pause) => bench.pause(*which, *pause),
            Act::Starve(which) => bench.starve(*which),
            Act::Room => bench.world.set_room(true),
            Act::Silence(which) => bench.silence(*which),
            Act::Scale(replicas) => bench.scale(*replicas),
            Act::Pool(act) => bench.pool_act(act),
            Act::Hold(which) => bench.hold(*which),
            Act::Reachable(reachable) => bench.world.set_reachable(*reachable),
            Act::Wait(millis) => bench.wait(*millis),
            Act::Round => bench.round(),
            Act::CrashedPass { object, calls } => bench.crashed_pass(*object, *calls),
            Act::Restart { calls } => bench.restart(*calls),
        }
        bench.check_always();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, ..ProptestConfig::default() })]

    /// Promises 2, 3, 4, 5 and 7, on both kinds of network, with steps that fail by themselves or not.
    #[test]
    fn random_histories_converge_and_keep_the_promises(acts in acts(), nat: bool, flaky: bool) {
        let mut bench = Bench::new(nat, if flaky { 0.1 } else { 0.0 });
        play(&mut bench, &acts);
        bench.settle();
        bench.check_settled();
    }
}

/// Every crash point of one whole life, one after the other: nothing is left to chance.
#[test]
fn a_crash_at_any_call_of_a_whole_life_loses_and_leaks_nothing() {
    for nat in [false, true] {
        for calls in 0..60 {
            let mut bench = Bench::new(nat, 0.0);
            bench.create(false);
            bench.crash_after(calls);
            for _ in 0..30 {
                bench.round_or_crash();
                bench.wait(100);
            }
            bench.check_always();
            bench.settle();
            assert_eq!(bench.bound(), 1, "nat {nat}, crash after {calls} calls");
            bench.check_settled();

            bench.withdraw(0);
            bench.crash_after(calls);
            for _ in 0..10 {
                bench.round_or_crash();
                bench.wait(100);
            }
            bench.settle();
            assert!(bench.world.domains().iter().all(|domain| domain.spec.is_none()), "a domain was left");
            bench.check_settled();
        }
    }
}

#[test]
fn a_pool_fills_up_and_never_overshoots() {
    let mut bench = Bench::new(true, 0.0);
    bench.scale(2);
    bench.settle();
    assert_eq!((bench.ready(), bench.bound()), (2, 0));
    for _ in 0..bench::MAX + 2 {
        bench.create(false);
        bench.check_always();
    }
    bench.settle();
    assert_eq!(bench.bound(), bench::MAX as usize, "claims beyond the limit were granted, or fewer");
    bench.check_settled();
}

#[test]
fn a_restart_withdraws_a_claim_that_nobody_waits_for_and_keeps_a_bound_one() {
    let mut bench = Bench::new(false, 0.0);
    bench.create(false);
    bench.settle();
    bench.create(false);
    bench.round();
    bench.restart(None);
    bench.settle();
    assert_eq!(bench.bound(), 1);
    assert_eq!(bench.world.domains().iter().filter(|domain| domain.spec.is_some()).count(), 1);
    bench.check_settled();
}

#[test]
fn a_restart_says_of_a_bound_claim_that_its_client_may_not_know_of_it_unless_that_was_noted() {
    for noted in [true, false] {
        let mut bench = Bench::new(false, 0.0);
        bench.create(false);
        bench.settle();
        if noted {
            bench.delivered();
        }
        for _ in 0..2 {
            bench.restart(None);
            bench.settle();
            let claims = bench.claims_of_clients();
            let doubt = claims[0].status.conditions.iter().find(|condition| condition.kind == DELIVERED);
            assert_eq!(doubt.map(|condition| condition.status.as_str()), (!noted).then_some("Unknown"));
            assert_eq!((claims.len(), bench.bound(), claims[0].status.delivered_at.is_some()), (1, 1, noted));
            bench.check_settled();
        }
    }
}

/// Warm and cold ones: who uses a machine keeps it, and what waited is made again.
#[test]
fn machines_in_use_outlive_the_store_and_their_claims_still_end_them() {
    for nat in [false, true] {
        let mut bench = Bench::new(nat, 0.0);
        bench.create(false);
        bench.scale(1);
        bench.settle();
        bench.create(false);
        bench.settle();
        let before = bench.containers();
        assert_eq!((bench.bound(), bench.ready()), (2, 1));
        bench.lose_the_store();
        bench.restart(None);
        bench.settle();
        let after = bench.containers();
        assert_eq!(after.len(), 2, "what waited was ended");
        for c in &after {
            let same = before.iter().find(|old| old.uuid() == c.uuid()).unwrap();
            assert_eq!(
                (&c.spec, &c.status.bound_at, c.status.phase),
                (&same.spec, &same.status.bound_at, Phase::Bound)
            );
        }
        assert_eq!((bench.world.forwards().len(), bench.pool().status.containers), (2, 2));
        bench.check_remembered();
        bench.withdraw(0);
        bench.withdraw(0);
        bench.settle();
        assert_eq!((bench.containers().len(), bench.pool().status.containers, bench.world.forwards().len()), (0, 0, 0));
    }
}

#[test]
fn a_domain_of_ours_without_a_record_is_removed_and_a_foreign_one_stays() {
    let mut bench = Bench::new(false, 0.0);
    bench.orphan();
    bench.restart(None);
    bench.settle();
    bench.check_settled();
}

#[test]
fn a_start_tells_of_more_machines_than_fit_into_one_transaction() {
    const MACHINES: usize = 1_100;
    let mut bench = Bench::new(false, 0.0);
    bench.create(false);
    bench.settle();
    let like = bench.containers().remove(0);
    for number in 0..MACHINES {
        let mut c = like.clone();
        c.metadata.uid = uuid::Uuid::from_u128(number as u128 + 1);
        c.metadata.name = c.metadata.uid.to_string();
        bench.store.txn(crate::store::Txn::default().write(&c)).wait().unwrap();
    }
    bench.restart(None);
    let told = bench.events().iter().filter(|event| event.kind == EventKind::AdoptionRefused).count();
    assert_eq!(told, MACHINES);
}
