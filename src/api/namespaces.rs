//! Namespaces: there as soon as something is in them, and gone when their end was wished for and nothing is left.
//!
//! Nobody has to make a namespace first, whether objects come from a directory of manifests, from the API or from
//! the wire: what is written into one that is not there makes it. Its deletion deletes what is in it, and its record
//! goes last. All of it is found again from the records after any crash.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use futures::StreamExt;
use serde_json::json;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Objects;
use super::objects::{Deletion, ObjectError};
use super::plain::{Plain, PlainError, PlainKind, PlainRef, Preconditions, namespace_of};
use crate::model::{DEFAULT_NAMESPACE, Kind, ObjectRef};
use crate::plan::backoff;
use crate::store::records::{self, FOREIGN_EVENTS, PLAIN, REGISTRY, RecordError};
use crate::store::{Batch, Change, StoreError, Txn};

/// Below it: their records.
const RECORDS: &str = "plain/namespaces/";

/// Keeps namespaces so, until cancelled.
pub async fn keep(plain: Arc<Plain>, objects: Arc<Objects>, cancel: CancellationToken) {
    let mut keeper = Namespaces::new(plain, objects);
    tokio::select! {
        () = cancel.cancelled() => {}
        () = keeper.run() => {}
    }
}

/// A namespace's name as a reference.
pub fn namespace(name: &str) -> PlainRef {
    PlainRef { kind: PlainKind::Namespace, namespace: String::new(), name: name.into() }
}

/// The namespace that a record is in, if it is in one.
fn inside(key: &str) -> Option<String> {
    match records::parse_key(key) {
        Some(object) => Some(object.namespace),
        None => namespace_of(key).map(str::to_owned),
    }
}

struct Namespaces {
    plain: Arc<Plain>,
    objects: Arc<Objects>,
    /// Those that are there, and whose end nobody wished for: nothing is to be done for what comes and goes in them. A
    /// change of such a record comes after it was read, so it takes the namespace out of here again.
    open: HashSet<String>,
    /// Those that could not be taken further, and whether they have to be there: they are tried again, whether anything
    /// changes or not.
    failed: BTreeMap<String, bool>,
    /// How often in a row something of that failed, and when it is tried again.
    failures: u32,
    again: Instant,
}

/// Why a namespace is not kept now.
#[derive(Debug, thiserror::Error)]
enum KeepError {
    #[error(transparent)]
    Plain(#[from] PlainError),
    #[error(transparent)]
    Object(#[from] ObjectError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Record(#[from] RecordError),
}

impl Namespaces {
    fn new(plain: Arc<Plain>, objects: Arc<Objects>) -> Self {
        let (open, failed) = (HashSet::new(), BTreeMap::new());
        Namespaces { plain, objects, open, failed, failures: 0, again: Instant::now() }
    }

    async fn run(&mut self) {
        loop {
            self.open.clear();
            // Watched before looked at: what changes in between is seen twice rather than never.
            let mut batches = self.plain.store().watch("", 0);
            if let Err(error) = self.all().await {
                tracing::warn!(error = crate::error_chain(&error), "namespaces");
            }
            loop {
                tokio::select! {
                    batch = batches.next() => match batch {
                        Some(Ok(batch)) => self.changed(&batch).await,
                        // Fallen behind: everything is looked at again.
                        Some(Err(StoreError::Compacted { .. })) => break,
                        Some(Err(_)) | None => return,
                    },
                    () = tokio::time::sleep_until(self.again), if !self.failed.is_empty() => self.once_more().await,
                }
            }
        }
    }

    /// Looks at every namespace that has a record or something in it.
    async fn all(&mut self) -> Result<(), StoreError> {
        let mut used = BTreeSet::from([DEFAULT_NAMESPACE.to_owned()]);
        for prefix in [REGISTRY, PLAIN, FOREIGN_EVENTS] {
            let keys = self.plain.store().list(prefix)?.0;
            used.extend(keys.iter().filter_map(|kv| inside(&kv.key)));
        }
        for name in &used {
            self.look(name, true).await;
        }
        for kv in self.plain.store().list(RECORDS)?.0 {
            self.look(kv.key.strip_prefix(RECORDS).unwrap_or_default(), false).await;
        }
        Ok(())
    }

    async fn changed(&mut self, batch: &Batch) {
        for change in &batch.changes {
            let key = change.key();
            if let Some(name) = key.strip_prefix(RECORDS) {
                self.open.remove(name);
                self.look(name, false).await;
                continue;
            }
            let Some(name) = inside(key).filter(|name| !self.open.contains(name)) else { continue };
            match change {
                Change::Put { prev: None, .. } => self.look(&name, self.uses(key)).await,
                Change::Put { prev: Some(_), .. } => {}
                Change::Delete { .. } => self.look(&name, false).await,
            }
        }
    }

    /// Whether what was made needs its namespace. What went with it, and was seen only now, does not bring it back: an end
    /// deletes what is none of our objects at once.
    fn uses(&self, key: &str) -> bool {
        records::parse_key(key).is_some() || !matches!(self.plain.store().get(key), Ok((None, _)))
    }

    /// Keeps one as it should be. What fails is tried again later: a store that takes no writes goes on by itself, and by
    /// then nothing may change any more that would tell of it (`an_end_that_failed_goes_on_by_itself`).
    async fn look(&mut self, name: &str, used: bool) {
        let made = if used { self.make(name).await } else { Ok(()) };
        let kept = match made {
            Ok(()) => self.end(name).await,
            Err(error) => Err(error),
        };
        match kept {
            Ok(()) => drop(self.failed.remove(name)),
            Err(error) => {
                tracing::warn!(namespace = name, error = crate::error_chain(&error), "namespaces");
                if self.failed.is_empty() {
                    self.failures += 1;
                    self.again = Instant::now() + backoff::after(self.failures).unsigned_abs();
                }
                self.failed.insert(name.into(), used);
            }
        }
    }

    async fn once_more(&mut self) {
        for (name, used) in std::mem::take(&mut self.failed) {
            self.look(&name, used).await;
        }
        if self.failed.is_empty() {
            self.failures = 0;
        }
    }

    /// Makes a namespace's record, if there is none.
    async fn make(&self, name: &str) -> Result<(), KeepError> {
        match self.plain.get(&namespace(name)) {
            Ok(_) => return Ok(()),
            Err(PlainError::NotFound(_)) => {}
            Err(error) => return Err(error.into()),
        }
        let body = json!({ "metadata": { "name": name } });
        match self.plain.create(PlainKind::Namespace, "", body, false).await {
            Ok(_) | Err(PlainError::Exists(_)) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Takes a namespace further towards its end, if that was wished for.
    async fn end(&mut self, name: &str) -> Result<(), KeepError> {
        match self.plain.get(&namespace(name)) {
            Ok(record) if !record["metadata"]["deletionTimestamp"].is_null() => {}
            Ok(_) => {
                self.open.insert(name.into());
                return Ok(());
            }
            Err(PlainError::NotFound(_)) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        let mut left = false;
        // Claims first: what they hold goes with them.
        for kind in [Kind::ContainerClaim, Kind::ContainerPool, Kind::Container] {
            for (object, deleting) in self.objects.names(kind, name)? {
                let reference = ObjectRef { kind, namespace: name.into(), name: object };
                left = true;
                if !deleting {
                    match self.objects.delete(&reference, &Deletion::default()).await {
                        Ok(_) | Err(ObjectError::NotFound { .. }) => {}
                        Err(error) => return Err(error.into()),
                    }
                }
            }
        }
        for kind in PlainKind::ALL.into_iter().filter(|kind| kind.namespaced()) {
            let prefix = kind.prefix(Some(name));
            // By their names: one that nobody can read goes, too.
            for kv in self.plain.store().list(&prefix)?.0 {
                let object_name = kv.key.strip_prefix(&prefix).unwrap_or_default();
                let reference = PlainRef { kind, namespace: name.into(), name: object_name.into() };
                match self.plain.delete(&reference, &Preconditions::default(), false).await {
                    Ok(_) | Err(PlainError::NotFound(_)) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        // What went just now tells of itself, and this is called again.
        if !left {
            self.plain.store().txn(Txn::default().delete(&format!("{RECORDS}{name}"))).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use futures::executor::block_on;
    use jiff::Timestamp;
    use uuid::Uuid;

    use super::*;
    use crate::api::{Births, Digests, Sealer};
    use crate::model::{ClaimSpec, ClaimStatus, ContainerClaim, Object, ObjectMeta, Origin};
    use crate::plan::clock::Clock;
    use crate::store::records::decoded;
    use crate::store::refusing::Refusing;
    use crate::store::{Store, Watch, memory};

    fn claim(name: &str) -> ContainerClaim {
        let metadata = ObjectMeta::new("red", name, Uuid::new_v4(), Timestamp::UNIX_EPOCH);
        ContainerClaim { metadata, spec: ClaimSpec::of("a", Origin::Object), status: ClaimStatus::default() }
    }

    fn keeper(store: &Arc<dyn Store>) -> Namespaces {
        let clock: Clock = Arc::new(|| Timestamp::UNIX_EPOCH);
        let births =
            Births::new(Arc::into_inner(Sealer::fresh()).unwrap(), Digests::default(), 1..=1, Arc::new(|_| true));
        let objects = Objects::new(Arc::clone(store), Arc::new(births), Arc::clone(&clock));
        let plain = Plain::new(Arc::clone(store), clock, Sealer::fresh());
        Namespaces::new(Arc::new(plain), Arc::new(objects))
    }

    /// Lets the keeper see all that changed after a revision; how many records it read for that.
    fn seen(keeper: &mut Namespaces, changes: &mut Watch, last: &mut u64) -> usize {
        let mut read = 0;
        // Who wrote is answered before who watches is told: what is there by now is waited for.
        while *last < keeper.plain.store().list("").unwrap().1 {
            let batch = block_on(changes.next()).unwrap().unwrap();
            read += decoded(|| block_on(keeper.changed(&batch)));
            *last = batch.rev;
        }
        read
    }

    #[test]
    fn what_comes_and_goes_in_a_namespace_that_stays_reads_no_record_and_one_that_ends_is_seen() {
        let store: Arc<dyn Store> = memory();
        let (mut keeper, mut changes, mut last) = (keeper(&store), store.watch("", 0), 0);
        let write = |txn: Txn| drop(block_on(store.txn(txn)).unwrap());
        write(Txn::default().write(&claim("first")));
        assert!(seen(&mut keeper, &mut changes, &mut last) > 0);
        let red = namespace("red");
        assert!(keeper.plain.get(&red).is_ok(), "what is written into it makes it");

        write(Txn::default().write(&claim("second")));
        write(Txn::default().remove(&claim("second")));
        assert_eq!(seen(&mut keeper, &mut changes, &mut last), 0);

        block_on(keeper.plain.delete(&red, &Preconditions::default(), false)).unwrap();
        seen(&mut keeper, &mut changes, &mut last);
        let ends = records::get::<ContainerClaim>(&*store, "red", "first").unwrap();
        assert!(ends.is_none_or(|read| read.object.meta().deleting()), "its end is that of what is in it");
        write(Txn::default().remove(&claim("first")));
        seen(&mut keeper, &mut changes, &mut last);
        assert!(matches!(keeper.plain.get(&red), Err(PlainError::NotFound(_))));

        write(Txn::default().write(&claim("third")));
        seen(&mut keeper, &mut changes, &mut last);
        assert!(keeper.plain.get(&red).is_ok(), "it was made anew");
    }

    #[test]
    fn what_others_keep_in_a_namespace_makes_it_and_goes_with_it() {
        let store: Arc<dyn Store> = memory();
        let (mut keeper, mut changes, mut last) = (keeper(&store), store.watch("", 0), 0);
        let body = || json!({ "metadata": { "name": "a" } });
        let make = |plain: &Plain, kind, name: &str| drop(block_on(plain.create(kind, name, body(), false)).unwrap());
        let there = |keeper: &Namespaces, name: &str| keeper.plain.get(&namespace(name)).is_ok();
        for (kind, name) in [(PlainKind::Secret, "red"), (PlainKind::Lease, "green"), (PlainKind::Event, "blue")] {
            make(&keeper.plain, kind, name);
            seen(&mut keeper, &mut changes, &mut last);
            assert!(there(&keeper, name), "{kind:?}");
            block_on(keeper.plain.delete(&namespace(name), &Preconditions::default(), false)).unwrap();
            // Made before its end came, and seen after it.
            block_on(keeper.plain.create(kind, name, json!({ "metadata": { "name": "b" } }), false)).unwrap();
            seen(&mut keeper, &mut changes, &mut last);
            assert!(!there(&keeper, name) && store.list(&kind.prefix(None)).unwrap().0.is_empty(), "{kind:?}");
        }
        // What was there before this was watched.
        make(&keeper.plain, PlainKind::Secret, "black");
        block_on(keeper.all()).unwrap();
        assert!(there(&keeper, "black"));
    }

    #[tokio::test(start_paused = true)]
    async fn an_end_that_failed_goes_on_by_itself() {
        let store = Arc::new(Refusing::over(memory()));
        let dynamic: Arc<dyn Store> = Arc::clone(&store) as _;
        dynamic.txn(Txn::default().write(&claim("first")).write(&claim("second"))).await.unwrap();
        let mut keeper = keeper(&dynamic);
        let plain = Arc::clone(&keeper.plain);
        let red = namespace("red");
        plain.create(PlainKind::Namespace, "", json!({ "metadata": { "name": "red" } }), false).await.unwrap();
        plain.delete(&red, &Preconditions::default(), false).await.unwrap();
        store.refuse(9);
        let gone = async {
            let mut changes = dynamic.watch(RECORDS, 0);
            while plain.get(&red).is_ok() {
                changes.next().await;
            }
        };
        tokio::select! {
            () = keeper.run() => panic!("it ended"),
            () = gone => {}
        }
        assert_eq!(store.refused(), 9);
    }
}
