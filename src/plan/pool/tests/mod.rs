mod histories;

use uuid::Uuid;

use super::*;
use crate::model::{
    ContainerSpec, ContainerStatus, Image, Mac, Machine, Memory, ObjectMeta, PoolSpec, Refill, Said, TEMPLATE_HASH,
    Template, UpdateStrategy,
};

const SHA: &str = "6105d6cc";

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn template() -> Template {
    Template::of(Image::Iso("/i".into()))
}

fn pool(replicas: u32, max_containers: u32, containers: u32) -> ContainerPool {
    let mut spec = PoolSpec::of(replicas, max_containers, template());
    spec.refill.debounce_milliseconds = 0;
    ContainerPool {
        metadata: ObjectMeta::new("default", "default", Uuid::nil(), at(0)),
        spec,
        status: PoolStatus { containers, template_hash: template_hash(&template(), SHA), ..PoolStatus::default() },
    }
}

/// A member of the current template.
fn member(name: &str, phase: Phase, made: i64) -> Container {
    let machine = Machine { mac: Mac::default(), port: 1, image_sha256: SHA.into() };
    let mut metadata = ObjectMeta::new("default", name, Uuid::nil(), at(made));
    metadata.labels.insert(TEMPLATE_HASH.into(), template_hash(&template(), SHA));
    let spec = ContainerSpec {
        pool: Some("default".into()),
        claim: None.into(),
        template: template().into(),
        scheduling_gates: vec![].into(),
        machine,
    };
    let ready_at = (phase == Phase::Ready).then_some(at(made));
    Container { metadata, spec, status: ContainerStatus { phase, ready_at, ..ContainerStatus::default() } }
}

/// One of an earlier template.
fn old(name: &str, phase: Phase, made: i64) -> Container {
    let mut c = member(name, phase, made);
    c.metadata.labels.insert(TEMPLATE_HASH.into(), "earlier".into());
    c
}

fn claimed(name: &str, phase: Phase) -> Container {
    let mut c = member(name, phase, 1);
    c.spec.claim = Some("claim".to_owned()).into();
    c
}

const THERE: Outlook<'_> = Outlook { image: Ok(SHA), hindrance: None };

fn decided(pool: &ContainerPool, members: &[Container], now: i64) -> Decision {
    decide(pool, members, &THERE, at(now))
}

fn next(pool: &ContainerPool, members: &[Container], now: i64) -> Next {
    decided(pool, members, now).next
}

fn gone(name: &str) -> Next {
    Next::Release(name.into())
}

fn said<'a>(status: &'a PoolStatus, kind: &str) -> (&'a str, &'a str, &'a str) {
    let Said { status, reason, message, .. } = &*status.conditions.iter().find(|c| c.kind == kind).unwrap().said;
    (status, reason, message)
}

fn kinds(decision: &Decision) -> Vec<EventKind> {
    decision.events.iter().map(|event| event.kind).collect()
}

/// A pool that has committed a decision.
fn committed(pool: &ContainerPool, decision: &Decision) -> ContainerPool {
    ContainerPool { status: decision.status.clone(), ..pool.clone() }
}

// --- how many ---

#[test]
fn members_on_their_way_and_going_away_count_before_another_is_made() {
    let (booting, going) = (member("a", Phase::Booting, 1), member("b", Phase::Terminating, 1));
    assert_eq!(next(&pool(2, 4, 0), &[], 9), Next::Make(2));
    assert_eq!(next(&pool(2, 4, 1), std::slice::from_ref(&booting), 9), Next::Make(1));
    // Full, and not ready: it looks again when the progress deadline ends.
    let deadline = Next::Look(SignedDuration::from_secs(600));
    assert_eq!(next(&pool(1, 4, 1), std::slice::from_ref(&booting), 9), deadline);
    assert_eq!(next(&pool(2, 4, 2), &[booting.clone(), going], 9), deadline);
    // One that is going from its claim holds a place of the limit, and none of the members'.
    assert_eq!(next(&pool(2, 3, 2), &[booting.clone(), claimed("c", Phase::Terminating)], 9), Next::Make(1));
    assert_eq!(next(&pool(2, 2, 2), &[booting, claimed("c", Phase::Terminating)], 9), deadline);
}

#[test]
fn scaling_down_lets_the_not_ready_go_first_then_the_outdated_then_the_newest_and_never_a_claimed_one() {
    let (bound, cold) = (claimed("bound", Phase::Bound), claimed("cold", Phase::Booting));
    let mut members = vec![
        bound.clone(),
        cold.clone(),
        member("oldest", Phase::Ready, 1),
        member("newest", Phase::Ready, 5),
        old("outdated", Phase::Ready, 0),
        member("booting", Phase::Booting, 0),
    ];
    for first in ["booting", "outdated", "newest", "oldest"] {
        assert_eq!(next(&pool(0, 9, 6), &members, 9), gone(first));
        members.retain(|c| c.metadata.name != first);
    }
    assert_eq!(next(&pool(0, 9, 2), &members, 9), Next::Rest);
}

#[test]
fn a_limit_that_was_lowered_takes_members_and_no_claimed_ones() {
    let members = [claimed("a", Phase::Bound), claimed("b", Phase::Bound), member("c", Phase::Ready, 1)];
    assert_eq!(next(&pool(1, 2, 3), &members, 9), gone("c"));
    assert_eq!(next(&pool(1, 1, 2), &members[..2], 9), Next::Rest);
}

#[test]
fn more_replicas_than_containers_fill_up_to_the_limit_and_the_condition_says_so() {
    let members = [member("a", Phase::Ready, 1), member("b", Phase::Ready, 1)];
    assert_eq!(next(&pool(3, 2, 1), &members[..1], 9), Next::Make(1));
    let decision = decided(&pool(3, 2, 2), &members, 9);
    assert_eq!(decision.next, Next::Rest);
    let (status, reason, message) = said(&decision.status, "Available");
    assert_eq!((status, reason), ("False", "MoreThanMaxContainers"));
    assert!(message.contains("2 of 3") && message.contains("maxContainers (2)"), "{message}");
}

#[test]
fn a_deleted_pool_empties_itself_and_goes_when_the_last_bound_one_has_gone() {
    let mut deleted = pool(2, 4, 2);
    deleted.metadata.deletion_timestamp = Some(at(1)).into();
    deleted.spec.paused = true;
    let bound = claimed("bound", Phase::Bound);
    assert_eq!(next(&deleted, &[bound.clone(), member("ready", Phase::Ready, 1)], 2), gone("ready"));
    let rests = decided(&deleted, &[bound], 2);
    assert_eq!(rests.next, Next::Rest);
    let (there, reason, message) = said(&rests.status, "Available");
    assert!((there, reason) == ("False", "Deleting") && message.contains("1 machines"), "{reason}: {message}");
    deleted.status.containers = 0;
    assert_eq!(next(&deleted, &[], 2), Next::Remove);
}

#[test]
fn a_paused_pool_makes_and_takes_nothing() {
    let mut paused = pool(2, 4, 1);
    paused.spec.paused = true;
    let mut aged = old("a", Phase::Ready, 1);
    aged.spec.template.lifetime.max_ready_seconds = Some(1);
    let decision = decided(&paused, &[aged.clone()], 9);
    assert_eq!((decision.next.clone(), decision.events.len()), (Next::Rest, 0));
    assert_eq!(said(&decision.status, "Progressing").1, "Paused");
    paused.spec.replicas = 0;
    assert_eq!(next(&paused, &[aged], 9), Next::Rest);
    // Resumed, its progress deadline begins anew.
    let mut resumed = committed(&pool(2, 4, 0), &decision);
    resumed.status.containers = 0;
    let decision = decided(&resumed, &[], 10_000);
    assert_eq!((said(&decision.status, "Progressing").1, decision.next), ("Filling", Next::Make(2)));
}

// --- how fast ---

#[test]
fn refill_waits_after_the_last_member_was_taken() {
    let mut filled = pool(2, 9, 2);
    filled.spec.refill.debounce_milliseconds = 1500;
    filled.status.ready_replicas = 2;
    let left = [member("a", Phase::Ready, 1), claimed("b", Phase::Bound)];
    let decision = decided(&filled, &left, 9);
    assert_eq!(decision.next, Next::Look(SignedDuration::from_millis(1500)));
    let taken = committed(&filled, &decision);
    assert_eq!(next(&taken, &left, 10), Next::Look(SignedDuration::from_millis(500)));
    assert_eq!(next(&taken, &left, 11), Next::Make(1));
    // The clock was set back an hour.
    assert_eq!(next(&taken, &left, 9 - 3600), Next::Make(1));
    // Another one is taken.
    let more = [claimed("a", Phase::Bound), claimed("b", Phase::Bound)];
    assert_eq!(next(&taken, &more, 11), Next::Look(SignedDuration::from_millis(1500)));
}

#[test]
fn no_more_boot_at_once_than_allowed() {
    let mut slow = pool(4, 9, 2);
    slow.spec.refill = Refill { max_starting: 2, ..slow.spec.refill };
    let (booting, pending) = (member("a", Phase::Booting, 1), member("b", Phase::Pending, 1));
    let deadline = Next::Look(SignedDuration::from_secs(600));
    assert_eq!(next(&slow, &[booting.clone(), pending], 9), deadline);
    assert_eq!(next(&slow, &[booting, member("b", Phase::Ready, 1)], 9), Next::Make(1));
    slow.spec.refill.max_starting = 3;
    assert_eq!(next(&slow, &[member("b", Phase::Ready, 1)], 9), Next::Make(3), "as many as may");
    slow.spec.replicas = 400;
    (slow.spec.max_containers, slow.spec.refill.max_starting) = (400, 400);
    assert_eq!(next(&slow, &[], 9), Next::Make(MOST_MADE), "but a pass ends");
    // Nobody wishes for a pool that never makes anything.
    slow.spec.refill.max_starting = 0;
    assert_eq!(next(&slow, &[], 9), Next::Make(1));
}

#[test]
fn no_more_are_begun_in_a_minute_than_allowed() {
    let mut slow = pool(9, 9, 0);
    slow.spec.refill.per_minute = Some(2);
    for (second, left) in [(10, 2), (20, 1)] {
        assert_eq!(next(&slow, &[], second), Next::Make(left));
        count_in(&mut slow.status, &slow.spec, at(second));
    }
    assert_eq!(next(&slow, &[], 30), Next::Look(SignedDuration::from_secs(40)));
    assert_eq!(next(&slow, &[], 70), Next::Make(2));
    count_in(&mut slow.status, &slow.spec, at(70));
    assert_eq!(slow.status.refill_window.unwrap().made, 1);
    assert_eq!(slow.status.containers, 3);
    slow.spec.refill.per_minute = None;
    count_in(&mut slow.status, &slow.spec, at(71));
    assert_eq!(slow.status.refill_window, None);
}

#[test]
fn after_members_failed_the_next_one_waits_and_the_condition_says_why() {
    let mut failing = pool(1, 4, 1);
    let ended = ContainerStatus { phase: Phase::Failed, message: "no kernel".into(), ..ContainerStatus::default() };
    count_out(&mut failing.status, &member("a", Phase::Failed, 1), &ended, at(10));
    assert_eq!((failing.status.containers, failing.status.failures), (0, 1));
    let decision = decided(&failing, &[], 10);
    assert_eq!(decision.next, Next::Look(backoff::FIRST));
    let (status, reason, message) = said(&decision.status, "Degraded");
    assert_eq!((status, reason), ("True", "BootsFail"));
    assert!(message.contains("no kernel"), "{message}");
    assert_eq!(next(&failing, &[], 11), Next::Make(1));
    // What is Ready from before the failure does not end the row, or nothing would slow a bad update down.
    failing.spec.replicas = 2;
    assert_eq!(decided(&failing, &[member("b", Phase::Ready, 10)], 12).status.failures, 1);
    let booted = decided(&failing, &[member("b", Phase::Ready, 11)], 12);
    assert_eq!(booted.status.failures, 0);
    assert_eq!(said(&booted.status, "Degraded").0, "False");
    // Another template is tried at once.
    failing.spec.template.memory = Memory::mebibytes(512);
    assert_eq!(next(&failing, &[], 10), Next::Make(2));
}

#[test]
fn neither_a_claimed_nor_an_outdated_member_that_failed_slows_the_pool() {
    let mut pool = pool(1, 4, 2);
    let ended = ContainerStatus { phase: Phase::Failed, ..ContainerStatus::default() };
    count_out(&mut pool.status, &claimed("a", Phase::Failed), &ended, at(10));
    count_out(&mut pool.status, &old("b", Phase::Failed, 1), &ended, at(10));
    assert_eq!((pool.status.containers, pool.status.failures), (0, 0));
}

#[test]
fn a_member_that_missed_its_boot_deadline_is_replaced_when_it_is_gone() {
    let mut late = pool(1, 2, 1);
    let failed = member("late", Phase::Failed, 1);
    assert!(!matches!(next(&late, std::slice::from_ref(&failed), 9), Next::Make(_)));
    count_out(&mut late.status, &failed, &failed.status, at(9));
    assert_eq!(next(&late, &[], 10), Next::Make(1));
}

// --- updates ---

fn updating(kind: UpdateKind, max_unavailable: u32, replicas: u32) -> ContainerPool {
    let mut pool = pool(replicas, 9, replicas);
    pool.spec.update_strategy = UpdateStrategy { kind, max_unavailable };
    pool
}

#[test]
fn a_hash_covers_the_whole_template_and_the_image() {
    let hash = template_hash(&template(), SHA);
    assert_eq!(hash.len(), 10);
    assert_eq!(hash, template_hash(&template(), SHA));
    assert_ne!(hash, template_hash(&template(), "another"));
    let changes: [fn(&mut Template); 7] = [
        |t| t.image = Image::Iso("/j".into()),
        |t| t.memory = Memory::mebibytes(300),
        |t| t.vcpus = 3,
        |t| t.boot_deadline_seconds = 1,
        |t| t.network.egress = crate::model::Egress::All,
        |t| t.lifetime.idle_timeout_seconds = Some(1),
        |t| t.readiness_probe.period_seconds = 1,
    ];
    for (index, change) in changes.iter().enumerate() {
        let mut changed = template();
        change(&mut changed);
        assert_ne!(template_hash(&changed, SHA), hash, "change {index}");
    }
}

#[test]
fn on_replenish_leaves_outdated_members_until_they_are_claimed() {
    let pool = updating(UpdateKind::OnReplenish, 1, 2);
    let members = [old("a", Phase::Ready, 1), old("b", Phase::Booting, 1)];
    let decision = decided(&pool, &members, 9);
    assert!(matches!(decision.next, Next::Look(_)), "{:?}", decision.next);
    assert_eq!((decision.status.replicas, decision.status.updated_replicas), (2, 0));
    assert_eq!(next(&pool, &[old("b", Phase::Ready, 1), claimed("a", Phase::Bound)], 9), Next::Make(1));
}

#[test]
fn recreate_takes_all_outdated_members_before_it_makes_a_new_one() {
    let pool = updating(UpdateKind::Recreate, 1, 2);
    assert_eq!(next(&pool, &[old("a", Phase::Ready, 1), old("b", Phase::Ready, 1)], 9), gone("a"));
    assert_eq!(next(&pool, &[old("a", Phase::Terminating, 1), old("b", Phase::Ready, 1)], 9), gone("b"));
    let waits = next(&updating(UpdateKind::Recreate, 1, 3), &[old("b", Phase::Terminating, 1)], 9);
    assert!(matches!(waits, Next::Look(_)), "{waits:?}");
    assert_eq!(next(&pool, &[], 9), Next::Make(2));
}

#[test]
fn a_rolling_update_takes_the_not_ready_first_and_never_more_than_may_be_missing() {
    let pool = updating(UpdateKind::RollingUpdate, 1, 3);
    let mut members = [old("a", Phase::Ready, 1), old("b", Phase::Ready, 1), old("c", Phase::Booting, 1)];
    assert_eq!(next(&pool, &members, 9), gone("c"));
    // Two are left, one may be missing: none of them goes until there is a third.
    let waits = next(&pool, &[members[0].clone(), members[1].clone(), member("d", Phase::Booting, 2)], 9);
    assert!(matches!(waits, Next::Look(_)), "{waits:?}");
    members[2] = member("d", Phase::Ready, 3);
    assert_eq!(next(&pool, &members, 9), gone("a"));
    // 0 would never come to an end.
    assert_eq!(next(&updating(UpdateKind::RollingUpdate, 0, 3), &members, 9), gone("a"));
    let two = updating(UpdateKind::RollingUpdate, 2, 3);
    assert_eq!(next(&two, &[members[1].clone(), members[2].clone()], 9), gone("b"));
}

#[test]
fn an_update_is_told_once_when_it_begins_and_once_when_it_is_over() {
    let pool = updating(UpdateKind::RollingUpdate, 1, 1);
    let begun = decided(&pool, &[old("a", Phase::Ready, 1)], 9);
    assert_eq!(kinds(&begun), [EventKind::UpdatingPool]);
    assert_eq!(begun.events[0].details["template_hash"], begun.status.template_hash);
    let pool = committed(&pool, &begun);
    assert_eq!(kinds(&decided(&pool, &[old("a", Phase::Ready, 1)], 9)), []);
    let booting = decided(&pool, &[member("b", Phase::Booting, 2)], 9);
    assert_eq!(kinds(&booting), []);
    assert_eq!(booting.status.updating.as_ref(), Some(&booting.status.template_hash));
    let over = decided(&pool, &[member("b", Phase::Ready, 2)], 9);
    assert_eq!(kinds(&over), [EventKind::UpdatedPool]);
    assert_eq!(said(&over.status, "Progressing").1, "Complete");
    assert_eq!(kinds(&decided(&committed(&pool, &over), &[member("b", Phase::Ready, 2)], 9)), []);
}

#[test]
fn a_member_that_waited_for_its_longest_is_recycled_on_time() {
    let pool = pool(1, 3, 1);
    let mut waiting = member("a", Phase::Ready, 100);
    waiting.spec.template.lifetime.max_ready_seconds = Some(60);
    assert_eq!(next(&pool, &[waiting.clone()], 150), Next::Look(SignedDuration::from_secs(10)));
    assert_eq!(next(&pool, &[waiting.clone()], 160), gone("a"));
    waiting.spec.claim = Some("claim".to_owned()).into();
    waiting.status.phase = Phase::Bound;
    assert_ne!(next(&pool, &[waiting], 160), gone("a"));
}

// --- what hinders ---

#[test]
fn without_an_image_a_pool_holds_says_so_and_looks_again() {
    let filled = pool(2, 4, 1);
    let lost = Outlook { image: Err("image file '/i' cannot be read"), hindrance: None };
    // It cannot tell which members are outdated, so it takes none for that.
    let decision = decide(&filled, &[member("a", Phase::Ready, 1)], &lost, at(9));
    assert_eq!(decision.next, Next::Look(HINDERED_POLL));
    for kind in ["ImageReady", "Degraded"] {
        let (_, reason, message) = said(&decision.status, kind);
        assert_eq!(reason, "ImageMissing");
        assert!(message.contains("'/i'"), "{message}");
    }
    assert_eq!((decision.status.failures, decision.status.updated_replicas), (0, 1));
    let full = decide(&pool(1, 4, 1), &[member("a", Phase::Ready, 1)], &lost, at(9));
    assert_eq!(said(&full.status, "Progressing").1, "ImageMissing", "complete, for all that can be seen");
    let found = decided(&committed(&filled, &decision), &[member("a", Phase::Ready, 1)], 9);
    assert_eq!(found.next, Next::Make(1));
    assert_eq!(said(&found.status, "ImageReady").0, "True");
    assert_eq!(said(&found.status, "Degraded").0, "False");
}

#[test]
fn members_of_an_earlier_image_are_told() {
    let mut earlier = old("a", Phase::Ready, 1);
    earlier.spec.machine.image_sha256 = "earlier".into();
    let decision = decided(&pool(1, 4, 1), &[earlier], 9);
    let (status, reason, message) = said(&decision.status, "ImageReady");
    assert_eq!((status, reason), ("True", "ImageChanged"));
    assert!(message.contains("1 members"), "{message}");
}

#[test]
fn a_hindered_pool_holds_says_why_and_says_so_until_the_next_attempt() {
    let empty = pool(1, 4, 0);
    let full = Hindrance { reason: "HostFull", message: "no memory".into() };
    let hindered = Outlook { hindrance: Some(&full), ..THERE };
    let decision = decide(&empty, [], &hindered, at(9));
    assert_eq!(decision.next, Next::Look(HINDERED_POLL));
    assert_eq!(said(&decision.status, "Degraded"), ("True", "HostFull", "no memory"));
    assert_eq!(said(&decision.status, "Available").1, "HostFull");
    assert_eq!(decision.status.failures, 0);
    // Again: nothing new to commit.
    let held = committed(&empty, &decision);
    assert_eq!(decide(&held, [], &hindered, at(9)).status, held.status);
    // Not tried, because it waits for something else: it stands.
    let mut waits = held.clone();
    waits.status.retry_at = Some(at(12));
    assert_eq!(said(&decided(&waits, &[], 10).status, "Degraded").1, "HostFull");
    // Tried: it is over unless told again.
    assert_eq!(said(&decided(&held, &[], 10).status, "Degraded").0, "False");
    // A pool that lacks nothing is not hindered.
    assert_eq!(said(&decided(&held, &[member("a", Phase::Ready, 1)], 10).status, "Degraded").0, "False");
}

#[test]
fn without_progress_until_the_deadline_the_condition_is_false_and_says_why() {
    let mut stuck = pool(2, 4, 1);
    stuck.spec.progress_deadline_seconds = 60;
    let members = [member("a", Phase::Booting, 1)];
    let begun = decided(&stuck, &members, 100);
    assert_eq!(begun.status.progressed_at, Some(at(100)));
    let stuck = committed(&stuck, &begun);
    let waiting = decided(&stuck, &[member("a", Phase::Booting, 1), member("b", Phase::Booting, 1)], 130);
    assert_eq!(waiting.next, Next::Look(SignedDuration::from_secs(30)));
    let full = Hindrance { reason: "HostFull", message: "no memory".into() };
    let late = decide(&stuck, &members, &Outlook { hindrance: Some(&full), ..THERE }, at(160));
    let (status, reason, message) = said(&late.status, "Progressing");
    assert_eq!((status, reason), ("False", "ProgressDeadlineExceeded"));
    assert!(message.contains("60 s") && message.contains("no memory"), "{message}");
    // One that becomes Ready is progress, and begins the time anew.
    let better = decided(&committed(&stuck, &late), &[member("a", Phase::Ready, 1)], 170);
    assert_eq!(better.status.progressed_at, Some(at(170)));
    assert_eq!(said(&better.status, "Progressing").0, "True");
}

#[test]
fn a_pool_is_available_with_as_many_as_an_update_has_to_leave_and_at_least_one() {
    for (replicas, ready, max_unavailable, available) in [
        (0, 0, 1, "True"),
        (1, 0, 1, "False"),
        (1, 1, 1, "True"),
        (3, 1, 1, "False"),
        (3, 2, 1, "True"),
        (3, 1, 5, "True"),
    ] {
        let mut pool = pool(replicas, 9, ready);
        pool.spec.update_strategy.max_unavailable = max_unavailable;
        let members: Vec<_> = (0..ready).map(|n| member(&n.to_string(), Phase::Ready, 1)).collect();
        let decision = decided(&pool, &members, 9);
        assert_eq!(said(&decision.status, "Available").0, available, "{ready} of {replicas}, less {max_unavailable}");
    }
    let mut members = vec![claimed("a", Phase::Bound), claimed("b", Phase::Bound)];
    assert_eq!(said(&decided(&pool(1, 2, 2), &members, 9).status, "Available").1, "Claimed");
    members.pop();
    assert_eq!(said(&decided(&pool(1, 2, 1), &members, 9).status, "Available").1, "Filling");
}
