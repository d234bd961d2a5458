//! The connection, and how it comes back.
//!
//! ```text
//!            closed, or a call found it dead
//!      Up ────────────────────────────────────► Down
//!      ▲                                          │ the keeper opens again: at once, then
//!      └──────────────────────────────────────────┘ with back-off, sooner if somebody calls
//!        callbacks registered
//!        both ways: Wake::Everything
//! ```
//!
//! Only the keeper's thread opens connections: an open that hangs delays nobody but itself. A call that finds the
//! link down waits a moment for the keeper and then says *unreachable*. Everything is looked at when it went down too, so that
//! every record says so.
//!
//! To a daemon there are several connections, each with one call at a time. Where several calls wait on one connection and
//! its daemon hangs, libvirt (9.0) tells one of them that the keep-alives failed and leaves the others waiting for ever:
//! `a_libvirtd_that_hangs_is_unknown_to_everybody_who_asked_and_comes_back`. They live and die together.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::broadcast;
use uuid::Uuid;
use virt::connect::Connect;
use virt::error::Error;

use super::ffi::{self, CloseReason, Listener, Subscription};
use crate::hypervisor::HypervisorError;
use crate::model::Wake;

/// How long a call waits for a link that is down.
const PATIENCE: Duration = Duration::from_secs(1);
/// The first pause between two attempts, and the least one.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// The longest pause between two attempts.
const LAST_PAUSE: Duration = Duration::from_secs(5);
/// libvirt looks after the guests of its predecessor in the background. One that died meanwhile disappears without
/// an event, so everything is looked at once more after this long.
const SETTLE: Duration = Duration::from_secs(2);
/// Wakes that a receiver may lag behind before it is told that it did.
const WAKES: usize = 1024;

/// Opens a connection, ready to be used.
pub(super) type Opener = Box<dyn Fn() -> Result<Connect, String> + Send>;

/// Connections that come back.
pub(super) struct Link {
    shared: Arc<Shared>,
}

struct Shared {
    uri: String,
    state: Mutex<State>,
    /// Anything in the state changed.
    changed: Condvar,
    wakes: broadcast::Sender<Wake>,
    /// How many connections there are, each of one call at a time; `None` is one that takes any number.
    lines: Option<usize>,
}

struct State {
    session: Session,
    /// Connections without a call under way; `None` where it does not matter.
    free: Option<Vec<usize>>,
    /// Attempts to open that ended, well or not.
    attempts: u64,
    /// The session to be replaced, once it was found dead.
    lost: Option<u64>,
    /// Somebody waits for the link.
    wanted: bool,
    stop: bool,
}

impl State {
    /// The session, or why there is none.
    fn session(&self) -> Result<Arc<Opened>, String> {
        match &self.session {
            Session::Up(session) if self.lost.is_none() => Ok(session.clone()),
            Session::Up(_) => Err("the connection just broke".into()),
            Session::Down(reason) => Err(reason.clone()),
        }
    }
}

enum Session {
    Up(Arc<Opened>),
    Down(String),
}

struct Opened {
    // Dropped in this order: callbacks are taken back while the connection still is.
    _subscription: Subscription,
    connects: Vec<Connect>,
    generation: u64,
}

/// Why a call did not give a result.
#[derive(Debug)]
pub(super) enum CallError {
    /// There is no connection.
    Unreachable(HypervisorError),
    /// libvirt refused.
    Refused(Error),
}

#[derive(Clone)]
struct Ear {
    shared: Weak<Shared>,
    wakes: broadcast::Sender<Wake>,
    generation: u64,
}

impl Listener for Ear {
    fn domain(&self, uuid: Uuid) {
        // Nobody listening is fine.
        let _ = self.wakes.send(Wake::Domain(uuid));
    }

    fn card(&self, uuid: Uuid) {
        let _ = self.wakes.send(Wake::Card(uuid));
    }

    fn closed(&self, reason: CloseReason) {
        if let Some(shared) = self.shared.upgrade() {
            shared.lose(self.generation, &format!("{reason:?}"));
        }
    }
}

impl Link {
    /// Opens, and keeps open. The first attempt is made here, so that a wrong start is told at once.
    pub(super) fn open(uri: String, lines: Option<usize>, opener: Opener) -> Result<Link, HypervisorError> {
        let shared = Arc::new(Shared {
            uri,
            state: Mutex::new(State {
                session: Session::Down("not opened yet".into()),
                free: lines.map(|lines| (0..lines).collect()),
                attempts: 0,
                lost: None,
                wanted: false,
                stop: false,
            }),
            changed: Condvar::new(),
            wakes: broadcast::channel(WAKES).0,
            lines,
        });
        let opened = shared.attempt(&opener, 1).map_err(|reason| shared.unreachable(reason))?;
        shared.lock().session = Session::Up(Arc::new(opened));
        let keeper = Arc::downgrade(&shared);
        thread::Builder::new()
            .name("libvirt-link".into())
            .spawn(move || keep(&keeper, &opener))
            .map_err(|error| shared.unreachable(error.to_string()))?;
        Ok(Link { shared })
    }

    /// Hints of everything that happens.
    pub(super) fn wakes(&self) -> broadcast::Receiver<Wake> {
        self.shared.wakes.subscribe()
    }

    /// Tells others' hints by the same way.
    pub(super) fn teller(&self) -> broadcast::Sender<Wake> {
        self.shared.wakes.clone()
    }

    /// Whether it is up, as far as is known: one that hangs is found out by its keep-alives.
    pub(super) fn is_up(&self) -> Result<(), HypervisorError> {
        match self.shared.lock().session() {
            Ok(_) => Ok(()),
            Err(reason) => Err(self.shared.unreachable(reason)),
        }
    }

    /// Makes calls on the connection.
    pub(super) fn call<T>(&self, calls: impl FnOnce(&Connect) -> Result<T, Error>) -> Result<T, CallError> {
        // Whoever finds no connection is told so without a turn.
        self.shared.session().map_err(CallError::Unreachable)?;
        let place = self.shared.place();
        let session = self.shared.session().map_err(CallError::Unreachable)?;
        let connect = &session.connects[place.line];
        calls(connect).map_err(|error| {
            // An answer of a dead connection says nothing about what was asked.
            if connect.is_alive().unwrap_or(false) {
                return CallError::Refused(error);
            }
            self.shared.lose(session.generation, error.message());
            CallError::Unreachable(self.shared.unreachable(error.message().to_owned()))
        })
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.stop = true;
        let session = std::mem::replace(&mut state.session, Session::Down("closed".into()));
        drop(state);
        self.shared.changed.notify_all();
        drop(session);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>, at_most: Duration) -> MutexGuard<'a, State> {
        self.changed.wait_timeout(state, at_most).unwrap_or_else(PoisonError::into_inner).0
    }

    fn unreachable(&self, reason: String) -> HypervisorError {
        HypervisorError::Unreachable { uri: self.uri.clone(), reason }
    }

    fn lose(&self, generation: u64, why: &str) {
        let mut state = self.lock();
        if let Session::Up(session) = &state.session
            && session.generation == generation
            && state.lost.is_none()
        {
            tracing::warn!(uri = self.uri, why, "the connection to libvirt broke");
            state.lost = Some(generation);
            self.changed.notify_all();
        }
    }

    fn attempt(self: &Arc<Self>, opener: &Opener, generation: u64) -> Result<Opened, String> {
        let connects = (0..self.lines.unwrap_or(1)).map(|_| opener()).collect::<Result<Vec<_>, _>>()?;
        let ear = Ear { shared: Arc::downgrade(self), wakes: self.wakes.clone(), generation };
        let subscription = ffi::subscribe(&connects[0], ear).map_err(|error| error.message().to_owned())?;
        Ok(Opened { _subscription: subscription, connects, generation })
    }

    /// The session, if it is up or comes up soon.
    fn session(&self) -> Result<Arc<Opened>, HypervisorError> {
        let deadline = Instant::now() + PATIENCE;
        let mut state = self.lock();
        let before = state.attempts;
        loop {
            let reason = match state.session() {
                Ok(session) => return Ok(session),
                Err(reason) => reason,
            };
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || state.stop || (state.attempts > before && state.lost.is_none()) {
                return Err(self.unreachable(reason));
            }
            state.wanted = true;
            self.changed.notify_all();
            state = self.wait(state, left);
        }
    }

    /// Waits until a call may be made.
    fn place(&self) -> Place<'_> {
        let mut state = self.lock();
        loop {
            let line = match &mut state.free {
                Some(free) => free.pop(),
                None => Some(0),
            };
            match line {
                Some(line) => return Place { shared: self, line },
                None => state = self.wait(state, PATIENCE),
            }
        }
    }
}

/// A call under way, and its connection.
struct Place<'a> {
    shared: &'a Shared,
    line: usize,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if let Some(free) = &mut self.shared.lock().free {
            free.push(self.line);
        }
        self.shared.changed.notify_all();
    }
}

/// The keeper: replaces a session that was lost, for as long as the link exists.
fn keep(link: &Weak<Shared>, opener: &Opener) {
    let mut settled = Some(Instant::now() + SETTLE);
    let mut generation = 1;
    loop {
        let Some(shared) = link.upgrade() else { return };
        let mut state = shared.lock();
        if state.stop {
            return;
        }
        if state.lost.is_none() {
            if settled.is_some_and(|at| at <= Instant::now()) {
                settled = None;
                let _ = shared.wakes.send(Wake::Everything);
            }
            drop(shared.wait(state, SETTLE));
            continue;
        }
        let dead = std::mem::replace(&mut state.session, Session::Down("the connection broke".into()));
        state.lost = None;
        drop(state);
        drop(dead);
        let _ = shared.wakes.send(Wake::Everything);
        generation += 1;
        if !reopen(&shared, opener, generation) {
            return;
        }
        tracing::info!(uri = shared.uri, "connected to libvirt again");
        let _ = shared.wakes.send(Wake::Everything);
        settled = Some(Instant::now() + SETTLE);
    }
}

/// Tries until it works; `false` if the link is given up meanwhile.
fn reopen(shared: &Arc<Shared>, opener: &Opener, generation: u64) -> bool {
    let mut pause = FIRST_PAUSE;
    loop {
        let attempt = shared.attempt(opener, generation);
        let mut state = shared.lock();
        if state.stop {
            return false;
        }
        state.attempts += 1;
        state.wanted = false;
        shared.changed.notify_all();
        match attempt {
            Ok(opened) => {
                state.session = Session::Up(Arc::new(opened));
                return true;
            }
            Err(reason) => state.session = Session::Down(reason),
        }
        let (least, most) = (Instant::now() + FIRST_PAUSE, Instant::now() + pause);
        loop {
            let now = Instant::now();
            if state.stop {
                return false;
            }
            if now >= most || (state.wanted && now >= least) {
                break;
            }
            let until = if state.wanted { least } else { most };
            state = shared.wait(state, until - now);
        }
        drop(state);
        pause = (pause * 2).min(LAST_PAUSE);
    }
}
