//! What a run of the suite adds up to.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::points;
use crate::process::Death;

#[derive(Default)]
pub(crate) struct Figures {
    pub(crate) histories: usize,
    /// Deaths before the daemon served.
    pub(crate) in_start: usize,
    pub(crate) at_points: BTreeMap<String, usize>,
    pub(crate) at_times: usize,
    /// What clients were told.
    pub(crate) acknowledged: usize,
    /// Machines, claims and deletions of which it was checked, after a kill, that they are as they were told.
    pub(crate) checked: usize,
    /// Requests for a machine that a kill cut off.
    pub(crate) cut_off: usize,
    /// Of them, those whose machine was bound already.
    pub(crate) stranded: usize,
    pub(crate) events: usize,
    /// From a daemon's birth until it served, after a kill.
    pub(crate) ready: Vec<Duration>,
    /// From there until there was nothing left to do.
    pub(crate) settled: Vec<Duration>,
}

impl Figures {
    pub(crate) fn died(&mut self, death: Death) {
        match death {
            Death::Point(point) => *self.at_points.entry(point).or_default() += 1,
            Death::Time => self.at_times += 1,
        }
    }

    pub(crate) fn kills(&self) -> usize {
        self.at_times + self.at_points.values().sum::<usize>()
    }

    pub(crate) fn add(&mut self, other: Figures) {
        self.histories += other.histories;
        self.in_start += other.in_start;
        for (point, times) in other.at_points {
            *self.at_points.entry(point).or_default() += times;
        }
        self.at_times += other.at_times;
        self.acknowledged += other.acknowledged;
        self.checked += other.checked;
        self.cut_off += other.cut_off;
        self.stranded += other.stranded;
        self.events += other.events;
        self.ready.extend(other.ready);
        self.settled.extend(other.settled);
    }
}

/// Median, 95th of a hundred, and the longest.
fn spread(times: &[Duration]) -> String {
    let mut times: Vec<u128> = times.iter().map(Duration::as_millis).collect();
    times.sort_unstable();
    let at = |share: usize| times.get((times.len() * share / 100).min(times.len().saturating_sub(1))).unwrap_or(&0);
    format!("median {} ms, p95 {} ms, longest {} ms", at(50), at(95), at(100))
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (named, all) = (self.at_points.len(), points::all().len());
        writeln!(f, "kills                     {} in {} histories", self.kills(), self.histories)?;
        writeln!(f, "  at named points         {} at {named} of {all}", self.kills() - self.at_times)?;
        writeln!(f, "  at random times         {}", self.at_times)?;
        writeln!(f, "  before it served        {}", self.in_start)?;
        writeln!(f, "acknowledgements          {}, checked {} times, lost 0", self.acknowledged, self.checked)?;
        writeln!(f, "machines in use           0 ended, 0 cut off from their port, 0 started again")?;
        writeln!(f, "requests cut off          {}, of them bound in that instant {}", self.cut_off, self.stranded)?;
        writeln!(f, "leaks                     0 domains, forwards, disks, ports, credentials, claims")?;
        writeln!(f, "events                    {}, without gap, none lost or changed", self.events)?;
        writeln!(f, "from start to ready       {}", spread(&self.ready))?;
        write!(f, "from ready to rest        {}", spread(&self.settled))
    }
}
