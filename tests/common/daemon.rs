//! `anweddol serve` as a child process on scratch directories, ended with the test.

use std::ffi::OsStr;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::LazyLock;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::log::Log;
use super::until;

/// The documented examples of the wire protocol.
pub(crate) static VECTORS: LazyLock<Value> =
    LazyLock::new(|| serde_json::from_str(include_str!("../wire/vectors.json")).unwrap());

/// The program with these arguments, and nothing of the environment that it would take for settings.
pub(crate) fn program<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Command {
    program_at(BINARY.as_ref(), args)
}

/// The program's file.
const BINARY: &str = env!("CARGO_BIN_EXE_anweddol");

fn program_at<S: AsRef<OsStr>>(file: &Path, args: impl IntoIterator<Item = S>) -> Command {
    let mut command = clean(Command::new(file));
    command.args(args).stdin(Stdio::null());
    command
}

fn clean(mut command: Command) -> Command {
    for name in [
        "ANWEDDOL_CONFIG",
        "ANWEDDOL_SERVER",
        "ANWEDDOL_ACCESS_TOKEN",
        "ANWEDDOL_LOG",
        "RUST_LOG",
        "NOTIFY_SOCKET",
        "JOURNAL_STREAM",
    ] {
        command.env_remove(name);
    }
    command
}

/// Runs a command to its end.
pub(crate) fn finish(command: &mut Command) -> Output {
    command.output().unwrap()
}

/// What a command said on standard error.
pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// What a command said on standard output.
pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Where a daemon lives, and how it is started.
pub(crate) struct Home {
    /// The state directory.
    pub(crate) state: PathBuf,
    /// Arguments after `serve`.
    args: Vec<String>,
    /// The configuration file.
    pub(crate) config: PathBuf,
    env: Vec<(&'static str, String)>,
    /// A write beyond a limit of files is an error to it, and not its end.
    limited: bool,
    /// Whose it is, where that is not who tests.
    user: Option<u32>,
    binary: PathBuf,
}

impl Home {
    /// Below this directory; `config` is YAML without `server` and `state_dir`.
    pub(crate) fn new(dir: &Path, config: &str) -> Home {
        let (state, file) = (dir.join("s"), dir.join("config.yaml"));
        fs::create_dir_all(&state).unwrap();
        // Any port: tests run at the same time.
        let server = "server: {listen: '127.0.0.1:0', health_listen: '127.0.0.1:0', api_listen: '127.0.0.1:0'}";
        fs::write(&file, format!("state_dir: {}\n{server}\n{config}\n", state.display())).unwrap();
        Home { state, args: vec![], config: file, env: vec![], limited: false, user: None, binary: BINARY.into() }
    }

    /// The same with the documented server key, which the documented clients know, and which need not be made.
    pub(crate) fn with_vectors_key(self) -> Home {
        let pem = VECTORS.pointer("/server/private_pem").and_then(Value::as_str).unwrap();
        let file = fs::File::options().write(true).create(true).truncate(true).mode(0o600).open(self.key());
        file.unwrap().write_all(pem.as_bytes()).unwrap();
        self
    }

    /// The same, simulated, with these settings.
    pub(crate) fn simulated(mut self, settings: &str) -> Home {
        self.args.extend([format!("--simulate={settings}")]);
        self
    }

    /// The same at an address of this host that is its own: a port that it gives up there is given to nobody else.
    pub(crate) fn at(self, address: &str) -> Home {
        let text = fs::read_to_string(&self.config).unwrap();
        fs::write(&self.config, text.replace("127.0.0.1:0", &format!("{address}:0"))).unwrap();
        self
    }

    /// The same, with clients that may take five minutes to say what they want.
    pub(crate) fn patient(self) -> Home {
        let text = fs::read_to_string(&self.config).unwrap();
        fs::write(&self.config, text.replacen("server: {", "server: {client_timeout: 300, ", 1)).unwrap();
        self
    }

    /// The same with another argument.
    pub(crate) fn arg(mut self, arg: impl Into<String>) -> Home {
        self.args.push(arg.into());
        self
    }

    /// The same with a variable in the environment.
    pub(crate) fn env(mut self, name: &'static str, value: impl Into<String>) -> Home {
        self.env.push((name, value.into()));
        self
    }

    /// The same, with a daemon to which the system can deny writing.
    pub(crate) fn limited(mut self) -> Home {
        self.limited = true;
        self
    }

    /// The same with another copy of the program, put into this file: what an upgrade does.
    pub(crate) fn upgraded(mut self, file: &Path) -> Home {
        fs::copy(&self.binary, file).unwrap();
        self.binary = file.into();
        self
    }

    /// The same, of another user, whose everything below this directory is from now on. Only root can do that.
    pub(crate) fn of_user(mut self, dir: &Path, user: u32) -> Home {
        let mut chown = Command::new("chown");
        assert!(chown.args(["-R", &format!("{user}:{user}")]).arg(dir).status().unwrap().success());
        self.user = Some(user);
        self
    }

    /// The same with another configuration file and these arguments.
    pub(crate) fn with_config(mut self, file: &Path, args: &[&str]) -> Home {
        self.config = file.into();
        self.args.extend(args.iter().map(|arg| (*arg).to_owned()));
        self
    }

    /// The server key's file.
    pub(crate) fn key(&self) -> PathBuf {
        self.state.join("server.pem")
    }

    /// Where a simulating daemon keeps its records and its sealing key.
    pub(crate) fn simulated_state(&self) -> PathBuf {
        self.state.join("simulated")
    }

    fn serve(&self) -> Command {
        let mut command = match self.limited {
            false => program_at(&self.binary, ["serve", "--config"]),
            true => {
                let mut shell = clean(Command::new("sh"));
                shell.args(["-c", "trap '' XFSZ; exec \"$@\"", "sh"]).arg(&self.binary).args(["serve", "--config"]);
                shell
            }
        };
        command.arg(&self.config).args(&self.args).envs(self.env.iter().map(|(name, value)| (name, value)));
        if let Some(user) = self.user {
            command.uid(user).gid(user);
        }
        command
    }

    /// Starts it and waits until it serves.
    pub(crate) fn start(&self) -> Daemon {
        let mut daemon = self.spawn(&[]);
        let line = daemon.log.until("serving", serving);
        daemon.serves(&line);
        daemon
    }

    /// Begins to start it, with these variables besides.
    pub(crate) fn spawn(&self, env: &[(&str, &str)]) -> Daemon {
        let mut command = self.serve();
        let mut child = command.envs(env.iter().copied()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let log = Log::of(child.stderr.take().unwrap());
        Daemon { child, log, address: unset(), health: unset(), web: None, fingerprint: String::new() }
    }

    /// Starts it where it cannot serve: what it says, with exit code 1 and in one line.
    pub(crate) fn refused(&self) -> String {
        let output = finish(&mut self.serve());
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{text}");
        let errors: Vec<&str> = text.lines().filter(|line| line.starts_with("error: ")).collect();
        assert_eq!(errors.len(), 1, "{text}");
        assert!(!text.contains("panicked"), "{text}");
        errors[0].to_owned()
    }
}

/// What a daemon says when it serves.
fn serving(lines: &[String]) -> Option<Value> {
    let lines = lines.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.map(|line| line["fields"].clone()).find(|fields| text(fields, "message").starts_with("serving"))
}

fn unset() -> SocketAddr {
    ([0, 0, 0, 0], 0).into()
}

fn text<'a>(fields: &'a Value, name: &str) -> &'a str {
    fields[name].as_str().unwrap_or_default()
}

/// A daemon that serves; killed when dropped, by its number.
pub(crate) struct Daemon {
    child: Child,
    pub(crate) log: Log,
    pub(crate) address: SocketAddr,
    pub(crate) health: SocketAddr,
    /// Where the original's plain web server answers, if it does.
    pub(crate) web: Option<SocketAddr>,
    pub(crate) fingerprint: String,
}

impl Daemon {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    fn serves(&mut self, line: &Value) {
        self.address = text(line, "listen").parse().unwrap();
        self.health = text(line, "health").parse().unwrap();
        self.web = line["web"].as_str().map(|address| address.parse().unwrap());
        self.fingerprint = text(line, "message").rsplit(' ').next().unwrap().to_owned();
    }

    /// Whether it serves within this time.
    pub(crate) fn serves_within(&mut self, limit: Duration) -> bool {
        let line = self.log.within(limit, serving);
        line.is_some_and(|line| {
            self.serves(&line);
            true
        })
    }

    /// How it ended, if it did. Its log ends a moment before it can be waited for.
    pub(crate) fn end(&mut self) -> Option<ExitStatus> {
        if self.log.is_over() { Some(self.child.wait().unwrap()) } else { self.child.try_wait().unwrap() }
    }

    /// Asks it to stop.
    pub(crate) fn terminate(&self) {
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
    }

    /// Asks it to read its configuration again.
    pub(crate) fn hang_up(&self) {
        kill_process(Pid::from_child(&self.child), Signal::HUP).unwrap();
    }

    /// Waits for its end: exit status and everything it wrote.
    pub(crate) fn ended(mut self) -> (ExitStatus, Vec<String>) {
        let status = until("the daemon's end", || self.child.try_wait().unwrap());
        (status, self.log.whole())
    }

    /// `kill -9`, now, if it is not dead already: how it ended.
    pub(crate) fn kill_now(&mut self) -> ExitStatus {
        self.child.kill().unwrap();
        self.child.wait().unwrap()
    }

    /// `kill -9`, and everything it wrote.
    pub(crate) fn kill(mut self) -> Vec<String> {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.log.whole()
    }

    /// Stops it in order: everything it wrote.
    pub(crate) fn stop(self) -> Vec<String> {
        self.terminate();
        let (status, lines) = self.ended();
        assert!(status.success(), "{status}: {}", lines.join("\n"));
        lines
    }

    /// Status and body of a health endpoint.
    pub(crate) fn http(&self, path: &str) -> (u16, String) {
        let (head, body) = self.get(path, "*/*");
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body)
    }

    /// How many files it has open, sockets among them. It says so itself: nobody but root sees into a daemon.
    pub(crate) fn open_files(&self) -> usize {
        let metrics = self.http("/metrics").1;
        let count = metrics.lines().find_map(|line| line.strip_prefix("process_open_fds "));
        count.unwrap().parse().unwrap()
    }

    /// Head and body of a health endpoint, for who accepts this.
    pub(crate) fn get(&self, path: &str, accept: &str) -> (String, String) {
        let mut stream = TcpStream::connect(self.health).unwrap();
        let head = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: {accept}\r\nConnection: close\r\n\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.to_owned(), body.to_owned())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("the daemon's log:\n{}", self.log);
        }
    }
}
