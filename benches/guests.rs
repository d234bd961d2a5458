//! Real guests, in the lab: what a cold CREATE adds to what the guest itself needs, by stage; a warm CREATE; a DESTROY.
//!
//! ```text
//! tests/lab/run.sh               cargo bench --bench guests
//! tests/lab/run.sh --no-libvirtd cargo bench --bench guests -- 10        so many machines; 5 if nothing is said
//! ```
//!
//! The stages are those of one and the same machine, from the daemon's own log; beside them stands a guest without any daemon.
//! Machines come one after the other, since guests that boot at the same time share the processors. Most of
//! all of it is the guest's own, so that another host, or one that is busy, has other numbers.

#[path = "../tests/common/mod.rs"]
mod common;
#[allow(dead_code)] // the suite's; here a part of it is used
#[path = "../tests/guest/host.rs"]
mod host;

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use anweddol::guest::forward::nft::{NftConfig, NftForwarder};
use anweddol::guest::forward::user::UserForwarder;
use anweddol::guest::ssh::EndpointShell;
use anweddol::guest::{Forward, Forwarder};
use anweddol::hypervisor::libvirt::{Config, Libvirt, NatNetwork};
use anweddol::hypervisor::{DomainSpec, Hypervisor};
use anweddol::model::{DomainType, Egress, Image, Mark, Memory, NetworkSpec};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use uuid::Uuid;

use common::ask::{Grant, create, destroy, grant, runtime, until_available};
use common::daemon::Daemon;
use common::until;
use host::{Host, Mode};

/// What a cold CREATE may add to what the guest itself needs, from the start of its domain to a login that works.
const MOST_ADDED: Duration = Duration::from_millis(300);
/// Machines, where nothing else is said.
const MACHINES: usize = 5;
/// How long a guest may boot.
const BOOT: Duration = Duration::from_secs(100);
const PORT: u16 = 20_200;

fn main() {
    let machines = std::env::args().skip(1).find_map(|arg| arg.parse().ok()).unwrap_or(MACHINES);
    let host = Host::lab();
    let alone: Vec<Duration> = alone(&host, machines);
    let (cold, gone) = cold(&host, machines);
    let warm = warm(&host, machines);

    println!("{:<52} {:>8} {:>8}", format!("{machines} real guests ({:?})", host.mode), "p50", "max");
    for (index, name) in STAGES.iter().enumerate() {
        row(name, cold.iter().map(|machine| machine.stages[index]));
    }
    row("cold CREATE", cold.iter().map(|machine| machine.all));
    row("  of it, the guest itself: boot and login", cold.iter().map(Machine::own));
    let added = row("  of it, added", cold.iter().map(|machine| machine.all.saturating_sub(machine.own())));
    println!("{:<52} {:>6.2} s  {}", "  the most that may be added", MOST_ADDED.as_secs_f64(), verdict(added));
    row("a guest alone, from its start to a login", alone.into_iter());
    row("warm CREATE", warm.into_iter());
    row("DESTROY", gone.into_iter());
}

fn verdict(added: Duration) -> &'static str {
    if added <= MOST_ADDED { "kept" } else { "NOT KEPT" }
}

/// Prints a row: its median.
fn row(name: &str, times: impl Iterator<Item = Duration>) -> Duration {
    let mut times: Vec<Duration> = times.collect();
    times.sort_unstable();
    let (median, most) = (times[times.len() / 2], times[times.len() - 1]);
    println!("{name:<52} {:>6.2} s {:>6.2} s", median.as_secs_f64(), most.as_secs_f64());
    median
}

/// What a cold CREATE consists of: each ends where the next one begins.
const STAGES: [&str; 6] = [
    "define: from the request to a domain that runs",
    "boot: to the first words of its SSH server",
    "login: as endpoint",
    "set-up: the script",
    "check: endpoint is refused, and its user is not",
    "publish, bind, answer",
];

/// A machine's way.
struct Machine {
    stages: [Duration; STAGES.len()],
    all: Duration,
}

impl Machine {
    /// What any client would have waited for that does nothing but log in.
    fn own(&self) -> Duration {
        let [_, boot, login, ..] = self.stages;
        boot + login
    }
}

/// Machines that are made when somebody asks, and how long their ends took.
fn cold(host: &Host, machines: usize) -> (Vec<Machine>, Vec<Duration>) {
    let daemon = host.home("", "").env("RUST_LOG", "anweddol=debug").start();
    let (mut made, mut gone) = (Vec::new(), Vec::new());
    for _ in 0..machines {
        let begin = Timestamp::now();
        let granted = grant(&create(daemon.address));
        let end = Timestamp::now();
        made.push(Machine { stages: stages(&daemon, &granted, begin, end), all: span(begin, end) });
        gone.push(end_of(&daemon, host, &granted));
    }
    daemon.stop();
    (made, gone)
}

/// Machines that waited.
fn warm(host: &Host, machines: usize) -> Vec<Duration> {
    let daemon = host.home("warm: 1, max_allowed_running_containers: 2", "").start();
    let mut took = Vec::new();
    for count in 0..machines {
        daemon.log.events("READY_CONTAINER", count + 1);
        let begin = Instant::now();
        let granted = grant(&create(daemon.address));
        took.push(begin.elapsed());
        assert_eq!(destroy(daemon.address, &granted).message, "OK");
    }
    daemon.stop();
    took
}

fn end_of(daemon: &Daemon, host: &Host, granted: &Grant) -> Duration {
    let begin = Instant::now();
    assert_eq!(destroy(daemon.address, granted).message, "OK");
    let took = begin.elapsed();
    until("the end of its QEMU", || host.machine(&granted.uuid).is_none().then_some(()));
    until_available(daemon.address, 6);
    took
}

/// When the log tells of each stage's end.
fn stages(daemon: &Daemon, granted: &Grant, begin: Timestamp, end: Timestamp) -> [Duration; STAGES.len()] {
    let ends: [(&str, &str); 5] = [
        ("step", "create domain"),
        ("a guest answers", "endpoint"),
        ("logged in", "endpoint"),
        ("set up", "endpoint"),
        ("step", "personalise"),
    ];
    let lines: Vec<Value> = daemon.log.so_far().iter().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let since = |line: &Value| at(line).is_some_and(|at| at >= begin);
    let moments = ends.map(|(message, what)| {
        let ours = |line: &&Value| {
            let fields = &line["fields"];
            let its = fields["container"].as_str().is_none_or(|uuid| uuid == granted.uuid);
            let is = fields["step"] == what || fields["username"] == what;
            since(line) && fields["message"] == message && its && is
        };
        let line = lines.iter().find(ours).and_then(at);
        line.unwrap_or_else(|| panic!("no '{message}' of {what} in the log:\n{}", daemon.log))
    });
    let from = [begin].into_iter().chain(moments);
    let spans: Vec<Duration> = from.zip(moments.into_iter().chain([end])).map(|(from, to)| span(from, to)).collect();
    spans.try_into().expect("as many spans as stages")
}

fn at(line: &Value) -> Option<Timestamp> {
    line["timestamp"].as_str()?.parse().ok()
}

fn span(from: Timestamp, to: Timestamp) -> Duration {
    to.duration_since(from).max(SignedDuration::ZERO).unsigned_abs()
}

/// Guests without any daemon.
fn alone(host: &Host, machines: usize) -> Vec<Duration> {
    let (libvirt, forwarder): (_, Box<dyn Forwarder>) = match host.mode {
        Mode::Embedded => {
            let libvirt = Libvirt::connect(Config::embedded(host.dir.join("v"))).unwrap();
            (libvirt.clone(), Box::new(UserForwarder::new(libvirt, Ipv4Addr::UNSPECIFIED)))
        }
        Mode::System => {
            let config = NftConfig::new(Ipv4Addr::UNSPECIFIED, NatNetwork::default());
            (Libvirt::connect(Config::system()).unwrap(), Box::new(NftForwarder::open(config).unwrap()))
        }
    };
    (0..machines).map(|_| from_start_to_login(host, &libvirt, &*forwarder)).collect()
}

/// Boots a guest: from its start until somebody is logged in who does nothing but try.
fn from_start_to_login(host: &Host, libvirt: &Libvirt, forwarder: &dyn Forwarder) -> Duration {
    let spec = spec(host);
    libvirt.create(&spec).unwrap();
    let start = Instant::now();
    let address = match host.mode {
        Mode::Embedded => None,
        Mode::System => Some(until("its address", || libvirt.address(spec.mark.uid, &spec.mac).unwrap())),
    };
    let forward = Forward { uuid: spec.mark.uid, port: PORT, address, mac: spec.mac.clone(), egress: Egress::None };
    let at = forwarder.admin(&forward).unwrap();
    let login = runtime().block_on(EndpointShell::connect(at, BOOT));
    let took = start.elapsed();
    drop(login.unwrap());
    forwarder.withdraw(&forward).unwrap();
    libvirt.destroy(&spec.mark).unwrap();
    until("the end of its QEMU", || host.machines().is_empty().then_some(()));
    took
}

fn spec(host: &Host) -> DomainSpec {
    let uid = Uuid::new_v4();
    let [a, b, c, ..] = *uid.as_bytes();
    DomainSpec {
        mark: Mark { instance: Uuid::from_u128(7), namespace: "default".into(), name: "bench-0".into(), uid },
        mac: format!("52:54:00:{a:02x}:{b:02x}:{c:02x}"),
        image: Image::Kernel {
            path: host.image.kernel.path.clone(),
            initrd: host.image.initrd.path.clone(),
            cmdline: String::new(),
        },
        memory: Memory::mebibytes(256),
        vcpus: 1,
        domain_type: DomainType::Auto,
        network: NetworkSpec::default(),
    }
}
