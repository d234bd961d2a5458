//! `ip_filter`: who may connect.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use ipnet::{IpNet, Ipv4Net};
use serde::{Deserialize, Serialize};

use super::Faults;
use crate::model::text::from_text;

/// The longest list: each connection is compared with all of it.
const MOST_NETWORKS: usize = 10_000;
/// Bits before the IPv4 address in an IPv6 address that stands for one.
const MAPPED: u8 = 96;

/// Who may connect, by address. What is denied is denied, whatever else is allowed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct IpFilter {
    /// Only these, if there are any.
    pub allow: Vec<Cidr>,
    /// Never these.
    pub deny: Vec<Cidr>,
}

impl IpFilter {
    pub(super) fn check(&self, f: &mut Faults) {
        for (key, list) in [("ip_filter.allow", &self.allow), ("ip_filter.deny", &self.deny)] {
            let message = format!("write {MOST_NETWORKS} networks at most, or use the host's firewall");
            f.unless(list.len() <= MOST_NETWORKS, key, message);
        }
    }

    /// Whether an address may connect.
    pub fn admits(&self, address: IpAddr) -> bool {
        let within = |list: &[Cidr]| list.iter().any(|network| network.contains(address));
        !within(&self.deny) && (self.allow.is_empty() || within(&self.allow))
    }
}

/// A network of addresses, as `192.0.2.0/24`; an address alone is a network of one.
#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(into = "String")]
pub struct Cidr(IpNet);

impl Cidr {
    /// Whether an address is in it. An IPv4 address is the same in either notation: sockets for both families show it
    /// as `::ffff:192.0.2.1`.
    pub fn contains(self, address: IpAddr) -> bool {
        self.0.contains(&address.to_canonical())
    }

    /// The network of an address with this many leading bits in common.
    pub(crate) fn around(address: IpAddr, prefix: u8) -> Option<Cidr> {
        IpNet::new(address, prefix).ok().map(|network| Cidr(network.trunc()))
    }
}

/// What was written is no network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{written}' is no network of IP addresses: write ADDRESS/BITS, as 192.0.2.0/24 or 2001:db8::/32, or an address alone"
)]
pub struct CidrError {
    /// What was written.
    pub written: String,
}

impl FromStr for Cidr {
    type Err = CidrError;

    fn from_str(text: &str) -> Result<Self, CidrError> {
        let address = || text.parse::<IpAddr>().map(IpNet::from);
        let network = text.parse::<IpNet>().or_else(|_| address());
        let network = network.map_err(|_| CidrError { written: text.into() })?.trunc();
        let mapped = match network {
            IpNet::V6(long) if long.prefix_len() >= MAPPED => unmapped(long.addr(), long.prefix_len()),
            IpNet::V6(_) | IpNet::V4(_) => None,
        };
        Ok(Cidr(mapped.unwrap_or(network)))
    }
}

/// The IPv4 network that is written as an IPv6 one.
fn unmapped(address: Ipv6Addr, prefix: u8) -> Option<IpNet> {
    Ipv4Net::new(address.to_ipv4_mapped()?, prefix - MAPPED).ok().map(IpNet::V4)
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl From<Cidr> for String {
    fn from(network: Cidr) -> String {
        network.to_string()
    }
}

from_text!(Cidr);

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(allow: &[&str], deny: &[&str]) -> IpFilter {
        let list = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
        IpFilter { allow: list(allow), deny: list(deny) }
    }

    #[test]
    fn an_empty_list_allows_everybody_and_a_denial_wins() {
        for (allow, deny, address, admitted) in [
            (&[][..], &[][..], "203.0.113.9", true),
            (&[], &[], "2001:db8::1", true),
            (&["192.0.2.0/24"], &[], "192.0.2.255", true),
            (&["192.0.2.0/24"], &[], "192.0.3.0", false),
            (&["192.0.2.0/24"], &[], "2001:db8::1", false),
            (&["192.0.2.0/24"], &["192.0.2.7"], "192.0.2.7", false),
            (&["192.0.2.0/24"], &["192.0.2.7"], "192.0.2.8", true),
            (&["192.0.2.7"], &["192.0.0.0/16"], "192.0.2.7", false),
            (&[], &["2001:db8::/32"], "2001:db8:ffff::1", false),
            (&[], &["2001:db8::/32"], "2001:db9::1", true),
            (&[], &["0.0.0.0/0"], "198.51.100.1", false),
            (&[], &["0.0.0.0/0"], "2001:db8::1", true),
        ] {
            let said = filter(allow, deny).admits(address.parse().unwrap());
            assert_eq!(said, admitted, "{address} with {allow:?} and without {deny:?}");
        }
    }

    #[test]
    fn an_ipv4_address_is_the_same_in_either_notation() {
        for deny in ["192.0.2.7", "::ffff:192.0.2.7", "::ffff:192.0.2.0/120", "192.0.2.0/24"] {
            for address in ["192.0.2.7", "::ffff:192.0.2.7", "::ffff:c000:207"] {
                assert!(!filter(&[], &[deny]).admits(address.parse().unwrap()), "{address} and {deny}");
            }
        }
    }

    #[test]
    fn a_network_is_written_as_it_is_read() {
        for (written, is) in [
            ("192.0.2.77/24", "192.0.2.0/24"),
            ("192.0.2.7", "192.0.2.7/32"),
            ("2001:db8::1", "2001:db8::1/128"),
            ("::ffff:192.0.2.0/120", "192.0.2.0/24"),
            ("::/0", "::/0"),
        ] {
            assert_eq!(written.parse::<Cidr>().unwrap().to_string(), is);
        }
        for wrong in
            ["", "example.org", "192.0.2.0/33", "192.0.2/24", "192.0.2.0/", "2001:db8::/129", "10.0.0.0-10.0.0.9"]
        {
            let said = wrong.parse::<Cidr>().unwrap_err().to_string();
            assert!(said.contains(&format!("'{wrong}'")) && said.contains("192.0.2.0/24"), "{said}");
        }
    }
}
