//! A simulation of hypervisor, guests and forwards: what `serve --simulate` runs on, and what tests script.
//!
//! A [`FakeWorld`] is what outlives a daemon: domains, guests, forwards. Any number of [`FakeHypervisor`]s (and of
//! the guest's side, [`crate::guest::fake`]) look at one world, so that a "restarted" operator finds what its
//! predecessor left. By itself it behaves; tests make it fail, lie, lose and delay.
//!
//! No machine is started and nothing listens on any port: a forward leads nowhere.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::broadcast;
use uuid::Uuid;

use super::DomainSpec;
use super::xml::Kept;
use crate::model::{DomainState, Network, Pause, Trace, TraceKind, Wake, Whose};

mod domains;

pub use domains::FakeHypervisor;
pub(crate) use domains::of_kind;

/// Wakes that a receiver may lag behind.
const WAKES: usize = 1024;

/// How a world behaves by itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// From a domain's start until its guest answers.
    pub boot: Duration,
    /// How many calls of a hundred fail that change something: 0.0 to 1.0 of all.
    pub failure_rate: f64,
    /// Which of them: the same seed and the same calls give the same failures.
    pub seed: u64,
    /// How guests are connected: only `Nat` gives them addresses.
    pub network: Network,
    /// What time is.
    pub clock: Clock,
}

impl Default for Options {
    fn default() -> Self {
        let boot = Duration::from_millis(200);
        Options { boot, failure_rate: 0.0, seed: 1, network: Network::User, clock: Clock::Real }
    }
}

/// What time is, in a world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clock {
    /// It passes.
    Real,
    /// It stands, but for [`FakeWorld::advance`].
    Manual,
}

/// The calls that can be made to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Call {
    /// [`crate::hypervisor::Hypervisor::list`].
    List,
    /// [`crate::hypervisor::Hypervisor::find`].
    Find,
    /// [`crate::hypervisor::Hypervisor::create`].
    Create,
    /// [`crate::hypervisor::Hypervisor::destroy`].
    Destroy,
    /// [`crate::hypervisor::Hypervisor::resume`].
    Resume,
    /// [`crate::hypervisor::Hypervisor::remember`].
    Remember,
    /// [`crate::hypervisor::Hypervisor::recall`].
    Recall,
    /// [`crate::hypervisor::Hypervisor::address`].
    Address,
    /// [`crate::guest::Shell::personalise`].
    Personalise,
    /// [`crate::guest::Shell::authorize`].
    Authorize,
    /// [`crate::guest::Shell::probe`].
    Probe,
    /// [`crate::hypervisor::Hypervisor::has_disk`] and [`crate::hypervisor::Hypervisor::disks`].
    LookAtDisks,
    /// [`crate::hypervisor::Hypervisor::remove_disk`].
    RemoveDisk,
    /// [`crate::hypervisor::Hypervisor::traces`] and [`crate::guest::Forwarder::traces`].
    LookAtTraces,
    /// [`crate::hypervisor::Hypervisor::remove_trace`] and [`crate::guest::Forwarder::remove_trace`].
    RemoveTrace,
    /// [`crate::guest::Forwarder::admin`].
    Admin,
    /// [`crate::guest::Forwarder::publish`].
    Publish,
    /// [`crate::guest::Forwarder::withdraw`].
    Withdraw,
    /// [`crate::guest::Forwarder::is_published`], [`crate::guest::Forwarder::list`] and
    /// [`crate::guest::Forwarder::connections`].
    LookAtForwards,
}

/// When a call that fails does so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum When {
    /// Before anything was done.
    Before,
    /// After everything was done: only the answer is lost.
    After,
}

/// Whether hints arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wakes {
    /// They do.
    Delivered,
    /// They get lost.
    Lost,
}

/// A domain of a world, with its guest.
#[derive(Clone, Debug)]
pub struct FakeDomain {
    /// Who it is.
    pub uuid: Uuid,
    /// What it was made from; somebody else's domain was made from nothing we know.
    pub spec: Option<DomainSpec>,
    /// Its state.
    pub state: DomainState,
    /// When it started, on the world's clock.
    pub started: Duration,
    /// Whether its guest ever answers.
    pub answers: bool,
    /// The user its guest was personalised for, once it was.
    pub user: Option<String>,
    /// Public keys that may log in.
    pub keys: Vec<String>,
    /// What it keeps of its records.
    pub keepsake: Option<Kept>,
}

#[derive(Clone)]
pub(crate) struct State {
    pub(crate) domains: BTreeMap<Uuid, FakeDomain>,
    /// Containers that have a disk overlay.
    pub(crate) disks: BTreeSet<Uuid>,
    /// Connections through published ports.
    pub(crate) connections: BTreeMap<u16, u32>,
    /// Published ports.
    pub(crate) forwards: BTreeMap<u16, Uuid>,
    /// What machines left, as tests have put it there.
    pub(crate) traces: BTreeSet<Trace>,
    /// Ports that others listen on.
    pub(crate) taken: BTreeSet<u16>,
    faults: BTreeMap<(Call, When), usize>,
    calls: BTreeMap<Call, usize>,
    pub(crate) reachable: bool,
    /// Whether disks find no room.
    pub(crate) full: bool,
    wakes: Wakes,
    visible_after: Duration,
    new_guests_answer: bool,
    advanced: Duration,
    random: u64,
}

/// What outlives a daemon.
pub struct FakeWorld {
    pub(crate) options: Options,
    state: Mutex<State>,
    wakes: broadcast::Sender<Wake>,
    epoch: Instant,
}

impl FakeWorld {
    /// An empty world.
    pub fn new(options: Options) -> Arc<Self> {
        let state = State {
            domains: BTreeMap::new(),
            disks: BTreeSet::new(),
            connections: BTreeMap::new(),
            forwards: BTreeMap::new(),
            traces: BTreeSet::new(),
            taken: BTreeSet::new(),
            faults: BTreeMap::new(),
            calls: BTreeMap::new(),
            reachable: true,
            full: false,
            wakes: Wakes::Delivered,
            visible_after: Duration::ZERO,
            new_guests_answer: true,
            advanced: Duration::ZERO,
            random: options.seed,
        };
        let wakes = broadcast::channel(WAKES).0;
        Arc::new(FakeWorld { options, state: Mutex::new(state), wakes, epoch: Instant::now() })
    }

    /// The next `times` calls of this kind fail before they do anything.
    pub fn fail_next(&self, call: Call, times: usize) {
        self.lock().faults.insert((call, When::Before), times);
    }

    /// The next `times` calls of this kind do their work and then say that they failed.
    pub fn fail_after_next(&self, call: Call, times: usize) {
        self.lock().faults.insert((call, When::After), times);
    }

    /// Whether the hypervisor can be reached. When that changes, everything is to be looked at.
    pub fn set_reachable(&self, reachable: bool) {
        let mut state = self.lock();
        if std::mem::replace(&mut state.reachable, reachable) != reachable {
            self.wake(&state, Wake::Everything);
        }
    }

    /// Whether hints arrive.
    pub fn set_wakes(&self, wakes: Wakes) {
        self.lock().wakes = wakes;
    }

    /// New domains are not seen for so long after their start.
    pub fn set_visible_after(&self, delay: Duration) {
        self.lock().visible_after = delay;
    }

    /// Whether guests that start from now on ever answer.
    pub fn set_new_guests_answer(&self, answer: bool) {
        self.lock().new_guests_answer = answer;
    }

    /// Whether this guest ever answers.
    pub fn set_answers(&self, uuid: Uuid, answers: bool) {
        if let Some(domain) = self.lock().domains.get_mut(&uuid) {
            domain.answers = answers;
        }
    }

    /// The domain ends, as when its guest powers off or its QEMU is killed.
    pub fn kill(&self, uuid: Uuid) {
        let mut state = self.lock();
        self.end(&mut state, uuid);
    }

    /// The domain stands still.
    pub fn pause(&self, uuid: Uuid, why: Pause) {
        self.set_state(uuid, DomainState::Paused(why));
    }

    /// Whether disks find room: as long as not, no machine that stands still for it goes on.
    pub fn set_room(&self, room: bool) {
        self.lock().full = !room;
    }

    /// It goes on.
    pub fn resume(&self, uuid: Uuid) {
        self.set_state(uuid, DomainState::Running);
    }

    fn set_state(&self, uuid: Uuid, to: DomainState) {
        let mut state = self.lock();
        if let Some(domain) = state.domains.get_mut(&uuid) {
            domain.state = to;
        }
        self.wake(&state, Wake::Domain(uuid));
    }

    /// A domain without our mark, with this UUID.
    pub fn add_foreign_domain(&self, uuid: Uuid) {
        let mut state = self.lock();
        let started = self.now(&state);
        let domain = FakeDomain {
            uuid,
            spec: None,
            state: DomainState::Running,
            started,
            answers: false,
            user: None,
            keys: Vec::new(),
            keepsake: None,
        };
        state.domains.insert(uuid, domain);
    }

    /// So many clients are connected through a published port.
    pub fn set_connections(&self, port: u16, open: u32) {
        self.lock().connections.insert(port, open);
    }

    /// A machine left this, or somebody else put it there. Disks and forwards lie with those of machines.
    pub fn leave(&self, trace: Trace) {
        let mut state = self.lock();
        match (trace.kind, &trace.whose) {
            (TraceKind::Disk, Whose::Machine(uuid)) => drop(state.disks.insert(*uuid)),
            (TraceKind::Forward, Whose::Port(port)) => drop(state.forwards.insert(*port, Uuid::nil())),
            _ => drop(state.traces.insert(trace)),
        }
    }

    /// What is left, as it is.
    pub fn left(&self) -> BTreeSet<Trace> {
        self.lock().traces.clone()
    }

    /// Somebody else listens on a port of the host.
    pub fn take_port(&self, port: u16) {
        self.lock().taken.insert(port);
    }

    /// Time passes.
    pub fn advance(&self, by: Duration) {
        self.lock().advanced += by;
    }

    /// All domains, as they are, whatever can be seen of them.
    pub fn domains(&self) -> Vec<FakeDomain> {
        self.lock().domains.values().cloned().collect()
    }

    /// All published ports, as they are.
    pub fn forwards(&self) -> BTreeMap<u16, Uuid> {
        self.lock().forwards.clone()
    }

    /// How often a call was made.
    pub fn calls(&self, call: Call) -> usize {
        self.lock().calls.get(&call).copied().unwrap_or_default()
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self, state: &State) -> Duration {
        match self.options.clock {
            Clock::Real => self.epoch.elapsed() + state.advanced,
            Clock::Manual => state.advanced,
        }
    }

    fn wake(&self, state: &State, wake: Wake) {
        match state.wakes {
            Wakes::Delivered => drop(self.wakes.send(wake)),
            Wakes::Lost => {}
        }
    }

    /// A domain's end, and the end of what leads to it.
    fn end(&self, state: &mut State, uuid: Uuid) {
        state.domains.remove(&uuid);
        match self.options.network {
            // QEMU made the forwards.
            Network::User | Network::Auto => state.forwards.retain(|_, to| *to != uuid),
            // The kernel made them; they stay until they are withdrawn.
            Network::Nat => {}
        }
        self.wake(state, Wake::Domain(uuid));
    }

    /// How long until this domain's guest answers: `None` is never.
    pub(crate) fn answers_in(&self, state: &State, domain: &FakeDomain) -> Option<Duration> {
        let running = domain.state == DomainState::Running && domain.answers && domain.spec.is_some();
        running.then(|| (domain.started + self.options.boot).saturating_sub(self.now(state)))
    }

    /// Counts a call and decides whether it fails now; the words are its reason.
    pub(crate) fn fault(&self, state: &mut State, call: Call, when: When) -> Option<String> {
        if when == When::Before {
            *state.calls.entry(call).or_default() += 1;
        }
        if let Some(left) = state.faults.get_mut(&(call, when)).filter(|left| **left > 0) {
            *left -= 1;
            return Some(format!("injected {when:?} {call:?}").to_lowercase());
        }
        let changes = match call {
            Call::Create | Call::Destroy | Call::Resume | Call::Remember | Call::RemoveDisk | Call::RemoveTrace => true,
            Call::Personalise | Call::Authorize | Call::Admin | Call::Publish | Call::Withdraw => true,
            Call::List | Call::Find | Call::Recall | Call::Address | Call::Probe => false,
            Call::LookAtForwards | Call::LookAtDisks | Call::LookAtTraces => false,
        };
        if !changes || when == When::After || self.options.failure_rate <= 0.0 {
            return None;
        }
        let fails = next_random(&mut state.random) < self.options.failure_rate;
        fails.then(|| format!("simulated failure of {call:?}").to_lowercase())
    }
}

/// SplitMix64, as a number from 0 to 1.
fn next_random(state: &mut u64) -> f64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
}
