//! The daemon's time, from the kernel: [`crate::plan::clock`] with its inputs.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use jiff::{SignedDuration, Timestamp};
use rustix::time::{ClockId, clock_gettime};
use uuid::Uuid;

use crate::plan::clock::{Anchor, Clock, TOLERANCE, anchor, offset};
use crate::store::records::{self, RecordError};
use crate::store::{Store, Txn};

/// The clock of a daemon with this store: it goes on through restarts, and with the kernel's count, whatever the wall
/// clock does. Where that goes elsewhere, the log says so, once for each jump.
pub(crate) fn anchored(store: &dyn Store) -> Result<Clock, RecordError> {
    let stored = records::anchor(store)?;
    let anchor = anchor(stored.clone(), &boot_id(), Timestamp::now(), boottime());
    if stored.as_ref() != Some(&anchor) {
        store.txn(Txn::default().put(records::CLOCK, &anchor)).wait()?;
    }
    let told = AtomicI64::new(0);
    Ok(Arc::new(move || {
        let now = anchor.at(boottime());
        warn_if_off(now, &told);
        now
    }))
}

/// The time of the daemon whose store this is, for who shares its records and not its clock.
pub(crate) fn of(store: &dyn Store) -> Result<Timestamp, RecordError> {
    let anchor = records::anchor(store)?.filter(|anchor: &Anchor| anchor.boot_id == boot_id());
    Ok(anchor.map_or_else(Timestamp::now, |anchor| anchor.at(boottime())))
}

fn warn_if_off(now: Timestamp, told: &AtomicI64) {
    let off = offset(now, Timestamp::now()).unwrap_or(SignedDuration::ZERO).as_secs();
    let before = told.load(Ordering::Relaxed);
    if (off - before).abs() > TOLERANCE.as_secs()
        && told.compare_exchange(before, off, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    {
        tracing::warn!(seconds = off, "the wall clock is off the daemon's time; deadlines keep to the latter");
    }
}

/// Since boot, suspended time included.
fn boottime() -> SignedDuration {
    let time = clock_gettime(ClockId::Boottime);
    SignedDuration::from_secs(time.tv_sec) + SignedDuration::from_nanos(time.tv_nsec)
}

/// Which boot this is. A kernel that does not tell gives every start of the daemon a boot of its own.
fn boot_id() -> String {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
    id.map_or_else(|_| Uuid::new_v4().to_string(), |id| id.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::memory;

    #[test]
    fn a_restart_keeps_the_time_and_others_share_it() {
        let store = memory();
        let first = anchored(&*store).unwrap();
        let stored = records::anchor(&*store).unwrap().unwrap();
        let before = first();
        let again = anchored(&*store).unwrap();
        assert_eq!(records::anchor(&*store).unwrap(), Some(stored.clone()));
        let (shared, after) = (of(&*store).unwrap(), again());
        assert!(before <= shared && shared <= after, "{before} {shared} {after}");

        // As if the wall clock had been a year ahead when the anchor was taken: it still counts.
        let year = SignedDuration::from_hours(365 * 24);
        let ahead = Anchor { wall: stored.wall + year, ..stored };
        store.txn(Txn::default().put(records::CLOCK, &ahead)).wait().unwrap();
        let off = anchored(&*store).unwrap()().duration_since(after);
        assert!(off >= year && off < year + SignedDuration::from_mins(5), "{off:?}");

        // Another boot.
        let elsewhere = Anchor { boot_id: "another".into(), ..ahead };
        store.txn(Txn::default().put(records::CLOCK, &elsewhere)).wait().unwrap();
        assert_eq!(offset(anchored(&*store).unwrap()(), Timestamp::now()), None);
    }
}
