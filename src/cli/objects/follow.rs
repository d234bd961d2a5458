//! A watch that goes on: the daemon ends each after its time, and whoever waits for changes waits on.

use std::time::Duration;

use serde_json::Value;

use super::client::{Daemon, Lines, code};
use crate::cli::Result;

/// Between the end of a watch and the next: a daemon that stops ends all of them a little before it is gone.
pub(super) const PAUSE: Duration = Duration::from_millis(500);

/// What is there, and then its changes for as long as the daemon can be reached.
pub(super) struct Follow<'a> {
    daemon: &'a Daemon,
    /// Of what is listed.
    path: String,
    /// As of which all is told; unknown until all that is there was told.
    revision: Option<String>,
    lines: Option<Lines>,
}

impl<'a> Follow<'a> {
    pub(super) fn new(daemon: &'a Daemon, path: String) -> Self {
        Follow { daemon, path, revision: None, lines: None }
    }

    /// The next change: its type and its object.
    pub(super) async fn next(&mut self) -> Result<(String, Value)> {
        loop {
            match self.line().await {
                Ok(Some((change, object))) => {
                    if let Some(revision) = object["metadata"]["resourceVersion"].as_str()
                        && (change == "BOOKMARK" || self.revision.is_some())
                    {
                        self.revision = Some(revision.to_owned());
                    }
                    if change != "BOOKMARK" {
                        return Ok((change, object));
                    }
                }
                Ok(None) => {
                    self.lines = None;
                    tokio::time::sleep(PAUSE).await;
                }
                Err(error) if code(&*error) == Some(410) && self.revision.is_some() => {
                    eprintln!("what has changed meanwhile is forgotten: this is what is there now");
                    (self.lines, self.revision) = (None, None);
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn line(&mut self) -> Result<Option<(String, Value)>> {
        let lines = match self.lines.take() {
            Some(lines) => lines,
            None => self.daemon.watch(&self.begin()).await?,
        };
        self.lines.insert(lines).next().await
    }

    /// The path of the next watch: a mark behind what is there says as of which revision that was all.
    fn begin(&self) -> String {
        let and = if self.path.contains('?') { '&' } else { '?' };
        let from = match &self.revision {
            Some(revision) => format!("resourceVersion={revision}"),
            None => "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true".into(),
        };
        format!("{}{and}watch=1&{from}", self.path)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::json;
    use tempfile::TempDir;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UnixListener;
    use tokio::task::JoinHandle;

    use super::*;

    /// A daemon that gives these answers, one to a connection, and is gone then: it tells the paths it was asked for.
    pub(in crate::cli::objects) fn scripted(answers: Vec<String>) -> (TempDir, Daemon, JoinHandle<Vec<String>>) {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("socket");
        let listener = UnixListener::bind(&socket).unwrap();
        let asked = tokio::spawn(async move {
            let mut asked = Vec::new();
            for answer in answers {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(stream.read_u8().await.unwrap());
                }
                let head = String::from_utf8(head).unwrap();
                asked.push(head.split(' ').nth(1).unwrap().to_owned());
                let answer = format!("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{answer}");
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
            asked
        });
        (dir, Daemon::at(socket), asked)
    }

    fn line(change: &str, revision: u64) -> String {
        let object = json!({ "metadata": { "resourceVersion": revision.to_string() } });
        format!("{}\n", json!({ "type": change, "object": object }))
    }

    #[tokio::test]
    async fn a_watch_whose_time_is_over_goes_on_and_one_whose_daemon_is_gone_fails() {
        let forgotten = json!({ "type": "ERROR", "object": { "code": 410, "message": "forgotten" } });
        let (_dir, daemon, asked) = scripted(vec![
            [line("ADDED", 9), line("ADDED", 4), line("BOOKMARK", 12)].concat(),
            line("MODIFIED", 15),
            format!("{forgotten}\n"),
            [line("ADDED", 15), line("BOOKMARK", 99)].concat(),
        ]);
        let mut follow = Follow::new(&daemon, "/pools?labelSelector=a".into());
        for change in ["ADDED", "ADDED", "MODIFIED", "ADDED"] {
            assert_eq!(follow.next().await.unwrap().0, change);
        }
        let gone = follow.next().await.unwrap_err().to_string();
        assert!(gone.contains("no daemon answers"), "{gone}");
        let first = "/pools?labelSelector=a&watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
        let from = |revision| format!("/pools?labelSelector=a&watch=1&resourceVersion={revision}");
        assert_eq!(asked.await.unwrap(), [first.to_owned(), from(12), from(15), first.to_owned()]);
    }
}
