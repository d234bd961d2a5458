//! Forwards made by the kernel: one nftables table, one map from a port to a machine.
//!
//! The table is the whole of what this host does with guests' packets, in one place (see `ruleset`): who reaches
//! guests (those who come through a forward, and this host), and what guests reach (their DHCP server; with
//! [`Reach::Outside`] the world too; never each other, never this host's other services).
//!
//! It lives in the kernel: a daemon that starts again finds it and its forwards. Writing it anew is one transaction
//! that leaves the map alone, and connections that are open go on. Where somebody flushed all tables, the next
//! publication makes it again.
//!
//! Rules are written as text, from numbers and names that were checked; what is there is read as JSON.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::can_bind;
use crate::guest::{Forward, ForwardError, Forwarder, GUEST_SSH_PORT};
use crate::hypervisor::libvirt::NatNetwork;
use crate::hypervisor::xml::Reach;

/// How long nft may take: it takes a few milliseconds.
const DEADLINE: Duration = Duration::from_secs(10);
/// How often it is looked whether it ended.
const PAUSE: Duration = Duration::from_millis(2);

/// What the table is made for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NftConfig {
    /// The table's name; one daemon has one.
    pub table: String,
    /// The address that ports are published on; 0.0.0.0 means every address of this host.
    pub bind: Ipv4Addr,
    /// Where guests are.
    pub network: NatNetwork,
    /// What guests may reach by themselves.
    pub reach: Reach,
}

impl NftConfig {
    /// The usual table.
    pub fn new(bind: Ipv4Addr, network: NatNetwork, reach: Reach) -> Self {
        NftConfig { table: "anweddol".into(), bind, network, reach }
    }
}

/// Why the table could not be made.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the nftables table '{table}' could not be made: {reason}")]
pub struct SetUpError {
    /// Which.
    pub table: String,
    /// Why.
    pub reason: String,
}

/// Forwards by nftables.
pub struct NftForwarder {
    config: NftConfig,
}

/// One forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    port: u16,
    address: Ipv4Addr,
    guest_port: u16,
}

impl NftForwarder {
    /// Makes the table, or brings it up to date. The network's bridge has to exist.
    pub fn open(config: NftConfig) -> Result<Self, SetUpError> {
        let fail = |reason: String| SetUpError { table: config.table.clone(), reason };
        let table_name = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        if !config.table.bytes().all(table_name) || !config.table.starts_with(|c: char| c.is_ascii_alphabetic()) {
            return Err(fail("a table's name has letters, digits and '_' only, and begins with a letter".into()));
        }
        if config.network.bridge.bytes().any(|b| !b.is_ascii_alphanumeric() && !matches!(b, b'-' | b'_' | b'.')) {
            return Err(fail(format!("{:?} is no name for a bridge", config.network.bridge)));
        }
        let forwarder = NftForwarder { config };
        forwarder.set_up().map_err(|reason| SetUpError { table: forwarder.config.table.clone(), reason })?;
        Ok(forwarder)
    }

    fn set_up(&self) -> Result<(), String> {
        nft(&["-f", "-"], &ruleset(&self.config))?;
        switch_on(Path::new("/proc/sys/net/ipv4/ip_forward"))?;
        self.let_this_host_in()
    }

    /// Connections of this host to its own loopback address may leave through the bridge, after the table gave
    /// them the bridge's address. The table drops what comes back by the same way unasked.
    fn let_this_host_in(&self) -> Result<(), String> {
        let bridge = &self.config.network.bridge;
        switch_on(&PathBuf::from(format!("/proc/sys/net/ipv4/conf/{bridge}/route_localnet")))
    }

    fn entries(&self) -> Result<Vec<Entry>, String> {
        match nft(&["-j", "list", "map", "ip", &self.config.table, "fwds"], "") {
            Ok(json) => parse_map(&json),
            // Somebody flushed the tables: then nothing is forwarded.
            Err(reason) if is_missing(&reason) => Ok(Vec::new()),
            Err(reason) => Err(reason),
        }
    }

    fn entry(&self, port: u16) -> Result<Option<Entry>, ForwardError> {
        let entries = self.entries().map_err(|reason| ForwardError::Failed { port, reason })?;
        Ok(entries.into_iter().find(|entry| entry.port == port))
    }
}

impl Forwarder for NftForwarder {
    fn admin(&self, forward: &Forward) -> Result<SocketAddr, ForwardError> {
        let address = forward.address.ok_or(ForwardError::NoAddress { port: forward.port })?;
        Ok(SocketAddr::from((address, GUEST_SSH_PORT)))
    }

    fn publish(&self, forward: &Forward) -> Result<(), ForwardError> {
        let port = forward.port;
        let failed = |reason: String| ForwardError::Failed { port, reason };
        let address = forward.address.ok_or(ForwardError::NoAddress { port })?;
        if !self.config.network.subnet.has_guest(address) {
            return Err(failed(format!("{address} is no guest's address in {}", self.config.network.subnet)));
        }
        match self.entry(port)? {
            Some(there) if there.address == address && there.guest_port == GUEST_SSH_PORT => return Ok(()),
            Some(_) => return Err(ForwardError::Taken { port }),
            None => {}
        }
        // Forwards come before listeners: whoever listens there would be cut off without a word.
        if !can_bind(self.config.bind, port) {
            return Err(ForwardError::Taken { port });
        }
        let table = &self.config.table;
        let line = format!("add element ip {table} fwds {{ {port} : {address} . {GUEST_SSH_PORT} }}\n");
        match nft(&["-f", "-"], &line) {
            Err(reason) if is_missing(&reason) => {
                self.set_up().map_err(failed)?;
                nft(&["-f", "-"], &line).map_err(failed)?;
            }
            other => drop(other.map_err(failed)?),
        }
        self.let_this_host_in().map_err(failed)
    }

    fn withdraw(&self, forward: &Forward) -> Result<(), ForwardError> {
        let port = forward.port;
        if self.entry(port)?.is_none() {
            return Ok(());
        }
        let line = format!("delete element ip {} fwds {{ {port} }}\n", self.config.table);
        match nft(&["-f", "-"], &line) {
            Ok(_) => Ok(()),
            Err(reason) if is_missing(&reason) => Ok(()),
            Err(reason) => Err(ForwardError::Failed { port, reason }),
        }
    }

    fn is_published(&self, forward: &Forward) -> Result<bool, ForwardError> {
        let leads_there = |entry: Entry| Some(entry.address) == forward.address && entry.guest_port == GUEST_SSH_PORT;
        Ok(self.entry(forward.port)?.is_some_and(leads_there))
    }

    fn connections(&self, forward: &Forward) -> Result<u32, ForwardError> {
        Err(ForwardError::Failed { port: forward.port, reason: "connections are not counted".into() })
    }

    fn list(&self) -> Result<Vec<u16>, ForwardError> {
        let entries = self.entries().map_err(|reason| ForwardError::Failed { port: 0, reason })?;
        Ok(entries.into_iter().map(|entry| entry.port).collect())
    }

    fn is_free(&self, port: u16) -> bool {
        matches!(self.entry(port), Ok(None)) && can_bind(self.config.bind, port)
    }
}

/// The table, whole.
fn ruleset(config: &NftConfig) -> String {
    let NftConfig { table, bind, network, reach } = config;
    let (bridge, subnet) = (&network.bridge, network.subnet);
    let to_us = if bind.is_unspecified() { "fib daddr type local".into() } else { format!("ip daddr {bind}") };
    let (names, out, masquerade) = match reach {
        Reach::Isolated => (String::new(), format!("iifname \"{bridge}\" drop"), String::new()),
        Reach::Outside => (
            format!("iifname \"{bridge}\" meta l4proto {{ tcp, udp }} th dport 53 accept"),
            format!("iifname \"{bridge}\" oifname \"{bridge}\" drop"),
            format!("ip saddr {subnet} oifname != \"{bridge}\" masquerade"),
        ),
    };
    format!(
        "add table ip {table}
add map ip {table} fwds {{ type inet_service : ipv4_addr . inet_service; }}
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
    iifname \"{bridge}\" ip daddr 127.0.0.0/8 drop
    iifname \"{bridge}\" ip saddr != {{ 0.0.0.0, {subnet} }} drop
  }}
  chain arrive {{
    iifname != \"{bridge}\" {to_us} dnat ip to tcp dport map @fwds
  }}
  chain own {{
    {to_us} dnat ip to tcp dport map @fwds
  }}
  chain leave {{
    ip saddr 127.0.0.0/8 oifname \"{bridge}\" masquerade
    {masquerade}
  }}
  chain host {{
    iifname \"{bridge}\" ct state established,related accept
    iifname \"{bridge}\" udp dport 67 accept
    {names}
    iifname \"{bridge}\" drop
  }}
  chain through {{
    iifname \"{bridge}\" ct state established,related accept
    {out}
    oifname \"{bridge}\" ct state established,related accept
    oifname \"{bridge}\" ct status dnat accept
    oifname \"{bridge}\" drop
  }}
}}
"
    )
}

/// Reads the map's elements.
fn parse_map(json: &str) -> Result<Vec<Entry>, String> {
    let value: Value = serde_json::from_str(json).map_err(|error| format!("nft's answer is no JSON: {error}"))?;
    let objects = value["nftables"].as_array().ok_or("nft's answer has no list 'nftables'")?;
    let Some(map) = objects.iter().find_map(|object| object.get("map")) else {
        return Err("nft's answer has no map".into());
    };
    let elements = map["elem"].as_array().map(Vec::as_slice).unwrap_or_default();
    elements.iter().map(|e| parse_element(e).ok_or_else(|| format!("nft told an element {e}"))).collect()
}

fn parse_element(element: &Value) -> Option<Entry> {
    let port = |value: &Value| u16::try_from(value.as_u64()?).ok();
    let to = &element[1]["concat"];
    Some(Entry { port: port(&element[0])?, address: to[0].as_str()?.parse().ok()?, guest_port: port(&to[1])? })
}

fn is_missing(reason: &str) -> bool {
    reason.contains("No such file or directory")
}

fn switch_on(file: &Path) -> Result<(), String> {
    let wrong = |error: io::Error| format!("{}: {error}", file.display());
    match std::fs::read_to_string(file).map_err(wrong)?.trim() {
        "1" => Ok(()),
        _ => std::fs::write(file, "1").map_err(wrong),
    }
}

/// Runs nft: its output, or its complaint.
fn nft(arguments: &[&str], input: &str) -> Result<String, String> {
    let mut child = Command::new("nft")
        .args(arguments)
        .env("LC_ALL", "C")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("nft could not be run: {error}; is the package nftables installed?"))?;
    let deadline = Instant::now() + DEADLINE;
    // In threads of their own, so that no full pipe can keep us past the deadline.
    let (stdin, input) = (child.stdin.take(), input.to_owned());
    thread::spawn(move || stdin.map(|mut stdin| stdin.write_all(input.as_bytes())));
    let (out, err) = (collect(child.stdout.take()), collect(child.stderr.take()));
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if Instant::now() < deadline => thread::sleep(PAUSE),
            Ok(None) => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!("nft did not end within {} s", DEADLINE.as_secs()));
            }
            Err(error) => return Err(format!("nft could not be waited for: {error}")),
        }
    };
    let (out, err) = (out.join().unwrap_or_default(), err.join().unwrap_or_default());
    match status.success() {
        true => Ok(out),
        false if err.contains("Operation not permitted") => Err(format!("{}: this needs root", err.trim())),
        false => Err(err.trim().to_owned()),
    }
}

fn collect(pipe: Option<impl Read + Send + 'static>) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        // What could be read is worth having.
        let _ = pipe.map(|mut pipe| pipe.read_to_end(&mut bytes));
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_maps_elements_are_read() {
        let json = r#"{"nftables": [{"metainfo": {"version": "1.0.6"}}, {"map": {"family": "ip", "name": "fwds",
            "table": "anweddol", "type": "inet_service", "handle": 1, "map": ["ipv4_addr", "inet_service"],
            "elem": [[10001, {"concat": ["192.168.127.5", 22]}], [10002, {"concat": ["192.168.127.6", 22]}]]}}]}"#;
        let entries = parse_map(json).unwrap();
        assert_eq!(entries.len(), 2);
        assert_eq!(entries[0], Entry { port: 10001, address: Ipv4Addr::new(192, 168, 127, 5), guest_port: 22 });
        assert_eq!(parse_map(r#"{"nftables": [{"map": {"name": "fwds"}}]}"#).unwrap(), []);
        for bad in ["", "{}", r#"{"nftables": []}"#, r#"{"nftables": [{"map": {"elem": [[1, 2]]}}]}"#] {
            assert!(parse_map(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn no_name_can_become_a_rule() {
        let with = |table: &str, bridge: &str| NftConfig {
            table: table.into(),
            network: NatNetwork { bridge: bridge.into(), ..NatNetwork::default() },
            ..NftConfig::new(Ipv4Addr::LOCALHOST, NatNetwork::default(), Reach::Isolated)
        };
        for (table, bridge) in [("a b", "x"), ("a;", "x"), ("", "x"), ("1a", "x"), ("a", "x\" drop\n"), ("a", "x y")] {
            assert!(NftForwarder::open(with(table, bridge)).is_err(), "{table:?} {bridge:?}");
        }
    }

    #[test]
    fn isolated_guests_reach_nothing_by_themselves() {
        let config = NftConfig::new(Ipv4Addr::UNSPECIFIED, NatNetwork::default(), Reach::Isolated);
        let isolated = ruleset(&config);
        assert!(isolated.contains("iifname \"anw0\" drop\n    oifname") && !isolated.contains("dport 53"));
        let outside = ruleset(&NftConfig { reach: Reach::Outside, ..config });
        assert!(outside.contains("ip saddr 192.168.127.0/24 oifname != \"anw0\" masquerade"));
        assert!(outside.contains("iifname \"anw0\" oifname \"anw0\" drop"));
    }

    #[test]
    fn a_machine_without_address_is_not_published() {
        let config = NftConfig::new(Ipv4Addr::LOCALHOST, NatNetwork::default(), Reach::Isolated);
        let forwarder = NftForwarder { config };
        let forward = Forward { uuid: uuid::Uuid::nil(), port: 1, address: None };
        assert!(matches!(forwarder.admin(&forward), Err(ForwardError::NoAddress { port: 1 })));
        assert!(matches!(forwarder.publish(&forward), Err(ForwardError::NoAddress { port: 1 })));
        let elsewhere = Forward { address: Some(Ipv4Addr::new(10, 1, 1, 1)), ..forward };
        assert!(matches!(forwarder.publish(&elsewhere), Err(ForwardError::Failed { .. })));
    }
}
