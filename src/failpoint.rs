//! Places between two effects that no trait parts, inside the store and the adapters: there the crash suite
//! (`tests/crash`) ends the process. Without the feature `failpoints`, which only tests switch on, nothing of them is
//! compiled.
//!
//! `anweddol serve` takes them from the environment as the crate `fail` reads it: `FAILPOINTS='disk-made=2*off->return'`
//! ends it when it comes by there the third time.

/// The process comes by a place of this name.
macro_rules! failpoint {
    ($name:literal) => {
        #[cfg(feature = "failpoints")]
        $crate::failpoint::reached($name);
    };
}
pub(crate) use failpoint;

/// Ends this process, as `kill -9` does, if it is to end here.
#[cfg(feature = "failpoints")]
pub(crate) fn reached(name: &str) {
    if fail::eval(name, |_| ()).is_some() {
        // It cannot fail, and nothing after it is reached.
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    }
}
