//! `anweddol doctor`: asked of a daemon on a simulated world where machines left things, and without a daemon.

use std::path::PathBuf;
use std::sync::Arc;

use anweddol::facade::{Machines, Server, StopMode, Virtualization};
use anweddol::guest::fake::{FakeForwarder, FakeShell};
use anweddol::hypervisor::fake::{Call, FakeHypervisor, FakeWorld, Options};
use anweddol::hypervisor::{DomainSpec, Hypervisor, domain_name};
use anweddol::model::{Credentials, DomainType, Image, Mark, Memory, NetworkSpec, Trace, TraceKind, Whose};
use anweddol::plan::drift::beginning;
use anweddol::store::{self, Store, Txn, records};
use anweddol::wire::PrivateKey;
use anweddol::wire::keys::Backend;
use serde_json::Value;
use tempfile::{TempDir, tempdir};
use uuid::Uuid;

use crate::common::daemon::{VECTORS, finish, program, stderr, stdout};
use crate::common::until;

/// A machine that has no record.
const ORPHAN: Uuid = Uuid::from_u128(0x0123_4567_89ab_4def_8123_4567_89ab_cdef);

/// A daemon in this process, with the world and the store in the test's hand.
struct Setting {
    dir: TempDir,
    world: Arc<FakeWorld>,
    store: Arc<dyn Store>,
    server: Server,
}

impl Setting {
    fn start() -> Setting {
        let dir = tempdir().unwrap();
        let world = FakeWorld::new(Options::default());
        let machines = Machines {
            hypervisor: Arc::new(FakeHypervisor::new(world.clone())),
            shell: Arc::new(FakeShell::new(world.clone())),
            forwarder: Arc::new(FakeForwarder::new(world.clone())),
            addressed: false,
        };
        let image = dir.path().join("image.iso");
        std::fs::write(&image, "an image").unwrap();
        let pem = VECTORS.pointer("/server/private_pem").and_then(Value::as_str).unwrap();
        let store: Arc<dyn Store> = store::memory();
        let server = Server::builder()
            .virtualization(Virtualization::Custom(machines))
            .state_dir(dir.path().join("state"))
            .container_iso(image)
            .bind_address([127, 0, 0, 1].into())
            .listen_port(0)
            .rsa_keys(Arc::new(PrivateKey::from_pem(pem, Backend::ConstantTime).unwrap()))
            .database(Arc::clone(&store))
            .warm_containers(1)
            .stop_mode(StopMode::Destroy)
            .build()
            .unwrap();
        server.start_background().unwrap();
        let setting = Setting { dir, world, store, server };
        until("a machine that is ready", || (setting.world.forwards().len() == 1).then_some(()));
        setting
    }

    fn state(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    fn doctor(&self, args: &[&str]) -> (Option<i32>, Value) {
        let state = self.state();
        let mut command = program(["doctor", "--only", "records", "-o", "json", "--state"]);
        let output = finish(command.arg(state).args(args));
        let value = serde_json::from_str(&stdout(&output));
        (output.status.code(), value.unwrap_or_else(|_| panic!("{}", stderr(&output))))
    }

    fn text(&self, args: &[&str]) -> String {
        let state = self.state();
        stdout(&finish(program(["doctor", "--only", "records", "--state"]).arg(state).args(args)))
    }

    /// Something of every kind that no record owns; each has a sibling of somebody else's with nearly the same name.
    fn leave(&self) {
        let instance = records::instance(&*self.store, Uuid::new_v4()).unwrap();
        let hypervisor = FakeHypervisor::new(self.world.clone());
        for (uid, instance) in [(ORPHAN, instance), (Uuid::from_u128(ORPHAN.as_u128() << 4), Uuid::new_v4())] {
            hypervisor.create(&spec(Mark { instance, namespace: "default".into(), name: "lost".into(), uid })).unwrap();
        }
        let name = domain_name(ORPHAN);
        for (kind, name, whose) in [
            (TraceKind::Disk, ORPHAN.to_string(), Whose::Machine(ORPHAN)),
            (TraceKind::Save, format!("save/{name}.save"), Whose::Machine(ORPHAN)),
            (TraceKind::Log, format!("{name}.log"), Whose::Machine(ORPHAN)),
            (TraceKind::Socket, format!("run/qemu/{name}.pid"), Whose::Machine(ORPHAN)),
            (
                TraceKind::Tap,
                "a00000123456789".to_owned(),
                Whose::Beginning(String::from_utf8(beginning(ORPHAN).into()).unwrap()),
            ),
            (TraceKind::Lease, "10.0.0.9 of 02:00:00:00:00:09".to_owned(), Whose::Card("02:00:00:00:00:09".into())),
            (TraceKind::Forward, "19999".to_owned(), Whose::Port(19_999)),
            (TraceKind::Element, "internet 10.0.0.9".to_owned(), Whose::Address([10, 0, 0, 9].into())),
            (TraceKind::Flow, "10.0.0.9".to_owned(), Whose::Address([10, 0, 0, 9].into())),
        ] {
            self.world.leave(Trace::new(kind, name.clone(), whose));
            if !matches!(kind, TraceKind::Disk | TraceKind::Forward) {
                self.world.leave(Trace::new(kind, format!("{name}x"), Whose::Others("it is not ours".into())));
            }
        }
        let login = Credentials { username: "user_1".into(), sealed_password: String::new() };
        let (credentials, port) = (records::credentials_key("default", "lost"), records::port_key(19_998));
        self.store.txn(Txn::default().put(&credentials, &login).put(&port, &ORPHAN)).wait().unwrap();
        // No process has a number beyond the kernel's limit.
        std::fs::write(self.state().join(".server.pem.4194305.new"), "half of one").unwrap();
        std::fs::write(self.state().join("server.pem.4194305.new"), "somebody's").unwrap();
    }

    /// Nothing can be removed, neither by a sweep nor by a doctor, or everything again.
    fn hold(&self, times: usize) {
        for call in [Call::Destroy, Call::RemoveTrace, Call::RemoveDisk, Call::Withdraw] {
            self.world.fail_next(call, times);
        }
    }
}

fn spec(mark: Mark) -> DomainSpec {
    DomainSpec {
        mark,
        mac: "02:00:00:00:00:01".into(),
        image: Image::Iso("/image.iso".into()),
        memory: Memory::mebibytes(64),
        vcpus: 1,
        domain_type: DomainType::Auto,
        network: NetworkSpec::default(),
    }
}

/// The kinds of drifts that are wrong in this way.
fn kinds(report: &Value, wrong: &str) -> Vec<String> {
    let drifts = report["drifts"].as_array().unwrap().iter().filter(|drift| drift["wrong"] == wrong);
    drifts.map(|drift| drift["kind"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_doctor_finds_every_kind_of_leftover_and_removes_what_is_ours_alone() {
    let setting = Setting::start();
    let (code, report) = setting.doctor(&[]);
    assert_eq!((code, &report["daemon"]), (Some(0), &true.into()), "{report}");
    assert_eq!(report["drifts"], Value::Array(vec![]), "{report}");
    let owned = |kind: &str| {
        let looked = report["looked"].as_array().unwrap().iter().find(|looked| looked["kind"] == kind).unwrap();
        (looked["found"].as_u64().unwrap(), looked["owned"].as_u64().unwrap())
    };
    for kind in ["domain", "forward", "credentials", "port"] {
        assert_eq!(owned(kind), (1, 1), "{kind}: {report}");
    }

    setting.hold(usize::MAX);
    setting.leave();
    let (code, report) = setting.doctor(&[]);
    assert_eq!(code, Some(1), "{report}");
    let left = ["domain", "forward", "element", "flow", "lease", "credentials", "port", "file"];
    assert_eq!(kinds(&report, "leftover"), left, "{report}");
    // Its domain is there: they go after it.
    assert_eq!(kinds(&report, "waiting"), ["disk", "save", "log", "socket", "tap"], "{report}");
    let others = ["domain", "element", "flow", "save", "log", "socket", "tap", "lease"];
    assert_eq!(kinds(&report, "others"), others, "{report}");
    // The same of records among themselves: a login and a port of nobody.
    let disagree = |report: &Value| {
        let checks = report["checks"].as_array().unwrap().iter();
        checks.filter(|check| check["outcome"]["bad"].is_string()).count()
    };
    assert_eq!(disagree(&report), 2, "{report}");
    let text = setting.text(&[]);
    assert!(text.contains(&format!("LEFTOVER domain anweddol-{ORPHAN}")) && text.contains("--fix"), "{text}");
    // What cannot be removed is said to be there still.
    let text = setting.text(&["--fix"]);
    assert!(text.contains("FAILED   domain") && text.contains("not clean"), "{text}");

    setting.hold(0);
    let (code, report) = setting.doctor(&["--fix"]);
    assert_eq!((code, disagree(&report)), (Some(0), 0), "{report}");
    assert_eq!(kinds(&report, "others"), others, "{report}");
    assert_eq!(report["drifts"].as_array().unwrap().len(), others.len(), "{report}");
    assert!(report["removed"].as_array().unwrap().iter().all(|gone| gone["failed"].is_null()), "{report}");
    // The machine that has a record, and the other installation's.
    assert_eq!((setting.world.domains().len(), setting.world.forwards().len()), (2, 1));
    assert!(setting.world.left().iter().all(|trace| matches!(trace.whose, Whose::Others(_))));
    assert_eq!(setting.world.left().len(), others.len() - 1);
    assert!(!setting.state().join(".server.pem.4194305.new").exists());
    assert!(setting.state().join("server.pem.4194305.new").exists());
    setting.server.stop().unwrap();
}

#[test]
fn what_cannot_be_listed_is_unknown_and_nothing_is_removed_on_doubt() {
    let setting = Setting::start();
    setting.leave();
    setting.world.set_reachable(false);
    let (code, report) = setting.doctor(&["--fix"]);
    assert_eq!(code, Some(1), "{report}");
    let unknown = |kind: &str| {
        let looked = report["looked"].as_array().unwrap().iter().find(|looked| looked["kind"] == kind).unwrap();
        looked["unknown"].as_array().is_some_and(|why| !why.is_empty())
    };
    assert!(["domain", "disk", "log", "tap"].into_iter().all(unknown), "{report}");
    assert!(setting.world.domains().iter().any(|domain| domain.uuid == ORPHAN), "a domain was ended on doubt");
    let text = setting.text(&[]);
    assert!(text.contains("UNKNOWN") && text.contains("the simulation says so"), "{text}");
    setting.world.set_reachable(true);
    until("a clean end of it", || (setting.doctor(&["--fix"]).0 == Some(0)).then_some(()));
    setting.server.stop().unwrap();
}

#[test]
fn a_sweep_follows_the_end_of_a_machine_at_once() {
    let setting = Setting::start();
    let machine = setting.world.domains()[0].uuid;
    // What it leaves when it ends: nobody looks for it but a sweep.
    setting.world.leave(Trace::new(TraceKind::Log, "its.log", Whose::Machine(machine)));
    assert_eq!(setting.doctor(&["--fix"]).0, Some(0));
    assert_eq!(setting.world.left().len(), 1, "the log of a machine that has a record was removed");
    setting.world.kill(machine);
    until("no log", || setting.world.left().is_empty().then_some(()));
    setting.server.stop().unwrap();
}

#[test]
fn where_nothing_is_and_where_nobody_may_look_is_said() {
    let dir = tempdir().unwrap();
    let state = dir.path().join("none");
    let output = finish(program(["doctor", "--only", "records", "--state"]).arg(&state));
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains(state.to_str().unwrap()) && said.contains("no records"), "{said}");
    assert!(!state.exists(), "a look made a state directory");
}
