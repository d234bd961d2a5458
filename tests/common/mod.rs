//! What the suites of the running program share: the daemon as a child process, its log, and asking it.

// Each suite uses its part.
#![allow(dead_code)]

pub(crate) mod ask;
pub(crate) mod daemon;
pub(crate) mod libvirtd;
pub(crate) mod log;

use std::time::{Duration, Instant};

/// Longer than anything here takes, also on a machine that is busy with other things.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until something is so.
pub(crate) fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "never came: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
