//! How long a failed step waits.

use jiff::SignedDuration;

/// The first wait.
pub const FIRST: SignedDuration = SignedDuration::from_millis(250);
/// The longest wait.
pub const LONGEST: SignedDuration = SignedDuration::from_secs(30);

/// The wait after so many failures in a row: doubling from [`FIRST`], never over [`LONGEST`].
pub fn after(failures: u32) -> SignedDuration {
    let doubled = FIRST.as_millis().saturating_mul(1_i128 << failures.saturating_sub(1).min(16));
    SignedDuration::from_millis(doubled.min(LONGEST.as_millis()) as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest() {
        assert_eq!(after(1), FIRST);
        assert_eq!(after(2), FIRST * 2);
        assert_eq!(after(5), FIRST * 16);
        assert_eq!(after(9), LONGEST);
        assert_eq!(after(u32::MAX), LONGEST);
    }
}
