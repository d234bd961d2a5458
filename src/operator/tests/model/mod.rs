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

/// States that each world is searched for, unless this variable says another number.
const STATES: (&str, usize) = ("ANWEDDOL_MODEL_STATES", 2_000);

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

const SMALL: Bounds = Bounds { network: Network::Nat, clients: 2, warm: 1, most: 2, at_once: 2, left: NOTHING };

fn explore(name: &str, bounds: Bounds, bug: Option<Bug>) -> Report {
    let most = std::env::var(STATES.0).map_or(STATES.1, |most| most.parse().expect("a number of states"));
    let (system, start) = System::new(bounds, bug);
    let report = search(&system, start, most);
    let whole = if report.whole() { "all there are" } else { "and there are more" };
    println!("{name}: {} states, {whole}; depth {}; {report:?}", report.states, report.depth);
    report
}

#[test]
fn every_order_of_clients_passes_deaths_and_crashes_keeps_the_promises() {
    let left = Left { crashes: 1, kills: 1, doubts: 1, cuts: 1, sweeps: 1 };
    let worlds = [
        ("two clients", SMALL),
        ("two clients and a crash", Bounds { left: Left { crashes: 1, ..NOTHING }, ..SMALL }),
        ("one client, one thing at a time", Bounds { clients: 1, at_once: 1, left, ..SMALL }),
        ("everything", Bounds { left, ..SMALL }),
    ];
    for (name, bounds) in worlds {
        let report = explore(name, bounds, None);
        assert!(report.broken.is_none(), "{name}: {:?}", report.broken);
    }
}

/// What the search is worth: it finds what is wrong, and says how it comes about.
fn finds(bug: Bug, left: Left, what: &str) {
    let report = explore(&format!("{bug:?}"), Bounds { left, ..SMALL }, Some(bug));
    let broken = report.broken.unwrap_or_else(|| panic!("{bug:?} was not found"));
    assert!(broken.what.contains(what), "{broken:?}");
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
    finds(Bug::AcknowledgesTooEarly, Left { crashes: 1, ..NOTHING }, "its claim is");
}
