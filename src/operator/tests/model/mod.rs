//! The claim protocol, searched through: every order in which clients, passes, recovery, machines that die, looks that
//! see nothing and crashes of the daemon can come after one another, in small worlds, with the promises held against
//! every state.
//!
//! Nothing is modelled but what is outside: the decisions, the transactions and the passes around them are the
//! product's own ([`crate::plan`], [`crate::api`], [`crate::operator`]), over the store's own rules
//! ([`crate::store::Copies`]) and the simulated world. Whatever the daemon does can stand still before anything that it
//! changes (`stage`), for others to come between, and a crash can come there; so a search over these steps (`search`)
//! meets every interleaving of them, up to the number of states that it is given.
//!
//! It found that a start that was decided can come after the deletion of its container, which the next pass mends: so
//! that is what promise 4 says.
//!
//! What is left out: two reads with nothing changed between them are one step, but for a sweep's; time stands still but
//! for what comes to rest after a crash, so lifetimes and waits are the histories' ([`super::claims`]); a guest answers
//! at once; and no step fails but for a machine that died.

mod ledger;
mod moment;
mod outside;
mod promises;
mod search;
mod stage;
mod system;

use std::fmt;

use crate::model::Network;
use search::{Report, search};
use stage::Bug;
use system::{Act, Bounds, Left, System, Work};

/// States that the larger worlds are searched for, if this variable says so.
const STATES: &str = "ANWEDDOL_MODEL_STATES";

/// How far a world is searched.
#[derive(Clone, Copy)]
enum Far {
    /// Until there is nothing more to find.
    All,
    /// For so many states, or as [`STATES`] says.
    States(usize),
}

impl fmt::Display for Act {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Act::Begin(work, None) => write!(f, "{work} reads, and is about to act"),
            Act::Begin(work, Some(blind)) => write!(f, "{work} reads, sees no {blind:?}, and is about to act"),
            Act::GoOn(work) => write!(f, "{work} acts, and reads on"),
            Act::Tell(number) => write!(f, "client {number} is told of its machine"),
            Act::Fail(number) => write!(f, "client {number} is told that there is none"),
            Act::Cut(number) => write!(f, "client {number} is cut off"),
            Act::Kill(uuid) => write!(f, "machine {uuid} dies"),
            Act::Crash => write!(f, "the daemon dies and starts again"),
        }
    }
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Work::Recover => write!(f, "recovery"),
            Work::Sweep => write!(f, "sweeping"),
            Work::Pass(object) => write!(f, "the pass for {object}"),
            Work::Create(number) => write!(f, "client {number}'s CREATE"),
            Work::Withdraw(number) => write!(f, "the withdrawal of client {number}'s claim"),
            Work::Destroy(number) => write!(f, "client {number}'s DESTROY"),
        }
    }
}

const NOTHING: Left = Left { crashes: 0, kills: 0, doubts: 0, cuts: 0, sweeps: 0 };

const SMALL: Bounds =
    Bounds { network: Network::Nat, clients: 2, written: false, warm: 1, most: 2, at_once: 2, left: NOTHING };

fn explore(name: &str, bounds: Bounds, bug: Option<Bug>, far: Far) -> Report {
    let said = std::env::var(STATES).ok().map(|most| most.parse().expect("a number of states"));
    let most = match far {
        Far::All => usize::MAX,
        Far::States(most) => said.unwrap_or(most),
    };
    let (system, start) = System::new(bounds, bug);
    let report = search(&system, start, most);
    println!("{name}: {report}");
    report
}

/// Every promise holds in every state that is met.
fn keeps(name: &str, bounds: Bounds, far: Far) {
    let report = explore(name, bounds, None, far);
    assert!(report.broken.is_none(), "{name}: {report}");
    assert!(report.rests > 0, "{name}: nothing ever comes to rest");
}

/// A claim with a cold machine, and what can happen to it at any point.
#[test]
fn whatever_meets_one_claim_at_any_point_the_promises_hold() {
    let one = Bounds { clients: 1, warm: 0, most: 1, ..SMALL };
    keeps("a crash", Bounds { left: Left { crashes: 1, ..NOTHING }, ..one }, Far::All);
    keeps("a crash and a lost connection", Bounds { left: Left { crashes: 1, cuts: 1, ..NOTHING }, ..one }, Far::All);
    keeps("two crashes", Bounds { network: Network::User, left: Left { crashes: 2, ..NOTHING }, ..one }, Far::All);
}

/// The same, where the daemon does not see what there is.
#[test]
fn whatever_cannot_be_seen_at_any_point_the_promises_hold() {
    let one = Bounds { clients: 1, warm: 0, most: 1, ..SMALL };
    keeps("doubt and a lost connection", Bounds { left: Left { doubts: 1, cuts: 1, ..NOTHING }, ..one }, Far::All);
}

/// The same, where machines die.
#[test]
fn whatever_dies_at_any_point_the_promises_hold() {
    let one = Bounds { clients: 1, warm: 0, most: 1, ..SMALL };
    keeps("a death and a crash", Bounds { left: Left { kills: 1, crashes: 1, ..NOTHING }, ..one }, Far::All);
    keeps("a death and a sweep", Bounds { left: Left { kills: 1, sweeps: 1, ..NOTHING }, at_once: 1, ..one }, Far::All);
}

/// A claim that somebody wrote is bound in the end, to one machine, whatever became of those that it was promised before.
#[test]
fn a_written_claim_whose_machine_dies_on_its_way_is_given_another_and_a_bound_one_never() {
    let one = Bounds { clients: 0, written: true, warm: 0, most: 1, ..SMALL };
    keeps("two deaths", Bounds { left: Left { kills: 2, ..NOTHING }, ..one }, Far::All);
    keeps("a death and a crash", Bounds { left: Left { kills: 1, crashes: 1, ..NOTHING }, ..one }, Far::All);
    keeps("a death and a client", Bounds { clients: 1, left: Left { kills: 1, ..NOTHING }, ..one }, Far::All);
}

#[test]
fn two_clients_that_want_one_machine_keep_each_other_out_in_every_order() {
    let one = Bounds { most: 1, ..SMALL };
    keeps("cold, one thing at a time", Bounds { warm: 0, at_once: 1, ..one }, Far::All);
    keeps("warm, two things at once", one, Far::States(1_500));
}

#[test]
fn two_clients_a_pool_a_crash_a_death_and_doubt_keep_the_promises_in_every_order() {
    let left = Left { crashes: 1, kills: 1, doubts: 1, cuts: 1, sweeps: 1 };
    keeps("nothing from outside", SMALL, Far::States(1_000));
    keeps("a crash", Bounds { left: Left { crashes: 1, ..NOTHING }, ..SMALL }, Far::States(1_000));
    keeps("everything from outside, once each", Bounds { left, ..SMALL }, Far::States(1_500));
}

/// What the search is worth: it finds what is wrong, and says how it comes about.
fn finds(bug: Bug, left: Left, what: &str) {
    let report = explore(&format!("{bug:?}"), Bounds { left, ..SMALL }, Some(bug), Far::States(1_000));
    let broken = report.broken.unwrap_or_else(|| panic!("{bug:?} was not found"));
    assert!(broken.what.contains(what), "{broken}");
}

#[test]
fn the_search_finds_a_member_that_is_bound_whatever_became_of_it() {
    finds(Bug::BindsWhateverItFinds, NOTHING, "is two claims'");
}

#[test]
fn the_search_finds_a_machine_that_is_given_up_on_doubt() {
    finds(Bug::DoubtIsAbsence, Left { doubts: 1, ..NOTHING }, "was Bound and is Lost");
}

#[test]
fn the_search_finds_an_acknowledgement_that_was_not_durable() {
    finds(Bug::AcknowledgesTooEarly, Left { crashes: 1, ..NOTHING }, "its claim is gone");
}
