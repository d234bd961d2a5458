//! The daemon's time. Deadlines outlive the daemon, and the wall clock of a host jumps; so the daemon counts from an
//! **anchor**: the wall clock at its first start after the host's boot, plus what the kernel has counted since.
//!
//! No machine outlives the host's boot, so no deadline of a machine ever meets two anchors.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

/// What a wall clock may differ from the daemon's time before that is worth a warning.
pub const TOLERANCE: SignedDuration = SignedDuration::from_secs(5);

/// Tells the daemon's time. Tests bring their own.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// Ties the kernel's count to a date.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Anchor {
    /// The boot it was taken in.
    pub boot_id: String,
    /// The wall clock then.
    pub wall: Timestamp,
    /// The kernel's count since boot then, in milliseconds, suspended time included.
    pub boottime_milliseconds: i64,
}

impl Anchor {
    /// The time at which the kernel's count is this.
    pub fn at(&self, boottime: SignedDuration) -> Timestamp {
        let since = boottime - SignedDuration::from_millis(self.boottime_milliseconds);
        self.wall.checked_add(since).unwrap_or(self.wall)
    }
}

/// The anchor to count from: the stored one as long as the host has not booted since, else one that is taken now.
pub fn anchor(stored: Option<Anchor>, boot_id: &str, wall: Timestamp, boottime: SignedDuration) -> Anchor {
    match stored {
        Some(stored) if stored.boot_id == boot_id => stored,
        _ => Anchor {
            boot_id: boot_id.into(),
            wall,
            boottime_milliseconds: boottime.as_millis().try_into().unwrap_or(i64::MAX),
        },
    }
}

/// How far the wall clock is off, where that is worth telling.
pub fn offset(ours: Timestamp, wall: Timestamp) -> Option<SignedDuration> {
    let off = wall.duration_since(ours);
    (off.abs() > TOLERANCE).then_some(off)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 24 * 3600;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_000_000_000 + second).unwrap()
    }

    fn counted(seconds: i64) -> SignedDuration {
        SignedDuration::from_secs(seconds)
    }

    #[test]
    fn a_wall_clock_that_jumps_by_days_changes_no_time() {
        let first = anchor(None, "boot", at(0), counted(100));
        for jump in [-3 * DAY, -1, 0, 1, 3 * DAY] {
            // A restart, ten seconds later, with the wall clock wherever it is now.
            let after = anchor(Some(first.clone()), "boot", at(10 + jump), counted(110));
            assert_eq!(after, first);
            assert_eq!(after.at(counted(110)), at(10), "jump of {jump} s");
        }
    }

    #[test]
    fn a_new_boot_takes_a_new_anchor() {
        let first = anchor(None, "boot", at(0), counted(100));
        let next = anchor(Some(first), "another", at(500), counted(3));
        assert_eq!((next.at(counted(3)), next.at(counted(8))), (at(500), at(505)));
    }

    #[test]
    fn only_a_wall_clock_that_is_well_off_is_worth_a_word() {
        for (wall, off) in [(0, None), (5, None), (-5, None), (6, Some(6)), (-DAY, Some(-DAY))] {
            assert_eq!(offset(at(0), at(wall)), off.map(counted));
        }
    }
}
