//! The text of the nftables tables, and what nft tells of their elements. Pure.

use std::net::Ipv4Addr;

use serde_json::Value;

use super::nft::NftConfig;
use crate::hypervisor::xml;
use crate::model::Egress;

/// What is not the Internet: this host and network, private and shared ranges, links, examples, benchmarks, relays,
/// multicast and the rest that is routed nowhere.
const NOT_PUBLIC: &str = "0.0.0.0/8, 10.0.0.0/8, 100.64.0.0/10, 127.0.0.0/8, 169.254.0.0/16, 172.16.0.0/12, \
    192.0.0.0/24, 192.0.2.0/24, 192.88.99.0/24, 192.168.0.0/16, 198.18.0.0/15, 198.51.100.0/24, 203.0.113.0/24, \
    224.0.0.0/3";

/// A forward: from a port of the host to a port of a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) port: u16,
    pub(super) address: Ipv4Addr,
    pub(super) guest_port: u16,
}

/// A card, its addresses, and its machine's port; an element that somebody else put there has none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Card {
    pub(super) address: Ipv4Addr,
    /// As nft writes it, in small letters.
    pub(super) mac: String,
    pub(super) name: String,
    pub(super) port: Option<u16>,
}

/// The tables, whole. Sets keep their elements.
pub(super) fn ruleset(config: &NftConfig) -> String {
    let NftConfig { table, bind, network } = config;
    let (bridge, subnet) = (&network.bridge, network.subnet);
    let cards = xml::cards(bridge);
    let to_us = if bind.is_unspecified() { "fib daddr type local".into() } else { format!("ip daddr {bind}") };
    // In `reserved`: what comes past `enter` (see `super::bridge`). In `spoof`: what does not come through the bridge.
    // A beginning, and nothing else: what comes of a connection that the kernel was made to forget belongs to a machine
    // that ended. It goes nowhere, and this host answers it with an end.
    let opening = "tcp flags & (fin | syn | rst | ack) == syn";
    format!(
        "add table bridge {table}
add set bridge {table} guests {{ type ipv4_addr . ether_addr . ifname; }}
add set bridge {table} held {{ type ether_addr; }}
add set bridge {table} askers {{ type ifname; flags dynamic, timeout; timeout 5m; }}
add chain bridge {table} enter {{ type filter hook prerouting priority -300; }}
add chain bridge {table} reserved {{ type filter hook input priority -300; }}
add chain bridge {table} between {{ type filter hook forward priority 0; }}
flush chain bridge {table} enter
flush chain bridge {table} reserved
flush chain bridge {table} between
table bridge {table} {{
  chain enter {{
    iifname != \"{cards}*\" accept
    udp sport 68 udp dport 67 add @askers {{ iifname limit rate over 12/minute burst 12 packets }} drop
    ip saddr . ether saddr . iifname @guests accept
    arp saddr ip . ether saddr . iifname @guests arp saddr ip . arp saddr ether . iifname @guests accept
    ether saddr @held drop
    ip saddr 0.0.0.0 udp sport 68 udp dport 67 accept
    drop
  }}
  chain reserved {{
    iifname \"{cards}*\" ether daddr & ff:ff:ff:ff:ff:f0 == 01:80:c2:00:00:00 drop
  }}
  chain between {{
    iifname \"{cards}*\" oifname \"{cards}*\" drop
  }}
}}
add table ip {table}
add map ip {table} fwds {{ type inet_service : ipv4_addr . inet_service; }}
add set ip {table} internet {{ type ipv4_addr; }}
add set ip {table} anything {{ type ipv4_addr; }}
add chain ip {table} spoof {{ type filter hook prerouting priority -300; }}
add chain ip {table} arrive {{ type nat hook prerouting priority -100; }}
add chain ip {table} own {{ type nat hook output priority -100; }}
add chain ip {table} leave {{ type nat hook postrouting priority 100; }}
add chain ip {table} host {{ type filter hook input priority 0; }}
add chain ip {table} through {{ type filter hook forward priority 0; }}
flush chain ip {table} spoof
flush chain ip {table} arrive
flush chain ip {table} own
flush chain ip {table} leave
flush chain ip {table} host
flush chain ip {table} through
table ip {table} {{
  chain spoof {{
    iifname \"{cards}*\" drop
    iifname \"{bridge}\" ip daddr 127.0.0.0/8 drop
    iifname \"{bridge}\" ip saddr != {{ 0.0.0.0, {subnet} }} drop
  }}
  chain arrive {{
    iifname != \"{bridge}\" {to_us} {opening} dnat ip to tcp dport map @fwds
  }}
  chain own {{
    {to_us} {opening} dnat ip to tcp dport map @fwds
  }}
  chain leave {{
    ip saddr 127.0.0.0/8 oifname \"{bridge}\" masquerade
    ip saddr {subnet} oifname != \"{bridge}\" masquerade
  }}
  chain host {{
    iifname != \"{bridge}\" accept
    ct state established,related accept
    udp dport 67 accept
    ip saddr @anything accept
    ip saddr @internet meta l4proto {{ tcp, udp }} th dport 53 accept
    reject with icmp type admin-prohibited
  }}
  chain through {{
    iifname \"{bridge}\" ct state established,related accept
    iifname \"{bridge}\" oifname \"{bridge}\" drop
    iifname \"{bridge}\" ip saddr @anything accept
    iifname \"{bridge}\" ip saddr @internet ip daddr != {{ {NOT_PUBLIC} }} accept
    iifname \"{bridge}\" reject with icmp type admin-prohibited
    oifname \"{bridge}\" ct state established,related accept
    oifname \"{bridge}\" ct status dnat accept
    oifname \"{bridge}\" drop
  }}
}}
add table ip6 {table}
add chain ip6 {table} spoof {{ type filter hook prerouting priority -300; }}
flush chain ip6 {table} spoof
table ip6 {table} {{
  chain spoof {{
    iifname \"{cards}*\" drop
  }}
}}
"
    )
}

/// Opens a forward.
pub(super) fn forward(table: &str, entry: &Entry) -> String {
    let Entry { port, address, guest_port } = entry;
    format!("add element ip {table} fwds {{ {port} : {address} . {guest_port} }}\n")
}

/// Binds addresses to a card, with their egress. A guest that is bound may ask for its address anew, from none.
pub(super) fn addition(table: &str, card: &Card, egress: Egress) -> String {
    let Card { address, mac, name, port } = card;
    let port = port.map(|port| format!(" comment \"{port}\"")).unwrap_or_default();
    let guest = format!(
        "add element bridge {table} guests {{ {address} . {mac} . \"{name}\"{port}, 0.0.0.0 . {mac} . \"{name}\" }}\n\
         add element bridge {table} held {{ {mac} }}\n"
    );
    match egress {
        Egress::None => guest,
        Egress::Internet => format!("{guest}add element ip {table} internet {{ {address} }}\n"),
        Egress::All => format!("{guest}add element ip {table} anything {{ {address} }}\n"),
    }
}

/// Takes forwards and cards away. Adding what is taken away makes it no error that it is gone already.
pub(super) fn removal(table: &str, forwards: &[&Entry], cards: &[&Card]) -> String {
    let mut lines = String::new();
    for entry in forwards {
        lines.push_str(&format!("delete element ip {table} fwds {{ {} }}\n", entry.port));
    }
    for Card { address, mac, name, .. } in cards {
        let elements = [
            format!("bridge {table} guests {{ {address} . {mac} . \"{name}\", 0.0.0.0 . {mac} . \"{name}\" }}"),
            format!("bridge {table} held {{ {mac} }}"),
            format!("ip {table} internet {{ {address} }}"),
            format!("ip {table} anything {{ {address} }}"),
        ];
        elements.iter().for_each(|it| lines.push_str(&format!("add element {it}\ndelete element {it}\n")));
    }
    lines
}

/// Reads the forwards.
pub(super) fn parse_forwards(json: &str) -> Result<Vec<Entry>, String> {
    parse(json, "map", |element| {
        let port = |value: &Value| u16::try_from(value.as_u64()?).ok();
        let to = &element[1]["concat"];
        Some(Entry { port: port(&element[0])?, address: to[0].as_str()?.parse().ok()?, guest_port: port(&to[1])? })
    })
}

/// Reads the cards that have an address.
pub(super) fn parse_cards(json: &str) -> Result<Vec<Card>, String> {
    let mut cards = parse_guests(json)?;
    cards.retain(|card| !card.address.is_unspecified());
    Ok(cards)
}

/// Reads the cards, those too that may ask for an address anew.
pub(super) fn parse_guests(json: &str) -> Result<Vec<Card>, String> {
    parse(json, "set", |element| {
        // With a comment, an element is wrapped.
        let (wrapped, pair) = (&element["elem"], &element["elem"]["val"]["concat"]);
        let pair = if pair.is_array() { pair } else { &element["concat"] };
        Some(Card {
            address: pair[0].as_str()?.parse().ok()?,
            mac: pair[1].as_str()?.to_owned(),
            name: pair[2].as_str()?.to_owned(),
            port: wrapped["comment"].as_str().and_then(|port| port.parse().ok()),
        })
    })
}

/// Reads a set of addresses, of cards or of names; those that end by themselves are wrapped.
pub(super) fn parse_names(json: &str) -> Result<Vec<String>, String> {
    parse(json, "set", |element| Some(element.as_str().or(element["elem"]["val"].as_str())?.to_owned()))
}

fn parse<T>(json: &str, kind: &str, element: impl Fn(&Value) -> Option<T>) -> Result<Vec<T>, String> {
    let value: Value = serde_json::from_str(json).map_err(|error| format!("nft's answer is no JSON: {error}"))?;
    let objects = value["nftables"].as_array().ok_or("nft's answer has no list 'nftables'")?;
    let Some(found) = objects.iter().find_map(|object| object.get(kind)) else {
        return Err(format!("nft's answer has no {kind}"));
    };
    let elements = found["elem"].as_array().map(Vec::as_slice).unwrap_or_default();
    elements.iter().map(|e| element(e).ok_or_else(|| format!("nft told an element {e}"))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hypervisor::libvirt::NatNetwork;

    #[test]
    fn the_elements_are_read() {
        let json = r#"{"nftables": [{"metainfo": {"version": "1.0.6"}}, {"map": {"family": "ip", "name": "fwds",
            "table": "anweddol", "type": "inet_service", "handle": 1, "map": ["ipv4_addr", "inet_service"],
            "elem": [[10001, {"concat": ["192.168.127.5", 22]}], [10002, {"concat": ["192.168.127.6", 22]}]]}}]}"#;
        let entries = parse_forwards(json).unwrap();
        assert_eq!(entries.len(), 2);
        assert_eq!(entries[0], Entry { port: 10001, address: Ipv4Addr::new(192, 168, 127, 5), guest_port: 22 });
        assert_eq!(parse_forwards(r#"{"nftables": [{"map": {"name": "fwds"}}]}"#).unwrap(), []);
        let json = r#"{"nftables": [{"metainfo": {}}, {"set": {"name": "guests", "elem": [
            {"elem": {"val": {"concat": ["192.168.127.5", "52:54:00:0a:0b:0c", "a1b2c0123456789"]}, "comment": "10001"}},
            {"concat": ["0.0.0.0", "52:54:00:0a:0b:0c", "a1b2c0123456789"]},
            {"concat": ["192.168.127.6", "52:54:00:0a:0b:0c", "x"]}]}}]}"#;
        let mac = "52:54:00:0a:0b:0c";
        let card = |last, name: &str, port| Card {
            address: [192, 168, 127, last].into(),
            mac: mac.into(),
            name: name.into(),
            port,
        };
        assert_eq!(parse_cards(json).unwrap(), [card(5, "a1b2c0123456789", Some(10001)), card(6, "x", None)]);
        for bad in ["", "{}", r#"{"nftables": []}"#, r#"{"nftables": [{"map": {"elem": [[1, 2]]}}]}"#] {
            assert!(parse_forwards(bad).is_err() && parse_cards(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn names_are_read_with_and_without_an_end() {
        let json = r#"{"nftables": [{"set": {"name": "askers", "elem": [
            "192.168.127.5", {"elem": {"val": "a1b2c0123456789", "timeout": 300, "expires": 10}}]}}]}"#;
        assert_eq!(parse_names(json).unwrap(), ["192.168.127.5", "a1b2c0123456789"]);
        assert!(parse_names(r#"{"nftables": [{"set": {"elem": [{"concat": []}]}}]}"#).is_err());
    }

    #[test]
    fn an_address_is_in_the_set_of_its_egress_and_leaves_every_set() {
        let mac = "52:54:00:0a:0b:0c".to_owned();
        let card = Card { address: [192, 168, 127, 5].into(), mac, name: "a1b2c0123456789".into(), port: Some(10001) };
        for (egress, set) in
            [(Egress::None, None), (Egress::Internet, Some("internet")), (Egress::All, Some("anything"))]
        {
            let lines = addition("t", &card, egress);
            let guest = r#"guests { 192.168.127.5 . 52:54:00:0a:0b:0c . "a1b2c0123456789" comment "10001","#;
            assert!(lines.contains(guest), "{lines}");
            for name in ["internet", "anything"] {
                assert_eq!(lines.contains(&format!("ip t {name} ")), set == Some(name), "{lines}");
            }
        }
        let lines = removal("t", &[], &[&card]);
        for set in ["bridge t guests", "ip t internet", "ip t anything"] {
            assert!(lines.contains(&format!("delete element {set} {{ 192.168.127.5")), "{lines}");
        }
    }

    #[test]
    fn rules_are_for_the_bridge_the_cards_and_the_address_of_the_configuration() {
        let config = NftConfig::new(Ipv4Addr::new(192, 0, 2, 1), NatNetwork::default());
        let rules = ruleset(&config);
        assert!(rules.contains(&format!("iifname != \"{}*\" accept", xml::cards("anw0"))));
        assert!(rules.contains("iifname != \"anw0\" ip daddr 192.0.2.1 tcp"));
        // Into this host's IP, of either version, nothing comes from a card.
        assert_eq!(
            rules.matches(&format!("chain spoof {{\n    iifname \"{}*\" drop\n", xml::cards("anw0"))).count(),
            2
        );
        assert!(ruleset(&NftConfig { bind: Ipv4Addr::UNSPECIFIED, ..config }).contains("fib daddr type local tcp"));
    }
}
