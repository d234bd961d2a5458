//! One state directory and one world, through many daemons.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anweddol::model::{DiskFormat, Image, Memory, Network};
use jiff::Timestamp;
use serde_json::Value;
use uuid::Uuid;

use crate::common::PATIENCE;
use crate::daemon::Plan;
use crate::figures::Figures;
use crate::http;
use crate::ledger::Ledger;
use crate::points::{self, Aim};
use crate::process::{Daemon, Death, Start, log_of};
use crate::promises::View;
use crate::random::Random;
use crate::workload::{MEMORY, Scene};
use crate::world::{World, addressed};

/// Rounds of a history: the log grows with it, and all of it is checked again and again.
const ROUNDS: usize = 25;
/// Clients and users at once.
const ACTORS: usize = 4;
/// The longest that a daemon lives once it is aimed at: not every point is come by.
const LONGEST_LIFE: Duration = Duration::from_millis(1_200);
/// The longest that a daemon lives which is killed at a random time, in milliseconds: some die before they serve.
const RANDOM_LIFE: usize = 500;
/// For how long a daemon may be busy after a start: shorter than its resync, which would hide a hint that was missed.
const REST: Duration = Duration::from_secs(25);
/// How often it is looked whether it came to rest.
const LOOK: Duration = Duration::from_millis(30);

struct History {
    random: Random,
    figures: Figures,
    ledger: Arc<Mutex<Ledger>>,
    world: Arc<World>,
    dir: PathBuf,
    plan: Plan,
    /// What the daemons' machines bear, once one of them said so.
    instance: Option<Uuid>,
}

/// Plays histories until the end.
pub(crate) fn play(mut random: Random, end: Instant) -> Figures {
    let mut figures = Figures::default();
    while Instant::now() < end {
        let dir = tempfile::Builder::new().prefix("anweddol-crash").tempdir().unwrap();
        let mut history = History::new(dir.path(), random.fork());
        for _ in 0..ROUNDS {
            history.round();
            if Instant::now() >= end {
                break;
            }
        }
        figures.add(history.finish());
    }
    figures
}

impl History {
    fn new(dir: &Path, mut random: Random) -> History {
        let network = if random.below(2) == 0 { Network::User } else { Network::Nat };
        let failure_rate = if random.below(2) == 0 { 0.0 } else { 0.02 };
        let ledger = Arc::new(Mutex::new(Ledger::default()));
        let world = World::open(&dir.join("world.sock"), network, failure_rate, Arc::clone(&ledger));
        for image in ["i.iso", "d.qcow2"] {
            fs::write(dir.join(image), image).unwrap();
        }
        let plan = Plan {
            state: dir.join("s"),
            world: world.socket.clone(),
            addressed: addressed(network),
            image: Image::Iso(dir.join("i.iso")),
            memory: Memory::mebibytes(64),
            warm: 2,
            most: 5,
            aim: None,
        };
        History { random, figures: Figures::default(), ledger, world, dir: dir.into(), plan, instance: None }
    }

    /// What all of it adds up to.
    fn finish(mut self) -> Figures {
        self.world.close();
        let ledger = self.ledger.lock().unwrap();
        self.figures.histories = 1;
        self.figures.acknowledged = ledger.acknowledged;
        self.figures.events = ledger.log.len();
        self.figures
    }

    fn round(&mut self) {
        self.configure();
        for _ in 0..self.random.below(4) {
            self.doomed_start();
        }
        self.plan.aim = None;
        // What a sweep cannot end is for the next one, and that is not waited for here.
        if let Some(instance) = self.instance.filter(|_| self.world.is_faultless() && self.random.below(4) == 0) {
            self.world.orphan(instance);
        }
        let mut daemon = Daemon::spawn(&self.plan);
        let (address, after) = match daemon.ready(PATIENCE) {
            Start::Ready(address, after) => (address, after),
            Start::Dead(death) => self.fail(&[format!("a daemon that nobody killed does not serve: {death:?}")]),
        };
        self.figures.ready.push(after);
        self.check_acknowledged(&mut daemon);
        let served = Instant::now();
        self.rest(&mut daemon, address);
        self.figures.settled.push(served.elapsed());
        let limit = match self.aim() {
            Some(aim) => {
                daemon.aim(aim);
                LONGEST_LIFE
            }
            None => Duration::from_millis(1 + self.random.below(RANDOM_LIFE) as u64),
        };
        self.storm(daemon, address, limit);
    }

    /// The configuration changes, or not.
    fn configure(&mut self) {
        if self.random.below(3) == 0 {
            let disk = Image::Disk { path: self.dir.join("d.qcow2"), format: DiskFormat::Qcow2 };
            let images = [Image::Iso(self.dir.join("i.iso")), disk];
            self.plan.image = images[self.random.below(2)].clone();
            self.plan.memory = Memory::mebibytes(MEMORY[self.random.below(MEMORY.len())]);
        }
    }

    /// A point in three cases of four, and of these every second time one that nobody died at yet: which of them are
    /// come by at all depends on the network and on what happens.
    fn aim(&mut self) -> Option<Aim> {
        if self.random.below(4) == 0 {
            return None;
        }
        let (mut points, time) = (points::all(), 1 + self.random.below(3));
        if self.random.below(2) == 0 {
            points.retain(|point| !self.figures.at_points.contains_key(point));
        }
        self.random.pick(&points).map(|point| Aim { point: point.clone(), time })
    }

    /// A start of a daemon that dies in it, or soon after.
    fn doomed_start(&mut self) {
        self.plan.aim = self.aim();
        let random_life = Duration::from_millis(1 + self.random.below(RANDOM_LIFE) as u64);
        let (in_start, later) = match self.plan.aim {
            Some(_) => (PATIENCE, LONGEST_LIFE),
            None => (random_life, random_life),
        };
        let mut daemon = Daemon::spawn(&self.plan);
        match daemon.ready(in_start) {
            Start::Ready(address, _) => self.storm(daemon, address, later),
            Start::Dead(Death::Time) if self.plan.aim.is_some() => self.fail(&["a start never ended".into()]),
            Start::Dead(death) => {
                self.figures.in_start += 1;
                self.died(death);
            }
        }
    }

    /// Everybody acts until the daemon is dead.
    fn storm(&mut self, daemon: Daemon, address: SocketAddr, limit: Duration) {
        let (over, disk) = (AtomicBool::new(false), self.dir.join("d.qcow2"));
        let scene = Scene { address, state: &self.plan.state, disk: &disk, world: &self.world, ledger: &self.ledger };
        let actors: Vec<Random> = (0..ACTORS).map(|_| self.random.fork()).collect();
        let death: Death = std::thread::scope(|scope| {
            for random in actors {
                scope.spawn(|| scene.act(random, &over));
            }
            let death = daemon.death(limit);
            over.store(true, Ordering::SeqCst);
            death
        });
        self.died(death);
    }

    fn died(&mut self, death: Death) {
        self.ledger.lock().unwrap().deaths.push(Timestamp::now());
        self.figures.died(death);
    }

    /// Before anything else: what was acknowledged survived.
    fn check_acknowledged(&mut self, daemon: &mut Daemon) {
        let view = View::of(&daemon.records());
        let sight = self.world.look();
        let ledger = self.ledger.lock().unwrap();
        let faults = view.always(&sight, &ledger, &self.plan.state);
        self.figures.checked += ledger.granted.len() + ledger.destroyed.len() + ledger.claims.len();
        drop(ledger);
        if !faults.is_empty() {
            self.fail(&faults);
        }
    }

    /// Waits until there is nothing left to do and everything is as it should be, and gives back what a client was cut
    /// off from in the instant of its binding, as an administrator would.
    fn rest(&mut self, daemon: &mut Daemon, address: SocketAddr) {
        self.settle(daemon);
        let view = View::of(&daemon.records());
        self.instance = Some(view.instance);
        let mut ledger = self.ledger.lock().unwrap();
        let stranded = view.stranded(&ledger);
        let cut_off = ledger.cut_off;
        self.figures.cut_off += cut_off;
        self.figures.stranded += stranded.len();
        view.tell(&mut ledger);
        drop(ledger);
        if stranded.len() > cut_off {
            self.fail(&[format!("{cut_off} requests were cut off, and nobody was told of {stranded:?}")]);
        }
        if let Some(claim) = stranded.iter().find(|claim| !view.doubts(claim)) {
            self.fail(&[format!("claim '{claim}' does not say that its client may not know of it")]);
        }
        for claim in &stranded {
            let answer = http::ask(&self.plan.state, "DELETE", &format!("containerclaims/{claim}"), &Value::Null);
            assert!(matches!(answer, Ok((200 | 202, _))), "{answer:?}");
        }
        let disk = self.dir.join("d.qcow2");
        let scene = Scene { address, state: &self.plan.state, disk: &disk, world: &self.world, ledger: &self.ledger };
        if self.figures.ready.len() == 1 {
            scene.apply_side(&mut self.random).unwrap();
        } else if stranded.is_empty() {
            return;
        }
        self.settle(daemon);
    }

    /// Waits for two looks at the same revision that find nothing wrong.
    fn settle(&self, daemon: &mut Daemon) {
        let end = Instant::now() + REST;
        let mut good = None;
        loop {
            let view = View::of(&daemon.records());
            let sight = self.world.look();
            let faults = view.settled(&sight, &self.ledger.lock().unwrap(), &self.plan.state);
            if faults.is_empty() && good == Some(view.revision) {
                return;
            }
            if !faults.is_empty() && Instant::now() > end {
                self.fail(&faults);
            }
            good = faults.is_empty().then_some(view.revision);
            std::thread::sleep(LOOK);
        }
    }

    fn fail(&self, faults: &[String]) -> ! {
        let log = log_of(&self.plan);
        panic!("after {} kills:\n{}\nthe daemons' log:\n{log}", self.figures.kills(), faults.join("\n"));
    }
}
