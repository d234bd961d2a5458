//! What a commit shows, and what is told of it.

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use uuid::Uuid;

use super::records::{Counted, count, follow};
use super::*;
use crate::model::{
    ClaimPhase, ClaimSpec, ClaimStatus, Container, ContainerClaim, ContainerSpec, ContainerStatus, DEFAULT_NAMESPACE,
    Image, Machine, Object, ObjectMeta, Origin, Phase, Template,
};
use crate::store::{Batch, Change, Kv, records};

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap()
}

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

fn container(made: i64, phase: Phase) -> Container {
    let metadata = ObjectMeta::new(DEFAULT_NAMESPACE, "machine", Uuid::from_u128(1), at(made));
    let machine = Machine { mac: "02:00:00:00:00:01".parse().unwrap(), port: 10_000, image_sha256: "".into() };
    let template = Template::of(Image::Iso("/i.iso".into()));
    let spec = ContainerSpec {
        pool: Some("a".into()),
        claim: None.into(),
        template: template.into(),
        scheduling_gates: vec![].into(),
        machine,
    };
    Container { metadata, spec, status: ContainerStatus { phase, ..ContainerStatus::default() } }
}

fn claim(made: i64, phase: ClaimPhase) -> ContainerClaim {
    let metadata = ObjectMeta::new(DEFAULT_NAMESPACE, "wish", Uuid::from_u128(2), at(made));
    let status = ClaimStatus { phase, ..ClaimStatus::default() };
    ContainerClaim { metadata, spec: ClaimSpec::of("a", Origin::Object), status }
}

fn kv<T: Object + Serialize>(object: &T) -> Kv {
    let value = serde_json::to_vec(object).unwrap().into();
    Kv { key: records::key(&object.object_ref()).into(), value, create_rev: 2, mod_rev: 3 }
}

fn changed<T: Object + Serialize>(before: Option<&T>, after: Option<&T>) -> Change {
    match (before, after) {
        (before, Some(after)) => Change::Put { kv: kv(after), prev: before.map(kv) },
        (Some(before), None) => Change::Delete { prev: kv(before) },
        (None, None) => unreachable!("nothing changed"),
    }
}

fn shown(changes: Vec<Change>, now: i64) -> Vec<Counted> {
    count(&Batch { rev: 3, changes }, at(now))
}

/// A claim as it is bound at 20 s.
fn bound(made: i64) -> ContainerClaim {
    let mut bound = claim(made, ClaimPhase::Bound);
    (bound.status.container, bound.status.bound_at) = (Some("machine".into()), Some(at(20)));
    bound
}

fn ready(made: i64, ready: i64) -> Container {
    let mut c = container(made, Phase::Bound);
    (c.status.started_at, c.status.ready_at) = (Some(at(made)), Some(at(ready)));
    c
}

#[test]
fn a_claim_is_warm_rising_or_cold_by_the_machine_that_it_is_bound_to() {
    let promised = |made| {
        let mut promised = claim(made, ClaimPhase::Pending);
        promised.status.container = Some("machine".into());
        promised
    };
    // (made the claim, made the machine, it was ready, the claim before), how it came to it
    let cases = [
        ((18, 1, 5, None), Start::Warm),
        // From the queue, to one that was made meanwhile.
        ((3, 4, 9, Some(claim(3, ClaimPhase::Pending))), Start::Warm),
        // A key was installed in between.
        ((18, 1, 5, Some(promised(18))), Start::Warm),
        ((18, 12, 19, Some(promised(18))), Start::Rising),
        ((12, 12, 19, Some(promised(12))), Start::Cold),
    ];
    for ((made, born, ready_at, before), expected) in cases {
        let was = ready(born, ready_at);
        let changes = vec![changed(Some(&was), Some(&was)), changed(before.as_ref(), Some(&bound(made)))];
        let counted = shown(changes, 22);
        let waited = seconds(u64::try_from(22 - made).unwrap());
        assert!(counted.contains(&Counted::Claim(expected, Claimed::Bound)), "{counted:?}");
        assert!(counted.contains(&Counted::ClaimTime(expected, waited)), "{counted:?}");
        assert!(counted.contains(&Counted::Stage(Stage::Bind, seconds(2))), "{counted:?}");
    }
}

#[test]
fn a_claim_queues_until_it_is_decided_which_machine_it_gets_and_that_is_counted_once() {
    let (waits, mut placed) = (claim(10, ClaimPhase::Pending), claim(10, ClaimPhase::Pending));
    placed.status.container = Some("machine".into());
    assert_eq!(shown(vec![changed(None, Some(&waits))], 10), []);
    let counted = shown(vec![changed(Some(&waits), Some(&placed))], 15);
    assert_eq!(counted, [Counted::Stage(Stage::Queue, seconds(5))]);
    let bound = bound(10);
    let counted = shown(vec![changed(Some(&placed), Some(&bound))], 21);
    assert!(!counted.iter().any(|one| matches!(one, Counted::Stage(Stage::Queue, _))), "{counted:?}");
    // Bound as it is placed: until the decision, and the rest is its commit.
    assert!(shown(vec![changed(None, Some(&bound))], 21).contains(&Counted::Stage(Stage::Queue, seconds(10))));
    // Another change of a claim that is bound is none of these.
    assert_eq!(shown(vec![changed(Some(&bound), Some(&bound))], 30), []);
}

#[test]
fn every_claim_ends_in_one_way() {
    let of = |phase| claim(1, phase);
    let cases = [
        (ClaimPhase::Pending, None, Some(Counted::Claim(Start::None, Claimed::Withdrawn))),
        (ClaimPhase::Pending, Some(ClaimPhase::Failed), Some(Counted::Claim(Start::None, Claimed::Failed))),
        (ClaimPhase::Failed, None, None),
        (ClaimPhase::Bound, None, Some(Counted::End(Ended::Released))),
        (ClaimPhase::Bound, Some(ClaimPhase::Lost), Some(Counted::End(Ended::Lost))),
        (ClaimPhase::Bound, Some(ClaimPhase::Expired), Some(Counted::End(Ended::Expired))),
        (ClaimPhase::Lost, None, None),
        (ClaimPhase::Expired, None, None),
    ];
    for (before, after, expected) in cases {
        let after = after.map(of);
        let counted = shown(vec![changed(Some(&of(before)), after.as_ref())], 9);
        assert_eq!(counted, Vec::from_iter(expected), "{before:?} to {after:?}");
    }
}

#[test]
fn a_boot_takes_from_the_wish_for_a_domain_until_ready_and_a_failure_says_why() {
    let mut boots = container(1, Phase::Booting);
    boots.status.started_at = Some(at(2));
    let mut addressed = boots.clone();
    addressed.status.address = Some([192, 168, 127, 2].into());
    let counted = shown(vec![changed(Some(&boots), Some(&addressed))], 5);
    assert_eq!(counted, [Counted::Stage(Stage::Address, seconds(3))]);
    let mut done = addressed.clone();
    (done.status.phase, done.status.ready_at) = (Phase::Ready, Some(at(9)));
    let counted = shown(vec![changed(Some(&addressed), Some(&done))], 30);
    assert_eq!(counted, [Counted::Stage(Stage::Boot, seconds(7))]);
    assert_eq!(shown(vec![changed(Some(&done), Some(&done))], 31), []);
    let mut failed = done.clone();
    (failed.status.phase, failed.status.reason) = (Phase::Failed, "DomainGone".into());
    let counted = shown(vec![changed(Some(&done), Some(&failed))], 31);
    assert_eq!(counted, [Counted::Failure("DomainGone".into())]);
}

#[test]
fn a_clock_that_was_set_back_between_two_runs_makes_no_negative_time() {
    let mut bound = bound(50);
    bound.status.bound_at = Some(at(50) + SignedDuration::from_secs(9));
    let counted = shown(vec![changed(None, Some(&bound))], 20);
    assert!(counted.contains(&Counted::Stage(Stage::Bind, Duration::ZERO)), "{counted:?}");
}

/// What was counted is seen by whoever asks, and a store that forgot changes before they were counted says so.
#[tokio::test]
async fn changes_that_come_faster_than_they_are_counted_are_told_of() {
    use std::sync::Arc;

    use tokio_util::sync::CancellationToken;

    use crate::store::{HistoryLimits, Store, Txn, memory_with};

    let store: Arc<dyn Store> = memory_with(HistoryLimits { revisions: 2, bytes: 1 << 20 });
    let (metrics, cancel) = (Arc::new(Metrics::new()), CancellationToken::new());
    let following = follow(Arc::clone(&metrics), Arc::clone(&store), Arc::new(|| at(30)), cancel.clone());
    // Nobody counts yet, and the store remembers two revisions.
    for _ in 0..5 {
        store.txn(Txn::default().write(&claim(1, ClaimPhase::Pending))).await.unwrap();
    }
    let following = tokio::spawn(following);
    while metrics.missed.get() == 0 {
        tokio::task::yield_now().await;
    }
    store.txn(Txn::default().write(&bound(1))).await.unwrap();
    let warm = OfClaim { start: Start::Warm, result: Claimed::Bound };
    while metrics.claims.get_or_create(&warm).get() == 0 {
        tokio::task::yield_now().await;
    }
    cancel.cancel();
    following.await.unwrap();
    assert_eq!(metrics.missed.get(), 1);
}
