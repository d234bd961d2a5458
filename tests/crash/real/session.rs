//! Somebody who is logged in with OpenSSH's client, and stays: commands and their answers, beside a stream of lines that
//! never pauses, on one connection.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};

use crate::common::PATIENCE;
use crate::common::log::Log;
use crate::ledger::Grant;

/// What runs on the machine: `tick 1`, `tick 2` … for ever, and `answer N` for each `N` that is said to it.
const TALK: &str = "i=0; while :; do i=$((i+1)); echo tick $i; sleep 0.2; done & while read n; do echo answer $n; done; kill $!; \
                    echo bye";

pub(super) struct Session {
    ssh: Child,
    words: ChildStdin,
    heard: Log,
    asked: u32,
    ticks: usize,
}

/// A key pair in this directory: the private half's file, and the public half.
pub(super) fn new_key(dir: &Path) -> (PathBuf, String) {
    let file = dir.join("key");
    let made = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&file).status().unwrap();
    assert!(made.success());
    (file.clone(), fs::read_to_string(file.with_extension("pub")).unwrap().trim().to_owned())
}

impl Session {
    /// Logs in with a key.
    pub(super) fn open(key: &Path, grant: &Grant) -> Session {
        let mut ssh = Command::new("ssh")
            .args(["-F", "none", "-T", "-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes", "-o", "ConnectTimeout=60"])
            .args([
                "-o",
                "StrictHostKeyChecking=no",
                "-o",
                "UserKnownHostsFile=/dev/null",
                "-o",
                "LogLevel=ERROR",
                "-i",
            ])
            .arg(key)
            .args(["-p", &grant.port.to_string(), &format!("{}@127.0.0.1", grant.username), TALK])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (words, heard) = (ssh.stdin.take().unwrap(), Log::of(ssh.stdout.take().unwrap()));
        Session { ssh, words, heard, asked: 0, ticks: 0 }
    }

    /// Whether it answers, and has lost nothing of its stream, which goes on.
    pub(super) fn check(&mut self) -> Result<(), String> {
        self.asked += 1;
        let answer = format!("answer {}", self.asked);
        writeln!(self.words, "{}", self.asked).map_err(|error| format!("it cannot be spoken to any more: {error}"))?;
        let answered = |lines: &[String]| lines.contains(&answer).then_some(());
        self.heard.within(PATIENCE, answered).ok_or("it does not answer")?;
        let before = self.ticks;
        let more = |lines: &[String]| Some(ticks(lines)).filter(|ticks| ticks.as_ref().map_or(true, |n| *n > before));
        self.ticks = self.heard.within(PATIENCE, more).ok_or("its stream stands still")??;
        Ok(())
    }

    /// Logs out: what was said to the end came.
    pub(super) fn close(mut self) -> Result<(), String> {
        self.check()?;
        drop(self.words);
        let end = self.ssh.wait().unwrap();
        let lines = self.heard.whole();
        if end.success() && lines.last().is_some_and(|line| line == "bye") {
            ticks(&lines).map(drop)
        } else {
            Err(format!("it ended with {end}, saying {:?}", lines.last()))
        }
    }

    /// Ends a session with whom nothing is to be proved any more.
    pub(super) fn abandon(mut self) {
        let _ = self.ssh.kill();
        let _ = self.ssh.wait();
    }
}

/// How far its stream is, without a gap.
fn ticks(lines: &[String]) -> Result<usize, String> {
    let numbers = lines.iter().filter_map(|line| line.strip_prefix("tick "));
    let mut last = 0;
    for number in numbers {
        last += 1;
        if number.parse() != Ok(last) {
            return Err(format!("after line {} of its stream came '{number}'", last - 1));
        }
    }
    Ok(last)
}
