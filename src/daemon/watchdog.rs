//! systemd's watchdog: it is told that the daemon lives as long as it does, and starts it again when it hears nothing.
//! Machines do not notice.

use std::time::Duration;

use tokio_util::task::AbortOnDropHandle;

use crate::facade::Pulse;

/// It is told so often within its limit that one late word is no end.
const TIMES: u32 = 3;

/// Tells it until dropped, where it wants to be told.
pub(super) fn start(pulse: Pulse) -> Option<AbortOnDropHandle<()>> {
    let limit = sd_notify::watchdog_enabled()?;
    let tell = || super::notify(&[sd_notify::NotifyState::Watchdog]);
    let beat = move || {
        let pulse = pulse.clone();
        async move { pulse.beat().await }
    };
    Some(AbortOnDropHandle::new(tokio::spawn(keep(limit / TIMES, beat, tell))))
}

/// Tells after each beat, and waits so long before the next one.
async fn keep<B: Future<Output = ()>>(pause: Duration, beat: impl Fn() -> B, tell: impl Fn()) {
    loop {
        beat().await;
        tell();
        tokio::time::sleep(pause).await;
    }
}

#[cfg(test)]
mod tests;
