//! The allocator, which is the C library's.

/// No more heaps than processors. glibc makes up to eight for each, as threads come, and what is freed in one is of no use
/// to the others: with the operator's many short-lived threads most of a daemon's memory was such room (measured with 300
/// simulated machines on two processors: 26 MiB of anonymous memory instead of 44).
#[cfg(target_env = "gnu")]
#[allow(unsafe_code)]
pub(super) fn few_heaps() {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let heaps = libc::c_int::try_from(processors).unwrap_or(libc::c_int::MAX);
    // SAFETY: it takes two numbers and changes how the allocator makes heaps from now on.
    if unsafe { libc::mallopt(libc::M_ARENA_MAX, heaps) } != 1 {
        tracing::debug!("the allocator makes as many heaps as it likes");
    }
}

/// Other C libraries have no such setting.
#[cfg(not(target_env = "gnu"))]
pub(super) fn few_heaps() {}
