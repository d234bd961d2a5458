//! `anweddol top` on a terminal: tmux's, which tells what is on its screen.

use std::process::Command;

use tempfile::{TempDir, tempdir};

use crate::common::ask::{create, grant};
use crate::common::daemon::{Home, finish, program, stderr, stdout};
use crate::common::until;

/// A terminal with a shell in it; gone with the test, by its own socket.
struct Screen {
    dir: TempDir,
}

impl Screen {
    fn open(env: &str) -> Screen {
        let screen = Screen { dir: tempdir().unwrap() };
        let shell = format!("env -u TMUX {env} PS1='prompt> ' sh");
        screen.tmux(&["-f", "/dev/null", "new-session", "-d", "-x", "120", "-y", "30", &shell]);
        screen.until("a shell", |text| text.contains("prompt>"));
        screen
    }

    fn tmux(&self, args: &[&str]) -> String {
        let socket = self.dir.path().join("tmux");
        let output = finish(Command::new("tmux").arg("-S").arg(socket).args(args));
        assert!(output.status.success(), "tmux {args:?}: {}", stderr(&output));
        stdout(&output)
    }

    fn text(&self) -> String {
        self.tmux(&["capture-pane", "-p"])
    }

    fn keys(&self, keys: &[&str]) {
        self.tmux(&[&["send-keys"], keys].concat());
    }

    fn until(&self, what: &str, is_there: impl Fn(&str) -> bool) -> String {
        until(what, || {
            let text = self.text();
            is_there(&text).then_some(text)
        })
    }

    /// Begins to watch a daemon.
    fn top(&self, home: &Home) {
        let command =
            format!("{} top --config {}; echo ended $?", env!("CARGO_BIN_EXE_anweddol"), home.config.display());
        self.keys(&[&command, "Enter"]);
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the screen:\n{}", self.text());
        }
        let socket = self.dir.path().join("tmux");
        // It may have ended already.
        let _ = Command::new("tmux").arg("-S").arg(socket).arg("kill-server").output();
    }
}

#[test]
fn a_screen_follows_pools_machines_and_events_through_the_death_of_the_daemon() {
    let dir = tempdir().unwrap();
    let home = Home::new(dir.path(), "container: {warm: 1}").with_vectors_key().simulated("boot=10ms");
    let daemon = home.start();
    let screen = Screen::open("NO_COLOR=1");
    screen.top(&home);
    let is_pool = |line: &str| line.contains("default") && line.contains("1/1");
    screen.until("the pool and its machine", |text| text.lines().any(is_pool) && text.contains("machines (1)"));
    // Who it is comes by a way of its own.
    screen.until("who the daemon is", |text| text.starts_with("anweddol 0.1.0") && text.contains("the daemon answers"));

    let granted = grant(&create(daemon.address));
    let bound = |text: &str| text.lines().any(|line| line.contains(&granted.uuid) && line.contains("Bound"));
    let text = screen.until("the machine of the client", |text| bound(text) && text.contains("BOUND_CLAIM"));
    assert!(text.contains("machines (2)") || text.contains("machines (1)"), "{text}");

    drop(daemon.kill());
    screen.until("that it is away", |text| text.contains("daemon away; last seen") && bound(text));
    let daemon = home.start();
    // Simulated machines end with their daemon; what is there then is what is shown.
    screen.until("that it is back", |text| text.contains("the daemon answers") && text.lines().any(is_pool));
    let other = grant(&create(daemon.address));
    screen.until("a machine of the new one", |text| text.contains(&other.uuid));

    screen.keys(&["/", &other.uuid[..8], "Enter"]);
    screen.until("that machine alone", |text| text.contains("machines (1)") && text.contains(&other.uuid));
    screen.keys(&["q"]);
    // The terminal is as it was: the screen of before, a shell that echoes what is typed.
    screen.until("the shell", |text| text.contains("ended 0") && !text.contains("machines ("));
    screen.keys(&["echo still $((1 + 1)) here", "Enter"]);
    screen.until("its echo", |text| text.contains("still 2 here") && text.contains("echo still"));
    daemon.stop();
}

#[test]
fn without_a_daemon_a_screen_waits_and_ends_when_it_is_told_to() {
    let dir = tempdir().unwrap();
    let home = Home::new(dir.path(), "");
    let screen = Screen::open("");
    screen.top(&home);
    screen.until("that there is none", |text| text.contains("daemon away: no daemon answers on"));
    screen.keys(&["C-c"]);
    screen.until("the shell", |text| text.contains("ended 0") && !text.contains("machines ("));
}

#[test]
fn where_there_is_no_terminal_the_commands_for_pipes_are_named() {
    let output = finish(&mut program(["top"]));
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("anweddol get containers -w"), "{}", stderr(&output));
}
