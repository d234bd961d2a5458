//! What connects machines in system mode.

use std::net::Ipv4Addr;

use super::{Check, Group, Seen};
use crate::model::Subnet;

const GROUP: Group = Group::Network;

/// What is known of it.
#[derive(Clone, Debug)]
pub struct Network {
    /// Our bridge.
    pub bridge: String,
    /// Our guests' addresses.
    pub subnet: Subnet,
    /// The programs that are missing, with the packages that bring them.
    pub missing: Vec<(&'static str, &'static str)>,
    /// The host's routes.
    pub routes: Seen<Vec<Route>>,
    /// Other people's chains that drop what is forwarded.
    pub drops: Seen<Vec<Drop>>,
    /// Whether the kernel answers to nftables, and whether our tables are there.
    pub tables: Seen<bool>,
    /// Whether the kernel forwards packets.
    pub forwards: Seen<bool>,
    /// Whether a daemon runs, which makes its tables and switches forwarding on.
    pub serves: bool,
}

/// A route of the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Through which card.
    pub interface: String,
    /// To where.
    pub base: Ipv4Addr,
    /// How many bits of it count; a default route has none.
    pub prefix: u8,
}

/// A chain that drops what is forwarded unless a rule accepts it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drop {
    /// Which, as `ip filter FORWARD`.
    pub chain: String,
    /// Whether a rule accepts what comes from and goes to our bridge.
    pub lets_ours: bool,
    /// Whether it is Docker's, which has a chain for other people's rules.
    pub docker: bool,
}

impl Route {
    fn overlaps(&self, subnet: Subnet) -> bool {
        let shorter = self.prefix.min(subnet.prefix());
        let mask = u32::MAX.checked_shl(32 - u32::from(shorter)).unwrap_or(0);
        // Every address is on a default route.
        self.prefix > 0 && self.base.to_bits() & mask == subnet.base().to_bits() & mask
    }
}

/// Judges it.
pub fn judge(facts: &Network) -> Vec<Check> {
    let mut checks = programs(facts);
    checks.extend([subnet(facts), tables(facts), others(facts), forwarding(facts)]);
    checks
}

fn programs(facts: &Network) -> Vec<Check> {
    let missing = facts.missing.iter().map(|(program, package)| {
        let message = format!("there is no {program}, which system mode needs");
        Check::fail(GROUP, "programs", message, format!("install the package {package}")).stopping()
    });
    match facts.missing.is_empty() {
        true => vec![Check::ok(GROUP, "programs", "nft, ip, conntrack and dnsmasq are there")],
        false => missing.collect(),
    }
}

fn subnet(facts: &Network) -> Check {
    let name = "subnet";
    let routes = match &facts.routes {
        Ok(routes) => routes,
        Err(why) => return Check::unknown(GROUP, name, why),
    };
    match routes.iter().find(|route| route.interface != facts.bridge && route.overlaps(facts.subnet)) {
        None => {
            Check::ok(GROUP, name, format!("{} on {}, and no route of this host is in it", facts.subnet, facts.bridge))
        }
        Some(Route { interface, base, prefix }) => {
            let message = format!("{} of guests overlaps with {base}/{prefix} on {interface}", facts.subnet);
            Check::fail(GROUP, name, message, "choose another in 'hypervisor.subnet'")
        }
    }
}

fn tables(facts: &Network) -> Check {
    let name = "nftables";
    match (&facts.tables, facts.serves) {
        (Ok(true), _) => Check::ok(GROUP, name, "it answers, and our tables are there"),
        (Ok(false), false) => Check::ok(GROUP, name, "it answers; the daemon makes its tables when it starts"),
        (Ok(false), true) => {
            let message = "the daemon runs, and its tables are gone: no port leads to a machine";
            Check::fail(
                GROUP,
                name,
                message,
                "restart the daemon; whatever runs 'flush ruleset' has to leave them alone",
            )
        }
        (Err(why), _) => Check::unknown(GROUP, name, why),
    }
}

/// An accept of ours is not the end of a packet's way: every chain at the same hook has its say.
fn others(facts: &Network) -> Check {
    let name = "other firewall rules";
    let drops = match &facts.drops {
        Ok(drops) => drops,
        Err(why) => return Check::unknown(GROUP, name, why),
    };
    match drops.iter().find(|drop| !drop.lets_ours) {
        None => Check::ok(GROUP, name, "none of them drops what goes to machines"),
        Some(Drop { chain, docker, .. }) => {
            let message =
                format!("the chain '{chain}' drops what is forwarded: from other hosts, no machine can be reached");
            let into = if *docker { "DOCKER-USER" } else { "FORWARD" };
            let bridge = &facts.bridge;
            let remedy = format!(
                "let it pass, at every boot: 'iptables -I {into} -i {bridge} -j ACCEPT' and 'iptables -I {into} -o {bridge} -j \
                 ACCEPT', or the like in the firewall that owns the chain"
            );
            Check::fail(GROUP, name, message, remedy)
        }
    }
}

fn forwarding(facts: &Network) -> Check {
    let name = "forwarding";
    match (&facts.forwards, facts.serves) {
        (Ok(true), _) => Check::ok(GROUP, name, "net.ipv4.ip_forward is on"),
        (Ok(false), false) => {
            Check::ok(GROUP, name, "net.ipv4.ip_forward is off; the daemon switches it on when it starts")
        }
        (Ok(false), true) => {
            let message = "net.ipv4.ip_forward is off, and the daemon had switched it on";
            let remedy = "run 'sysctl -w net.ipv4.ip_forward=1', and see which file in /etc/sysctl.d says otherwise";
            Check::fail(GROUP, name, message, remedy)
        }
        (Err(why), _) => Check::unknown(GROUP, name, why),
    }
}
