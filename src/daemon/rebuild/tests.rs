use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use serde_json::json;

use super::*;
use crate::hypervisor::DomainSpec;
use crate::hypervisor::fake::{Call, FakeHypervisor, FakeWorld, Options};
use crate::model::{
    Container, ContainerClaim, DomainType, Image, Mark, Memory, NetworkSpec, keepsake_for_tests as keepsake,
};
use crate::store::{self, Options as StoreOptions};

const OURS: Uuid = Uuid::from_u128(1);
const THEIRS: Uuid = Uuid::from_u128(2);

struct Host {
    world: Arc<FakeWorld>,
    hypervisor: FakeHypervisor,
    state: tempfile::TempDir,
}

impl Host {
    fn new() -> Host {
        let world = FakeWorld::new(Options::default());
        Host { hypervisor: FakeHypervisor::new(Arc::clone(&world)), world, state: tempfile::tempdir().unwrap() }
    }

    /// A machine that runs, and bears this.
    fn machine(&self, instance: Uuid, number: u128, text: Option<String>) -> Uuid {
        let uid = Uuid::from_u128(number);
        let mark = Mark { instance, namespace: "default".into(), name: uid.to_string(), uid };
        let spec = DomainSpec {
            mark: mark.clone(),
            mac: "02:00:00:00:00:01".into(),
            image: Image::Iso("/image.iso".into()),
            memory: Memory::mebibytes(64),
            vcpus: 1,
            domain_type: DomainType::Qemu,
            network: NetworkSpec::default(),
        };
        self.hypervisor.create(&spec).unwrap();
        if let Some(text) = text {
            self.hypervisor.remember(&mark, "digest", &text).unwrap();
        }
        uid
    }

    /// A machine in use.
    fn used(&self, instance: Uuid, number: u128) -> Keepsake {
        let kept = keepsake(Uuid::from_u128(number), Some(&format!("wire-{number}")), 10_000 + number as u16);
        self.machine(instance, number, Some(kept.text()));
        kept
    }

    fn rebuild(&self, wish: &Wish) -> Result<Report, RebuildError> {
        rebuild_on(&self.hypervisor, self.state.path(), wish)
    }

    fn store(&self) -> Arc<store::LocalStore> {
        store::open(&self.state.path().join("store"), StoreOptions::default()).unwrap()
    }

    /// A store that says of itself who wrote it.
    fn old_store(&self) {
        let store = self.store();
        store.txn(Txn::default().put("old", &1)).wait().unwrap();
        store.close();
    }

    fn is_untouched(&self) -> bool {
        let store = self.store();
        let old = store.get("old").unwrap().0.is_some();
        store.close();
        let others = fs::read_dir(self.state.path()).unwrap().map(|entry| entry.unwrap().file_name());
        old && others.filter(|name| name != "store").count() == 0
    }
}

fn wish() -> Wish {
    Wish {
        instance: None,
        run: Run::Write,
        unreadable: Unreadable::Refuse,
        replaces: Replaces::Damaged,
        now: Timestamp::UNIX_EPOCH,
    }
}

#[test]
fn the_new_store_holds_what_the_domains_bear_and_the_old_one_is_aside() {
    let host = Host::new();
    let (one, two) = (host.used(OURS, 11), host.used(OURS, 12));
    let waiting = host.machine(OURS, 13, None);
    fs::create_dir_all(host.state.path().join("store/data")).unwrap();
    fs::write(host.state.path().join("store/data/db"), "damage").unwrap();

    let report = host.rebuild(&wish()).unwrap();
    assert_eq!((report.instance, &report.machines), (Some(OURS), &vec![one.clone(), two]));
    assert_eq!(report.left.iter().map(|left| left.mark.uid).collect::<Vec<_>>(), [waiting]);
    let aside = report.aside.unwrap();
    assert_eq!(aside.file_name().unwrap(), "store.damaged-19700101T000000Z");
    assert_eq!(fs::read(aside.join("data/db")).unwrap(), b"damage");

    let store = host.store();
    assert_eq!(records::known_instance(&*store).unwrap(), Some(OURS));
    let uuid = one.container.uuid();
    assert_eq!(records::container(&*store, uuid).unwrap().unwrap().object, one.container);
    assert_eq!(records::credentials(&*store, "default", &uuid.to_string()).unwrap(), Some(one.credentials));
    let claim = records::get::<ContainerClaim>(&*store, "default", "wire-11").unwrap().unwrap().object;
    assert_eq!(Some(claim), one.claim);
    let port = store.get(&records::port_key(10_011)).unwrap().0.unwrap();
    assert_eq!(records::decode::<Uuid>(&port).unwrap().object, uuid);
    assert_eq!(records::list_all::<Container>(&*store).unwrap().len(), 2);
    assert_eq!(instance::of(&*store, host.state.path()).unwrap(), OURS, "the daemon does not start");
    assert_eq!(host.world.domains().len(), 3, "a machine was touched");
}

#[test]
fn the_installation_is_what_is_said_else_what_is_written_else_the_only_one() {
    let host = Host::new();
    assert_eq!(host.rebuild(&wish()).unwrap().instance, None, "there is none");
    host.used(THEIRS, 21);
    assert_eq!(host.rebuild(&Wish { run: Run::Dry, ..wish() }).unwrap().instance, Some(THEIRS));
    host.used(OURS, 11);
    let error = host.rebuild(&wish()).unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, RebuildError::WhichInstance { .. }), "{text}");
    assert!(text.contains(&OURS.to_string()) && text.contains(&THEIRS.to_string()), "{text}");
    let named = host.rebuild(&Wish { instance: Some(OURS), ..wish() }).unwrap();
    assert_eq!((named.instance, named.machines.len(), named.left.len()), (Some(OURS), 1, 0));
    let later = Timestamp::from_second(1).unwrap();
    let written = host.rebuild(&Wish { now: later, replaces: Replaces::Anything, ..wish() }).unwrap();
    assert_eq!(written.instance, Some(OURS));
}

#[test]
fn nothing_is_written_over_what_may_be_in_use_unless_that_is_said() {
    let host = Host::new();
    host.old_store();
    host.used(OURS, 11);
    let broken = host.machine(OURS, 12, Some("{".into()));
    assert_eq!(host.rebuild(&Wish { run: Run::Dry, ..wish() }).unwrap().left.len(), 1);
    let error = host.rebuild(&wish()).unwrap_err();
    assert!(matches!(&error, RebuildError::InUse { left } if left[0].mark.uid == broken), "{error}");
    assert!(host.is_untouched());
    let report = host.rebuild(&Wish { unreadable: Unreadable::LeaveOut, ..wish() }).unwrap();
    assert_eq!((report.machines.len(), report.left.len()), (1, 1));
}

#[test]
fn a_look_that_fails_or_a_store_in_use_changes_nothing() {
    let host = Host::new();
    host.old_store();
    host.used(OURS, 11);
    for call in [Call::List, Call::Recall] {
        host.world.fail_next(call, 1);
        assert!(matches!(host.rebuild(&wish()), Err(RebuildError::Hypervisor(_))), "{call:?}");
    }
    let daemon = host.store();
    assert!(matches!(host.rebuild(&wish()), Err(RebuildError::Store(OpenError::Locked { .. }))));
    daemon.close();
    drop(daemon);
    assert!(host.is_untouched());
}

#[test]
fn what_no_machine_bears_is_carried_over_as_far_as_it_can_be_read() {
    let host = Host::new();
    host.used(OURS, 11);
    let token =
        |name: &str| json!({ "name": name, "sha256": name, "enabled": true, "createdAt": Timestamp::UNIX_EPOCH });
    let store = host.store();
    let old = Txn::default()
        .put("access-tokens/anna", &token("anna"))
        .put("access-tokens/bert", &token("another"))
        .put("tokens/ci", &json!({ "name": "ci" }))
        .put("tokens/broken", &1)
        .put("admission", &THEIRS);
    store.txn(old).wait().unwrap();
    let sealed = Op::Put { key: "plain/secrets/default/a".into(), value: b"v1:\xff"[..].into() };
    store.txn(Txn { conds: vec![], ops: vec![sealed] }).wait().unwrap();
    store.close();
    drop(store);
    let kept = ["access-tokens/anna", "plain/secrets/default/a", "tokens/ci"];

    let report = host.rebuild(&wish()).unwrap();
    assert_eq!(report.carried.iter().map(|kv| &*kv.key).collect::<Vec<_>>(), kept);
    assert!(report.losses.is_empty(), "{:?}", report.losses);
    let store = host.store();
    let found: Vec<Kv> = kept.iter().map(|key| store.get(key).unwrap().0.unwrap()).collect();
    assert!(found.iter().zip(&report.carried).all(|(new, old)| new.value == old.value), "{found:?}");
    assert!(["access-tokens/bert", "tokens/broken", "admission"].iter().all(|key| store.get(key).unwrap().0.is_none()));
    store.close();
    drop(store);

    // What was just written is whole.
    let later = Wish { now: Timestamp::from_second(1).unwrap(), ..wish() };
    assert!(matches!(host.rebuild(&later), Err(RebuildError::Whole { .. })));
    let again = host.rebuild(&Wish { replaces: Replaces::Anything, ..later }).unwrap();
    assert_eq!(again.carried.len(), 3);
    fs::remove_dir_all(host.state.path().join("store")).unwrap();
    let gone = host.rebuild(&wish()).unwrap();
    assert_eq!((gone.carried.len(), gone.losses.len()), (0, 1), "nobody is told that tokens are lost");
}

#[test]
fn a_dry_run_writes_nothing_and_the_state_directory_is_as_the_daemon_makes_it() {
    let host = Host::new();
    host.used(OURS, 11);
    let dry = Wish { run: Run::Dry, ..wish() };
    assert_eq!(host.rebuild(&dry).unwrap().machines.len(), 1);
    assert_eq!(fs::read_dir(host.state.path()).unwrap().count(), 0, "something was written");
    let missing = host.state.path().join("missing");
    let rebuild = |wish: &Wish| rebuild_on(&host.hypervisor, &missing, wish);
    assert!(matches!(rebuild(&dry), Err(RebuildError::Store(OpenError::Absent { .. }))));
    assert!(!missing.exists());
    rebuild(&wish()).unwrap();
    assert_eq!(fs::metadata(&missing).unwrap().permissions().mode() & 0o777, 0o711);
}
