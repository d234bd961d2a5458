//! The promises, over random histories of claims that are objects, of lifetimes, and of containers without pool.

use proptest::prelude::*;

use super::bench::Bench;
use super::bench::claims::{Asks, KEY, Queue};
use crate::api::{ApiError, LoginError};
use crate::model::*;

/// One thing that happens.
#[derive(Clone, Debug)]
enum Act {
    /// A client asks.
    Create(Asks),
    /// Somebody writes a claim.
    Claim(Asks),
    /// Somebody writes a container without pool.
    Standalone,
    /// A client gives back.
    Withdraw(usize),
    /// Somebody deletes a claim.
    DeleteClaim(usize),
    /// Somebody deletes a container without pool.
    DeleteStandalone(usize),
    /// Somebody wants to keep a machine for another time.
    Extend(usize, u32),
    /// Connections are opened and closed.
    Connect(usize, u32),
    /// A guest dies.
    Kill(usize),
    /// The pool's size is changed.
    Scale(u32),
    /// libvirt goes away or comes back.
    Reachable(bool),
    /// Time passes, in milliseconds.
    Wait(u32),
    /// Every object gets a pass.
    Round,
    /// One object gets a pass, which the daemon does not survive.
    CrashedPass { object: usize, calls: usize },
    /// The daemon starts again; perhaps it does not survive that either.
    Restart { calls: Option<usize> },
}

fn asks() -> impl Strategy<Value = Asks> {
    (prop::option::of(1..90_u32), prop::option::of(1..60_u32), prop::bool::weighted(0.3))
        .prop_map(|(ttl, timeout, key)| Asks { ttl, timeout, key })
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        3 => asks().prop_map(Act::Create),
        5 => asks().prop_map(Act::Claim),
        1 => Just(Act::Standalone),
        1 => any::<usize>().prop_map(Act::Withdraw),
        2 => any::<usize>().prop_map(Act::DeleteClaim),
        1 => any::<usize>().prop_map(Act::DeleteStandalone),
        2 => (any::<usize>(), 1..90_u32).prop_map(|(which, seconds)| Act::Extend(which, seconds)),
        2 => (any::<usize>(), 0..3_u32).prop_map(|(which, open)| Act::Connect(which, open)),
        2 => any::<usize>().prop_map(Act::Kill),
        1 => (0..3_u32).prop_map(Act::Scale),
        1 => any::<bool>().prop_map(Act::Reachable),
        4 => prop_oneof![0..2_000_u32, 0..40_000_u32].prop_map(Act::Wait),
        8 => Just(Act::Round),
        6 => (any::<usize>(), 0..14_usize).prop_map(|(object, calls)| Act::CrashedPass { object, calls }),
        2 => prop::option::of(0..12_usize).prop_map(|calls| Act::Restart { calls }),
    ];
    prop::collection::vec(act, 1..50)
}

fn play(bench: &mut Bench, acts: &[Act], queue: &mut Queue) {
    for act in acts {
        match act {
            Act::Create(asks) => bench.create_with(*asks),
            Act::Claim(asks) => drop(bench.claim(*asks)),
            Act::Standalone => bench.standalone(),
            Act::Withdraw(which) => bench.withdraw(*which),
            Act::DeleteClaim(which) => bench.delete_claim(*which),
            Act::DeleteStandalone(which) => bench.delete_standalone(*which),
            Act::Extend(which, seconds) => bench.extend(*which, *seconds),
            Act::Connect(which, open) => bench.connect(Some((*which, *open))),
            Act::Kill(which) => bench.kill(*which),
            Act::Scale(replicas) => bench.scale(*replicas),
            Act::Reachable(reachable) => bench.world.set_reachable(*reachable),
            Act::Wait(millis) => bench.wait(*millis),
            Act::Round => bench.round(),
            Act::CrashedPass { object, calls } => bench.crashed_pass(*object, *calls),
            Act::Restart { calls } => bench.restart(*calls),
        }
        bench.check_always();
        bench.check_queue(queue);
    }
}

fn limits(ttl: Option<u32>, most: Option<u32>, idle: Option<u32>) -> Lifetime {
    Lifetime { ttl_seconds: ttl, max_ttl_seconds: most, idle_timeout_seconds: idle, max_ready_seconds: None }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    /// Promises 2, 3, 4 and 5 with everything that a claim can meet: exactly once, never again, in turn, in time.
    #[test]
    fn random_histories_of_claims_and_lifetimes_keep_the_promises(
        acts in acts(), nat: bool, flaky: bool, limited: bool, replicas in 0..3_u32,
    ) {
        let mut bench = Bench::new(nat, if flaky { 0.1 } else { 0.0 });
        if limited {
            bench.limit(limits(Some(30), Some(60), Some(20)));
        }
        bench.scale(replicas);
        let mut queue = Queue::default();
        play(&mut bench, &acts, &mut queue);
        bench.connect(None);
        bench.settle();
        bench.check_queue(&mut queue);
        bench.check_claims_settled();
    }
}

fn phase(bench: &Bench, claim: &ObjectRef) -> ClaimPhase {
    bench.claim_now(claim).unwrap().status.phase
}

#[test]
fn claims_wait_in_their_order_and_a_client_does_not_overtake_them() {
    let mut bench = Bench::new(false, 0.0);
    let claims: Vec<ObjectRef> = (0..super::bench::MAX + 2)
        .map(|_| {
            bench.wait(1);
            bench.claim(Asks::default())
        })
        .collect();
    bench.settle();
    let (bound, waiting) = claims.split_at(super::bench::MAX as usize);
    assert!(bound.iter().all(|claim| phase(&bench, claim) == ClaimPhase::Bound));
    assert!(waiting.iter().all(|claim| phase(&bench, claim) == ClaimPhase::Pending));
    // A place becomes free while a client asks: it is not the client's.
    bench.delete_claim(0);
    for _ in 0..10 {
        bench.round();
        bench.create_with(Asks::default());
        bench.wait(100);
    }
    bench.settle();
    assert_eq!(phase(&bench, &waiting[0]), ClaimPhase::Bound);
    assert_eq!(phase(&bench, &waiting[1]), ClaimPhase::Pending);
    assert_eq!(bench.all_claims().len(), claims.len() - 1, "a client overtook");
    bench.check_claims_settled();
}

#[test]
fn a_claim_takes_the_member_that_boots_already() {
    let mut bench = Bench::new(false, 0.0);
    bench.scale(1);
    bench.round();
    bench.round();
    let booting = bench.all_containers();
    assert_eq!(booting.len(), 1);
    bench.scale(0);
    bench.create_with(Asks::default());
    bench.settle();
    let [only] = &bench.all_containers()[..] else { panic!("another machine was made") };
    assert_eq!((only.uuid(), only.status.phase), (booting[0].uuid(), Phase::Bound));
    assert_eq!(bench.told(EventKind::CreatedContainer), 1);
    bench.check_settled();
}

#[test]
fn a_member_whose_death_was_hinted_at_is_not_given_away_before_it_was_looked_at() {
    let mut bench = Bench::new(false, 0.0);
    bench.scale(2);
    bench.settle();
    let mut members = bench.all_containers();
    members.sort_by_key(|c| (c.status.ready_at, c.metadata.name.clone()));
    bench.world.kill(members[0].uuid());
    bench.doubt(members[0].uuid());
    bench.create_with(Asks::default());
    let bound = bench.all_containers().into_iter().find(|c| c.status.phase == Phase::Bound).unwrap();
    assert_eq!(bound.uuid(), members[1].uuid());
    // One that was looked at and lives is as good as any.
    bench.settle();
    let living = bench.all_containers().into_iter().find(|c| c.status.phase == Phase::Ready).unwrap();
    bench.doubt(living.uuid());
    bench.passed(&living.object_ref());
    bench.create_with(Asks::default());
    assert_eq!(bench.bound(), 2);
}

#[test]
fn a_claim_whose_machine_dies_is_lost_for_good_and_says_so() {
    let mut bench = Bench::new(true, 0.0);
    bench.scale(1);
    let claim = bench.claim(Asks::default());
    bench.settle();
    assert_eq!(phase(&bench, &claim), ClaimPhase::Bound);
    let machine = bench.claim_now(&claim).unwrap().status.container.unwrap();
    bench.world.kill(machine.parse().unwrap());
    bench.settle();
    bench.seconds(9999);
    bench.settle();
    let lost = bench.claim_now(&claim).unwrap();
    assert_eq!((lost.status.phase, lost.status.container), (ClaimPhase::Lost, Some(machine)));
    assert!(!condition(&lost.status.conditions, "Ready"));
    assert_eq!((bench.told(EventKind::LostClaim), bench.told(EventKind::BoundClaim)), (1, 1));
    bench.check_claims_settled();
    bench.delete_claim(0);
    bench.settle();
    assert_eq!(bench.claim_now(&claim), None);
    bench.check_claims_settled();
}

#[test]
fn a_claim_that_was_promised_a_machine_that_dies_gets_another_one_in_its_turn() {
    let mut bench = Bench::new(false, 0.0);
    let claims: Vec<ObjectRef> = (0..super::bench::MAX + 1)
        .map(|_| {
            bench.wait(1);
            bench.claim(Asks::default())
        })
        .collect();
    let (first, last) = (&claims[0], &claims[super::bench::MAX as usize]);
    for _ in 0..3 {
        while bench.claim_now(first).unwrap().status.container.and_then(|name| bench.container(&name)).is_none() {
            bench.round();
            bench.wait(100);
        }
        bench.round();
        let promised = bench.claim_now(first).unwrap().status;
        assert_eq!(promised.phase, ClaimPhase::Pending, "it is bound already");
        bench.world.kill(promised.container.unwrap().parse().unwrap());
        bench.round();
        assert_eq!(bench.claim_now(first).unwrap().status.container, None);
    }
    bench.settle();
    assert_eq!(
        (phase(&bench, first), phase(&bench, last)),
        (ClaimPhase::Bound, ClaimPhase::Pending),
        "it lost its turn"
    );
    let told = [EventKind::RequeuedClaim, EventKind::FailedClaim, EventKind::LostClaim].map(|kind| bench.told(kind));
    assert_eq!(told, [3, 0, 0]);
    bench.check_claims_settled();
}

#[test]
fn a_claim_that_is_not_bound_in_time_fails_and_is_not_tried_again() {
    let mut bench = Bench::new(false, 0.0);
    let claims: Vec<ObjectRef> = (0..=super::bench::MAX).map(|_| bench.claim(Asks::default())).collect();
    bench.wait(1);
    let late = bench.claim(Asks { timeout: Some(30), ..Asks::default() });
    for _ in 0..20 {
        bench.round();
        bench.wait(500);
    }
    assert_eq!(phase(&bench, &late), ClaimPhase::Pending);
    bench.settle();
    let failed = bench.claim_now(&late).unwrap();
    assert_eq!(failed.status.phase, ClaimPhase::Failed);
    assert!(failed.status.message.contains("30 s"), "{}", failed.status.message);
    // A place that becomes free later is not its own any more.
    for _ in &claims {
        bench.delete_claim(0);
        bench.settle();
    }
    assert_eq!(phase(&bench, &late), ClaimPhase::Failed);
    assert_eq!(bench.told(EventKind::FailedClaim), 1);
}

#[test]
fn a_lifetime_ends_in_time_and_what_extends_it_ends_at_the_maximum() {
    let mut bench = Bench::new(false, 0.0);
    bench.limit(limits(Some(30), Some(60), None));
    let claim = bench.claim(Asks { ttl: Some(999), ..Asks::default() });
    for _ in 0..20 {
        bench.round();
        bench.wait(100);
    }
    let bound = bench.claim_now(&claim).unwrap().status;
    let (since, deadline) = (bound.bound_at.unwrap(), bound.expires_at.unwrap());
    assert_eq!(deadline.duration_since(since).as_secs(), 60, "over the maximum");
    let used = u32::try_from(bench.since(since).as_secs()).unwrap();
    bench.extend(0, 20);
    bench.round();
    let shorter = bench.claim_now(&claim).unwrap().status.expires_at.unwrap();
    assert!(shorter < deadline);
    bench.extend(0, 61 - used);
    bench.round();
    assert_eq!(bench.claim_now(&claim).unwrap().status.expires_at, Some(shorter), "beyond the maximum it is refused");
    bench.settle();
    let ended = bench.claim_now(&claim).unwrap().status;
    assert_eq!(ended.phase, ClaimPhase::Expired);
    let late = ended.finished_at.unwrap().duration_since(shorter);
    assert!((0..=1).contains(&late.as_secs()), "{late:?} after its time");
    for (kind, count) in [(EventKind::Expiring, 1), (EventKind::Expired, 1), (EventKind::ExtendedClaim, 1)] {
        assert_eq!(bench.told(kind), count, "{kind:?}");
    }
    bench.check_claims_settled();
}

#[test]
fn a_machine_in_use_outlives_its_idle_timeout_and_one_that_is_left_does_not() {
    let mut bench = Bench::new(true, 0.0);
    bench.limit(limits(None, None, Some(20)));
    let claim = bench.claim(Asks::default());
    for _ in 0..20 {
        bench.round();
        bench.wait(100);
    }
    bench.connect(Some((0, 1)));
    for _ in 0..20 {
        bench.round();
        bench.seconds(5);
    }
    assert_eq!(phase(&bench, &claim), ClaimPhase::Bound);
    bench.connect(None);
    bench.settle();
    assert_eq!(phase(&bench, &claim), ClaimPhase::Expired);
    assert!(bench.claim_now(&claim).unwrap().status.message.contains("connected"));
    bench.check_claims_settled();
}

#[test]
fn a_key_is_in_the_guest_before_the_claim_is_bound() {
    let mut bench = Bench::new(false, 0.0);
    bench.scale(1);
    bench.settle();
    bench.create_with(Asks { key: true, ..Asks::default() });
    bench.claim(Asks { key: true, ..Asks::default() });
    assert_eq!(bench.bound(), 0, "bound before its key was there");
    bench.settle();
    assert_eq!(bench.bound(), 2);
    for c in bench.all_containers().iter().filter(|c| c.status.phase == Phase::Bound) {
        let guest = bench.world.domains().into_iter().find(|domain| domain.uuid == c.uuid()).unwrap();
        assert_eq!(guest.keys, [KEY]);
    }
    bench.check_claims_settled();
}

#[test]
fn a_container_without_pool_stays_as_it_ended_and_holds_nothing() {
    let mut bench = Bench::new(true, 0.0);
    bench.standalone();
    bench.settle();
    let [alone] = &bench.all_containers()[..] else { panic!("there is one") };
    assert_eq!(alone.status.phase, Phase::Ready);
    bench.world.kill(alone.uuid());
    bench.settle();
    let [ended] = &bench.all_containers()[..] else { panic!("it was removed, or made again") };
    assert_eq!((ended.status.phase, ended.status.reason.as_str()), (Phase::Failed, "DomainGone"));
    bench.check_claims_settled();
    bench.delete_standalone(0);
    bench.settle();
    assert!(bench.all_containers().is_empty());
    assert_eq!(bench.told(EventKind::DestroyedContainer), 1);
    bench.check_claims_settled();
}

#[test]
fn a_port_that_was_given_back_and_taken_by_another_is_the_others() {
    let mut bench = Bench::new(false, 0.0);
    bench.standalone();
    bench.settle();
    let ended = bench.all_containers().remove(0);
    bench.world.kill(ended.uuid());
    bench.settle();
    // All ports of the range, and so its own too.
    (0..64).for_each(|_| bench.standalone());
    let heir = |bench: &Bench| {
        let of_its_port = |c: &Container| c.spec.machine.port == ended.spec.machine.port && c.uuid() != ended.uuid();
        bench.all_containers().into_iter().find(of_its_port).unwrap()
    };
    let heir = heir(&bench);
    bench.settle();
    bench.delete(&bench.container(&ended.metadata.name).unwrap());
    bench.settle();
    assert_eq!(bench.container(&ended.metadata.name), None);
    assert_eq!(bench.world.forwards()[&ended.spec.machine.port], heir.uuid());
    bench.check_claims_settled();
}

#[test]
fn the_event_log_keeps_the_newest_and_its_numbers() {
    let mut bench = Bench::new(false, 0.0);
    bench.keep_events(5);
    for _ in 0..3 {
        bench.create_with(Asks::default());
        bench.settle();
        bench.withdraw(0);
        bench.settle();
    }
    bench.restart(None);
    let log = bench.event_numbers();
    assert_eq!(log.len(), 5, "{log:?}");
    bench.create_with(Asks::default());
    let after = bench.event_numbers();
    assert_eq!(after[..5], log);
    assert_eq!(after[5], log[4] + 1, "a number was given twice, or left out");
}

#[test]
fn a_login_is_told_once_when_there_is_one() {
    let mut bench = Bench::new(false, 0.0);
    let claim = bench.claim(Asks::default());
    let refused = |bench: &Bench, object: &ObjectRef| match bench.login(object) {
        Err(ApiError::Login(error)) => error,
        other => panic!("{other:?}"),
    };
    assert!(matches!(refused(&bench, &claim), LoginError::NotReady { .. }));
    bench.create_with(Asks::default());
    bench.standalone();
    bench.settle();
    let login = bench.login(&claim).unwrap();
    assert!(login.username.starts_with("user_"));
    assert!(matches!(refused(&bench, &claim), LoginError::Read { .. }));
    let containers = bench.all_containers();
    let alone = containers.iter().find(|c| c.spec.pool.is_none()).unwrap().object_ref();
    assert_eq!(bench.login(&alone).unwrap().container.to_string().len(), 36);
    assert!(matches!(refused(&bench, &alone), LoginError::Read { .. }));
    let pooled = containers.iter().find(|c| c.spec.pool.is_some()).unwrap().object_ref();
    assert!(matches!(refused(&bench, &pooled), LoginError::NoLogin { .. }));
    let wire = bench.all_claims().into_iter().find(|claim| !claim.object.spec.origin.is_object()).unwrap();
    assert!(matches!(refused(&bench, &wire.object.object_ref()), LoginError::NoLogin { .. }));
    let nobody = ObjectRef { name: "nobody".into(), ..claim };
    assert!(matches!(refused(&bench, &nobody), LoginError::NotFound { .. }));
    bench.settle();
    bench.check_claims_settled();
}
