//! A store whose files were damaged: it opens with everything that was told, or says that it is damaged.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use anweddol::store::{Kv, OpenError};
use proptest::prelude::*;

use super::*;

/// A store like a daemon's after some time, and what it told. Its files are here and not in a directory, which would be left
/// behind: nobody drops what is static.
pub(super) struct Good {
    files: BTreeMap<PathBuf, Vec<u8>>,
    pub(super) records: Vec<Kv>,
    pub(super) revision: u64,
}

impl Good {
    /// A copy, to damage.
    pub(super) fn copy(&self) -> TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (path, bytes) in &self.files {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
        dir
    }
}

/// As an orderly stop leaves it: sled opens it from its snapshot.
pub(super) static CLOSED: LazyLock<Good> = LazyLock::new(|| {
    let dir = tempfile::tempdir().unwrap();
    let (records, revision) = fill(dir.path()).list("").unwrap();
    Good { files: files(dir.path()), records, revision }
});

/// As `kill -9` leaves it: sled reads its log to the end, wherever that seems to be.
pub(super) static KILLED: LazyLock<Good> = LazyLock::new(|| {
    let dir = tempfile::tempdir().unwrap();
    let store = fill(dir.path());
    let files = files(dir.path());
    let (records, revision) = store.list("").unwrap();
    Good { files, records, revision }
});

fn fill(dir: &Path) -> Arc<LocalStore> {
    for start in 0..3 {
        let store = open(dir);
        for round in 0..60 {
            let object = format!("registry/containers/default/{:04}", (start * 31 + round * 7) % 97);
            let text = format!("{{\"round\":{round},\"text\":\"{}\"}}", "x".repeat(300 + round * 10));
            store.write([put(&object, &text), put("registry/pool", &round.to_string()), append("events/", &text)]);
        }
        store.write([delete("registry/containers/default/0007"), put("instance", "\"of the machine\"")]);
    }
    let store = open(dir);
    for round in 0..40 {
        store.write([put("registry/pool", &format!("\"{round}\"")), append("events/", "{}")]);
    }
    store
}

/// What happens to one file of `data/`.
#[derive(Clone, Debug)]
pub(super) enum Damage {
    /// Some bits of a byte. Places count in pages with anything in them, since most of a log's file is not used.
    Flip {
        at: prop::sample::Index,
        bits: u8,
    },
    /// A stretch of other bytes.
    Scribble {
        at: prop::sample::Index,
        with: Vec<u8>,
    },
    /// It ends earlier.
    Truncate {
        at: prop::sample::Index,
    },
    /// Nothing in it.
    Empty,
    Remove,
    /// As it was when another file of the store was in its place.
    Swap {
        with: prop::sample::Index,
    },
}

pub(super) fn damage() -> impl Strategy<Value = Damage> {
    let at = any::<prop::sample::Index>;
    prop_oneof![
        12 => (at(), 1..=255u8).prop_map(|(at, bits)| Damage::Flip { at, bits }),
        4 => (at(), prop::collection::vec(any::<u8>(), 1..600)).prop_map(|(at, with)| Damage::Scribble { at, with }),
        4 => at().prop_map(|at| Damage::Truncate { at }),
        1 => Just(Damage::Empty),
        1 => Just(Damage::Remove),
        1 => at().prop_map(|with| Damage::Swap { with }),
    ]
}

fn damageable(data: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(data).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_file());
    files.collect::<BTreeSet<_>>().into_iter().collect()
}

/// Does it to a file; which one it was.
pub(super) fn inflict(data: &Path, file: prop::sample::Index, damage: &Damage) -> PathBuf {
    let files = damageable(data);
    // sled's log is where everything is.
    let log = data.join("db");
    let path = match damage {
        Damage::Flip { .. } | Damage::Scribble { .. } | Damage::Truncate { .. } if file.index(4) != 0 => &log,
        _ => file.get(&files),
    };
    let mut bytes = fs::read(path).unwrap();
    let unused = [0; 4096];
    let pages = bytes.chunks(unused.len()).enumerate().filter(|(_, page)| !unused.starts_with(page));
    let mut used: Vec<usize> = pages.flat_map(|(n, page)| n * unused.len()..n * unused.len() + page.len()).collect();
    if used.is_empty() {
        // One that was not begun yet.
        used.extend(0..bytes.len());
    }
    match damage {
        Damage::Flip { at, bits } => bytes[*at.get(&used)] ^= bits,
        Damage::Scribble { at, with } => {
            let from = *at.get(&used);
            let to = bytes.len().min(from + with.len());
            bytes[from..to].copy_from_slice(&with[..to - from]);
        }
        Damage::Truncate { at } => bytes.truncate(*at.get(&used)),
        Damage::Empty => bytes.clear(),
        Damage::Remove => {
            fs::remove_file(path).unwrap();
            return path.clone();
        }
        Damage::Swap { with } => bytes = fs::read(with.get(&files)).unwrap(),
    }
    fs::write(path, bytes).unwrap();
    path.clone()
}

/// Opens a copy with some damage: everything that was told is there, or it is said to be damaged.
fn check(good: &Good, file: prop::sample::Index, damage: &Damage) -> Result<(), TestCaseError> {
    let dir = good.copy();
    let path = inflict(&dir.path().join("data"), file, damage);
    match store::open(dir.path(), Options::default()) {
        Ok(store) => {
            let (records, revision) = store.list("").unwrap();
            prop_assert_eq!(revision, good.revision);
            prop_assert!(records == good.records, "other records at the same revision");
        }
        Err(OpenError::Damaged { .. }) => {}
        Err(OpenError::NewerFormat { .. }) if path.ends_with("format") => {}
        Err(other) => prop_assert!(false, "{other}"),
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

    #[test]
    fn a_damaged_store_opens_with_all_that_was_told_or_says_that_it_is_damaged(
        file in any::<prop::sample::Index>(),
        damage in damage(),
    ) {
        check(&CLOSED, file, &damage)?;
    }

    #[test]
    fn a_store_that_was_killed_and_then_damaged_does_so_too(
        file in any::<prop::sample::Index>(),
        damage in damage(),
    ) {
        check(&KILLED, file, &damage)?;
    }
}
