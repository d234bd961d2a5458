//! The named points at which a daemon dies.
//!
//! All that a daemon does to the world is a call of one of its traits, and all that it remembers is a transaction: so
//! *before* and *after* each kind of call, and each kind of transaction by what it tells, are all the places where a
//! crash can leave something different behind, but for the insides of the store, which kills at random times and the
//! store's own kill test are for. None of it needs a word in the product.

use std::io::Write;
use std::sync::Mutex;

use anweddol::model::{Event, EventKind};
use anweddol::store::{Op, Txn, records};
use rustix::process::{Signal, getpid, kill_process};
use serde::{Deserialize, Serialize};

/// Calls to the world.
const CALLS: [&str; 17] = [
    "list",
    "find",
    "create",
    "destroy",
    "remember",
    "address",
    "has-disk",
    "disks",
    "remove-disk",
    "personalise",
    "authorize",
    "admin",
    "publish",
    "withdraw",
    "is-published",
    "ports",
    "is-free",
];

/// Transactions, by an event that they tell.
const TOLD: [EventKind; 14] = [
    EventKind::CreatedContainer,
    EventKind::CreatedEndpointShell,
    EventKind::ForwardAdded,
    EventKind::ReadyContainer,
    EventKind::BoundClaim,
    EventKind::ForwardRemoved,
    EventKind::DestroyedContainer,
    EventKind::FailedContainer,
    EventKind::LostClaim,
    EventKind::Adopted,
    EventKind::AppliedObject,
    EventKind::DeletedObject,
    EventKind::UpdatingPool,
    EventKind::UpdatedPool,
];

/// A transaction that tells nothing: an intent, a status, a withdrawal.
const QUIET: &str = "commit quiet";

/// Where, and at which time that it comes by there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Aim {
    /// A name of [`all`].
    pub(crate) point: String,
    /// 1 is the first time.
    pub(crate) time: usize,
}

/// Every point.
pub(crate) fn all() -> Vec<String> {
    let calls = CALLS.iter().map(|call| format!("call {call}"));
    let told = TOLD.iter().map(|kind| format!("commit {}", kind.name()));
    let places = calls.chain(told).chain([QUIET.to_owned()]);
    places.flat_map(|place| [format!("{place}, before"), format!("{place}, after")]).collect()
}

/// What a transaction is called.
pub(crate) fn of_txn(txn: &Txn) -> Vec<String> {
    let kinds = txn.ops.iter().filter_map(|op| match op {
        Op::Append { prefix, value } if prefix == records::EVENTS => {
            Some(serde_json::from_slice::<Event>(value).expect("events are written as events").kind)
        }
        Op::Append { .. } | Op::Put { .. } | Op::Delete { .. } => None,
    });
    let mut names: Vec<String> = kinds.map(|kind| format!("commit {}", kind.name())).collect();
    names.dedup();
    if names.is_empty() { vec![QUIET.to_owned()] } else { names }
}

/// Which side of a call or a transaction.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Side {
    Before,
    After,
}

/// Kills this process where it is aimed at.
#[derive(Default)]
pub(crate) struct Trap(Mutex<Option<Aim>>);

impl Trap {
    pub(crate) fn aim(&self, aim: Option<Aim>) {
        *self.0.lock().unwrap() = aim;
    }

    /// This process comes by a point. If it is the one, it says so and is gone, with all of its threads.
    pub(crate) fn pass(&self, place: &str, side: Side) {
        let mut aimed = self.0.lock().unwrap();
        let Some(aim) = &mut *aimed else { return };
        let side = match side {
            Side::Before => ", before",
            Side::After => ", after",
        };
        if aim.point.strip_suffix(side) != Some(place) {
            return;
        }
        aim.time = aim.time.saturating_sub(1);
        if aim.time == 0 {
            say(&format!("died {}", aim.point));
            kill_process(getpid(), Signal::KILL).expect("a process may kill itself");
            loop {
                std::thread::park();
            }
        }
    }
}

/// Tells the suite a line, in one write, so that no kill cuts it.
pub(crate) fn say(line: &str) {
    std::io::stdout().lock().write_all(format!("\n{line}\n").as_bytes()).expect("the suite listens");
}
