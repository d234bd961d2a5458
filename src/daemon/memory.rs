//! The process's memory: how much of it is empty, and who sees what is in it.

use std::ffi::c_int;

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

use crate::unwrapped::limit_heaps;

/// No more heaps than processors. glibc makes up to eight for each, as threads come, and what is freed in one is of no use
/// to the others: with the operator's many short-lived threads most of a daemon's memory was such room (measured with 300
/// simulated machines on two processors: 26 MiB of anonymous memory instead of 44).
pub(super) fn few_heaps() {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    if !limit_heaps(c_int::try_from(processors).unwrap_or(c_int::MAX)) {
        tracing::debug!("the allocator makes as many heaps as it likes");
    }
}

/// Keys, passwords and tokens are in this memory. No crash writes it to a disk, and no process of the same user reads it or
/// stops it to look; what it starts, QEMU with a guest's memory too, writes none either. Kept by
/// `no_crash_and_no_neighbour_shows_the_memory_of_a_daemon` (tests/daemon/secrets.rs).
pub(super) fn secret() {
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    let limited = setrlimit(Resource::Core, none);
    // A program that is started anew can be looked at again: this is the daemon's alone, and the limit is for all.
    if let Err(error) = limited.and_then(|()| set_dumpable_behavior(DumpableBehavior::NotDumpable)) {
        tracing::warn!(%error, "a crash could write this daemon's memory to a disk, with the secrets in it");
    }
}
