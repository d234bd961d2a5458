//! What a run of the suite adds up to. Every number here was counted.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use crate::faults::{Breach, Fault, Faults, Thing};
use crate::process::Death;

#[derive(Default)]
pub(crate) struct Figures {
    /// Points at which a daemon can be made to die.
    pub(crate) points: BTreeSet<String>,
    pub(crate) histories: usize,
    /// Deaths before the daemon served.
    pub(crate) in_start: usize,
    pub(crate) at_points: BTreeMap<String, usize>,
    pub(crate) at_times: usize,
    /// Times that libvirt's own daemon was killed, with ours or alone.
    pub(crate) libvirtd: usize,
    /// What clients were told.
    pub(crate) acknowledged: usize,
    /// Machines, claims and deletions of which it was checked, after a kill, that they are as they were told.
    pub(crate) checked: usize,
    /// Requests for a machine that a kill cut off.
    pub(crate) cut_off: usize,
    /// Of them, those whose machine was bound already.
    pub(crate) stranded: usize,
    /// Requests for a machine, and claims, that were told that theirs ended before it was theirs. No claim that was
    /// written as an object may be.
    pub(crate) failed: usize,
    pub(crate) events: usize,
    /// SSH sessions that were open through a kill, each time that they were.
    pub(crate) sessions: usize,
    /// From a daemon's birth until it served, after a kill.
    pub(crate) ready: Vec<Duration>,
    /// From there until there was nothing left to do.
    pub(crate) settled: Vec<Duration>,
    /// What was not kept.
    pub(crate) faults: Faults,
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
        self.points.extend(other.points);
        self.histories += other.histories;
        self.in_start += other.in_start;
        for (point, times) in other.at_points {
            *self.at_points.entry(point).or_default() += times;
        }
        self.at_times += other.at_times;
        self.libvirtd += other.libvirtd;
        self.acknowledged += other.acknowledged;
        self.checked += other.checked;
        self.cut_off += other.cut_off;
        self.stranded += other.stranded;
        self.failed += other.failed;
        self.events += other.events;
        self.sessions += other.sessions;
        self.ready.extend(other.ready);
        self.settled.extend(other.settled);
        self.faults.extend(other.faults);
    }

    fn count(&self, breach: Breach) -> usize {
        self.faults.iter().filter(|fault| fault.breach == breach).count()
    }

    /// Prints the table, and ends the test if it does not show what it is for.
    pub(crate) fn conclude(&self, title: &str) {
        println!("{title}\n{self}");
        let faults: Vec<String> = self.faults.iter().map(Fault::to_string).collect();
        assert!(faults.is_empty(), "{} promises were not kept:\n{}", faults.len(), faults.join("\n"));
        // What proves nothing is no success.
        assert!(self.kills() > 0 && self.checked > 0 && self.events > 0, "too little happened");
    }
}

/// Median, 95th of a hundred, and the longest.
fn spread(times: &[Duration]) -> String {
    if times.is_empty() {
        return "not measured".into();
    }
    let mut times: Vec<u128> = times.iter().map(Duration::as_millis).collect();
    times.sort_unstable();
    let at = |share: usize| times[(times.len() * share / 100).min(times.len() - 1)];
    format!("p50 {} ms, p95 {} ms, longest {} ms", at(50), at(95), at(100))
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (named, all) = (self.at_points.len(), self.points.len());
        let leaks: Vec<String> =
            Thing::ALL.map(|thing| format!("{} {}", self.count(Breach::Leaked(thing)), thing.plural())).into();
        writeln!(f, "kills                     {} in {} histories", self.kills(), self.histories)?;
        writeln!(f, "  at named points         {} at {named} of {all}", self.kills() - self.at_times)?;
        writeln!(f, "  at random times         {}", self.at_times)?;
        writeln!(f, "  before it served        {}", self.in_start)?;
        writeln!(f, "  of libvirtd besides     {}", self.libvirtd)?;
        writeln!(f, "acknowledgements          {}, checked {} times", self.acknowledged, self.checked)?;
        writeln!(f, "  lost                    {}", self.count(Breach::Lost))?;
        writeln!(f, "  ended, cut off, reborn  {}", self.count(Breach::Disturbed))?;
        writeln!(f, "requests cut off          {}, of them bound in that instant {}", self.cut_off, self.stranded)?;
        writeln!(f, "claims failed at boot     {}", self.failed)?;
        writeln!(f, "leaked                    {}", leaks.join(", "))?;
        writeln!(f, "events                    {}", self.events)?;
        writeln!(f, "  missing or changed      {}", self.count(Breach::Missing))?;
        writeln!(f, "  doubled                 {}", self.count(Breach::Doubled))?;
        writeln!(f, "SSH sessions through it   {}", self.sessions)?;
        writeln!(f, "  dropped                 {}", self.count(Breach::Dropped))?;
        writeln!(f, "others' domains touched   {}", self.count(Breach::Foreign))?;
        writeln!(f, "not as wished at rest     {}", self.count(Breach::Unrest))?;
        writeln!(f, "from start to ready       {}", spread(&self.ready))?;
        write!(f, "from ready to rest        {}", spread(&self.settled))
    }
}
