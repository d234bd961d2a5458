//! libvirt's event loop: one for the process, on its own thread, running before the first connection opens.
//!
//! Without it, an embedded driver never sees its guests' monitors, and no callback ever comes.

use std::sync::OnceLock;
use std::thread;
use std::time::Duration;

/// How long the loop rests after it failed, so that it does not spin.
const REST: Duration = Duration::from_secs(1);

static LOOP: OnceLock<Result<(), String>> = OnceLock::new();

/// Starts the loop, once.
pub(super) fn start() -> Result<(), String> {
    LOOP.get_or_init(|| {
        // libvirt's default is to print every error, expected ones too.
        virt::error::clear_error_callback();
        virt::event::event_register_default_impl().map_err(|error| error.message().to_owned())?;
        let run = || {
            loop {
                if let Err(error) = virt::event::event_run_default_impl() {
                    tracing::error!(reason = error.message(), "libvirt's event loop failed; it goes on");
                    thread::sleep(REST);
                }
            }
        };
        thread::Builder::new().name("libvirt-events".into()).spawn(run).map_err(|error| error.to_string())?;
        Ok(())
    })
    .clone()
}
