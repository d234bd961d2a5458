//! The allocator, which is the C library's.

/// From this size on, a piece of memory is mapped by itself and goes back to the system when it is freed; and so much may
/// lie unused at the top of a heap. By default glibc learns from what is freed: from the store's buffers, of 8 MiB each, that
/// they belong into the heap, and that twice as much may lie at its top.
#[cfg(target_env = "gnu")]
const LARGE: libc::c_int = 1024 * 1024;

/// No more heaps than processors, and what is freed goes back. glibc makes up to eight heaps for each, as threads come, and
/// what is freed in one is of no use to the others: with the operator's many short-lived threads most of a daemon's memory
/// was such room (measured with 300 simulated machines on two processors: 26 MiB of anonymous memory instead of 44).
#[cfg(target_env = "gnu")]
#[allow(unsafe_code)]
pub(super) fn frugal() {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let heaps = libc::c_int::try_from(processors).unwrap_or(libc::c_int::MAX);
    let settings = [(libc::M_ARENA_MAX, heaps), (libc::M_MMAP_THRESHOLD, LARGE), (libc::M_TRIM_THRESHOLD, LARGE)];
    for (setting, value) in settings {
        // SAFETY: it takes two numbers and changes how the allocator works from now on.
        if unsafe { libc::mallopt(setting, value) } != 1 {
            tracing::debug!(setting, "the allocator takes as much memory as it likes");
        }
    }
}

/// Other C libraries have no such settings.
#[cfg(not(target_env = "gnu"))]
pub(super) fn frugal() {}
