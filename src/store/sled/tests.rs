use std::os::unix::fs::MetadataExt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use futures::{FutureExt, StreamExt};

use super::*;
use crate::store::held::Held;
use crate::store::{Batch, Op, Store, StoreError, Txn, TxnResult};

fn put(key: &str, value: Vec<u8>) -> Txn {
    Txn { conds: vec![], ops: vec![Op::Put { key: key.into(), value: value.into() }] }
}

/// A disk with so much room, which loses everything that was not synced.
struct TestDisk {
    free: AtomicU64,
    dir: PathBuf,
    /// Held while something comes to the disk.
    syncing: Mutex<()>,
}

impl Disk for TestDisk {
    fn free(&self, _: &File) -> io::Result<u64> {
        Ok(self.free.load(Ordering::SeqCst))
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        let _syncing = self.syncing.lock().unwrap();
        let (data, disk) = (self.store().join("data"), self.dir.join("synced/data"));
        if !disk.exists() {
            // While it is opened nothing else is written.
            return copy(&data, &disk);
        }
        let synced = file.metadata()?.ino();
        for name in ["db", "ahead.0", "ahead.1"] {
            if data.join(name).metadata()?.ino() == synced {
                std::fs::copy(data.join(name), disk.join(name))?;
            }
        }
        Ok(())
    }
}

impl TestDisk {
    fn new(dir: &Path, free: u64) -> Arc<TestDisk> {
        Arc::new(TestDisk { free: free.into(), dir: dir.into(), syncing: Mutex::default() })
    }

    fn store(&self) -> PathBuf {
        self.dir.join("store")
    }

    fn open(self: &Arc<Self>) -> Arc<LocalStore> {
        open_on(Arc::clone(self) as Arc<dyn Disk>, &self.store(), Options::default()).unwrap()
    }

    /// What a power cut would leave of the store, opened.
    fn left(&self) -> Arc<LocalStore> {
        let left = self.dir.join("left");
        let _ = std::fs::remove_dir_all(&left);
        {
            let _syncing = self.syncing.lock().unwrap();
            copy(&self.dir.join("synced"), &left).unwrap();
        }
        std::fs::copy(self.store().join("data/format"), left.join("data/format")).unwrap();
        open(&left, Options::default()).unwrap()
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

#[test]
fn what_is_answered_is_on_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let disk = TestDisk::new(dir.path(), u64::MAX);
    let store = disk.open();
    // So much that the files of the log ahead take turns.
    for i in 0..100 {
        store.txn(put(&format!("k{}", i % 30), vec![i; 20_000])).wait().unwrap();
        if i % 9 == 0 {
            assert_eq!(disk.left().list("").unwrap(), store.list("").unwrap(), "after {i}");
        }
    }
}

#[test]
fn what_sled_did_not_bring_to_the_disk_is_there_after_a_start() {
    let append =
        |value: Vec<u8>| Txn { conds: vec![], ops: vec![Op::Append { prefix: "log/".into(), value: value.into() }] };
    let dir = tempfile::tempdir().unwrap();
    let disk = TestDisk::new(dir.path(), u64::MAX);
    let store = disk.open();
    for i in 0..10 {
        store.txn(put(&format!("k{}", i % 7), vec![i])).wait().unwrap();
        store.txn(put("k4", vec![i]).delete("k3")).wait().unwrap();
        store.txn(append(vec![i])).wait().unwrap();
    }
    let found = disk.left();
    assert_eq!(found.list("").unwrap(), store.list("").unwrap());
    found.txn(append(vec![])).wait().unwrap();
    assert!(found.get("log/00000000000000000011").unwrap().0.is_some(), "a number was given again");
}

#[test]
fn an_orderly_close_leaves_nothing_ahead_of_sled() {
    let dir = tempfile::tempdir().unwrap();
    let disk = TestDisk::new(dir.path(), u64::MAX);
    let store = disk.open();
    store.txn(put("a", vec![1])).wait().unwrap();
    store.close();
    for path in ahead::paths(&dir.path().join("synced")) {
        let _ = std::fs::remove_file(path);
    }
    assert_eq!(disk.left().list("").unwrap(), store.list("").unwrap());
}

#[test]
fn a_closed_store_has_let_go_of_its_files() {
    use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), Options::default()).unwrap();
    let log = layout::log(dir.path());
    let holding = || {
        let numbers = std::fs::read_dir("/proc/self/fd").unwrap().map(|fd| fd.unwrap().path());
        let held = numbers.filter(|fd| std::fs::read_link(fd).is_ok_and(|file| file == log));
        held.map(|fd| fd.file_name().unwrap().to_str().unwrap().parse().unwrap()).collect::<Vec<_>>()
    };
    // One of sled's threads that is late: it holds the same open files.
    let process = pidfd_open(getpid(), PidfdFlags::empty()).unwrap();
    let copied = |number| pidfd_getfd(&process, number, PidfdGetfdFlags::empty()).unwrap();
    let late: Vec<_> = holding().into_iter().map(copied).collect();
    let before = holding().len();
    let closing = std::thread::spawn(move || store.close());
    while holding().len() == before {
        std::thread::yield_now();
    }
    // Well before it gives up, however long a turn takes on a busy machine.
    let begin = Instant::now();
    for _ in (0..1000).take_while(|_| begin.elapsed() < Duration::from_secs(1)) {
        std::thread::yield_now();
        assert!(!closing.is_finished(), "it is closed, and sled has its log");
    }
    drop(late);
    closing.join().unwrap();
    rustix::fs::flock(File::open(log).unwrap(), rustix::fs::FlockOperation::NonBlockingLockExclusive).unwrap();
}

#[test]
fn who_opens_waits_for_an_opening_that_failed() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path(), Options::default()).unwrap());
    let begin = Instant::now();
    drop(open(dir.path(), Options::default()).unwrap());
    let usual = begin.elapsed();
    // As sled's threads have it.
    let late = File::open(layout::log(dir.path())).unwrap();
    rustix::fs::flock(&late, rustix::fs::FlockOperation::NonBlockingLockExclusive).unwrap();
    let path = dir.path().to_owned();
    let begin = Instant::now();
    let opening = std::thread::spawn(move || open(&path, Options::default()).map(drop));
    // Well before it gives up.
    while begin.elapsed() < (2 * usual).min(Duration::from_secs(2)) {
        std::thread::yield_now();
        assert!(!opening.is_finished(), "it did not wait");
    }
    drop(late);
    opening.join().unwrap().unwrap();
}

#[test]
fn what_is_read_after_a_start_is_on_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let disk = TestDisk::new(dir.path(), u64::MAX);
    let store = open(&disk.store(), Options::default()).unwrap();
    store.txn(put("a", vec![1])).wait().unwrap();
    drop(store);
    let store = disk.open();
    let left = open(&dir.path().join("synced"), Options::default()).unwrap();
    assert_eq!(left.list("").unwrap(), store.list("").unwrap());
}

#[test]
fn writes_are_refused_while_space_is_low_and_taken_again_after() {
    const MIB: u64 = 1024 * 1024;
    let dir = tempfile::tempdir().unwrap();
    let disk = TestDisk::new(dir.path(), 12 * MIB);
    let store = disk.open();

    let Err(StoreError::Unavailable { reason }) = store.txn(put("a", vec![1])).wait() else { panic!("not refused") };
    assert!(reason.contains("12 MiB are free") && reason.contains("64 MiB"), "{reason}");
    assert_eq!(store.get("a").unwrap(), (None, 1));

    disk.free.store(64 * MIB, Ordering::SeqCst);
    assert_eq!(store.txn(put("a", vec![1])).wait().unwrap(), TxnResult::Committed(2));
}

/// What a disk does in the end.
type Word = fn() -> io::Result<()>;

/// A disk that takes its time: until the test has a word for it.
struct SlowDisk {
    /// For this file, or for all.
    only: Option<PathBuf>,
    syncing: Sender<()>,
    word: Mutex<Receiver<Word>>,
}

impl Disk for SlowDisk {
    fn free(&self, _: &File) -> io::Result<u64> {
        Ok(u64::MAX)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        if let Some(only) = &self.only
            && file.metadata()?.ino() != only.metadata()?.ino()
        {
            return Ok(());
        }
        let _ = self.syncing.send(());
        let word = self.word.lock().unwrap().recv();
        word.map_or(Ok(()), |word| word())
    }
}

/// A store on it, who hears of what is waited for, and who has the word.
fn slow(dir: &Path, only: Option<PathBuf>) -> (Arc<LocalStore>, Receiver<()>, Sender<Word>) {
    let ((syncing, begun), (word, hears)) = (channel(), channel::<Word>());
    word.send(|| Ok(())).unwrap();
    let disk = SlowDisk { only, syncing, word: Mutex::new(hears) };
    let store = open_on(Arc::new(disk), dir, Options::default()).unwrap();
    begun.recv().unwrap();
    (store, begun, word)
}

#[test]
fn on_a_slow_disk_nothing_is_told_early_and_reading_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let (store, begun, word) = slow(&dir.path().join("store"), None);
    word.send(|| Ok(())).unwrap();
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
fn only_who_fills_the_second_file_waits_for_sled() {
    let dir = tempfile::tempdir().unwrap();
    let (store, begun, word) = slow(dir.path(), Some(layout::log(dir.path())));
    let large = || put("k", vec![7; 60_000]);
    let in_both = 2 * ahead::FULL.div_ceil(60_000);
    for _ in 0..in_both {
        store.txn(large()).wait().unwrap();
    }
    begun.recv().unwrap();
    let mut waits = store.txn(large());
    for _ in 0..1000 {
        std::thread::yield_now();
        assert!((&mut waits).now_or_never().is_none(), "the files have no end");
        assert_eq!(store.list("").unwrap().1, 1 + in_both as u64);
    }
    assert_eq!(ahead::read(dir.path()).unwrap().len(), in_both, "what sled has not on the disk is written over");
    word.send(|| Ok(())).unwrap();
    waits.wait().unwrap();
    drop(word);
    store.close();
    assert_eq!(open(dir.path(), Options::default()).unwrap().get("k").unwrap().1, 2 + in_both as u64);
}

#[test]
fn what_keeps_sled_from_the_disk_ends_writing_although_nobody_writes() {
    let ends: [(Word, &str); 2] =
        [(|| Err(io::Error::from_raw_os_error(5)), "os error 5"), (|| panic!("on purpose"), "sled panicked")];
    for (end, says) in ends {
        let dir = tempfile::tempdir().unwrap();
        let (store, begun, word) = slow(dir.path(), Some(layout::log(dir.path())));
        for _ in 0..=ahead::FULL.div_ceil(60_000) {
            store.txn(put("k", vec![7; 60_000])).wait().unwrap();
        }
        begun.recv().unwrap();
        let told = store.get("k").unwrap();
        word.send(end).unwrap();
        assert!(futures::executor::block_on(store.failed()).contains(says));
        let Err(StoreError::Unavailable { reason }) = store.txn(put("k", vec![1])).wait() else {
            panic!("it was done")
        };
        assert!(reason.contains(says), "{reason}");
        assert_eq!(store.get("k").unwrap(), told);
        drop(store);
        assert_eq!(open(dir.path(), Options::default()).unwrap().get("k").unwrap(), told);
    }
}

#[test]
fn who_waits_for_sled_is_told_what_kept_it_from_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let (store, begun, word) = slow(dir.path(), Some(layout::log(dir.path())));
    let large = || put("k", vec![7; 60_000]);
    for _ in 0..2 * ahead::FULL.div_ceil(60_000) {
        store.txn(large()).wait().unwrap();
    }
    begun.recv().unwrap();
    let mut waits = store.txn(large());
    for _ in 0..1000 {
        std::thread::yield_now();
        assert!((&mut waits).now_or_never().is_none(), "it does not wait for sled");
    }
    word.send(|| Err(io::Error::from_raw_os_error(28))).unwrap();
    let Err(StoreError::Unknown { reason } | StoreError::Unavailable { reason }) = waits.wait() else {
        panic!("it was done")
    };
    assert!(reason.contains("No space"), "{reason}");
}

#[test]
fn a_disk_that_gives_an_error_ends_writing_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let (store, _begun, word) = slow(&path, None);
    word.send(|| Ok(())).unwrap();
    word.send(|| Err(io::Error::from_raw_os_error(5))).unwrap();
    store.txn(put("a", vec![1])).wait().unwrap();
    let Err(StoreError::Unknown { reason }) = store.txn(put("a", vec![2])).wait() else { panic!("it was done") };
    assert!(reason.contains("os error 5"), "{reason}");
    assert!(matches!(store.txn(put("a", vec![3])).wait(), Err(StoreError::Unavailable { .. })));
    assert!(futures::executor::block_on(store.failed()).contains("os error 5"));
    assert_eq!(store.get("a").unwrap().1, 2);
    drop((word, store));
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
        tamper(&Base::open(&dir).unwrap().db);
        // They would mend it.
        ahead::paths(&dir).iter().for_each(|path| std::fs::remove_file(path).unwrap());
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
    let base = Base::open(dir.path()).unwrap();
    let db = &base.db;
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
    let state = load(dir.path(), db).unwrap();
    assert_eq!(["a", "b"].map(|key| at(&state.get(key).unwrap().value.text)), shared);
    // Whoever reads it has no copy either.
    let value = state.get("a").unwrap().value;
    assert_eq!(at(&value), shared[0].wrapping_add(value.text.len() - value.len()));
}
