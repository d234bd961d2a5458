//! Monitors that answer in time, or are known not to.
//!
//! A QEMU that stands still as a process (stopped, stuck in its kernel) leaves a question to its monitor unanswered for
//! as long as that lasts, and libvirt waits with it. So each question is asked on a thread of its own, and waited for no
//! longer than [`DEADLINE`]; until a machine that missed it has answered, nothing more is asked of it and everybody is
//! told so at once. Its silence costs nobody else anything: `a_machine_that_does_not_answer_keeps_nobody_else_waiting`.

use std::collections::BTreeSet;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use uuid::Uuid;

use super::user::Monitor;
use crate::hypervisor::HypervisorError;

/// How long a monitor may take: a thousand times what it does, so that one of a guest that is emulated on a busy host
/// passes.
const DEADLINE: Duration = Duration::from_secs(5);

/// What was asked, for errors.
const WHAT: &str = "monitor command";

/// Monitors, each with a deadline.
pub(super) struct Bounded {
    inner: Arc<dyn Monitor>,
    deadline: Duration,
    /// Machines that owe an answer for longer than that.
    silent: Arc<Silent>,
}

#[derive(Default)]
struct Silent(Mutex<BTreeSet<Uuid>>);

impl Silent {
    fn lock(&self) -> MutexGuard<'_, BTreeSet<Uuid>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Bounded {
    /// Puts the deadline before others' monitors.
    pub(super) fn new(inner: Arc<dyn Monitor>) -> Self {
        Bounded { inner, deadline: DEADLINE, silent: Arc::default() }
    }

    fn is_silent(&self, uuid: Uuid) -> HypervisorError {
        let reason = format!(
            "its QEMU did not answer within {} s: it is stopped, or the host is stuck; nothing more is asked of it until \
             it has answered",
            self.deadline.as_secs_f32()
        );
        HypervisorError::Failed { what: WHAT, uuid, reason }
    }
}

impl Monitor for Bounded {
    fn command(&self, uuid: Uuid, line: &str) -> Result<Option<String>, HypervisorError> {
        if self.silent.lock().contains(&uuid) {
            return Err(self.is_silent(uuid));
        }
        let (answer, answered) = mpsc::channel();
        let (inner, silent, line) = (Arc::clone(&self.inner), Arc::clone(&self.silent), line.to_owned());
        let ask = move || {
            let said = inner.command(uuid, &line);
            // In one: whoever gave up sees the answer, or is seen here.
            let mut silent = silent.lock();
            silent.remove(&uuid);
            let _ = answer.send(said);
        };
        let started = thread::Builder::new().name("monitor".into()).spawn(ask);
        started.map_err(|error| HypervisorError::Failed { what: WHAT, uuid, reason: error.to_string() })?;
        match answered.recv_timeout(self.deadline) {
            Ok(said) => said,
            Err(RecvTimeoutError::Disconnected) => {
                Err(HypervisorError::Failed { what: WHAT, uuid, reason: "the call ended without an answer".into() })
            }
            Err(RecvTimeoutError::Timeout) => {
                let mut silent = self.silent.lock();
                answered.try_recv().unwrap_or_else(|_| {
                    if silent.insert(uuid) {
                        tracing::warn!(%uuid, "a QEMU does not answer its monitor");
                    }
                    Err(self.is_silent(uuid))
                })
            }
        }
    }

    fn machines(&self) -> Result<Vec<Uuid>, HypervisorError> {
        self.inner.machines()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Condvar;

    use super::*;

    /// Monitors of which one answers when it is let go.
    #[derive(Default)]
    struct Monitors {
        asked: Mutex<usize>,
        free: Mutex<bool>,
        freed: Condvar,
    }

    const WELL: Uuid = Uuid::from_u128(1);
    const STOPPED: Uuid = Uuid::from_u128(2);

    impl Monitor for Monitors {
        fn command(&self, uuid: Uuid, line: &str) -> Result<Option<String>, HypervisorError> {
            if uuid == STOPPED {
                *self.asked.lock().unwrap() += 1;
                drop(self.freed.wait_while(self.free.lock().unwrap(), |free| !*free).unwrap());
            }
            Ok(Some(line.to_owned()))
        }

        fn machines(&self) -> Result<Vec<Uuid>, HypervisorError> {
            Ok(vec![WELL, STOPPED])
        }
    }

    #[test]
    fn a_machine_that_does_not_answer_keeps_nobody_else_waiting() {
        let monitors = Arc::new(Monitors::default());
        let bounded = Bounded { deadline: Duration::from_millis(20), ..Bounded::new(monitors.clone()) };
        // The second one is told without a question: with one, it would be counted.
        for _ in 0..2 {
            let error = bounded.command(STOPPED, "info").unwrap_err().to_string();
            assert!(error.contains("did not answer within 0.02 s") && error.contains(&STOPPED.to_string()), "{error}");
        }
        // Its thread may get its turn only after the deadline.
        while *monitors.asked.lock().unwrap() == 0 {
            thread::yield_now();
        }
        assert_eq!(*monitors.asked.lock().unwrap(), 1);
        let patient = Bounded { deadline: Duration::from_secs(60), silent: Arc::clone(&bounded.silent), ..bounded };
        assert_eq!(patient.command(WELL, "info").unwrap().as_deref(), Some("info"));

        // What is asked of it then is answered, once the old question was.
        *monitors.free.lock().unwrap() = true;
        monitors.freed.notify_all();
        while patient.silent.lock().contains(&STOPPED) {
            thread::yield_now();
        }
        assert_eq!(patient.command(STOPPED, "info").unwrap().as_deref(), Some("info"));
    }
}
