//! Kill it anywhere: nothing lost, nothing leaked, nobody disconnected.
//!
//! ```text
//!  this process                                        a daemon under test: this program again
//!  clients, users ── wire, local API ────────────────► the product, as a library
//!  guests that die                                       │ store: sled on a scratch directory
//!  World (FakeWorld) ◄── Unix socket, one call each ─────┘ Trap: SIGKILL at a named point
//!  Ledger: what everybody was told                     killed, started again, many times
//!  promises ── records and world against the ledger
//! ```
//!
//! A *history* is one state directory and one world. A *round* of it: the daemon is started, perhaps killed while it
//! starts; what was acknowledged is checked at once, and everything when it has come to rest; then clients, guests and
//! templates do what they do until the daemon dies, at a named point ([`points`]) or at a random time.
//!
//! The same with the real program, libvirt, guests and SSH sessions: [`real`].
//!
//! What is chosen follows from a seed, which is printed; how threads and processes take turns does not.
//!
//! | variable | what |
//! | --- | --- |
//! | `ANWEDDOL_CRASH_KILLS` | how many kills, at least |
//! | `ANWEDDOL_CRASH_SECONDS` | for how long; 8, if there is no number of kills |
//! | `ANWEDDOL_CRASH_SEED` | the seed; the time |

#[path = "../common/mod.rs"]
mod common;
// It uses its part.
#[allow(dead_code)]
#[path = "../guest/host.rs"]
mod host;

mod daemon;
mod faults;
mod figures;
mod history;
mod http;
mod ledger;
mod link;
mod points;
mod process;
mod promises;
mod random;
mod real;
mod remote;
mod sight;
mod workload;
mod world;

use std::env::var;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use figures::Figures;
use random::Random;

/// Histories at the same time.
const AT_ONCE: usize = 6;

/// A number in the environment.
fn setting(name: &str) -> Option<u64> {
    let text = var(name).ok().filter(|text| !text.is_empty())?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text}: write a whole number")))
}

/// When it is enough.
struct End {
    kills: Option<usize>,
    time: Option<Instant>,
    done: AtomicUsize,
}

impl End {
    fn new(kills: Option<u64>, seconds: Option<u64>) -> End {
        let seconds = seconds.or(kills.is_none().then_some(8));
        let time = seconds.map(|seconds| Instant::now() + Duration::from_secs(seconds));
        End { kills: kills.map(|kills| kills as usize), time, done: AtomicUsize::new(0) }
    }

    /// A daemon was killed.
    fn count(&self) {
        self.done.fetch_add(1, Ordering::SeqCst);
    }

    fn is_reached(&self) -> bool {
        self.kills.is_some_and(|kills| self.done.load(Ordering::SeqCst) >= kills)
            || self.time.is_some_and(|time| Instant::now() >= time)
    }
}

/// What decides every choice; printed.
fn seed() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let seed = setting("ANWEDDOL_CRASH_SEED").unwrap_or(now);
    println!("ANWEDDOL_CRASH_SEED={seed}");
    seed
}

#[test]
#[ignore = "not a test: the daemon that wherever_it_is_killed_... starts and kills"]
fn daemon_under_test() {
    if let Ok(plan) = var(daemon::PLAN) {
        daemon::run(&plan);
    }
}

#[test]
fn wherever_it_is_killed_nothing_acknowledged_is_lost_and_nothing_is_left_behind() {
    let seed = seed();
    let end = End::new(setting("ANWEDDOL_CRASH_KILLS"), setting("ANWEDDOL_CRASH_SECONDS"));
    let mut random = Random::new(seed);
    let mut all = Figures::default();
    std::thread::scope(|scope| {
        let sources: Vec<Random> = (0..AT_ONCE).map(|_| random.fork()).collect();
        let playing: Vec<_> = sources.into_iter().map(|random| scope.spawn(|| history::play(random, &end))).collect();
        for one in playing {
            all.add(
                one.join().unwrap_or_else(|_| panic!("see above; ANWEDDOL_CRASH_SEED={seed} chooses the same again")),
            );
        }
    });
    assert!(!all.at_points.is_empty(), "nobody died where it was aimed");
    all.conclude("simulated");
}
