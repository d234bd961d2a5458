//! libvirt inside the process, with QEMU: domains, wakes, adoption by the next process, forwards.

use std::fs;
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anweddol::guest::forward::user::UserForwarder;
use anweddol::guest::{Forward, ForwardError, Forwarder};
use anweddol::hypervisor::libvirt::{Config, Libvirt};
use anweddol::hypervisor::{DomainSpec, Hypervisor, HypervisorError};
use anweddol::model::{Image, Wake};
use uuid::Uuid;
use virt::connect::Connect;

use crate::common::overlay_is_made_afresh_and_stays_as_long_as_its_domain;
use crate::common::{argument, is_listed, kill_by_file, lab, role, running, scratch, spec, until, until_wake};

fn root() -> PathBuf {
    scratch().join("v")
}

fn pid_file(root: &Path, spec: &DomainSpec) -> PathBuf {
    root.join(format!("run/qemu/{}.pid", spec.domain_name()))
}

/// At a port of its own: tests that run at the same time share the host's.
fn forward(uuid: Uuid) -> Forward {
    let [.., high, low] = *uuid.as_bytes();
    Forward { uuid, ..Forward::of_port(21_000 + u16::from_be_bytes([high, low]) % 4_000) }
}

fn log_file(root: &Path, spec: &DomainSpec) -> PathBuf {
    root.join(format!("log/qemu/{}.log", spec.domain_name()))
}

#[test]
#[ignore = "needs qemu and the lab (tests/lab/run.sh --no-libvirtd)"]
fn a_domain_lives_from_create_to_destroy_and_leaves_nothing() {
    lab("embedded");
    let libvirt = Libvirt::connect(Config::embedded(root())).unwrap();
    let spec = spec();
    let mut wakes = libvirt.wakes();
    assert_eq!(libvirt.find(spec.mark.uid).unwrap(), None);
    for _ in 0..2 {
        libvirt.create(&spec).unwrap();
        running(&libvirt, &spec);
    }
    until_wake(&mut wakes, Wake::Domain(spec.mark.uid));
    assert!(is_listed(&libvirt, &spec));
    assert_eq!(libvirt.address(spec.mark.uid, &spec.mac).unwrap(), None);
    let pid = fs::read_to_string(pid_file(&root(), &spec)).unwrap();
    let owner = fs::read_to_string(format!("/proc/{}/status", pid.trim())).unwrap();
    let uid = owner.lines().find(|line| line.starts_with("Uid:")).unwrap();
    assert!(!uid.contains("\t0"), "QEMU runs as root: {uid}");
    assert!(log_file(&root(), &spec).exists());
    for _ in 0..2 {
        libvirt.destroy(&spec.mark).unwrap();
        assert_eq!(libvirt.find(spec.mark.uid).unwrap(), None);
    }
    assert!(!is_listed(&libvirt, &spec) && !log_file(&root(), &spec).exists());
}

#[test]
#[ignore = "needs qemu and the lab (tests/lab/run.sh --no-libvirtd)"]
fn a_qemu_that_is_killed_wakes_and_is_absent() {
    lab("embedded");
    let libvirt = Libvirt::connect(Config::embedded(root())).unwrap();
    let spec = spec();
    libvirt.create(&spec).unwrap();
    let mut wakes = libvirt.wakes();
    kill_by_file(&pid_file(&root(), &spec));
    until_wake(&mut wakes, Wake::Domain(spec.mark.uid));
    until("absence", || libvirt.find(spec.mark.uid).unwrap().is_none().then_some(()));
    libvirt.destroy(&spec.mark).unwrap();
    assert!(!log_file(&root(), &spec).exists());
}

#[test]
#[ignore = "the other process of the test below"]
fn role_daemon() {
    let Some(root) = argument() else { return };
    let libvirt = Libvirt::connect(Config::embedded(&root)).unwrap();
    let spec = spec();
    libvirt.create(&spec).unwrap();
    let forward = forward(spec.mark.uid);
    UserForwarder::new(libvirt.clone(), Ipv4Addr::LOCALHOST).publish(&forward).unwrap();
    fs::write(Path::new(&root).join("uid"), spec.mark.uid.to_string()).unwrap();
    println!("ready");
    loop {
        std::thread::park();
    }
}

#[test]
#[ignore = "needs qemu and the lab (tests/lab/run.sh --no-libvirtd)"]
fn a_process_that_is_killed_leaves_its_guests_to_the_next_one() {
    lab("embedded");
    let root = root();
    let mut daemon = role(&[], "embedded::role_daemon", root.to_str().unwrap());
    let Err(error) = Libvirt::connect(Config::embedded(&root)) else { panic!("two processes opened one directory") };
    assert!(error.to_string().contains("another process has"), "{error}");

    daemon.0.kill().unwrap();
    daemon.0.wait().unwrap();
    // A new process, because libvirt does not open a driver twice after it failed to.
    let heir = role(&[], "embedded::role_heir", root.to_str().unwrap());
    drop(heir);
}

#[test]
#[ignore = "the third process of the test above"]
fn role_heir() {
    let Some(root) = argument() else { return };
    let libvirt = Libvirt::connect(Config::embedded(&root)).unwrap();
    let uid = fs::read_to_string(Path::new(&root).join("uid")).unwrap().parse().unwrap();
    let seen = libvirt.list().unwrap().into_iter().find(|domain| domain.uuid == uid).expect("adopted");
    let forwarder = UserForwarder::new(libvirt.clone(), Ipv4Addr::LOCALHOST);
    assert!(forwarder.is_published(&forward(uid)).unwrap());
    libvirt.destroy(&seen.mark.unwrap()).unwrap();
    until("absence", || libvirt.find(uid).unwrap().is_none().then_some(()));
    println!("ready");
}

#[test]
#[ignore = "needs qemu and the lab (tests/lab/run.sh --no-libvirtd)"]
fn a_domain_whose_start_was_cut_off_is_not_there_for_the_next_one() {
    lab("embedded");
    let root = root();
    let mut daemon = role(&[], "embedded::role_daemon", root.to_str().unwrap());
    let uid = fs::read_to_string(root.join("uid")).unwrap();
    let run = root.join("run/qemu");
    let (status, pid) = (run.join(format!("anweddol-{uid}.xml")), run.join(format!("anweddol-{uid}.pid")));
    let written = fs::read_to_string(&status).unwrap();
    kill_by_file(&pid);
    until("libvirt to notice", || (!status.exists()).then_some(()));
    daemon.0.kill().unwrap();
    daemon.0.wait().unwrap();

    // As libvirt leaves it if it is killed before it knows the QEMU: no pid yet.
    let begin = written.find("pid='").unwrap() + "pid='".len();
    let length = written[begin..].find('\'').unwrap();
    fs::write(&status, format!("{}0{}", &written[..begin], &written[begin + length..])).unwrap();
    drop(role(&[], "embedded::role_finds_nothing", root.to_str().unwrap()));
}

#[test]
#[ignore = "the next process of the test above"]
fn role_finds_nothing() {
    let Some(root) = argument() else { return };
    let libvirt = Libvirt::connect(Config::embedded(&root)).unwrap();
    assert_eq!(libvirt.list().unwrap(), []);
    println!("ready");
}

#[test]
#[ignore = "needs qemu and the lab (tests/lab/run.sh --no-libvirtd)"]
fn ending_a_guest_at_once_after_opening_works() {
    lab("embedded");
    let root = root();
    drop(role(&[], "embedded::role_daemon", root.to_str().unwrap()));
    let libvirt = Libvirt::connect(Config::embedded(&root)).unwrap();
    let seen = libvirt.list().unwrap();
    assert_eq!(seen.len(), 1);
    libvirt.destroy(seen[0].mark.as_ref().unwrap()).unwrap();
    until("absence", || libvirt.find(seen[0].uuid).unwrap().is_none().then_some(()));
}

#[test]
#[ignore = "needs qemu and the lab (tests/lab/run.sh --no-libvirtd)"]
fn somebody_elses_domain_is_left_alone() {
    lab("embedded");
    let config = Config::embedded(root());
    let libvirt = Libvirt::connect(config.clone()).unwrap();
    let spec = spec();
    let foreign = format!(
        "<domain type='qemu'><name>theirs</name><uuid>{}</uuid><memory unit='MiB'>32</memory>\
         <os><type arch='x86_64'>hvm</type></os></domain>",
        spec.mark.uid
    );
    let connect = Connect::open(Some(&config.uri())).unwrap();
    let theirs = connect.create_domain_xml(&foreign, 0).unwrap();
    assert!(!is_listed(&libvirt, &spec));
    assert_eq!(libvirt.find(spec.mark.uid).unwrap().unwrap().mark, None);
    assert!(matches!(libvirt.create(&spec), Err(HypervisorError::NotOurs { .. })));
    assert!(matches!(libvirt.destroy(&spec.mark), Err(HypervisorError::NotOurs { .. })));
    let forwarder = UserForwarder::new(libvirt.clone(), Ipv4Addr::LOCALHOST);
    let forward = Forward { uuid: spec.mark.uid, ..Forward::of_port(20_101) };
    assert!(forwarder.publish(&forward).is_err());
    assert!(theirs.is_active().unwrap());
    theirs.destroy().unwrap();
}

#[test]
#[ignore = "needs qemu and the lab (tests/lab/run.sh --no-libvirtd)"]
fn forwards_come_and_go_while_the_guest_runs() {
    lab("embedded");
    let libvirt = Libvirt::connect(Config::embedded(root())).unwrap();
    let spec = spec();
    libvirt.create(&spec).unwrap();
    let forwarder = UserForwarder::new(libvirt.clone(), Ipv4Addr::UNSPECIFIED);
    let port = 20_102;
    let forward = Forward { uuid: spec.mark.uid, ..Forward::of_port(port) };
    assert!(forwarder.is_free(port));

    let at = forwarder.admin(&forward).unwrap();
    assert_eq!(at, (Ipv4Addr::new(127, 0, 0, 2), port).into());
    TcpStream::connect(at).unwrap();
    assert!(!forwarder.is_published(&forward).unwrap() && !forwarder.is_free(port));
    let beside = Ipv4Addr::LOCALHOST;
    assert!(TcpStream::connect((beside, port)).is_err(), "reachable before it is published");

    let open = TcpStream::connect(at).unwrap();
    for _ in 0..2 {
        forwarder.publish(&forward).unwrap();
        assert!(forwarder.is_published(&forward).unwrap());
        assert_eq!(forwarder.admin(&forward).unwrap(), at);
        assert_eq!(forwarder.list().unwrap(), [port]);
    }
    TcpStream::connect((beside, port)).unwrap();
    // Still open: a read finds nothing yet, but no end either.
    open.set_nonblocking(true).unwrap();
    assert_eq!(open.peek(&mut [0]).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);

    let listener = std::net::TcpListener::bind((Ipv4Addr::UNSPECIFIED, 20_103)).unwrap();
    let taken = forwarder.publish(&Forward { port: 20_103, ..forward.clone() });
    assert!(matches!(taken, Err(ForwardError::Taken { port: 20_103 })), "{taken:?}");
    drop(listener);

    for _ in 0..2 {
        forwarder.withdraw(&forward).unwrap();
        assert!(forwarder.list().unwrap().is_empty());
    }
    assert!(TcpStream::connect_timeout(&at, Duration::from_secs(5)).is_err());
    libvirt.destroy(&spec.mark).unwrap();
    forwarder.withdraw(&forward).unwrap();
    assert!(!forwarder.is_published(&forward).unwrap());
}

#[test]
#[ignore = "needs qemu and the lab (tests/lab/run.sh --no-libvirtd)"]
fn an_image_that_qemu_cannot_read_is_told_before_the_start() {
    use std::os::unix::fs::PermissionsExt;
    lab("embedded");
    let libvirt = Libvirt::connect(Config::embedded(root())).unwrap();
    let mut spec = spec();
    let invalid = |libvirt: &Arc<Libvirt>, spec: &DomainSpec| match libvirt.create(spec) {
        Err(HypervisorError::Invalid { what, reason }) => format!("{what}: {reason}"),
        other => panic!("{other:?}"),
    };
    let closed = scratch().join("closed");
    fs::create_dir(&closed).unwrap();
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).unwrap();
    fs::write(closed.join("image.iso"), "").unwrap();
    spec.image = Image::Iso(closed.join("image.iso"));
    let text = invalid(&libvirt, &spec);
    assert!(text.contains("cannot pass") && text.contains("closed"), "{text}");
    spec.image = Image::Iso(scratch().join("none.iso"));
    let text = invalid(&libvirt, &spec);
    assert!(text.contains("No such file"), "{text}");
    assert_eq!(libvirt.find(spec.mark.uid).unwrap(), None);
}

#[test]
#[ignore = "needs qemu and the lab (tests/lab/run.sh --no-libvirtd)"]
fn an_overlay_is_made_afresh_and_stays_as_long_as_its_domain() {
    lab("embedded");
    let config = Config::embedded(root());
    let libvirt = Libvirt::connect(config.clone()).unwrap();
    overlay_is_made_afresh_and_stays_as_long_as_its_domain(&libvirt, &config.disks);
}
