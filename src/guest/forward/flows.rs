//! The kernel's memory of connections to and from guests, through the tool `conntrack`.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::time::Duration;

use crate::child::{ChildError, Program};
use crate::guest::GUEST_SSH_PORT;
use crate::model::Subnet;

/// It takes a few milliseconds.
const CONNTRACK: Program = Program { name: "conntrack", package: "conntrack", deadline: Duration::from_secs(10) };

/// Whether the tool is there and may do its work.
pub(super) fn check() -> Result<(), ChildError> {
    CONNTRACK.run(&["--version"], "").map(drop)
}

/// How many connections to a port of the host are established with a guest. One whose client vanished without a word
/// counts until the kernel or the guest gives it up: who may be connected is not idle.
pub(super) fn established(port: u16, guest: Ipv4Addr) -> Result<u32, ChildError> {
    let arguments = ["-L", "-p", "tcp", "--state", "ESTABLISHED", "--orig-port-dst", &port.to_string()];
    Ok(count(&CONNTRACK.run(&arguments, "")?, port, guest))
}

/// The guests' addresses that the kernel remembers connections of.
pub(super) fn guests(subnet: Subnet) -> Result<BTreeSet<Ipv4Addr>, ChildError> {
    let (mut found, subnet_text) = (BTreeSet::new(), subnet.to_string());
    // From a guest, to it, and through a forward: the tool takes no subnet for where answers come from.
    for filter in [&["--orig-src", &subnet_text][..], &["--orig-dst", &subnet_text], &["--dst-nat"]] {
        let text = CONNTRACK.run(&[&["-L"], filter].concat(), "")?;
        found.extend(sources(&text).filter(|address| subnet.has_guest(*address)));
    }
    Ok(found)
}

/// Where connections and their answers come from.
fn sources(text: &str) -> impl Iterator<Item = Ipv4Addr> {
    text.split_whitespace().filter_map(|word| word.strip_prefix("src=")?.parse().ok())
}

/// Ends what is open to and from a guest's address: the next machine that has it is another one.
pub(super) fn cut(guest: Ipv4Addr) -> Result<(), ChildError> {
    let guest = guest.to_string();
    for side in ["--orig-src", "--reply-src"] {
        match CONNTRACK.run(&["-D", side, &guest], "") {
            // It calls it a failure that there was none.
            Err(ChildError::Failed { said }) if said.contains("flow entries have been deleted") => {}
            other => drop(other?),
        }
    }
    Ok(())
}

/// Counts in `tcp 6 431999 ESTABLISHED src=C dst=H sport=P dport=PORT src=GUEST dst=… sport=22 dport=… …`: first what was
/// asked for, then where answers come from.
fn count(text: &str, port: u16, guest: Ipv4Addr) -> u32 {
    let ours = |line: &&str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let nth = |key: &str, n: usize| words.iter().filter_map(|word| word.strip_prefix(key)).nth(n);
        words.first() == Some(&"tcp")
            && words.get(3) == Some(&"ESTABLISHED")
            && nth("dport=", 0) == Some(port.to_string().as_str())
            && nth("src=", 1) == Some(guest.to_string().as_str())
            && nth("sport=", 1) == Some(GUEST_SSH_PORT.to_string().as_str())
    };
    text.lines().filter(ours).count().try_into().unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_established_connections_through_the_port_to_the_guest_count() {
        let line = "tcp      6 431999 ESTABLISHED src=10.99.0.2 dst=10.99.0.1 sport=51234 dport=10001 \
                    src=192.168.127.50 dst=10.99.0.2 sport=22 dport=51234 [ASSURED] mark=0 use=1\n";
        let guest = Ipv4Addr::new(192, 168, 127, 50);
        assert_eq!(count(&line.repeat(3), 10001, guest), 3);
        assert_eq!(sources(line).collect::<Vec<_>>(), [Ipv4Addr::new(10, 99, 0, 2), guest]);
        for (from, to) in [
            ("ESTABLISHED", "TIME_WAIT"),
            ("ESTABLISHED", "SYN_SENT"),
            ("dport=10001", "dport=10002"),
            ("src=192.168.127.50", "src=192.168.127.51"),
            ("sport=22", "sport=23"),
            ("tcp ", "udp "),
        ] {
            assert_eq!(count(&line.replace(from, to), 10001, guest), 0, "{to}");
        }
        assert_eq!(count("\nconntrack v1.4.7 (conntrack-tools): 0 flow entries have been shown.\n", 1, guest), 0);
    }
}
