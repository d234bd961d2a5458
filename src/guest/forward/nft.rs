//! Forwards made by the kernel, and everything else that this host does with guests' packets: nftables tables of one
//! name in three families, written in one transaction (see `ruleset`).
//!
//! ```text
//!  guest ─► card on the bridge ─► table bridge: are its MAC and IP address those of this card? ─no─► dropped
//!                                          │ yes                       (DHCP until it is known, IPv6 never)
//!                                          ▼
//!                                 table ip: an answer? or does its address have egress? ─no─► rejected
//! ```
//!
//! A guest belongs to a stranger with every right in it: it may change both of its addresses. So they count only
//! together with the card that they come from, which the guest cannot choose: [`Forwarder::admin`] binds the three
//! before anybody logs in, a withdrawal takes them apart. What comes through has the addresses that it shows, the
//! bridge learns nothing wrong from it, and the second table can go by addresses: `internet` and `anything` hold those of
//! machines with that egress. Every element names its machine's port, and is found by it where its machine has no
//! record any more.
//!
//! Nothing goes around the first table. What the kernel would take from a card by itself is dropped or made to go through
//! it (see `bridge`); and whatever reaches this host's IP from a card and not from the bridge is dropped there once more,
//! in both versions, as with a card that has lost its bridge
//! (`no_frame_comes_to_this_host_past_the_tables_and_none_teaches_the_bridge` in `tests/libvirt`).
//!
//! Cards are known by their names ([`crate::hypervisor::xml::card`]). That guests' frames go to no other card is kept
//! twice: the bridge isolates its ports, and the table says so again.
//!
//! A port leads to the machine that has it now. With its withdrawal the connections through it are forgotten, and only the
//! opening of a new one is looked up: a client that still holds an old one is told that it is over, and what it sends
//! does not come to the machine that got the port since
//! (`what_is_left_of_a_machines_connection_never_comes_to_the_next_one_at_its_port` in `tests/libvirt`, and on real
//! machines `a_port_that_a_machine_had_leads_nowhere_and_then_to_the_next_one_alone` in `tests/guest`).
//!
//! All of it lives in the kernel: a daemon that starts again finds it. Writing it anew is one transaction that leaves
//! the sets alone, and connections that are open go on. Where somebody flushed all tables, the next publication makes
//! them again.
//!
//! Rules are written as text, from numbers and names that were checked; what is there is read as JSON.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::bridge;
use super::elements::{Element, Set};
use super::flows;
use super::table::{self, Card, Entry};
use super::{can_bind, published_at};
use crate::child::{ChildError, Program};
use crate::error_chain;
use crate::failpoint::failpoint;
use crate::guest::{Forward, ForwardError, Forwarder, GUEST_SSH_PORT};
use crate::hypervisor::libvirt::NatNetwork;
use crate::hypervisor::xml;
use crate::model::{Listing, Trace, TraceKind, Whose};

/// It takes a few milliseconds.
const NFT: Program = Program { name: "nft", package: "nftables", deadline: Duration::from_secs(10) };

/// The families that have a table of ours.
pub const FAMILIES: [&str; 3] = ["bridge", "ip", "ip6"];

/// What the tables are made for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NftConfig {
    /// The tables' name; one daemon has one.
    pub table: String,
    /// The address that ports are published on; 0.0.0.0 means every address of this host.
    pub bind: Ipv4Addr,
    /// Where guests are.
    pub network: NatNetwork,
}

impl NftConfig {
    /// The usual tables.
    pub fn new(bind: Ipv4Addr, network: NatNetwork) -> Self {
        NftConfig { table: "anweddol".into(), bind, network }
    }
}

/// Why the tables could not be made or removed.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the nftables tables '{table}' could not be made or removed: {reason}")]
pub struct SetUpError {
    /// Which.
    pub table: String,
    /// Why.
    pub reason: String,
}

/// Forwards by nftables.
pub struct NftForwarder {
    config: NftConfig,
    /// Held from reading what is there to writing what follows from it.
    writing: Mutex<()>,
}

/// What is there.
#[derive(Debug, Default)]
struct There {
    forwards: Vec<Entry>,
    cards: Vec<Card>,
}

impl NftForwarder {
    /// Makes the tables, or brings them up to date. The network's bridge has to exist.
    pub fn open(config: NftConfig) -> Result<Self, SetUpError> {
        let fail = |reason: String| SetUpError { table: config.table.clone(), reason };
        let table_name = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        if !config.table.bytes().all(table_name) || !config.table.starts_with(|c: char| c.is_ascii_alphabetic()) {
            return Err(fail("a table's name has letters, digits and '_' only, and begins with a letter".into()));
        }
        if config.network.bridge.bytes().any(|b| !b.is_ascii_alphanumeric() && !matches!(b, b'-' | b'_' | b'.')) {
            return Err(fail(format!("{:?} is no name for a bridge", config.network.bridge)));
        }
        // Without it, no machine's end would be the end of its connections.
        flows::check().map_err(|error| fail(error_chain(&error)))?;
        let forwarder = NftForwarder { config, writing: Mutex::default() };
        forwarder.set_up().map_err(|reason| SetUpError { table: forwarder.config.table.clone(), reason })?;
        Ok(forwarder)
    }

    fn set_up(&self) -> Result<(), String> {
        nft(&table::ruleset(&self.config))?;
        bridge::switch_on(Path::new("/proc/sys/net/ipv4/ip_forward"))?;
        bridge::set_up(&self.config.network.bridge)
    }

    fn forwards(&self) -> Result<Vec<Entry>, String> {
        self.listed(["map", "ip", &self.config.table, "fwds"], table::parse_forwards)
    }

    fn cards(&self) -> Result<Vec<Card>, String> {
        self.listed(["set", "bridge", &self.config.table, "guests"], table::parse_cards)
    }

    /// Every element of every set, but forwards.
    fn elements(&self) -> Result<Vec<Element>, String> {
        let (table, bridge) = (&self.config.table, &self.config.network.bridge);
        let guests = self.listed(["set", "bridge", table, "guests"], table::parse_guests)?;
        let mut elements: Vec<Element> = guests.iter().map(Element::of_card).collect();
        for set in Set::PLAIN {
            let names = self.listed(["set", set.family(), table, set.name()], table::parse_names)?;
            elements.extend(names.iter().map(|name| set.element(bridge, name)));
        }
        Ok(elements)
    }

    /// Somebody flushed the tables: then there is nothing.
    fn listed<T>(&self, what: [&str; 4], parse: fn(&str) -> Result<Vec<T>, String>) -> Result<Vec<T>, String> {
        let [kind, family, table, name] = what;
        match NFT.run(&["-j", "list", kind, family, table, name], "") {
            Ok(json) => parse(&json),
            Err(ChildError::Failed { said }) if is_missing(&said) => Ok(Vec::new()),
            Err(error) => Err(error_chain(&error)),
        }
    }

    fn there(&self) -> Result<There, String> {
        // Each is a program that is waited for.
        let (forwards, cards) = std::thread::scope(|scope| {
            let cards = scope.spawn(|| self.cards());
            (self.forwards(), cards.join())
        });
        let cards = cards.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        Ok(There { forwards: forwards?, cards: cards? })
    }

    /// The card that belongs to a machine's address.
    fn card(&self, forward: &Forward, address: Ipv4Addr) -> Card {
        let name = xml::card(&self.config.network.bridge, forward.uuid);
        Card { address, mac: forward.mac.to_ascii_lowercase(), name, port: Some(forward.port) }
    }

    /// The machine's address, where it is one of our guests'.
    fn address(&self, forward: &Forward) -> Result<Ipv4Addr, ForwardError> {
        let port = forward.port;
        let address = forward.address.ok_or(ForwardError::NoAddress { port })?;
        match self.config.network.subnet.has_guest(address) {
            true => Ok(address),
            false => {
                let reason = format!("{address} is no guest's address in {}", self.config.network.subnet);
                Err(ForwardError::Failed { port, reason })
            }
        }
    }

    /// Writes lines, in one transaction; where the tables are gone, with them.
    fn write(&self, lines: &str) -> Result<(), String> {
        match nft(lines) {
            Err(reason) if is_missing(&reason) => {
                self.set_up()?;
                nft(lines)
            }
            other => other,
        }
    }

    /// Binds an address to its machine's card and gives it its egress. Whatever is left of an earlier machine with
    /// one of these addresses, this card or port is taken away in the same transaction.
    fn bind(&self, forward: &Forward, address: Ipv4Addr, there: &There) -> Result<(), String> {
        let card = self.card(forward, address);
        // It becomes part of a rule.
        xml::check_mac(&card.mac).map_err(|error| error.to_string())?;
        if there.cards.contains(&card) {
            return Ok(());
        }
        let stale = |old: &&Card| {
            old.address == address || old.mac == card.mac || old.name == card.name || old.port == card.port
        };
        let cards: Vec<&Card> = there.cards.iter().filter(stale).collect();
        let leads_here = |old: &&Entry| old.address == address && old.port != forward.port;
        let forwards: Vec<&Entry> = there.forwards.iter().filter(leads_here).collect();
        let mut lines = table::removal(&self.config.table, &forwards, &cards);
        lines.push_str(&table::addition(&self.config.table, &card, forward.egress));
        self.write(&lines)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, ()> {
        self.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Forwarder for NftForwarder {
    fn admin(&self, forward: &Forward) -> Result<SocketAddr, ForwardError> {
        let address = self.address(forward)?;
        let failed = |reason: String| ForwardError::Failed { port: forward.port, reason };
        let _writing = self.lock();
        let there = self.there().map_err(failed)?;
        if !there.cards.contains(&self.card(forward, address)) {
            // What a predecessor at this address had open is nothing of its own. Before the two are bound: until then
            // nothing new can come up.
            flows::cut(address).map_err(|error| failed(error_chain(&error)))?;
        }
        self.bind(forward, address, &there).map_err(failed)?;
        Ok(SocketAddr::from((address, GUEST_SSH_PORT)))
    }

    fn public(&self, forward: &Forward) -> SocketAddr {
        published_at(self.config.bind, Ipv4Addr::LOCALHOST, forward.port)
    }

    fn publish(&self, forward: &Forward) -> Result<(), ForwardError> {
        let port = forward.port;
        let failed = |reason: String| ForwardError::Failed { port, reason };
        let address = self.address(forward)?;
        let _writing = self.lock();
        let there = self.there().map_err(failed)?;
        let wanted = Entry { port, address, guest_port: GUEST_SSH_PORT };
        let present = match there.forwards.iter().find(|entry| entry.port == port) {
            Some(entry) if *entry == wanted => true,
            Some(_) => return Err(ForwardError::Taken { port }),
            // Forwards come before listeners: whoever listens there would be cut off without a word.
            None if !can_bind(self.config.bind, port) => return Err(ForwardError::Taken { port }),
            None => false,
        };
        self.bind(forward, address, &there).map_err(failed)?;
        failpoint!("card-bound");
        if !present {
            self.write(&table::forward(&self.config.table, &wanted)).map_err(failed)?;
        }
        bridge::set_up(&self.config.network.bridge).map_err(failed)
    }

    fn withdraw(&self, forward: &Forward) -> Result<(), ForwardError> {
        let port = forward.port;
        let failed = |reason: String| ForwardError::Failed { port, reason };
        let _writing = self.lock();
        let there = self.there().map_err(failed)?;
        let forwards: Vec<&Entry> = there.forwards.iter().filter(|entry| entry.port == port).collect();
        let cards: Vec<&Card> = there.cards.iter().filter(|card| card.port == Some(port)).collect();
        if forwards.is_empty() && cards.is_empty() {
            return Ok(());
        }
        match nft(&table::removal(&self.config.table, &forwards, &cards)) {
            Err(reason) if is_missing(&reason) => {}
            other => other.map_err(failed)?,
        }
        let addresses: BTreeSet<Ipv4Addr> =
            forwards.iter().map(|entry| entry.address).chain(cards.iter().map(|card| card.address)).collect();
        addresses.into_iter().try_for_each(flows::cut).map_err(|error| failed(error_chain(&error)))
    }

    fn is_published(&self, forward: &Forward) -> Result<bool, ForwardError> {
        let failed = |reason: String| ForwardError::Failed { port: forward.port, reason };
        let Some(address) = forward.address else {
            let forwards = self.forwards().map_err(failed)?;
            return Ok(forwards.iter().any(|entry| entry.port == forward.port));
        };
        let there = self.there().map_err(failed)?;
        let wanted = Entry { port: forward.port, address, guest_port: GUEST_SSH_PORT };
        let is_there = there.forwards.contains(&wanted) && there.cards.contains(&self.card(forward, address));
        Ok(is_there && bridge::is_set_up(&self.config.network.bridge) != Some(false))
    }

    fn connections(&self, forward: &Forward) -> Result<u32, ForwardError> {
        let port = forward.port;
        let address = forward.address.ok_or(ForwardError::NoAddress { port })?;
        flows::established(port, address).map_err(|error| ForwardError::Failed { port, reason: error_chain(&error) })
    }

    /// Ports that lead somewhere, and those of machines whose address is bound to a card.
    fn list(&self) -> Result<Vec<u16>, ForwardError> {
        let there = self.there().map_err(|reason| ForwardError::Failed { port: 0, reason })?;
        let ports = there.forwards.iter().map(|entry| entry.port);
        let ports: BTreeSet<u16> = ports.chain(there.cards.iter().filter_map(|card| card.port)).collect();
        Ok(ports.into_iter().collect())
    }

    fn traces(&self) -> Vec<Listing> {
        let elements = self.elements().map(|elements| elements.into_iter().map(|element| element.trace).collect());
        let flow = |address: Ipv4Addr| Trace::new(TraceKind::Flow, address.to_string(), Whose::Address(address));
        let flows = flows::guests(self.config.network.subnet).map(|guests| guests.into_iter().map(flow).collect());
        let flows = flows.map_err(|error| error_chain(&error));
        vec![Listing::new(TraceKind::Element, elements), Listing::new(TraceKind::Flow, flows)]
    }

    fn remove_trace(&self, trace: &Trace) -> Result<(), ForwardError> {
        if let Whose::Port(port) = trace.whose {
            return self.withdraw(&Forward::of_port(port));
        }
        let failed = |reason: String| ForwardError::Failed { port: 0, reason: format!("{}: {reason}", trace.name) };
        let _writing = self.lock();
        let cards = self.cards().map_err(failed)?;
        let is_bound = |card: &Card| match &trace.whose {
            Whose::Address(address) => card.address == *address,
            Whose::Card(mac) => card.mac == *mac,
            Whose::Beginning(digits) => card.name.ends_with(digits.as_str()),
            Whose::Marked(_) | Whose::Machine(_) | Whose::Port(_) | Whose::Container(..) => true,
            Whose::Nobody | Whose::Others(_) => true,
        };
        // A machine that came meanwhile has it now.
        if cards.iter().any(is_bound) {
            return Ok(());
        }
        if let (TraceKind::Flow, Whose::Address(address)) = (trace.kind, &trace.whose) {
            return flows::cut(*address).map_err(|error| failed(error_chain(&error)));
        }
        let there = self.elements().map_err(failed)?;
        match there.iter().find(|element| element.trace == *trace) {
            Some(element) => match nft(&element.removal(&self.config.table)) {
                Err(reason) if is_missing(&reason) => Ok(()),
                other => other.map_err(failed),
            },
            None => Ok(()),
        }
    }

    fn is_free(&self, port: u16) -> bool {
        let taken = self.forwards().map(|there| there.iter().any(|entry| entry.port == port));
        matches!(taken, Ok(false)) && can_bind(self.config.bind, port)
    }
}

/// Removes the tables, where they are; what goes through them ends.
pub fn remove(config: &NftConfig) -> Result<(), SetUpError> {
    // Adding one that is removed makes it no error that it is gone already.
    let gone = |family| format!("add table {family} {0}\ndelete table {family} {0}\n", config.table);
    nft(&FAMILIES.map(gone).concat()).map_err(|reason| SetUpError { table: config.table.clone(), reason })
}

fn is_missing(reason: &str) -> bool {
    reason.contains("No such file or directory")
}

/// Runs a script: nothing, or nft's complaint.
fn nft(script: &str) -> Result<(), String> {
    NFT.run(&["-f", "-"], script).map_err(|error| error_chain(&error))?;
    failpoint!("nft-done");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_can_become_a_rule() {
        let with = |table: &str, bridge: &str| NftConfig {
            table: table.into(),
            network: NatNetwork { bridge: bridge.into(), ..NatNetwork::default() },
            ..NftConfig::new(Ipv4Addr::LOCALHOST, NatNetwork::default())
        };
        for (table, bridge) in [("a b", "x"), ("a;", "x"), ("", "x"), ("1a", "x"), ("a", "x\" drop\n"), ("a", "x y")] {
            assert!(NftForwarder::open(with(table, bridge)).is_err(), "{table:?} {bridge:?}");
        }
    }

    #[test]
    fn a_machine_without_address_is_not_published() {
        let config = NftConfig::new(Ipv4Addr::LOCALHOST, NatNetwork::default());
        let forwarder = NftForwarder { config, writing: Mutex::default() };
        let forward = Forward::of_port(1);
        assert!(matches!(forwarder.admin(&forward), Err(ForwardError::NoAddress { port: 1 })));
        assert!(matches!(forwarder.publish(&forward), Err(ForwardError::NoAddress { port: 1 })));
        assert!(matches!(forwarder.connections(&forward), Err(ForwardError::NoAddress { port: 1 })));
        let elsewhere = Forward { address: Some(Ipv4Addr::new(10, 1, 1, 1)), ..forward };
        assert!(matches!(forwarder.publish(&elsewhere), Err(ForwardError::Failed { .. })));
        assert!(matches!(forwarder.admin(&elsewhere), Err(ForwardError::Failed { .. })));
    }
}
