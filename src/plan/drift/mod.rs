//! Drift: what is there and has no record, and what a record says and is not there. The one table of everything that
//! machines are made of and leave behind.
//!
//! | kind | made by | its owner is known by | it goes | where |
//! | --- | --- | --- | --- | --- |
//! | domain | [`Hypervisor::create`], transient | the mark in its metadata | `DestroyDomain`; also if somebody made it permanent or saved it | libvirt |
//! | disk | the same, for a disk image | its name, a UUID | `RemoveDisk`, after its domain | `STATE/disks`, ours alone |
//! | save file | libvirt, when an administrator saves a domain | the mark in the file; without libvirt's header, its name | with its domain; a sweep | `lib/qemu/save`, `lib/qemu/nvram` |
//! | QEMU log | libvirt | the instance in the command line at its top; in our own directory its name | with its domain; a sweep, for one that ended by itself | `log/qemu` |
//! | socket | libvirt and QEMU | its name | with its domain; a sweep, in our own directory | `lib/qemu`, `run/qemu` |
//! | tap | libvirt | its name on our bridge ([`card`]) | with its QEMU; a sweep | the kernel |
//! | DHCP lease | the network's dnsmasq | its card's address | a sweep; by itself after five minutes | our network |
//! | forward | `Publish` | its port | `Withdraw`; with QEMU in embedded mode | nftables' map, or QEMU |
//! | firewall element | [`Forwarder::admin`] | its port, card or address | `Withdraw`; a sweep | our nftables tables |
//! | connection | the kernel | the guest's address | `Withdraw`; a sweep; the kernel's own time | conntrack |
//! | login | with the container's record | its name | in the record's last transaction | `registry/credentials/` |
//! | held port | the same | the UUID in it, which its container bears | the same | `registry/ports/` |
//! | temporary file | whoever writes a file whole or not at all | the name, with a process that is gone | a sweep | `STATE` |
//!
//! Not among them: `snap.*.generating` of the store, which its next opening removes; members reserved for a claim, which
//! are in memory alone; and the logins and host keys that `anweddol create` and `ssh` keep for their user, which
//! `anweddol destroy` removes there.
//!
//! Rules, each by a test in `tests.rs`:
//!
//! - What has a record is owned, and what cannot be listed is unknown, never gone.
//! - Only what bears our mark, or lies in a place that is ours alone, is a leftover; the rest is somebody else's.
//! - What belongs to a domain that is still there waits for it. Whether one is there has to be known.
//!
//! The operator's sweep removes leftovers and nothing else ([`crate::operator`]); `anweddol doctor` shows all of it.
//!
//! [`Hypervisor::create`]: crate::hypervisor
//! [`Forwarder::admin`]: crate::guest
//! [`card`]: crate::hypervisor::xml

mod report;

#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::container::released;
use crate::model::{Container, DomainSeen, Listing, Mac, Phase, Trace, TraceKind, Whose};

pub use report::{Attention, Check, Outcome, Removal, Report, attention, forgetful};

/// How many digits of a machine's UUID the names have that have no room for all of it: of its card, and of the
/// directory that libvirt makes for it.
pub const BEGINNING: usize = 10;

/// What records own. It is made of all of them, at every look: of what they say it takes no copy that is longer than a
/// UUID (`what_a_container_owns_takes_no_copy_of_its_names`).
#[derive(Debug, Default)]
pub struct Owners<'a> {
    machines: HashSet<Uuid>,
    beginnings: HashSet<[u8; BEGINNING]>,
    ports: HashMap<u16, Uuid>,
    cards: HashSet<Mac>,
    addresses: HashSet<Ipv4Addr>,
    names: HashSet<(&'a str, &'a str)>,
    /// Machines that can be used: what they need has to be there.
    used: Vec<&'a Container>,
}

/// The digits that short names begin with.
pub fn beginning(uuid: Uuid) -> [u8; BEGINNING] {
    let mut digits = Uuid::encode_buffer();
    uuid.simple().encode_lower(&mut digits);
    *digits.first_chunk().expect("a UUID has more digits")
}

/// Of a container, as records are found by.
fn name(c: &Container) -> (&str, &str) {
    (&c.metadata.namespace, &c.metadata.name)
}

impl<'a> Owners<'a> {
    /// Of these containers. What is left of one without pool owns nothing.
    pub fn of(containers: impl IntoIterator<Item = &'a Container>) -> Self {
        let mut owners = Owners::default();
        for c in containers.into_iter().filter(|c| !released(c)) {
            let (uuid, machine) = (c.uuid(), &c.spec.machine);
            if matches!(c.status.phase, Phase::Ready | Phase::Bound) && !c.metadata.deleting() {
                owners.used.push(c);
            }
            owners.machines.insert(uuid);
            owners.beginnings.insert(beginning(uuid));
            owners.ports.insert(machine.port, uuid);
            owners.cards.insert(machine.mac);
            owners.addresses.extend(c.status.address);
            owners.names.insert(name(c));
        }
        owners
    }

    fn own(&self, trace: &Trace) -> bool {
        match &trace.whose {
            Whose::Marked(mark) => self.machines.contains(&mark.uid),
            // The port of one that holds another port now is not held by it.
            Whose::Machine(uuid) if trace.kind == TraceKind::Port => {
                trace.name.parse().is_ok_and(|port: u16| self.ports.get(&port) == Some(uuid))
            }
            Whose::Machine(uuid) => self.machines.contains(uuid),
            Whose::Beginning(digits) => {
                digits.as_bytes().try_into().is_ok_and(|digits| self.beginnings.contains::<[u8; BEGINNING]>(digits))
            }
            Whose::Port(port) => self.ports.contains_key(port),
            Whose::Card(mac) => mac.parse().is_ok_and(|mac: Mac| self.cards.contains(&mac)),
            Whose::Address(address) => self.addresses.contains(address),
            Whose::Container(namespace, name) => self.names.contains(&(&**namespace, &**name)),
            Whose::Nobody | Whose::Others(_) => false,
        }
    }
}

/// A domain as a trace.
pub fn domain(seen: DomainSeen) -> Trace {
    let whose = match seen.mark {
        Some(mark) if mark.uid == seen.uuid => Whose::Marked(mark),
        Some(mark) => Whose::Others(format!("it bears the mark of {}, and is another one: a copy", mark.uid)),
        None => Whose::Others("it bears no mark".into()),
    };
    Trace::new(TraceKind::Domain, seen.name, whose)
}

/// What is wrong with something.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Wrong {
    /// It is ours, and no record's: it may be removed.
    Leftover,
    /// The same, but its domain is still there: it goes after it.
    Waiting,
    /// A record needs it, and it is not there.
    Missing,
    /// Nothing, as far as we can tell: it is somebody else's and left alone.
    Others,
}

/// Something that is not as records say.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Drift {
    /// What it is.
    pub kind: TraceKind,
    /// What it is called.
    pub name: String,
    /// What is wrong with it.
    pub wrong: Wrong,
    /// Why, and what would be right.
    pub right: String,
}

/// What a look at one kind came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Looked {
    /// Which.
    pub kind: TraceKind,
    /// How many are there.
    pub found: usize,
    /// How many of them have a record.
    pub owned: usize,
    /// Why it is not known what is there; what was found all the same counts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unknown: Vec<String>,
}

/// A comparison of the world with the records.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Comparison {
    /// Kind by kind, in the order of [`TraceKind::ALL`]; those that were looked for.
    pub looked: Vec<Looked>,
    /// What is not as records say.
    pub drifts: Vec<Drift>,
    /// What may be removed: the traces behind [`Wrong::Leftover`].
    pub leftovers: Vec<Trace>,
}

/// Compares. The world has to be listed before the records are read: whatever is made meanwhile has its record first.
pub fn compare(instance: Uuid, owners: &Owners, listings: &[Listing]) -> Comparison {
    let domains = Domains::of(instance, listings);
    let mut comparison = Comparison::default();
    for kind in TraceKind::ALL {
        let listed: Vec<&Listing> = listings.iter().filter(|listing| listing.kind == kind).collect();
        if listed.is_empty() {
            continue;
        }
        let mut looked = Looked { kind, found: 0, owned: 0, unknown: Vec::new() };
        let mut there = BTreeSet::new();
        for listing in listed {
            match &listing.found {
                Ok(found) => there.extend(found),
                Err(why) => looked.unknown.push(why.clone()),
            }
        }
        looked.found = there.len();
        for &trace in &there {
            if owners.own(trace) && domains.is_ours(trace) {
                looked.owned += 1;
                continue;
            }
            match domains.wrong(trace) {
                Ok((wrong, right)) => {
                    if wrong == Wrong::Leftover {
                        comparison.leftovers.push(trace.clone());
                    }
                    comparison.drifts.push(Drift { kind, name: trace.name.clone(), wrong, right });
                }
                Err(why) => looked.unknown.push(format!("{}: {why}", trace.name)),
            }
        }
        if looked.unknown.is_empty() {
            comparison.drifts.extend(owners.missing(kind, &there));
        }
        comparison.looked.push(looked);
    }
    comparison
}

impl Owners<'_> {
    /// What machines that can be used need and do not have.
    fn missing(&self, kind: TraceKind, there: &BTreeSet<&Trace>) -> Vec<Drift> {
        let there: HashSet<Need<'_>> = there.iter().filter_map(|trace| Need::met_by(trace)).collect();
        let drift = |c: &Container| {
            let need = Need::of(c, kind).filter(|need| !there.contains(need))?;
            let called = match need {
                Need::Domain(_) | Need::Login(..) => c.uuid().to_string(),
                Need::Forward(port) | Need::Port(_, port) => port.to_string(),
            };
            let (namespace, name) = name(c);
            let right =
                format!("container {namespace}/{name} needs it: its next pass mends that, or takes the machine down");
            Some(Drift { kind, name: called, wrong: Wrong::Missing, right })
        };
        self.used.iter().copied().filter_map(drift).collect()
    }
}

/// What a machine needs. Looked up, not searched for: a look at everything takes each trace and each machine once, however
/// many there are of both.
#[derive(PartialEq, Eq, Hash)]
enum Need<'a> {
    Domain(Uuid),
    Login(&'a str, &'a str),
    Forward(u16),
    Port(Uuid, u16),
}

impl<'a> Need<'a> {
    /// What a machine that can be used needs of a kind.
    fn of(c: &'a Container, kind: TraceKind) -> Option<Need<'a>> {
        let ((namespace, name), port) = (name(c), c.spec.machine.port);
        match kind {
            TraceKind::Domain => Some(Need::Domain(c.uuid())),
            TraceKind::Credentials => Some(Need::Login(namespace, name)),
            TraceKind::Forward => Some(Need::Forward(port)),
            TraceKind::Port => Some(Need::Port(c.uuid(), port)),
            // They come and go while a machine is used, or are no machine's needs.
            TraceKind::Disk | TraceKind::Save | TraceKind::Log | TraceKind::Socket | TraceKind::Tap => None,
            TraceKind::Lease | TraceKind::Element | TraceKind::Flow | TraceKind::File => None,
        }
    }

    /// What something that is there would be for whoever needs it.
    fn met_by(trace: &'a Trace) -> Option<Need<'a>> {
        match &trace.whose {
            Whose::Marked(mark) => Some(Need::Domain(mark.uid)),
            Whose::Machine(uuid) => Some(Need::Port(*uuid, trace.name.parse().ok()?)),
            Whose::Port(port) => Some(Need::Forward(*port)),
            Whose::Container(namespace, name) => Some(Need::Login(namespace, name)),
            Whose::Beginning(_) | Whose::Card(_) | Whose::Address(_) | Whose::Nobody | Whose::Others(_) => None,
        }
    }
}

/// The domains that are there, whosoever they are.
struct Domains {
    instance: Uuid,
    /// `Err` where they cannot be listed.
    there: Result<HashSet<Uuid>, String>,
}

impl Domains {
    fn of(instance: Uuid, listings: &[Listing]) -> Self {
        let mut there = Ok(HashSet::new());
        for listing in listings.iter().filter(|listing| listing.kind == TraceKind::Domain) {
            match (&mut there, &listing.found) {
                (Ok(there), Ok(found)) => there.extend(found.iter().filter_map(uuid_of_domain)),
                (Ok(_), Err(why)) => there = Err(why.clone()),
                (Err(_), _) => {}
            }
        }
        Domains { instance, there }
    }

    /// Whether a mark, where there is one, is this installation's.
    fn is_ours(&self, trace: &Trace) -> bool {
        match &trace.whose {
            Whose::Marked(mark) => mark.instance == self.instance,
            Whose::Machine(_) | Whose::Beginning(_) | Whose::Port(_) | Whose::Card(_) => true,
            Whose::Address(_) | Whose::Container(..) | Whose::Nobody | Whose::Others(_) => true,
        }
    }

    /// What is wrong with something that no record owns; an error is why that cannot be said.
    fn wrong(&self, trace: &Trace) -> Result<(Wrong, String), String> {
        let leftover = || Ok((Wrong::Leftover, "it is ours and no record needs it: it should be gone".to_owned()));
        let its_domain = match &trace.whose {
            Whose::Others(why) => return Ok((Wrong::Others, format!("{why}: it is left alone"))),
            Whose::Marked(mark) if mark.instance != self.instance => {
                let right = format!("it is of another installation, {}: it is left alone", mark.instance);
                return Ok((Wrong::Others, right));
            }
            Whose::Marked(mark) if trace.kind == TraceKind::Save => self.has(|uuid| *uuid == mark.uid),
            // A port is closed before its machine is ended; records and files are no part of a machine.
            Whose::Marked(_) | Whose::Port(_) | Whose::Card(_) | Whose::Address(_) => return leftover(),
            Whose::Container(..) | Whose::Nobody => return leftover(),
            Whose::Machine(_) if trace.kind == TraceKind::Port => return leftover(),
            Whose::Machine(uuid) => self.has(|there| there == uuid),
            Whose::Beginning(digits) => self.has(|there| beginning(*there) == *digits.as_bytes()),
        };
        match its_domain {
            Ok(false) => leftover(),
            Ok(true) => Ok((Wrong::Waiting, "no record needs it, but its domain is there: it goes after that".into())),
            Err(why) => Err(format!("whether its domain is there is not known: {why}")),
        }
    }

    fn has(&self, is_it: impl Fn(&Uuid) -> bool) -> Result<bool, String> {
        self.there.as_ref().map(|there| there.iter().any(is_it)).map_err(Clone::clone)
    }
}

/// The UUID of a domain: in its mark, or in a name like ours.
fn uuid_of_domain(trace: &Trace) -> Option<Uuid> {
    match &trace.whose {
        Whose::Marked(mark) => Some(mark.uid),
        // An unmarked one can only be known by its name.
        _ => trace.name.get(trace.name.len().checked_sub(36)?..).and_then(|end| Uuid::parse_str(end).ok()),
    }
}
