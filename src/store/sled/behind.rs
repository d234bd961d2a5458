//! sled's own thread: it gives sled the rounds that are in the log ahead, and brings sled to the disk.
//!
//! ```text
//! who commits                                 this thread
//!   round ──► a file of the log ahead ─push─► sled, when nobody came for a while
//!             it is full            ─turn─► sled, and sled's log to the disk; then the file may begin again
//!             the other one meanwhile
//! ```
//!
//! Who commits waits for sled only when the second file is full before the first is sled's
//! (`only_who_fills_the_second_file_waits_for_sled`). Between two times that sled is brought to the disk it gets one
//! file's rounds: see [`super::ahead::FULL`].

use std::io;
use std::mem::take;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use super::ahead::{self, Written};
use super::{Base, Disk};
use crate::failpoint::failpoint;
use crate::store::engine::{Failure, JournalError, QUIET};

/// What sled has not got, or not on the disk. Dropped, all of it is, and sled has let go of its files.
pub(super) struct Behind {
    line: Arc<Line>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Line {
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Default)]
struct Waiting {
    /// Rounds of the file that is being written.
    rounds: Vec<Written>,
    /// Rounds of the file that is full, until it may begin again. They are gone from here when sled gets them.
    full: Option<Vec<Written>>,
    /// Nobody brings any more.
    closed: bool,
    /// Nobody takes any more.
    ended: bool,
}

/// What is to be done with rounds.
enum Work {
    /// They are given to sled.
    Give(Vec<Written>),
    /// They are too, and then sled is brought to the disk.
    Empty(Vec<Written>),
    /// The same, and that was all.
    End(Vec<Written>),
}

impl Behind {
    pub(super) fn start(base: Base, disk: Arc<dyn Disk>, failure: Failure) -> io::Result<Behind> {
        let line = Arc::new(Line::default());
        let behind = Arc::clone(&line);
        let work = move || {
            // Nothing of what it worked on is looked at again.
            let end = match catch_unwind(AssertUnwindSafe(|| behind.work(&base, &*disk))) {
                Ok(result) => result,
                Err(_) => Err("sled panicked".into()),
            };
            if let Err(error) = end {
                failure.end(&*error);
            }
            behind.waiting().ended = true;
            behind.changed.notify_all();
        };
        let thread = std::thread::Builder::new().name("sled".into()).spawn(work)?;
        Ok(Behind { line, thread: Some(thread) })
    }

    /// Takes a round that is on the disk in the file that is being written.
    pub(super) fn push(&self, round: Written) {
        let mut waiting = self.line.waiting();
        waiting.rounds.push(round);
        // Who has one already looks again by itself: it costs who commits nothing.
        if waiting.rounds.len() == 1 {
            self.line.changed.notify_all();
        }
    }

    /// The file that is being written is full. Returns when the other one may begin again.
    pub(super) fn turn(&self) -> Result<(), JournalError> {
        let mut waiting = self.line.waiting();
        while waiting.full.is_some() && !waiting.ended {
            waiting = self.line.changed.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
        if waiting.ended {
            return Err("sled takes no more rounds".into());
        }
        waiting.full = Some(take(&mut waiting.rounds));
        self.line.changed.notify_all();
        Ok(())
    }
}

impl Drop for Behind {
    fn drop(&mut self) {
        self.line.waiting().closed = true;
        self.line.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            // It has said itself how it ended.
            let _ = thread.join();
        }
    }
}

impl Line {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        // Nothing panics while it is held.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self, base: &Base, disk: &dyn Disk) -> Result<(), JournalError> {
        loop {
            match self.next() {
                Work::Give(rounds) => give(base, rounds)?,
                Work::Empty(rounds) => {
                    give(base, rounds)?;
                    base.sync(disk)?;
                    self.waiting().full = None;
                    self.changed.notify_all();
                }
                Work::End(rounds) => {
                    give(base, rounds)?;
                    return Ok(base.sync(disk)?);
                }
            }
        }
    }

    fn next(&self) -> Work {
        let mut waiting = self.waiting();
        let mut seen = 0;
        loop {
            if let Some(rounds) = &mut waiting.full {
                return Work::Empty(take(rounds));
            }
            if waiting.closed {
                return Work::End(take(&mut waiting.rounds));
            }
            let count = waiting.rounds.len();
            if count > 0 && count == seen {
                return Work::Give(take(&mut waiting.rounds));
            }
            seen = count;
            waiting = match count {
                0 => self.changed.wait(waiting).unwrap_or_else(PoisonError::into_inner),
                _ => self.changed.wait_timeout(waiting, QUIET).unwrap_or_else(PoisonError::into_inner).0,
            };
        }
    }
}

fn give(base: &Base, rounds: Vec<Written>) -> Result<(), JournalError> {
    if !rounds.is_empty() {
        base.db.apply_batch(ahead::batch(rounds))?;
        failpoint!("round-applied");
    }
    Ok(())
}
