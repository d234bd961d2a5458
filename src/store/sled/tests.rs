use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};

use futures::{FutureExt, StreamExt};

use super::*;
use crate::store::held::Held;
use crate::store::{Batch, Op, Store, StoreError, Txn, TxnResult};

fn put(key: &str, value: Vec<u8>) -> Txn {
    Txn { conds: vec![], ops: vec![Op::Put { key: key.into(), value: value.into() }] }
}

/// A disk with so much room, which loses everything that was not synced: what is in `synced` would be left of the
/// store in `dir` by a power cut.
struct TestDisk {
    free: Arc<AtomicU64>,
    dir: PathBuf,
    synced: PathBuf,
}

impl Disk for TestDisk {
    fn free(&self, _: &File) -> io::Result<u64> {
        Ok(self.free.load(Ordering::SeqCst))
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        if !self.synced.exists() {
            // While it is opened nothing else is written.
            return copy(&self.dir, &self.synced);
        }
        let synced = file.metadata()?.ino();
        for name in ["db", "ahead"] {
            if self.dir.join(name).metadata()?.ino() == synced {
                std::fs::copy(self.dir.join(name), self.synced.join(name))?;
            }
        }
        Ok(())
    }
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &to)?;
        } else {
            std::fs::copy(entry.path(), to)?;
        }
    }
    Ok(())
}

fn test_disk(dir: &Path, free: u64) -> (Box<TestDisk>, Arc<AtomicU64>) {
    let free = Arc::new(AtomicU64::new(free));
    let disk = TestDisk { free: Arc::clone(&free), dir: dir.join("store/data"), synced: dir.join("synced/data") };
    (Box::new(disk), free)
}

/// What a power cut would leave of a store, opened.
fn left(dir: &Path) -> Arc<LocalStore> {
    let left = dir.join("left");
    copy(&dir.join("synced"), &left).unwrap();
    std::fs::copy(dir.join("store/data/format"), left.join("data/format")).unwrap();
    open(&left, Options::default()).unwrap()
}

#[test]
fn what_is_answered_is_on_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let (disk, _) = test_disk(dir.path(), u64::MAX);
    let store = open_on(disk, &dir.path().join("store"), Options::default()).unwrap();
    // So much that the log ahead begins again now and then.
    for i in 0..100 {
        store.txn(put(&format!("k{}", i % 30), vec![i; 20_000])).wait().unwrap();
        if i % 9 == 0 {
            assert_eq!(left(dir.path()).list("").unwrap(), store.list("").unwrap(), "after {i}");
            std::fs::remove_dir_all(dir.path().join("left")).unwrap();
        }
    }
}

#[test]
fn what_sled_did_not_bring_to_the_disk_is_there_after_a_start() {
    let append =
        |value: Vec<u8>| Txn { conds: vec![], ops: vec![Op::Append { prefix: "log/".into(), value: value.into() }] };
    let dir = tempfile::tempdir().unwrap();
    let (disk, _) = test_disk(dir.path(), u64::MAX);
    let store = open_on(disk, &dir.path().join("store"), Options::default()).unwrap();
    for i in 0..10 {
        store.txn(put(&format!("k{}", i % 7), vec![i])).wait().unwrap();
        store.txn(put("k4", vec![i]).delete("k3")).wait().unwrap();
        store.txn(append(vec![i])).wait().unwrap();
    }
    let found = left(dir.path());
    assert_eq!(found.list("").unwrap(), store.list("").unwrap());
    found.txn(append(vec![])).wait().unwrap();
    assert!(found.get("log/00000000000000000011").unwrap().0.is_some(), "a number was given again");
}

#[test]
fn an_orderly_close_leaves_nothing_ahead_of_sled() {
    let dir = tempfile::tempdir().unwrap();
    let (disk, _) = test_disk(dir.path(), u64::MAX);
    let store = open_on(disk, &dir.path().join("store"), Options::default()).unwrap();
    store.txn(put("a", vec![1])).wait().unwrap();
    store.close();
    let _ = std::fs::remove_file(dir.path().join("synced/data/ahead"));
    assert_eq!(left(dir.path()).list("").unwrap(), store.list("").unwrap());
}

#[test]
fn what_is_read_after_a_start_is_on_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let store = open(&path, Options::default()).unwrap();
    store.txn(put("a", vec![1])).wait().unwrap();
    drop(store);
    let (disk, _) = test_disk(dir.path(), u64::MAX);
    let store = open_on(disk, &path, Options::default()).unwrap();
    let left = open(&dir.path().join("synced"), Options::default()).unwrap();
    assert_eq!(left.list("").unwrap(), store.list("").unwrap());
}

#[test]
fn writes_are_refused_while_space_is_low_and_taken_again_after() {
    const MIB: u64 = 1024 * 1024;
    let dir = tempfile::tempdir().unwrap();
    let (disk, free) = test_disk(dir.path(), 12 * MIB);
    let store = open_on(disk, &dir.path().join("store"), Options::default()).unwrap();

    let Err(StoreError::Unavailable { reason }) = store.txn(put("a", vec![1])).wait() else { panic!("not refused") };
    assert!(reason.contains("12 MiB are free") && reason.contains("64 MiB"), "{reason}");
    assert_eq!(store.get("a").unwrap(), (None, 1));

    free.store(64 * MIB, Ordering::SeqCst);
    assert_eq!(store.txn(put("a", vec![1])).wait().unwrap(), TxnResult::Committed(2));
}

/// A disk that takes its time: until the test has a word for it.
struct SlowDisk {
    syncing: Sender<()>,
    word: Receiver<io::Result<()>>,
}

impl Disk for SlowDisk {
    fn free(&self, _: &File) -> io::Result<u64> {
        Ok(u64::MAX)
    }

    fn sync(&self, _: &File) -> io::Result<()> {
        let _ = self.syncing.send(());
        self.word.recv().unwrap_or(Ok(()))
    }
}

#[test]
fn on_a_slow_disk_nothing_is_told_early_and_reading_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let ((syncing, begun), (word, hears)) = (channel(), channel());
    word.send(Ok(())).unwrap();
    let disk = SlowDisk { syncing, word: hears };
    let store = open_on(Box::new(disk), &dir.path().join("store"), Options::default()).unwrap();
    begun.recv().unwrap();

    word.send(Ok(())).unwrap();
    store.txn(put("a", vec![1])).wait().unwrap();
    begun.recv().unwrap();
    let mut watch = store.watch("", 0);
    let mut commits: Vec<_> = (0..100).map(|i| store.txn(put(&format!("k{i}"), vec![i]))).collect();
    // It is written, and not yet on the disk: a copy of the files would have it already.
    begun.recv().unwrap();
    for _ in 0..1000 {
        assert_eq!(store.list("").unwrap().0.len(), 1);
    }
    assert!(commits.iter_mut().all(|commit| commit.now_or_never().is_none()) && watch.next().now_or_never().is_none());
    assert_eq!(told::read(&dir.path().join("store")).unwrap(), Some(2), "noted before it is durable");
    drop(word);
    let last = commits.into_iter().map(|commit| commit.wait().unwrap()).next_back();
    assert_eq!(last, Some(TxnResult::Committed(102)));
    assert_eq!(told::read(&dir.path().join("store")).unwrap(), Some(102));
}

#[test]
fn a_disk_that_gives_an_error_ends_writing_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let ((syncing, _begun), (word, hears)) = (channel(), channel());
    for result in [Ok(()), Ok(()), Err(io::Error::from_raw_os_error(5))] {
        word.send(result).unwrap();
    }
    let disk = SlowDisk { syncing, word: hears };
    let path = dir.path().join("store");
    let store = open_on(Box::new(disk), &path, Options::default()).unwrap();
    store.txn(put("a", vec![1])).wait().unwrap();
    // Unavailable, if it is met by what is done while nobody comes.
    let Err(StoreError::Unknown { reason } | StoreError::Unavailable { reason }) = store.txn(put("a", vec![2])).wait()
    else {
        panic!("it was done");
    };
    assert!(reason.contains("os error 5"), "{reason}");
    assert!(matches!(store.txn(put("a", vec![3])).wait(), Err(StoreError::Unavailable { .. })));
    assert!(futures::executor::block_on(store.failed()).contains("os error 5"));
    assert_eq!(store.get("a").unwrap().1, 2);
    drop(store);
    // What was told is there, and what was not known to be done is or is not.
    let (kv, revision) = open(&path, Options::default()).unwrap().get("a").unwrap();
    assert!(matches!((&*kv.unwrap().value, revision), ([1], 2) | ([2], 3)));
}

#[test]
fn the_largest_values_need_no_file_of_their_own() {
    use crate::store::{MAX_KEY, MAX_VALUE};
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), Options::default()).unwrap();
    for round in 0..3 {
        // Written in no particular order, so that leaves split and fill up everywhere, and many to a batch.
        let key = |i: usize| format!("{:0width$}", i * 37 % 100, width = MAX_KEY);
        let commits: Vec<_> = (0..100).map(|i| store.txn(put(&key(i), vec![round; MAX_VALUE]))).collect();
        commits.into_iter().for_each(|commit| drop(commit.wait().unwrap()));
    }
    let blobs = std::fs::read_dir(layout::data(dir.path()).join("blobs")).unwrap().count();
    assert_eq!(blobs, 0, "sled keeps pages in files that it never syncs");
}

#[test]
fn records_that_do_not_fit_the_totals_are_damage() {
    let dir = tempfile::tempdir().unwrap();
    let tamperings: [fn(&::sled::Db); 4] = [
        |db| drop(db.remove(codec::record_key("a"))),
        |db| drop(db.insert(codec::record_key("c"), db.get(codec::record_key("a")).unwrap().unwrap())),
        |db| drop(db.insert(codec::record_key("b"), db.get(codec::record_key("a")).unwrap().unwrap())),
        |db| drop(db.remove(codec::META)),
    ];
    for tamper in tamperings {
        let dir = dir.path().join(format!("{:?}", tamper as *const ()));
        let store = open(&dir, Options::default()).unwrap();
        store.txn(put("a", vec![1])).wait().unwrap();
        store.txn(put("b", vec![2])).wait().unwrap();
        drop(store);
        let (db, _file) = open_sled(&dir).unwrap();
        tamper(&db);
        drop((db, _file));
        // It would mend it.
        std::fs::remove_file(ahead::path(&dir)).unwrap();
        assert!(matches!(open(&dir, Options::default()), Err(OpenError::Damaged { .. })));
    }
}

#[test]
fn the_copy_that_a_damaged_store_is_read_from_is_nobody_elses() {
    use std::os::unix::fs::PermissionsExt;
    let mode = salvage::scratch().unwrap().path().metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
}

#[test]
fn sled_and_the_state_share_what_a_record_takes() {
    let dir = tempfile::tempdir().unwrap();
    layout::make_dir(&layout::data(dir.path())).unwrap();
    let (db, _file) = open_sled(dir.path()).unwrap();
    let at = |held: &[u8]| held.as_ptr();
    let in_sled = |key| at(&db.get(codec::record_key(key)).unwrap().unwrap());
    let (mut state, mut round) = (Snapshot::new(), Round::default());
    for (key, rev) in [("a", 2), ("b", 3)] {
        let held = Held::new(&mut [7; 100].into(), rev, rev);
        let kv = held.kv(&key.into());
        state.put(Arc::clone(&kv.key), held);
        round.batches.push(Arc::new(Batch { rev, changes: vec![Change::Put { kv, prev: None }] }));
    }
    db.apply_batch(ahead::batch([written(1, &state, &round)])).unwrap();
    let shared = ["a", "b"].map(in_sled);
    assert_eq!(["a", "b"].map(|key| at(&state.get(key).unwrap().value.text)), shared);
    let state = load(dir.path(), &db).unwrap();
    assert_eq!(["a", "b"].map(|key| at(&state.get(key).unwrap().value.text)), shared);
    // Whoever reads it has no copy either.
    let value = state.get("a").unwrap().value;
    assert_eq!(at(&value), shared[0].wrapping_add(value.text.len() - value.len()));
}
