//! The process's memory: who sees what is in it.

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

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
