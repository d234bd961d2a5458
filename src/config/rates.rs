//! `rates`: how much one address may ask for, and all of them together.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU32;

use serde::{Deserialize, Serialize};

use super::Faults;
use super::ip_filter::Cidr;

/// The most threads that can work on keys: those that the runtime has for work that blocks.
const MOST_EXCHANGES: u32 = 512;
/// The longest list: each connection is compared with all of it.
const MOST_EXEMPT: usize = 1000;

/// How much one address may ask for; `None`: as much as it likes. Behind one address there can be a class room, so the
/// defaults are what a hundred people need: each exchange of keys costs some milliseconds of a processor, and ten a
/// second are a few hundredths of one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rates {
    /// Connections in a minute, all of which may come at once: 600.
    pub connections_per_minute: Option<NonZeroU32>,
    /// Requests in a minute, all of which may come at once: 1,200. On the wire port each needs a connection of its own.
    pub requests_per_minute: Option<NonZeroU32>,
    /// Connections at the same time: 128.
    pub connections_per_address: Option<NonZeroU32>,
    /// Exchanges of keys at the same time, of all addresses together; `None`: one for each processor. More wait.
    pub key_exchanges: Option<NonZeroU32>,
    /// Networks to which none of the limits for an address applies: this host.
    pub exempt: Vec<Cidr>,
}

impl Default for Rates {
    fn default() -> Self {
        let loopback = [(IpAddr::V4(Ipv4Addr::LOCALHOST), 8), (IpAddr::V6(Ipv6Addr::LOCALHOST), 128)];
        Rates {
            connections_per_minute: NonZeroU32::new(600),
            requests_per_minute: NonZeroU32::new(1200),
            connections_per_address: NonZeroU32::new(128),
            key_exchanges: None,
            exempt: loopback.into_iter().filter_map(|(address, prefix)| Cidr::around(address, prefix)).collect(),
        }
    }
}

impl Rates {
    pub(super) fn check(&self, f: &mut Faults) {
        let exchanges = self.key_exchanges.is_none_or(|most| most.get() <= MOST_EXCHANGES);
        f.unless(
            exchanges,
            "rates.key_exchanges",
            format!("write 1 to {MOST_EXCHANGES}, or null for one for each processor"),
        );
        let exempt = self.exempt.len() <= MOST_EXEMPT;
        f.unless(exempt, "rates.exempt", format!("write {MOST_EXEMPT} networks at most"));
    }
}
