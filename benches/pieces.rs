//! Pieces of the paths that `benches/system` measures whole.

use std::hint::black_box;
use std::net::Ipv4Addr;
use std::path::PathBuf;

use anweddol::hypervisor::fake::{self, FakeHypervisor, FakeWorld};
use anweddol::hypervisor::{DomainSpec, Hypervisor};
use anweddol::manifest::columns;
use anweddol::model::*;
use anweddol::plan::placement::{Asking, place};
use anweddol::plan::pool::Outlook;
use anweddol::plan::{container, pool};
use anweddol::store::{self, Store, Txn, records};
use anweddol::wire::keys::Backend;
use anweddol::wire::session::FRESH;
use anweddol::wire::{Generation, KeySize, Limits, PrivateKey, PublicKey, Session};
use divan::Bencher;
use divan::counter::ItemsCount;
use jiff::Timestamp;
use uuid::Uuid;

fn main() {
    divan::main();
}

const MEMBERS: [usize; 3] = [10, 100, 1_000];

fn key(backend: Backend) -> PrivateKey {
    let pem = PrivateKey::generate(KeySize::Bits4096).unwrap();
    PrivateKey::from_pem(&pem, backend).unwrap()
}

fn peer(key: &PrivateKey) -> PublicKey {
    PublicKey::from_pem(key.public_pem().as_bytes(), &Limits::default()).unwrap()
}

fn template() -> Template {
    Template::of(Image::Iso(PathBuf::from("/images/image.iso")))
}

fn pool_of(members: usize) -> ContainerPool {
    let members = u32::try_from(members).unwrap();
    ContainerPool {
        metadata: ObjectMeta::new(DEFAULT_NAMESPACE, "default", Uuid::from_u128(1), Timestamp::UNIX_EPOCH),
        spec: PoolSpec::of(members, members, template()),
        status: PoolStatus { containers: members, ..PoolStatus::default() },
    }
}

/// One that is ready, as a pool has it.
fn member(number: usize) -> Container {
    let uuid = Uuid::from_u128(number as u128 + 2);
    let mut metadata = ObjectMeta::new(DEFAULT_NAMESPACE, &uuid.to_string(), uuid, Timestamp::UNIX_EPOCH);
    let hash = pool::template_hash(&template(), SHA256);
    metadata.labels.insert(TEMPLATE_HASH.into(), hash);
    let machine = Machine { mac: "02:00:00:00:00:01".parse().unwrap(), port: 10_000, image_sha256: SHA256.into() };
    let spec = ContainerSpec {
        pool: Some("default".into()),
        claim: None.into(),
        template: template().into(),
        scheduling_gates: vec![].into(),
        machine,
    };
    let ready_at = Timestamp::from_second(number as i64).ok();
    let status = ContainerStatus { phase: Phase::Ready, ready_at, started_at: ready_at, ..ContainerStatus::default() };
    Container { metadata, spec, status }
}

const SHA256: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

#[divan::bench]
fn rsa_4096_private(bencher: Bencher<'_, '_>) {
    let key = key(Backend::ConstantTime);
    let wrapped = peer(&key).wrap(&[7; FRESH]).unwrap();
    bencher.bench_local(|| key.unwrap(&wrapped).unwrap());
}

#[divan::bench]
fn rsa_4096_private_portable(bencher: Bencher<'_, '_>) {
    let key = key(Backend::Portable);
    let wrapped = peer(&key).wrap(&[7; FRESH]).unwrap();
    bencher.bench_local(|| key.unwrap(&wrapped).unwrap());
}

#[divan::bench]
fn rsa_4096_public(bencher: Bencher<'_, '_>) {
    let peer = peer(&key(Backend::ConstantTime));
    bencher.bench_local(|| peer.wrap(&[7; FRESH]).unwrap());
}

#[divan::bench]
fn rsa_4096_public_key_read_and_checked(bencher: Bencher<'_, '_>) {
    let key = key(Backend::ConstantTime);
    bencher.bench_local(|| peer(&key));
}

#[divan::bench(args = [64, 1_024, 16_384])]
fn session_seals_a_message(bencher: Bencher<'_, '_>, bytes: usize) {
    let mut session = Session::fresh(&[3; FRESH]);
    let text = "x".repeat(bytes);
    bencher.bench_local(|| session.seal(Generation::Second, &text, [5; 16]).unwrap());
}

#[divan::bench]
fn decide_for_a_container_at_rest(bencher: Bencher<'_, '_>) {
    let world = FakeWorld::new(fake::Options::default());
    let hypervisor = FakeHypervisor::new(world);
    let c = member(1);
    let mark = Mark {
        instance: Uuid::from_u128(9),
        namespace: c.metadata.namespace.to_string(),
        name: c.metadata.name.clone(),
        uid: c.uuid(),
    };
    let spec = DomainSpec {
        mark: mark.clone(),
        mac: c.spec.machine.mac.to_string(),
        image: c.spec.template.image.clone(),
        memory: c.spec.template.memory,
        vcpus: 1,
        domain_type: DomainType::Qemu,
        network: NetworkSpec::default(),
    };
    hypervisor.create(&spec).unwrap();
    let seen = Observed {
        domain: Seen::from_look(hypervisor.find(c.uuid())),
        address: Seen::Present(Some(Ipv4Addr::LOCALHOST)),
        forward: Seen::Present(()),
        connections: Seen::Present(None),
        disk: Seen::Absent,
        answers: Seen::Present(()),
        may_boot: true,
    };
    let now = Timestamp::from_second(100).unwrap();
    bencher.bench_local(|| container::decide(black_box(&c), None, &mark, &seen, now));
}

#[divan::bench(args = MEMBERS)]
fn decide_for_a_pool_at_rest(bencher: Bencher<'_, '_>, members: usize) {
    let (pool, members): (_, Vec<_>) = (pool_of(members), (0..members).map(member).collect());
    let outlook = Outlook { image: Ok(SHA256), hindrance: None };
    let now = Timestamp::from_second(100).unwrap();
    bencher.counter(ItemsCount::new(members.len())).bench_local(|| pool::decide(&pool, &members, &outlook, now));
}

#[divan::bench(args = MEMBERS)]
fn place_a_claim(bencher: Bencher<'_, '_>, members: usize) {
    let (pool, members): (_, Vec<_>) = (pool_of(members), (0..members).map(member).collect());
    let doubtful = Default::default();
    let asking = Asking { ahead: 0, reviewed: false, doubtful: &doubtful };
    bencher.bench_local(|| place(&pool, members.iter().map(|member| (member, ())), asking));
}

#[divan::bench]
fn read_a_container_record(bencher: Bencher<'_, '_>) {
    let store = store::memory();
    store.txn(Txn::default().write(&member(1))).wait().unwrap();
    let (all, _) = store.list(records::REGISTRY).unwrap();
    bencher.bench_local(|| records::decode::<Container>(black_box(&all[0])).unwrap());
}

#[divan::bench]
fn commit_to_memory(bencher: Bencher<'_, '_>) {
    let store = store::memory();
    bencher.bench_local(|| store.txn(Txn::default().put("key", &"value")).wait().unwrap());
}

#[divan::bench]
fn commit_to_disk(bencher: Bencher<'_, '_>) {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let store = store::open(&dir.path().join("store"), store::Options::default()).unwrap();
    bencher.bench_local(|| store.txn(Txn::default().put("key", &"value")).wait().unwrap());
}

#[divan::bench]
fn json_merge_patch_of_a_pool(bencher: Bencher<'_, '_>) {
    let pool = serde_json::to_value(pool_of(10)).unwrap();
    let patch = serde_json::json!({ "spec": { "replicas": 3 }, "metadata": { "labels": { "a": "b" } } });
    bencher.with_inputs(|| pool.clone()).bench_local_values(|mut pool| {
        json_patch::merge(&mut pool, &patch);
        pool
    });
}

#[divan::bench]
fn a_row_of_a_table(bencher: Bencher<'_, '_>) {
    let object = serde_json::to_value(member(1)).unwrap();
    let now = Timestamp::from_second(100).unwrap();
    bencher.bench_local(|| columns::cells(Kind::Container, black_box(&object), now));
}
