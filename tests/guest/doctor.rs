//! What a doctor does about things that no record owns, on a real host: each planted in two copies, ours and one of
//! somebody else with nearly the same name. That machines leave nothing of their own is in [`Host::until_gone`].

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use anweddol::hypervisor::{domain_name, xml};
use anweddol::model::Credentials;
use anweddol::store::{self, Store, Txn, records};
use serde_json::Value;
use uuid::Uuid;

use crate::common::daemon::{Home, finish, program, stderr, stdout};
use crate::host::{Host, Mode, run};

/// A machine without a record.
const ORPHAN: Uuid = Uuid::from_u128(0x0123_4567_89ab_4def_8123_4567_89ab_cdef);
/// One of which nothing is left but a save file; the domain of the other is saved for real.
const SAVED: Uuid = Uuid::from_u128(0x0123_4567_79ab_4def_8123_4567_89ab_cdef);
/// Another installation's.
const THEIRS: Uuid = Uuid::from_u128(0x0123_4567_99ab_4def_8123_4567_89ab_cdef);

fn doctor(home: &Home, args: &[&str]) -> (Option<i32>, Value) {
    let output =
        finish(program(["doctor", "--only", "records", "-o", "json", "--config"]).arg(&home.config).args(args));
    let report = serde_json::from_str(&stdout(&output));
    (output.status.code(), report.unwrap_or_else(|_| panic!("{}", stderr(&output))))
}

fn write(path: PathBuf, text: &str) -> PathBuf {
    fs::DirBuilder::new().recursive(true).mode(0o755).create(path.parent().unwrap()).unwrap();
    fs::write(&path, text).unwrap();
    path
}

/// The mark of a machine, as in a domain's XML.
fn metadata(instance: Uuid, uid: Uuid) -> String {
    let namespace = xml::MARK_NAMESPACE;
    format!(
        "<metadata><anw:container xmlns:anw='{namespace}' instance='{instance}' namespace='default' name='lost' uid='{uid}'/></metadata>"
    )
}

/// What is left in files: ours, and what has to stay.
fn plant_files(host: &Host, home: &Home, instance: Uuid) -> (Vec<PathBuf>, Vec<PathBuf>) {
    let (ours, theirs) = (domain_name(ORPHAN), domain_name(THEIRS));
    let (logs, lib) = match host.mode {
        Mode::Embedded => (home.state.join("embed/log/qemu"), home.state.join("embed/lib/qemu")),
        Mode::System => ("/var/log/libvirt/qemu".into(), "/var/lib/libvirt/qemu".into()),
    };
    let log = |instance| format!("2026-01-01: starting up\n-device virtio-rng-pci,id={} \\\n", xml::log_mark(instance));
    let saved = |metadata: &str| format!("LibvirtQemudSave\0\0<domain>{metadata}</domain>\0");
    let mut left = vec![
        write(home.state.join(format!("disks/{ORPHAN}.qcow2")), ""),
        write(home.state.join(".server.pem.4194305.new"), "half of one"),
        write(logs.join(format!("{ours}.log")), &log(instance)),
        write(lib.join(format!("save/{}.save", domain_name(SAVED))), &saved(&metadata(instance, SAVED))),
    ];
    let mut others = vec![
        write(home.state.join(format!("disks/{ORPHAN}.qcow2.bak")), ""),
        write(home.state.join("disks/base.qcow2"), ""),
        write(logs.join(format!("x{ours}.log")), &log(instance)),
        write(lib.join("save/windows.save"), &saved("")),
    ];
    match host.mode {
        Mode::Embedded => {
            let embed = home.state.join("embed");
            left.push(write(embed.join(format!("run/qemu/{ours}.pid")), "1"));
            left.push(write(embed.join("lib/qemu/domain-9-anweddol-01234567-89/monitor.sock"), ""));
            others.push(write(embed.join("lib/qemu/domain-9-other/monitor.sock"), ""));
        }
        Mode::System => {
            left.push(lib.join(format!("save/{ours}.save")));
            // Rotated: only the older one says whose it was.
            left.push(write(logs.join(format!("{ours}.log.1")), ""));
            others.push(write(logs.join(format!("{theirs}.log")), &log(Uuid::new_v4())));
            others.push(write(lib.join(format!("save/{theirs}.save")), &saved(&metadata(Uuid::new_v4(), THEIRS))));
            others.push(write(lib.join(format!("nvram/{ours}_VARS.fd")), ""));
        }
    }
    (left, others)
}

fn sh(line: &str) -> String {
    run("sh", &["-ec", line])
}

/// What is left in libvirt and in the kernel, and what has to stay: words that a look finds.
fn plant_system(instance: Uuid) {
    let domain = |name: &str, uuid: Uuid, metadata: &str| {
        let xml = format!(
            "<domain type='qemu'><name>{name}</name><uuid>{uuid}</uuid>{metadata}<memory unit='MiB'>32</memory>\
             <os><type arch='x86_64'>hvm</type></os></domain>"
        );
        write(Path::new("/run/lab/domain.xml").into(), &xml)
    };
    // Somebody made ours permanent, and saved it.
    domain(&domain_name(ORPHAN), ORPHAN, &metadata(instance, ORPHAN));
    sh(&format!(
        "virsh -q define /run/lab/domain.xml; virsh -q start {0}; virsh -q managedsave {0}",
        domain_name(ORPHAN)
    ));
    domain(&domain_name(THEIRS), THEIRS, &metadata(Uuid::new_v4(), THEIRS));
    sh("virsh -q define /run/lab/domain.xml");
    let unmarked = Uuid::from_u128(5);
    domain(&domain_name(unmarked), unmarked, "");
    sh("virsh -q define /run/lab/domain.xml");
    let (ours, other) = (xml::card("anw0", ORPHAN), xml::card("anw0", THEIRS));
    sh(&format!(
        "ip tuntap add dev {ours} mode tap; ip link set {ours} master anw0; ip tuntap add dev {other} mode tap
         nft add element ip anweddol fwds '{{ 19999 : 192.168.127.77 . 22 }}'
         nft add element ip anweddol internet '{{ 192.168.127.77 }}'
         nft add element bridge anweddol held '{{ 02:00:00:00:00:77 }}'
         nft add element bridge anweddol guests '{{ 192.168.127.77 . 02:00:00:00:00:77 . \"{ours}\" comment \"19999\" }}'
         nft add element bridge anweddol guests '{{ 192.168.127.79 . 02:00:00:00:00:79 . \"{other}\" }}'
         nft 'add table ip anweddol2; add set ip anweddol2 internet {{ type ipv4_addr; }}'
         nft add element ip anweddol2 internet '{{ 192.168.127.77 }}'
         conntrack -I -p tcp -t 600 --state ESTABLISHED -s 192.168.127.78 -d 10.9.9.9 --sport 1 --dport 2 \\
             -r 10.9.9.9 -q 192.168.127.78 --reply-port-src 2 --reply-port-dst 1 2>/dev/null
         conntrack -I -p tcp -t 600 --state ESTABLISHED -s 192.168.128.78 -d 10.9.9.9 --sport 1 --dport 2 \\
             -r 10.9.9.9 -q 192.168.128.78 --reply-port-src 2 --reply-port-dst 1 2>/dev/null"
    ));
}

fn check_system() {
    let domains = sh("virsh -q list --all --name");
    assert!(!domains.contains(&ORPHAN.to_string()), "{domains}");
    assert!(domains.contains(&THEIRS.to_string()) && domains.contains(&Uuid::from_u128(5).to_string()), "{domains}");
    let links = sh("ip -o link");
    assert!(!links.contains(&xml::card("anw0", ORPHAN)) && links.contains(&xml::card("anw0", THEIRS)), "{links}");
    let ours = sh("nft list table ip anweddol; nft list table bridge anweddol");
    assert!(["19999", "192.168.127.77", "02:00:00:00:00:77"].iter().all(|word| !ours.contains(word)), "{ours}");
    assert!(ours.contains("192.168.127.79"), "{ours}");
    assert!(sh("nft list table ip anweddol2").contains("192.168.127.77"));
    let flows = sh("conntrack -L 2>/dev/null");
    assert!(!flows.contains("192.168.127.78") && flows.contains("192.168.128.78"), "{flows}");
    sh(&format!(
        "rm /var/lib/libvirt/qemu/save/{0}.save; virsh -q undefine {0}; virsh -q undefine {1}; ip link delete {2}; nft delete table ip anweddol2",
        domain_name(THEIRS),
        domain_name(Uuid::from_u128(5)),
        xml::card("anw0", THEIRS)
    ));
}

#[test]
#[ignore = "needs qemu: run through tests/lab/run.sh"]
fn what_is_ours_and_has_no_record_is_removed_and_what_is_somebody_elses_stays() {
    let host = Host::lab();
    let home = host.home("", "");
    // It makes the store, the network and the tables.
    home.start().stop();
    let instance = {
        let store = store::open(&home.state.join("store"), store::Options::default()).unwrap();
        let login = Credentials { username: "user_1".into(), sealed_password: String::new() };
        let (login_key, port) = (records::credentials_key("default", "lost"), records::port_key(19_998));
        store.txn(Txn::default().put(&login_key, &login).put(&port, &ORPHAN)).wait().unwrap();
        let instance = records::instance(&*store, Uuid::new_v4()).unwrap();
        store.close();
        instance
    };
    let (code, report) = doctor(&home, &[]);
    assert_eq!((code, &report["daemon"]), (Some(1), &false.into()), "{report}");
    match host.mode {
        Mode::Embedded => {}
        Mode::System => plant_system(instance),
    }
    let (left, others) = plant_files(&host, &home, instance);
    let (code, report) = doctor(&home, &[]);
    assert_eq!(code, Some(1), "{report}");
    assert!(left.iter().all(|path| path.exists()), "a look removed something");
    let wrong: Vec<&str> = report["drifts"].as_array().unwrap().iter().map(|d| d["kind"].as_str().unwrap()).collect();
    let both = ["disk", "save", "log", "credentials", "port", "file"];
    let own: &[&str] = match host.mode {
        Mode::Embedded => &["socket"],
        Mode::System => &["domain", "tap", "forward", "element", "flow"],
    };
    assert!(both.iter().chain(own).all(|kind| wrong.contains(kind)), "{report}");

    let (code, report) = doctor(&home, &["--fix"]);
    assert_eq!((code, &report["daemon"]), (Some(0), &false.into()), "{report}");
    let still: Vec<_> = left.iter().filter(|path| path.exists()).collect();
    assert!(still.is_empty(), "{still:?}: {report}");
    let gone: Vec<_> = others.iter().filter(|path| !path.exists()).collect();
    assert!(gone.is_empty(), "somebody else's {gone:?}: {report}");
    match host.mode {
        Mode::Embedded => {}
        Mode::System => check_system(),
    }
    // And with a daemon, that says the same.
    let daemon = home.start();
    let (code, report) = doctor(&home, &[]);
    assert_eq!((code, &report["daemon"]), (Some(0), &true.into()), "{report}");
    daemon.stop();
}

/// The same of the host alone; `args` besides.
fn host_checks(home: &Home, args: &[&str]) -> (Option<i32>, Vec<Value>) {
    let output = finish(program(["doctor", "--only", "host", "-o", "json", "--config"]).arg(&home.config).args(args));
    let report: Value = serde_json::from_str(&stdout(&output)).unwrap_or_else(|_| panic!("{}", stderr(&output)));
    (output.status.code(), report["host"].as_array().unwrap().clone())
}

fn named<'a>(checks: &'a [Value], name: &str) -> &'a Value {
    checks.iter().find(|check| check["name"] == name).unwrap_or_else(|| panic!("no '{name}' in {checks:?}"))
}

#[test]
#[ignore = "needs qemu: run through tests/lab/run.sh"]
fn a_host_that_runs_machines_has_no_failure_before_its_first_daemon_and_with_one() {
    let host = Host::lab();
    let home = host.home("", "");
    let look = |serves: bool| {
        let (code, checks) = host_checks(&home, &[]);
        let failed: Vec<_> =
            checks.iter().filter(|check| check["status"] == "fail" || check["status"] == "unknown").collect();
        assert!(failed.is_empty() && code == Some(0), "{code:?}: {failed:?}");
        let emulated = named(&checks, "an emulated guest runs");
        assert_eq!(emulated["status"], "ok", "{emulated}");
        // How it is with KVM depends on the host below; it is told, whatever it is.
        assert!(named(&checks, "a KVM guest runs")["message"].as_str().is_some_and(|said| !said.is_empty()));
        let libvirt = named(&checks, "libvirt")["message"].as_str().unwrap().to_owned();
        match (host.mode, serves) {
            (Mode::System, _) => assert!(libvirt.contains("libvirt ") && libvirt.contains("system mode"), "{libvirt}"),
            (Mode::Embedded, false) => assert!(libvirt.contains("QEMU ") && libvirt.contains("embedded"), "{libvirt}"),
            (Mode::Embedded, true) => assert!(libvirt.contains("embedded mode"), "{libvirt}"),
        }
        // They stay when a daemon ends, and another test's may be there already.
        if host.mode == Mode::System && serves {
            let tables = named(&checks, "nftables")["message"].as_str().unwrap();
            assert!(tables.contains("our tables are there"), "{tables}");
        }
    };
    look(false);
    assert!(!home.state.join("store").exists() && !home.state.join("embed").exists(), "a look made something");
    let daemon = home.start();
    look(true);
    daemon.stop();
}

#[test]
#[ignore = "needs qemu: run through tests/lab/run.sh"]
fn what_keeps_machines_from_running_is_found_and_what_is_hopeless_is_refused() {
    let host = Host::lab();
    // QEMU runs as another user here, and may not pass.
    let closed = host.dir.join("closed");
    fs::create_dir_all(&closed).unwrap();
    let image = closed.join("image.iso");
    fs::write(&image, "an image").unwrap();
    fs::set_permissions(&closed, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    let home = host.home_with_image(&format!("{{iso: {}}}", image.display()), "");
    let (code, checks) = host_checks(&home, &["--no-guest"]);
    let said = named(&checks, "image");
    assert_eq!((code, &said["status"]), (Some(1), &"fail".into()), "{said}");
    assert!(said["remedy"].as_str().unwrap().contains(&format!("chmod o+rX {}", closed.display())), "{said}");
    if host.mode == Mode::Embedded {
        return;
    }
    // What Docker does, and a network of others that is larger than ours.
    run(
        "nft",
        &["add table ip filter; add chain ip filter FORWARD { type filter hook forward priority 0; policy drop; }"],
    );
    run("ip", &["link", "add", "others", "type", "bridge"]);
    run("ip", &["addr", "add", "192.168.0.1/16", "dev", "others"]);
    run("ip", &["link", "set", "others", "up"]);
    let home = host.home("", "");
    let (_, checks) = host_checks(&home, &["--no-guest"]);
    for (name, word) in [("other firewall rules", "iptables -I FORWARD -i anw0"), ("subnet", "hypervisor.subnet")] {
        let said = named(&checks, name);
        assert!(said["status"] == "fail" && said["remedy"].as_str().unwrap().contains(word), "{said}");
    }
    // What it advises helps.
    for direction in ["iifname", "oifname"] {
        run("nft", &["add", "rule", "ip", "filter", "FORWARD", direction, "\"anw0\"", "accept"]);
    }
    assert_eq!(named(&host_checks(&home, &["--no-guest"]).1, "other firewall rules")["status"], "ok");
    run("nft", &["delete", "table", "ip", "filter"]);
    run("ip", &["link", "delete", "others"]);
    // Programs of system mode, but one.
    let bin = host.dir.join("bin");
    fs::create_dir_all(&bin).unwrap();
    for program in ["qemu-system-x86_64", "qemu-img", "ip", "conntrack"] {
        let file = run("sh", &["-c", &format!("command -v {program}")]);
        std::os::unix::fs::symlink(file.trim(), bin.join(program)).unwrap();
    }
    let said = host.home("", "").env("PATH", bin.to_str().unwrap()).refused();
    assert!(said.contains("there is no nft") && said.contains("install the package nftables"), "{said}");
}
