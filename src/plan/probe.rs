//! Readiness probes: whether a member that waits for a claim still answers, by the way that its client would take.
//!
//! A machine can be cut off, or its SSH server end, and its domain runs on: nothing tells of that. So every member is
//! asked for its SSH server's first words, now and then. Only members: who uses a machine may have cut it off, and finds out
//! what it does anyway.
//!
//! How often, how patiently, and how many silences are one, its template says ([`ReadinessProbe`]).
//!
//! What came of it is kept in memory alone. After a start every member counts as not asked yet, and is soon.

use jiff::{SignedDuration, Timestamp};

use crate::model::{Container, Phase, ReadinessProbe, Seen};

/// Members that became Ready together, or were found together, are asked within so long, and not all at once; within a
/// period, if that is less.
pub const SPREAD: SignedDuration = SignedDuration::from_secs(5);
/// From silence to the next question; a period, if that is less.
pub const AGAIN: SignedDuration = SignedDuration::from_secs(5);

/// What the probes of one member came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probed {
    /// It was not asked yet.
    NotYet {
        /// Since when it is looked after.
        since: Timestamp,
    },
    /// It answered.
    Answered {
        /// When.
        at: Timestamp,
    },
    /// It did not answer.
    Silent {
        /// When it was last waited for.
        at: Timestamp,
        /// How often in a row.
        times: u32,
    },
}

impl Probed {
    /// What it came to, with another probe.
    pub fn and(self, answered: bool, at: Timestamp) -> Probed {
        match (self, answered) {
            (_, true) => Probed::Answered { at },
            (Probed::Silent { times, .. }, false) => Probed::Silent { at, times: times.saturating_add(1) },
            (Probed::NotYet { .. } | Probed::Answered { .. }, false) => Probed::Silent { at, times: 1 },
        }
    }

    /// When it is to be asked next.
    pub fn due(self, c: &Container) -> Timestamp {
        let after = |at: Timestamp, wait: SignedDuration| at.saturating_add(wait).unwrap_or(Timestamp::MAX);
        let period = period(c);
        match self {
            // At its set-up it answered; one of an earlier run may have ended to since.
            Probed::NotYet { since } => {
                let ready = c.status.ready_at.map_or(since, |at| after(at, period));
                after(ready.max(since), spread(c))
            }
            Probed::Answered { at } => after(at, period + spread(c)),
            Probed::Silent { at, .. } => after(at, AGAIN.min(period)),
        }
    }

    /// Whether it answers: silence is one only after as many questions as its template says.
    pub fn answers(self, probe: &ReadinessProbe) -> Seen<()> {
        match self {
            Probed::NotYet { .. } => Seen::Unknown("it was not asked yet".into()),
            Probed::Answered { .. } => Seen::Present(()),
            Probed::Silent { times, .. } if times >= probe.failure_threshold => Seen::Absent,
            Probed::Silent { .. } => Seen::Unknown("it did not answer when it was asked last".into()),
        }
    }

    /// Whether it did not answer when it was asked last.
    pub fn doubtful(self) -> bool {
        match self {
            Probed::Silent { .. } => true,
            Probed::NotYet { .. } | Probed::Answered { .. } => false,
        }
    }
}

/// Whether a container is a member that waits for a claim.
pub fn wants(c: &Container) -> bool {
    c.status.phase == Phase::Ready && c.spec.pool.is_some() && c.spec.claim.is_none() && !c.metadata.deleting()
}

fn period(c: &Container) -> SignedDuration {
    SignedDuration::from_secs(c.spec.template.readiness_probe.period_seconds.into())
}

/// A member's own part of [`SPREAD`], always the same.
fn spread(c: &Container) -> SignedDuration {
    let [.., low] = *c.uuid().as_bytes();
    SPREAD.min(period(c)) * i32::from(low) / i32::from(u8::MAX)
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::model::{ContainerSpec, ContainerStatus, Image, Mac, Machine, ObjectMeta, Template};

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_000_000 + second).unwrap()
    }

    /// A member that became Ready at 0; its UUID ends with this byte.
    fn member(low: u8) -> Container {
        Container {
            metadata: ObjectMeta::new("default", "c", Uuid::from_u128(low.into()), at(-9)),
            spec: ContainerSpec {
                pool: Some("default".into()),
                claim: None.into(),
                template: Template::of(Image::Iso("/i.iso".into())).into(),
                scheduling_gates: vec![].into(),
                machine: Machine { mac: Mac::default(), port: 1, image_sha256: "".into() },
            },
            status: ContainerStatus { phase: Phase::Ready, ready_at: Some(at(0)), ..ContainerStatus::default() },
        }
    }

    #[test]
    fn a_member_is_asked_seldom_and_those_of_one_moment_not_at_once() {
        for (low, spread) in [(0, 0), (255, 5)] {
            let c = member(low);
            assert_eq!(Probed::NotYet { since: at(-1) }.due(&c), at(30 + spread), "it has just answered");
            assert_eq!(Probed::Answered { at: at(50) }.due(&c), at(80 + spread));
        }
    }

    #[test]
    fn a_member_is_asked_as_often_as_its_template_says() {
        for (period, next, again) in [(1, 2, 1), (4, 8, 4), (60, 65, 5)] {
            let mut c = member(255);
            c.spec.template.readiness_probe.period_seconds = period;
            assert_eq!(Probed::NotYet { since: at(-1) }.due(&c), at(next), "every {period} s");
            assert_eq!(Probed::Answered { at: at(50) }.due(&c), at(50 + next), "every {period} s");
            assert_eq!(Probed::Silent { at: at(50), times: 1 }.due(&c), at(50 + again), "every {period} s");
        }
    }

    #[test]
    fn after_a_start_every_member_is_asked_soon() {
        assert_eq!(Probed::NotYet { since: at(1000) }.due(&member(0)), at(1000));
        assert_eq!(Probed::NotYet { since: at(1000) }.due(&member(255)), at(1005));
    }

    #[test]
    fn only_so_many_silences_in_a_row_are_one_and_one_answer_ends_them() {
        for most in [2, 3, 5] {
            let probe = ReadinessProbe { failure_threshold: most, ..ReadinessProbe::default() };
            let mut probed = Probed::NotYet { since: at(0) };
            for time in 1..=most {
                assert_ne!(probed.answers(&probe), Seen::Absent);
                probed = probed.and(false, at(time.into()));
                assert!(probed.doubtful());
                assert_eq!(probed.due(&member(255)), at(time.into()) + AGAIN);
            }
            assert_eq!(probed.answers(&probe), Seen::Absent);
            probed = probed.and(true, at(9));
            assert!(!probed.doubtful());
            assert_eq!(probed.answers(&probe), Seen::Present(()));
            assert!(matches!(probed.and(false, at(10)).answers(&probe), Seen::Unknown(_)), "the count goes on");
        }
    }

    #[test]
    fn only_members_that_wait_for_a_claim_are_asked() {
        assert!(wants(&member(0)));
        let but = |change: fn(&mut Container)| {
            let mut c = member(0);
            change(&mut c);
            wants(&c)
        };
        assert!(!but(|c| c.spec.claim = Some("claim".to_owned()).into()));
        assert!(!but(|c| c.spec.pool = None));
        assert!(!but(|c| c.status.phase = Phase::Bound));
        assert!(!but(|c| c.metadata.deletion_timestamp = Some(Timestamp::UNIX_EPOCH).into()));
    }
}
