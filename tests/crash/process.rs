//! A daemon under test, as the suite has it: a child process that is told what to do and says how it is.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use crate::common::PATIENCE;
use crate::daemon::{Order, PLAN, Plan, Records};
use crate::points::Aim;

/// How often it is looked whether a daemon is dead.
const POLL: Duration = Duration::from_millis(2);
/// Lines of the daemons' log that are shown when something is wrong.
const LOG_LINES: usize = 80;

/// A daemon that may be alive.
pub(crate) struct Daemon {
    child: Child,
    orders: ChildStdin,
    lines: Receiver<String>,
    born: Instant,
    log: PathBuf,
}

/// The last of what daemons wrote.
pub(crate) fn log_of(plan: &Plan) -> String {
    last_lines(&log_path(plan))
}

fn log_path(plan: &Plan) -> PathBuf {
    plan.state.with_extension("log")
}

fn last_lines(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
}

/// How a daemon came to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Death {
    /// At a named point.
    Point(String),
    /// Because its time was over.
    Time,
}

/// How a start went.
pub(crate) enum Start {
    /// It serves there, so long after its birth.
    Ready(SocketAddr, Duration),
    /// It died before.
    Dead(Death),
}

impl Daemon {
    /// Begins to start one.
    pub(crate) fn spawn(plan: &Plan) -> Daemon {
        let log = log_path(plan);
        let written = File::options().create(true).append(true).open(&log).unwrap();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["daemon_under_test", "--exact", "--ignored", "--nocapture"])
            .env(PLAN, serde_json::to_string(plan).unwrap())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(written)
            .spawn()
            .unwrap();
        let (orders, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let (told, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if told.send(line).is_err() {
                    return;
                }
            }
        });
        Daemon { child, orders, lines, born: Instant::now(), log }
    }

    /// Waits until it serves; kills it if it does not within `limit`.
    pub(crate) fn ready(&mut self, limit: Duration) -> Start {
        match self.line("ready ", self.born + limit) {
            Ok(address) => Start::Ready(address.parse().unwrap(), self.born.elapsed()),
            Err(death) => Start::Dead(death),
        }
    }

    /// What is recorded now, but for events before this one, counted from 0.
    pub(crate) fn records(&mut self, events_from: usize) -> Records {
        self.order(&Order::Records { events_from });
        let line = self.line("records ", Instant::now() + PATIENCE);
        serde_json::from_str(&line.unwrap_or_else(|death| panic!("a daemon nobody killed died: {death:?}"))).unwrap()
    }

    /// From now on it dies there.
    pub(crate) fn aim(&mut self, aim: Aim) {
        self.order(&Order::Aim(aim));
    }

    fn order(&mut self, order: &Order) {
        writeln!(self.orders, "{}", serde_json::to_string(order).unwrap()).unwrap();
    }

    /// Waits for its death, which comes when it is enough, and after `limit` at the latest.
    pub(crate) fn death(mut self, limit: Duration, enough: impl Fn() -> bool) -> Death {
        let end = Instant::now() + limit;
        while Instant::now() < end && !enough() && self.child.try_wait().unwrap().is_none() {
            std::thread::sleep(POLL);
        }
        self.bury()
    }

    /// A line that begins so, without its beginning, or how it died.
    fn line(&mut self, beginning: &str, until: Instant) -> Result<String, Death> {
        loop {
            match self.lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(line) => match (line.strip_prefix(beginning), line.strip_prefix("died ")) {
                    (Some(rest), _) => return Ok(rest.into()),
                    (None, Some(point)) => {
                        self.child.wait().unwrap();
                        return Err(Death::Point(point.into()));
                    }
                    (None, None) => {}
                },
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return Err(self.bury()),
            }
        }
    }

    /// Kills it if it lives, and finds what it died of.
    fn bury(&mut self) -> Death {
        self.child.kill().unwrap();
        let status = self.child.wait().unwrap();
        let said = self.lines.iter().find_map(|line| line.strip_prefix("died ").map(str::to_owned));
        match said {
            Some(point) => Death::Point(point),
            None => {
                assert!(status.code().is_none(), "it ended by itself: {status}, its log:\n{}", last_lines(&self.log));
                Death::Time
            }
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It is dead already, unless a check failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
