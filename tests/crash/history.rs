//! One state directory and one world, through many daemons.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anweddol::model::{DiskFormat, Image, Memory, Network};
use jiff::Timestamp;
use serde_json::Value;
use uuid::Uuid;

use crate::End;
use crate::common::PATIENCE;
use crate::daemon::Plan;
use crate::faults::{Breach, Faults, Thing};
use crate::figures::Figures;
use crate::http;
use crate::ledger::Ledger;
use crate::points::{self, Aim};
use crate::process::{Daemon, Death, Start, log_of};
use crate::promises::View;
use crate::random::Random;
use crate::sight;
use crate::workload::{Measure, Scene};
use crate::world::{World, addressed};

/// Rounds of a history: the log grows with it, and all of it is checked again and again.
const ROUNDS: usize = 25;
/// What there is room for in a simulated world.
const MEASURE: Measure = Measure { memory: [64, 128, 256], replicas: 4, side_most: 4, pause: 0 };
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

/// The next history's address; there are never so many at once that one comes twice.
static NEXT: AtomicU8 = AtomicU8::new(0);

struct History<'a> {
    end: &'a End,
    random: Random,
    figures: Figures,
    ledger: Arc<Mutex<Ledger>>,
    world: Arc<World>,
    dir: PathBuf,
    plan: Plan,
    /// What the daemons' machines bear, once one of them said so.
    instance: Option<Uuid>,
}

/// Whether a history can go on: what is wrong once is found wrong for ever, and counts once.
type Step = Result<(), Faults>;

/// Plays histories until the end.
pub(crate) fn play(mut random: Random, end: &End) -> Figures {
    let mut figures = Figures::default();
    while !end.is_reached() {
        let dir = tempfile::Builder::new().prefix("anweddol-crash").tempdir().unwrap();
        let mut history = History::new(dir.path(), random.fork(), end);
        for _ in 0..ROUNDS {
            if let Err(faults) = history.round() {
                history.tell(&faults);
                history.figures.faults = faults;
                break;
            }
            if end.is_reached() {
                break;
            }
        }
        figures.add(history.finish());
    }
    figures
}

impl<'a> History<'a> {
    fn new(dir: &Path, mut random: Random, end: &'a End) -> History<'a> {
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
            address: Ipv4Addr::new(127, 0, 9, NEXT.fetch_add(1, Ordering::Relaxed)),
            addressed: addressed(network),
            image: Image::Iso(dir.join("i.iso")),
            memory: Memory::mebibytes(64),
            warm: 2,
            most: 5,
            aim: None,
        };
        History { end, random, figures: Figures::default(), ledger, world, dir: dir.into(), plan, instance: None }
    }

    /// What all of it adds up to.
    fn finish(mut self) -> Figures {
        self.world.close();
        let ledger = self.ledger.lock().unwrap();
        self.figures.histories = 1;
        self.figures.points = points::all().into_iter().collect();
        self.figures.acknowledged = ledger.acknowledged;
        self.figures.events = ledger.log.len();
        self.figures
    }

    fn round(&mut self) -> Step {
        self.configure();
        for _ in 0..self.random.below(4) {
            self.doomed_start()?;
        }
        self.plan.aim = None;
        // What a sweep cannot end is for the next one, and that is not waited for here.
        if let Some(instance) = self.instance.filter(|_| self.world.is_faultless() && self.random.below(4) == 0) {
            self.world.orphan(instance);
        }
        let mut daemon = Daemon::spawn(&self.plan);
        let (address, after) = match daemon.ready(PATIENCE) {
            Start::Ready(address, after) => (address, after),
            Start::Dead(death) => {
                return Err(vec![Breach::Unrest.of(format!("a daemon that nobody killed does not serve: {death:?}"))]);
            }
        };
        self.figures.ready.push(after);
        self.check_acknowledged(&mut daemon)?;
        let served = Instant::now();
        self.rest(&mut daemon, address)?;
        self.figures.settled.push(served.elapsed());
        let limit = match self.aim() {
            Some(aim) => {
                daemon.aim(aim);
                LONGEST_LIFE
            }
            None => Duration::from_millis(1 + self.random.below(RANDOM_LIFE) as u64),
        };
        self.storm(daemon, address, limit);
        Ok(())
    }

    /// The configuration changes, or not.
    fn configure(&mut self) {
        if self.random.below(3) == 0 {
            let disk = Image::Disk { path: self.dir.join("d.qcow2"), format: DiskFormat::Qcow2 };
            let images = [Image::Iso(self.dir.join("i.iso")), disk];
            self.plan.image = images[self.random.below(2)].clone();
            self.plan.memory = Memory::mebibytes(MEASURE.memory[self.random.below(MEASURE.memory.len())]);
        }
    }

    /// A point in three cases of four, and of these every second time one that nobody died at yet: which of them are
    /// come by at all depends on the network and on what happens.
    fn aim(&mut self) -> Option<Aim> {
        if self.random.below(4) == 0 {
            return None;
        }
        let (mut points, time) = (points::all(), 1 + self.random.below(3));
        if self.figures.ready.is_empty() && self.random.below(2) == 0 {
            points = points::at_birth();
        }
        if self.random.below(2) == 0 {
            points.retain(|point| !self.figures.at_points.contains_key(point));
        }
        self.random.pick(&points).map(|point| Aim { point: point.clone(), time })
    }

    /// A start of a daemon that dies in it, or soon after.
    fn doomed_start(&mut self) -> Step {
        self.plan.aim = self.aim();
        let random_life = Duration::from_millis(1 + self.random.below(RANDOM_LIFE) as u64);
        let (in_start, later) = match self.plan.aim {
            Some(_) => (PATIENCE, LONGEST_LIFE),
            None => (random_life, random_life),
        };
        let mut daemon = Daemon::spawn(&self.plan);
        match daemon.ready(in_start) {
            Start::Ready(address, _) => self.storm(daemon, address, later),
            Start::Dead(Death::Time) if self.plan.aim.is_some() => {
                return Err(vec![Breach::Unrest.of("a start never ended")]);
            }
            Start::Dead(death) => {
                self.figures.in_start += 1;
                self.died(death);
            }
        }
        Ok(())
    }

    /// Everybody acts until the daemon is dead.
    fn storm(&mut self, daemon: Daemon, address: SocketAddr, limit: Duration) {
        let (over, disk) = (AtomicBool::new(false), self.dir.join("d.qcow2"));
        // What was acknowledged in the last instant is the first to be lost.
        let enough = match self.random.below(3) {
            0 => self.ledger.lock().unwrap().acknowledged + 1 + self.random.below(4),
            _ => usize::MAX,
        };
        let actors: Vec<Random> = (0..ACTORS).map(|_| self.random.fork()).collect();
        let scene = self.scene(address, &disk);
        let death: Death = std::thread::scope(|scope| {
            for random in actors {
                scope.spawn(|| scene.act(random, &over));
            }
            let death = daemon.death(limit, || self.ledger.lock().unwrap().acknowledged >= enough);
            over.store(true, Ordering::SeqCst);
            death
        });
        self.died(death);
    }

    fn died(&mut self, death: Death) {
        self.ledger.lock().unwrap().deaths.push(Timestamp::now());
        self.figures.died(death);
        self.end.count();
    }

    /// Before anything else: what was acknowledged survived.
    fn check_acknowledged(&mut self, daemon: &mut Daemon) -> Step {
        let view = View::of(&daemon.records(0));
        let sight = self.world.look();
        let ledger = self.ledger.lock().unwrap();
        let faults = sight::always(&view, &sight, &ledger, &self.plan.state);
        self.figures.checked += ledger.granted.len() + ledger.destroyed.len() + ledger.claims.len();
        if faults.is_empty() { Ok(()) } else { Err(faults) }
    }

    /// Waits until there is nothing left to do and everything is as it should be, and gives back what a client was cut
    /// off from in the instant of its binding, as an administrator would.
    fn rest(&mut self, daemon: &mut Daemon, address: SocketAddr) -> Step {
        let view = self.settle(daemon)?;
        self.instance = Some(view.instance);
        let mut ledger = self.ledger.lock().unwrap();
        let stranded = view.stranded(&ledger);
        let cut_off = ledger.cut_off;
        self.figures.cut_off += cut_off;
        self.figures.stranded += stranded.len();
        self.figures.failed = view.failed();
        view.tell(&mut ledger);
        drop(ledger);
        if stranded.len() > cut_off {
            let what = format!("{cut_off} requests were cut off, and nobody was told of {stranded:?}");
            return Err(vec![Breach::Leaked(Thing::Claim).of(what)]);
        }
        if let Some(claim) = stranded.iter().find(|claim| !view.doubts(claim)) {
            let what = format!("claim '{claim}' does not say that its client may not know of it");
            return Err(vec![Breach::Missing.of(what)]);
        }
        for claim in &stranded {
            let answer = http::ask(&self.plan.state, "DELETE", &format!("containerclaims/{claim}"), &Value::Null);
            assert!(matches!(answer, Ok((200 | 202, _))), "{answer:?}");
        }
        if self.figures.ready.len() == 1 {
            let (disk, mut random) = (self.dir.join("d.qcow2"), self.random.fork());
            self.scene(address, &disk).apply_side(&mut random).unwrap();
        } else if stranded.is_empty() {
            return Ok(());
        }
        self.settle(daemon).map(drop)
    }

    fn scene<'s>(&'s self, address: SocketAddr, disk: &'s Path) -> Scene<'s> {
        let (guests, ledger) = (&*self.world, &*self.ledger);
        Scene { address, state: &self.plan.state, disk, guests, ledger, measure: MEASURE }
    }

    /// Waits for two looks at the same revision that find nothing wrong.
    fn settle(&self, daemon: &mut Daemon) -> Result<View, Faults> {
        let end = Instant::now() + REST;
        let mut good = None;
        let known = Arc::clone(&self.ledger.lock().unwrap().events);
        loop {
            let view = View::after(&daemon.records(known.len()), Arc::clone(&known));
            let sight = self.world.look();
            let faults = sight::settled(&view, &sight, &self.ledger.lock().unwrap(), &self.plan.state);
            if faults.is_empty() && good == Some(view.revision) {
                return Ok(view);
            }
            if !faults.is_empty() && Instant::now() > end {
                return Err(faults);
            }
            good = faults.is_empty().then_some(view.revision);
            std::thread::sleep(LOOK);
        }
    }

    fn tell(&self, faults: &Faults) {
        let (kills, log) = (self.figures.kills(), log_of(&self.plan));
        let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
        eprintln!("after {kills} kills:\n{}\nthe daemons' log:\n{log}", faults.join("\n"));
    }
}
