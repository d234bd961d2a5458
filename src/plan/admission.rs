//! Whether the host has room for one more machine.
//!
//! A machine's memory counts from its record to the end of its record: one that boots or goes away holds its place.
//! Whether that sum is exact under any number of clients, is kept by who commits the record
//! ([`crate::store::records::ADMISSION`]).

use crate::model::Memory;

/// What a host gives to machines, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// Memory of all machines together.
    pub memory: u64,
    /// What is free now where their disks are.
    pub disk_free: u64,
    /// What has to stay free there.
    pub disk_reserve: u64,
}

impl Capacity {
    /// No limit at all: a simulated host.
    pub const UNLIMITED: Capacity = Capacity { memory: u64::MAX, disk_free: u64::MAX, disk_reserve: 0 };
}

/// Why the host takes no other machine now.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HostFull {
    /// Memory.
    #[error(
        "the host has no memory for another machine of {asked}: {} Mi of {} Mi are given away; raise 'host.memory', or end machines",
        mebibytes(*taken), mebibytes(*limit)
    )]
    Memory {
        /// What the machine needs.
        asked: Memory,
        /// What is given away, in bytes.
        taken: u64,
        /// What there is to give, in bytes.
        limit: u64,
    },
    /// Disk.
    #[error(
        "the host has no disk space for another machine: {} Mi are free in the state directory, {} Mi have to stay free; free some, or lower 'host.disk_reserve'",
        mebibytes(*free), mebibytes(*reserve)
    )]
    Disk {
        /// What is free, in bytes.
        free: u64,
        /// What has to stay free, in bytes.
        reserve: u64,
    },
}

/// Admits a machine that needs so much memory beside those that are recorded, or says why not.
pub fn admit(capacity: &Capacity, recorded: impl Iterator<Item = Memory>, asked: Memory) -> Result<(), HostFull> {
    let taken = sum(recorded);
    if taken.saturating_add(asked.bytes()) > capacity.memory {
        return Err(HostFull::Memory { asked, taken, limit: capacity.memory });
    }
    if capacity.disk_free < capacity.disk_reserve {
        return Err(HostFull::Disk { free: capacity.disk_free, reserve: capacity.disk_reserve });
    }
    Ok(())
}

/// How many machines would be admitted that need so much memory each.
pub fn room(capacity: &Capacity, recorded: impl Iterator<Item = Memory>, asked: Memory) -> u64 {
    if capacity.disk_free < capacity.disk_reserve {
        return 0;
    }
    let left = capacity.memory.saturating_sub(sum(recorded));
    left.checked_div(asked.bytes()).unwrap_or(u64::MAX)
}

fn sum(recorded: impl Iterator<Item = Memory>) -> u64 {
    recorded.fold(0, |sum, memory| sum.saturating_add(memory.bytes()))
}

fn mebibytes(bytes: u64) -> u64 {
    bytes >> 20
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn host(memory: u64, free: u64, reserve: u64) -> Capacity {
        Capacity { memory: memory * MIB, disk_free: free * MIB, disk_reserve: reserve * MIB }
    }

    fn admit_third(capacity: &Capacity) -> Result<(), HostFull> {
        admit(capacity, [256, 256].map(Memory::mebibytes).into_iter(), Memory::mebibytes(256))
    }

    #[test]
    fn a_machine_is_admitted_up_to_the_last_byte_and_not_beyond() {
        assert_eq!(admit_third(&host(768, 600, 512)), Ok(()));
        let full = admit_third(&host(767, 600, 512)).unwrap_err().to_string();
        assert!(["256Mi", "512 Mi", "767 Mi", "host.memory"].iter().all(|word| full.contains(word)), "{full}");
        assert_eq!(admit_third(&host(768, 512, 512)), Ok(()));
        let full = admit_third(&host(768, 511, 512)).unwrap_err().to_string();
        assert!(["511 Mi", "512 Mi", "host.disk_reserve"].iter().all(|word| full.contains(word)), "{full}");
    }

    #[test]
    fn there_is_room_for_as_many_as_are_admitted_one_by_one() {
        let (recorded, asked) = ([Memory::mebibytes(256); 2], Memory::mebibytes(200));
        for (memory, free, count) in [(512, 9, 0), (711, 9, 0), (712, 9, 1), (1112, 9, 3), (0, 9, 0), (1112, 1, 0)] {
            let capacity = host(memory, free, 5);
            assert_eq!(room(&capacity, recorded.into_iter(), asked), count, "{memory}");
            let mut machines = recorded.to_vec();
            while admit(&capacity, machines.iter().copied(), asked).is_ok() {
                machines.push(asked);
            }
            assert_eq!(machines.len() as u64, 2 + count);
        }
    }

    #[test]
    fn sums_that_no_host_has_are_refused_and_do_not_overflow() {
        let huge: Memory = u64::MAX.to_string().parse().unwrap();
        assert!(admit(&host(768, 600, 512), [huge, huge].into_iter(), huge).is_err());
        assert_eq!(admit(&Capacity::UNLIMITED, [huge, huge].into_iter(), huge), Ok(()));
    }
}
