//! Forwards and egress by nftables, between network namespaces: "guests" on the bridge, whose cards have the names that
//! libvirt gives them, and a "client" beside the host that has a public address too.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anweddol::guest::forward::nft::{NftConfig, NftForwarder};
use anweddol::guest::{Forward, ForwardError, Forwarder};
use anweddol::hypervisor::libvirt::{Config, Libvirt, NatNetwork};
use anweddol::hypervisor::xml::card;
use anweddol::model::Egress;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use uuid::Uuid;

use crate::common::{Running, argument, lab, role, until};
use crate::system::shared;

const GUEST: Ipv4Addr = Ipv4Addr::new(192, 168, 127, 50);
const HOST: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 1);
const PORT: u16 = 10_001;

fn sh(line: &str) -> String {
    let output = Command::new("sh").args(["-ec", line]).output().unwrap();
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The host's network with nobody but one test on it: a bridge, and the client at 10.99.0.2 and 8.8.8.8.
struct Net {
    _alone: File,
    _shared: File,
    _libvirt: Arc<Libvirt>,
}

impl Net {
    fn new() -> Net {
        lab("system");
        let (alone, shared) = (File::create("/run/lab/nft.lock").unwrap(), shared());
        alone.lock().unwrap();
        shared.lock_shared().unwrap();
        let libvirt = Libvirt::connect(Config::system()).unwrap();
        sh("ip netns add client; ip link add toclient type veth peer name eth0 netns client
            ip addr add 10.99.0.1/24 dev toclient; ip link set toclient up; ip route add 8.8.8.8 via 10.99.0.2
            ip -n client addr add 10.99.0.2/24 dev eth0; ip -n client link set eth0 up
            ip -n client route add default via 10.99.0.1
            ip -n client link set lo up; ip -n client addr add 8.8.8.8/32 dev lo");
        Net { _alone: alone, _shared: shared, _libvirt: libvirt }
    }

    /// A guest in a namespace of this name, that answers on port 22.
    fn guest(&self, name: &str, forward: &Forward) -> Running {
        let (card, address) = (card("anw0", forward.uuid), forward.address.unwrap());
        sh(&format!(
            "ip netns add {name}; ip link add {card} type veth peer name eth0 netns {name}
             ip link set {card} master anw0 up; bridge link set dev {card} isolated on
             ip -n {name} link set eth0 address {}
             ip -n {name} addr add {address}/24 dev eth0; ip -n {name} link set eth0 up
             ip -n {name} link set lo up; ip -n {name} route add default via 192.168.127.1",
            forward.mac
        ));
        role(&["ip", "netns", "exec", name], "system_nft::role_guest", "serve")
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        // The cards go with the namespaces that hold their other ends.
        sh("ip -all netns delete
            for family in bridge ip ip6; do nft add table $family anweddol; nft delete table $family anweddol; done
            while ip link show toclient >/dev/null 2>&1; do sleep 0.01; done");
    }
}

/// A machine that is new, with a card of its own.
fn machine(port: u16, address: Ipv4Addr, egress: Egress) -> Forward {
    let uuid = Uuid::new_v4();
    let [a, b, c, ..] = *uuid.as_bytes();
    Forward { uuid, port, address: Some(address), mac: format!("52:54:00:{a:02x}:{b:02x}:{c:02x}"), egress }
}

/// A service of this host, on every address.
fn service(port: u16) {
    let service = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).unwrap();
    std::thread::spawn(move || service.incoming().flatten().for_each(|mut s| drop(s.write_all(b"guest"))));
}

/// Answers every connection with a greeting and then with what it hears.
#[test]
#[ignore = "the guest of the test below"]
fn role_guest() {
    if argument().is_none() {
        return;
    }
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 22)).unwrap();
    println!("ready");
    for stream in listener.incoming() {
        let mut stream = stream.unwrap();
        std::thread::spawn(move || {
            stream.write_all(b"guest").unwrap();
            let mut byte = [0];
            while stream.read(&mut byte).is_ok_and(|read| read == 1) {
                stream.write_all(&byte).unwrap();
            }
        });
    }
}

/// Says `ready` if there is a greeting at the address, and ends otherwise.
#[test]
#[ignore = "the client of the test below"]
fn role_client() {
    let Some(at) = argument() else { return };
    if greeting(at.parse().unwrap()).is_some() {
        println!("ready");
    }
}

/// The connection, once it was greeted.
fn greeting(at: SocketAddr) -> Option<TcpStream> {
    let mut stream = TcpStream::connect_timeout(&at, Duration::from_secs(2)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    let mut words = [0; 5];
    stream.read_exact(&mut words).ok()?;
    assert_eq!(&words, b"guest");
    Some(stream)
}

/// The same where there has to be one: on a busy host one try may take too long.
fn greeted(at: SocketAddr) -> TcpStream {
    until("a greeting", || greeting(at))
}

fn reached_from(namespace: &str, at: &str) -> bool {
    let program = std::env::current_exe().unwrap();
    let output = Command::new("ip")
        .args(["netns", "exec", namespace])
        .arg(program)
        .args(["--exact", "system_nft::role_client", "--ignored", "--nocapture"])
        .env("ANWEDDOL_TEST_ROLE", at)
        .output()
        .unwrap();
    assert!(output.status.success());
    String::from_utf8_lossy(&output.stdout).contains("ready")
}

/// The same where it has to be.
fn reaches(namespace: &str, at: &str) {
    until(&format!("{at}, reached from {namespace}"), || reached_from(namespace, at).then_some(()));
}

/// A connection that was greeted, of a client in a namespace: it stays there when its thread is gone.
fn session_of(namespace: &str, at: SocketAddr) -> TcpStream {
    let namespace = File::open(format!("/run/netns/{namespace}")).unwrap();
    let session = std::thread::spawn(move || {
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
        greeted(at)
    });
    session.join().unwrap()
}

/// Sends one byte from a namespace; nothing has to come of it.
fn send_from(namespace: &str, to: IpAddr, port: u16, byte: u8) {
    let namespace = File::open(format!("/run/netns/{namespace}")).unwrap();
    let sending = std::thread::spawn(move || {
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
        let any: IpAddr = if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        UdpSocket::bind((any, 0)).unwrap().send_to(&[byte], (to, port)).unwrap();
    });
    sending.join().unwrap();
}

/// How many TCP segments came to a namespace since it was made, whether anybody listens or not.
fn segments(namespace: &str) -> u64 {
    let counted = sh(&format!("ip netns exec {namespace} cat /proc/net/snmp"));
    let mut lines = counted.lines().filter(|line| line.starts_with("Tcp:"));
    let (names, values) = (lines.next().unwrap(), lines.next().unwrap());
    let nth = names.split(' ').position(|name| name == "InSegs").unwrap();
    values.split(' ').nth(nth).unwrap().parse().unwrap()
}

#[test]
#[ignore = "needs libvirtd, nft and the lab (tests/lab/run.sh)"]
fn what_is_left_of_a_machines_connection_never_comes_to_the_next_one_at_its_port() {
    let net = Net::new();
    let forwarder = NftForwarder::open(NftConfig::new(Ipv4Addr::UNSPECIFIED, NatNetwork::default())).unwrap();
    let [first, second] = [machine(PORT, GUESTS[0], Egress::None), machine(PORT, GUESTS[1], Egress::None)];
    let _guests = [net.guest("first", &first), net.guest("second", &second)];
    forwarder.publish(&first).unwrap();
    greeted((HOST, PORT).into());
    // From another host, from this one, and from this one's loopback.
    let mut sessions = [
        session_of("client", (HOST, PORT).into()),
        greeted((HOST, PORT).into()),
        greeted((Ipv4Addr::LOCALHOST, PORT).into()),
    ];
    forwarder.withdraw(&first).unwrap();
    forwarder.publish(&second).unwrap();
    let (before, heard) = (segments("first"), segments("second"));
    for session in &mut sessions {
        session.write_all(b"x").unwrap();
        let ended = session.read(&mut [0]).map_err(|error| error.kind());
        assert_eq!(ended, Err(ErrorKind::ConnectionReset), "nobody tells the client");
    }
    assert_eq!(segments("second"), heard, "the next machine hears the old connection");
    assert_eq!(segments("first"), before, "the machine that had the port still hears it");
    reaches("client", "10.99.0.1:10001");
    assert!(segments("second") > heard);
}

#[test]
#[ignore = "needs libvirtd, nft and the lab (tests/lab/run.sh)"]
fn a_port_leads_to_its_guest_and_nothing_else_does() {
    let net = Net::new();
    let forward = machine(PORT, GUEST, Egress::None);
    let _guest = net.guest("guest", &forward);
    let config = NftConfig::new(Ipv4Addr::UNSPECIFIED, NatNetwork::default());
    let forwarder = NftForwarder::open(config.clone()).unwrap();
    assert!(forwarder.is_free(PORT) && forwarder.list().unwrap().is_empty());
    let admin = forwarder.admin(&forward).unwrap();
    greeted(admin);
    assert!(!reached_from("client", "192.168.127.50:22"), "a guest is reached without its forward");

    for _ in 0..2 {
        forwarder.publish(&forward).unwrap();
        assert!(forwarder.is_published(&forward).unwrap() && !forwarder.is_free(PORT));
        assert_eq!(forwarder.list().unwrap(), [PORT]);
    }
    let other = Forward { address: Some(Ipv4Addr::new(192, 168, 127, 51)), ..forward.clone() };
    assert!(!forwarder.is_published(&other).unwrap());
    assert!(matches!(forwarder.publish(&other), Err(ForwardError::Taken { port: PORT })));
    greeted((Ipv4Addr::LOCALHOST, PORT).into());
    until("none open", || (forwarder.connections(&forward).unwrap() == 0).then_some(()));
    let mut session = greeted((HOST, PORT).into());
    until("one open", || (forwarder.connections(&forward).unwrap() == 1).then_some(()));
    reaches("client", "10.99.0.1:10001");
    assert!(!reached_from("client", "192.168.127.50:22"));

    // A daemon that starts again writes the table anew: forwards and sessions stay.
    let forwarder = NftForwarder::open(config).unwrap();
    assert!(forwarder.is_published(&forward).unwrap());
    session.write_all(b"x").unwrap();
    session.read_exact(&mut [0]).unwrap();
    drop(session);
    until("none open", || (forwarder.connections(&forward).unwrap() == 0).then_some(()));

    // What the guest reaches of this host by itself: nothing.
    service(2222);
    reaches("client", "10.99.0.1:2222");
    assert!(!reached_from("guest", "192.168.127.1:2222") && !reached_from("guest", "10.99.0.1:2222"));
    assert!(!reached_from("guest", "10.99.0.1:10001"));

    // Somebody flushed every table: seen at once, and mended by the next publication.
    sh("nft flush ruleset");
    assert!(!forwarder.is_published(&forward).unwrap() && forwarder.list().unwrap().is_empty());
    forwarder.publish(&forward).unwrap();
    reaches("client", "10.99.0.1:10001");

    for _ in 0..2 {
        forwarder.withdraw(&forward).unwrap();
        assert!(forwarder.list().unwrap().is_empty());
    }
    assert!(!reached_from("client", "10.99.0.1:10001"));
    let _listener = TcpListener::bind(("0.0.0.0", PORT)).unwrap();
    assert!(!forwarder.is_free(PORT));
    assert!(matches!(forwarder.publish(&forward), Err(ForwardError::Taken { port: PORT })));
}

const GUESTS: [Ipv4Addr; 3] =
    [Ipv4Addr::new(192, 168, 127, 50), Ipv4Addr::new(192, 168, 127, 51), Ipv4Addr::new(192, 168, 127, 52)];

#[test]
#[ignore = "needs libvirtd, nft and the lab (tests/lab/run.sh)"]
fn a_guest_reaches_what_its_egress_says_and_never_another_guest() {
    let net = Net::new();
    service(2222);
    let forwarder = NftForwarder::open(NftConfig::new(Ipv4Addr::UNSPECIFIED, NatNetwork::default())).unwrap();
    let _world = role(&["ip", "netns", "exec", "client"], "system_nft::role_guest", "serve");
    let guests = ["none", "internet", "all"].into_iter().zip(GUESTS).zip([Egress::None, Egress::Internet, Egress::All]);
    let guests: Vec<_> = (PORT..)
        .zip(guests)
        .map(|(port, ((name, address), egress))| {
            let forward = machine(port, address, egress);
            let running = net.guest(name, &forward);
            assert!(!reached_from(name, "8.8.8.8:22"), "{name}: it reaches something before it is known");
            let admin = forwarder.admin(&forward).unwrap();
            greeted(admin);
            forwarder.publish(&forward).unwrap();
            (name, forward, running)
        })
        .collect();
    for (name, own, _) in &guests {
        let (public, private, host) = match own.egress {
            Egress::None => (false, false, false),
            Egress::Internet => (true, false, false),
            Egress::All => (true, true, true),
        };
        for (at, reached) in
            [("8.8.8.8:22", public), ("10.99.0.2:22", private), ("10.99.0.1:2222", host), ("192.168.127.1:2222", host)]
        {
            match reached {
                true => reaches(name, at),
                false => assert!(!reached_from(name, at), "{name} reaches {at}"),
            }
        }
        for (other, theirs, _) in guests.iter().filter(|(other, ..)| other != name) {
            assert!(!reached_from(name, &format!("{}:22", theirs.address.unwrap())), "{name} reaches {other}");
            assert!(!reached_from(name, &format!("10.99.0.1:{}", theirs.port)), "{name} reaches {other} by its port");
        }
    }
    // With its end, everything that was its own is: by the port alone, as after a loss of its record.
    for (_, forward, _) in &guests {
        forwarder.withdraw(&Forward::of_port(forward.port)).unwrap();
    }
    assert!(forwarder.list().unwrap().is_empty());
    for set in ["bridge anweddol guests", "bridge anweddol held", "ip anweddol internet", "ip anweddol anything"] {
        let elements = sh(&format!("nft list set {set}"));
        assert!(!elements.contains("elements"), "{elements}");
    }
    assert!(!reached_from("all", "8.8.8.8:22"));
}

#[test]
#[ignore = "needs libvirtd, nft and the lab (tests/lab/run.sh)"]
fn a_guest_gains_nothing_by_anothers_addresses() {
    let net = Net::new();
    let forwarder = NftForwarder::open(NftConfig::new(Ipv4Addr::UNSPECIFIED, NatNetwork::default())).unwrap();
    let _world = role(&["ip", "netns", "exec", "client"], "system_nft::role_guest", "serve");
    let mut guests = Vec::new();
    for (port, ((name, address), egress)) in
        (PORT..).zip(["thief", "owner"].into_iter().zip(GUESTS).zip([Egress::None, Egress::All]))
    {
        let forward = machine(port, address, egress);
        guests.push(net.guest(name, &forward));
        let admin = forwarder.admin(&forward).unwrap();
        greeted(admin);
        forwarder.publish(&forward).unwrap();
    }
    let owner_is_well = || {
        reaches("client", "10.99.0.1:10002");
        reaches("owner", "8.8.8.8:22");
    };
    owner_is_well();
    let mac = sh("ip netns exec owner cat /sys/class/net/eth0/address");
    let neighbour = || sh("ip neigh show 192.168.127.51 dev anw0");
    assert!(neighbour().contains(mac.trim()));

    // Its address, then its card's too.
    sh("ip -n thief addr flush dev eth0; ip -n thief addr add 192.168.127.51/24 dev eth0
        ip -n thief route add default via 192.168.127.1");
    assert!(!reached_from("thief", "8.8.8.8:22") && !reached_from("thief", "10.99.0.2:22"));
    assert!(neighbour().contains(mac.trim()), "the host believes the thief: {}", neighbour());
    owner_is_well();
    sh(&format!("ip -n thief link set eth0 down; ip -n thief link set eth0 address {mac}"));
    sh("ip -n thief link set eth0 up; ip -n thief route replace default via 192.168.127.1");
    assert!(!reached_from("thief", "8.8.8.8:22"));
    owner_is_well();
    drop(guests);
}

#[test]
#[ignore = "needs libvirtd, nft and the lab (tests/lab/run.sh)"]
fn the_next_machine_at_an_address_has_its_own_egress_and_nothing_that_was_open() {
    let net = Net::new();
    let forwarder = NftForwarder::open(NftConfig::new(Ipv4Addr::UNSPECIFIED, NatNetwork::default())).unwrap();
    let _world = role(&["ip", "netns", "exec", "client"], "system_nft::role_guest", "serve");
    let first = machine(PORT, GUEST, Egress::All);
    let running = net.guest("first", &first);
    forwarder.admin(&first).unwrap();
    forwarder.publish(&first).unwrap();
    reaches("first", "8.8.8.8:22");
    let session = greeted((HOST, PORT).into());
    // It ends without anybody's help: nothing of it is withdrawn.
    drop(running);
    sh("ip netns delete first");
    let second = machine(PORT + 1, GUEST, Egress::None);
    until("the end of its card", || {
        (!std::path::Path::new("/sys/class/net").join(card("anw0", first.uuid)).exists()).then_some(())
    });
    let _running = net.guest("second", &second);
    forwarder.admin(&second).unwrap();
    assert!(!forwarder.is_published(&first).unwrap(), "its port leads to somebody else's machine");
    assert!(!reached_from("second", "8.8.8.8:22") && !reached_from("client", "10.99.0.1:10001"));
    assert_eq!(forwarder.connections(&second).unwrap(), 0);
    forwarder.publish(&second).unwrap();
    reaches("client", "10.99.0.1:10002");
    drop(session);
}

/// Frames to these addresses are the kernel's own business, and leave the bridge before its usual tables see them.
#[test]
#[ignore = "needs libvirtd, nft and the lab (tests/lab/run.sh)"]
fn no_frame_comes_to_this_host_past_the_tables_and_none_teaches_the_bridge() {
    const HOST_V6: Ipv6Addr = Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 1);
    let net = Net::new();
    let forwarder = NftForwarder::open(NftConfig::new(Ipv4Addr::UNSPECIFIED, NatNetwork::default())).unwrap();
    let [thief, owner] = [machine(PORT, GUESTS[0], Egress::None), machine(PORT + 1, GUESTS[1], Egress::All)];
    let _guests = [net.guest("thief", &thief), net.guest("owner", &owner)];
    for forward in [&thief, &owner] {
        forwarder.publish(forward).unwrap();
    }
    // This host has IPv6, if not on the bridge.
    sh("ip addr add fd77::1/64 dev toclient nodad");
    let host = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)).unwrap();
    let port = host.local_addr().unwrap().port();
    host.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    let heard = || {
        let next = || {
            let mut byte = [0];
            host.recv(&mut byte).is_ok().then_some(byte[0])
        };
        std::iter::from_fn(next).collect::<Vec<u8>>()
    };
    let send = |to: &str, byte| {
        sh(&format!(
            "ip -n thief addr replace fd77::2/64 dev eth0 nodad
             for it in 192.168.127.1 fd77::1; do ip -n thief neigh replace $it lladdr {to} dev eth0; done"
        ));
        send_from("thief", Ipv4Addr::new(192, 168, 127, 1).into(), port, byte);
        send_from("thief", HOST_V6.into(), port, byte);
    };
    let groups = || (0..16).map(|last| (format!("01:80:c2:00:00:{last:02x}"), last));
    let learnt = || sh(&format!("bridge fdb show br anw0 brport {}", card("anw0", thief.uuid)));

    // Somebody may be heard.
    send_from("owner", Ipv4Addr::new(192, 168, 127, 1).into(), port, 99);
    assert_eq!(heard(), [99]);
    groups().for_each(|(group, last)| send(&group, last));
    assert_eq!(heard(), [0; 0], "the host hears frames to these groups");
    assert!(learnt().contains(&thief.mac), "the bridge learns nothing from anybody: {}", learnt());
    sh(&format!("ip -n thief link set eth0 down address {0}; ip -n thief link set eth0 up", owner.mac));
    for (group, last) in groups() {
        send(&group, last);
        assert!(!learnt().contains(&owner.mac), "{group} draws another's frames: {}", learnt());
    }
    assert_eq!(heard(), [0; 0]);

    // A bridge that libvirt made again is found, and set up.
    sh("ip link set anw0 type bridge group_fwd_mask 0");
    assert!(!forwarder.is_published(&owner).unwrap());
    forwarder.publish(&owner).unwrap();
    assert!(forwarder.is_published(&owner).unwrap());
    send("01:80:c2:00:00:0e", 0);
    assert!(!learnt().contains(&owner.mac), "{}", learnt());

    // A card that has lost its bridge leads to nobody, whatever its frames say.
    let alone = card("anw0", thief.uuid);
    sh(&format!("ip link set {alone} nomaster"));
    send(sh(&format!("cat /sys/class/net/{alone}/address")).trim(), 0);
    assert_eq!(heard(), [0; 0]);
}
