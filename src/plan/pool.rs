//! One pool: how many machines to make, which to let go.

use jiff::{SignedDuration, Timestamp};

use crate::model::{Container, ContainerPool, Phase, PoolStatus, set_condition};

/// What a pass for a pool commits and then does.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// The pool's status from now on; its exact counter stays as it is.
    pub status: PoolStatus,
    /// What comes then.
    pub next: Next,
}

/// What comes after the commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Make one member.
    Make,
    /// Let this member go.
    Release(String),
    /// Look again after this long.
    Look(SignedDuration),
    /// Nothing, until something changes.
    Rest,
    /// It was deleted and nothing is left of it: remove its record.
    Remove,
}

/// Decides for one pool, given all its containers.
///
/// Members on their way count as if they were there, and those that go away hold their place until they are gone:
/// so it never makes one too many. A bound member is never let go.
pub fn decide(pool: &ContainerPool, members: &[Container], now: Timestamp) -> Decision {
    let rising = |c: &&Container| {
        c.spec.claim.is_none()
            && !c.metadata.deleting()
            && matches!(c.status.phase, Phase::Pending | Phase::Booting | Phase::Ready)
    };
    let mut warm: Vec<&Container> = members.iter().filter(rising).collect();
    let ready = warm.iter().filter(|c| c.status.phase == Phase::Ready).count() as u32;
    let bound = members.iter().filter(|c| c.status.phase == Phase::Bound && !c.metadata.deleting()).count() as u32;
    let wanted = if pool.metadata.deleting() { 0 } else { pool.spec.replicas };

    let mut status = PoolStatus {
        ready_replicas: ready,
        bound_containers: bound,
        observed_generation: pool.metadata.generation,
        ..pool.status.clone()
    };
    if ready > 0 {
        status.failures = 0;
        status.retry_at = None;
    }
    let (reason, message) = match (ready >= wanted, status.failures) {
        (true, _) => ("AsWished", String::new()),
        (false, 0) => ("Filling", String::new()),
        (false, n) => ("BootsFail", format!("{n} members in a row failed: {}", status.message)),
    };
    set_condition(&mut status.conditions, "Available", ready >= wanted, reason, &message, now);

    let have = warm.len() as u32;
    let next = if have > wanted {
        // Not-ready ones first, then the newest: what took longest to get stays.
        warm.sort_by_key(|c| (c.status.phase == Phase::Ready, std::cmp::Reverse(c.metadata.creation_timestamp)));
        Next::Release(warm[0].metadata.name.clone())
    } else if pool.metadata.deleting() && pool.status.containers == 0 {
        Next::Remove
    } else if have < wanted && pool.status.containers < pool.spec.max_containers {
        match status.retry_at {
            Some(at) if at > now => Next::Look(at.duration_since(now)),
            _ => Next::Make,
        }
    } else {
        Next::Rest
    };
    Decision { status, next }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::model::{ContainerSpec, ContainerStatus, Image, Machine, ObjectMeta, PoolSpec, Template};

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn pool(replicas: u32, max_containers: u32, containers: u32) -> ContainerPool {
        ContainerPool {
            metadata: ObjectMeta::new("default", "default", Uuid::nil(), at(0)),
            spec: PoolSpec::of(replicas, max_containers, Template::of(Image::Iso("/i".into()))),
            status: PoolStatus { containers, ..PoolStatus::default() },
        }
    }

    fn member(name: &str, phase: Phase, made: i64) -> Container {
        let machine = Machine { mac: String::new(), port: 1, image_sha256: String::new() };
        let template = Template::of(Image::Iso("/i".into()));
        Container {
            metadata: ObjectMeta::new("default", name, Uuid::nil(), at(made)),
            spec: ContainerSpec {
                pool: Some("default".into()),
                claim: None,
                template,
                scheduling_gates: vec![],
                machine,
            },
            status: ContainerStatus { phase, ..ContainerStatus::default() },
        }
    }

    #[test]
    fn members_on_their_way_and_going_away_count_before_another_is_made() {
        let booting = member("a", Phase::Booting, 1);
        let going = member("b", Phase::Terminating, 1);
        assert_eq!(decide(&pool(2, 4, 0), &[], at(9)).next, Next::Make);
        assert_eq!(decide(&pool(2, 4, 1), std::slice::from_ref(&booting), at(9)).next, Next::Make);
        assert_eq!(decide(&pool(1, 4, 1), std::slice::from_ref(&booting), at(9)).next, Next::Rest);
        assert_eq!(decide(&pool(2, 2, 2), &[booting, going], at(9)).next, Next::Rest);
    }

    #[test]
    fn scaling_down_lets_the_not_ready_go_first_then_the_newest_and_never_a_bound_one() {
        let mut bound = member("bound", Phase::Bound, 9);
        bound.spec.claim = Some("claim".into());
        let (old, new) = (member("old", Phase::Ready, 1), member("new", Phase::Ready, 5));
        let booting = member("booting", Phase::Booting, 0);
        let all = [bound.clone(), old.clone(), new.clone(), booting];
        assert_eq!(decide(&pool(1, 9, 4), &all, at(9)).next, Next::Release("booting".into()));
        assert_eq!(decide(&pool(1, 9, 3), &[bound.clone(), old, new], at(9)).next, Next::Release("new".into()));
        assert_eq!(decide(&pool(0, 9, 1), &[bound], at(9)).next, Next::Rest);
    }

    #[test]
    fn after_members_failed_the_next_one_waits_and_the_condition_says_why() {
        let mut failing = pool(1, 4, 0);
        failing.status.failures = 3;
        failing.status.retry_at = Some(at(12));
        failing.status.message = "no kernel".into();
        let decision = decide(&failing, &[], at(10));
        assert_eq!(decision.next, Next::Look(SignedDuration::from_secs(2)));
        let condition = &decision.status.conditions[0];
        assert_eq!((condition.status.as_str(), condition.reason.as_str()), ("False", "BootsFail"));
        assert!(condition.message.contains("no kernel"));
        assert_eq!(decide(&failing, &[], at(12)).next, Next::Make);
        failing.status.containers = 1;
        assert_eq!(decide(&failing, &[member("a", Phase::Ready, 1)], at(12)).status.failures, 0);
    }

    #[test]
    fn a_deleted_pool_empties_itself_and_goes_when_the_last_bound_one_has_gone() {
        let mut deleted = pool(2, 4, 2);
        deleted.metadata.deletion_timestamp = Some(at(1));
        let mut bound = member("bound", Phase::Bound, 1);
        bound.spec.claim = Some("claim".into());
        let ready = member("ready", Phase::Ready, 1);
        assert_eq!(decide(&deleted, &[bound.clone(), ready], at(2)).next, Next::Release("ready".into()));
        assert_eq!(decide(&deleted, &[bound], at(2)).next, Next::Rest);
        deleted.status.containers = 0;
        assert_eq!(decide(&deleted, &[], at(2)).next, Next::Remove);
    }
}
