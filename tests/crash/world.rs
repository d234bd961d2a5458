//! The world, in the suite's own process: what outlives every daemon, as libvirt, guests and the kernel do.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anweddol::guest::fake::{FakeForwarder, FakeShell};
use anweddol::guest::{Forwarder, Login, Shell};
use anweddol::hypervisor::fake::{FakeDomain, FakeHypervisor, FakeWorld, Options};
use anweddol::hypervisor::{DomainSpec, Hypervisor};
use anweddol::model::{DiskFormat, DomainType, Image, Mark, Memory, Network, NetworkSpec, Wake};
use serde::Serialize;
use serde_json::Value;
use tokio::sync::broadcast::error::RecvError;
use uuid::Uuid;

use crate::ledger::Ledger;
use crate::link::{Answer, Ask, DEADLINE, Domain, Hint, Refusal, receive, send};
use crate::workload::Guests;

/// How long guests boot.
const BOOT: Duration = Duration::from_millis(20);
/// Somebody else's domain, without a mark.
const FOREIGN: Uuid = Uuid::from_u128(1);
/// The domain of another installation on this host.
const NEIGHBOUR: Uuid = Uuid::from_u128(2);
/// That installation.
const NEIGHBOURS: Uuid = Uuid::from_u128(3);

/// A world that daemons under test reach by a socket.
pub(crate) struct World {
    pub(crate) fake: Arc<FakeWorld>,
    pub(crate) socket: PathBuf,
    hypervisor: FakeHypervisor,
    shell: FakeShell,
    forwarder: FakeForwarder,
    ledger: Arc<Mutex<Ledger>>,
    failure_rate: f64,
    over: AtomicBool,
}

impl Guests for World {
    fn running(&self) -> BTreeMap<Uuid, Duration> {
        self.look().domains.into_iter().map(|(uuid, domain)| (uuid, domain.started)).collect()
    }

    fn kill(&self, uuid: Uuid) {
        self.fake.kill(uuid);
    }
}

/// What is there.
pub(crate) struct Sight {
    /// Domains but those that no daemon under test may touch.
    pub(crate) domains: BTreeMap<Uuid, FakeDomain>,
    /// These, with their disks.
    pub(crate) others: BTreeSet<Uuid>,
    pub(crate) forwards: BTreeMap<u16, Uuid>,
    pub(crate) disks: BTreeSet<Uuid>,
}

impl World {
    /// With domains of others in it, and calls that fail by themselves: this share of them.
    pub(crate) fn open(socket: &Path, network: Network, failure_rate: f64, ledger: Arc<Mutex<Ledger>>) -> Arc<World> {
        let options = Options { boot: BOOT, network, failure_rate, ..Options::default() };
        let fake = FakeWorld::new(options);
        fake.add_foreign_domain(FOREIGN);
        let hypervisor = FakeHypervisor::new(Arc::clone(&fake));
        // The call may be one of those that fail.
        while hypervisor.create(&machine(NEIGHBOURS, NEIGHBOUR)).is_err() {}
        let world = Arc::new(World {
            hypervisor,
            shell: FakeShell::new(Arc::clone(&fake)),
            forwarder: FakeForwarder::new(Arc::clone(&fake)),
            fake,
            socket: socket.into(),
            ledger,
            failure_rate,
            over: AtomicBool::new(false),
        });
        let (listener, serving) = (UnixListener::bind(socket).unwrap(), Arc::clone(&world));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if serving.over.load(Ordering::SeqCst) {
                    return;
                }
                let (stream, world) = (stream.unwrap(), Arc::clone(&serving));
                std::thread::spawn(move || world.serve(stream));
            }
        });
        world
    }

    /// Nobody will ask any more.
    pub(crate) fn close(&self) {
        self.over.store(true, Ordering::SeqCst);
        // Nobody listens if the other side was faster.
        let _ = UnixStream::connect(&self.socket);
    }

    /// Whether every call does what it is for.
    pub(crate) fn is_faultless(&self) -> bool {
        self.failure_rate == 0.0
    }

    /// A machine with an installation's mark and without a record, as from a backup that was played back.
    pub(crate) fn orphan(&self, instance: Uuid) {
        self.hypervisor.create(&machine(instance, Uuid::new_v4())).unwrap();
    }

    pub(crate) fn look(&self) -> Sight {
        let domains: BTreeMap<Uuid, FakeDomain> = self.fake.domains().into_iter().map(|d| (d.uuid, d)).collect();
        let (others, domains): (BTreeMap<_, _>, _) =
            domains.into_iter().partition(|(uuid, _)| [FOREIGN, NEIGHBOUR].contains(uuid));
        let mut disks: BTreeSet<Uuid> = self.hypervisor.disks().unwrap().into_iter().collect();
        let theirs = disks.remove(&NEIGHBOUR);
        let others = others.into_keys().filter(|uuid| *uuid != NEIGHBOUR || theirs).collect();
        Sight { domains, others, forwards: self.fake.forwards(), disks }
    }

    /// One connection of a daemon, which may die at any moment: then nobody wants the answer.
    fn serve(&self, mut stream: UnixStream) {
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.set_write_timeout(Some(DEADLINE)).unwrap();
        match receive(&mut stream) {
            Ok(Ask::Wakes) => self.wake(stream),
            Ok(ask) => drop(send(&mut stream, &self.answer(ask))),
            Err(_) => {}
        }
    }

    fn wake(&self, mut stream: UnixStream) {
        let mut wakes = self.hypervisor.wakes();
        // From here on none is missed.
        if send(&mut stream, &Hint::from(Wake::Everything)).is_err() {
            return;
        }
        loop {
            let hint = match futures::executor::block_on(wakes.recv()) {
                Ok(wake) => Hint::from(wake),
                Err(RecvError::Lagged(_)) => Hint::from(Wake::Everything),
                Err(RecvError::Closed) => return,
            };
            if send(&mut stream, &hint).is_err() {
                return;
            }
        }
    }

    fn answer(&self, ask: Ask) -> Answer {
        self.ledger.lock().unwrap().watch(&ask, &self.fake);
        match ask {
            Ask::List => {
                told(self.hypervisor.list().map(|seen| seen.into_iter().map(Domain::from).collect::<Vec<_>>()))
            }
            Ask::Find(uuid) => told(self.hypervisor.find(uuid).map(|seen| seen.map(Domain::from))),
            Ask::Create(spec) => told(self.hypervisor.create(&spec.into())),
            Ask::Destroy(mark) => told(self.hypervisor.destroy(&mark)),
            Ask::Resume(mark) => told(self.hypervisor.resume(&mark)),
            Ask::Remember { mark, digest, text } => told(self.hypervisor.remember(&mark, &digest, &text)),
            Ask::Recall(uuid) => told(self.hypervisor.recall(uuid)),
            Ask::Address { uuid, mac } => told(self.hypervisor.address(uuid, &mac)),
            Ask::HasDisk(uuid) => told(self.hypervisor.has_disk(uuid)),
            Ask::Disks => told(self.hypervisor.disks()),
            Ask::RemoveDisk(uuid) => told(self.hypervisor.remove_disk(uuid)),
            Ask::Personalise { at, uuid, username, patience } => {
                told(self.shell.personalise(at, &login(uuid, username), patience.into(), None))
            }
            Ask::Authorize { at, uuid, username, key } => {
                told(self.shell.authorize(at, &login(uuid, username), &key, Duration::ZERO.into()))
            }
            Ask::Probe { at, uuid } => told(self.shell.probe(at, uuid, Duration::ZERO.into())),
            Ask::Admin(way) => told(self.forwarder.admin(&way.into())),
            Ask::Publish(way) => told(self.forwarder.publish(&way.into())),
            Ask::Withdraw(way) => told(self.forwarder.withdraw(&way.into())),
            Ask::IsPublished(way) => told(self.forwarder.is_published(&way.into())),
            Ask::Connections(way) => told(self.forwarder.connections(&way.into())),
            Ask::Ports => told(self.forwarder.list()),
            Ask::IsFree(port) => Ok(Value::Bool(self.forwarder.is_free(port))),
            Ask::Wakes => unreachable!("it is a connection of its own"),
        }
    }
}

fn told<T: Serialize, E: Into<Refusal>>(ended: Result<T, E>) -> Answer {
    ended.map(|done| serde_json::to_value(done).unwrap()).map_err(Into::into)
}

/// Passwords stay where they are: a simulated guest has no use for them.
fn login(uuid: Uuid, username: String) -> Login {
    Login { uuid, username, password: String::new().into() }
}

/// A machine that no daemon under test made.
fn machine(instance: Uuid, uid: Uuid) -> DomainSpec {
    DomainSpec {
        mark: Mark { instance, namespace: "default".into(), name: uid.to_string(), uid },
        mac: "02:00:00:00:00:02".into(),
        image: Image::Disk { path: "/image.qcow2".into(), format: DiskFormat::Qcow2 },
        memory: Memory::mebibytes(64),
        vcpus: 1,
        domain_type: DomainType::Qemu,
        network: NetworkSpec::default(),
    }
}

/// Where machines have addresses of their own.
pub(crate) fn addressed(network: Network) -> bool {
    match network {
        Network::Nat => true,
        Network::User | Network::Auto => false,
    }
}
