//! One daemon after the other on one state directory.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anweddol::guest::ssh::EndpointShell;
use anweddol::model::EventKind;
use anweddol::store::{self, Options};
use jiff::Timestamp;
use rustix::process::Signal;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::lab::{Lab, PORTS};
use super::session::{self, Session};
use crate::common::ask::runtime;
use crate::common::daemon::{Daemon, Home};
use crate::common::{PATIENCE, libvirtd};
use crate::daemon::{MAX_TTL, Records, TTL};
use crate::faults::{Breach, Faults, Thing};
use crate::figures::Figures;
use crate::host::{Host, Mode, run};
use crate::http;
use crate::ledger::{Holder, Ledger};
use crate::process::Death;
use crate::promises::View;
use crate::random::Random;
use crate::workload::{Guests, Measure, SIDE, Scene};

/// What there is room and time for where guests are emulated.
const MEASURE: Measure = Measure { memory: [192, 224, 256], replicas: 2, side_most: 3, pause: 900 };
/// Clients and users at once.
const ACTORS: usize = 3;
/// The most machines of the configuration's pool.
const MOST: u32 = 3;
/// Machines with somebody logged in, one of each pool.
const KEPT: [&str; 2] = ["default", SIDE];
/// The longest that a daemon lives which is to die while it starts, in milliseconds.
const START: usize = 500;
/// The longest that one lives which is to die at a random time, from when it serves on, in milliseconds.
const RANDOM_LIFE: usize = 3_500;
/// The longest that one lives which is to die somewhere: not everything is come by.
const LONGEST_LIFE: Duration = Duration::from_secs(6);
/// Every so many-th life ends at rest.
const REST_EVERY: usize = 6;
/// How long libvirt's daemon is away, in milliseconds.
const AWAY: usize = 1_500;
/// For how long a daemon may be busy until nothing is left to do: emulated guests boot one after the other.
const REST: Duration = Duration::from_secs(180);
/// How often it is looked whether it came to rest.
const LOOK: Duration = Duration::from_millis(200);
const POLL: Duration = Duration::from_millis(2);

/// Lines of the log: each says that something was just done.
const LINES: [&str; 12] = [
    "create domain",
    "personalise",
    "publish",
    "withdraw",
    "destroy domain",
    "remove disk",
    "CREATED_ENDPOINT_SHELL",
    "READY_CONTAINER",
    "BOUND_CLAIM",
    "DESTROYED_CONTAINER",
    "LOST_CLAIM",
    "UPDATING_POOL",
];

/// Failpoints that every daemon comes by.
const INSIDE: [&str; 6] =
    ["round-written", "round-synced", "round-applied", "disk-made", "domain-absent", "domain-created"];

/// Those of one mode's forwards.
fn inside_forwards(mode: Mode) -> [&'static str; 2] {
    match mode {
        Mode::Embedded => ["port-opened", "port-closed"],
        Mode::System => ["nft-done", "card-bound"],
    }
}

/// How a life is to end.
#[derive(Clone, Debug)]
enum End {
    /// So long after it began.
    Start(Duration),
    /// So long after it began to serve.
    Random(Duration),
    /// When so many more answers were given to clients.
    Told(usize),
    /// When its log says that again.
    Line(&'static str),
    /// At a failpoint, when it comes by there once more than this.
    Inside(&'static str, usize),
    /// When there is nothing left to do.
    Rest,
}

/// What happens to libvirt's own daemon meanwhile.
#[derive(Clone, Copy, Debug)]
enum Libvirtd {
    Stays,
    /// It is killed so long after the daemon began to serve, and comes back so long after.
    Alone(Duration, Duration),
    /// It is killed in the same instant.
    Together,
}

struct Lives<'a> {
    random: Random,
    figures: &'a mut Figures,
    lab: Lab,
    home: Home,
    ledger: Mutex<Ledger>,
    sessions: Vec<Session>,
    /// What was recorded when the last daemon died.
    left: View,
}

/// Lives so many lives, but fewer if something is wrong: in which mode.
pub(super) fn play(random: Random, kills: usize, figures: &mut Figures) -> &'static str {
    let host = Host::lab();
    let mode = host.mode;
    let container =
        format!("warm: 1, max_allowed_running_containers: {MOST}, memory: 192Mi, ttl: {TTL}, max_ttl: {MAX_TTL}");
    let (first, last) = (PORTS.start(), PORTS.end());
    let rest = format!("port_forwarding: {{range: {first}-{last}}}\nevents: {{keep: 1000000}}");
    let home = host.home(&container, &rest).patient().env("RUST_LOG", "info,anweddol=debug");
    let lab = Lab::with_a_stranger(host, home.state.clone());
    figures.histories = 1;
    let inside = INSIDE.iter().chain(&inside_forwards(mode)).map(|name| inside(name)).collect::<Vec<_>>();
    figures.points = LINES.iter().map(|line| log(line)).chain(inside).collect();
    let (ledger, left) = (Mutex::new(Ledger::default()), View::default());
    let mut lives = Lives { random, figures, lab, home, ledger, sessions: vec![], left };
    if let Err(faults) = lives.live(kills) {
        lives.figures.faults = faults;
    }
    lives.sessions.into_iter().for_each(Session::abandon);
    let ledger = lives.ledger.into_inner().unwrap();
    lives.figures.acknowledged = ledger.acknowledged;
    lives.figures.events = ledger.log.len();
    lives.figures.failed = lives.left.failed();
    match mode {
        Mode::Embedded => "embedded",
        Mode::System => "system",
    }
}

fn log(line: &str) -> String {
    format!("log {line}")
}

fn inside(name: &str) -> String {
    format!("inside {name}")
}

impl Lives<'_> {
    fn live(&mut self, kills: usize) -> Result<(), Faults> {
        let daemon = self.home.start();
        self.settle_in(&daemon);
        self.dead(daemon, Death::Time, true, &BTreeMap::new(), false)?;
        for life in 1..kills.saturating_sub(1) {
            self.life(life)?;
        }
        self.leave()
    }

    /// The other pool, a machine of each, and somebody who logs in there and stays.
    fn settle_in(&mut self, daemon: &Daemon) {
        let (key, public) = session::new_key(&self.lab.host.dir);
        let mut random = self.random.fork();
        let scene = self.scene(daemon.address);
        scene.apply_side(&mut random).unwrap();
        let asked = KEPT.map(|pool| {
            Map::from_iter([
                ("pool".to_owned(), Value::from(pool)),
                ("ssh_public_key".to_owned(), Value::from(public.as_str())),
            ])
        });
        let kept: Vec<Uuid> = std::thread::scope(|scope| {
            let scene = &scene;
            let asking = asked.map(|asked| {
                let mut random = random.fork();
                scope.spawn(move || scene.create(&mut random, &asked).expect("a machine, from a daemon that lives"))
            });
            asking.into_iter().map(|one| one.join().unwrap()).collect()
        });
        let mut ledger = self.ledger.lock().unwrap();
        self.sessions = kept.iter().map(|uuid| Session::open(&key, &ledger.granted[uuid])).collect();
        ledger.kept.extend(kept);
    }

    fn scene(&self, address: SocketAddr) -> Scene<'_> {
        Scene {
            address,
            state: &self.home.state,
            disk: &self.lab.host.image.disk.path,
            guests: &self.lab,
            ledger: &self.ledger,
            measure: MEASURE,
        }
    }

    fn life(&mut self, number: usize) -> Result<(), Faults> {
        let end = self.end(number);
        let libvirtd = self.libvirtd(&end);
        let actors: Vec<Random> = (0..ACTORS).map(|_| self.random.fork()).collect();
        println!("life {number} ends at {end:?}, libvirtd {libvirtd:?}");
        let found = self.found();
        let point = match &end {
            End::Inside(name, 0) => format!("{name}=return"),
            End::Inside(name, times) => format!("{name}={times}*off->return"),
            End::Start(_) | End::Random(_) | End::Told(_) | End::Line(_) | End::Rest => String::new(),
        };
        let born = Instant::now();
        let mut daemon = self.home.spawn(&[("FAILPOINTS", &point)]);
        let limit = if let End::Start(limit) = end { limit } else { PATIENCE };
        if !daemon.serves_within(limit) {
            let death = match (&end, daemon.end()) {
                (End::Start(_), None) => Death::Time,
                (End::Inside(name, _), Some(_)) => Death::Point(inside(name)),
                (_, ended) => {
                    let what = format!("a daemon that nobody killed does not serve ({ended:?}):\n{}", daemon.log);
                    return Err(vec![Breach::Unrest.of(what)]);
                }
            };
            self.figures.in_start += 1;
            return self.dead(daemon, death, false, &found, false);
        }
        self.figures.ready.push(born.elapsed());
        self.check_sessions()?;
        let served = Instant::now();
        let at_rest = match &end {
            End::Rest => {
                self.rest(&daemon)?;
                self.figures.settled.push(served.elapsed());
                true
            }
            End::Start(_) | End::Random(_) | End::Told(_) | End::Line(_) | End::Inside(..) => false,
        };
        let death = if at_rest { Death::Time } else { self.storm(&mut daemon, actors, &end, libvirtd) };
        daemon.kill_now();
        if let Libvirtd::Together = libvirtd {
            libvirtd::end(Signal::KILL);
            libvirtd::start();
            self.figures.libvirtd += 1;
        }
        self.dead(daemon, death, true, &found, at_rest)
    }

    fn end(&mut self, number: usize) -> End {
        if number.is_multiple_of(REST_EVERY) {
            return End::Rest;
        }
        let millis = |random: &mut Random, most: usize| Duration::from_millis(1 + random.below(most) as u64);
        match self.random.below(8) {
            0 => End::Start(millis(&mut self.random, START)),
            1 => End::Told(1 + self.random.below(3)),
            2..4 => End::Random(millis(&mut self.random, RANDOM_LIFE)),
            4..6 => End::Line(self.random.pick(&LINES).expect("there are some")),
            _ => {
                let names = [&INSIDE[..], &inside_forwards(self.lab.host.mode)].concat();
                let name = self.random.pick(&names).expect("there are some");
                let times = if name.starts_with("round-") { 20 } else { 1 };
                End::Inside(name, self.random.below(times))
            }
        }
    }

    fn libvirtd(&mut self, end: &End) -> Libvirtd {
        let (choice, first, away) = (self.random.below(4), self.random.below(RANDOM_LIFE / 2), self.random.below(AWAY));
        match (self.lab.host.mode, end, choice) {
            (Mode::System, End::Random(_) | End::Line(_), 0) => {
                Libvirtd::Alone(Duration::from_millis(first as u64), Duration::from_millis(away as u64))
            }
            (Mode::System, End::Random(_) | End::Rest, 1) => Libvirtd::Together,
            (Mode::System | Mode::Embedded, ..) => Libvirtd::Stays,
        }
    }

    /// Everybody acts until the daemon is dead, or is to be killed.
    fn storm(&mut self, daemon: &mut Daemon, actors: Vec<Random>, end: &End, libvirtd: Libvirtd) -> Death {
        let over = AtomicBool::new(false);
        let mut random = self.random.fork();
        let (scene, over) = (self.scene(daemon.address), &over);
        match end {
            // Machines are made and ended: that is what most of these come by.
            End::Line(_) | End::Inside(..) => drop(scene.apply_side(&mut random)),
            End::Random(_) | End::Told(_) | End::Start(_) | End::Rest => {}
        }
        let death = std::thread::scope(|scope| {
            for random in actors {
                let scene = &scene;
                scope.spawn(move || scene.act(random, over));
            }
            let meanwhile = scope.spawn(move || {
                if let Libvirtd::Alone(after, away) = libvirtd {
                    std::thread::sleep(after);
                    libvirtd::end(Signal::KILL);
                    std::thread::sleep(away);
                    libvirtd::start();
                }
            });
            let told = || self.ledger.lock().unwrap().acknowledged;
            let death = wait(daemon, end, told);
            // Dead before anybody is told so.
            daemon.kill_now();
            over.store(true, Ordering::SeqCst);
            meanwhile.join().unwrap();
            death
        });
        if let Libvirtd::Alone(..) = libvirtd {
            self.figures.libvirtd += 1;
        }
        death
    }

    /// A daemon's death, and everything that has to be so after it.
    fn dead(
        &mut self,
        mut daemon: Daemon,
        death: Death,
        served: bool,
        found: &BTreeMap<Uuid, bool>,
        at_rest: bool,
    ) -> Result<(), Faults> {
        let mut faults = Faults::new();
        let status = daemon.kill_now();
        let lines = daemon.kill();
        if status.code().is_some() {
            faults.push(Breach::Unrest.of(format!("a daemon ended by itself, with {status}")));
        }
        if let Some(line) = lines.iter().find(|line| line.contains("panicked")) {
            faults.push(Breach::Unrest.of(format!("a daemon said: {line}")));
        }
        self.figures.died(death);
        let view = View::of(&self.recorded());
        let mut ledger = self.ledger.lock().unwrap();
        if !served {
            // Who was cut off by the last death but this is withdrawn by a daemon that gets so far.
            ledger.deaths.pop();
        }
        faults.extend(view.recorded(&ledger, &self.home.state));
        faults.extend(view.leaked(&self.lab.things()));
        if !self.lab.stranger_is_there() {
            faults.push(Breach::Foreign.of("a domain of somebody else is gone"));
        }
        self.figures.checked += ledger.granted.len() + ledger.destroyed.len() + ledger.claims.len();
        let running = self.lab.running();
        for grant in ledger.granted.values().filter(|grant| !ledger.killed.contains_key(&grant.uuid)) {
            match (running.get(&grant.uuid), grant.started) {
                (None, _) => faults.push(Breach::Disturbed.of(format!("the QEMU of machine {} is gone", grant.uuid))),
                (Some(now), Some(then)) if *now != then => {
                    faults.push(Breach::Disturbed.of(format!("machine {} was started again", grant.uuid)));
                }
                (Some(_), _) => {}
            }
        }
        if served {
            faults.extend(self.adopted(&view, found));
        }
        if at_rest {
            faults.extend(view.rested(&ledger));
            let seen: Vec<&Uuid> = running.keys().collect();
            if !view.containers.keys().eq(running.keys()) {
                faults.push(Breach::Unrest.of(format!("{seen:?} run, recorded are {:?}", view.containers.keys())));
            }
            for claim in view.stranded(&ledger) {
                faults
                    .push(Breach::Leaked(Thing::Claim).of(format!("nobody was told of the machine of claim {claim}")));
            }
            view.tell(&mut ledger);
        } else {
            view.remember(&mut ledger);
        }
        ledger.deaths.push(Timestamp::now());
        drop(ledger);
        self.left = view;
        if !faults.is_empty() {
            eprintln!("the log of the daemon that died last:\n{}", lines.join("\n"));
            return Err(faults);
        }
        self.check_sessions()?;
        self.figures.sessions += self.sessions.len();
        Ok(())
    }

    /// What it found in use, it said, once, and how it found it.
    fn adopted(&self, view: &View, found: &BTreeMap<Uuid, bool>) -> Faults {
        let from = self.left.events();
        let mut faults = Faults::new();
        for (uuid, runs) in found {
            let adopted = view.told(EventKind::Adopted, *uuid, from);
            let refused = view.told(EventKind::AdoptionRefused, *uuid, from);
            let status = &self.left.containers[uuid].status;
            let what = format!(
                "machine {uuid} (runs: {runs}) was adopted {adopted} times, refused {refused} times; it was left as {status:?}"
            );
            match (adopted + refused, runs) {
                (0, _) => faults.push(Breach::Missing.of(what)),
                (1, true) if refused == 1 => faults.push(Breach::Disturbed.of(what)),
                (1, _) => {}
                (_, _) => faults.push(Breach::Doubled.of(what)),
            }
        }
        faults
    }

    /// What is recorded, in a copy: the next daemon has to recover what the last one left, and not what this found.
    fn recorded(&self) -> Records {
        let copy = tempfile::tempdir().unwrap();
        let (from, to) = (self.home.state.join("store"), copy.path().join("store"));
        run("cp", &["-a", "--sparse=always", path(&from), path(&to)]);
        let store = store::open(&to, Options { reserve: 0, ..Options::default() }).unwrap();
        Records::of(&*store, 0)
    }

    fn check_sessions(&mut self) -> Result<(), Faults> {
        let checked = self.sessions.iter_mut().map(Session::check);
        let faults: Faults = checked.filter_map(|check| Some(Breach::Dropped.of(check.err()?))).collect();
        if faults.is_empty() { Ok(()) } else { Err(faults) }
    }

    /// Waits until there is nothing left to do, and somebody logs in anew.
    fn rest(&mut self, daemon: &Daemon) -> Result<(), Faults> {
        let ledger = self.ledger.lock().unwrap();
        let (stranded, cut_off) = (self.left.stranded(&ledger), ledger.cut_off);
        drop(ledger);
        self.figures.cut_off += cut_off;
        self.figures.stranded += stranded.len();
        if stranded.len() > cut_off {
            let what = format!("{cut_off} requests were cut off, and nobody was told of {stranded:?}");
            return Err(vec![Breach::Leaked(Thing::Claim).of(what)]);
        }
        for claim in stranded {
            // As an administrator would, who knows that it is nobody's.
            let answer = http::ask(&self.home.state, "DELETE", &format!("containerclaims/{claim}"), &Value::Null);
            assert!(matches!(answer, Ok((200 | 202, _))), "{answer:?}");
        }
        let (mut before, end) = (None, Instant::now() + REST);
        loop {
            // Nothing of a machine's card is left either, once it was swept up.
            let now = resting(&self.home.state).filter(|seen| self.lab.cards().is_subset(&ports(seen)));
            if now.is_some() && now == before {
                break;
            }
            if Instant::now() > end {
                let (shown, cards) = (everything(&self.home.state), self.lab.cards());
                eprintln!("the log of the daemon that never came to rest:\n{}", daemon.log);
                let what = format!("in {} s it never came to rest: cards {cards:?}, {shown:?}", REST.as_secs());
                return Err(vec![Breach::Unrest.of(what)]);
            }
            before = now;
            std::thread::sleep(LOOK);
        }
        let ledger = self.ledger.lock().unwrap();
        let whole: Vec<_> =
            ledger.granted.values().filter(|grant| !ledger.killed.contains_key(&grant.uuid)).cloned().collect();
        drop(ledger);
        let Some(grant) = self.random.pick(&whole) else { return Ok(()) };
        let at = ([127, 0, 0, 1], grant.port).into();
        let (name, password) = (&grant.username, grant.password.clone().into());
        let login = async { EndpointShell::connect_as(at, name, &password, PATIENCE).await };
        match runtime().block_on(login) {
            Ok(_) => Ok(()),
            Err(error) => Err(vec![Breach::Lost.of(format!("the login of machine {}: {error}", grant.uuid))]),
        }
    }

    /// Those who were logged in log out and give back what they have.
    fn leave(&mut self) -> Result<(), Faults> {
        let found = self.found();
        let daemon = self.home.start();
        let sessions = std::mem::take(&mut self.sessions);
        let faults: Faults =
            sessions.into_iter().filter_map(|one| Some(Breach::Dropped.of(one.close().err()?))).collect();
        if !faults.is_empty() {
            return Err(faults);
        }
        let scene = self.scene(daemon.address);
        let kept = std::mem::take(&mut self.ledger.lock().unwrap().kept);
        for uuid in kept {
            let holder = self.ledger.lock().unwrap().granted.get(&uuid).map(|grant| grant.by.clone());
            match holder {
                Some(Holder::Token(token)) => scene.give_back(uuid, token),
                Some(Holder::Claim(_)) | None => {
                    return Err(vec![Breach::Lost.of(format!("machine {uuid}, which was kept"))]);
                }
            }
        }
        self.rest(&daemon)?;
        self.dead(daemon, Death::Time, true, &found, true)
    }

    /// What a daemon that starts now finds in use, and whether that runs.
    fn found(&self) -> BTreeMap<Uuid, bool> {
        let running = self.lab.running();
        self.left.in_use().into_iter().map(|uuid| (uuid, running.contains_key(&uuid))).collect()
    }
}

/// Waits for the end of a life, or for its time.
fn wait(daemon: &mut Daemon, end: &End, told: impl Fn() -> usize) -> Death {
    let begin = Instant::now();
    match end {
        End::Line(word) => {
            let before = daemon.log.so_far().len();
            let said = |lines: &[String]| lines[before..].iter().any(|line| line.contains(word)).then_some(());
            match daemon.log.within(LONGEST_LIFE, said) {
                Some(()) => Death::Point(log(word)),
                None => Death::Time,
            }
        }
        End::Inside(name, _) => {
            while begin.elapsed() < LONGEST_LIFE {
                if daemon.end().is_some() {
                    return Death::Point(inside(name));
                }
                std::thread::sleep(POLL);
            }
            Death::Time
        }
        End::Told(count) => {
            let enough = told() + count;
            while begin.elapsed() < LONGEST_LIFE && told() < enough {
                std::thread::sleep(POLL);
            }
            Death::Time
        }
        End::Random(limit) | End::Start(limit) => {
            std::thread::sleep(*limit);
            Death::Time
        }
        End::Rest => Death::Time,
    }
}

/// What a daemon shows: pools, containers and claims.
fn everything(state: &Path) -> Option<[Value; 3]> {
    let list = |kind: &str| http::ask(state, "GET", kind, &Value::Null).ok().map(|(_, body)| body["items"].clone());
    Some([list("containerpools")?, list("containers")?, list("containerclaims")?])
}

/// What a daemon shows of everything, if there seems to be nothing left to do.
fn resting(state: &Path) -> Option<Value> {
    let [pools, containers, claims] = everything(state)?;
    let full = |pool: &Value| pool["status"]["boundContainers"] == pool["spec"]["maxContainers"];
    let as_wished = pools.as_array()?.iter().all(|pool| {
        let (spec, status) = (&pool["spec"], &pool["status"]);
        let number = |value: &Value| value.as_u64().unwrap_or_default();
        let bound = number(&status["boundContainers"]);
        let wished = number(&spec["replicas"]).min(number(&spec["maxContainers"]) - bound);
        number(&status["readyReplicas"]) == wished
            && number(&status["updatedReplicas"]) == wished
            && number(&status["containers"]) == wished + bound
            && status["observedGeneration"] == pool["metadata"]["generation"]
    });
    let still = |object: &Value| object["metadata"].get("deletionTimestamp").is_none();
    let up = |one: &Value| still(one) && (one["status"]["phase"] == "Ready" || one["status"]["phase"] == "Bound");
    let all_full = pools.as_array()?.iter().any(full);
    let served = |one: &Value| still(one) && (one["status"]["phase"] != "Pending" || all_full);
    let rest = as_wished && containers.as_array()?.iter().all(up) && claims.as_array()?.iter().all(served);
    rest.then(|| json!([pools, containers, claims]))
}

/// The ports of the containers that are shown.
fn ports(seen: &Value) -> BTreeSet<u16> {
    let containers = seen[1].as_array().into_iter().flatten();
    containers.filter_map(|container| u16::try_from(container["status"]["port"].as_u64()?).ok()).collect()
}

fn path(path: &Path) -> &str {
    path.to_str().expect("a scratch directory has a plain name")
}
