//! Where the daemon's work can stand still before anything that it changes, and go on from there, in any order.
//!
//! A piece of work (a pass, a client's call, recovery) reads, changes one thing, reads on, changes the next. What it
//! does depends on nothing but what it read and what it was answered. So work that stands still is kept as just that:
//! to go on, it begins anew, reads what it read then, is answered what it was answered then, and comes to where it
//! stood; there it makes one call in the present, and reads in the present up to its next one.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;

use super::moment::{Moment, Print};
use crate::hypervisor::fake::{self, FakeWorld};
use crate::model::{Container, Network};
use crate::store::{Cond, Copies, Txn};

/// What cannot be seen: libvirt's domains, the forwards, or the disks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Blind {
    Domains,
    Forwards,
    Disks,
}

/// What is wrong with what the daemon stands on, to see that the search finds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bug {
    /// The store binds a wire claim to a member whatever became of the member since it was read.
    BindsWhateverItFinds,
    /// The hypervisor says *absent* where it cannot see.
    DoubtIsAbsence,
    /// The store acknowledges before it is durable: a crash takes the last transaction back.
    AcknowledgesTooEarly,
}

/// A call that changes something.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) name: String,
    /// Of a transaction.
    pub(super) conds: Vec<Cond>,
    /// What it writes.
    pub(super) writes: Print,
}

/// A call that was made.
#[derive(Clone)]
pub(super) struct Past {
    /// What was read before it.
    reads: Arc<Moment>,
    call: String,
    answer: Arc<dyn Any + Send + Sync>,
    /// The answer, as far as work can depend on it.
    said: String,
}

/// How far a piece of work has come.
#[derive(Clone)]
pub(super) struct Course {
    past: Vec<Past>,
    /// What it read since its last call.
    pub(super) reads: Arc<Moment>,
    /// What it is about to do.
    pub(super) next: Call,
}

impl Course {
    /// Whether it has changed nothing yet.
    pub(super) fn fresh(&self) -> bool {
        self.past.is_empty()
    }

    /// What it read before each of its calls.
    pub(super) fn moments(&self) -> impl Iterator<Item = &Arc<Moment>> {
        self.past.iter().map(|past| &past.reads).chain([&self.reads])
    }

    /// What it did and what it was told, and what it is about to do.
    pub(super) fn told(&self) -> String {
        let past = self.past.iter().map(|past| format!("{}={} ", past.call, past.said));
        past.chain([self.next.name.clone()]).collect()
    }
}

/// What became of a piece of work.
pub(super) enum Ended<T> {
    Done(T),
    /// It stands before its next call.
    At(Course),
}

/// A piece of work, one call further.
pub(super) struct Ran<T> {
    pub(super) ended: Ended<T>,
    /// What was committed by that call.
    pub(super) committed: Option<Txn>,
    /// What that call must not have done.
    pub(super) broken: Option<String>,
}

/// Thrown by work that stands still.
struct Still;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Calls {
    /// None in the present.
    None,
    /// One more.
    One,
    /// Any number: nothing stands still.
    #[default]
    Any,
}

#[derive(Default)]
struct Script {
    past: Vec<Past>,
    at: usize,
    reads: Option<Arc<Moment>>,
    now: Option<Arc<Moment>>,
    calls: Calls,
    made: Option<(String, Arc<dyn Any + Send + Sync>, String)>,
    next: Option<Call>,
    blind: Option<Blind>,
    committed: Vec<Txn>,
    broken: Option<String>,
}

/// Records and world, and who may change them just now.
pub(super) struct Stage {
    pub(super) store: Copies,
    pub(super) world: Arc<FakeWorld>,
    pub(super) bug: Option<Bug>,
    script: Mutex<Script>,
    millis: AtomicI64,
}

impl Stage {
    pub(super) fn new(network: Network, bug: Option<Bug>) -> Self {
        let world = FakeWorld::new(fake::Options {
            boot: Duration::ZERO,
            failure_rate: 0.0,
            seed: 1,
            network,
            clock: fake::Clock::Manual,
        });
        Stage { store: Copies::new(), world, bug, script: Mutex::default(), millis: AtomicI64::new(0) }
    }

    // --- time ---

    pub(super) fn time(&self) -> Timestamp {
        Timestamp::from_millisecond(1_000_000_000_000 + self.millis.load(Ordering::SeqCst)).unwrap()
    }

    pub(super) fn wait(&self, millis: i64) {
        self.millis.fetch_add(millis, Ordering::SeqCst);
        self.world.advance(Duration::from_millis(millis.unsigned_abs()));
    }

    // --- what is ---

    pub(super) fn moment(&self) -> Moment {
        Moment::new(self.store.take(), self.world.lock().clone())
    }

    /// Puts everything as it was then.
    pub(super) fn go_to(&self, moment: &Moment) {
        self.millis.store(0, Ordering::SeqCst);
        self.store.put(moment.store.clone());
        *self.world.lock() = moment.world.clone();
    }

    /// The lowest port that nobody has: ports are given again as soon as they can be.
    pub(super) fn lowest_port(&self, first: u16) -> u16 {
        let held = |port: &u16| self.store.take().get(&crate::store::records::port_key(*port)).is_some();
        (first..).find(|port| !held(port) && !self.world.forwards().contains_key(port)).unwrap()
    }

    pub(super) fn blind(&self) -> Option<Blind> {
        self.script().blind
    }

    /// A container as it was when the work decided on the call that it makes now.
    pub(super) fn decided_on(&self, container: &str) -> Option<Container> {
        let reads = self.script().reads.clone().unwrap_or_else(|| Arc::new(self.moment()));
        reads.facts().container(container).cloned()
    }

    fn script(&self) -> MutexGuard<'_, Script> {
        self.script.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // --- work ---

    /// Takes work from a moment up to its first call.
    pub(super) fn begin<T>(&self, now: &Arc<Moment>, blind: Option<Blind>, work: impl FnOnce() -> T) -> Ended<T> {
        *self.script() = Script {
            reads: Some(Arc::clone(now)),
            now: Some(Arc::clone(now)),
            calls: Calls::None,
            blind,
            ..Script::default()
        };
        self.go_to(now);
        match self.run(now, work) {
            // Nothing has changed: the moment is the same.
            Ran { ended: Ended::At(course), .. } => Ended::At(Course { reads: Arc::clone(now), ..course }),
            Ran { ended, .. } => ended,
        }
    }

    /// Takes work one call further.
    pub(super) fn go_on<T>(
        &self,
        course: &Course,
        now: &Arc<Moment>,
        blind: Option<Blind>,
        work: impl FnOnce() -> T,
    ) -> Ran<T> {
        *self.script() = Script {
            past: course.past.clone(),
            reads: Some(Arc::clone(&course.reads)),
            now: Some(Arc::clone(now)),
            calls: Calls::One,
            blind,
            ..Script::default()
        };
        self.go_to(course.moments().next().unwrap());
        let mut ran = self.run(now, work);
        if let Ended::At(at) = &mut ran.ended {
            let (call, answer, said) = self.script().made.take().expect("work that goes on makes a call");
            at.past = course.past.clone();
            at.past.push(Past { reads: Arc::clone(&course.reads), call, answer, said });
        }
        ran
    }

    /// Lets everything that follows do what it wants.
    pub(super) fn free(&self, moment: &Moment) {
        *self.script() = Script::default();
        self.go_to(moment);
    }

    /// What was committed since, where nothing stands still; or what must not have been done.
    pub(super) fn committed(&self) -> Result<Vec<Txn>, String> {
        let mut script = self.script();
        script.broken.take().map_or_else(|| Ok(std::mem::take(&mut script.committed)), Err)
    }

    fn run<T>(&self, now: &Moment, work: impl FnOnce() -> T) -> Ran<T> {
        let ended = match catch_unwind(AssertUnwindSafe(work)) {
            Ok(done) => Ended::Done(done),
            Err(still) if still.is::<Still>() => {
                let next = self.script().next.take().expect("it stands before a call");
                Ended::At(Course { past: vec![], reads: Arc::new(self.moment().after(now)), next })
            }
            Err(other) => resume_unwind(other),
        };
        let mut script = self.script();
        Ran { ended, committed: script.committed.pop(), broken: script.broken.take() }
    }

    /// A call that changes something.
    pub(super) fn call<T: Clone + Send + Sync + 'static>(
        &self,
        call: Call,
        said: impl FnOnce(&T) -> String,
        make: impl FnOnce() -> T,
    ) -> T {
        let mut script = self.script();
        if let Some(past) = script.past.get(script.at).cloned() {
            assert_eq!(past.call, call.name, "work that was given the same did something else");
            script.at += 1;
            let reads = script.past.get(script.at).map(|past| Arc::clone(&past.reads)).or(script.reads.clone());
            self.go_to(&reads.expect("work reads at some moment"));
            return past.answer.downcast_ref::<T>().expect("the same call has the same answer").clone();
        }
        match script.calls {
            Calls::None => {
                script.next = Some(call);
                drop(script);
                resume_unwind(Box::new(Still));
            }
            Calls::One => {
                script.calls = Calls::None;
                self.go_to(script.now.as_ref().expect("there is a present"));
                drop(script);
                let answer = make();
                self.script().made = Some((call.name, Arc::new(answer.clone()), said(&answer)));
                answer
            }
            Calls::Any => {
                drop(script);
                make()
            }
        }
    }

    /// Takes note of what was committed.
    pub(super) fn note(&self, txn: Txn) {
        self.script().committed.push(txn);
    }

    /// Takes note of what must not have been done.
    pub(super) fn forbid(&self, what: String) {
        self.script().broken.get_or_insert(what);
    }
}
