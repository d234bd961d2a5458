//! Hostile guests, against the real shell: alone, and as machines of a whole server that has good ones beside them.

mod double;
#[allow(dead_code)]
#[path = "../../library/support.rs"]
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anweddol::config::Config;
use anweddol::facade::{Machines, Virtualization};
use anweddol::guest::ssh::{EndpointShell, SshShell};
use anweddol::guest::{Forward, ForwardError, Forwarder, Login, Shell, ShellError};
use anweddol::model::Image;
use anweddol::wire::{CREATE, Request};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tracing_subscriber::EnvFilter;
use uuid::Uuid;

use self::support::Bench;
use crate::common::{PATIENCE, until};
use double::{Guest, Kind, Manner, RAW};

const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILM+rvN+ot98qgEN796jTiQfZfG1KaT0PtFDJ/XFSqti";

/// Every kind of channel.
const KINDS: [Kind; 7] =
    [Kind::Session, Kind::Agent, Kind::X11, Kind::Forwarded, Kind::ForwardedSocket, Kind::Direct, Kind::DirectSocket];

/// What has no place in a line, whoever reads it.
fn is_raw(text: &str) -> bool {
    text.contains(|c: char| c.is_control() || RAW.contains(c) && !c.is_ascii())
}

fn login() -> Login {
    let (username, password) = EndpointShell::generate_credentials();
    Login { uuid: Uuid::new_v4(), username, password }
}

/// The ways to simulated machines: behind each is one of the guests that wait, in the order in which they are looked for.
struct Ways {
    inner: Arc<dyn Forwarder>,
    waiting: Mutex<Vec<Arc<Guest>>>,
    given: Mutex<BTreeMap<Uuid, Arc<Guest>>>,
    published: Mutex<BTreeSet<Uuid>>,
}

impl Forwarder for Ways {
    fn admin(&self, forward: &Forward) -> Result<SocketAddr, ForwardError> {
        self.inner.admin(forward)?;
        let next = || self.waiting.lock().unwrap().pop().expect("a guest for each machine");
        Ok(self.given.lock().unwrap().entry(forward.uuid).or_insert_with(next).at)
    }

    fn public(&self, forward: &Forward) -> SocketAddr {
        self.given.lock().unwrap()[&forward.uuid].at
    }

    fn publish(&self, forward: &Forward) -> Result<(), ForwardError> {
        self.published.lock().unwrap().insert(forward.uuid);
        self.inner.publish(forward)
    }

    fn withdraw(&self, forward: &Forward) -> Result<(), ForwardError> {
        self.inner.withdraw(forward)
    }

    fn is_published(&self, forward: &Forward) -> Result<bool, ForwardError> {
        self.inner.is_published(forward)
    }

    fn connections(&self, forward: &Forward) -> Result<u32, ForwardError> {
        self.inner.connections(forward)
    }

    fn list(&self) -> Result<Vec<u16>, ForwardError> {
        self.inner.list()
    }

    fn is_free(&self, port: u16) -> bool {
        self.inner.is_free(port)
    }
}

/// A server whose machines are these guests, and which gives each so many seconds to come up.
fn server(runtime: &Runtime, guests: &[Arc<Guest>], boot_deadline: u32) -> (Bench, Arc<Ways>) {
    let (_, machines) = support::machines();
    let ways = Arc::new(Ways {
        inner: machines.forwarder,
        waiting: Mutex::new(guests.to_vec()),
        given: Mutex::default(),
        published: Mutex::default(),
    });
    let shell = Arc::new(SshShell::new(runtime.handle().clone()));
    let machines = Machines { shell, forwarder: ways.clone(), ..machines };
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("image.iso");
    std::fs::write(&image, "image").unwrap();
    let mut config = Config { state_dir: dir.path().join("state"), ..Config::default() };
    config.server.listen = (Ipv4Addr::LOCALHOST, 0).into();
    (config.server.health_listen, config.server.api_listen) = (None, None);
    config.container.max_allowed_running_containers = guests.len().try_into().unwrap();
    config.container.boot_deadline = boot_deadline;
    let bench = Bench::on(dir, |builder| {
        let builder = builder.config(config).virtualization(Virtualization::Custom(machines));
        builder.container_image(Image::Iso(image)).rsa_keys(support::key("server"))
    });
    bench.server.start_background().unwrap();
    (bench, ways)
}

/// What this process logs from now on.
fn log() -> Arc<Mutex<Vec<u8>>> {
    #[derive(Clone)]
    struct Lines(Arc<Mutex<Vec<u8>>>);
    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            Write::write(&mut *self.0.lock().unwrap(), bytes)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let lines = Lines(Arc::default());
    let written = lines.0.clone();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_env_filter(EnvFilter::new("anweddol=trace"));
    subscriber.with_writer(move || lines.clone()).init();
    written
}

#[test]
fn a_hostile_guest_is_given_to_nobody_and_those_beside_it_are() {
    let log = log();
    let runtime = Runtime::new().unwrap();
    // These did what was asked of them in the end, whatever they said besides.
    let kept = [Manner::Honest, Manner::NoWindow, Manner::Banner, Manner::NoStatus, Manner::Prints, Manner::Leaves];
    let hostile = [
        Manner::Mute,
        Manner::Chatter,
        Manner::OneLine,
        Manner::Noise,
        Manner::Dribble,
        Manner::Open,
        Manner::Shut,
        Manner::LeavesEndpoint,
        Manner::MakesNobody,
        Manner::Unending,
        Manner::Signal,
        Manner::Fails,
        Manner::OtherKey,
        Manner::Opens(Kind::Session),
        Manner::Opens(Kind::Agent),
    ];
    let guests: Vec<_> = kept.into_iter().chain(hostile).map(|manner| Guest::start(&runtime, manner)).collect();
    // As long as the good ones may need beside all of this on busy processors: the others take all of it.
    let (bench, ways) = server(&runtime, &guests, 20);
    let answers: Vec<_> = std::thread::scope(|scope| {
        let ask = || bench.ask(&Request::bare(CREATE)).unwrap();
        let asking: Vec<_> = guests.iter().map(|_| scope.spawn(ask)).collect();
        asking.into_iter().map(|answer| answer.join().unwrap()).collect()
    });
    let manners = |uuids: &BTreeSet<Uuid>| {
        let given = ways.given.lock().unwrap();
        let mut manners: Vec<_> = uuids.iter().map(|uuid| format!("{:?}", given[uuid].manner)).collect();
        manners.sort();
        manners
    };
    let (granted, refused): (Vec<_>, Vec<_>) = answers.into_iter().partition(|answer| answer.success);
    let granted: BTreeSet<Uuid> =
        granted.iter().map(|answer| answer.data["container_uuid"].as_str().unwrap().parse().unwrap()).collect();
    let mut expected = kept.map(|manner| format!("{manner:?}"));
    expected.sort();
    assert_eq!(manners(&granted), expected);
    assert_eq!(refused.len(), hostile.len());
    assert!(refused.iter().all(|answer| answer.message == "Internal error"), "{refused:?}");
    // Nobody could have reached one that nobody was given.
    assert_eq!(manners(&ways.published.lock().unwrap()), expected);
    for guest in &guests {
        let (sent, connections) =
            (guest.seen.sent.load(Ordering::SeqCst), guest.seen.connections.load(Ordering::SeqCst));
        // What a socket holds, and what is read of it before it is given up.
        assert!(sent <= connections * (48 << 20), "{:?}: {sent} bytes on {connections} connections", guest.manner);
        assert_eq!(guest.seen.channels.load(Ordering::SeqCst), 0, "{:?}", guest.manner);
    }
    let log = String::from_utf8(log.lock().unwrap().clone()).unwrap();
    assert!(log.contains("owned"), "what a script printed is told");
    for line in log.lines() {
        assert!(!is_raw(line) && line.len() < 8192 && !line.starts_with("ERROR forged"), "{line:?}");
    }
    bench.server.stop().unwrap();
}

#[test]
fn what_is_open_to_a_machine_is_closed_when_it_is_somebodys() {
    let runtime = Runtime::new().unwrap();
    let guest = Guest::start(&runtime, Manner::Honest);
    let (bench, _) = server(&runtime, std::slice::from_ref(&guest), 60);
    bench.create();
    assert!(guest.seen.connections.load(Ordering::SeqCst) > 0);
    until("the end of every connection", || (guest.seen.open.load(Ordering::SeqCst) == 0).then_some(()));
    bench.server.stop().unwrap();
}

#[test]
fn what_a_guest_says_is_told_short_and_harmless() {
    let runtime = Runtime::new().unwrap();
    for manner in [Manner::Chatter, Manner::Noise, Manner::Signal, Manner::Fails, Manner::Leaves] {
        let guest = Guest::start(&runtime, manner);
        let shell = SshShell::new(runtime.handle().clone());
        // One that leaves did its work before: it is asked as another guest.
        let told = match manner {
            Manner::Leaves => runtime.block_on(async {
                let mut shell = EndpointShell::connect(guest.at, PATIENCE).await.unwrap();
                shell.execute("true", PATIENCE).await.map(drop)
            }),
            _ => shell.personalise(guest.at, &login(), PATIENCE.into(), None),
        };
        let told = told.unwrap_err().to_string();
        assert!(!is_raw(&told) && told.len() <= 2048, "{manner:?}: {told:?}");
    }
}

#[test]
fn whoever_shows_another_host_key_later_is_told_no_password() {
    let runtime = Runtime::new().unwrap();
    let shell = SshShell::new(runtime.handle().clone());
    let other = Guest::start(&runtime, Manner::OtherKey);
    let told = |guest: &Guest| guest.seen.passwords.each_ref().map(|told| told.load(Ordering::SeqCst));
    let ended = shell.personalise(other.at, &login(), PATIENCE.into(), None);
    assert!(matches!(ended, Err(ShellError::OtherKey { .. })), "{ended:?}");
    assert_eq!(told(&other), [1, 0]);

    // A machine that was set up, and somebody else who answers at its address later.
    let (guest, who) = (Guest::start(&runtime, Manner::Honest), login());
    shell.personalise(guest.at, &who, PATIENCE.into(), None).unwrap();
    for _ in 0..2 {
        shell.authorize(guest.at, &who, KEY, PATIENCE.into()).unwrap();
    }
    let ended = shell.authorize(other.at, &who, KEY, PATIENCE.into());
    assert!(matches!(ended, Err(ShellError::OtherKey { .. })), "{ended:?}");
    assert_eq!(told(&other), [1, 0]);
    // Of a machine that is over nothing is known: the next one of this name is another one.
    shell.forget(who.uuid);
    let ended = shell.authorize(other.at, &who, KEY, PATIENCE.into());
    assert!(matches!(ended, Err(ShellError::Refused { .. })), "{ended:?}");
}

#[test]
fn a_guest_that_opens_channels_to_us_is_cut_off() {
    let runtime = Runtime::new().unwrap();
    for kind in KINDS {
        let guest = Guest::start(&runtime, Manner::Opens(kind));
        // It may be cut off before the login is told to us, or after: we keep what we have.
        let _shell = runtime.block_on(EndpointShell::connect(guest.at, PATIENCE));
        until("the end of the connection", || (guest.seen.open.load(Ordering::SeqCst) == 0).then_some(()));
        assert_eq!(guest.seen.channels.load(Ordering::SeqCst), 0, "{kind:?}");
    }
}

/// A way to a guest on which it says so many bytes, and then nothing more.
fn cut(runtime: &Runtime, guest: SocketAddr, most: usize) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).unwrap();
    let at = listener.local_addr().unwrap();
    let said = Arc::new(AtomicUsize::new(0));
    let counted = said.clone();
    runtime.spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let counted = counted.clone();
            tokio::spawn(async move {
                let mut guest = TcpStream::connect(guest).await.unwrap();
                let ((mut hear, mut say), (mut from, mut to)) = (client.split(), guest.split());
                let answers = async {
                    let mut left = most;
                    let mut bytes = [0; 4096];
                    while left > 0 {
                        let length = left.min(bytes.len());
                        match from.read(&mut bytes[..length]).await {
                            Ok(read) if read > 0 && say.write_all(&bytes[..read]).await.is_ok() => left -= read,
                            _ => return,
                        }
                        counted.fetch_max(most - left, Ordering::SeqCst);
                    }
                    std::future::pending().await
                };
                tokio::select! {
                    _ = tokio::io::copy(&mut hear, &mut to) => {}
                    () = answers => {}
                }
            });
        }
    });
    (at, said)
}

#[test]
fn a_guest_that_falls_silent_at_any_byte_is_given_up() {
    let runtime = Runtime::new().unwrap();
    let shell = SshShell::new(runtime.handle().clone());
    let (at, said) = cut(&runtime, Guest::start(&runtime, Manner::Honest).at, usize::MAX);
    shell.personalise(at, &login(), PATIENCE.into(), None).unwrap();
    // Far enough that some are past the login, and before the command's end is told.
    let whole = said.load(Ordering::SeqCst) - 100;
    let points: Vec<usize> = (0..whole).step_by(61).collect();
    std::thread::scope(|scope| {
        for points in points.chunks(points.len().div_ceil(8)) {
            let (runtime, shell) = (&runtime, &shell);
            scope.spawn(move || {
                for &most in points {
                    let (at, _) = cut(runtime, Guest::start(runtime, Manner::Honest).at, most);
                    let ended = shell.personalise(at, &login(), Duration::from_millis(400).into(), None);
                    let ended = ended.expect_err("it cannot be known to be set up");
                    let known = matches!(ended, ShellError::NotAnswering { .. } | ShellError::Broken { .. });
                    assert!(known && !is_raw(&ended.to_string()), "{most}: {ended:?}");
                }
            });
        }
    });
}
