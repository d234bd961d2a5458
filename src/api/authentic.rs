//! Whether a client may speak of a container: by the token that it was told with it.
//!
//! Who has no right must not learn whether there is such a container. So every answer takes the same work: a look for
//! the container and one for its claim, a record read from each, one digest, one comparison in constant time. Where
//! nothing is found, the record of a container that nobody has is read in its place.

use std::sync::LazyLock;

use jiff::Timestamp;
use serde::Serialize;
use subtle::ConstantTimeEq;
use uuid::Uuid;

use crate::model::{
    ClaimSpec, ClaimStatus, Container, ContainerClaim, ContainerSpec, ContainerStatus, DEFAULT_NAMESPACE, Image, Mac,
    Machine, Object, ObjectMeta, ObjectRef, Origin, Rare, Template,
};
use crate::sha256;
use crate::store::records::{self, RecordError};
use crate::store::{Kv, Store, Value};

/// The claim of a container that has none, or is none. No claim can have this name.
const NOBODY: &str = "-";
/// The digest of no token.
pub(super) const NO_TOKEN: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// The claim that container and token name together.
pub(crate) fn authenticate(
    store: &dyn Store,
    namespace: &str,
    container: &str,
    token: &str,
) -> Result<Option<ContainerClaim>, RecordError> {
    let container: Container = read(store, namespace, container, &NOBODYS.container)?;
    let claim = container.spec.claim.as_deref().unwrap_or(NOBODY);
    let claim: ContainerClaim = read(store, namespace, claim, &NOBODYS.claim)?;
    let expected = claim.spec.token_sha256.as_deref().unwrap_or(NO_TOKEN);
    let same = bool::from(expected.as_bytes().ct_eq(sha256(token).as_bytes()));
    Ok((same && !claim.metadata.deleting()).then_some(claim))
}

fn read<T: Object>(store: &dyn Store, namespace: &str, name: &str, nobodys: &Value) -> Result<T, RecordError> {
    let key = records::key(&ObjectRef { kind: T::KIND, namespace: namespace.into(), name: name.into() });
    let found = store.get(&key)?.0;
    let nobodys = || Kv { key: key.into(), value: nobodys.clone(), create_rev: 0, mod_rev: 0 };
    Ok(records::decode(&found.unwrap_or_else(nobodys))?.object)
}

/// Records that are in no store.
struct Nobodys {
    container: Value,
    claim: Value,
}

static NOBODYS: LazyLock<Nobodys> = LazyLock::new(|| {
    let meta = || ObjectMeta::new(DEFAULT_NAMESPACE, NOBODY, Uuid::nil(), Timestamp::UNIX_EPOCH);
    let image =
        Image::Kernel { path: "/var/lib/anweddol/images/vmlinuz".into(), initrd: "initrd".into(), cmdline: "".into() };
    let machine = Machine { mac: Mac([0x52, 0x54, 0, 0, 0, 0]), port: 10_000, image_sha256: NO_TOKEN.into() };
    let spec = ContainerSpec {
        pool: Some("default".into()),
        claim: Some(NOBODY.to_owned()).into(),
        template: Template::of(image).into(),
        scheduling_gates: Rare::nothing(),
        machine,
    };
    let container = Container { metadata: meta(), spec, status: ContainerStatus::default() };
    let spec = ClaimSpec { token_sha256: Some(NO_TOKEN.into()), ..ClaimSpec::of("default", Origin::Embedder) };
    let claim = ContainerClaim { metadata: meta(), spec, status: ClaimStatus::default() };
    Nobodys { container: text(&container), claim: text(&claim) }
});

fn text(object: &impl Serialize) -> Value {
    serde_json::to_vec(object).expect("records can be written").into()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::store::{Commit, Index, StoreError, Txn, Watch, memory};

    /// Counts what is looked for.
    struct Counting {
        inner: std::sync::Arc<dyn Store>,
        looks: AtomicUsize,
        lists: AtomicUsize,
    }

    impl Store for Counting {
        fn get(&self, key: &str) -> Result<(Option<Kv>, u64), StoreError> {
            self.looks.fetch_add(1, Ordering::Relaxed);
            self.inner.get(key)
        }

        fn list(&self, prefix: &str) -> Result<(Vec<Kv>, u64), StoreError> {
            self.lists.fetch_add(1, Ordering::Relaxed);
            self.inner.list(prefix)
        }

        fn index(&self) -> Result<Index, StoreError> {
            self.inner.index()
        }

        fn txn(&self, txn: Txn) -> Commit {
            self.inner.txn(txn)
        }

        fn watch(&self, prefix: &str, from: u64) -> Watch {
            self.inner.watch(prefix, from)
        }

        fn compact(&self, rev: u64) -> Result<(), StoreError> {
            self.inner.compact(rev)
        }
    }

    /// A container with or without a claim, whose token is `token`.
    fn container(store: &dyn Store, name: &str, claim: Option<&str>, token: &str) {
        let mut container: Container = serde_json::from_slice(&NOBODYS.container).unwrap();
        container.metadata.name = name.into();
        container.spec.claim = claim.map(str::to_owned).into();
        let mut txn = Txn::default().write(&container);
        if let Some(name) = claim {
            let mut claim: ContainerClaim = serde_json::from_slice(&NOBODYS.claim).unwrap();
            claim.metadata.name = name.into();
            claim.spec.token_sha256 = Some(sha256(token));
            txn = txn.write(&claim);
        }
        store.txn(txn).wait().unwrap();
    }

    #[test]
    fn every_answer_takes_the_same_looks_whether_there_is_such_a_container_or_not() {
        let inner = memory();
        container(&*inner, "used", Some("one"), "right");
        container(&*inner, "ready", None, "");
        let store = Counting { inner, looks: AtomicUsize::new(0), lists: AtomicUsize::new(0) };
        for (name, token, good) in [
            ("used", "right", true),
            ("used", "wrong", false),
            ("used", "", false),
            ("ready", "right", false),
            ("unknown", "right", false),
            ("", "", false),
            (NOBODY, "right", false),
        ] {
            store.looks.store(0, Ordering::Relaxed);
            let found = authenticate(&store, DEFAULT_NAMESPACE, name, token).unwrap();
            assert_eq!(found.is_some(), good, "{name} {token}");
            assert_eq!(store.looks.load(Ordering::Relaxed), 2, "{name} {token}");
        }
        assert_eq!(store.lists.load(Ordering::Relaxed), 0, "what there is makes no difference");
    }

    #[test]
    fn what_is_read_in_place_of_nothing_is_as_long_as_what_is_there() {
        let store = memory();
        container(&*store, "7703a9a8-7c14-4e96-9885-d1868c4e04dc", Some("wire-a1aff"), "token");
        for (kind, nobodys) in [("containers", &NOBODYS.container), ("containerclaims", &NOBODYS.claim)] {
            let (found, _) = store.list(&format!("{}{kind}/", records::REGISTRY)).unwrap();
            let (found, nobodys) = (found[0].value.len(), nobodys.len());
            assert!(found.abs_diff(nobodys) < 100, "{kind}: {found} and {nobodys} bytes");
        }
    }

    #[test]
    fn a_claim_whose_end_is_wished_for_authenticates_nobody() {
        let store = memory();
        container(&*store, "used", Some("one"), "right");
        let mut claim = records::get::<ContainerClaim>(&*store, DEFAULT_NAMESPACE, "one").unwrap().unwrap().object;
        claim.metadata.end(Timestamp::UNIX_EPOCH);
        store.txn(Txn::default().write(&claim)).wait().unwrap();
        assert!(authenticate(&*store, DEFAULT_NAMESPACE, "used", "right").unwrap().is_none());
    }
}
