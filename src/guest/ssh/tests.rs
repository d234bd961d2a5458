//! The shell against guests that are right, wrong, broken and hostile; all of them on loopback.

mod quoting;

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use russh::keys::PrivateKey;
use russh::keys::ssh_key::private::{Ed25519Keypair, KeypairData};
use russh::server::{self, Auth, ChannelOpenHandle, Msg, Session};
use russh::{Channel, ChannelId};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::runtime::Runtime;
use uuid::Uuid;

use super::*;

/// For what is expected to work; a busy machine may take its time.
const LONG: Duration = Duration::from_secs(60);
/// For what is expected never to happen.
const SHORT: Duration = Duration::from_millis(300);

/// What a fake guest does about the set-up script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Script {
    /// Keeps the contract.
    Right,
    /// Says it worked, but leaves `endpoint` as it was.
    DoesNotLock,
    /// Fails, and prints what would do harm to a terminal.
    Fails,
    /// Sets up, then the connection breaks before the status is sent; only the first time.
    Breaks,
    /// Prints without end.
    Endless,
}

struct Guest {
    script: Script,
    locked: AtomicBool,
    /// Whether the user exists.
    user: AtomicBool,
    runs: AtomicUsize,
    /// How often the user logged in.
    logins: AtomicUsize,
    /// How often a key was installed.
    keys: AtomicUsize,
    who: Login,
}

#[derive(Clone)]
struct Connection {
    guest: Arc<Guest>,
    channel: Arc<std::sync::Mutex<Option<Channel<Msg>>>>,
}

impl server::Handler for Connection {
    type Error = russh::Error;

    async fn auth_password(&mut self, user: &str, password: &str) -> Result<Auth, Self::Error> {
        let guest = &self.guest;
        let is_endpoint = (user, password) == (ENDPOINT, ENDPOINT) && !guest.locked.load(Ordering::SeqCst);
        let is_user = (user, password) == (&guest.who.username, guest.who.password.expose_secret())
            && guest.user.load(Ordering::SeqCst);
        guest.logins.fetch_add(is_user.into(), Ordering::SeqCst);
        Ok(if is_endpoint || is_user { Auth::Accept } else { Auth::reject() })
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Self::Error> {
        *self.channel.lock().unwrap() = Some(channel);
        reply.accept().await;
        Ok(())
    }

    async fn exec_request(&mut self, id: ChannelId, command: &[u8], session: &mut Session) -> Result<(), Self::Error> {
        let guest = &self.guest;
        if command == key::installation(KEY).unwrap().as_bytes() {
            guest.keys.fetch_add(1, Ordering::SeqCst);
            session.channel_success(id)?;
            // The home of one that fails is full.
            session.exit_status_request(id, u32::from(guest.script == Script::DoesNotLock))?;
            session.eof(id)?;
            return session.close(id);
        }
        guest.runs.fetch_add(1, Ordering::SeqCst);
        let (user, password) = (&guest.who.username, guest.who.password.expose_secret());
        let expected = format!("sudo /bin/anweddol_container_setup.sh '{user}' '{password}' '22'");
        assert_eq!(String::from_utf8_lossy(command), expected);
        session.channel_success(id)?;
        let mut status = 0;
        match guest.script {
            Script::Right | Script::Breaks => {
                guest.user.store(true, Ordering::SeqCst);
                guest.locked.store(true, Ordering::SeqCst);
            }
            Script::DoesNotLock => guest.user.store(true, Ordering::SeqCst),
            Script::Fails => {
                session.extended_data(id, 1, b"\x1b]0;owned\x07no\r\n".repeat(1000))?;
                status = 7;
            }
            Script::Endless => {
                let handle = session.handle();
                tokio::spawn(async move { while handle.data(id, vec![b'x'; 16 << 10]).await.is_ok() {} });
                return Ok(());
            }
        }
        if guest.script == Script::Breaks {
            return Err(russh::Error::Disconnect);
        }
        session.exit_status_request(id, status)?;
        session.eof(id)?;
        session.close(id)
    }
}

const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILM+rvN+ot98qgEN796jTiQfZfG1KaT0PtFDJ/XFSqti";

fn login() -> Login {
    let (username, password) = EndpointShell::generate_credentials();
    Login { uuid: Uuid::new_v4(), username, password }
}

fn guest(script: Script, who: &Login) -> Arc<Guest> {
    Arc::new(Guest {
        script,
        locked: AtomicBool::new(false),
        user: AtomicBool::new(false),
        runs: AtomicUsize::new(0),
        logins: AtomicUsize::new(0),
        keys: AtomicUsize::new(0),
        who: who.clone(),
    })
}

/// Listens on loopback, and gives each connection to `serve`.
fn listen<F: Future<Output = ()> + Send + 'static>(
    runtime: &Runtime,
    serve: impl Fn(TcpStream) -> F + Send + 'static,
) -> SocketAddr {
    let listener = runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).unwrap();
    let at = listener.local_addr().unwrap();
    runtime.spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream));
        }
    });
    at
}

fn serve(runtime: &Runtime, guest: &Arc<Guest>) -> SocketAddr {
    let key = PrivateKey::new(KeypairData::Ed25519(Ed25519Keypair::from_seed(&[7; 32])), "").unwrap();
    let config = Arc::new(server::Config {
        keys: vec![key],
        auth_rejection_time: Duration::ZERO,
        nodelay: true,
        ..Default::default()
    });
    let guest = guest.clone();
    listen(runtime, move |stream| {
        let handler = Connection { guest: guest.clone(), channel: Arc::default() };
        let config = config.clone();
        async move {
            if let Ok(session) = server::run_stream(config, stream, handler).await {
                session.await.ok();
            }
        }
    })
}

fn personalise(runtime: &Runtime, at: SocketAddr, who: &Login, patience: Duration) -> Result<(), ShellError> {
    SshShell::new(runtime.handle().clone()).personalise(at, who, patience.into(), None)
}

#[test]
fn a_fresh_machine_is_given_to_its_user_once() {
    let (runtime, who) = (Runtime::new().unwrap(), login());
    let guest = guest(Script::Right, &who);
    let at = serve(&runtime, &guest);
    personalise(&runtime, at, &who, LONG).unwrap();
    personalise(&runtime, at, &who, LONG).unwrap();
    assert_eq!(guest.runs.load(Ordering::SeqCst), 1);
    let stranger = personalise(&runtime, at, &login(), LONG);
    assert!(matches!(stranger, Err(ShellError::Refused { .. })), "{stranger:?}");
}

#[test]
fn a_key_costs_one_command_over_the_login_that_was_kept_and_a_login_without_it() {
    let (runtime, who) = (Runtime::new().unwrap(), login());
    let guest = guest(Script::Right, &who);
    let at = serve(&runtime, &guest);
    let shell = SshShell::new(runtime.handle().clone());
    shell.personalise(at, &who, LONG.into(), None).unwrap();
    let seen = || (guest.logins.load(Ordering::SeqCst), guest.keys.load(Ordering::SeqCst));
    assert_eq!(seen(), (1, 0));
    shell.authorize(at, &who, KEY, LONG.into()).unwrap();
    assert_eq!(seen(), (1, 1));
    shell.authorize(at, &who, KEY, LONG.into()).unwrap();
    assert_eq!(seen(), (2, 2));
    let stranger = shell.authorize(at, &login(), KEY, LONG.into());
    assert!(matches!(stranger, Err(ShellError::Refused { .. })), "{stranger:?}");
}

#[test]
fn a_key_that_is_none_or_cannot_be_installed_is_told() {
    let (runtime, who) = (Runtime::new().unwrap(), login());
    let guest = guest(Script::DoesNotLock, &who);
    guest.user.store(true, Ordering::SeqCst);
    let at = serve(&runtime, &guest);
    let shell = SshShell::new(runtime.handle().clone());
    for (key, says) in [("ssh-ed25519 no", "the public key is damaged"), (KEY, "ended with status 1")] {
        let error = shell.authorize(at, &who, key, LONG.into()).unwrap_err().to_string();
        assert!(error.contains("the installation of a key") && error.contains(says), "{error}");
    }
    assert_eq!(guest.keys.load(Ordering::SeqCst), 1);
}

#[test]
fn no_more_logins_are_kept_than_there_may_be_and_none_that_is_dead() {
    let (runtime, who) = (Runtime::new().unwrap(), login());
    let guest = guest(Script::Breaks, &who);
    guest.user.store(true, Ordering::SeqCst);
    let at = serve(&runtime, &guest);
    let connect = || runtime.block_on(EndpointShell::connect_as(at, &who.username, &who.password, LONG)).unwrap();
    let kept = Kept::of(2);
    for n in 1..=3 {
        kept.put(Uuid::from_u128(n), connect());
    }
    assert!(kept.take(Uuid::from_u128(1)).is_none() && kept.take(Uuid::from_u128(2)).is_some());
    let mut dead = connect();
    runtime.block_on(dead.set_credentials(&who.username, &who.password, LONG)).unwrap_err();
    while !dead.is_closed() {
        std::thread::sleep(Duration::from_millis(5));
    }
    kept.put(Uuid::from_u128(4), dead);
    assert!(kept.take(Uuid::from_u128(4)).is_none() && kept.take(Uuid::from_u128(3)).is_some());
}

#[test]
fn what_is_kept_of_a_machine_is_closed_when_it_is_forgotten_and_others_stay() {
    let (runtime, who) = (Runtime::new().unwrap(), login());
    let guest = guest(Script::Breaks, &who);
    guest.user.store(true, Ordering::SeqCst);
    let at = serve(&runtime, &guest);
    let shell = SshShell::new(runtime.handle().clone());
    let connect = || runtime.block_on(EndpointShell::connect_as(at, &who.username, &who.password, LONG)).unwrap();
    for n in 1..=2 {
        shell.kept.put(Uuid::from_u128(n), connect());
    }
    shell.forget(Uuid::from_u128(1));
    shell.forget(Uuid::from_u128(9));
    assert!(shell.kept.take(Uuid::from_u128(1)).is_none());
    assert!(shell.kept.take(Uuid::from_u128(2)).is_some());
}

/// An orderly end would be told again and again to a guest that is gone.
#[test]
fn a_connection_that_is_closed_is_gone_at_once() {
    let runtime = Runtime::new().unwrap();
    let listener = runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).unwrap();
    let at = listener.local_addr().unwrap();
    let heard = runtime.spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        // All of it is read: unread, it would be an end of the same kind.
        stream.write_all(b"SSH-").await.unwrap();
        stream.read(&mut [0; 1]).await.map_err(|error| error.kind())
    });
    SshShell::new(runtime.handle().clone()).probe(at, Uuid::nil(), LONG.into()).unwrap();
    let heard = runtime.block_on(heard).unwrap();
    assert_eq!(heard, Err(std::io::ErrorKind::ConnectionReset), "the other side waits for an answer to its end");
}

#[test]
fn a_set_up_whose_connection_broke_is_found_done() {
    let (runtime, who) = (Runtime::new().unwrap(), login());
    let guest = guest(Script::Breaks, &who);
    let at = serve(&runtime, &guest);
    personalise(&runtime, at, &who, LONG).unwrap();
    assert_eq!(guest.runs.load(Ordering::SeqCst), 1);
}

#[test]
fn a_guest_that_keeps_the_endpoint_open_is_found_out() {
    let (runtime, who) = (Runtime::new().unwrap(), login());
    let at = serve(&runtime, &guest(Script::DoesNotLock, &who));
    let result = personalise(&runtime, at, &who, LONG);
    assert!(matches!(result, Err(ShellError::NotLocked { .. })), "{result:?}");
}

#[test]
fn what_a_failed_script_printed_is_told_short_and_harmless() {
    let (runtime, who) = (Runtime::new().unwrap(), login());
    let at = serve(&runtime, &guest(Script::Fails, &who));
    match personalise(&runtime, at, &who, LONG) {
        Err(ShellError::SetUp { status, output, .. }) => {
            assert_eq!(status, "status 7");
            assert!(output.starts_with("\u{FFFD}]0;owned\u{FFFD}no \u{FFFD}]0;"), "{output}");
            assert!(output.len() <= 1024 && !output.contains(char::is_control));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_command_that_prints_without_end_is_given_up() {
    let (runtime, who) = (Runtime::new().unwrap(), login());
    let at = serve(&runtime, &guest(Script::Endless, &who));
    runtime.block_on(async {
        let mut shell = EndpointShell::connect(at, LONG).await.unwrap();
        let result = shell.set_credentials(&who.username, &who.password, LONG).await;
        assert!(matches!(&result, Err(ShellError::Broken { reason, .. }) if reason.contains("no end")), "{result:?}");
    });
}

#[test]
fn arguments_that_are_not_of_the_agreed_form_never_reach_a_guest() {
    let (_, password) = EndpointShell::generate_credentials();
    let short = SecretString::from("x".repeat(119));
    let quote = SecretString::from(format!("{}'", "x".repeat(119)));
    for username in ["", "user_1234", "user_123456", "root", "user_1234'", "user_12345 ", "user_١٢٣٤٥", "User_12345"]
    {
        assert!(setup_command(username, &password).is_err(), "{username}");
    }
    assert!(setup_command("user_12345", &short).is_err());
    assert!(setup_command("user_12345", &quote).is_err());
    assert!(setup_command("user_12345", &password).is_ok());
    let runtime = Runtime::new().unwrap();
    let connections = Arc::new(AtomicUsize::new(0));
    let counter = connections.clone();
    let at = listen(&runtime, move |_| {
        counter.fetch_add(1, Ordering::SeqCst);
        async {}
    });
    let who = Login { username: "root; reboot".into(), ..login() };
    let result = personalise(&runtime, at, &who, LONG);
    assert!(matches!(&result, Err(ShellError::SetUp { output, .. }) if output.contains("user name")), "{result:?}");
    assert_eq!(connections.load(Ordering::SeqCst), 0);
}

#[test]
fn generated_credentials_are_of_the_agreed_form_and_never_the_same() {
    let (username, password) = EndpointShell::generate_credentials();
    assert!(is_username(&username) && is_password(password.expose_secret()));
    let (_, other) = EndpointShell::generate_credentials();
    assert_ne!(password.expose_secret(), other.expose_secret());
}

#[test]
fn a_port_that_accepts_and_says_nothing_is_no_answer() {
    let runtime = Runtime::new().unwrap();
    let at = listen(&runtime, |stream| async move {
        std::future::pending::<()>().await;
        drop(stream);
    });
    let result = personalise(&runtime, at, &login(), SHORT);
    assert!(
        matches!(&result, Err(ShellError::NotAnswering { reason, .. }) if reason.contains("says nothing")),
        "{result:?}"
    );
}

/// A port on which nobody listens, and nobody else will either: one that is let go may be given to another test.
fn closed() -> (TcpSocket, SocketAddr) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let at = socket.local_addr().unwrap();
    (socket, at)
}

#[test]
fn a_closed_port_is_no_answer_and_says_why() {
    let runtime = Runtime::new().unwrap();
    let (_held, at) = closed();
    // On a busy machine a refusal takes its time too.
    let result = personalise(&runtime, at, &login(), 10 * SHORT);
    assert!(
        matches!(&result, Err(ShellError::NotAnswering { reason, .. }) if reason.contains("refused")),
        "{result:?}"
    );
}

#[test]
fn a_guest_that_answers_only_later_is_waited_for() {
    let (runtime, who) = (Runtime::new().unwrap(), login());
    let real = serve(&runtime, &guest(Script::Right, &who));
    let seen = Arc::new(AtomicUsize::new(0));
    let front = listen(&runtime, move |mut stream| {
        // As behind QEMU's user networking: the first connections are accepted and lead nowhere.
        let early = seen.fetch_add(1, Ordering::SeqCst) < 2;
        async move {
            if early {
                std::future::pending::<()>().await;
            }
            let mut guest = TcpStream::connect(real).await.unwrap();
            tokio::io::copy_bidirectional(&mut stream, &mut guest).await.ok();
        }
    });
    personalise(&runtime, front, &who, LONG).unwrap();
}

/// Sends `bytes` again and again, for as long as the other side takes them.
async fn flood(mut stream: TcpStream, bytes: &'static [u8]) {
    while stream.write_all(bytes).await.is_ok() {}
}

#[test]
fn what_is_no_ssh_server_is_given_up_without_reading_it_to_its_end() {
    let runtime = Runtime::new().unwrap();
    for garbage in [&b"\xff\x00\x1b[2J"[..], b"HTTP/1.1 400 Bad Request\r\n", b"SSH-2.0-", b"SSH-1.5-old\r\n"] {
        let at = listen(&runtime, move |stream| flood(stream, garbage));
        let result = personalise(&runtime, at, &login(), LONG);
        assert!(
            matches!(&result, Err(ShellError::NotAnswering { reason, .. }) if reason.contains("not speak SSH")),
            "{garbage:?}: {result:?}"
        );
    }
}

#[test]
fn a_banner_followed_by_garbage_is_a_broken_connection() {
    let runtime = Runtime::new().unwrap();
    let at = listen(&runtime, |mut stream| async move {
        stream.write_all(b"SSH-2.0-OpenSSH_9.2p1\r\n").await.ok();
        flood(stream, &[0xff; 4096]).await;
    });
    let result = runtime.block_on(EndpointShell::connect(at, LONG));
    assert!(matches!(result.err(), Some(ShellError::Broken { .. })));
}

/// What it says when somebody connects.
fn talker(runtime: &Runtime, says: &'static [u8]) -> SocketAddr {
    let listener = runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).unwrap();
    let at = listener.local_addr().unwrap();
    runtime.spawn(async move {
        let mut open = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            stream.write_all(says).await.ok();
            open.push(stream);
        }
    });
    at
}

#[test]
fn a_probe_hears_an_ssh_server_and_nothing_else() {
    let runtime = Runtime::new().unwrap();
    let shell = SshShell::new(runtime.handle().clone());
    let probe = |at: SocketAddr, patience: Duration| shell.probe(at, Uuid::nil(), patience.into());
    probe(talker(&runtime, b"SSH-2.0-x\r\n"), LONG).unwrap();
    let reason = |ended: Result<(), ShellError>| match ended {
        Err(ShellError::NotAnswering { reason, .. }) => reason,
        other => panic!("{other:?}"),
    };
    assert!(reason(probe(talker(&runtime, b"HTTP/1.1 400\r\n"), LONG)).contains("SSH"));
    // As QEMU's user networking does for a guest that is gone.
    for says in [&b""[..], b"SS"] {
        assert!(reason(probe(talker(&runtime, says), SHORT)).contains("in time"));
    }
    let (_held, free) = closed();
    assert!(reason(probe(free, LONG)).contains("refused"));
    // Nobody waits for it any more.
    let unwanted = Patience::new(LONG, &|| false);
    let ended = shell.probe(talker(&runtime, b""), Uuid::nil(), unwanted);
    assert!(matches!(ended, Err(ShellError::Unwanted { .. })), "{ended:?}");
}
