//! The NAT network of system mode: a bridge with a DHCP server, made by libvirt.
//!
//! Its forward mode is `open`: libvirt makes the bridge and serves addresses, and leaves packets alone. Packets are
//! the nftables table's part ([`crate::guest::forward::nft`]), because libvirt's own rules for `nat` reject every
//! connection that comes from outside, forwarded or not, and are written anew whenever it likes.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use quick_xml::events::Event;
use quick_xml::{Reader, Writer, XmlVersion};
use virt::connect::Connect;
use virt::error::{Error, ErrorNumber};
use virt::network::Network;

use crate::hypervisor::HypervisorError;
use crate::hypervisor::xml::Reach;

/// A NAT network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NatNetwork {
    /// Its name in libvirt.
    pub name: String,
    /// Its bridge on the host, at most 15 letters.
    pub bridge: String,
    /// Its addresses.
    pub subnet: Subnet,
}

impl Default for NatNetwork {
    fn default() -> Self {
        NatNetwork {
            name: "anweddol".into(),
            bridge: "anw0".into(),
            subnet: Subnet { base: Ipv4Addr::new(192, 168, 127, 0), prefix: 24 },
        }
    }
}

/// A range of private addresses. The first is the host's, the others but the last are guests'.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Subnet {
    base: Ipv4Addr,
    prefix: u8,
}

/// Why a text is no subnet.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{text}' is no subnet for guests: write a private IPv4 network of 8 to 28 bits, as in 192.168.127.0/24")]
pub struct ParseSubnetError {
    /// What was given.
    pub text: String,
}

impl Subnet {
    /// The host's own address in it.
    pub fn gateway(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.base.to_bits() + 1)
    }

    /// The first and the last address of guests.
    pub fn guests(self) -> (Ipv4Addr, Ipv4Addr) {
        (
            Ipv4Addr::from_bits(self.base.to_bits() + 2),
            Ipv4Addr::from_bits(self.base.to_bits() | (!self.mask() >> 1 << 1)),
        )
    }

    /// Whether a guest can have this address: guests are not trusted, and a forward to an address outside would
    /// lead to somebody else.
    pub fn has_guest(self, address: Ipv4Addr) -> bool {
        let (first, last) = self.guests();
        (first..=last).contains(&address)
    }

    /// Its base address.
    pub fn base(self) -> Ipv4Addr {
        self.base
    }

    /// Its length in bits.
    pub fn prefix(self) -> u8 {
        self.prefix
    }

    fn mask(self) -> u32 {
        u32::MAX << (32 - u32::from(self.prefix))
    }
}

impl FromStr for Subnet {
    type Err = ParseSubnetError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parse = || {
            let (base, prefix) = text.split_once('/')?;
            let subnet = Subnet { base: base.parse().ok()?, prefix: prefix.parse().ok()? };
            let whole = (8..=28).contains(&subnet.prefix) && subnet.base.to_bits() & !subnet.mask() == 0;
            (whole && subnet.base.is_private()).then_some(subnet)
        };
        parse().ok_or_else(|| ParseSubnetError { text: text.into() })
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.base, self.prefix)
    }
}

/// The network's XML.
pub(super) fn xml(network: &NatNetwork, reach: Reach) -> std::io::Result<String> {
    // Names of guests are no secret, but an isolated guest has nobody to ask either.
    let dns = match reach {
        Reach::Isolated => "no",
        Reach::Outside => "yes",
    };
    let (first, last) = network.subnet.guests();
    let mask = Ipv4Addr::from_bits(network.subnet.mask());
    let mut w = Writer::new(Vec::new());
    let dnsmasq = ("xmlns:dnsmasq", "http://libvirt.org/schemas/network/dnsmasq/1.0");
    w.create_element("network").with_attribute(dnsmasq).write_inner_content(|w| {
        w.create_element("name").write_text_content(quick_xml::events::BytesText::new(&network.name))?;
        w.create_element("forward").with_attribute(("mode", "open")).write_empty()?;
        // Without spanning tree a new card forwards at once instead of after four seconds.
        w.create_element("bridge")
            .with_attributes([("name", network.bridge.as_str()), ("stp", "off"), ("delay", "0")])
            .write_empty()?;
        w.create_element("dns").with_attribute(("enable", dns)).write_empty()?;
        let (gateway, mask) = (network.subnet.gateway().to_string(), mask.to_string());
        let ip = w.create_element("ip").with_attributes([("address", gateway.as_str()), ("netmask", mask.as_str())]);
        ip.write_inner_content(|w| {
            w.create_element("dhcp").write_inner_content(|w| {
                let (first, last) = (first.to_string(), last.to_string());
                let range =
                    w.create_element("range").with_attributes([("start", first.as_str()), ("end", last.as_str())]);
                range.write_inner_content(|w| {
                    // Guests are short-lived and each has a new card: long leases would use up the range.
                    w.create_element("lease").with_attributes([("expiry", "5"), ("unit", "minutes")]).write_empty()?;
                    Ok(())
                })?;
                Ok(())
            })?;
            Ok(())
        })?;
        w.create_element("dnsmasq:options").write_inner_content(|w| {
            // The server would ping every address for three seconds before it gives it away.
            w.create_element("dnsmasq:option").with_attribute(("value", "no-ping")).write_empty()?;
            Ok(())
        })?;
        Ok(())
    })?;
    String::from_utf8(w.into_inner()).map_err(std::io::Error::other)
}

/// Makes sure that the network runs. One of this name with another bridge or address is somebody else's.
pub(super) fn ensure(connect: &Connect, network: &NatNetwork, reach: Reach) -> Result<(), HypervisorError> {
    let invalid = |reason: String| HypervisorError::Invalid {
        what: format!("network '{}' on {}", network.name, network.subnet),
        reason,
    };
    let refused = |error: Error| invalid(error.message().to_owned());
    check(network).map_err(invalid)?;
    match connect.lookup_network_by_name(&network.name) {
        Ok(found) => {
            let there = found.xml_desc(0).map_err(refused)?;
            let address = attribute(&there, "ip", "address");
            if attribute(&there, "bridge", "name").as_deref() != Some(&network.bridge)
                || address.as_deref() != Some(&network.subnet.gateway().to_string())
                || attribute(&there, "forward", "mode").as_deref() != Some("open")
            {
                return Err(invalid(format!(
                    "libvirt has a network of this name that was made otherwise: choose another name, or remove that \
                     one with `virsh net-destroy {0}; virsh net-undefine {0}`",
                    network.name
                )));
            }
            start(&found).map_err(|error| invalid(hint(&error)))
        }
        Err(error) if error.code() == ErrorNumber::NoNetwork.into() => {
            let text = xml(network, reach).map_err(|error| invalid(error.to_string()))?;
            let made = connect.define_network_xml(&text).map_err(refused)?;
            start(&made).map_err(|error| {
                // What cannot start is of no use later either.
                let _ = made.undefine();
                invalid(hint(&error))
            })
        }
        Err(error) => Err(refused(error)),
    }
}

fn check(network: &NatNetwork) -> Result<(), String> {
    let plain = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
    if network.name.is_empty() || !plain(&network.name) {
        return Err("a network's name has letters, digits, '-', '_' and '.' only".into());
    }
    if !(1..=15).contains(&network.bridge.len()) || !plain(&network.bridge) || network.bridge.starts_with('.') {
        return Err(format!("'{}' is no name for a bridge: at most 15 letters and digits", network.bridge));
    }
    Ok(())
}

fn start(network: &Network) -> Result<(), Error> {
    match network.is_active()? {
        true => Ok(()),
        false => match network.create() {
            // Somebody was faster.
            Err(_) if network.is_active()? => Ok(()),
            other => other,
        },
    }
}

fn hint(error: &Error) -> String {
    let text = error.message();
    match text.contains("already in use") {
        true => format!("{text}: choose another subnet for guests"),
        false => text.to_owned(),
    }
}

/// The first attribute `key` of the first element `name`.
fn attribute(xml: &str, name: &str, key: &str) -> Option<String> {
    let mut reader = Reader::from_str(xml);
    loop {
        match reader.read_event().ok()? {
            Event::Start(element) | Event::Empty(element) if element.name().as_ref() == name => {
                let attribute = element.try_get_attribute(key).ok()??;
                return Some(attribute.normalized_value(XmlVersion::Implicit1_0).ok()?.into_owned());
            }
            Event::Eof => return None,
            // Anything else is not what is looked for.
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subnet_is_private_and_whole() {
        let subnet: Subnet = "192.168.127.0/24".parse().unwrap();
        assert_eq!(subnet, NatNetwork::default().subnet);
        assert_eq!(subnet.gateway(), Ipv4Addr::new(192, 168, 127, 1));
        assert_eq!(subnet.guests(), (Ipv4Addr::new(192, 168, 127, 2), Ipv4Addr::new(192, 168, 127, 254)));
        let small: Subnet = "10.0.0.16/28".parse().unwrap();
        assert_eq!(small.guests(), (Ipv4Addr::new(10, 0, 0, 18), Ipv4Addr::new(10, 0, 0, 30)));
        for bad in ["", "192.168.127.0", "192.168.127.1/24", "8.8.8.0/24", "10.0.0.0/29", "10.0.0.0/7", "10.0.0.0/33"] {
            assert!(bad.parse::<Subnet>().is_err(), "{bad:?} was taken");
        }
    }

    #[test]
    fn only_guests_addresses_are_taken() {
        let subnet = NatNetwork::default().subnet;
        for (address, taken) in [
            ("192.168.127.2", true),
            ("192.168.127.254", true),
            ("192.168.127.1", false),
            ("192.168.127.0", false),
            ("192.168.127.255", false),
            ("192.168.126.9", false),
            ("127.0.0.1", false),
        ] {
            assert_eq!(subnet.has_guest(address.parse().unwrap()), taken, "{address}");
        }
    }

    #[test]
    fn the_network_has_no_waits_and_short_leases() {
        let xml = xml(&NatNetwork::default(), Reach::Isolated).unwrap();
        assert_eq!(attribute(&xml, "bridge", "stp").unwrap(), "off");
        assert_eq!(attribute(&xml, "dnsmasq:option", "value").unwrap(), "no-ping");
        assert_eq!(attribute(&xml, "lease", "expiry").unwrap(), "5");
        assert_eq!(attribute(&xml, "dns", "enable").unwrap(), "no");
        assert_eq!(attribute(&xml, "range", "end").unwrap(), "192.168.127.254");
    }

    #[test]
    fn names_that_are_none_are_refused() {
        for (name, bridge) in
            [("", "b"), ("a b", "b"), ("a;b", "b"), ("a", ""), ("a", "sixteen-letters-"), ("a", "b/c")]
        {
            let network = NatNetwork { name: name.into(), bridge: bridge.into(), ..NatNetwork::default() };
            assert!(check(&network).is_err(), "{name:?} {bridge:?}");
        }
    }
}
