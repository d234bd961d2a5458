//! Programs of the host that are run for a moment: with a deadline, and with an end to what they may say.

use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

/// The most that is read of each output.
const MOST: u64 = 16 << 20;

/// A program, and what it may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Program {
    /// Its name.
    pub name: &'static str,
    /// The package that brings it.
    pub package: &'static str,
    /// How long it may take.
    pub deadline: Duration,
}

/// Why a program did not do its work.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ChildError {
    /// It is not there, or cannot be started.
    #[error("{program} could not be run; is the package {package} installed?")]
    Start {
        /// Which.
        program: &'static str,
        /// What brings it.
        package: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It took too long, and was killed.
    #[error("{program} did not end within {seconds} s")]
    Late {
        /// Which.
        program: &'static str,
        /// How long it was given.
        seconds: u64,
    },
    /// It failed; this is what it said.
    #[error("{said}")]
    Failed {
        /// Its complaint.
        said: String,
    },
}

impl Program {
    /// Runs it to its end and returns what it printed.
    pub(crate) fn run<A: AsRef<OsStr>>(&self, arguments: &[A], input: &str) -> Result<String, ChildError> {
        let Program { name: program, package, deadline } = *self;
        let start = |source| ChildError::Start { program, package, source };
        let mut child = Command::new(program)
            .args(arguments)
            .env("LC_ALL", "C")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(start)?;
        let late = Instant::now() + deadline;
        // In threads of their own, so that no full pipe can keep us past the deadline.
        let (stdin, input) = (child.stdin.take(), input.to_owned());
        thread::spawn(move || stdin.map(|mut stdin| stdin.write_all(input.as_bytes())));
        let (out, err) = (collect(child.stdout.take()), collect(child.stderr.take()));
        let Some(status) = ended(&mut child, late).map_err(start)? else {
            // It may have ended just now; then there is nothing to kill.
            let _ = child.kill();
            let _ = child.wait();
            return Err(ChildError::Late { program, seconds: deadline.as_secs() });
        };
        let (out, err) = (out.join().unwrap_or_default(), err.join().unwrap_or_default());
        if status.success() {
            return Ok(out);
        }
        let said = match err.trim() {
            "" => format!("{program} failed ({status}) and said nothing"),
            said if said.contains("Operation not permitted") => format!("{said}: this needs root, or CAP_NET_ADMIN"),
            said => said.to_owned(),
        };
        Err(ChildError::Failed { said })
    }
}

/// Waits for its end, but no longer than that.
fn ended(child: &mut Child, late: Instant) -> io::Result<Option<ExitStatus>> {
    let its = pidfd_open(Pid::from_child(child), PidfdFlags::empty())?;
    while let Some(left) = late.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
        // More than a timespec holds is no deadline.
        let left = left.try_into().ok();
        match poll(&mut [PollFd::new(&its, PollFlags::IN)], left.as_ref()) {
            Ok(0) | Err(rustix::io::Errno::INTR) => {}
            Ok(_) => return child.wait().map(Some),
            Err(error) => return Err(error.into()),
        }
    }
    child.try_wait()
}

fn collect(pipe: Option<impl Read + Send + 'static>) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        // What could be read is worth having.
        let _ = pipe.map(|pipe| pipe.take(MOST).read_to_end(&mut bytes));
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(deadline: Duration, script: &str, input: &str) -> Result<String, ChildError> {
        Program { name: "sh", package: "dash", deadline }.run(&["-c", script], input)
    }

    #[test]
    fn what_it_printed_or_its_complaint_comes_back() {
        let minute = Duration::from_secs(60);
        assert_eq!(sh(minute, "cat; echo end", "in ").unwrap(), "in end\n");
        assert_eq!(sh(minute, "echo out; echo no >&2; false", "").unwrap_err().to_string(), "no");
        assert!(sh(minute, "exit 3", "").unwrap_err().to_string().contains('3'));
    }

    #[test]
    fn one_that_does_not_end_is_killed() {
        let error = sh(Duration::from_millis(50), "exec sleep 600", "").unwrap_err();
        assert!(matches!(error, ChildError::Late { program: "sh", .. }), "{error}");
    }

    #[test]
    fn one_that_is_missing_is_told_with_its_package() {
        let program = Program { name: "no-such-program", package: "nothing", deadline: Duration::ZERO };
        let error = program.run::<&str>(&[], "").unwrap_err().to_string();
        assert!(error.contains("no-such-program") && error.contains("package nothing"), "{error}");
    }
}
