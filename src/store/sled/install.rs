//! Making a store of given contents, whole or not at all.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::codec::{self, Meta};
use super::error::OpenError;
use super::lock::Lock;
use super::told::Told;
use super::{Base, Disk, RealDisk, Salvage, layout, lock, salvage};
use crate::store::Contents;
use crate::store::engine::Snapshot;
use crate::store::held::Held;

/// Pairs written at once: nobody sees the store before all are.
const BATCH: usize = 256;

/// Where the store that was there is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Aside {
    /// Nowhere: there must not be one.
    Nowhere,
    /// Under this name, beside it.
    As(String),
}

/// A store that is going to be replaced, whatever state it is in: nobody can open it meanwhile.
///
/// The other one is made beside it, whole and on the disk, and then the two change places in one step: at any time there
/// is the old one or the new one.
pub struct Replacement {
    dir: PathBuf,
    _lock: Lock,
}

impl Replacement {
    /// Takes the store in `dir`, which need not be one, nor be there.
    pub fn begin(dir: &Path) -> Result<Replacement, OpenError> {
        layout::make_dir(dir)?;
        Ok(Replacement { dir: dir.into(), _lock: Lock::take(dir)? })
    }

    /// Reads what is left of the one that is there, as [`salvage`](super::salvage()) does.
    pub fn salvage(&self) -> Result<Salvage, OpenError> {
        salvage::held(&self.dir)
    }

    /// Puts a store of these contents there, and says where the old one is now, if there was one. If anything fails, all
    /// is as it was. Blocks.
    pub fn finish(self, contents: &Contents, aside: &Aside) -> Result<Option<PathBuf>, OpenError> {
        let dir = &self.dir;
        let kept = match aside {
            Aside::Nowhere if layout::is_new(dir)? => None,
            Aside::Nowhere => return Err(OpenError::Present { dir: dir.clone() }),
            Aside::As(_) if layout::is_new(dir).unwrap_or(false) => None,
            Aside::As(name) => Some(dir.with_file_name(name)),
        };
        // One that was left by a process that was killed is begun again.
        let making = dir.with_extension("making");
        let done = make(&making, contents).and_then(|()| {
            exchange(dir, &making, kept.as_deref()).map_err(|source| {
                let path = kept.as_ref().filter(|kept| kept.exists()).unwrap_or(dir);
                OpenError::from_io(path, source)
            })
        });
        if done.is_err() {
            // Of no use to anybody.
            let _ = fs::remove_dir_all(&making);
        }
        done.map(|()| kept)
    }
}

/// [`Replacement`] for who has the contents already.
pub fn install(dir: &Path, contents: &Contents, aside: &Aside) -> Result<Option<PathBuf>, OpenError> {
    Replacement::begin(dir)?.finish(contents, aside)
}

fn exchange(dir: &Path, making: &Path, kept: Option<&Path>) -> io::Result<()> {
    match kept {
        None => {
            renameat_with(CWD, making, CWD, dir, RenameFlags::EXCHANGE)?;
            fs::remove_dir_all(making)?;
        }
        // It gets the old one's future name first: whenever this ends, no store lies under a name that the next attempt
        // would clear away.
        Some(kept) => {
            renameat_with(CWD, making, CWD, kept, RenameFlags::NOREPLACE)?;
            renameat_with(CWD, kept, CWD, dir, RenameFlags::EXCHANGE)?;
        }
    }
    layout::sync_parent(dir)
}

fn make(dir: &Path, contents: &Contents) -> Result<(), OpenError> {
    layout::make_dir(dir)?;
    let _lock = Lock::take(dir)?;
    layout::begin_new(dir)?;
    let sled = |error| OpenError::from_sled(dir, error);
    let base = Base::open(dir)?;
    let mut state = Snapshot::new();
    for records in contents.records.chunks(BATCH) {
        let mut batch = ::sled::Batch::default();
        for kv in records {
            let held = Held::new(&mut kv.value.clone(), kv.create_rev, kv.mod_rev);
            batch.insert(codec::record_key(&kv.key), held.text());
            state.put(Arc::clone(&kv.key), held);
        }
        base.db.apply_batch(batch).map_err(sled)?;
    }
    for (prefix, last) in &contents.logs {
        base.db.insert(codec::counter_key(prefix), codec::encode_counter(*last)).map_err(sled)?;
    }
    state.revision = contents.revision.max(untold(jiff::Timestamp::now()));
    base.db.insert(codec::META, Meta::of(&state).encode()).map_err(sled)?;
    base.sync(&RealDisk).map_err(sled)?;
    Told::begin(dir, state.revision).map_err(|source| OpenError::from_io(dir, source))?;
    let Base { db, log } = base;
    drop(db);
    lock::let_go(&log.0);
    // What sled wrote when it was closed.
    RealDisk.sync(&log.0).map_err(|source| OpenError::from_io(dir, source))?;
    layout::finish_new(dir)
}

/// A revision that no store can have told by now: nobody commits 10,000 times in each second. After what was written down
/// came others, and nobody knows how many. Who saw one of those must not find another content under its number, but hear that
/// it is past (`what_was_told_after_a_document_is_past_when_it_is_installed`).
fn untold(now: jiff::Timestamp) -> u64 {
    u64::try_from(now.as_second()).unwrap_or(0).saturating_mul(10_000)
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;
    use futures::executor::block_on;

    use super::*;
    use crate::store::{Options, Store, StoreError, Txn, memory, open};

    fn write(store: &dyn Store, key: &str) {
        store.txn(Txn::default().put(key, &1)).wait().unwrap();
    }

    fn filled(dir: &Path, aside: &Path) -> Result<Option<PathBuf>, OpenError> {
        let store = memory();
        write(&*store, "new");
        let aside = aside.file_name().unwrap().to_str().unwrap().into();
        install(dir, &Contents::of(&*store).unwrap(), &Aside::As(aside))
    }

    fn keys(dir: &Path) -> Vec<String> {
        let store = open(dir, Options::default()).unwrap();
        store.list("").unwrap().0.into_iter().map(|kv| kv.key.to_string()).collect()
    }

    #[test]
    fn a_damaged_store_is_moved_aside_as_it_is_and_another_is_in_its_place() {
        let tmp = tempfile::tempdir().unwrap();
        let (dir, aside) = (tmp.path().join("store"), tmp.path().join("aside"));
        write(&*open(&dir, Options::default()).unwrap(), "old");
        fs::write(dir.join("data/format"), "damage").unwrap();
        assert!(open(&dir, Options::default()).is_err());
        // As one that was killed leaves it.
        fs::create_dir_all(tmp.path().join("store.making/data")).unwrap();
        assert_eq!(filled(&dir, &aside).unwrap(), Some(aside.clone()));
        assert_eq!(keys(&dir), ["new"]);
        assert_eq!(fs::read(aside.join("data/format")).unwrap(), b"damage");
        assert_eq!(fs::read_dir(tmp.path()).unwrap().count(), 2, "nothing else is left");
    }

    #[test]
    fn where_there_was_none_nothing_is_moved() {
        let tmp = tempfile::tempdir().unwrap();
        let (dir, aside) = (tmp.path().join("store"), tmp.path().join("aside"));
        assert_eq!(filled(&dir, &aside).unwrap(), None);
        assert_eq!(keys(&dir), ["new"]);
        assert!(!aside.exists());
    }

    #[test]
    fn one_that_is_open_or_whose_replacement_fails_stays_as_it_is() {
        let tmp = tempfile::tempdir().unwrap();
        let (dir, aside) = (tmp.path().join("store"), tmp.path().join("aside"));
        let store = open(&dir, Options::default()).unwrap();
        write(&*store, "old");
        assert!(matches!(filled(&dir, &aside), Err(OpenError::Locked { pid: Some(_), .. })));
        store.close();
        drop(store);
        let held = Replacement::begin(&dir).unwrap();
        assert!(matches!(open(&dir, Options::default()), Err(OpenError::Locked { .. })), "it is not held");
        drop(held);
        fs::create_dir(&aside).unwrap();
        assert!(filled(&dir, &aside).is_err(), "what is aside already is replaced");
        assert_eq!(keys(&dir), ["old"]);
        assert_eq!(fs::read_dir(tmp.path()).unwrap().count(), 2, "something is left");
    }

    #[test]
    fn what_was_told_after_a_document_is_past_when_it_is_installed() {
        let tmp = tempfile::tempdir().unwrap();
        let dir = tmp.path().join("store");
        let store = open(&dir, Options::default()).unwrap();
        write(&*store, "seen");
        let contents = Contents::of(&*store).unwrap();
        write(&*store, "seen later");
        let told = store.list("").unwrap().1;
        drop(store);
        install(&dir, &contents, &Aside::As("aside".into())).unwrap();
        let store = open(&dir, Options::default()).unwrap();
        write(&*store, "another");
        assert!(store.list("").unwrap().1 > told + 1_000_000, "its revision is told for the second time");
        let watched = block_on(store.watch("", told).next()).unwrap();
        assert!(matches!(watched, Err(StoreError::Compacted { .. })));
    }
}
