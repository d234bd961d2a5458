//! The process's memory: how much of it is empty, and who sees what is in it.

use std::ffi::c_int;

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

use crate::unwrapped::limit_heaps;

/// From this size on, a piece of memory is mapped by itself and goes back to the system when it is freed; and so much may
/// lie unused at the top of a heap. By default glibc learns from what is freed: from the store's buffers, of 8 MiB each, that
/// they belong into the heap, and that twice as much may lie at its top.
const LARGE: c_int = 1024 * 1024;

/// No more heaps than processors, and what is freed goes back. glibc makes up to eight heaps for each, as threads come, and
/// what is freed in one is of no use to the others: with the operator's many short-lived threads most of a daemon's memory
/// was such room (measured with 300 simulated machines on two processors: 26 MiB of anonymous memory instead of 44).
pub(super) fn frugal() {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    if !limit_heaps(c_int::try_from(processors).unwrap_or(c_int::MAX), LARGE) {
        tracing::debug!("the allocator takes as much memory as it likes");
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
