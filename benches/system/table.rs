//! The table, printed row by row, as it is measured.

use std::time::Duration;

use crate::sample::Sample;

/// What was measured of one thing.
#[derive(Default)]
pub(crate) struct Row {
    name: String,
    times: Option<Sample>,
    per_second: Option<f64>,
    cpu: Option<Duration>,
    rss: Option<u64>,
    notes: Vec<String>,
}

impl Row {
    pub(crate) fn new(name: impl Into<String>) -> Row {
        Row { name: name.into(), ..Row::default() }
    }

    /// How long each took.
    pub(crate) fn times(mut self, times: &Sample) -> Row {
        self.times = Some(times.clone());
        self
    }

    /// How many there were in a second.
    pub(crate) fn rate(mut self, count: usize, took: Duration) -> Row {
        self.per_second = Some(count as f64 / took.as_secs_f64());
        self
    }

    /// Processor time of the server for each.
    pub(crate) fn cpu(mut self, each: Duration) -> Row {
        self.cpu = Some(each);
        self
    }

    /// Resident memory of the server afterwards, in bytes.
    pub(crate) fn rss(mut self, bytes: u64) -> Row {
        self.rss = Some(bytes);
        self
    }

    /// What else is to be said.
    pub(crate) fn note(mut self, note: impl Into<String>) -> Row {
        self.notes.push(note.into());
        self
    }
}

/// What is printed, and how much of it is over its limit.
pub(crate) struct Table {
    checked: usize,
    unjudged: usize,
    over: Vec<String>,
}

impl Table {
    pub(crate) fn begin() -> Table {
        println!("{:<46} {:>10} {:>10} {:>10} {:>10} {:>10}", "", "p50", "p99", "a second", "server CPU", "server RSS");
        Table { checked: 0, unjudged: 0, over: Vec::new() }
    }

    pub(crate) fn group(&mut self, name: &str) {
        println!("\n[{name}]");
    }

    pub(crate) fn row(&mut self, row: Row) {
        let or_none = |text: Option<String>| text.unwrap_or_else(|| "-".into());
        println!(
            "{:<46} {:>10} {:>10} {:>10} {:>10} {:>10}",
            row.name,
            or_none(row.times.as_ref().map(|times| time(times.p50()))),
            or_none(row.times.as_ref().map(|times| time(times.p99()))),
            or_none(row.per_second.map(|rate| if rate < 100.0 { format!("{rate:.1}") } else { format!("{rate:.0}") })),
            or_none(row.cpu.map(time)),
            or_none(row.rss.map(mebibytes)),
        );
        for note in row.notes {
            println!("    {note}");
        }
    }

    /// Compares a time with its limit, which is so many times another one.
    pub(crate) fn check(&mut self, what: &str, is: Duration, factor: f64, of: Duration, of_what: &str) {
        self.verdict(compared(what, is, factor, of, of_what), is <= of.mul_f64(factor));
    }

    /// The same, on a machine where what it consists of takes `least` as seldom by itself: a limit below that tells of the
    /// machine, and nobody is judged by it.
    pub(crate) fn check_above(
        &mut self,
        what: &str,
        is: Duration,
        factor: f64,
        of: Duration,
        of_what: &str,
        least: Duration,
    ) {
        if least <= of.mul_f64(factor) {
            return self.check(what, is, factor, of, of_what);
        }
        self.unjudged += 1;
        println!("    ?    {}", compared(what, is, factor, of, of_what));
        println!("         not judged: what it consists of takes this machine {} as seldom", time(least));
    }

    /// Compares a number with its limit.
    pub(crate) fn check_number(&mut self, what: &str, is: f64, limit: f64, unit: &str) {
        self.verdict(format!("{what}: {is:.2} {unit}; limit {limit} {unit}"), is <= limit);
    }

    fn verdict(&mut self, says: String, good: bool) {
        self.checked += 1;
        println!("    {:<4} {says}", if good { "ok" } else { "OVER" });
        if !good {
            self.over.push(says);
        }
    }

    pub(crate) fn end(self) {
        println!("\n{} limits, {} over; {} not judged", self.checked, self.over.len(), self.unjudged);
        for over in self.over {
            println!("    {over}");
        }
    }
}

fn compared(what: &str, is: Duration, factor: f64, of: Duration, of_what: &str) -> String {
    let ratio = is.as_secs_f64() / of.as_secs_f64().max(f64::MIN_POSITIVE);
    let limit = time(of.mul_f64(factor));
    format!("{what}: {} is {ratio:.2} x {of_what} ({}); limit {factor} x = {limit}", time(is), time(of))
}

/// A time, with three digits that say something.
pub(crate) fn time(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    match seconds {
        _ if seconds >= 10.0 => format!("{seconds:.1} s"),
        _ if seconds >= 1.0 => format!("{seconds:.2} s"),
        _ if seconds >= 0.1 => format!("{:.0} ms", seconds * 1e3),
        _ if seconds >= 0.001 => format!("{:.2} ms", seconds * 1e3),
        _ => format!("{:.1} us", seconds * 1e6),
    }
}

pub(crate) fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}
