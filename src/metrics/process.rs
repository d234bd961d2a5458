//! This process, under the names that Prometheus' own clients give.

use std::fs;
use std::io;
use std::sync::atomic::AtomicU64;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

/// What the kernel counts a process's time in, whatever its own clock ticks in: `USER_HZ` of Linux.
const TICKS_PER_SECOND: f64 = 100.0;
const KIBIBYTE: u64 = 1024;

/// A process as `/proc` tells it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Process {
    /// Processor time in seconds, of its own and of the system for it.
    pub cpu_seconds: f64,
    /// When it started, in seconds since 1970.
    pub start_seconds: f64,
    /// Bytes in memory.
    pub resident_bytes: u64,
    /// Bytes of address space.
    pub virtual_bytes: u64,
    /// Threads.
    pub threads: u64,
    /// File descriptors that are open.
    pub open_fds: u64,
    /// How many may be; none: any number.
    pub max_fds: Option<u64>,
}

impl Process {
    /// This one.
    pub fn this() -> io::Result<Process> {
        let (stat, status) = (fs::read_to_string("/proc/self/stat")?, fs::read_to_string("/proc/self/status")?);
        let (limits, system) = (fs::read_to_string("/proc/self/limits")?, fs::read_to_string("/proc/stat")?);
        // The directory that is read is open too.
        let open_fds = fs::read_dir("/proc/self/fd")?.count().saturating_sub(1) as u64;
        let parsed = parse(&stat, &status, &limits, &system);
        Ok(Process { open_fds, ..parsed.ok_or_else(|| io::Error::other("/proc/self is not as Linux writes it"))? })
    }

    /// Puts it into a registry without prefix.
    pub(super) fn register(&self, registry: &mut Registry) {
        let cpu = Counter::<f64, AtomicU64>::default();
        cpu.inc_by(self.cpu_seconds);
        registry.register_with_unit("process_cpu", "User and system time of the process", Unit::Seconds, cpu);
        let start = Gauge::<f64, AtomicU64>::default();
        start.set(self.start_seconds);
        let about = "When the process started, since 1970";
        registry.register_with_unit("process_start_time", about, Unit::Seconds, start);
        let mut bytes = |name, help, value: u64| {
            registry.register_with_unit(name, help, Unit::Bytes, gauge(value));
        };
        bytes("process_resident_memory", "Memory of the process", self.resident_bytes);
        bytes("process_virtual_memory", "Address space of the process", self.virtual_bytes);
        registry.register("process_open_fds", "Open file descriptors", gauge(self.open_fds));
        if let Some(max) = self.max_fds {
            registry.register("process_max_fds", "The most open file descriptors", gauge(max));
        }
        registry.register("process_threads", "Threads of the process", gauge(self.threads));
    }
}

pub(super) fn gauge(value: u64) -> Gauge {
    let gauge = Gauge::default();
    gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
    gauge
}

fn parse(stat: &str, status: &str, limits: &str, system: &str) -> Option<Process> {
    // The name in parentheses may hold anything. The fields behind it are numbered from 3 on (proc(5)).
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_ascii_whitespace().collect();
    let field = |number: usize| fields.get(number - 3)?.parse::<f64>().ok();
    let booted: f64 = system.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
    let of = |name: &str| -> Option<u64> {
        let rest = status.lines().find_map(|line| line.strip_prefix(name))?;
        rest.split_ascii_whitespace().next()?.parse().ok()
    };
    let files = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    Some(Process {
        cpu_seconds: (field(14)? + field(15)?) / TICKS_PER_SECOND,
        start_seconds: booted + field(22)? / TICKS_PER_SECOND,
        resident_bytes: of("VmRSS:")? * KIBIBYTE,
        virtual_bytes: of("VmSize:")? * KIBIBYTE,
        threads: of("Threads:")?,
        open_fds: 0,
        max_fds: files.split_ascii_whitespace().next()?.parse().ok(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_proc_says_is_read_with_its_units() {
        let stat = "7 (a) b) S 1 1 1 0 -1 0 0 0 0 0 150 50 0 0 20 0 9 0 1000 0 0";
        let status = "Name:\ta\nVmSize:\t    8 kB\nVmRSS:\t    2 kB\nThreads:\t9\n";
        let limits =
            "Limit  Soft Hard Units\nMax open files            1024                 4096                 files\n";
        let process = parse(stat, status, limits, "cpu 1 2\nbtime 1700000000\n").unwrap();
        let expected = Process {
            cpu_seconds: 2.0,
            start_seconds: 1_700_000_010.0,
            resident_bytes: 2048,
            virtual_bytes: 8192,
            threads: 9,
            open_fds: 0,
            max_fds: Some(1024),
        };
        assert_eq!(process, expected);
        let unlimited = limits.replace("1024", "unlimited");
        assert_eq!(parse(stat, status, &unlimited, "btime 1\n").unwrap().max_fds, None);
        assert_eq!(parse("7 (a) S", status, limits, "btime 1\n"), None);
        let this = Process::this().unwrap();
        assert!(this.resident_bytes > 0 && this.open_fds > 2 && this.start_seconds > 1e9, "{this:?}");
    }
}
