//! The lab's libvirtd (`tests/lab/run.sh`), ended and started again.

use std::fs;
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use super::until;

const PID_FILE: &str = "/run/lab/libvirtd.pid";

/// Of the one that runs, or was killed. One that ended in order has none.
pub(crate) fn pid() -> Option<Pid> {
    Pid::from_raw(fs::read_to_string(PID_FILE).ok()?.trim().parse().ok()?)
}

/// Whether one runs.
pub(crate) fn runs() -> bool {
    pid().is_some_and(|pid| !is_over(pid))
}

/// Ends it by this signal, and waits until it has let go of its PID file: another one does not start before.
pub(crate) fn end(signal: Signal) {
    let pid = pid().expect("libvirtd runs");
    kill_process(pid, signal).unwrap();
    until("the end of libvirtd", || is_over(pid).then_some(()));
}

/// Starts another one, and waits until it serves.
pub(crate) fn start() {
    let mut libvirtd = Command::new("libvirtd");
    libvirtd.args(["--pid-file", PID_FILE, "--daemon"]).stdout(Stdio::null()).stderr(Stdio::null());
    assert!(libvirtd.status().unwrap().success());
}

/// Whether a process has ended, waited for or not.
fn is_over(pid: Pid) -> bool {
    fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()))
        .map_or(true, |stat| stat.rsplit(") ").next().unwrap().starts_with('Z'))
}
