//! The NAT network of system mode: a bridge with a DHCP server, made by libvirt.
//!
//! Its forward mode is `open`: libvirt makes the bridge and serves addresses, and leaves packets alone. Packets are
//! the nftables table's part ([`crate::guest::forward::nft`]), because libvirt's own rules for `nat` reject every
//! connection that comes from outside, forwarded or not, and are written anew whenever it likes.

use std::net::Ipv4Addr;

use quick_xml::events::{BytesText, Event};
use quick_xml::{Reader, Writer, XmlVersion};
use uuid::Uuid;
use virt::connect::Connect;
use virt::error::{Error, ErrorNumber};
use virt::network::Network;

use crate::hypervisor::HypervisorError;
use crate::model::Subnet;

/// The names that guests give themselves are not used.
const IGNORE_NAMES: &str = "dhcp-ignore-names";

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
        NatNetwork { name: "anweddol".into(), bridge: "anw0".into(), subnet: Subnet::default() }
    }
}

/// The network's XML, for a new one or for the one that has this UUID.
fn xml(network: &NatNetwork, uuid: Option<Uuid>) -> std::io::Result<String> {
    let (first, last) = network.subnet.guests();
    let mask = Ipv4Addr::from_bits(network.subnet.mask());
    let mut w = Writer::new(Vec::new());
    let dnsmasq = ("xmlns:dnsmasq", "http://libvirt.org/schemas/network/dnsmasq/1.0");
    w.create_element("network").with_attribute(dnsmasq).write_inner_content(|w| {
        w.create_element("name").write_text_content(BytesText::new(&network.name))?;
        if let Some(uuid) = uuid {
            w.create_element("uuid").write_text_content(BytesText::new(&uuid.to_string()))?;
        }
        w.create_element("forward").with_attribute(("mode", "open")).write_empty()?;
        // Without spanning tree a new card forwards at once instead of after four seconds.
        w.create_element("bridge")
            .with_attributes([("name", network.bridge.as_str()), ("stp", "off"), ("delay", "0")])
            .write_empty()?;
        // Who may ask is the nftables tables' part.
        w.create_element("dns").with_attribute(("enable", "yes")).write_empty()?;
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
            // What a guest calls itself is nobody's business: no other one is to find it under a name of its choice.
            w.create_element("dnsmasq:option").with_attribute(("value", IGNORE_NAMES)).write_empty()?;
            Ok(())
        })?;
        Ok(())
    })?;
    String::from_utf8(w.into_inner()).map_err(std::io::Error::other)
}

/// Makes sure that the network runs. One of this name with another bridge or address is somebody else's.
pub(super) fn ensure(connect: &Connect, network: &NatNetwork) -> Result<(), HypervisorError> {
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
                || attribute(&there, "dns", "enable").as_deref() == Some("no")
            {
                return Err(invalid(format!(
                    "libvirt has a network of this name that was made otherwise: choose another name, or remove that \
                     one with `virsh net-destroy {0}; virsh net-undefine {0}`",
                    network.name
                )));
            }
            if !there.contains(IGNORE_NAMES) {
                // Made by an earlier version. Its server goes on as it was started, until the network's next start.
                let text =
                    xml(network, Some(found.uuid().map_err(refused)?)).map_err(|error| invalid(error.to_string()))?;
                connect.define_network_xml(&text).map_err(refused)?;
            }
            start(&found).map_err(|error| invalid(hint(&error)))
        }
        Err(error) if error.code() == ErrorNumber::NoNetwork.into() => {
            let text = xml(network, None).map_err(|error| invalid(error.to_string()))?;
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

/// Ends and forgets the network of this name, where there is one.
pub(super) fn remove(connect: &Connect, name: &str) -> Result<(), Error> {
    let network = match connect.lookup_network_by_name(name) {
        Err(error) if error.code() == ErrorNumber::NoNetwork.into() => return Ok(()),
        found => found?,
    };
    if network.is_active()? {
        network.destroy()?;
    }
    network.undefine()
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
    fn the_network_has_no_waits_and_short_leases() {
        let xml = xml(&NatNetwork::default(), None).unwrap();
        assert_eq!(attribute(&xml, "bridge", "stp").unwrap(), "off");
        assert_eq!(attribute(&xml, "dnsmasq:option", "value").unwrap(), "no-ping");
        assert_eq!(attribute(&xml, "lease", "expiry").unwrap(), "5");
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
