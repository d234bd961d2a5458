//! sled on files that are not what it wrote: it may give an error, panic, or look for ever. All three are told as
//! damage here, and the caller goes on.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use super::error::OpenError;

/// How long reading everything may take. A million records took half a second cold; a store that takes longer than
/// this is not being read but searched in a circle.
const PATIENCE: Duration = Duration::from_secs(60);

/// Does what reads a store in `dir`, on a thread of its own. One that never ends is left behind: whoever opens a store
/// that cannot be opened ends soon.
pub(super) fn contained<T: Send + 'static>(
    dir: &Path,
    work: impl FnOnce() -> Result<T, OpenError> + Send + 'static,
) -> Result<T, OpenError> {
    let damaged = |what: String| OpenError::Damaged { dir: dir.into(), source: what.into() };
    let (tell, told) = channel();
    let thread = std::thread::Builder::new().name("store-open".into()).spawn(move || {
        // Nothing of what it worked on is looked at again.
        let result = catch_unwind(AssertUnwindSafe(work)).map_err(|panic| {
            let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
            text.unwrap_or("without a word").to_owned()
        });
        // Who has given up waiting does not hear it.
        let _ = tell.send(result);
    });
    thread.map_err(|source| OpenError::from_io(dir, source))?;
    match told.recv_timeout(PATIENCE) {
        Ok(Ok(result)) => result,
        Ok(Err(panic)) => Err(damaged(format!("sled gave up on it: {panic}"))),
        Err(RecvTimeoutError::Timeout) => {
            Err(damaged(format!("sled found no end of it within {} s", PATIENCE.as_secs())))
        }
        Err(RecvTimeoutError::Disconnected) => Err(damaged("sled gave up on it".into())),
    }
}
