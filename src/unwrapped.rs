//! What the system is asked that no library asks safely. With `hypervisor::libvirt::ffi` this is all unsafe code of the
//! product, which `unsafe_code_is_in_two_modules_and_says_why_it_is_sound` (tests/architecture.rs) keeps so.

#![allow(unsafe_code)]

use std::ffi::c_int;
use std::io;
use std::os::fd::AsFd;

use rustix::ioctl::{Getter, Opcode, ioctl};

/// Asks how many bytes of a socket are not confirmed (`linux/sockios.h`).
const SIOCOUTQ: Opcode = 0x5411;

/// How many of the bytes that were sent the peer's system has not confirmed.
pub(crate) fn unconfirmed(socket: impl AsFd) -> io::Result<c_int> {
    // SAFETY: SIOCOUTQ writes one int, and nothing else.
    Ok(unsafe { ioctl(socket, Getter::<SIOCOUTQ, c_int>::new()) }?)
}

/// Whether something keeps this host's clock in time. It is what the kernel has `STA_UNSYNC` for: whoever sets the clock
/// takes it away, and it comes back when he falls silent.
pub(crate) fn clock_is_synchronised() -> io::Result<bool> {
    // SAFETY: all of its fields are numbers, for which zeros are valid.
    let mut state: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: without any mode it only writes to the structure that it is given.
    match unsafe { libc::adjtimex(&raw mut state) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(state.status & libc::STA_UNSYNC == 0),
    }
}

/// No more heaps than this many, of an allocator that knows the setting; whether it does.
#[cfg(target_env = "gnu")]
pub(crate) fn limit_heaps(heaps: c_int) -> bool {
    // SAFETY: it takes two numbers and changes how the allocator makes heaps from now on.
    unsafe { libc::mallopt(libc::M_ARENA_MAX, heaps) == 1 }
}

/// Other C libraries have no such setting.
#[cfg(not(target_env = "gnu"))]
pub(crate) fn limit_heaps(_heaps: c_int) -> bool {
    false
}
