//! One machine, from CREATE to its end, however it ends.

use std::fs;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, Ipv6Addr, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use anweddol::guest::ShellError;
use anweddol::guest::ssh::EndpointShell;
use anweddol::wire::{CREATE, Generation, Request};
use rustix::process::{Pid, Signal, kill_process};
use secrecy::SecretString;

use crate::common::ask::{Grant, ask, ask_until, create, create_parallel, destroy, destroy_request};
use crate::common::ask::{grant, runtime, stat, until_available};
use crate::common::daemon::Daemon;
use crate::common::{PATIENCE, until};
use crate::disk;
use crate::host::{
    Host, Mode, OWN_ADDRESS, at, execute, is_a_machine_of_its_user, log_in, reached, reached_or_not, run,
};
use crate::secrets;
use crate::user::{LISTEN, User};

#[test]
#[ignore = "needs qemu: run through tests/lab/run.sh"]
fn a_client_gets_a_machine_logs_in_and_gives_it_back() {
    let host = Host::lab();
    // What a daemon finds out by itself is the mode that the lab was made for.
    let home = host.home_with_mode("auto").arg(LISTEN);
    let daemon = home.start();
    let mode = match host.mode {
        Mode::Embedded => "qemu:///embed",
        Mode::System => "qemu:///system",
    };
    assert!(daemon.http("/readyz").1.contains(mode), "{}", daemon.log);

    let user = User::of(&host, &home);
    let ((granted, said), seen) = secrets::watched(|| (user.create(&[]), user.good(&["ssh", "--", "uname -a; id"])));
    assert!(said.starts_with("Linux ") && said.contains(&format!("({})", granted.username)), "{said}");
    secrets::nobody_else_was_told(&host, &granted, &seen);
    is_a_machine_of_its_user(&granted);
    assert_eq!(stat(daemon.address)["available"], 5);
    every_stage_was_measured(&host, &daemon);

    let mut ways = vec![at(&granted)];
    if host.mode == Mode::System {
        // The way of the set-up, past the published port.
        let address = runtime().block_on(async { execute(&mut log_in(&granted).await, OWN_ADDRESS).await });
        ways.push((address.trim().parse::<Ipv4Addr>().unwrap(), 22).into());
    }
    for way in ways {
        let endpoint = runtime().block_on(EndpointShell::connect(way, PATIENCE)).err();
        assert!(matches!(endpoint, Some(ShellError::Refused { .. })), "endpoint gets in by {way}: {endpoint:?}");
    }

    let wrong = destroy_request(&granted.uuid, &"A".repeat(255));
    assert_eq!(ask(daemon.address, Generation::Second, &wrong).message, "Bad authentication");
    // It still answers, and somebody who is logged in keeps no machine from its end.
    runtime().block_on(async {
        let mut session = log_in(&granted).await;
        assert_eq!(execute(&mut session, "echo here").await, "here\n");
        let (address, granted) = (daemon.address, granted.clone());
        let answer = tokio::task::spawn_blocking(move || destroy(address, &granted)).await.unwrap();
        assert_eq!(answer.message, "OK");
    });
    daemon.log.event_about("DESTROYED_CONTAINER", &granted.uuid);
    host.until_gone(&granted);
    until_available(daemon.address, 6);
    daemon.stop();
}

/// One machine was made for one claim: how long each part of it took is told.
fn every_stage_was_measured(host: &Host, daemon: &Daemon) {
    let told = |stage: &str, what: &str| {
        let begin = format!("anweddol_stage_duration_seconds_{what}{{stage=\"{stage}\"}} ");
        let (_, text) = daemon.http("/metrics");
        text.lines().find_map(|line| line.strip_prefix(&begin)?.parse::<f64>().ok()).unwrap()
    };
    let addressed = if host.mode == Mode::System { 1.0 } else { 0.0 };
    let stages =
        [("queue", 1.0), ("bind", 1.0), ("boot", 1.0), ("address", addressed), ("ssh", 1.0), ("personalise", 1.0)];
    for (stage, count) in stages {
        until(stage, || (told(stage, "count") == count).then_some(()));
    }
    // A kernel boots in no less, and what it consists of takes no longer than all of it.
    let parts = told("address", "sum") + told("ssh", "sum") + told("personalise", "sum");
    assert!(told("ssh", "sum") > 0.1 && told("personalise", "sum") > 0.01 && parts <= told("boot", "sum"), "{parts}");
}

/// Addresses of this host in every range that is nobody's on the Internet: private ones, the shared one, the link's with the
/// clouds' metadata service, and IPv6's own.
const PRIVATE: [&str; 6] = ["10.77.0.1", "172.20.77.1", "192.168.77.1", "169.254.169.254", "100.64.77.1", "fd77::1"];

/// What a machine is by default: without any egress.
fn reaches_neither_its_host_nor_its_neighbour(host: &Host, it: &Grant, neighbour: &Grant) {
    let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    // Whoever gets there is told so at once.
    std::thread::spawn(move || listener.incoming().flatten().for_each(drop));
    let device = if host.mode == Mode::System { "anw0" } else { "lo" };
    let addresses = |what: &str| {
        for address in PRIVATE {
            let (family, rest) =
                if address.contains(':') { ("-6", ["nodad"].as_slice()) } else { ("-4", [].as_slice()) };
            run("ip", &[&[family, "addr", what, &format!("{address}/24"), "dev", device], rest].concat());
        }
    };
    // libvirt gives its bridges no IPv6. What keeps machines apart does not need that.
    let without_v6 = |so: &str| match host.mode {
        Mode::Embedded => {}
        Mode::System => fs::write("/proc/sys/net/ipv6/conf/anw0/disable_ipv6", so).unwrap(),
    };
    without_v6("0");
    addresses("add");
    runtime().block_on(async {
        let (mut session, mut other) = (log_in(it).await, log_in(neighbour).await);
        // Each has the route that it would take, and an address of IPv6's of its own.
        let prepare = |own: &str| {
            format!(
                "sudo -n sh -c 'ip addr add {own}/64 dev eth0 nodad; ip -6 route add default via fd77::1 dev eth0; true'; \
                 ip -6 -o addr show dev eth0 scope link | awk '{{ print $4 }}' | cut -d/ -f1"
            )
        };
        execute(&mut session, &prepare("fd77::2")).await;
        let link = execute(&mut other, &prepare("fd77::3")).await;
        assert!(link.starts_with("fe80::"), "the machine has no IPv6 to try with: {link}");
        let mut places: Vec<(String, u16)> = PRIVATE.iter().map(|address| (address.to_string(), port)).collect();
        match host.mode {
            Mode::Embedded => {
                // How user networking calls this host, in both families, and its name server.
                places.extend(["10.0.2.2", "fec0::2"].map(|address| (address.into(), port)));
                places.push(("10.0.2.3".into(), 53));
                places.push(("10.0.2.2".into(), neighbour.port));
            }
            Mode::System => {
                let bridge = until("the bridge's own address", || {
                    let told = run("ip", &["-6", "-o", "addr", "show", "dev", "anw0", "scope", "link"]);
                    Some(told.split_whitespace().nth(3)?.split('/').next()?.to_owned())
                });
                let address = execute(&mut other, OWN_ADDRESS).await;
                places.push(("192.168.127.1".into(), port));
                places.push((format!("{bridge}%eth0"), port));
                for own in [address.trim(), "fd77::3", &format!("{}%eth0", link.trim())] {
                    places.push((own.into(), 22));
                }
                // Its neighbour as everybody else finds it.
                places.extend(["192.168.127.1", "10.77.0.1"].map(|address| (address.into(), neighbour.port)));
            }
        }
        // Somebody answers there, and it is not the machine's own lack that it hears nothing.
        for address in PRIVATE {
            TcpStream::connect((address, port)).unwrap();
        }
        let places: Vec<(&str, u16)> = places.iter().map(|(address, port)| (address.as_str(), *port)).collect();
        assert_eq!(reached(&mut session, &places).await, [""; 0], "it reaches what it has no egress for");
        let mut own = reached_or_not(&mut session, &[("127.0.0.1", 22), ("::1", 22)], true).await;
        own.sort();
        assert_eq!(own, ["127.0.0.1 22", "::1 22"], "it reaches nothing at all");
        if host.mode == Mode::System {
            gets_nothing_past_the_bridge(&mut session).await;
        }
        session.close().await;
        other.close().await;
    });
    addresses("del");
    without_v6("1");
}

/// A bridge's own frames are those to 01:80:c2:00:00:0X. ICMP and UDP have use for them, TCP has not.
async fn gets_nothing_past_the_bridge(session: &mut EndpointShell) {
    let service = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    service.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    let port = service.local_addr().unwrap().port();
    let tries = format!(
        "for last in 00 01 02 03 0d 0e 0f; do
           sudo -n arp -s 192.168.127.1 01:80:c2:00:00:$last || echo it has no arp
           sudo -n ping -c 1 -W 1 192.168.127.1 | sed -n \"s/.*bytes from/$last/p\"
           timeout 1 tftp -g -l /dev/null -r $last 192.168.127.1 {port} >/dev/null 2>&1
         done; sudo -n arp -d 192.168.127.1"
    );
    assert_eq!(execute(session, &tries).await, "", "its host answers to a bridge's own frames");
    let heard = service.recv(&mut [0; 64]).map_err(|error| error.kind());
    assert_eq!(heard, Err(ErrorKind::WouldBlock), "its host hears a bridge's own frames");
}

#[test]
#[ignore = "needs qemu: run through tests/lab/run.sh"]
fn parallel_creates_all_get_a_machine_of_their_own() {
    let host = Host::lab();
    let daemon = host.home("", "").start();
    let granted: Vec<_> = create_parallel(daemon.address, 4).iter().map(grant).collect();
    assert_eq!(stat(daemon.address)["available"], 2);
    std::thread::scope(|scope| {
        granted.iter().for_each(|grant| drop(scope.spawn(|| is_a_machine_of_its_user(grant))));
    });
    reaches_neither_its_host_nor_its_neighbour(&host, &granted[0], &granted[1]);
    std::thread::scope(|scope| {
        let address = daemon.address;
        let ending: Vec<_> = granted.iter().map(|grant| scope.spawn(move || destroy(address, grant))).collect();
        ending.into_iter().for_each(|answer| assert_eq!(answer.join().unwrap().message, "OK"));
    });
    until_available(daemon.address, 6);
    granted.iter().for_each(|grant| host.until_gone(grant));
    daemon.stop();
}

#[test]
#[ignore = "needs qemu: run through tests/lab/run.sh"]
fn a_guest_that_is_shut_down_from_inside_ends_its_container() {
    let host = Host::lab();
    let home = disk::home(&host);
    let daemon = home.start();
    let granted = grant(&create(daemon.address));
    // It ends before it can say that it did. A guest that is emulated on a busy host may take the command and not get
    // to it while somebody waits; then it is told again.
    let (told, password) = (Instant::now(), SecretString::from(granted.password.clone()));
    let mut said = Vec::new();
    while host.machine(&granted.uuid).is_some() {
        assert!(told.elapsed() < 2 * PATIENCE, "it runs on: {said:#?}");
        let login = EndpointShell::connect_as(at(&granted), &granted.username, &password, Duration::from_secs(10));
        let off = async { login.await?.execute("sudo -n poweroff -f", Duration::from_secs(5)).await };
        said.push((told.elapsed(), runtime().block_on(async { tokio::time::timeout(PATIENCE, off).await })));
        let ended = || host.machine(&granted.uuid).is_none();
        let pause = Instant::now();
        while !ended() && pause.elapsed() < Duration::from_secs(2) {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    daemon.log.event_about("DESTROYED_CONTAINER", &granted.uuid);
    until_available(daemon.address, 6);
    host.until_gone(&granted);
    assert!(disk::overlays(&home).is_empty());
    assert_eq!(destroy(daemon.address, &granted).message, "Bad authentication");
    daemon.stop();
}

#[test]
#[ignore = "needs qemu: run through tests/lab/run.sh"]
fn a_client_that_goes_away_while_its_machine_boots_leaves_no_machine() {
    let host = Host::lab();
    let daemon = host.home("", "").start();
    ask_until(daemon.address, Request::bare(CREATE), || {
        until("its QEMU", || (!host.machines().is_empty()).then_some(()));
    });
    let created = daemon.log.events("CREATED_CONTAINER", 1);
    daemon.log.event_about("DESTROYED_CONTAINER", created[0].container().unwrap());
    until("no QEMU", || host.machines().is_empty().then_some(()));
    until_available(daemon.address, 6);
    daemon.stop();
}

#[test]
#[ignore = "needs qemu: run through tests/lab/run.sh"]
fn a_guest_that_dies_while_it_boots_is_an_internal_error_and_leaves_nothing() {
    let host = Host::lab();
    // Longer than any test: nobody may wait for it.
    let daemon = host.home("boot_deadline: 3600", "").env("RUST_LOG", "anweddol=debug").start();
    let address = daemon.address;
    let asking = std::thread::spawn(move || create(address));
    // Not before it is started: a start that fails is tried again.
    daemon
        .log
        .until("a started domain", |lines| lines.iter().any(|line| line.contains("\"create domain\"")).then_some(()));
    let qemu = until("its QEMU", || host.machines().pop());
    kill_process(Pid::from_raw(qemu).unwrap(), Signal::KILL).unwrap();
    let answer = asking.join().unwrap();
    assert_eq!((answer.success, answer.message.as_str()), (false, "Internal error"));
    daemon.log.events("FAILED_CONTAINER", 1);
    until_available(address, 6);
    until("no QEMU", || host.machines().is_empty().then_some(()));
    daemon.stop();
}

#[test]
#[ignore = "needs qemu: run through tests/lab/run.sh"]
fn a_guest_that_never_answers_is_taken_down_at_its_deadline() {
    let host = Host::lab();
    // It finds nothing to boot, and stays.
    let iso = host.dir.join("empty.iso");
    fs::write(&iso, vec![0; 1 << 16]).unwrap();
    let daemon = host.home_with_image(&format!("{{iso: {}}}", iso.display()), "boot_deadline: 5").start();
    let answer = create(daemon.address);
    assert_eq!((answer.success, answer.message.as_str()), (false, "Internal error"));
    let failed = &daemon.log.events("FAILED_CONTAINER", 1)[0];
    assert!(failed.message.contains("5 s"), "{failed:?}");
    until_available(daemon.address, 6);
    until("no QEMU", || host.machines().is_empty().then_some(()));
    daemon.stop();
}
