//! How long a machine may be used. Pure arithmetic; who acts on it is [`super::container`].
//!
//! | limit | from | until |
//! | --- | --- | --- |
//! | time to live | binding (a container without pool: Ready) | what the claim asks for, else the template, never over the template's maximum |
//! | idle timeout | the moment nobody is connected to its port any more | the template's |

use jiff::{SignedDuration, Timestamp};

use crate::model::Lifetime;

/// The earliest that an end is announced before it comes; short times are announced in their last quarter.
pub const WARNING: SignedDuration = SignedDuration::from_secs(60);
/// Connections are counted no more often than this,
const SHORTEST_POLL: SignedDuration = SignedDuration::from_secs(1);
/// and no more seldom. A connection that comes and goes in between is not noticed.
const LONGEST_POLL: SignedDuration = SignedDuration::from_secs(30);

/// Why a machine's time is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Its time to live has passed.
    Expired,
    /// Nobody was connected to it for too long.
    Idle,
}

impl Reason {
    /// As a container's `status.reason`.
    pub fn name(self) -> &'static str {
        match self {
            Reason::Expired => "Expired",
            Reason::Idle => "Idle",
        }
    }
}

/// The end of a machine, as far as is known now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// When.
    pub at: Timestamp,
    /// Why then.
    pub reason: Reason,
    /// Of how long a time.
    pub after: SignedDuration,
}

impl End {
    /// When it is announced.
    pub fn announced_at(&self) -> Timestamp {
        self.at - (self.after / 4).min(WARNING)
    }
}

/// The seconds that a claim gets which asks for some, or for nothing special; `None` is no limit.
pub fn granted(lifetime: &Lifetime, asked: Option<u32>) -> Option<u32> {
    let wished = asked.or(lifetime.ttl_seconds);
    match (wished, lifetime.max_ttl_seconds) {
        (Some(wished), Some(most)) => Some(wished.min(most)),
        (wished, most) => wished.or(most),
    }
}

/// Whether a claim may ask for that much; if not, the most that it may ask for.
pub fn allowed(lifetime: &Lifetime, asked: Option<u32>) -> Result<(), u32> {
    match (asked, lifetime.max_ttl_seconds) {
        (Some(asked), Some(most)) if asked > most => Err(most),
        _ => Ok(()),
    }
}

/// When a machine that is used since then ends by its time to live.
pub fn deadline(lifetime: &Lifetime, asked: Option<u32>, since: Timestamp) -> Option<Timestamp> {
    granted(lifetime, asked).map(|ttl| since + seconds(ttl))
}

/// When it ends by whatever comes first.
pub fn end(lifetime: &Lifetime, asked: Option<u32>, since: Timestamp, idle_since: Option<Timestamp>) -> Option<End> {
    let of = |reason, since, after: u32| End { at: since + seconds(after), reason, after: seconds(after) };
    let expired = granted(lifetime, asked).map(|ttl| of(Reason::Expired, since, ttl));
    let idle = idle_since.zip(lifetime.idle_timeout_seconds).map(|(since, after)| of(Reason::Idle, since, after));
    expired.into_iter().chain(idle).min_by_key(|end| end.at)
}

/// How often connections are counted, where that matters.
pub fn poll(lifetime: &Lifetime) -> Option<SignedDuration> {
    lifetime.idle_timeout_seconds.map(|timeout| (seconds(timeout) / 4).clamp(SHORTEST_POLL, LONGEST_POLL))
}

/// The time to live that makes a machine which is used since `since` live `more` seconds from now, or the most that
/// it may be given.
pub fn extended(lifetime: &Lifetime, since: Timestamp, more: u32, now: Timestamp) -> Result<u32, u32> {
    // Rounded up: it lives no shorter than it is told.
    let used = (now.duration_since(since).as_millis().max(0) + 999) / 1000;
    let ttl = u32::try_from(used + i128::from(more)).unwrap_or(u32::MAX);
    match lifetime.max_ttl_seconds {
        Some(most) if ttl > most => Err(most),
        _ => Ok(ttl),
    }
}

fn seconds(seconds: u32) -> SignedDuration {
    SignedDuration::from_secs(seconds.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_000_000 + second).unwrap()
    }

    fn lifetime(ttl: u32, most: u32, idle: u32) -> Lifetime {
        let some = |n| (n > 0).then_some(n);
        Lifetime {
            ttl_seconds: some(ttl),
            max_ttl_seconds: some(most),
            idle_timeout_seconds: some(idle),
            max_ready_seconds: None,
        }
    }

    #[test]
    fn what_a_claim_asks_for_goes_before_the_template_and_never_over_its_maximum() {
        // template's ttl, its maximum, what is asked for, what is granted; 0 is none
        for (ttl, most, asked, is) in [
            (0, 0, 0, 0),
            (100, 0, 0, 100),
            (0, 100, 0, 100),
            (100, 50, 0, 50),
            (0, 0, 70, 70),
            (100, 0, 70, 70),
            (100, 0, 700, 700),
            (100, 200, 700, 200),
            (0, 200, 700, 200),
        ] {
            let some = |n| (n > 0).then_some(n);
            assert_eq!(granted(&lifetime(ttl, most, 0), some(asked)), some(is), "{ttl} {most} {asked}");
        }
    }

    #[test]
    fn a_machine_ends_by_what_comes_first() {
        let both = lifetime(100, 0, 30);
        let end = |idle| super::end(&both, None, at(0), idle).map(|end| (end.at, end.reason));
        assert_eq!(end(None), Some((at(100), Reason::Expired)));
        assert_eq!(end(Some(at(40))), Some((at(70), Reason::Idle)));
        assert_eq!(end(Some(at(80))), Some((at(100), Reason::Expired)));
        assert_eq!(super::end(&lifetime(0, 0, 0), None, at(0), Some(at(1))), None);
    }

    #[test]
    fn an_end_is_announced_a_minute_ahead_or_in_the_last_quarter() {
        let announced = |ttl| end(&lifetime(ttl, 0, 0), None, at(0), None).unwrap().announced_at();
        assert_eq!(announced(3600), at(3540));
        assert_eq!(announced(240), at(180));
        assert_eq!(announced(8), at(6));
    }

    #[test]
    fn connections_are_counted_often_enough_and_no_more() {
        let every = |idle| poll(&lifetime(0, 0, idle)).map(|every| every.as_secs());
        assert_eq!(
            [every(0), every(1), every(8), every(40), every(9999)],
            [None, Some(1), Some(2), Some(10), Some(30)]
        );
    }

    #[test]
    fn an_extension_counts_from_now_and_ends_at_the_maximum() {
        let limited = lifetime(60, 600, 0);
        assert_eq!(extended(&limited, at(0), 60, at(30)), Ok(90));
        assert_eq!(extended(&limited, at(0), 10, at(30)), Ok(40), "it may be shortened");
        assert_eq!(extended(&limited, at(0), 570, at(30)), Ok(600));
        assert_eq!(extended(&limited, at(0), 571, at(30)), Err(600));
        assert_eq!(extended(&lifetime(60, 0, 0), at(0), u32::MAX, at(30)), Ok(u32::MAX));
        let half = at(30) + SignedDuration::from_millis(500);
        assert_eq!(extended(&limited, at(0), 60, half), Ok(91), "it lives no shorter than it was told");
    }
}
