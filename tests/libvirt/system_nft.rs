//! Forwards by nftables, between network namespaces: a "guest" on the bridge and a "client" beside the host.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::time::Duration;

use anweddol::guest::forward::nft::{NftConfig, NftForwarder};
use anweddol::guest::{Forward, ForwardError, Forwarder};
use anweddol::hypervisor::libvirt::{Config, Libvirt, NatNetwork};
use anweddol::hypervisor::xml::Reach;
use uuid::Uuid;

use crate::common::{argument, lab, role, until};
use crate::system::libvirtd;

const GUEST: Ipv4Addr = Ipv4Addr::new(192, 168, 127, 50);
const HOST: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 1);
const PORT: u16 = 10_001;

fn sh(line: &str) {
    let status = Command::new("sh").args(["-ec", line]).status().unwrap();
    assert!(status.success(), "{line}");
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

#[test]
#[ignore = "needs libvirtd, nft and the lab (tests/lab/run.sh)"]
fn a_port_leads_to_its_guest_and_nothing_else_does() {
    lab("system");
    let lock = libvirtd();
    lock.lock_shared().unwrap();
    let _libvirt = Libvirt::connect(Config::system()).unwrap();
    sh("ip netns add client; ip link add toclient type veth peer name eth0 netns client
        ip addr add 10.99.0.1/24 dev toclient; ip link set toclient up
        ip -n client addr add 10.99.0.2/24 dev eth0; ip -n client link set eth0 up
        ip -n client route add default via 10.99.0.1
        ip netns add guest; ip link add toguest type veth peer name eth0 netns guest
        ip link set toguest master anw0 up
        ip -n guest addr add 192.168.127.50/24 dev eth0; ip -n guest link set eth0 up
        ip -n guest route add default via 192.168.127.1");
    let _guest = role(&["ip", "netns", "exec", "guest"], "system_nft::role_guest", "serve");

    let config = NftConfig::new(Ipv4Addr::UNSPECIFIED, NatNetwork::default(), Reach::Isolated);
    let forwarder = NftForwarder::open(config.clone()).unwrap();
    let forward = Forward { uuid: Uuid::nil(), port: PORT, address: Some(GUEST) };
    assert!(forwarder.is_free(PORT) && forwarder.list().unwrap().is_empty());
    let admin = forwarder.admin(&forward).unwrap();
    until("the guest", || greeting(admin));
    assert!(!reached_from("client", "192.168.127.50:22"), "a guest is reached without its forward");

    for _ in 0..2 {
        forwarder.publish(&forward).unwrap();
        assert!(forwarder.is_published(&forward).unwrap() && !forwarder.is_free(PORT));
        assert_eq!(forwarder.list().unwrap(), [PORT]);
    }
    let other = Forward { address: Some(Ipv4Addr::new(192, 168, 127, 51)), ..forward.clone() };
    assert!(!forwarder.is_published(&other).unwrap());
    assert!(matches!(forwarder.publish(&other), Err(ForwardError::Taken { port: PORT })));
    assert!(greeting((Ipv4Addr::LOCALHOST, PORT).into()).is_some());
    let mut session = greeting((HOST, PORT).into()).unwrap();
    assert!(reached_from("client", "10.99.0.1:10001"), "a forward is not reached from outside");
    assert!(!reached_from("client", "192.168.127.50:22"));

    // A daemon that starts again writes the table anew: forwards and sessions stay.
    let forwarder = NftForwarder::open(config).unwrap();
    assert!(forwarder.is_published(&forward).unwrap());
    session.write_all(b"x").unwrap();
    session.read_exact(&mut [0]).unwrap();

    // What the guest reaches of this host by itself: nothing.
    let service = TcpListener::bind("0.0.0.0:2222").unwrap();
    std::thread::spawn(move || service.incoming().flatten().for_each(|mut s| drop(s.write_all(b"guest"))));
    assert!(reached_from("client", "10.99.0.1:2222"));
    assert!(!reached_from("guest", "192.168.127.1:2222") && !reached_from("guest", "10.99.0.1:2222"));
    assert!(!reached_from("guest", "10.99.0.1:10001"));

    // Somebody flushed every table: seen at once, and mended by the next publication.
    sh("nft flush ruleset");
    assert!(!forwarder.is_published(&forward).unwrap() && forwarder.list().unwrap().is_empty());
    forwarder.publish(&forward).unwrap();
    assert!(reached_from("client", "10.99.0.1:10001"));

    for _ in 0..2 {
        forwarder.withdraw(&forward).unwrap();
        assert!(forwarder.list().unwrap().is_empty());
    }
    assert!(!reached_from("client", "10.99.0.1:10001"));
    let _listener = TcpListener::bind(("0.0.0.0", PORT)).unwrap();
    assert!(!forwarder.is_free(PORT));
    assert!(matches!(forwarder.publish(&forward), Err(ForwardError::Taken { port: PORT })));
}
