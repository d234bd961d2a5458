//! What the system is asked that no library asks safely. With `hypervisor::libvirt::ffi` and a name in the program's
//! `allocator` this is all unsafe code of the product, which
//! `unsafe_code_is_in_these_modules_and_says_why_it_is_sound` (tests/architecture.rs) keeps so.

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
