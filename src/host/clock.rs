//! Whether something keeps this host's clock in time.

/// What the kernel has `STA_UNSYNC` for: whoever sets the clock takes it away, and it comes back when he falls silent.
#[allow(unsafe_code)]
pub fn is_synchronised() -> Result<bool, String> {
    // SAFETY: all of its fields are numbers, for which zeros are valid.
    let mut state: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: without any mode it only writes to the structure that it is given.
    match unsafe { libc::adjtimex(&raw mut state) } {
        -1 => Err(format!("the kernel does not say: {}", std::io::Error::last_os_error())),
        _ => Ok(state.status & libc::STA_UNSYNC == 0),
    }
}
