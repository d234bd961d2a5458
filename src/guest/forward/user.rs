//! Forwards made by each machine's own QEMU, through its monitor.
//!
//! ```text
//!   admin()                        publish()                    withdraw(), or the machine ends
//!   127.0.0.2:PORT ──► guest:22    BIND:PORT ──► guest:22       nothing
//! ```
//!
//! Until a machine is published only this host reaches it: its `endpoint` account has a password that everybody
//! knows. The two addresses always differ, so a connection tells for ever by which of them it came: those of set-up are
//! no user's, and what set-up left open keeps no machine from being idle.
//!
//! One that does not answer its monitor is asked no more until it does (`bounded.rs`), and costs nobody
//! else anything. What it forwards ends with it.
//!
//! A connection is one of its machine's QEMU from its beginning to its end: one that is still open when the port is closed
//! ends with the machine, and never comes to the next one at that port
//! (`a_port_that_a_machine_had_leads_nowhere_and_then_to_the_next_one_alone`).
//!
//! QEMU accepts a connection before the guest does: a port that takes connections says nothing about the guest.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use uuid::Uuid;

use super::bounded::Bounded;
use super::{can_bind, published_at};
use crate::failpoint::failpoint;
use crate::guest::{Forward, ForwardError, Forwarder, GUEST_SSH_PORT};
use crate::hypervisor::libvirt::Libvirt;
use crate::hypervisor::xml::USER_NETDEV;
use crate::hypervisor::{Hypervisor, HypervisorError};
use crate::model::DomainState;

/// The monitors of machines.
pub trait Monitor: Send + Sync + 'static {
    /// Sends a line to a machine's human monitor: `Ok(None)` if there is no such machine.
    fn command(&self, uuid: Uuid, line: &str) -> Result<Option<String>, HypervisorError>;

    /// All machines of ours that run.
    fn machines(&self) -> Result<Vec<Uuid>, HypervisorError>;
}

impl Monitor for Libvirt {
    fn command(&self, uuid: Uuid, line: &str) -> Result<Option<String>, HypervisorError> {
        self.monitor(uuid, line)
    }

    fn machines(&self) -> Result<Vec<Uuid>, HypervisorError> {
        let running = self.list()?.into_iter().filter(|domain| match domain.state {
            DomainState::Running | DomainState::Paused(_) => true,
            DomainState::Off => false,
        });
        Ok(running.map(|domain| domain.uuid).collect())
    }
}

/// The address that user networking gives every guest.
const GUEST: &str = "10.0.2.15";

/// Forwards by QEMU's user networking.
pub struct UserForwarder {
    monitor: Arc<dyn Monitor>,
    bind: Ipv4Addr,
}

/// One forward, or a connection through one, as QEMU tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Line {
    state: State,
    /// The host's address that it is on; of a connection, never that of its client.
    from: Ipv4Addr,
    port: u16,
    guest_port: u16,
}

/// What a line is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// A forward.
    Forward,
    /// A connection that is open in both directions.
    Established,
}

impl UserForwarder {
    /// Publishes ports on an address of the host; 0.0.0.0 means all of them.
    pub fn new(monitor: Arc<dyn Monitor>, bind: Ipv4Addr) -> Self {
        UserForwarder { monitor: Arc::new(Bounded::new(monitor)), bind }
    }

    /// Where this host reaches a machine for set-up: another loopback address than clients are told.
    fn local(&self) -> Ipv4Addr {
        let [first, second] = [Ipv4Addr::new(127, 0, 0, 2), Ipv4Addr::new(127, 0, 0, 3)];
        if self.bind == first { second } else { first }
    }

    fn command(&self, forward: &Forward, line: &str) -> Result<Option<String>, ForwardError> {
        let answer = self.monitor.command(forward.uuid, line);
        answer.map_err(|error| failed(forward.port, &error))
    }

    /// What the machine tells about this port, in one state; `None` if there is no such machine.
    fn lines(&self, forward: &Forward, state: State) -> Result<Option<Vec<Ipv4Addr>>, ForwardError> {
        let Some(text) = self.command(forward, "info usernet")? else { return Ok(None) };
        let ours = |line: &Line| line.state == state && line.port == forward.port && line.guest_port == GUEST_SSH_PORT;
        Ok(Some(parse_usernet(&text).into_iter().filter(ours).map(|line| line.from).collect()))
    }

    /// The machine's forwards of this port; `None` if there is no such machine.
    fn rules(&self, forward: &Forward) -> Result<Option<Vec<Ipv4Addr>>, ForwardError> {
        self.lines(forward, State::Forward)
    }

    fn rules_of_running(&self, forward: &Forward) -> Result<Vec<Ipv4Addr>, ForwardError> {
        self.rules(forward)?.ok_or_else(|| gone(forward))
    }

    fn add(&self, forward: &Forward, from: Ipv4Addr) -> Result<(), ForwardError> {
        let line = format!("hostfwd_add {USER_NETDEV} tcp:{from}:{}-:{GUEST_SSH_PORT}", forward.port);
        let answer = self.command(forward, &line)?.ok_or_else(|| gone(forward))?;
        failpoint!("port-opened");
        parse_add(forward.port, &answer)
    }

    fn remove(&self, forward: &Forward, from: Ipv4Addr) -> Result<(), ForwardError> {
        let line = format!("hostfwd_remove {USER_NETDEV} tcp:{from}:{}", forward.port);
        match self.command(forward, &line)? {
            Some(answer) => parse_remove(forward.port, &answer),
            None => Ok(()),
        }
    }
}

impl Forwarder for UserForwarder {
    fn admin(&self, forward: &Forward) -> Result<SocketAddr, ForwardError> {
        let (there, local) = (self.rules_of_running(forward)?, self.local());
        if there.contains(&self.bind) {
            // Published already, and nothing has to be opened.
            return Ok(self.public(forward));
        }
        if !there.contains(&local) {
            self.add(forward, local)?;
        }
        Ok(SocketAddr::from((local, forward.port)))
    }

    fn public(&self, forward: &Forward) -> SocketAddr {
        // 0.0.0.0 includes ours, where we are not taken for a user.
        published_at(self.bind, self.local(), forward.port)
    }

    fn publish(&self, forward: &Forward) -> Result<(), ForwardError> {
        let there = self.rules_of_running(forward)?;
        // The other one first: a listener on all addresses and one on a single one exclude each other. Connections
        // that are open stay open.
        for &from in there.iter().filter(|&&from| from != self.bind) {
            self.remove(forward, from)?;
        }
        failpoint!("port-closed");
        if there.contains(&self.bind) { Ok(()) } else { self.add(forward, self.bind) }
    }

    fn withdraw(&self, forward: &Forward) -> Result<(), ForwardError> {
        if forward.uuid.is_nil() {
            // A port alone: whichever machine it leads to.
            let machines = self.monitor.machines().map_err(|error| failed(forward.port, &error))?;
            return machines.into_iter().try_for_each(|uuid| self.withdraw(&Forward { uuid, ..forward.clone() }));
        }
        let there = self.rules(forward)?.unwrap_or_default();
        there.into_iter().try_for_each(|from| self.remove(forward, from))
    }

    fn is_published(&self, forward: &Forward) -> Result<bool, ForwardError> {
        Ok(self.rules(forward)?.is_some_and(|there| there.contains(&self.bind)))
    }

    fn connections(&self, forward: &Forward) -> Result<u32, ForwardError> {
        let open = self.lines(forward, State::Established)?.ok_or_else(|| gone(forward))?;
        let users = open.into_iter().filter(|&from| from != self.local()).count();
        Ok(users.try_into().unwrap_or(u32::MAX))
    }

    fn list(&self) -> Result<Vec<u16>, ForwardError> {
        let failed = |error: HypervisorError| failed(0, &error);
        let mut ports = Vec::new();
        for uuid in self.monitor.machines().map_err(failed)? {
            let text = self.monitor.command(uuid, "info usernet").map_err(failed)?.unwrap_or_default();
            let forwards = parse_usernet(&text).into_iter().filter(|line| line.state == State::Forward);
            ports.extend(forwards.map(|line| line.port));
        }
        ports.sort_unstable();
        ports.dedup();
        Ok(ports)
    }

    fn is_free(&self, port: u16) -> bool {
        can_bind(self.bind, port) && can_bind(self.local(), port)
    }
}

fn failed(port: u16, error: &HypervisorError) -> ForwardError {
    ForwardError::Failed { port, reason: error.to_string() }
}

fn gone(forward: &Forward) -> ForwardError {
    ForwardError::Failed { port: forward.port, reason: format!("there is no domain {}", forward.uuid) }
}

/// Reads the forwards of our back end, and the connections through them, from `info usernet`. A guest's own
/// connections are among the lines too, the other way round: from its address and a port of its choice.
fn parse_usernet(text: &str) -> Vec<Line> {
    let mut ours = false;
    let mut lines = Vec::new();
    for line in text.lines() {
        if !line.starts_with(' ') {
            // `Hub -1 (anwnet):`
            ours = line.contains(&format!("({USER_NETDEV})"));
            continue;
        }
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [kind, _, from, port, to, guest_port, ..] = fields[..] else { continue };
        let state = match kind {
            "TCP[HOST_FORWARD]" => State::Forward,
            // Nobody but us forwards to the guest, so what leads to it came through a forward.
            "TCP[ESTABLISHED]" if to == GUEST => State::Established,
            _ => continue,
        };
        let from = if from == "*" { Ok(Ipv4Addr::UNSPECIFIED) } else { from.parse() };
        if let (true, Ok(from), Ok(port), Ok(guest_port)) = (ours, from, port.parse(), guest_port.parse()) {
            lines.push(Line { state, from, port, guest_port });
        }
    }
    lines
}

/// Silence is success; everything else is told in words only.
fn parse_add(port: u16, answer: &str) -> Result<(), ForwardError> {
    let answer = answer.trim();
    match answer {
        "" => Ok(()),
        text if text.to_ascii_lowercase().contains("could not set up host forwarding rule") => {
            Err(ForwardError::Taken { port })
        }
        text => Err(ForwardError::Failed { port, reason: text.to_owned() }),
    }
}

fn parse_remove(port: u16, answer: &str) -> Result<(), ForwardError> {
    let answer = answer.trim();
    match answer.ends_with("removed") || answer.ends_with("not found") {
        true => Ok(()),
        false => Err(ForwardError::Failed { port, reason: answer.to_owned() }),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Mutex;

    use super::*;

    const USERNET: &str = "Hub -1 (anwnet):\r\n  Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ SendQ\r\n  \
        TCP[HOST_FORWARD]  13       127.0.0.1 10022       10.0.2.15    22     0     0\r\n  \
        TCP[HOST_FORWARD]  14               * 10023       10.0.2.15    22     0     0\r\n  \
        TCP[ESTABLISHED]   15       127.0.0.1 10022       10.0.2.15    22     0     0\r\n  \
        TCP[ESTABLISHED]   16       10.0.2.15 10022       127.0.0.1    22     0     0\r\n  \
        TCP[SYN_SENT]      17       127.0.0.1 10022       10.0.2.15    22     0     0\r\n  \
        TCP[FIN_WAIT_2]    18       127.0.0.1 10022       10.0.2.15    22     0     0\r\n  \
        UDP[236 sec]       16       10.0.2.15 10025       10.0.2.3     53     0     0\r\n\
        Hub -1 (other):\r\n  TCP[HOST_FORWARD]  13       127.0.0.1 10026       10.0.2.15    22     0     0\r\n";

    /// Monitors of machines that share one host's ports.
    #[derive(Default)]
    struct Monitors(Mutex<BTreeMap<Uuid, Vec<Line>>>);

    impl Monitor for Monitors {
        fn command(&self, uuid: Uuid, line: &str) -> Result<Option<String>, HypervisorError> {
            let mut machines = self.0.lock().unwrap();
            let taken: Vec<Line> = machines.values().flatten().copied().collect();
            let Some(rules) = machines.get_mut(&uuid) else { return Ok(None) };
            let words: Vec<&str> = line.split([' ', ':', '-']).collect();
            Ok(Some(match words[..] {
                ["info", "usernet"] => {
                    let lines = rules.iter().map(|r| {
                        let from = if r.from.is_unspecified() { "*".to_owned() } else { r.from.to_string() };
                        let state = if r.state == State::Forward { "HOST_FORWARD" } else { "ESTABLISHED" };
                        format!("  TCP[{state}]  13 {from} {} 10.0.2.15 {} 0 0\r\n", r.port, r.guest_port)
                    });
                    format!("Hub -1 (anwnet):\r\n{}", lines.collect::<String>())
                }
                ["hostfwd_add", "anwnet", "tcp", from, port, "", guest_port] => {
                    let (from, port, guest_port) =
                        (from.parse().unwrap(), port.parse().unwrap(), guest_port.parse().unwrap());
                    let clash = |r: &Line| {
                        r.port == port && (r.from == from || r.from.is_unspecified() || Ipv4Addr::is_unspecified(&from))
                    };
                    if taken.iter().any(clash) {
                        return Ok(Some(format!("Could not set up host forwarding rule '{line}'\r\n")));
                    }
                    rules.push(Line { state: State::Forward, from, port, guest_port });
                    String::new()
                }
                ["hostfwd_remove", "anwnet", "tcp", from, port] => {
                    rules.retain(|r| r.from.to_string() != from || r.port.to_string() != port);
                    "host forwarding rule for tcp:x removed\r\n".into()
                }
                _ => panic!("{line}"),
            }))
        }

        fn machines(&self) -> Result<Vec<Uuid>, HypervisorError> {
            Ok(self.0.lock().unwrap().keys().copied().collect())
        }
    }

    fn forwarder(bind: Ipv4Addr) -> (UserForwarder, Arc<Monitors>) {
        let monitors = Arc::new(Monitors::default());
        for n in [1, 2] {
            monitors.0.lock().unwrap().insert(Uuid::from_u128(n), Vec::new());
        }
        (UserForwarder::new(monitors.clone(), bind), monitors)
    }

    fn forward(n: u128, port: u16) -> Forward {
        Forward { uuid: Uuid::from_u128(n), ..Forward::of_port(port) }
    }

    #[test]
    fn forwards_and_open_connections_are_read_from_the_monitor() {
        let line = |state, from: [u8; 4], port| Line { state, from: from.into(), port, guest_port: 22 };
        let forwards = [line(State::Forward, [127, 0, 0, 1], 10022), line(State::Forward, [0, 0, 0, 0], 10023)];
        let open = line(State::Established, [127, 0, 0, 1], 10022);
        assert_eq!(parse_usernet(USERNET), [forwards[0], forwards[1], open]);
        assert_eq!(parse_usernet(""), []);
    }

    #[test]
    fn a_port_that_is_taken_is_told_from_other_troubles() {
        assert!(parse_add(1, "\r\n").is_ok());
        let taken = parse_add(1, "Could not set up host forwarding rule 'tcp:127.0.0.1:1-:22'\r\n");
        assert!(matches!(taken, Err(ForwardError::Taken { port: 1 })));
        assert!(matches!(parse_add(1, "invalid host forwarding rule"), Err(ForwardError::Failed { .. })));
        assert!(parse_remove(1, "host forwarding rule for tcp:127.0.0.1:1 not found\r\n").is_ok());
        assert!(parse_remove(1, "unknown command").is_err());
    }

    #[test]
    fn nobody_outside_reaches_a_machine_before_it_is_published() {
        for bind in [Ipv4Addr::UNSPECIFIED, Ipv4Addr::new(192, 0, 2, 1)] {
            let (forwarder, monitors) = forwarder(bind);
            let one = forward(1, 10001);
            for _ in 0..2 {
                assert_eq!(forwarder.admin(&one).unwrap(), "127.0.0.2:10001".parse().unwrap());
                assert!(!forwarder.is_published(&one).unwrap());
                assert_eq!(monitors.0.lock().unwrap()[&one.uuid].len(), 1);
            }
            for _ in 0..2 {
                forwarder.publish(&one).unwrap();
                assert!(forwarder.is_published(&one).unwrap());
                let rules = monitors.0.lock().unwrap()[&one.uuid].clone();
                assert_eq!(rules, [Line { state: State::Forward, from: bind, port: 10001, guest_port: 22 }]);
            }
            let at = if bind.is_unspecified() { Ipv4Addr::new(127, 0, 0, 2) } else { bind };
            assert_eq!(forwarder.admin(&one).unwrap(), SocketAddr::from((at, 10001)));
            assert_eq!(forwarder.list().unwrap(), [10001]);
            for _ in 0..2 {
                forwarder.withdraw(&one).unwrap();
                assert!(forwarder.list().unwrap().is_empty());
            }
        }
    }

    #[test]
    fn the_address_of_set_up_is_never_the_published_one() {
        for bind in [[127, 0, 0, 1], [127, 0, 0, 2], [127, 0, 0, 3]].map(Ipv4Addr::from) {
            let (forwarder, _) = forwarder(bind);
            let one = forward(1, 10001);
            assert_ne!(forwarder.admin(&one).unwrap().ip(), bind);
            forwarder.publish(&one).unwrap();
            assert!(forwarder.is_published(&one).unwrap());
            let other = forwarder.publish(&forward(2, 10001)).unwrap_err();
            assert!(matches!(other, ForwardError::Taken { port: 10001 }), "{other}");
        }
    }

    #[test]
    fn connections_of_users_count_and_those_of_set_up_do_not() {
        let (forwarder, monitors) = forwarder(Ipv4Addr::UNSPECIFIED);
        let one = forward(1, 10001);
        forwarder.publish(&one).unwrap();
        assert_eq!(forwarder.connections(&one).unwrap(), 0);
        for (from, port) in [([192, 0, 2, 1], 10001), ([127, 0, 0, 1], 10001), ([127, 0, 0, 2], 10001), ([0; 4], 9)] {
            let line = Line { state: State::Established, from: from.into(), port, guest_port: 22 };
            monitors.0.lock().unwrap().get_mut(&one.uuid).unwrap().push(line);
        }
        assert_eq!(forwarder.connections(&one).unwrap(), 2);
        assert_eq!(forwarder.list().unwrap(), [10001]);
        assert!(forwarder.connections(&forward(9, 10001)).is_err(), "of a machine that is gone nothing is known");
    }

    #[test]
    fn a_port_alone_is_enough_to_withdraw_it_from_whichever_machine() {
        let (forwarder, _) = forwarder(Ipv4Addr::LOCALHOST);
        forwarder.publish(&forward(1, 10001)).unwrap();
        forwarder.publish(&forward(2, 10002)).unwrap();
        forwarder.withdraw(&Forward::of_port(10002)).unwrap();
        assert_eq!(forwarder.list().unwrap(), [10001]);
    }

    #[test]
    fn a_machine_that_is_gone_has_no_forward() {
        let (forwarder, _) = forwarder(Ipv4Addr::LOCALHOST);
        let gone = forward(9, 10009);
        assert!(!forwarder.is_published(&gone).unwrap());
        forwarder.withdraw(&gone).unwrap();
        assert!(forwarder.publish(&gone).is_err());
    }

    #[test]
    fn a_port_somebody_listens_on_is_not_free() {
        // Of its own, so that nobody else is given the port when it is let go.
        let own = Ipv4Addr::new(127, 0, 0, 81);
        let listener = std::net::TcpListener::bind((own, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        for bind in [own, Ipv4Addr::UNSPECIFIED] {
            assert!(!forwarder(bind).0.is_free(port), "{bind}");
        }
        drop(listener);
        assert!(forwarder(own).0.is_free(port));
    }
}
