//! What a machine reaches by itself, as its user finds it: from a guest, in its own hands. That one without egress reaches
//! nothing, the tests of [`crate::life`] tell; what else its packets may be, those of `tests/libvirt`.

use std::io::Write;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};

use crate::common::ask::{create_parallel, destroy, grant, runtime, until_available};
use crate::common::until;
use crate::host::{Host, Mode, OWN_ADDRESS, SSH_PATIENCE, execute, log_in, reached_or_not, reaches, run};

/// Addresses of the world in every private range, the shared one, and the clouds' metadata service.
const PRIVATE: [&str; 5] = ["10.99.0.2", "172.20.0.2", "192.168.200.2", "169.254.169.254", "100.64.0.2"];

/// The world beside the lab's host: private networks, and an address of the Internet.
fn world() {
    for command in [
        "ip netns add world",
        "ip link add toworld type veth peer name eth0 netns world",
        "ip addr add 10.99.0.1/24 dev toworld",
        "ip link set toworld up",
        "ip route add 8.8.8.8 via 10.99.0.2",
        "ip -n world addr add 10.99.0.2/24 dev eth0",
        "ip -n world link set eth0 up",
        "ip -n world link set lo up",
        "ip -n world addr add 8.8.8.8/32 dev lo",
    ] {
        let words: Vec<&str> = command.split(' ').collect();
        run(words[0], &words[1..]);
    }
    for address in &PRIVATE[1..] {
        run("ip", &["route", "add", address, "via", PRIVATE[0]]);
        run("ip", &["-n", "world", "addr", "add", &format!("{address}/32"), "dev", "lo"]);
    }
}

/// Greets whoever connects, and is done with them.
fn serve(port: u16) {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).unwrap();
    listener.incoming().flatten().for_each(|mut stream| drop(stream.write_all(b"x")));
}

#[test]
#[ignore = "the world of the test below"]
fn role_world() {
    if std::env::var_os("ANWEDDOL_TEST_ROLE").is_some() {
        serve(7007);
    }
}

#[test]
#[ignore = "needs qemu: run through tests/lab/run.sh"]
fn a_machine_reaches_what_its_egress_says() {
    let host = Host::lab();
    world();
    let _service = Service::start();
    std::thread::spawn(|| serve(7008));
    let cases: &[(&str, bool, bool, bool)] = match host.mode {
        Mode::Embedded => &[("all", true, true, true)],
        Mode::System => &[("internet", true, false, false), ("all", true, true, true)],
    };
    for &(egress, public, private, own) in cases {
        let daemon = host.home(&format!("egress: {egress}"), "").start();
        // Where it may reach everything, it has another one beside it.
        let count = if (host.mode, egress) == (Mode::System, "all") { 2 } else { 1 };
        let granted: Vec<_> = create_parallel(daemon.address, count).iter().map(grant).collect();
        runtime().block_on(async {
            let mut session = log_in(&granted[0]).await;
            for (what, address, port, wanted) in
                [("the Internet", "8.8.8.8", 7007, public), ("a service of this host", "10.99.0.1", 7008, own)]
            {
                let reached = reached_or_not(&mut session, &[(address, port)], wanted).await;
                assert_eq!(reached.len(), usize::from(wanted), "egress {egress}: {what}");
            }
            let places = PRIVATE.map(|address| (address, 7007));
            let reached = reached_or_not(&mut session, &places, private).await;
            assert_eq!(reached.len(), if private { PRIVATE.len() } else { 0 }, "egress {egress}: {reached:?}");
            match granted.get(1) {
                None => {}
                Some(neighbour) => {
                    let mut other = log_in(neighbour).await;
                    let address = execute(&mut other, OWN_ADDRESS).await;
                    assert!(!reaches(&mut session, address.trim(), 22).await, "{egress}: it reaches another machine");
                    // One that calls itself something, so that others take it for that.
                    execute(&mut other, "sudo -n udhcpc -i eth0 -n -q -x hostname:wpad -s /bin/true 2>&1").await;
                    let asked = session.execute("nslookup wpad 192.168.127.1", SSH_PATIENCE).await.unwrap();
                    let told = String::from_utf8(asked.stdout).unwrap();
                    assert!(told.contains("192.168.127.1"), "nobody was asked: {told}");
                    assert!(!told.contains(address.trim()), "another machine's name is answered: {told}");
                    // A card and an address that are somebody else's are worth nothing.
                    let mac = execute(&mut other, "cat /sys/class/net/eth0/address").await;
                    let theft = format!(
                        "sudo -n sh -c '(sleep 1; ip addr flush dev eth0; ip link set eth0 down; \
                         ip link set eth0 address {}; ip link set eth0 up; ip addr add {}/24 dev eth0; \
                         arping -c 3 -A -I eth0 {} || true) >/dev/null 2>&1 &'",
                        mac.trim(),
                        address.trim(),
                        address.trim()
                    );
                    execute(&mut session, &theft).await;
                    drop(session);
                    for _ in 0..5 {
                        assert_eq!(execute(&mut log_in(neighbour).await, "id -un").await.trim(), neighbour.username);
                    }
                }
            }
        });
        granted.iter().for_each(|grant| assert_eq!(destroy(daemon.address, grant).message, "OK"));
        until_available(daemon.address, 6);
        daemon.stop();
    }
}

#[test]
#[ignore = "needs qemu: run through tests/lab/run.sh"]
fn an_egress_that_this_host_cannot_give_is_refused_in_words() {
    let host = Host::lab();
    match host.mode {
        // Here it can.
        Mode::System => {}
        Mode::Embedded => {
            let refused = host.home("egress: internet", "").refused();
            assert!(refused.contains("container.egress is 'internet'") && refused.contains("'all'"), "{refused}");
        }
    }
}

/// What answers in the world, ended with the test.
struct Service(Child);

impl Service {
    fn start() -> Service {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", "world"]).arg(std::env::current_exe().unwrap());
        command.args(["--exact", "egress::role_world", "--ignored"]).env("ANWEDDOL_TEST_ROLE", "world");
        let service = Service(command.stdout(Stdio::null()).spawn().unwrap());
        until("the world", || TcpStream::connect((Ipv4Addr::new(8, 8, 8, 8), 7007)).ok());
        service
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
        run("ip", &["netns", "delete", "world"]);
    }
}
