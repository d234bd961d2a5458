use futures::StreamExt;
use futures::executor::block_on;
use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::allocations::held;
use crate::model::{
    AccessToken, ClaimSpec, ClaimStatus, Common, ContainerSpec, ContainerStatus, Image, Mac, Machine, ObjectMeta,
    Origin, OwnerReference, Phase, Quotas, TEMPLATE_HASH, Template, set_condition,
};
use crate::store::records::{REGISTRY, decode, decoded, key};
use crate::store::{HistoryLimits, LocalStore, Store, Txn, memory, memory_with};

const POOLS: [&str; 2] = ["a", "b"];
const NAMESPACES: [&str; 2] = ["default", "other"];

/// What can happen to one of a few records.
#[derive(Clone, Debug)]
enum Write {
    Container { name: u8, namespace: usize, pool: Option<usize>, phase: Phase, claimed: bool, ready: i64 },
    Claim { name: u8, pool: usize, since: i64, placed: bool },
    Delete { name: u8, namespace: usize, kind: Kind },
    Broken { name: u8 },
    AccessToken { name: u8, text: u8 },
    NoAccessToken { name: u8, broken: bool },
}

fn write() -> impl Strategy<Value = Write> {
    let phase = prop_oneof![Just(Phase::Pending), Just(Phase::Booting), Just(Phase::Ready), Just(Phase::Bound)];
    prop_oneof![
        6 => (0..6u8, 0..2usize, prop::option::of(0..2usize), phase, any::<bool>(), 0..9i64).prop_map(
            |(name, namespace, pool, phase, claimed, ready)| Write::Container {
                name, namespace, pool, phase, claimed, ready
            }
        ),
        4 => (0..6u8, 0..2usize, 0..9i64, any::<bool>())
            .prop_map(|(name, pool, since, placed)| Write::Claim { name, pool, since, placed }),
        3 => (0..6u8, 0..2usize, prop::sample::select(vec![Kind::Container, Kind::ContainerClaim]))
            .prop_map(|(name, namespace, kind)| Write::Delete { name, namespace, kind }),
        1 => (0..6u8).prop_map(|name| Write::Broken { name }),
        3 => (0..3u8, 0..3u8).prop_map(|(name, text)| Write::AccessToken { name, text }),
        2 => (0..3u8, prop::bool::weighted(0.2)).prop_map(|(name, broken)| Write::NoAccessToken { name, broken }),
    ]
}

fn meta(namespace: &str, name: u8, at: i64) -> ObjectMeta {
    ObjectMeta::new(namespace, &format!("n{name}"), Uuid::from_u128(name.into()), Timestamp::from_second(at).unwrap())
}

fn container(namespace: &str, name: u8, pool: Option<&str>) -> Container {
    let machine = Machine { mac: Mac::default(), port: 1, image_sha256: "".into() };
    let template = Template::of(Image::Iso("/i".into()));
    let spec = ContainerSpec {
        pool: pool.map(Common::from),
        claim: None.into(),
        template: template.into(),
        scheduling_gates: vec![].into(),
        machine,
    };
    Container { metadata: meta(namespace, name, 0), spec, status: ContainerStatus::default() }
}

fn claim(name: u8, pool: &str, since: i64) -> ContainerClaim {
    let spec = ClaimSpec::of(pool, Origin::Object);
    ContainerClaim { metadata: meta("default", name, since), spec, status: ClaimStatus::default() }
}

fn access_token(name: u8, text: u8) -> AccessToken {
    let (sha256, created_at, quotas) = (format!("{text:064x}"), Timestamp::UNIX_EPOCH, Quotas::default());
    AccessToken { name: format!("n{name}"), sha256, created_at, expires_at: None, enabled: true, quotas }
}

fn done(write: &Write) -> Txn {
    let name = |name: &u8, namespace: usize, kind| ObjectRef {
        kind,
        namespace: NAMESPACES[namespace].into(),
        name: format!("n{name}"),
    };
    match write {
        Write::Container { name, namespace, pool, phase, claimed, ready } => {
            let mut c = container(NAMESPACES[*namespace], *name, pool.map(|pool| POOLS[pool]));
            c.spec.claim = claimed.then(|| "somebody".to_owned()).into();
            c.status.phase = *phase;
            c.status.ready_at = Timestamp::from_second(*ready).ok();
            Txn::default().write(&c)
        }
        Write::Claim { name, pool, since, placed } => {
            let mut claim = claim(*name, POOLS[*pool], *since);
            claim.status.container = placed.then(|| "machine".into());
            Txn::default().write(&claim)
        }
        Write::Delete { name: of, namespace, kind } => Txn::default().delete(&key(&name(of, *namespace, *kind))),
        Write::Broken { name: of } => Txn::default().put(&key(&name(of, 0, Kind::Container)), &"no container"),
        Write::AccessToken { name, text } => {
            let token = access_token(*name, *text);
            Txn::default().put(&records::access_token_key(&token.name), &token)
        }
        Write::NoAccessToken { name, broken } => {
            let key = records::access_token_key(&format!("n{name}"));
            if *broken { Txn::default().put(&key, &"no token") } else { Txn::default().delete(&key) }
        }
    }
}

/// Everything that can be asked of an index, as text.
fn told(index: &Index) -> Vec<String> {
    let mut told = vec![format!("{}", index.revision())];
    for (namespace, pool) in NAMESPACES.iter().flat_map(|n| POOLS.iter().map(move |p| (n, p))) {
        told.push(match index.members(namespace, pool) {
            Ok(members) => members.map(|read| format!("{read:?}")).collect::<Vec<_>>().join("\n"),
            Err(error) => error.to_string(),
        });
        told.push(format!("{:?}", index.waiting(namespace, pool).map_err(|error| error.to_string())));
        told.push(format!("{:?}", index.first_waiting(namespace, pool).map_err(|error| error.to_string())));
    }
    told.push(index.containers().map_or_else(|e| e.to_string(), |all| format!("{:?}", all.collect::<Vec<_>>())));
    told.push(index.claims().map_or_else(|e| e.to_string(), |all| format!("{:?}", all.collect::<Vec<_>>())));
    told.push(index.access_tokens().map_or_else(
        |error| error.to_string(),
        |tokens| {
            let named = (0..3).map(|name| tokens.named(&format!("n{name}")));
            let found = (0..4).map(|text| tokens.of_sha256(&format!("{text:064x}")));
            format!("{} {:?}", tokens.count(), tokens.iter().map(Some).chain(named).chain(found).collect::<Vec<_>>())
        },
    ));
    told
}

fn listed(store: &LocalStore) -> Index {
    let (all, revision) = store.list("").unwrap();
    Index::of(all, revision)
}

proptest! {
    /// Whatever was written, and whenever it was asked for before, also when it fell behind what is remembered.
    #[test]
    fn an_index_that_follows_says_what_a_list_would(
        writes in prop::collection::vec((write(), any::<bool>()), 1..60), short in any::<bool>(),
    ) {
        let revisions = if short { 3 } else { 1000 };
        let store = memory_with(HistoryLimits { revisions, bytes: 1 << 20 });
        for (write, asked) in &writes {
            store.txn(done(write)).wait().unwrap();
            if *asked {
                prop_assert_eq!(told(&store.index().unwrap()), told(&listed(&store)));
            }
        }
        let index = store.index().unwrap();
        prop_assert_eq!(told(&index), told(&listed(&store)));

        let (all, _) = store.list(REGISTRY).unwrap();
        for (place, last) in all.iter().enumerate() {
            let Ok(behind) = index.behind(&last.key) else { break };
            let expected: Vec<&Arc<str>> = all[place + 1..].iter().map(|kv| &kv.key).collect();
            prop_assert_eq!((behind.collect::<Vec<_>>(), index.count()), (expected, all.len()));
        }
    }
}

#[test]
fn an_access_token_is_found_by_its_sha256_as_long_as_one_record_has_it() {
    let store = memory();
    let write = |write| store.txn(done(&write)).wait().unwrap();
    let found = |text: u8| {
        let index = store.index().unwrap();
        index.access_tokens().unwrap().of_sha256(&format!("{text:064x}")).map(|token| token.name.clone())
    };
    write(Write::AccessToken { name: 1, text: 7 });
    write(Write::AccessToken { name: 2, text: 7 });
    assert_eq!((found(6), found(7), found(8)), (None, Some("n1".into()), None));
    write(Write::AccessToken { name: 1, text: 8 });
    assert_eq!((found(7), found(8)), (Some("n2".into()), Some("n1".into())));
    write(Write::NoAccessToken { name: 2, broken: false });
    assert_eq!((found(7), found(8)), (None, Some("n1".into())));
}

#[test]
fn what_is_asked_again_is_decoded_again_only_where_it_changed() {
    let store = memory();
    let write = |number, pool| {
        let c = container("default", number, Some(pool));
        store.txn(Txn::default().put(&key(&c.object_ref()), &c)).wait().unwrap();
    };
    (0..200).for_each(|number| write(number, "a"));
    let first = decoded(|| assert_eq!(store.index().unwrap().members("default", "a").unwrap().count(), 200));
    assert_eq!(first, 200);
    assert_eq!(decoded(|| drop(store.index().unwrap())), 0);
    (0..3).for_each(|number| write(number, "b"));
    assert_eq!(decoded(|| assert_eq!(store.index().unwrap().members("default", "b").unwrap().count(), 3)), 3);
}

#[test]
fn an_object_that_was_written_here_is_not_decoded_by_who_follows() {
    let (store, c) = (memory(), container("default", 1, Some("a")));
    let mut changes = store.watch("", 0);
    store.txn(Txn::default().write(&c)).wait().unwrap();
    let followed = decoded(|| {
        let index = store.index().unwrap();
        assert_eq!(index.containers().unwrap().next().unwrap().object, c);
        let Change::Put { kv, .. } = &block_on(changes.next()).unwrap().unwrap().changes[0] else { panic!("no put") };
        assert_eq!(decode(kv).unwrap(), Versioned { object: c, rev: 2 });
    });
    assert_eq!(followed, 0);
}

#[test]
fn who_follows_from_far_behind_decodes() {
    let store = memory();
    let mut changes = store.watch("", 0);
    let revisions = || (0..=u8::MAX).chain(0..=u8::MAX);
    for number in revisions() {
        let all = ["a", "b", "c"].map(|namespace| container(namespace, number, None));
        store.txn(all.iter().fold(Txn::default(), Txn::write)).wait().unwrap();
    }
    let mut follow = || {
        let batch = block_on(changes.next()).unwrap().unwrap();
        decoded(|| {
            for change in &batch.changes {
                let Change::Put { kv, .. } = change else { panic!("no put") };
                assert_eq!(key(&decode::<Container>(kv).unwrap().object.object_ref()), *kv.key);
            }
        })
    };
    let followed: Vec<usize> = revisions().map(|_| follow()).collect();
    assert_eq!((followed[0], followed[followed.len() - 1]), (3, 0));
}

#[test]
fn a_record_that_cannot_be_read_is_said_and_not_left_out() {
    let store = memory();
    store.txn(done(&Write::Broken { name: 1 })).wait().unwrap();
    let index = store.index().unwrap();
    let said = index.members("default", "a").err().unwrap().to_string();
    assert!(said.contains("registry/containers/default/n1"), "{said}");
    assert!(index.members("other", "a").is_ok() && index.claims().is_ok(), "others are none of its");
    assert!(index.containers().is_err());
    store.txn(Txn::default().write(&container("default", 1, Some("a")))).wait().unwrap();
    assert_eq!(store.index().unwrap().members("default", "a").unwrap().count(), 1);
}

/// As a pool has it.
fn member(number: u8, template: &Template) -> Container {
    let mut c = container("default", number, Some("a"));
    let now = Timestamp::from_second(number.into()).unwrap();
    c.metadata.name = Uuid::from_u128(number.into()).to_string();
    c.metadata.labels.insert(TEMPLATE_HASH.into(), "0123456789".into());
    c.metadata.owner_references.push(OwnerReference {
        api_version: "anweddol.io/v1alpha1".into(),
        kind: "ContainerPool".into(),
        name: "a".into(),
        uid: Uuid::from_u128(1).to_string(),
        controller: Some(true),
        block_owner_deletion: None,
    });
    c.spec.template = template.clone().into();
    c.spec.machine =
        Machine { mac: "02:00:00:00:00:01".parse().unwrap(), port: 10_000, image_sha256: "0".repeat(64).into() };
    let status = &mut c.status;
    (status.phase, status.started_at, status.ready_at) = (Phase::Ready, Some(now), Some(now));
    for kind in ["Started", "Personalised", "Published", "Ready"] {
        set_condition(&mut status.conditions, kind, true, "Done", "", now);
    }
    c
}

#[test]
fn a_member_takes_less_in_the_index_than_its_record() {
    let (path, initrd) = ("/var/lib/anweddol/images/vmlinuz".into(), "/var/lib/anweddol/images/initrd".into());
    let template = Template::of(Image::Kernel { path, initrd, cmdline: "quiet console=ttyS0".into() });
    let record = |number| {
        let c = member(number, &template);
        let value = serde_json::to_vec(&c).unwrap().into();
        Kv { key: key(&c.object_ref()).into(), value, create_rev: 2, mod_rev: 2 }
    };
    let records: Vec<Kv> = (0..200).map(record).collect();
    let (index, held) = held(|| Index::of(records.iter().cloned(), 2));
    let (held, bytes) = (held / records.len(), records[0].value.len());
    assert_eq!(index.members("default", "a").unwrap().count(), records.len());
    assert!(held < 575 && held < bytes, "{held} bytes for one of {bytes}");
}
