//! What clients were told, and what the suite did: what the records are held against.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use anweddol::hypervisor::fake::FakeWorld;
use anweddol::model::Event;
use jiff::Timestamp;
use serde_json::Value;
use uuid::Uuid;

use crate::faults::{Breach, Faults};
use crate::link::Ask;

/// A machine that somebody was told they have.
#[derive(Clone, Debug)]
pub(crate) struct Grant {
    pub(crate) uuid: Uuid,
    pub(crate) by: Holder,
    pub(crate) username: String,
    pub(crate) password: String,
    pub(crate) port: u16,
    /// When its domain started: another time is another machine. Absent if it died too fast to be looked at.
    pub(crate) started: Option<Duration>,
    /// It was told to live until then, at least.
    pub(crate) until: Option<Timestamp>,
}

/// By what somebody has a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Holder {
    /// A wire client, by the token that DESTROY needs.
    Token(String),
    /// Whoever wrote the claim of this name.
    Claim(String),
}

/// Where a claim written as an object is, as far as its writer knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Known {
    /// It was asked for, and nobody answered: it is there or not.
    Asked,
    /// It is there.
    There,
    /// Its deletion was asked for, and nobody answered: it is there or not.
    Leaving,
    /// It is going, for good.
    Gone,
}

/// A claim written as an object.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    pub(crate) known: Known,
    /// The machine that it was seen bound to.
    pub(crate) bound: Option<Uuid>,
    /// Whether its login was asked for: that works once, answered or not.
    pub(crate) login_asked: bool,
}

/// All of it.
#[derive(Default)]
pub(crate) struct Ledger {
    /// Machines that their clients have.
    pub(crate) granted: BTreeMap<Uuid, Grant>,
    /// Those that their clients want to be rid of, and were not answered.
    pub(crate) leaving: BTreeMap<Uuid, Grant>,
    /// Those whose DESTROY was answered with success.
    pub(crate) destroyed: BTreeSet<Uuid>,
    /// Those that nobody gives back or ends.
    pub(crate) kept: BTreeSet<Uuid>,
    /// Extensions that were asked for: each is for longer than those before.
    pub(crate) extensions: u32,
    /// Machines that one is under way for: of two at once, whichever comes last counts, and nobody knows which.
    pub(crate) extending: BTreeSet<Uuid>,
    /// Every machine that anybody was ever told of, or was seen to have.
    pub(crate) told: BTreeSet<Uuid>,
    /// Guests that the suite ended, and when they had been started.
    pub(crate) killed: BTreeMap<Uuid, Duration>,
    /// Of them, those that a client had.
    pub(crate) lost: BTreeSet<Uuid>,
    /// Claims written as objects, by name.
    pub(crate) claims: BTreeMap<String, Wanted>,
    /// CREATE requests that were cut off since the last time that everything was checked.
    pub(crate) cut_off: usize,
    /// When daemons died, in order.
    pub(crate) deaths: Vec<Timestamp>,
    /// Acknowledgements given to clients.
    pub(crate) acknowledged: usize,
    /// Events as they were last seen: they stay as they are, for ever.
    pub(crate) log: Vec<(String, Value)>,
    /// The same, read.
    pub(crate) events: Arc<Vec<Event>>,
    /// What a daemon did to a machine that it must not do.
    pub(crate) breaches: Faults,
}

impl Ledger {
    /// Whether somebody has this machine, and its guest was not ended by the suite.
    fn in_hands(&self, uuid: Uuid) -> bool {
        let bound = |wanted: &Wanted| wanted.known == Known::There && wanted.bound == Some(uuid);
        (self.granted.contains_key(&uuid) || self.claims.values().any(bound)) && !self.killed.contains_key(&uuid)
    }

    /// When the daemon died that served at this moment; `None` if it lives.
    pub(crate) fn end_of_daemon_at(&self, moment: Timestamp) -> Option<Timestamp> {
        self.deaths.iter().find(|death| **death >= moment).copied()
    }

    /// Looks at a call before it is done: no daemon, however it recovers, ends or closes what somebody has, or starts
    /// again what ended.
    pub(crate) fn watch(&mut self, ask: &Ask, world: &FakeWorld) {
        let breach = match ask {
            Ask::Destroy(mark) if self.in_hands(mark.uid) => Some((mark.uid, "was ended while its client had it")),
            Ask::Withdraw(way) => {
                let holder = self.granted.values().find(|grant| grant.port == way.port);
                let holder = holder.map(|grant| grant.uuid).filter(|uuid| self.in_hands(*uuid));
                holder.map(|uuid| (uuid, "lost its forward while its client had it"))
            }
            Ask::Create(spec) if world.domains().iter().all(|domain| domain.uuid != spec.mark.uid) => {
                let uuid = spec.mark.uid;
                // One that nobody was told of may be started by a daemon that does not know it was: that is a fresh guest.
                let again = self.told.contains(&uuid);
                if !again {
                    self.killed.remove(&uuid);
                }
                again.then_some((uuid, "was started again"))
            }
            _ => None,
        };
        self.breaches.extend(breach.map(|(uuid, what)| Breach::Disturbed.of(format!("machine {uuid} {what}"))));
    }

    /// Somebody was told of a machine.
    pub(crate) fn grant(&mut self, grant: Grant) {
        self.acknowledged += 1;
        self.told.insert(grant.uuid);
        // It was killed before anybody was told of it, and started again: see `watch`, which real machines do not pass.
        let before = self.killed.get(&grant.uuid);
        if grant.started.is_some_and(|now| before.is_some_and(|before| now != *before)) {
            self.killed.remove(&grant.uuid);
        }
        // Its deletion may have overtaken its login.
        let stays = match &grant.by {
            Holder::Token(_) => true,
            Holder::Claim(name) => self.claims[name].known == Known::There,
        };
        let place = if stays { &mut self.granted } else { &mut self.leaving };
        place.insert(grant.uuid, grant);
    }

    /// Somebody is about to give back what they have.
    pub(crate) fn give_back(&mut self, by: &Holder) {
        let uuids: Vec<Uuid> = self.granted.values().filter(|grant| grant.by == *by).map(|grant| grant.uuid).collect();
        for uuid in uuids {
            self.leaving.extend(self.granted.remove_entry(&uuid));
        }
    }

    /// What a machine's client may do with their token was refused.
    pub(crate) fn refused(&mut self, uuid: Uuid, verb: &str, message: &str) {
        if !self.killed.contains_key(&uuid) {
            self.breaches.push(Breach::Lost.of(format!("{verb} of machine {uuid} was answered with '{message}'")));
        }
    }

    /// A machine's client was told how long it lives.
    pub(crate) fn extended(&mut self, uuid: Uuid, until: Option<Timestamp>) {
        self.acknowledged += 1;
        // It may have been given back meanwhile.
        if let Some(grant) = self.granted.get_mut(&uuid).or(self.leaving.get_mut(&uuid)) {
            grant.until = grant.until.max(until);
        }
    }
}
