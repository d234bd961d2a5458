//! The host's libvirtd, with QEMU: what differs from embedded.

use std::fs::File;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use anweddol::hypervisor::libvirt::{Config, Libvirt, Mode, NatNetwork};
use anweddol::hypervisor::{DomainSpec, Hypervisor, HypervisorError};
use anweddol::model::Wake;
use rustix::process::{Pid, Signal, kill_process};

use crate::common::overlay_is_made_afresh_and_stays_as_long_as_its_domain;
use crate::common::{is_listed, kill_by_file, lab, libvirtd, running, scratch, spec, until, until_wake};

/// The one libvirtd of the lab: shared, but for the test that kills it.
pub(crate) fn shared() -> File {
    File::create("/run/lab/libvirtd.lock").unwrap()
}

fn pid_file(spec: &DomainSpec) -> PathBuf {
    format!("/run/libvirt/qemu/{}.pid", spec.domain_name()).into()
}

#[test]
#[ignore = "needs qemu, libvirtd and the lab (tests/lab/run.sh)"]
fn a_domain_lives_from_create_to_destroy() {
    lab("system");
    let lock = shared();
    lock.lock_shared().unwrap();
    let libvirt = Libvirt::connect(Config::system()).unwrap();
    let spec = spec();
    let mut wakes = libvirt.wakes();
    for _ in 0..2 {
        libvirt.create(&spec).unwrap();
        running(&libvirt, &spec);
    }
    until_wake(&mut wakes, Wake::Domain(spec.mark.uid));
    assert!(is_listed(&libvirt, &spec));
    for _ in 0..2 {
        libvirt.destroy(&spec.mark).unwrap();
        assert_eq!(libvirt.find(spec.mark.uid).unwrap(), None);
    }
}

#[test]
#[ignore = "needs qemu, libvirtd and the lab (tests/lab/run.sh)"]
fn a_qemu_that_is_killed_wakes_and_is_absent() {
    lab("system");
    let lock = shared();
    lock.lock_shared().unwrap();
    let libvirt = Libvirt::connect(Config::system()).unwrap();
    let spec = spec();
    libvirt.create(&spec).unwrap();
    let mut wakes = libvirt.wakes();
    kill_by_file(&pid_file(&spec));
    until_wake(&mut wakes, Wake::Domain(spec.mark.uid));
    until("absence", || libvirt.find(spec.mark.uid).unwrap().is_none().then_some(()));
}

#[test]
#[ignore = "needs qemu, libvirtd and the lab (tests/lab/run.sh)"]
fn a_libvirtd_that_is_killed_is_unknown_and_then_everything_is_looked_at() {
    lab("system");
    let lock = shared();
    lock.lock().unwrap();
    let libvirt = Libvirt::connect(Config::system()).unwrap();
    let spec = spec();
    libvirt.create(&spec).unwrap();
    let mut wakes = libvirt.wakes();
    // Once when a connection is new, and once more when libvirt has settled: here, before anything happens,
    until_wake(&mut wakes, Wake::Everything);
    libvirtd::end(Signal::KILL);
    // when it broke,
    until_wake(&mut wakes, Wake::Everything);
    let error = until("an error", || libvirt.find(spec.mark.uid).err());
    assert!(matches!(error, HypervisorError::Unreachable { .. }), "{error}");
    let error = libvirt.list().unwrap_err();
    assert!(error.to_string().contains("is libvirtd running"), "{error}");

    libvirtd::start();
    // when it is there again, and settled.
    until_wake(&mut wakes, Wake::Everything);
    running(&libvirt, &spec);
    until_wake(&mut wakes, Wake::Everything);
    kill_by_file(&pid_file(&spec));
    until_wake(&mut wakes, Wake::Domain(spec.mark.uid));
    until("absence", || libvirt.find(spec.mark.uid).unwrap().is_none().then_some(()));
}

/// The lab's libvirtd goes on when this is dropped, whatever a test found.
struct Stopped(Pid);

impl Drop for Stopped {
    fn drop(&mut self) {
        kill_process(self.0, Signal::CONT).unwrap();
    }
}

#[test]
#[ignore = "needs qemu, libvirtd and the lab (tests/lab/run.sh)"]
fn a_libvirtd_that_hangs_is_unknown_to_everybody_who_asked_and_comes_back() {
    lab("system");
    let lock = shared();
    lock.lock().unwrap();
    let libvirt = Libvirt::connect(Config::system()).unwrap();
    let spec = spec();
    libvirt.create(&spec).unwrap();
    let stopped = Stopped(libvirtd::pid().unwrap());
    kill_process(stopped.0, Signal::STOP).unwrap();
    // More than may ask at once: those who wait for their turn are told too.
    let asking: Vec<_> = (0..9)
        .map(|_| {
            let (libvirt, uuid) = (libvirt.clone(), spec.mark.uid);
            std::thread::spawn(move || libvirt.find(uuid))
        })
        .collect();
    for asked in asking {
        until("an answer", || asked.is_finished().then_some(()));
        let answer = asked.join().unwrap();
        assert!(matches!(answer, Err(HypervisorError::Unreachable { .. })), "{answer:?}");
    }
    assert!(matches!(libvirt.reachable(), Err(HypervisorError::Unreachable { .. })));
    let mut wakes = libvirt.wakes();
    drop(stopped);
    until_wake(&mut wakes, Wake::Everything);
    libvirt.reachable().unwrap();
    running(&libvirt, &spec);
    libvirt.destroy(&spec.mark).unwrap();
}

#[test]
#[ignore = "needs qemu, libvirtd and the lab (tests/lab/run.sh)"]
fn a_guests_address_is_its_lease_inside_the_network() {
    lab("system");
    let lock = shared();
    lock.lock_shared().unwrap();
    // A bridge of its own, because this test writes the leases of it.
    let subnet = "192.168.126.0/24".parse().unwrap();
    let network = NatNetwork { name: "leases".into(), bridge: "anw-leases".into(), subnet };
    let mode = Mode::System { uri: "qemu:///system".into(), network };
    let libvirt = Libvirt::connect(Config { mode, ..Config::system() }).unwrap();
    let spec = spec();
    assert_eq!(libvirt.address(spec.mark.uid, &spec.mac).unwrap(), None);
    libvirt.create(&spec).unwrap();
    assert_eq!(libvirt.address(spec.mark.uid, &spec.mac).unwrap(), None);
    let mut wakes = libvirt.wakes();
    let expiry = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() + 300;
    for (lease, seen) in [
        ("192.168.126.77", Some("192.168.126.77".parse().unwrap())),
        ("192.168.126.1", None),
        ("127.0.0.1", None),
        ("10.1.2.3", None),
    ] {
        let mac = &spec.mac;
        let json = format!(r#"[{{"ip-address": "{lease}", "mac-address": "{mac}", "expiry-time": {expiry}}}]"#);
        std::fs::write("/var/lib/libvirt/dnsmasq/anw-leases.status", json).unwrap();
        until_wake(&mut wakes, Wake::Lease);
        assert_eq!(libvirt.address(spec.mark.uid, mac).unwrap(), seen, "{lease}");
        assert_eq!(libvirt.address(spec.mark.uid, "52:54:00:ff:ff:ff").unwrap(), None);
    }
    libvirt.destroy(&spec.mark).unwrap();
}

#[test]
#[ignore = "needs qemu, libvirtd and the lab (tests/lab/run.sh)"]
fn a_network_in_the_way_is_told() {
    lab("system");
    let lock = shared();
    lock.lock_shared().unwrap();
    let connect = |name: &str, bridge: &str, subnet: &str| {
        let network = NatNetwork { name: name.into(), bridge: bridge.into(), subnet: subnet.parse().unwrap() };
        let mode = Mode::System { uri: "qemu:///system".into(), network };
        Libvirt::connect(Config { mode, ..Config::system() }).map(drop)
    };
    connect("way", "way0", "192.168.125.0/24").unwrap();
    connect("way", "way0", "192.168.125.0/24").unwrap();
    let otherwise = connect("way", "way0", "192.168.124.0/24").unwrap_err();
    assert!(matches!(otherwise, HypervisorError::Invalid { .. }), "{otherwise}");
    assert!(otherwise.to_string().contains("made otherwise"), "{otherwise}");
    let clash = connect("clash", "clash0", "192.168.125.0/24").unwrap_err();
    assert!(clash.to_string().contains("choose another subnet"), "{clash}");
    // What failed left nothing: another subnet works under the same name.
    connect("clash", "clash0", "192.168.123.0/24").unwrap();
}

#[test]
#[ignore = "needs qemu, libvirtd and the lab (tests/lab/run.sh)"]
fn an_overlay_is_made_afresh_and_stays_as_long_as_its_domain() {
    lab("system");
    let lock = shared();
    lock.lock_shared().unwrap();
    let config = Config { disks: scratch().join("disks"), ..Config::system() };
    let libvirt = Libvirt::connect(config.clone()).unwrap();
    overlay_is_made_afresh_and_stays_as_long_as_its_domain(&libvirt, &config.disks);
}

#[test]
#[ignore = "needs qemu, libvirtd and the lab (tests/lab/run.sh)"]
fn four_calls_at_once_are_enough_for_many_starts() {
    lab("system");
    let lock = shared();
    lock.lock_shared().unwrap();
    let libvirt = Libvirt::connect(Config::system()).unwrap();
    let specs: Vec<_> = (0..6).map(|_| spec()).collect();
    std::thread::scope(|scope| {
        for spec in &specs {
            scope.spawn(|| libvirt.create(spec).unwrap());
        }
    });
    for spec in &specs {
        running(&libvirt, spec);
        libvirt.destroy(&spec.mark).unwrap();
    }
}
