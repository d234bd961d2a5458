//! The host that this process runs on.

use std::fs::File;
use std::io::{self, Read};
use std::num::NonZeroUsize;
use std::path::PathBuf;

use rustix::fs::statvfs;

use super::Host;
use crate::plan::admission::Capacity;

/// Memory that is left to the host itself, where its configuration does not say how much machines get.
const HOST_KEEPS: u64 = 512 << 20;
/// Memory that machines get at least then, however small the host.
const AT_LEAST: u64 = 256 << 20;
/// The longest `/proc/meminfo` that is read; it has some 1,500 bytes.
const MAX_MEMINFO: u64 = 64 << 10;

/// Boots for each processor: while one waits for its disk or its devices, another one goes on.
const BOOTS_EACH: NonZeroUsize = NonZeroUsize::new(2).unwrap();

/// How many machines boot at once where nobody says it.
pub fn boots_at_once() -> NonZeroUsize {
    let processors = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    processors.saturating_mul(BOOTS_EACH)
}

/// This host, within the limits it is given.
pub struct LocalHost {
    memory: u64,
    disk: Option<(PathBuf, u64)>,
}

impl LocalHost {
    /// Gives machines so many bytes of memory, and takes none any more when fewer than `reserve` bytes are free where
    /// the directory is.
    pub fn new(memory: u64, disk: Option<(PathBuf, u64)>) -> Self {
        LocalHost { memory, disk }
    }
}

impl Host for LocalHost {
    fn capacity(&self) -> io::Result<Capacity> {
        let (disk_free, disk_reserve) = match &self.disk {
            Some((dir, reserve)) => {
                let disk = statvfs(dir)?;
                (disk.f_bavail.saturating_mul(disk.f_frsize), *reserve)
            }
            None => (Capacity::UNLIMITED.disk_free, Capacity::UNLIMITED.disk_reserve),
        };
        Ok(Capacity { memory: self.memory, disk_free, disk_reserve })
    }
}

/// What machines get of this host's memory where nobody said how much: all but what the host needs itself.
pub fn memory_for_machines() -> io::Result<u64> {
    let mut text = String::new();
    File::open("/proc/meminfo")?.take(MAX_MEMINFO).read_to_string(&mut text)?;
    let total = total(&text).ok_or_else(|| io::Error::other("/proc/meminfo says no MemTotal: set 'host.memory'"))?;
    Ok(total.saturating_sub(HOST_KEEPS).max(AT_LEAST))
}

/// `MemTotal:       16384256 kB`, in bytes.
fn total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_as_the_kernel_writes_it() {
        assert_eq!(total("MemTotal:       16384256 kB\nMemFree: 1 kB\n"), Some(16_384_256 * 1024));
        for odd in ["", "MemFree: 1 kB", "MemTotal: 1", "MemTotal: x kB", "MemTotal: 99999999999999999999 kB"] {
            assert_eq!(total(odd), None, "{odd:?}");
        }
    }

    #[test]
    fn this_host_has_memory_and_a_disk() {
        let dir = tempfile::tempdir().unwrap();
        let host = LocalHost::new(memory_for_machines().unwrap(), Some((dir.path().into(), 7)));
        let capacity = host.capacity().unwrap();
        assert!(capacity.memory >= AT_LEAST && capacity.memory < 1 << 50, "{capacity:?}");
        assert!(capacity.disk_free > 0 && capacity.disk_free < 1 << 60 && capacity.disk_reserve == 7, "{capacity:?}");
        assert!(LocalHost::new(1, Some((dir.path().join("gone"), 7))).capacity().is_err());
    }
}
