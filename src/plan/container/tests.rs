use proptest::prelude::*;
use uuid::Uuid;

use super::conditions::{PAUSED, SEEN};
use super::*;
use crate::model::{
    ClaimSpec, ClaimStatus as Claimed, ContainerSpec, DomainSeen, Image, Keepsake, Lifetime, Machine, ObjectMeta,
    Pause, Template,
};
use crate::plan::probe;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_000_000 + second).unwrap()
}

fn container(claimed: bool) -> Container {
    let uuid = Uuid::from_u128(7);
    Container {
        metadata: ObjectMeta::new("default", &uuid.to_string(), uuid, at(0)),
        spec: ContainerSpec {
            pool: Some("default".into()),
            claim: claimed.then(|| "wire-1".to_owned()).into(),
            template: Template::of(Image::Iso("/image.iso".into())).into(),
            scheduling_gates: vec![].into(),
            machine: Machine { mac: "02:00:00:00:00:01".parse().unwrap(), port: 10_000, image_sha256: "".into() },
        },
        status: ContainerStatus::default(),
    }
}

fn claim() -> ContainerClaim {
    ContainerClaim {
        metadata: ObjectMeta::new("default", "wire-1", Uuid::from_u128(8), at(0)),
        spec: ClaimSpec {
            token_sha256: Some(String::new()),
            ..ClaimSpec::of(
                "default",
                Origin::Wire {
                    client: Client { ip: std::net::Ipv4Addr::LOCALHOST.into(), id: "1234567".into() },
                    run: Uuid::from_u128(9),
                },
            )
        },
        status: Claimed::default(),
    }
}

fn mark() -> Mark {
    Mark { instance: Uuid::from_u128(1), namespace: "default".into(), name: "c".into(), uid: Uuid::from_u128(7) }
}

fn domain(state: DomainState) -> Seen<DomainSeen> {
    Seen::Present(DomainSeen { uuid: Uuid::from_u128(7), name: "d".into(), mark: Some(mark()), state, keepsake: None })
}

fn foreign() -> Seen<DomainSeen> {
    let (uuid, state) = (Uuid::from_u128(7), DomainState::Running);
    Seen::Present(DomainSeen { uuid, name: "d".into(), mark: None, state, keepsake: None })
}

fn seen(domain: Seen<DomainSeen>, forward: Seen<()>) -> Observed {
    let (address, answers) = (Seen::Present(None), Seen::Unknown("nobody asked".into()));
    Observed { domain, address, forward, connections: Seen::Present(None), disk: Seen::Absent, answers, may_boot: true }
}

fn kinds(events: &[Event]) -> Vec<EventKind> {
    events.iter().map(|event| event.kind).collect()
}

/// Walks a container through decide and note as the operator does, and tells every event on the way.
struct Walk {
    c: Container,
    claim: Option<ContainerClaim>,
    told: Vec<EventKind>,
    /// What its domain bears of its records.
    kept: Option<String>,
}

impl Walk {
    fn new(claimed: bool) -> Self {
        Walk { c: container(claimed), claim: claimed.then(claim), told: Vec::new(), kept: None }
    }

    fn take(&mut self, d: Decision) -> Next {
        self.c.status = d.status;
        if let (Some(claim), Some(status)) = (&mut self.claim, d.claim) {
            claim.status = status;
        }
        self.told.extend(kinds(&d.events));
        d.next
    }

    /// What comes, once its domain bears what its records say.
    fn decide(&mut self, seen: &Observed, now: i64) -> Next {
        match self.decide_once(seen, now) {
            Next::Step(Step::Remember) => self.remember(now),
            next => next,
        }
    }

    fn decide_once(&mut self, seen: &Observed, now: i64) -> Next {
        let mut seen = seen.clone();
        if let Seen::Present(domain) = &mut seen.domain {
            domain.keepsake = self.kept.clone();
        }
        let d = decide(&self.c, self.claim.as_ref(), &mark(), &seen, at(now));
        self.take(d)
    }

    fn remember(&mut self, now: i64) -> Next {
        self.kept = Some(Keepsake::digest(&self.c, self.claim.as_ref()));
        self.note(Step::Remember, Outcome::Done, now)
    }

    fn note(&mut self, step: Step, outcome: Outcome, now: i64) -> Next {
        let d = note(&self.c, self.claim.as_ref(), step, &outcome, at(now));
        self.take(d)
    }

    fn up(&mut self) {
        self.up_to(Next::Rest);
    }

    /// As far as its domain and its forward go, and what comes then.
    fn up_to(&mut self, then: Next) {
        let nothing = seen(Seen::Absent, Seen::Absent);
        assert_eq!(self.decide(&nothing, 1), Next::Step(Step::CreateDomain));
        self.note(Step::CreateDomain, Outcome::Done, 1);
        let runs = seen(domain(DomainState::Running), Seen::Absent);
        assert_eq!(self.decide(&runs, 2), Next::Step(Step::Personalise));
        self.note(Step::Personalise, Outcome::Done, 3);
        assert_eq!(self.decide(&runs, 3), Next::Step(Step::Publish));
        self.note(Step::Publish, Outcome::Done, 3);
        assert_eq!(self.decide(&seen(domain(DomainState::Running), Seen::Present(())), 4), then);
    }
}

#[test]
fn a_cold_container_goes_up_with_its_events_in_order_and_binds_its_claim() {
    let mut walk = Walk::new(true);
    walk.up();
    assert_eq!(walk.c.status.phase, Phase::Bound);
    assert_eq!(walk.claim.unwrap().status.phase, ClaimPhase::Bound);
    assert_eq!(
        walk.told,
        [EventKind::CreatedEndpointShell, EventKind::ForwardAdded, EventKind::ReadyContainer, EventKind::BoundClaim]
    );
}

#[test]
fn a_gated_container_waits_without_a_deadline_and_ends_when_it_is_not_wanted() {
    let mut walk = Walk::new(true);
    walk.c.spec.scheduling_gates.push("somebody".into());
    let nothing = seen(Seen::Absent, Seen::Absent);
    for now in [1, 1_000] {
        assert_eq!(walk.decide(&nothing, now), Next::Rest);
    }
    walk.c.spec.scheduling_gates.clear();
    assert_eq!(walk.decide(&nothing, 1_001), Next::Step(Step::CreateDomain));

    let mut walk = Walk::new(true);
    walk.c.spec.scheduling_gates.push("somebody".into());
    walk.claim = None;
    assert_eq!(walk.decide(&nothing, 1), Next::Remove);
    assert_eq!(walk.told, [EventKind::DestroyedContainer]);
}

#[test]
fn a_machine_that_may_not_boot_yet_says_so_and_its_client_does_not_wait_for_ever() {
    let full = Observed { may_boot: false, ..seen(Seen::Absent, Seen::Absent) };
    let deadline = i64::from(Template::of(Image::Iso("/image.iso".into())).boot_deadline_seconds);
    // Nobody waits for a member.
    let mut member = Walk::new(false);
    for now in [0, deadline * 9] {
        assert_eq!(member.decide(&full, now), Next::Rest);
    }
    let said = member.c.status.conditions.iter().find(|c| c.kind == STARTED).unwrap();
    assert_eq!((said.status.as_str(), said.reason.as_str(), said.last_transition_time), ("False", IN_LINE, at(0)));
    assert!(said.message.contains("host.parallel_boots"));
    // Nor before it was claimed.
    let mut claimed = claim();
    claimed.metadata.creation_timestamp = at(deadline * 9);
    member.c.spec.claim = Some(claimed.metadata.name.clone()).into();
    member.claim = Some(claimed);
    let left = SignedDuration::from_secs(deadline) + SignedDuration::from_millis(1);
    assert_eq!(member.decide(&full, deadline * 9), Next::Look(left));
    let mut object = member.c.clone();
    assert_eq!(member.decide(&full, deadline * 10), Next::Look(SignedDuration::from_millis(1)));
    assert_eq!(member.decide(&full, deadline * 10 + 1), Next::Remove);
    let why = &member.claim.unwrap().status.message;
    assert!(why.contains("could not be started within") && why.contains("host.parallel_boots"), "{why}");
    // A claim that is an object has a limit of its own.
    let mut claimed = claim();
    claimed.spec.origin = Origin::Object;
    object.spec.claim = Some(claimed.metadata.name.clone()).into();
    let mut walk = Walk { c: object, claim: Some(claimed), told: vec![], kept: None };
    assert_eq!(walk.decide(&full, deadline * 99), Next::Rest);
    let place = seen(Seen::Absent, Seen::Absent);
    assert_eq!(walk.decide(&place, deadline * 99), Next::Step(Step::CreateDomain));
    walk.note(Step::CreateDomain, Outcome::Done, deadline * 99);
    assert!(condition(&walk.c.status.conditions, STARTED));
}

#[test]
fn a_deleted_claim_that_is_held_is_not_bound_to_a_machine_that_ends() {
    for (held, by_machine, phase) in [
        (true, false, ClaimPhase::Lost),
        (true, true, ClaimPhase::Lost),
        (false, false, ClaimPhase::Bound),
        (false, true, ClaimPhase::Bound),
    ] {
        let mut walk = Walk::new(true);
        walk.up();
        walk.told.clear();
        let claim = walk.claim.as_mut().unwrap();
        claim.metadata.finalizers.extend(held.then(|| "example.org/look".into()));
        claim.metadata.end(at(9));
        if by_machine {
            walk.c.metadata.end(at(9));
        }
        let runs = seen(domain(DomainState::Running), Seen::Present(()));
        assert_eq!(walk.decide(&runs, 9), Next::Step(Step::Withdraw));
        assert_eq!((walk.claim.unwrap().status.phase, walk.told), (phase, vec![]));
    }
}

#[test]
fn one_that_was_about_to_start_when_the_daemon_died_keeps_its_turn() {
    let mut walk = Walk::new(false);
    assert_eq!(walk.decide(&seen(Seen::Absent, Seen::Absent), 1), Next::Step(Step::CreateDomain));
    let full = Observed { may_boot: false, ..seen(Seen::Absent, Seen::Absent) };
    assert_eq!(walk.decide(&full, 2), Next::Step(Step::CreateDomain));
}

#[test]
fn a_pool_member_is_ready_and_not_told_as_created_for_a_client() {
    let mut walk = Walk::new(false);
    walk.up();
    assert_eq!(walk.c.status.phase, Phase::Ready);
    assert_eq!(walk.told, [EventKind::CreatedEndpointShell, EventKind::ForwardAdded, EventKind::ReadyContainer]);
}

#[test]
fn a_deleted_container_closes_its_port_then_ends_its_machine_then_goes() {
    let mut walk = Walk::new(true);
    walk.up();
    walk.told.clear();
    walk.c.metadata.deletion_timestamp = Some(at(5)).into();
    let (runs, off) = (domain(DomainState::Running), Seen::Absent);
    assert_eq!(walk.decide(&seen(runs.clone(), Seen::Present(())), 5), Next::Step(Step::Withdraw));
    assert_eq!(walk.decide(&seen(runs, Seen::Absent), 5), Next::Step(Step::DestroyDomain));
    assert_eq!(walk.decide(&seen(off, Seen::Absent), 6), Next::Remove);
    assert_eq!(walk.told, [EventKind::LostClaim, EventKind::ForwardRemoved, EventKind::DestroyedContainer]);
}

#[test]
fn a_guest_that_shuts_down_ends_its_container_and_loses_its_claim() {
    let mut walk = Walk::new(true);
    walk.up();
    walk.told.clear();
    assert_eq!(walk.decide(&seen(Seen::Absent, Seen::Present(())), 9), Next::Step(Step::Withdraw));
    assert_eq!(walk.claim.as_ref().unwrap().status.phase, ClaimPhase::Lost);
    assert_eq!(walk.decide(&seen(Seen::Absent, Seen::Absent), 9), Next::Remove);
    assert_eq!(walk.told, [EventKind::LostClaim, EventKind::ForwardRemoved, EventKind::DestroyedContainer]);
}

/// A crash came between the start of its domain and the note of it. Started again, it would pass for personalised, and
/// be published with the account `endpoint` open.
#[test]
fn a_machine_that_was_seen_to_run_is_not_started_again_though_nobody_noted_its_start() {
    let mut walk = Walk::new(false);
    assert_eq!(walk.decide(&seen(Seen::Absent, Seen::Absent), 1), Next::Step(Step::CreateDomain));
    let runs = seen(domain(DomainState::Running), Seen::Absent);
    assert_eq!(walk.decide(&runs, 2), Next::Step(Step::Personalise));
    walk.note(Step::Personalise, Outcome::Done, 3);
    assert_eq!(walk.decide(&seen(Seen::Absent, Seen::Absent), 4), Next::Remove);
    assert_eq!((walk.c.status.phase, walk.c.status.reason.as_str()), (Phase::Failed, "DomainGone"));
}

#[test]
fn a_guest_that_never_answers_is_given_up_at_its_deadline() {
    let mut walk = Walk::new(true);
    walk.decide(&seen(Seen::Absent, Seen::Absent), 1);
    walk.note(Step::CreateDomain, Outcome::Done, 1);
    let silent = seen(domain(DomainState::Running), Seen::Absent);
    for now in [10, 60, 120] {
        assert_eq!(walk.decide(&silent, now), Next::Step(Step::Personalise), "at {now}");
        walk.note(Step::Personalise, Outcome::NotYet("silence".into()), now);
    }
    assert_eq!(walk.decide(&silent, 122), Next::Step(Step::DestroyDomain));
    assert_eq!(walk.c.status.phase, Phase::Failed);
    let claim = walk.claim.unwrap();
    assert_eq!(claim.status.phase, ClaimPhase::Failed);
    assert!(claim.status.message.contains("within 120 s") && claim.status.message.contains("silence"));
}

#[test]
fn a_claim_nobody_waits_on_outlives_the_machine_it_was_promised() {
    let (dies, deleted) =
        (|_: &mut Walk| {}, |walk: &mut Walk| walk.c.metadata.deletion_timestamp = Some(at(2)).into());
    for (end, reason) in [(dies as fn(&mut Walk), "DomainGone"), (deleted, "Deleted")] {
        let mut walk = Walk::new(true);
        walk.claim.as_mut().unwrap().spec.origin = Origin::Object;
        walk.decide(&seen(Seen::Absent, Seen::Absent), 1);
        walk.note(Step::CreateDomain, Outcome::Done, 1);
        end(&mut walk);
        let running = seen(domain(DomainState::Running), Seen::Absent);
        if reason == "Deleted" {
            assert_eq!(walk.decide(&running, 3), Next::Step(Step::DestroyDomain));
        } else {
            // A disk that is left keeps the record for another pass.
            let disk = Observed { disk: Seen::Present(()), ..seen(Seen::Absent, Seen::Absent) };
            assert_eq!(walk.decide(&disk, 3), Next::Step(Step::RemoveDisk));
        }
        // The claim is another machine's from here on, and is not read with this one any more.
        let claim = walk.claim.take().unwrap();
        assert!(claim::waits(&claim) && claim.status.failures == 1, "{claim:?}");
        assert_eq!(walk.decide(&seen(Seen::Absent, Seen::Absent), 4), Next::Remove);
        assert_eq!(*walk.c.status.reason, reason, "what ended it is not told any more");
        let count = |kind| walk.told.iter().filter(|&&told| told == kind).count();
        assert_eq!(
            [EventKind::RequeuedClaim, EventKind::FailedClaim, EventKind::DestroyedContainer].map(count),
            [1, 0, 1]
        );
    }
}

#[test]
fn a_machine_that_does_not_tell_of_its_port_can_be_ended_where_the_port_ends_with_it() {
    let silent = Seen::Unknown("its QEMU did not answer".into());
    let mut walk = Walk::new(true);
    walk.up();
    let told = walk.told.len();
    assert_eq!(
        walk.decide(&seen(domain(DomainState::Running), silent.clone()), 10),
        Next::Look(UNKNOWN_POLL),
        "in use"
    );
    walk.c.metadata.deletion_timestamp = Some(at(11)).into();
    let within = seen(domain(DomainState::Running), silent.clone());
    let outside = Observed { address: Seen::Present(Some([192, 168, 0, 2].into())), ..within.clone() };
    let foreign = Observed { domain: foreign(), ..within.clone() };
    assert_eq!(walk.decide(&outside, 11), Next::Look(UNKNOWN_POLL));
    assert_eq!(walk.decide(&foreign, 11), Next::Look(UNKNOWN_POLL));
    assert_eq!(walk.decide(&within, 11), Next::Step(Step::DestroyDomain));
    walk.note(Step::DestroyDomain, Outcome::Done, 11);
    assert!(!walk.told[told..].contains(&EventKind::ForwardRemoved), "nobody saw it closed");
    assert_eq!(walk.decide(&seen(Seen::Absent, Seen::Absent), 12), Next::Remove);
    assert!(walk.told[told..].contains(&EventKind::ForwardRemoved));
}

#[test]
fn a_step_that_keeps_failing_waits_longer_and_is_then_given_up() {
    let mut walk = Walk::new(true);
    let nothing = seen(Seen::Absent, Seen::Absent);
    let mut now = 1;
    for attempt in 1..=MOST_FAILURES {
        assert_eq!(walk.decide(&nothing, now), Next::Step(Step::CreateDomain), "attempt {attempt}");
        let next = walk.note(Step::CreateDomain, Outcome::Failed("no memory".into()), now);
        if attempt < MOST_FAILURES {
            assert_eq!(next, Next::Look(backoff::after(attempt)));
            assert!(matches!(walk.decide(&nothing, now), Next::Look(_)), "it did not wait");
        }
        now += 10;
    }
    assert_eq!(walk.c.status.phase, Phase::Failed);
    assert_eq!(walk.decide(&nothing, now), Next::Remove);
    let count = |kind| walk.told.iter().filter(|&&told| told == kind).count();
    assert_eq!(count(EventKind::RuntimeError), MOST_FAILURES as usize);
    assert_eq!(count(EventKind::FailedContainer), 1);
    assert_eq!(count(EventKind::DestroyedContainer), 1);
}

#[test]
fn what_can_never_succeed_is_given_up_at_once() {
    let mut walk = Walk::new(true);
    walk.decide(&seen(Seen::Absent, Seen::Absent), 1);
    walk.note(Step::CreateDomain, Outcome::Impossible("no such image".into()), 1);
    assert_eq!(walk.c.status.phase, Phase::Failed);
}

#[test]
fn a_machine_in_use_is_not_ended_because_a_repair_fails() {
    let mut walk = Walk::new(true);
    walk.up();
    let broken = seen(domain(DomainState::Running), Seen::Absent);
    for round in 0..20 {
        let now = 100 + round * 60;
        assert_eq!(walk.decide(&broken, now), Next::Step(Step::Publish));
        walk.note(Step::Publish, Outcome::Failed("nft".into()), now);
    }
    assert_eq!(walk.c.status.phase, Phase::Bound);
}

#[test]
fn a_claim_that_was_withdrawn_ends_its_container() {
    for withdrawn in [None, Some(at(2))] {
        let mut walk = Walk::new(true);
        walk.decide(&seen(Seen::Absent, Seen::Absent), 1);
        match withdrawn {
            None => walk.claim = None,
            Some(_) => walk.claim.as_mut().unwrap().metadata.deletion_timestamp = withdrawn.into(),
        }
        let next = walk.decide(&seen(domain(DomainState::Running), Seen::Absent), 3);
        assert_eq!(next, Next::Step(Step::DestroyDomain));
    }
}

#[test]
fn a_domain_that_is_not_ours_is_never_ended() {
    let mut walk = Walk::new(true);
    walk.c.metadata.deletion_timestamp = Some(at(1)).into();
    assert_eq!(walk.decide(&seen(foreign(), Seen::Absent), 2), Next::Remove);

    let mut walk = Walk::new(true);
    assert_eq!(walk.decide(&seen(foreign(), Seen::Absent), 2), Next::Remove);
    assert_eq!(*walk.c.status.reason, "UuidTaken");
}

fn lifetime(ttl: Option<u32>, idle: Option<u32>) -> Lifetime {
    Lifetime { ttl_seconds: ttl, max_ttl_seconds: None, idle_timeout_seconds: idle, max_ready_seconds: None }
}

/// All is well, with so many connections.
fn well(connections: Seen<Option<u32>>) -> Observed {
    Observed { connections, ..seen(domain(DomainState::Running), Seen::Present(())) }
}

fn secs(seconds: i64) -> Next {
    Next::Look(SignedDuration::from_secs(seconds))
}

#[test]
fn an_end_is_announced_once_and_comes_in_time_whatever_can_be_seen() {
    for (unclear, next) in [
        (well(Seen::Present(None)), Next::Step(Step::Withdraw)),
        (seen(Seen::Unknown("?".into()), Seen::Unknown("?".into())), Next::Look(UNKNOWN_POLL)),
    ] {
        let mut walk = Walk::new(true);
        walk.c.spec.template.lifetime = lifetime(Some(400), None);
        walk.up_to(secs(340));
        walk.told.clear();
        assert_eq!(walk.c.status.expires_at, Some(at(404)));
        assert_eq!(walk.claim.as_ref().unwrap().status.expires_at, Some(at(404)));
        assert_eq!(walk.decide(&well(Seen::Present(None)), 343), secs(1));
        assert_eq!(walk.decide(&well(Seen::Present(None)), 344), secs(60));
        assert_eq!(walk.decide(&well(Seen::Present(None)), 345), secs(59));
        assert_eq!(walk.told, [EventKind::Expiring]);
        assert_eq!(walk.decide(&unclear, 404), next);
        assert_eq!((walk.c.status.phase, walk.c.status.reason.as_str()), (Phase::Terminating, "Expired"));
        let claim = walk.claim.as_ref().unwrap();
        assert_eq!((claim.status.phase, claim.status.finished_at), (ClaimPhase::Expired, Some(at(404))));
        assert_eq!(walk.decide(&seen(Seen::Absent, Seen::Absent), 405), Next::Remove);
        assert_eq!(walk.claim.unwrap().status.phase, ClaimPhase::Expired, "it ended as it ended");
        assert_eq!(
            walk.told,
            [EventKind::Expiring, EventKind::Expired, EventKind::ForwardRemoved, EventKind::DestroyedContainer]
        );
    }
}

#[test]
fn more_time_moves_the_end_and_takes_the_announcement_back() {
    let mut walk = Walk::new(true);
    walk.c.spec.template.lifetime = lifetime(Some(400), None);
    walk.up_to(secs(340));
    walk.decide(&well(Seen::Present(None)), 350);
    assert!(condition(&walk.c.status.conditions, conditions::EXPIRING));
    walk.claim.as_mut().unwrap().spec.ttl_seconds = Some(1000);
    assert_eq!(walk.decide(&well(Seen::Present(None)), 351), secs(593));
    assert_eq!(walk.c.status.expires_at, Some(at(1004)));
    assert!(!condition(&walk.c.status.conditions, conditions::EXPIRING));
    assert_eq!(walk.decide(&well(Seen::Present(None)), 404), secs(540));
    walk.decide(&well(Seen::Present(None)), 950);
    assert_eq!(walk.told.iter().filter(|&&kind| kind == EventKind::Expiring).count(), 2, "each end is announced");
    // Less time, and over at once: the record says so.
    walk.claim.as_mut().unwrap().spec.ttl_seconds = Some(600);
    walk.decide(&well(Seen::Present(None)), 951);
    let ended = walk.claim.unwrap().status;
    assert_eq!((ended.phase, ended.expires_at), (ClaimPhase::Expired, Some(at(604))));
}

#[test]
fn a_machine_that_nobody_is_connected_to_ends_and_what_cannot_be_seen_is_not_idle() {
    let mut walk = Walk::new(true);
    walk.c.spec.template.lifetime = lifetime(None, Some(40));
    walk.up_to(secs(10));
    let none = well(Seen::Present(Some(0)));
    assert_eq!(walk.decide(&none, 10), secs(10));
    assert_eq!(walk.c.status.idle_since, Some(at(10)));
    walk.decide(&none, 45);
    assert_eq!(walk.c.status.idle_since, Some(at(10)), "only a change is written");
    for busy in [Seen::Present(Some(2)), Seen::Unknown("?".into())] {
        assert_eq!(walk.decide(&well(busy), 51), secs(10));
        assert_eq!((walk.c.status.phase, *walk.c.status.idle_since), (Phase::Bound, None));
    }
    walk.decide(&none, 60);
    assert_eq!(walk.decide(&none, 99), secs(1));
    assert_eq!(walk.decide(&none, 100), Next::Step(Step::Withdraw));
    assert_eq!((walk.c.status.phase, walk.c.status.reason.as_str()), (Phase::Terminating, "Idle"));
}

#[test]
fn a_key_is_installed_before_its_claim_is_bound() {
    let mut walk = Walk::new(true);
    walk.claim.as_mut().unwrap().spec.ssh_public_key = Some("ssh-ed25519 A".into());
    walk.up_to(Next::Step(Step::Authorize));
    assert_eq!(walk.c.status.phase, Phase::Ready);
    walk.note(Step::Authorize, Outcome::Failed("busy".into()), 4);
    assert!(matches!(walk.decide(&well(Seen::Present(None)), 4), Next::Look(_)), "it did not wait");
    assert_eq!(walk.decide(&well(Seen::Present(None)), 5), Next::Step(Step::Authorize));
    walk.note(Step::Authorize, Outcome::Done, 5);
    assert_eq!(walk.claim.as_ref().unwrap().status.phase, ClaimPhase::Pending);
    assert_eq!(walk.decide(&well(Seen::Present(None)), 6), Next::Rest);
    assert_eq!(walk.claim.as_ref().unwrap().status.phase, ClaimPhase::Bound);
    assert_eq!(walk.c.status.bound_at, Some(at(6)));
}

#[test]
fn a_key_that_cannot_be_installed_fails_the_claim_and_a_machine_in_use_is_left_alone() {
    let mut walk = Walk::new(true);
    walk.claim.as_mut().unwrap().spec.ssh_public_key = Some("ssh-ed25519 A".into());
    walk.up_to(Next::Step(Step::Authorize));
    for attempt in 0..i64::from(MOST_FAILURES) {
        let step = walk.decide(&well(Seen::Present(None)), 100 * attempt);
        assert_eq!(step, Next::Step(Step::Authorize));
        walk.note(Step::Authorize, Outcome::NotYet("silence".into()), 100 * attempt);
    }
    assert_eq!(walk.c.status.phase, Phase::Failed);
    assert_eq!(walk.claim.unwrap().status.phase, ClaimPhase::Failed);
}

#[test]
fn a_container_without_pool_is_used_from_ready_on_and_stays_as_it_ended_until_it_is_deleted() {
    for (dies, reason) in [(true, "DomainGone"), (false, "Expired")] {
        let mut walk = Walk::new(false);
        walk.c.spec.pool = None;
        walk.c.spec.template.lifetime = lifetime(Some(80), None);
        walk.up_to(secs(60));
        assert_eq!((walk.c.status.phase, *walk.c.status.expires_at), (Phase::Ready, Some(at(84))));
        let (now, domain) = if dies { (10, Seen::Absent) } else { (84, domain(DomainState::Running)) };
        assert_eq!(walk.decide(&seen(domain, Seen::Present(())), now), Next::Step(Step::Withdraw));
        assert_eq!(walk.decide(&seen(Seen::Absent, Seen::Absent), now), Next::Release);
        assert_eq!((walk.c.status.phase, walk.c.status.reason.as_str()), (Phase::Failed, reason));
        assert_eq!(walk.told.last(), Some(&EventKind::DestroyedContainer));
        let told = walk.told.len();
        // Its port leads to another machine by now, and is not its own to close.
        assert_eq!(walk.decide(&well(Seen::Present(None)), 99), Next::Rest);
        walk.c.metadata.deletion_timestamp = Some(at(100)).into();
        assert_eq!(walk.decide(&well(Seen::Present(None)), 101), Next::Remove);
        assert_eq!(walk.told.len(), told, "its end was told already");
    }
}

#[test]
fn a_domain_in_use_bears_what_its_records_say_and_is_written_again_only_when_they_change() {
    for (claimed, standalone) in [(true, false), (false, true)] {
        let mut walk = Walk::new(claimed);
        walk.c.spec.pool = walk.c.spec.pool.filter(|_| !standalone);
        walk.c.spec.template.lifetime = lifetime(Some(400), Some(40));
        walk.up_to(secs(10));
        let (busy, idle) = (well(Seen::Present(Some(1))), well(Seen::Present(Some(0))));
        for (now, seen) in [(5, &busy), (6, &idle), (12, &busy), (350, &busy)] {
            assert!(matches!(walk.decide_once(seen, now), Next::Look(_)), "nothing changed that lasts, at {now}");
        }
        assert!(condition(&walk.c.status.conditions, conditions::EXPIRING));
        match &mut walk.claim {
            Some(claim) => claim.spec.ttl_seconds = Some(390),
            None => *walk.c.metadata.labels = [("a".into(), "b".into())].into(),
        }
        assert_eq!(walk.decide_once(&busy, 351), Next::Step(Step::Remember));
        walk.remember(351);
        assert!(matches!(walk.decide_once(&busy, 351), Next::Look(_)));
    }
    let mut member = Walk::new(false);
    member.up();
    assert_eq!(member.kept, None, "nobody uses it");
}

#[test]
fn records_that_cannot_be_remembered_end_no_machine_and_move_no_deadline() {
    let mut walk = Walk::new(true);
    walk.c.spec.template.lifetime = lifetime(Some(1000), None);
    walk.up_to(secs(940));
    walk.kept = None;
    let well = well(Seen::Present(None));
    let outcomes = ["not yet", "failed", "impossible"].into_iter().cycle();
    let mut now = 10;
    for outcome in outcomes.take(20) {
        assert_eq!(walk.decide_once(&well, now), Next::Step(Step::Remember));
        let next = walk.note(
            Step::Remember,
            match outcome {
                "not yet" => Outcome::NotYet(outcome.into()),
                "failed" => Outcome::Failed(outcome.into()),
                _ => Outcome::Impossible(outcome.into()),
            },
            now,
        );
        assert!(matches!(next, Next::Look(wait) if wait >= backoff::FIRST), "{next:?}: tried again at once");
        assert!(matches!(walk.decide_once(&well, now), Next::Look(_)), "it did not wait");
        assert_eq!((walk.c.status.phase, walk.c.status.message.as_str()), (Phase::Bound, ""));
        now += backoff::LONGEST.as_secs();
    }
    walk.c.status.retry_at = Some(at(1020)).into();
    assert_eq!(walk.decide_once(&well, 995), secs(9), "it is looked at when its time is over");
    assert_eq!(walk.decide_once(&well, 1004), Next::Step(Step::Withdraw));
}

#[test]
fn a_machine_of_a_claim_that_ended_goes_and_the_claim_stays_as_it_ended() {
    let mut walk = Walk::new(true);
    walk.up();
    walk.claim.as_mut().unwrap().status.phase = ClaimPhase::Failed;
    assert_eq!(walk.decide(&well(Seen::Present(None)), 9), Next::Step(Step::Withdraw));
    assert_eq!(walk.c.status.phase, Phase::Terminating);
    assert_eq!(walk.claim.unwrap().status.phase, ClaimPhase::Failed);
}

fn status(walk: &Walk, kind: &str) -> Option<String> {
    walk.c.status.conditions.iter().find(|c| c.kind == kind).map(|c| c.status.clone())
}

/// libvirt says something else at every attempt to reach it; nobody is helped by a commit for each.
#[test]
fn one_condition_says_that_nothing_can_be_seen_and_one_change_that_it_can() {
    for claimed in [false, true] {
        let mut walk = Walk::new(claimed);
        walk.up();
        let there = walk.c.status.clone();
        assert_eq!(status(&walk, SEEN), None);
        assert_eq!(
            walk.decide(&seen(Seen::Unknown("it just broke".into()), Seen::Unknown("?".into())), 10),
            Next::Look(UNKNOWN_POLL)
        );
        let away = walk.c.status.clone();
        let condition = away.conditions.iter().find(|c| c.kind == SEEN).expect("a condition");
        assert_eq!((condition.reason.as_str(), condition.last_transition_time), ("DomainUnknown", at(10)));
        assert!(condition.message.contains("it just broke"), "{condition:?}");
        for (now, why) in [(11, "no such socket"), (12, "permission denied")] {
            walk.decide(&seen(Seen::Unknown(why.into()), Seen::Present(())), now);
            assert_eq!(walk.c.status, away, "another commit");
        }
        walk.told.clear();
        walk.decide(&well(Seen::Present(None)), 20);
        assert_eq!(status(&walk, SEEN).as_deref(), Some("True"));
        walk.c.status.conditions.retain(|c| c.kind != SEEN);
        assert_eq!(walk.c.status, there, "something else changed");
        assert_eq!(walk.told, []);
    }
}

#[test]
fn a_claim_that_comes_while_libvirt_is_away_waits_and_is_told_within_its_deadline() {
    let away = seen(Seen::Unknown("no such socket".into()), Seen::Absent);
    let mut walk = Walk::new(true);
    for now in [1, 60, 121] {
        assert_eq!(walk.decide(&away, now), Next::Look(UNKNOWN_POLL));
        assert_eq!(walk.c.status.phase, Phase::Pending);
    }
    let mut back = Walk { c: walk.c.clone(), claim: walk.claim.clone(), told: vec![], kept: None };
    assert_eq!(back.decide(&seen(Seen::Absent, Seen::Absent), 121), Next::Step(Step::CreateDomain));

    assert_eq!(walk.decide(&away, 122), Next::Look(UNKNOWN_POLL), "nothing is ended that cannot be seen");
    let claim = walk.claim.as_ref().unwrap();
    assert_eq!(claim.status.phase, ClaimPhase::Failed);
    assert!(claim.status.message.contains("120 s") && claim.status.message.contains("no such socket"), "{claim:?}");
    assert_eq!(walk.decide(&seen(Seen::Absent, Seen::Absent), 130), Next::Remove);

    // Nobody waits for a member.
    let mut member = Walk::new(false);
    for now in [1, 1000] {
        assert_eq!(member.decide(&away, now), Next::Look(UNKNOWN_POLL));
    }
    assert_eq!(member.decide(&seen(Seen::Absent, Seen::Absent), 1001), Next::Step(Step::CreateDomain));
}

#[test]
fn a_machine_in_use_that_finds_no_room_says_where_and_goes_on_by_itself() {
    let full = seen(domain(DomainState::Paused(Pause::DiskFull)), Seen::Present(()));
    let mut member = Walk::new(false);
    member.up();
    assert_eq!(member.decide(&full, 10), Next::Step(Step::Withdraw));
    assert_eq!(*member.c.status.reason, "DiskFull", "nobody waits for it");

    let mut walk = Walk::new(true);
    walk.up();
    let since = walk.told.len();
    let wait = SignedDuration::from_secs(5);
    assert_eq!(walk.decide(&full, 10), Next::Look(wait), "it would stop and go");
    assert_eq!(walk.decide(&full, 11), Next::Look(wait - SignedDuration::from_secs(1)), "its wait begins once");
    // That it stands still is something to remember, and keeps it from going on no longer.
    assert_eq!(walk.decide(&full, 15), Next::Look(wait));
    let mut now = 15;
    for failures in 1..9 {
        assert_eq!(walk.decide(&full, now), Next::Step(Step::Resume), "after {failures}");
        let no_room = Outcome::Failed("there is no room for its disk in /disks".into());
        assert_eq!(walk.note(Step::Resume, no_room, now), Next::Look(backoff::after(failures)));
        let paused = walk.c.status.conditions.iter().find(|c| c.kind == PAUSED).unwrap();
        assert_eq!((paused.status.as_str(), paused.reason.as_str()), ("True", "DiskFull"));
        assert!(paused.message.contains("/disks"), "{}", paused.message);
        now += 30;
    }
    assert_eq!((walk.c.status.phase, status(&walk, "Ready").as_deref()), (Phase::Bound, Some("False")));
    assert_eq!(walk.decide(&full, now), Next::Step(Step::Resume));
    walk.note(Step::Resume, Outcome::Done, now);
    assert_eq!(walk.decide(&well(Seen::Present(None)), now), Next::Rest);
    assert_eq!((walk.c.status.failures, status(&walk, "Ready").as_deref()), (0, Some("True")));
    assert_eq!(walk.told[since..], [EventKind::PausedContainer, EventKind::ResumedContainer]);

    // Paused from outside it is left alone.
    assert_eq!(walk.decide(&seen(domain(DomainState::Paused(Pause::Asked)), Seen::Present(())), now), Next::Rest);
}

#[test]
fn a_paused_member_is_replaced_and_a_paused_machine_in_use_stays_and_is_told_once() {
    let still = seen(domain(DomainState::Paused(Pause::Asked)), Seen::Present(()));
    let mut member = Walk::new(false);
    member.up();
    assert_eq!(member.decide(&still, 10), Next::Step(Step::Withdraw));
    assert_eq!((member.c.status.phase, member.c.status.reason.as_str()), (Phase::Terminating, "Paused"));

    // Promised to a claim, and not its own yet.
    let mut promised = Walk::new(true);
    promised.claim.as_mut().unwrap().spec.ssh_public_key = Some("ssh-ed25519 A".into());
    promised.up_to(Next::Step(Step::Authorize));
    assert_eq!(promised.decide(&still, 10), Next::Step(Step::Withdraw));
    assert_eq!(promised.claim.unwrap().status.phase, ClaimPhase::Failed);

    let alone = |mut walk: Walk| {
        walk.c.spec.pool = None;
        walk
    };
    for mut walk in [Walk::new(true), alone(Walk::new(false))] {
        walk.up();
        walk.told.clear();
        for now in [10, 11] {
            assert_eq!(walk.decide(&still, now), Next::Rest);
            assert_eq!(walk.told, [EventKind::PausedContainer]);
            assert_eq!(
                (status(&walk, READY).as_deref(), status(&walk, PAUSED).as_deref()),
                (Some("False"), Some("True"))
            );
        }
        for now in [12, 13] {
            assert_eq!(walk.decide(&well(Seen::Present(None)), now), Next::Rest);
            assert_eq!(walk.told, [EventKind::PausedContainer, EventKind::ResumedContainer]);
            assert_eq!(
                (status(&walk, READY).as_deref(), status(&walk, PAUSED).as_deref()),
                (Some("True"), Some("False"))
            );
        }
    }
}

#[test]
fn a_member_that_answers_no_probe_is_replaced() {
    let silent = Observed { answers: Seen::Absent, ..well(Seen::Present(None)) };
    let mut member = Walk::new(false);
    member.up();
    for unsure in [Seen::Present(()), Seen::Unknown("?".into())] {
        assert_eq!(member.decide(&Observed { answers: unsure, ..silent.clone() }, 9), Next::Rest);
    }
    let away = Observed { domain: Seen::Unknown("?".into()), ..silent.clone() };
    assert_eq!(member.decide(&away, 9), Next::Look(UNKNOWN_POLL), "ended on doubt");
    assert_eq!(member.decide(&silent, 10), Next::Step(Step::Withdraw));
    assert_eq!((member.c.status.phase, member.c.status.reason.as_str()), (Phase::Terminating, "NotAnswering"));

    let mut used = Walk::new(true);
    used.up();
    assert_eq!(used.decide(&silent, 10), Next::Rest, "a machine in use was ended");
    let mut alone = Walk::new(false);
    alone.c.spec.pool = None;
    alone.up();
    assert_eq!(alone.decide(&silent, 10), Next::Rest, "a machine in use was ended");
}

fn any_seen() -> impl Strategy<Value = Observed> {
    let domains = prop_oneof![
        Just(Seen::Absent),
        Just(Seen::Unknown("?".into())),
        Just(domain(DomainState::Running)),
        Just(domain(DomainState::Paused(Pause::Asked))),
        Just(domain(DomainState::Paused(Pause::DiskFull))),
        Just(domain(DomainState::Off)),
        Just(foreign()),
    ];
    let forwards = prop_oneof![Just(Seen::Absent), Just(Seen::Present(())), Just(Seen::Unknown("?".into()))];
    let addresses = prop_oneof![Just(Seen::Absent), Just(Seen::Present(None)), Just(Seen::Unknown("?".into()))];
    let disks =
        prop_oneof![3 => Just(Seen::Absent), 1 => Just(Seen::Present(())), 1 => Just(Seen::Unknown("?".into()))];
    let connections = prop_oneof![
        Just(Seen::Present(None)),
        Just(Seen::Present(Some(0))),
        Just(Seen::Present(Some(1))),
        Just(Seen::Unknown("?".into()))
    ];
    let answers = prop_oneof![Just(Seen::Present(())), Just(Seen::Absent), Just(Seen::Unknown("?".into()))];
    (domains, addresses, forwards, connections, disks, answers, any::<bool>()).prop_map(
        |(domain, address, forward, connections, disk, answers, may_boot)| Observed {
            domain,
            address,
            forward,
            connections,
            disk,
            answers,
            may_boot,
        },
    )
}

fn any_outcome() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        4 => Just(Outcome::Done),
        1 => Just(Outcome::NotYet("soon".into())),
        1 => Just(Outcome::Failed("no".into())),
        1 => Just(Outcome::Impossible("never".into())),
    ]
}

proptest! {
    /// Promises 4 and 7 over every history: no step that starts or opens anything for a deleted container, and no
    /// end for a machine on a look that failed.
    #[test]
    fn no_history_destroys_on_doubt_or_restarts_what_is_deleted(
        (claimed, standalone) in prop_oneof![Just((true, false)), Just((false, false)), Just((false, true))],
        limited: bool,
        history in prop::collection::vec((any_seen(), any_outcome(), 0..50_i64, prop::bool::weighted(0.1)), 1..40),
    ) {
        let mut walk = Walk::new(claimed);
        walk.c.spec.pool = walk.c.spec.pool.filter(|_| !standalone);
        if limited {
            walk.c.spec.template.lifetime = lifetime(Some(100), Some(40));
        }
        let mut now = 0;
        for (mut seen, outcome, wait, delete) in history {
            now += wait;
            if !probe::wants(&walk.c) {
                // Nobody asks it yet.
                seen.answers = Seen::Unknown("nobody asked".into());
            }
            if delete {
                walk.c.metadata.deletion_timestamp.get_or_insert(at(now));
            }
            let before = walk.c.status.phase;
            let next = walk.decide(&seen, now);
            match next {
                Next::Step(step) => {
                    prop_assert!(!(step.going_up() && walk.c.metadata.deleting()), "{step:?} of a deleted container");
                    if step == Step::DestroyDomain {
                        prop_assert!(matches!(&seen.domain, Seen::Present(d) if d.mark == Some(mark())));
                        let within = seen.address == Seen::Present(None) && seen.forward.unknown().is_some();
                        prop_assert!(within || seen.forward == Seen::Absent);
                    }
                    if step == Step::Publish {
                        prop_assert!(condition(&walk.c.status.conditions, PERSONALISED));
                    }
                    walk.note(step, outcome, now);
                }
                Next::Remove | Next::Release => {
                    prop_assert!(!matches!(seen.domain, Seen::Unknown(_)) && seen.forward == Seen::Absent);
                    prop_assert_eq!(next == Next::Release, standalone && !walk.c.metadata.deleting());
                    return Ok(());
                }
                Next::Look(_) | Next::Rest => {
                    // Deciding again on the same input changes nothing: the fixed point.
                    let again = decide(&walk.c, walk.claim.as_ref(), &mark(), &seen, at(now));
                    prop_assert_eq!(&again.status, &walk.c.status);
                    prop_assert!(again.events.is_empty());
                }
            }
            let after = walk.c.status.phase;
            prop_assert!(after >= before || (before == Phase::Failed && after == Phase::Terminating) , "{before:?} to {after:?}");
        }
    }
}
