//! Lines of the log that strangers cause: so many of a kind in a minute, and the rest as a number.
//!
//! Whoever can connect can have a line written, so without a limit they could fill the disk, and hide among lines of
//! their own. The events themselves are told and counted in any case; only their lines are left out.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Lines of a kind in [`SPAN`]. One address that keeps to the rates never has any left out: that many connections are
/// what it may make in a minute. Nothing in such a line is as long as a client likes: a kind is at most 10 KiB a second.
pub(super) const MOST: u64 = 600;
/// The time in which they are counted.
const SPAN: Duration = Duration::from_secs(60);

/// Decides for each line whether it is written.
pub struct Lines {
    start: Instant,
    ledger: Mutex<Ledger>,
}

impl Default for Lines {
    fn default() -> Self {
        Lines { start: Instant::now(), ledger: Mutex::default() }
    }
}

impl Lines {
    /// Has a line of this kind written, or counted.
    pub fn say(&self, kind: &'static str, write: impl FnOnce()) {
        let (written, left_out) = self.ledger().offer(kind, self.start.elapsed());
        tell(&left_out);
        if written {
            write();
        }
    }

    /// Tells what was left out until now.
    pub fn close(&self) {
        let left_out = self.ledger().settle();
        tell(&left_out);
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

type LeftOut = Vec<(&'static str, u64)>;

fn tell(left_out: &LeftOut) {
    for (kind, count) in left_out {
        tracing::warn!(
            kind,
            count,
            "lines of the log were left out: more than {MOST} of a kind in {} s",
            SPAN.as_secs()
        );
    }
}

/// What was offered since the span began.
#[derive(Default)]
struct Ledger {
    since: Duration,
    offered: BTreeMap<&'static str, u64>,
}

impl Ledger {
    /// Whether to write it, and what was left out of a span that is over.
    fn offer(&mut self, kind: &'static str, now: Duration) -> (bool, LeftOut) {
        let mut left_out = LeftOut::new();
        if now.saturating_sub(self.since) >= SPAN {
            left_out = self.settle();
            self.since = now;
        }
        let offered = self.offered.entry(kind).or_default();
        *offered += 1;
        (*offered <= MOST, left_out)
    }

    /// What was left out, told once; all counts begin anew.
    fn settle(&mut self) -> LeftOut {
        let offered = std::mem::take(&mut self.offered).into_iter();
        offered.filter(|&(_, count)| count > MOST).map(|(kind, count)| (kind, count - MOST)).collect()
    }
}

/// The lines that this has written.
#[cfg(test)]
pub(super) fn written(work: impl FnOnce()) -> Vec<String> {
    let (mut read, write) = std::io::pipe().unwrap();
    let subscriber = tracing_subscriber::fmt().with_writer(Mutex::new(write)).finish();
    let reader = std::thread::spawn(move || std::io::read_to_string(&mut read).unwrap());
    tracing::subscriber::with_default(subscriber, work);
    reader.join().unwrap().lines().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn second(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn so_many_lines_of_a_kind_are_written_in_a_span_and_the_rest_is_told_once_as_a_number() {
        let mut ledger = Ledger::default();
        let written = (0..MOST + 7).filter(|_| ledger.offer("CONNECTION", second(100)).0).count();
        assert_eq!(written as u64, MOST);
        assert_eq!(ledger.offer("REQUEST", second(159)), (true, vec![]), "another kind has lines of its own");
        assert_eq!(ledger.offer("REQUEST", second(160)), (true, vec![("CONNECTION", 7)]));
        assert_eq!(ledger.offer("CONNECTION", second(161)), (true, vec![]));
        assert_eq!(ledger.offer("CONNECTION", second(1000)), (true, vec![]), "nothing is told twice");
    }

    #[test]
    fn what_was_left_out_is_told_at_the_end() {
        let mut ledger = Ledger::default();
        for _ in 0..MOST + 2 {
            ledger.offer("CONNECTION", second(1));
        }
        assert_eq!(ledger.settle(), [("CONNECTION", 2)]);
        assert_eq!(ledger.settle(), []);
    }
}
