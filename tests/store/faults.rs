//! The store on a disk that fails: its power is cut, it is full, it becomes read-only, it gives errors. On a file
//! system of its own, in a file, which these tests make, fill and shut down.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::Command;

use anweddol::store::OpenError;
use rustix::ioctl::{Setter, ioctl, opcode};

use super::kill::{self, Until};
use super::*;

/// An ext4 of so many MiB, mounted; unmounted with the test.
struct Disk {
    dir: TempDir,
    /// The file system below has less than the disk promises.
    thin: bool,
}

fn run(program: &str, args: &[&str]) -> bool {
    Command::new(program).args(args).status().unwrap_or_else(|error| panic!("{program}: {error}")).success()
}

impl Disk {
    fn new(mib: u64) -> Disk {
        Disk::make(Disk { dir: tempfile::tempdir().unwrap(), thin: false }, mib)
    }

    /// One that has only so many MiB of those that it promises: beyond them it gives errors, as thin volumes do.
    fn thin(mib: u64, has: u64) -> Disk {
        let disk = Disk { dir: tempfile::tempdir().unwrap(), thin: true };
        fs::create_dir(disk.below()).unwrap();
        let size = format!("size={has}m");
        assert!(run("mount", &["-t", "tmpfs", "-o", &size, "thin", &disk.below().to_string_lossy()]));
        Disk::make(disk, mib)
    }

    fn make(disk: Disk, mib: u64) -> Disk {
        File::create(disk.image()).unwrap().set_len(mib * 1024 * 1024).unwrap();
        fs::create_dir(disk.path()).unwrap();
        // Errors make it read-only, as distributions have it. A journal that meets one would not let it be used again.
        let kind = if disk.thin { ["^has_journal", "continue"] } else { ["has_journal", "remount-ro"] };
        let image = disk.image().to_string_lossy().into_owned();
        assert!(run("mkfs.ext4", &["-q", "-F", "-m", "0", "-O", kind[0], "-e", kind[1], &image]));
        disk.mount();
        disk
    }

    fn below(&self) -> PathBuf {
        self.dir.path().join("below")
    }

    fn image(&self) -> PathBuf {
        if self.thin { self.below().join("image") } else { self.dir.path().join("image") }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("disk")
    }

    fn store(&self) -> PathBuf {
        self.path().join("store")
    }

    fn mount(&self) {
        assert!(run("mount", &["-o", "loop", &self.image().to_string_lossy(), &self.path().to_string_lossy()]));
    }

    fn unmount(&self) {
        assert!(run("umount", &[&self.path().to_string_lossy()]), "somebody is still in it");
    }

    /// What is in memory and not on the disk is gone, as if its power were cut. Until it is mounted again everything
    /// on it is an error.
    fn cut(&self) {
        const EXT4_GOING_FLAGS_NOLOGFLUSH: u32 = 2;
        let root = File::open(self.path()).unwrap();
        shutdown(root.as_fd(), EXT4_GOING_FLAGS_NOLOGFLUSH).unwrap();
    }

    /// Takes all space but so many MiB.
    fn fill(&self, leave: u64) {
        let free = fs4(&self.path()).saturating_sub(leave * 1024 * 1024);
        let file = File::create(self.path().join("filler")).unwrap();
        rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, free).unwrap();
        file.sync_all().unwrap();
    }

    fn make_room(&self) {
        fs::remove_file(self.path().join("filler")).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // It may be unmounted already; what hangs on to it goes with the lab.
        for mounted in [self.path(), self.below()] {
            let _ = Command::new("umount").arg("--lazy").arg(mounted).stderr(std::process::Stdio::null()).status();
        }
    }
}

fn fs4(path: &Path) -> u64 {
    let space = rustix::fs::statvfs(path).unwrap();
    space.f_bavail * space.f_frsize
}

/// `FS_IOC_SHUTDOWN`, which no library wraps.
#[allow(unsafe_code)]
fn shutdown(root: std::os::fd::BorrowedFd<'_>, flags: u32) -> io::Result<()> {
    const FS_IOC_SHUTDOWN: rustix::ioctl::Opcode = opcode::read::<u32>(b'X', 125);
    // SAFETY: this request reads one u32, which is what it is given.
    Ok(unsafe { ioctl(root, Setter::<FS_IOC_SHUTDOWN, u32>::new(flags)) }?)
}

const SEED_CUTS: [usize; 6] = [1, 300, 0, 2_000, 40, 1_000];

#[test]
#[ignore = "needs root and loop devices (mounts a file system in a file): tests/lab/run.sh"]
fn acknowledged_writes_survive_a_power_cut() {
    let disk = Disk::new(256);
    let mut acked = BTreeMap::new();
    for acks in SEED_CUTS {
        kill::run(&disk.store(), Until { acks, then: &|| disk.cut() }, &mut acked);
        disk.unmount();
        disk.mount();
        kill::verify(&disk.store(), &acked);
    }
    println!("{} cuts, {} acknowledged writes, none lost", SEED_CUTS.len(), acked.values().sum::<u64>());
    assert!(!acked.is_empty());
}

/// The store's reserve keeps sled from ever meeting the full disk, which would be an error for good.
#[test]
#[ignore = "needs root and loop devices (mounts a file system in a file): tests/lab/run.sh"]
fn a_full_disk_refuses_writes_loses_nothing_and_goes_on_when_there_is_room() {
    let disk = Disk::new(256);
    let store = open(&disk.store());
    let mut written = 0;
    for _ in 0..2 {
        disk.fill(8);
        for _ in 0..20 {
            match store.attempt(vec![], vec![append("log/", &"x".repeat(50_000))]) {
                Err(StoreError::Unavailable { reason }) => {
                    assert!(reason.contains("MiB are free") && reason.contains("free some space"), "{reason}");
                }
                other => panic!("taken on a full disk: {other:?}"),
            }
        }
        assert_eq!(store.list("log/").unwrap().0.len(), written, "reads go on");
        disk.make_room();
        for _ in 0..20 {
            store.write([append("log/", &"x".repeat(50_000))]);
            written += 1;
        }
    }
    drop(store);
    assert_eq!(open(&disk.store()).list("log/").unwrap().0.len(), written);
}

/// Somebody else takes the reserve in the middle of a write: what was told is there, and the store opens again when there
/// is room.
#[test]
#[ignore = "needs root and loop devices (mounts a file system in a file): tests/lab/run.sh"]
fn a_disk_that_fills_up_in_the_middle_of_a_write_loses_nothing_that_was_told() {
    let disk = Disk::new(128);
    let options = Options { reserve: 0, ..Options::default() };
    let store = store::open(&disk.store(), options.clone()).unwrap();
    disk.fill(1);
    let mut told = 0;
    let failed = loop {
        match store.attempt(vec![], vec![append("log/", &"x".repeat(60_000))]) {
            Ok(_) => told += 1,
            Err(error) => break error,
        }
    };
    let (StoreError::Unknown { reason } | StoreError::Unavailable { reason }) = &failed else { panic!("{failed}") };
    assert!(reason.contains("No space"), "{reason}");
    assert!(futures::executor::block_on(store.failed()).contains("No space"));
    drop(store);
    match store::open(&disk.store(), options) {
        Err(OpenError::NoSpace { .. }) => {}
        Err(error) => panic!("{error}"),
        // It need not write in order to open.
        Ok(store) => drop(store),
    }
    disk.make_room();
    let found = open(&disk.store()).list("log/").unwrap().0.len();
    assert!(found == told || found == told + 1, "{told} were told, {found} are there");
}

#[test]
#[ignore = "needs root and loop devices (mounts a file system in a file): tests/lab/run.sh"]
fn a_disk_that_becomes_read_only_ends_writing_and_not_reading() {
    let disk = Disk::new(128);
    let store = open(&disk.store());
    store.write([put("a", "1")]);
    let path = disk.path().to_string_lossy().into_owned();
    // What the kernel does with a disk that gives errors.
    assert!(run("mount", &["-o", "remount,abort", &path]));
    // The abort takes place at the next thing that would be written.
    let _ = File::create(disk.path().join("other"));
    let failed = store.attempt(vec![], vec![put("b", "1")]).unwrap_err();
    assert!(matches!(failed, StoreError::Unknown { .. } | StoreError::Unavailable { .. }), "{failed}");
    assert!(matches!(store.attempt(vec![], vec![put("b", "1")]), Err(StoreError::Unavailable { .. })));
    assert!(store.get("a").unwrap().0.is_some());
    drop(store);
    let error = match store::open(&disk.store(), Options::default()) {
        Ok(_) => panic!("it opened"),
        Err(error) => error,
    };
    assert!(matches!(error, OpenError::ReadOnly { .. }), "{error}");
    // It can be saved even so.
    let saved = store::salvage(&disk.store()).unwrap();
    assert!(saved.contents.records.iter().any(|kv| &*kv.key == "a"), "{:?}", saved.losses);
    disk.unmount();
    disk.mount();
    assert!(open(&disk.store()).get("a").unwrap().0.is_some());
}

/// After a write that failed, the kernel shows what never came to the disk, calls it clean, and has told its error: a
/// start that believed it would tell what is not there. (A loop device over a full file system even takes a write of
/// which only a part was written; that is found as well.)
#[test]
#[ignore = "needs root and loop devices (mounts a file system in a file): tests/lab/run.sh"]
fn what_failed_to_come_to_the_disk_is_not_read_by_the_next_start() {
    let disk = Disk::thin(512, 64);
    let store = open(&disk.store());
    let attempt = |store: &LocalStore| store.attempt(vec![], vec![append("log/", &"x".repeat(60_000))]);
    for _ in 0..10 {
        attempt(&store).unwrap();
    }
    let filler = disk.below().join("filler");
    let mut file = File::create(&filler).unwrap();
    while io::Write::write_all(&mut file, &[1; 65_536]).is_ok() {}
    let failed = loop {
        if let Err(error) = attempt(&store) {
            break error;
        }
    };
    assert!(matches!(&failed, StoreError::Unknown { .. } | StoreError::Unavailable { .. }), "{failed}");
    drop(store);
    fs::remove_file(filler).unwrap();
    drop(file);

    match store::open(&disk.store(), Options::default()) {
        Ok(store) => {
            let read = store.list("").unwrap();
            drop(store);
            disk.unmount();
            disk.mount();
            assert!(open(&disk.store()).list("").unwrap() == read, "it was read, and is not on the disk");
        }
        Err(OpenError::Damaged { .. }) => {}
        Err(error) => panic!("{error}"),
    }
}

#[test]
#[ignore = "needs root and loop devices (mounts a file system in a file): tests/lab/run.sh"]
fn a_disk_that_gives_errors_ends_writing_and_the_next_start_has_what_was_told() {
    let disk = Disk::new(128);
    let store = open(&disk.store());
    store.write([put("a", "1")]);
    disk.cut();
    let failed = store.attempt(vec![], vec![put("a", "2")]).unwrap_err();
    let (StoreError::Unknown { reason } | StoreError::Unavailable { reason }) = &failed else { panic!("{failed}") };
    assert!(reason.contains("Input/output"), "{reason}");
    assert_eq!(&*store.get("a").unwrap().0.unwrap().value, b"1", "what is not durable is not seen");
    drop(store);
    disk.unmount();
    disk.mount();
    let (found, revision) = open(&disk.store()).get("a").unwrap();
    assert_eq!((&*found.unwrap().value, revision), (&b"1"[..], 2));
}
