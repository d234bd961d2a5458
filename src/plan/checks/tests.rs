use super::host::{Host, Listen};
use super::machines::{Boots, Machines, Way};
use super::network::{Drop, Network, Route};
use super::storage::{ImageFile, StateDir, Storage};
use super::*;
use crate::model::{DomainType, Subnet};

const GIB: u64 = 1 << 30;

/// A host without any fault, in system mode, before its first daemon.
fn facts() -> Facts {
    Facts {
        machines: Machines {
            way: Way::System,
            why: "this user is root".into(),
            qemu: Some("/usr/bin/qemu-system-x86_64".into()),
            qemu_img: Some("/usr/bin/qemu-img".into()),
            disks: false,
            libvirt: Some(Ok("libvirt 9.0.0".into())),
            driver: Some("/usr/lib/driver.so".into()),
            driver_places: "/usr/lib".into(),
            kvm: true,
            kvm_reason: "it opens".into(),
            wanted: DomainType::Auto,
            boots: Some(Boots { emulated: Ok(100), kvm: Some(Ok(90)) }),
        },
        network: Some(Network {
            bridge: "anw0".into(),
            subnet: Subnet::default(),
            missing: vec![],
            routes: Ok(vec![]),
            drops: Ok(vec![]),
            tables: Ok(false),
            forwards: Ok(false),
            serves: false,
        }),
        storage: Storage {
            user: "root".into(),
            dir: "/var/lib/anweddol".into(),
            state: StateDir::There { mode: 0o711, writable: true, open: vec![] },
            image: vec![file()],
            free: Ok(10 * GIB),
            reserve: GIB / 2,
        },
        host: Some(Host {
            listens: vec![Listen { key: "server.listen", address: "0.0.0.0:6150".into(), refused: None }],
            serves: false,
            range: (10_000, 14_999),
            taken: Ok(0),
            ephemeral: Ok((32_768, 60_999)),
            reserved: false,
            most: 6,
            memory: Ok(8 * GIB),
            each: GIB / 4,
            synchronised: Ok(true),
            ahead: None,
            files: Some(65_536),
            clients: 1024,
            watches: Ok(128),
            tasks: Ok(Some(10_000)),
        }),
    }
}

fn file() -> ImageFile {
    ImageFile { path: "/images/vmlinuz".into(), unreadable: None, closed: None, as_built: Some(true) }
}

fn network(facts: &mut Facts) -> &mut Network {
    facts.network.as_mut().unwrap()
}

fn host(facts: &mut Facts) -> &mut Host {
    facts.host.as_mut().unwrap()
}

fn serves(facts: &mut Facts) {
    host(facts).serves = true;
    host(facts).listens[0].refused = Some("in use".into());
    let network = network(facts);
    (network.serves, network.tables, network.forwards) = (true, Ok(true), Ok(true));
}

fn embedded(facts: &mut Facts) {
    (facts.machines.way, facts.machines.libvirt, facts.network) = (Way::Embedded, None, None);
}

fn route(interface: &str, base: [u8; 4], prefix: u8) -> Route {
    Route { interface: interface.into(), base: base.into(), prefix }
}

fn docker(lets_ours: bool) -> Drop {
    Drop { chain: "ip filter FORWARD".into(), lets_ours, docker: true }
}

/// A name, what is wrong, which check tells, how, a word of it or of its remedy, and whether it stops `serve`.
type Row = (&'static str, fn(&mut Facts), &'static str, Status, &'static str, bool);

use Status::{Fail, Unknown, Warn};

#[rustfmt::skip]
const MACHINES: &[Row] = &[
    ("no QEMU", |f| f.machines.qemu = None, "qemu", Fail, "qemu-system-x86", true),
    ("no libvirtd", |f| f.machines.libvirt = Some(Err("no socket".into())), "libvirt", Fail, "start libvirtd", false),
    ("no driver", |f| { embedded(f); f.machines.driver = None }, "libvirt's QEMU driver", Fail, "libvirt-daemon", false),
    ("disks without qemu-img", |f| { f.machines.disks = true; f.machines.qemu_img = None }, "qemu-img", Fail, "qemu-utils", true),
    ("no qemu-img", |f| f.machines.qemu_img = None, "qemu-img", Warn, "qemu-utils", false),
    ("no KVM", |f| { f.machines.kvm = false; f.machines.kvm_reason = "no device".into() }, "kvm", Warn, "no device", false),
    ("KVM wanted", |f| { f.machines.kvm = false; f.machines.wanted = DomainType::Kvm }, "kvm", Fail, "domain_type: auto", false),
    ("KVM that runs nothing", |f| boots(f).kvm = Some(Err("it hung".into())), "a KVM guest runs", Fail, "domain_type: qemu", false),
    ("KVM that runs nothing, and is not used", |f| { f.machines.wanted = DomainType::Qemu; boots(f).kvm = Some(Err("it hung".into())) },
        "a KVM guest runs", Warn, "it hung", false),
    ("QEMU that runs nothing", |f| boots(f).emulated = Err("no firmware".into()), "an emulated guest runs", Fail, "no firmware", false),
];

#[rustfmt::skip]
const NETWORK: &[Row] = &[
    ("no nft", |f| network(f).missing = vec![("nft", "nftables")], "programs", Fail, "the package nftables", true),
    ("a larger network", |f| network(f).routes = Ok(vec![route("eth0", [192, 168, 0, 0], 16)]), "subnet", Fail, "hypervisor.subnet", false),
    ("a smaller network", |f| network(f).routes = Ok(vec![route("eth0", [192, 168, 127, 64], 26)]), "subnet", Fail, "eth0", false),
    ("no routes seen", |f| network(f).routes = Err("closed".into()), "subnet", Unknown, "closed", false),
    ("tables gone", |f| { serves(f); network(f).tables = Ok(false) }, "nftables", Fail, "restart the daemon", false),
    ("no tables seen", |f| network(f).tables = Err("this needs root".into()), "nftables", Unknown, "this needs root", false),
    ("Docker", |f| network(f).drops = Ok(vec![docker(false)]), "other firewall rules", Fail, "DOCKER-USER -i anw0", false),
    ("forwarding off again", |f| { serves(f); network(f).forwards = Ok(false) }, "forwarding", Fail, "sysctl -w", false),
];

#[rustfmt::skip]
const STORAGE: &[Row] = &[
    ("a directory that cannot be made", |f| f.storage.state = StateDir::Missing { may_make: false }, "state directory", Fail, "state_dir", true),
    ("a file in its place", |f| f.storage.state = StateDir::Wrong("no directory".into()), "state directory", Fail, "no directory", true),
    ("others may write", |f| state(f, 0o777, true, &[]), "state directory", Fail, "chmod go-w", true),
    ("we may not write", |f| state(f, 0o711, false, &[]), "state directory", Fail, "may not write", true),
    ("an open key", |f| state(f, 0o711, true, &["/s/seal.key"]), "secrets", Fail, "chmod 600 /s/seal.key", false),
    ("no image", |f| f.storage.image[0].unreadable = Some("no such file".into()), "image", Fail, "image build", true),
    ("an image closed to QEMU", |f| f.storage.image[0].closed = Some(("libvirt-qemu".into(), "/root".into())), "image", Fail, "chmod o+rX /root", false),
    ("another image", |f| f.storage.image[0].as_built = Some(false), "image", Fail, "image build", false),
    ("a full disk", |f| f.storage.free = Ok(GIB / 2 - 1), "disk", Fail, "host.disk_reserve", false),
    ("a nearly full disk", |f| f.storage.free = Ok(GIB - 1), "disk", Warn, "make room", false),
    ("no disk seen", |f| f.storage.free = Err("gone".into()), "disk", Unknown, "gone", false),
];

#[rustfmt::skip]
const HOST: &[Row] = &[
    ("a port taken", |f| host(f).listens[0].refused = Some("in use".into()), "server.listen", Fail, "ss -ltnp", false),
    ("a daemon elsewhere", |f| { serves(f); host(f).listens[0].refused = None }, "server.listen", Warn, "restart it", false),
    ("ports taken", |f| host(f).taken = Ok(4_995), "forwarded ports", Fail, "port_forwarding.range", false),
    ("no listeners seen", |f| host(f).taken = Err("closed".into()), "forwarded ports", Unknown, "closed", false),
    ("an overlap", |f| host(f).ephemeral = Ok((1_024, 10_000)), "ports of outgoing connections", Warn, "ip_local_reserved_ports=10000-14999", false),
    ("memory for none", |f| host(f).memory = Ok(GIB / 8), "memory", Fail, "host.memory", false),
    ("memory for some", |f| host(f).memory = Ok(GIB), "memory", Warn, "max_allowed_running_containers", false),
    ("nobody keeps the clock", |f| host(f).synchronised = Ok(false), "clock", Warn, "chrony", false),
    ("a clock that jumped", |f| host(f).ahead = Some(-60), "the daemon's time", Warn, "60 s behind", false),
    ("few files", |f| host(f).files = Some(1_024), "open files", Warn, "LimitNOFILE=1280", false),
    ("no watches", |f| host(f).watches = Ok(0), "inotify", Warn, "max_user_instances=128", false),
    ("few processes", |f| host(f).tasks = Ok(Some(47)), "processes", Warn, "TasksMax", false),
];

fn boots(facts: &mut Facts) -> &mut Boots {
    facts.machines.boots.as_mut().unwrap()
}

fn state(facts: &mut Facts, mode: u32, writable: bool, open: &[&str]) {
    facts.storage.state = StateDir::There { mode, writable, open: open.iter().map(|s| (*s).to_owned()).collect() };
}

#[test]
fn a_host_without_a_fault_has_none_with_a_daemon_and_without() {
    let plain = facts();
    let mut with_daemon = facts();
    serves(&mut with_daemon);
    let mut alone = facts();
    embedded(&mut alone);
    for facts in [plain, with_daemon, alone] {
        let wrong: Vec<_> = judge(&facts).into_iter().filter(|check| check.status != Status::Ok).collect();
        assert_eq!(wrong, []);
    }
}

#[test]
fn each_fault_is_told_once_with_what_to_do_and_stops_the_daemon_only_where_nothing_can_work() {
    for (what, spoil, name, status, word, stops) in [MACHINES, NETWORK, STORAGE, HOST].concat() {
        let mut facts = facts();
        spoil(&mut facts);
        let wrong: Vec<_> = judge(&facts).into_iter().filter(|check| check.status != Status::Ok).collect();
        let [check] = wrong.as_slice() else { panic!("{what}: {wrong:?}") };
        assert_eq!((check.name.as_str(), check.status, check.stops), (name, status, stops), "{what}: {check}");
        assert!(check.to_string().contains(word), "{what}: no '{word}' in: {check}");
        assert!(check.remedy.as_ref().is_some_and(|remedy| !remedy.is_empty()), "{what}: {check}");
    }
}

#[test]
fn what_looks_like_a_fault_and_is_none_is_good() {
    type Row = (&'static str, fn(&mut Facts));
    let good: [Row; 8] = [
        ("our own route", |f| network(f).routes = Ok(vec![route("anw0", [192, 168, 127, 0], 24)])),
        ("a default route", |f| network(f).routes = Ok(vec![route("eth0", [0, 0, 0, 0], 0)])),
        ("a neighbour", |f| network(f).routes = Ok(vec![route("eth0", [192, 168, 126, 0], 24)])),
        ("Docker that lets us through", |f| network(f).drops = Ok(vec![docker(true)])),
        ("an overlap that is reserved", |f| {
            host(f).ephemeral = Ok((1_024, 60_999));
            host(f).reserved = true
        }),
        ("ports next to each other", |f| host(f).ephemeral = Ok((15_000, 60_999))),
        ("emulation by wish", |f| (f.machines.kvm, f.machines.wanted) = (false, DomainType::Qemu)),
        ("just enough", |f| {
            let host = host(f);
            (host.taken, host.files, host.tasks) = (Ok(4_994), Some(1_280), Ok(Some(48)));
            host.ahead = Some(5);
        }),
    ];
    for (what, change) in good {
        let mut facts = facts();
        change(&mut facts);
        let wrong: Vec<_> = judge(&facts).into_iter().filter(|check| check.status != Status::Ok).collect();
        assert_eq!(wrong, [], "{what}");
    }
}
