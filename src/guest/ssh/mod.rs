//! Gives a machine to its user over SSH: the real [`Shell`].
//!
//! ```text
//! reach: a banner ──► endpoint logs in? ──yes──► set-up script ──status 0──► endpoint refused AND user logs in ──► done
//!   ▲                        │no                      │connection broke              │(two connections at once)
//!   │                        └──► user logs in? ──yes──► done (it was set up before)  │
//!   └────────────── after a pause, while patience lasts ◄─────────────────────────────┘connection broke
//! ```
//!
//! **Trust.** The guest is not trusted: it may be an image of anybody's, and later belongs to a stranger. What it sends is
//! bounded in size and in time, and reaches messages only through [`text::printable`]. Its host key is accepted as it comes
//! at the first login: it was made minutes ago by this very boot, nobody knows it yet, and the way there is internal to the
//! host (a loopback forward into one QEMU process, or the bridge that only our machines are on). From then on it is the
//! machine's, and no other is talked to in its place (`peer`). The password that is set is the one secret sent, and its
//! receiver is the machine that it is for.
//!
//! **Steering.** Nothing that a guest says decides whom this host talks to next: `at` comes from the machine's own record,
//! card and port, and this module dials nothing else.
//!
//! **Keys.** The connection of that last login is kept (`kept`), so that a public key that comes with a claim costs one
//! command and no key exchange. Without it (it broke, the daemon was started again), a new login does the same. It is
//! closed when the machine is somebody's, who may do at the other end whatever an SSH server can.

mod endpoint;
mod kept;
mod key;
mod peer;
mod reach;
mod stream;
pub mod text;

#[cfg(test)]
mod tests;

pub use super::opened::{Exit, Output};
pub use endpoint::EndpointShell;

use std::net::SocketAddr;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};
use uuid::Uuid;

use super::{GUEST_SSH_PORT, Login, OpenShell, Opened, Patience, Shell, ShellError, ShellObserver};
use endpoint::Entry;
use kept::Kept;
use peer::{Known, Machines, Pin};
use reach::Expect;

/// The account that every image starts with, and its password.
pub const ENDPOINT: &str = "endpoint";
/// What the endpoint account may run.
pub const SETUP_SCRIPT: &str = "/bin/anweddol_container_setup.sh";
/// Between two tries after a connection broke: time for an SSH server to restart, or to get rid of a crowd.
const RETRY_PAUSE: Duration = Duration::from_millis(500);
/// A login that takes longer is given up and tried again: seen on hosts so busy that the guest lost its connections.
const LOGIN_PATIENCE: Duration = Duration::from_secs(20);
/// How often it is asked whether anybody still waits.
const WANTED_INTERVAL: Duration = Duration::from_millis(200);
/// How much of what the script printed is told.
const SETUP_OUTPUT_LIMIT: usize = 1024;
/// What a command is called when it failed.
const SET_UP: &str = "the set-up script";
const INSTALLATION: &str = "the installation of a key";

/// The real [`Shell`]. Blocks its caller: use it from threads that may block, never from a task of the runtime.
#[derive(Clone, Debug)]
pub struct SshShell {
    runtime: Handle,
    kept: Kept,
    machines: Machines,
}

impl SshShell {
    /// A shell whose connections run on `runtime`.
    pub fn new(runtime: Handle) -> Self {
        SshShell { runtime, kept: Kept::default(), machines: Machines::default() }
    }
}

impl Shell for SshShell {
    fn personalise(
        &self,
        at: SocketAddr,
        who: &Login,
        patience: Patience<'_>,
        observer: Option<&dyn ShellObserver>,
    ) -> Result<(), ShellError> {
        let deadline = Instant::now() + patience.at_most;
        let known = self.machines.of(who.uuid);
        let work = personalise(at, &known, who, observer, patience.answered, deadline);
        let login = self.while_wanted(at, patience, work)?;
        self.kept.put(who.uuid, login);
        Ok(())
    }

    fn authorize(&self, at: SocketAddr, who: &Login, key: &str, patience: Patience<'_>) -> Result<(), ShellError> {
        let deadline = Instant::now() + patience.at_most;
        let command = key::installation(key).map_err(|error| not_run(at, INSTALLATION, &error.to_string()))?;
        let Known { pin, .. } = self.machines.of(who.uuid);
        self.while_wanted(at, patience, async {
            if let Some(mut login) = self.kept.take(who.uuid) {
                match within(at, deadline, login.run(&command)).await {
                    Ok(output) => {
                        login.close().await;
                        return ended(at, INSTALLATION, &output);
                    }
                    // Installing a key twice is installing it once.
                    Err(error) => tracing::debug!(%at, %error, "the kept connection is of no use; a new login"),
                }
            }
            match enter(at, Expect::Answer, &pin, &who.username, who.password.expose_secret(), deadline).await? {
                Entry::In(mut login) => {
                    let output = within(at, deadline, login.run(&command)).await?;
                    login.close().await;
                    ended(at, INSTALLATION, &output)
                }
                Entry::Refused => Err(ShellError::Refused { at }),
            }
        })
    }

    fn probe(&self, at: SocketAddr, _: Uuid, patience: Patience<'_>) -> Result<(), ShellError> {
        self.while_wanted(at, patience, reach::answers(at, patience.at_most))
    }

    fn soon(&self, container: Uuid) {
        self.machines.of(container).soon.notify_one();
    }

    fn forget(&self, container: Uuid) {
        // Its connection lives on the runtime.
        let _runtime = self.runtime.enter();
        drop(self.kept.take(container));
        self.machines.forget(container);
    }
}

impl SshShell {
    /// Does something on the runtime, for as long as anybody waits for it.
    fn while_wanted<T>(
        &self,
        at: SocketAddr,
        patience: Patience<'_>,
        work: impl Future<Output = Result<T, ShellError>>,
    ) -> Result<T, ShellError> {
        self.runtime.block_on(async {
            tokio::select! {
                done = work => done,
                () = unwanted(patience) => Err(ShellError::Unwanted { at }),
            }
        })
    }
}

/// Returns once nobody waits any more.
async fn unwanted(patience: Patience<'_>) {
    while (patience.wanted)() {
        sleep(WANTED_INTERVAL).await;
    }
}

/// Ends with the user logged in.
async fn personalise(
    at: SocketAddr,
    known: &Known,
    who: &Login,
    observer: Option<&dyn ShellObserver>,
    answered: &(dyn Fn() + Sync),
    deadline: Instant,
) -> Result<EndpointShell, ShellError> {
    let mut who = who.clone();
    let mut expect = Expect::Boot;
    loop {
        let broken = match personalise_once(at, expect, known, &mut who, observer, answered, deadline).await {
            Err(error @ ShellError::Broken { .. }) => error,
            other => return other,
        };
        tracing::debug!(%at, error = %broken, "trying again");
        if Instant::now() + RETRY_PAUSE >= deadline {
            return Err(broken);
        }
        sleep_until(Instant::now() + RETRY_PAUSE).await;
        expect = Expect::Answer;
    }
}

async fn personalise_once(
    at: SocketAddr,
    expect: Expect,
    known: &Known,
    who: &mut Login,
    observer: Option<&dyn ShellObserver>,
    answered: &(dyn Fn() + Sync),
    deadline: Instant,
) -> Result<EndpointShell, ShellError> {
    setup_command(&who.username, &who.password).map_err(|what| not_run(at, SET_UP, what))?;
    let Known { pin, soon } = known;
    let stream = reached(at, ENDPOINT, reach::reach(at, expect, soon, deadline)).await?;
    let entry = log_in(at, stream, pin, ENDPOINT, ENDPOINT, deadline).await?;
    answered();
    match entry {
        Entry::In(shell) => {
            tracing::debug!(%at, username = ENDPOINT, "logged in");
            let mut shell: Box<dyn OpenShell> = Box::new(shell);
            if let Some(observer) = observer {
                let opened = within(at, deadline, async { Ok(observer.opened(who.uuid, shell).await) }).await?;
                shell = who.follow(at, opened)?;
            }
            let command = setup_command(&who.username, &who.password).map_err(|what| not_run(at, SET_UP, what))?;
            let left = deadline.saturating_duration_since(Instant::now());
            let output = shell.execute(command.expose_secret(), left).await?;
            shell.close().await;
            ended(at, SET_UP, &output)?;
            tracing::debug!(%at, username = ENDPOINT, "set up");
        }
        Entry::Refused => {
            return match enter(at, Expect::Answer, pin, &who.username, who.password.expose_secret(), deadline).await? {
                Entry::In(login) => Ok(login),
                Entry::Refused => Err(ShellError::Refused { at }),
            };
        }
    }
    let endpoint = enter(at, Expect::Answer, pin, ENDPOINT, ENDPOINT, deadline);
    let user = enter(at, Expect::Answer, pin, &who.username, who.password.expose_secret(), deadline);
    match tokio::try_join!(endpoint, user)? {
        (Entry::Refused, Entry::In(login)) => Ok(login),
        (Entry::In(_), _) => Err(ShellError::NotLocked { at }),
        (Entry::Refused, Entry::Refused) => Err(ShellError::Refused { at }),
    }
}

impl Login {
    /// Does as an observer says: the shell to go on with, and perhaps another user.
    pub(in crate::guest) fn follow(
        &mut self,
        at: SocketAddr,
        opened: Opened,
    ) -> Result<Box<dyn OpenShell>, ShellError> {
        match opened {
            Opened::Closed => Err(ShellError::Closed { at }),
            Opened::GoOn(shell, credentials) => {
                if let Some(chosen) = credentials {
                    (self.username, self.password) = (chosen.username, chosen.password);
                }
                Ok(shell)
            }
        }
    }
}

/// Logs in to a guest of which no hint comes.
async fn enter(
    at: SocketAddr,
    expect: Expect,
    pin: &Pin,
    username: &str,
    password: &str,
    deadline: Instant,
) -> Result<Entry, ShellError> {
    let stream = reached(at, username, reach::reach(at, expect, &Notify::new(), deadline)).await?;
    log_in(at, stream, pin, username, password, deadline).await
}

async fn reached(
    at: SocketAddr,
    username: &str,
    reaching: impl Future<Output = Result<TcpStream, ShellError>>,
) -> Result<TcpStream, ShellError> {
    tracing::debug!(%at, username, "asking");
    let stream = reaching.await?;
    tracing::debug!(%at, username, "a guest answers");
    Ok(stream)
}

async fn log_in(
    at: SocketAddr,
    stream: TcpStream,
    pin: &Pin,
    username: &str,
    password: &str,
    deadline: Instant,
) -> Result<Entry, ShellError> {
    let deadline = deadline.min(Instant::now() + LOGIN_PATIENCE);
    within(at, deadline, endpoint::enter(at, stream, pin, username, password)).await
}

/// Bounds a conversation by the deadline.
async fn within<T>(
    at: SocketAddr,
    deadline: Instant,
    work: impl Future<Output = Result<T, ShellError>>,
) -> Result<T, ShellError> {
    match timeout_at(deadline, work).await {
        Ok(result) => result,
        Err(_) => Err(ShellError::Broken { at, reason: "it stopped answering".into() }),
    }
}

/// What the end of a command means.
fn ended(at: SocketAddr, what: &'static str, output: &Output) -> Result<(), ShellError> {
    let status = match &output.exit {
        Exit::Status(0) => return Ok(()),
        Exit::Status(status) => format!("status {status}"),
        Exit::Signal(name) => format!("signal {name}"),
    };
    let said = if output.stderr.is_empty() { &output.stdout } else { &output.stderr };
    Err(ShellError::SetUp { what, at, status, output: text::printable(said, SETUP_OUTPUT_LIMIT) })
}

/// A command was not run, because its arguments are not of the agreed form.
fn not_run(at: SocketAddr, what: &'static str, why: &str) -> ShellError {
    ShellError::SetUp { what, at, status: "no status, for it was not run".into(), output: why.into() }
}

/// The command that sets a machine up. Both words are checked to be of letters, digits and `_` alone, so that no shell on the
/// way can read anything else into them: `a_shell_reads_the_words_of_the_set_up_as_they_are_or_is_not_asked`.
fn setup_command(username: &str, password: &SecretString) -> Result<SecretString, &'static str> {
    check(username, password)?;
    let password = password.expose_secret();
    let port = GUEST_SSH_PORT.to_string();
    // In one piece: a text that grows leaves copies of its beginning behind.
    Ok(["sudo ", SETUP_SCRIPT, " '", username, "' '", password, "' '", &port, "'"].concat().into())
}

/// Whether the set-up script may be given these.
pub(super) fn check(username: &str, password: &SecretString) -> Result<(), &'static str> {
    if !is_username(username) {
        return Err("the user name is not 'user_' and five digits");
    }
    if !is_password(password.expose_secret()) {
        return Err("the password is not of 120 letters and digits");
    }
    Ok(())
}

fn is_username(text: &str) -> bool {
    text.strip_prefix("user_").is_some_and(|rest| rest.len() == 5 && rest.bytes().all(|byte| byte.is_ascii_digit()))
}

fn is_password(text: &str) -> bool {
    text.len() == 120 && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}
