//! One claim: what it waits for, and when it is given up or forgotten. What its machine does to it is decided with the
//! machine ([`super::container`]), by the same words for each end.
//!
//! ```text
//! Pending ──► Bound ──► Lost | Expired ──► (record removed: an object's when it is deleted, others' after a while)
//!    └──► Failed ─────────────────────────────┘
//! ```
//!
//! A claim that came to one of its ends never leaves it. While it is Pending nobody has seen its machine: where one ends
//! before it is its own, a claim that was written as an object waits for another one, in its old place of the queue and
//! longer after each; whoever waits on a connection is told at once instead
//! (`a_machine_that_ends_before_it_is_its_claims_is_followed_by_another_one`).

use jiff::{SignedDuration, Timestamp};

use uuid::Uuid;

use super::{backoff, public_key};
use crate::model::{
    ClaimPhase, ClaimStatus, ContainerClaim, Event, EventKind, Object, Origin, set_condition, set_unknown,
};

/// How long the record of a wire claim says what became of it: longer than anybody looks into it while it is fresh,
/// and short enough that a busy server does not collect them.
pub const KEPT: SignedDuration = SignedDuration::from_mins(10);
/// The condition of a claim whose machine can be used.
pub const READY: &str = "Ready";
/// The condition of a claim that its client may not have been told of.
pub const DELIVERED: &str = "Delivered";

/// What a pass for a claim commits, and does then.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// Its status from now on.
    pub status: ClaimStatus,
    /// What happened.
    pub events: Vec<Event>,
    /// What comes then.
    pub next: Next,
}

/// What comes after the commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Find it a machine.
    Place,
    /// End its machine if it has one.
    GiveUp,
    /// End its machine, or remove its record where there is none.
    Withdraw,
    /// Remove its record.
    Remove,
    /// Look again after this long.
    Look(SignedDuration),
    /// Nothing, until something changes.
    Rest,
}

/// What a claim without machine waits behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Queue {
    /// Nothing: the next machine is its own.
    First,
    /// Others that came before.
    Behind,
    /// There is no such pool.
    NoPool,
}

/// Decides for one claim.
pub fn decide(claim: &ContainerClaim, queue: Queue, now: Timestamp) -> Decision {
    let status = claim.status.clone();
    let plain = |next| Decision { status: status.clone(), events: vec![], next };
    if claim.metadata.deleting() {
        return plain(Next::Withdraw);
    }
    match status.phase {
        ClaimPhase::Bound => plain(Next::Rest),
        ClaimPhase::Failed | ClaimPhase::Lost | ClaimPhase::Expired => match status.finished_at {
            _ if claim.spec.origin.is_object() => plain(Next::Rest),
            Some(at) if now.duration_since(at) < KEPT => plain(Next::Look(KEPT - now.duration_since(at))),
            _ => plain(Next::Remove),
        },
        ClaimPhase::Pending => pending(claim, queue, now),
    }
}

fn pending(claim: &ContainerClaim, queue: Queue, now: Timestamp) -> Decision {
    let left = time_left(claim, now);
    if let (Some(limit), Some(SignedDuration::ZERO)) = (claim.spec.timeout_seconds, left) {
        let mut message = format!("it was not bound within {limit} s (timeoutSeconds)");
        if claim.status.failures > 0 {
            message += &format!("; the last of {} machines in a row ended on its way", claim.status.failures);
        }
        return failed(claim, &message, now);
    }
    if let (None, Some(key)) = (&claim.status.container, &claim.spec.ssh_public_key)
        && let Err(error) = public_key::read(key)
    {
        return failed(claim, &format!("sshPublicKey: {error}"), now);
    }
    let rest = left.map_or(Next::Rest, Next::Look);
    let pause = backoff::left(claim.status.retry_at, now);
    let (status, next) = match (&claim.status.container, queue) {
        (Some(_), _) => (claim.status.clone(), rest),
        (None, Queue::First) => match pause {
            Some(pause) => (claim.status.clone(), Next::Look(left.map_or(pause, |left| left.min(pause)))),
            None => (claim.status.clone(), Next::Place),
        },
        (None, Queue::Behind) => (held(&claim.status, "Queued", "others came before", now), rest),
        (None, Queue::NoPool) => {
            let message = format!("there is no pool '{}'", claim.spec.pool);
            (held(&claim.status, "NoPool", &message, now), rest)
        }
    };
    Decision { status, events: vec![], next }
}

fn failed(claim: &ContainerClaim, message: &str, now: Timestamp) -> Decision {
    let event = Event::new(EventKind::FailedClaim, now).regarding(claim.object_ref()).message(message);
    let status = ended(&claim.status, ClaimPhase::Failed, message, now);
    Decision { status, events: vec![event], next: Next::GiveUp }
}

/// How long a Pending claim may still wait for a machine; nothing, when its time is over.
pub fn time_left(claim: &ContainerClaim, now: Timestamp) -> Option<SignedDuration> {
    let limit = SignedDuration::from_secs(claim.spec.timeout_seconds?.into());
    Some((limit - now.duration_since(claim.metadata.creation_timestamp)).max(SignedDuration::ZERO))
}

/// Whether it waits for a machine that nobody has found yet.
pub fn waits(claim: &ContainerClaim) -> bool {
    claim.status.phase == ClaimPhase::Pending && claim.status.container.is_none() && !claim.metadata.deleting()
}

/// Its place in the queue: who came first, then by name.
pub fn turn(claim: &ContainerClaim) -> (Timestamp, &str) {
    (claim.metadata.creation_timestamp, &claim.metadata.name)
}

/// Whether nothing more can come of it.
pub fn finished(phase: ClaimPhase) -> bool {
    match phase {
        ClaimPhase::Failed | ClaimPhase::Lost | ClaimPhase::Expired => true,
        ClaimPhase::Pending | ClaimPhase::Bound => false,
    }
}

/// Its status while it waits.
pub fn held(before: &ClaimStatus, reason: &str, message: &str, now: Timestamp) -> ClaimStatus {
    let mut status = ClaimStatus { message: message.into(), ..before.clone() };
    set_condition(&mut status.conditions, READY, false, reason, message, now);
    status
}

/// Its status once it is known that its client was told; nothing, if that changes nothing.
pub fn delivered(claim: &ContainerClaim, now: Timestamp) -> Option<ClaimStatus> {
    if claim.status.phase != ClaimPhase::Bound || claim.status.delivered_at.is_some() {
        return None;
    }
    let mut status = ClaimStatus { delivered_at: Some(now), ..claim.status.clone() };
    if status.conditions.iter().any(|condition| condition.kind == DELIVERED) {
        set_condition(&mut status.conditions, DELIVERED, true, "TokenUsed", "its client has used its token", now);
    }
    Some(status)
}

/// The status of a claim that an earlier run than this one may not have told its client of; nothing, if that is not so,
/// or is said already. It stays: promise 1 holds for who was told.
pub fn doubted(claim: &ContainerClaim, run: Uuid, now: Timestamp) -> Option<ClaimStatus> {
    let earlier = match &claim.spec.origin {
        Origin::Wire { run: made_by, .. } => *made_by != run,
        // Nobody waits for an answer.
        Origin::Embedder | Origin::Object => false,
    };
    let said = claim.status.conditions.iter().any(|condition| condition.kind == DELIVERED);
    let bound = claim.status.phase == ClaimPhase::Bound && !claim.metadata.deleting();
    if !earlier || !bound || said || claim.status.delivered_at.is_some() {
        return None;
    }
    let mut status = claim.status.clone();
    let message = format!(
        "the daemon ended before the client's system confirmed that it had the answer: the client may have the login of \
         this machine, or nobody has. If nobody uses it: anweddol delete claim {}",
        claim.metadata.name
    );
    set_unknown(&mut status.conditions, DELIVERED, "DaemonEnded", &message, now);
    Some(status)
}

/// Its status once a machine was chosen that is not its own yet.
pub fn promised(before: &ClaimStatus, container: &str, now: Timestamp) -> ClaimStatus {
    let mut status = held(before, "Starting", "", now);
    status.container = Some(container.into());
    status
}

/// Its status once the machine that it was promised ended before it was its own; nothing, where somebody waits on a
/// connection: that is told to them.
pub fn requeued(claim: &ContainerClaim, why: &str, now: Timestamp) -> Option<ClaimStatus> {
    match claim.spec.origin {
        Origin::Wire { .. } | Origin::Embedder => return None,
        Origin::Object => {}
    }
    let failures = claim.status.failures.saturating_add(1);
    let wait = backoff::after(failures);
    let message = format!("its machine ended on its way ({why}); it looks for another one after {wait:#}");
    let status = held(&claim.status, "MachineEnded", &message, now);
    Some(ClaimStatus { container: None, failures, retry_at: Some(now + wait), ..status })
}

/// Its status once it is bound.
pub fn bound(before: &ClaimStatus, container: &str, expires_at: Option<Timestamp>, now: Timestamp) -> ClaimStatus {
    let mut status = ClaimStatus {
        phase: ClaimPhase::Bound,
        container: Some(container.into()),
        message: String::new(),
        bound_at: Some(now),
        expires_at,
        failures: 0,
        retry_at: None,
        ..before.clone()
    };
    set_condition(&mut status.conditions, READY, true, "Bound", "", now);
    status
}

/// Its status at one of its ends.
pub fn ended(before: &ClaimStatus, phase: ClaimPhase, message: &str, now: Timestamp) -> ClaimStatus {
    let mut status = ClaimStatus { phase, message: message.into(), finished_at: Some(now), ..before.clone() };
    let reason = match phase {
        ClaimPhase::Lost => "Lost",
        ClaimPhase::Expired => "Expired",
        ClaimPhase::Failed | ClaimPhase::Pending | ClaimPhase::Bound => "Failed",
    };
    set_condition(&mut status.conditions, READY, false, reason, message, now);
    status
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ClaimSpec, ObjectMeta, Origin};

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn claim(origin: Origin) -> ContainerClaim {
        ContainerClaim {
            metadata: ObjectMeta::new("default", "c", Uuid::nil(), at(0)),
            spec: ClaimSpec { timeout_seconds: Some(30), ..ClaimSpec::of("small", origin) },
            status: ClaimStatus::default(),
        }
    }

    #[test]
    fn only_the_first_of_the_queue_looks_for_a_machine_and_the_others_say_why_they_wait() {
        let claim = claim(Origin::Object);
        assert_eq!(decide(&claim, Queue::First, at(1)).next, Next::Place);
        for (queue, reason, says) in [(Queue::Behind, "Queued", "before"), (Queue::NoPool, "NoPool", "'small'")] {
            let decision = decide(&claim, queue, at(10));
            assert_eq!(decision.next, Next::Look(SignedDuration::from_secs(20)));
            let condition = &decision.status.conditions[0];
            assert_eq!((condition.reason.as_str(), condition.status.as_str()), (reason, "False"));
            assert!(condition.message.contains(says), "{}", condition.message);
        }
    }

    #[test]
    fn one_that_is_not_bound_in_time_fails_once_and_for_ever() {
        let mut claim = claim(Origin::Object);
        claim.status.container = Some("machine".into());
        assert_eq!(decide(&claim, Queue::First, at(29)).next, Next::Look(SignedDuration::from_secs(1)));
        let decision = decide(&claim, Queue::First, at(30));
        assert_eq!((decision.next, decision.events[0].kind), (Next::GiveUp, EventKind::FailedClaim));
        claim.status = decision.status;
        assert_eq!((claim.status.phase, claim.status.finished_at), (ClaimPhase::Failed, Some(at(30))));
        let again = decide(&claim, Queue::First, at(9999));
        assert_eq!((again.next, again.status), (Next::Rest, claim.status));
    }

    #[test]
    fn a_machine_that_ends_before_it_is_its_claims_is_followed_by_another_one() {
        let mut claim = ContainerClaim { spec: ClaimSpec::of("small", Origin::Object), ..claim(Origin::Object) };
        let mut now = at(0);
        for failures in 1..=9 {
            claim.status = promised(&claim.status, "machine", now);
            claim.status = requeued(&claim, "no memory", now).unwrap();
            assert_eq!((claim.status.phase, &claim.status.container), (ClaimPhase::Pending, &None));
            assert!(waits(&claim) && claim.status.message.contains("no memory"), "{}", claim.status.message);
            assert_eq!(claim.status.conditions[0].reason, "MachineEnded");
            let wait = backoff::after(failures);
            assert_eq!(decide(&claim, Queue::First, now).next, Next::Look(wait), "after {failures}");
            now += wait;
            assert_eq!(decide(&claim, Queue::First, now).next, Next::Place);
        }
        claim.spec.timeout_seconds = Some(u32::try_from(now.duration_since(at(0)).as_secs()).unwrap() + 2);
        claim.status = requeued(&claim, "no memory", now).unwrap();
        assert_eq!(decide(&claim, Queue::First, now).next, Next::Look(time_left(&claim, now).unwrap()), "its own end");
        let late = decide(&claim, Queue::First, now + backoff::LONGEST);
        assert_eq!((late.next, late.status.phase), (Next::GiveUp, ClaimPhase::Failed));
        assert!(late.status.message.contains("10 machines"), "{}", late.status.message);
        claim.status = bound(&claim.status, "machine", None, now);
        assert_eq!((claim.status.failures, claim.status.retry_at), (0, None));
    }

    #[test]
    fn who_waits_on_a_connection_is_told_that_a_machine_came_to_nothing() {
        let client = crate::model::Client { ip: [127, 0, 0, 1].into(), id: "1234567".into() };
        for origin in [Origin::Embedder, Origin::Wire { client, run: Uuid::nil() }] {
            assert_eq!(requeued(&claim(origin), "no memory", at(1)), None);
        }
    }

    #[test]
    fn one_with_a_key_that_is_none_fails_before_it_gets_a_machine() {
        let mut claim = claim(Origin::Object);
        claim.spec.ssh_public_key = Some("ssh-rsa\nAAAA".into());
        let decision = decide(&claim, Queue::First, at(1));
        assert_eq!((decision.next, decision.status.phase), (Next::GiveUp, ClaimPhase::Failed));
        assert!(decision.status.message.contains("sshPublicKey"), "{}", decision.status.message);
    }

    #[test]
    fn what_became_of_an_object_is_kept_until_it_is_deleted_and_of_a_wire_claim_for_a_while() {
        for origin in [Origin::Object, Origin::Embedder] {
            for phase in [ClaimPhase::Failed, ClaimPhase::Lost, ClaimPhase::Expired] {
                let mut claim = claim(origin.clone());
                claim.status = ended(&claim.status, phase, "gone", at(100));
                let next = |now| decide(&claim, Queue::First, at(now)).next;
                let kept = KEPT.as_secs();
                match origin {
                    Origin::Object => assert_eq!([next(101), next(9999)], [Next::Rest; 2]),
                    _ => {
                        assert_eq!(next(110), Next::Look(SignedDuration::from_secs(kept - 10)));
                        assert_eq!(next(100 + kept), Next::Remove);
                    }
                }
                claim.metadata.deletion_timestamp = Some(at(101)).into();
                assert_eq!(decide(&claim, Queue::First, at(102)).next, Next::Withdraw);
            }
        }
    }

    #[test]
    fn a_bound_claim_that_an_earlier_run_may_not_have_told_of_says_so_once_until_its_token_is_used() {
        let (earlier, this) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let client = crate::model::Client { ip: [127, 0, 0, 1].into(), id: "1234567".into() };
        let mut wire = claim(Origin::Wire { client, run: earlier });
        assert_eq!(doubted(&wire, this, at(5)), None, "it is withdrawn: nobody waits for it");
        wire.status = bound(&wire.status, "machine", None, at(1));
        assert_eq!(doubted(&wire, earlier, at(5)), None, "its answer is on its way");
        let mut deleted = wire.clone();
        deleted.metadata.deletion_timestamp = Some(at(4)).into();
        assert_eq!((doubted(&deleted, this, at(5)), delivered(&claim(Origin::Object), at(5))), (None, None));
        for origin in [Origin::Object, Origin::Embedder] {
            let mut other = claim(origin);
            other.status = wire.status.clone();
            assert_eq!(doubted(&other, this, at(5)), None);
        }

        let mut told = wire.clone();
        told.status = delivered(&wire, at(2)).unwrap();
        assert_eq!((told.status.delivered_at, told.status.conditions.len()), (Some(at(2)), 1));
        assert_eq!((delivered(&told, at(3)), doubted(&told, this, at(5))), (None, None));

        wire.status = doubted(&wire, this, at(5)).unwrap();
        let condition = wire.status.conditions.iter().find(|condition| condition.kind == DELIVERED).unwrap();
        assert_eq!((condition.status.as_str(), condition.reason.as_str()), ("Unknown", "DaemonEnded"));
        assert!(condition.message.contains("delete claim c"), "{}", condition.message);
        assert_eq!((doubted(&wire, this, at(6)), wire.status.phase), (None, ClaimPhase::Bound));
        wire.status = delivered(&wire, at(7)).unwrap();
        assert!(crate::model::condition(&wire.status.conditions, DELIVERED));
    }

    #[test]
    fn a_bound_claim_rests_whatever_its_timeout_says() {
        let mut claim = claim(Origin::Object);
        claim.status = bound(&claim.status, "machine", None, at(1));
        assert_eq!(decide(&claim, Queue::First, at(99)).next, Next::Rest);
        assert!(crate::model::condition(&claim.status.conditions, READY));
    }
}
