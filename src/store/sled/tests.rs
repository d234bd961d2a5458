use std::sync::atomic::{AtomicU64, Ordering};

use super::*;
use crate::store::{Op, Store, StoreError, Txn, TxnResult};

fn put(key: &str, value: Vec<u8>) -> Txn {
    Txn { conds: vec![], ops: vec![Op::Put { key: key.into(), value }] }
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

    fn sync(&self, _: &File) -> io::Result<()> {
        copy(&self.dir, &self.synced)
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

#[test]
fn what_is_answered_is_on_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let (disk, _) = test_disk(dir.path(), u64::MAX);
    let store = open_on(disk, &dir.path().join("store"), Options::default()).unwrap();
    for i in 0..10 {
        store.txn(put(&format!("k{i}"), vec![i])).wait().unwrap();
    }
    // Nothing more is brought to the disk now, least of all by closing the store.
    let left = dir.path().join("left");
    copy(&dir.path().join("synced"), &left).unwrap();
    let expected = store.list("").unwrap();
    std::fs::copy(dir.path().join("store/data/format"), left.join("data/format")).unwrap();
    assert_eq!(open(&left, Options::default()).unwrap().list("").unwrap(), expected);
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
        assert!(matches!(open(&dir, Options::default()), Err(OpenError::Damaged { .. })));
    }
}
