//! The named points at which a daemon dies.
//!
//! All that a daemon does to the world is a call of one of its traits, and all that it remembers is a transaction: so
//! *before* and *after* each kind of call, and each kind of transaction by what it tells, are all the places where a
//! crash can leave something different behind, but for the insides of the store and the adapters: those that matter
//! are failpoints of the product ([`INSIDE`]; the adapters' are for the real program).

use std::io::Write;
use std::sync::{Arc, Mutex};

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

/// Failpoints that a daemon on a simulated world comes by.
const INSIDE: [&str; 10] = [
    "store-begun",
    "store-empty",
    "store-unsynced",
    "store-complete",
    "file-written",
    "file-named",
    "round-written",
    "round-synced",
    "round-applied",
    "store-flushed",
];

/// Of them, how many, from the first on, come only before the first record is there.
const AT_BIRTH: usize = 6;

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
    let sides = places.flat_map(|place| [format!("{place}, before"), format!("{place}, after")]);
    sides.chain(INSIDE.map(inside)).collect()
}

/// Those that come only while a state directory is new.
pub(crate) fn at_birth() -> Vec<String> {
    INSIDE[..AT_BIRTH].iter().copied().map(inside).collect()
}

fn inside(name: &str) -> String {
    format!("inside {name}")
}

/// Makes the trap see the failpoints.
pub(crate) fn arm(trap: &Arc<Trap>) {
    for name in INSIDE {
        let (trap, place) = (Arc::clone(trap), inside(name));
        fail::cfg_callback(name, move || trap.pass(&place)).expect("a name is a failpoint's");
    }
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

/// Kills this process where it is aimed at.
#[derive(Default)]
pub(crate) struct Trap(Mutex<Option<Aim>>);

impl Trap {
    pub(crate) fn aim(&self, aim: Option<Aim>) {
        *self.0.lock().unwrap() = aim;
    }

    /// This process is about to make a call or a transaction of this name.
    pub(crate) fn before(&self, place: &str) {
        self.pass(&format!("{place}, before"));
    }

    /// It has made it.
    pub(crate) fn after(&self, place: &str) {
        self.pass(&format!("{place}, after"));
    }

    /// This process comes by a point. If it is the one, it says so and is gone, with all of its threads.
    fn pass(&self, point: &str) {
        let mut aimed = self.0.lock().unwrap();
        let Some(aim) = &mut *aimed else { return };
        if aim.point != point {
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
