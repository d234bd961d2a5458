//! How long a failed step waits.

use jiff::{SignedDuration, Timestamp};

/// The first wait.
pub const FIRST: SignedDuration = SignedDuration::from_millis(250);
/// The longest wait.
pub const LONGEST: SignedDuration = SignedDuration::from_secs(30);

/// The wait after so many failures in a row: doubling from [`FIRST`], never over [`LONGEST`].
pub fn after(failures: u32) -> SignedDuration {
    let doubled = FIRST.as_millis().saturating_mul(1_i128 << failures.saturating_sub(1).min(16));
    SignedDuration::from_millis(doubled.min(LONGEST.as_millis()) as i64)
}

/// What is left of a wait; nothing, when it is over. A longer one was written before the host booted with another date.
pub fn left(until: Option<Timestamp>, now: Timestamp) -> Option<SignedDuration> {
    until.map(|at| at.duration_since(now)).filter(|left| left.is_positive() && *left <= LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_over_in_time_and_one_of_another_date_at_once() {
        let at = |second| Timestamp::from_second(second).unwrap();
        assert_eq!([left(None, at(1)), left(Some(at(1)), at(1)), left(Some(at(1)), at(9))], [None; 3]);
        assert_eq!(left(Some(at(9)), at(1)), Some(SignedDuration::from_secs(8)));
        assert_eq!(left(Some(at(9999)), at(1)), None);
    }

    #[test]
    fn waits_double_up_to_the_longest() {
        assert_eq!(after(1), FIRST);
        assert_eq!(after(2), FIRST * 2);
        assert_eq!(after(5), FIRST * 16);
        assert_eq!(after(9), LONGEST);
        assert_eq!(after(u32::MAX), LONGEST);
    }
}
