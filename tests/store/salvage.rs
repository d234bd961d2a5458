//! What can still be read of a damaged store, and putting a store in place.

use std::path::Path;

use anweddol::store::{Aside, Contents, OpenError, Salvage, install, salvage};
use proptest::prelude::*;

use super::damage::{CLOSED, KILLED, damage, inflict};
use super::*;

fn contents(store: &LocalStore, logs: &[(&str, u64)]) -> Contents {
    let (records, revision) = store.list("").unwrap();
    Contents { revision, records, logs: logs.iter().map(|(log, last)| ((*log).to_owned(), *last)).collect() }
}

#[test]
fn a_whole_store_is_read_whole_and_left_as_it_is() {
    for good in [&*CLOSED, &*KILLED] {
        let dir = good.copy();
        let mut before = files(dir.path());
        let Salvage { contents, losses } = salvage(dir.path()).unwrap();
        assert_eq!(losses, [""; 0]);
        assert_eq!((contents.revision, &contents.records), (good.revision, &good.records));
        let events = good.records.iter().filter(|kv| kv.key.starts_with("events/")).count() as u64;
        assert_eq!(contents.logs, BTreeMap::from([("events/".to_owned(), events)]));
        let mut after = files(dir.path());
        // Who looks says so.
        for files in [&mut before, &mut after] {
            files.remove(Path::new("lock"));
        }
        assert!(before == after, "it was changed");
    }
}

#[test]
fn a_store_that_is_open_is_not_read_and_its_holder_named() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    assert!(matches!(salvage(dir.path()), Err(OpenError::Locked { pid: Some(pid), .. }) if pid == std::process::id()));
    let nothing = Contents { revision: 1, records: vec![], logs: BTreeMap::new() };
    let replaced = install(dir.path(), &nothing, &Aside::As("old".into()));
    assert!(matches!(replaced, Err(OpenError::Locked { .. })));
    store.write([put("a", "1")]);
}

#[test]
fn where_there_is_no_store_none_is_made_by_looking() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    assert!(matches!(salvage(&path), Err(OpenError::Absent { .. })));
    assert!(!path.exists());
    // Of what cannot be looked at nobody says that it is not there; permissions would not stop root.
    fs::create_dir(&path).unwrap();
    std::os::unix::fs::symlink("data", path.join("data")).unwrap();
    assert!(matches!(salvage(&path), Err(OpenError::Io { .. })));
}

#[test]
fn without_its_snapshots_and_settings_a_log_is_still_read() {
    for lose in ["conf", "snap."] {
        let dir = CLOSED.copy();
        for entry in fs::read_dir(dir.path().join("data")).unwrap() {
            let path = entry.unwrap().path();
            if path.file_name().unwrap().to_str().unwrap().starts_with(lose) {
                fs::write(&path, "something else").unwrap();
            }
        }
        let Salvage { contents, losses } = salvage(dir.path()).unwrap();
        assert!(!losses.is_empty(), "without {lose}");
        assert_eq!((contents.revision, &contents.records), (CLOSED.revision, &CLOSED.records), "without {lose}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(40) })]

    /// Salvage never invents: what it reads was in the store once, and what it does not read, it says.
    #[test]
    fn what_is_read_of_a_damaged_store_was_in_it_and_what_is_not_is_said(
        killed: bool,
        file in any::<prop::sample::Index>(),
        damage in damage(),
    ) {
        let good = if killed { &*KILLED } else { &*CLOSED };
        let dir = good.copy();
        let path = inflict(&dir.path().join("data"), file, &damage);
        match salvage(dir.path()) {
            Ok(Salvage { contents, losses }) => {
                if losses.is_empty() {
                    prop_assert_eq!(contents.revision, good.revision);
                    prop_assert!(contents.records == good.records);
                }
                for kv in &contents.records {
                    prop_assert!(kv.mod_rev <= good.revision);
                    let same = good.records.iter().find(|known| known.key == kv.key && known.mod_rev == kv.mod_rev);
                    prop_assert!(same.is_none_or(|known| known == kv), "'{}' has another value", kv.key);
                }
            }
            Err(OpenError::NewerFormat { .. }) if path.ends_with("format") => {}
            Err(error) => prop_assert!(false, "{error}"),
        }
    }
}

/// What is there, of a store that goes on behind every revision that another one may have told.
fn installed(path: &Path, of: &Contents) -> Contents {
    let contents = salvage(path).unwrap().contents;
    assert!(contents.revision > of.revision + 1_000_000, "{}", contents.revision);
    Contents { revision: of.revision, ..contents }
}

#[test]
fn what_is_put_in_place_has_the_same_revisions_and_numbers_and_goes_on_behind_all_others() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = open(from.path());
    store.write([put("a", "1"), append("log/", "1"), append("log/", "2")]);
    store.write([put("a", "2"), delete(&number("log/", 2))]);
    let expected = contents(&store, &[("log/", 2)]);
    drop(store);
    assert_eq!(salvage(from.path()).unwrap(), Salvage { contents: expected.clone(), losses: vec![] });

    let path = to.path().join("store");
    assert_eq!(install(&path, &expected, &Aside::Nowhere).unwrap(), None);
    assert_eq!(installed(&path, &expected), expected);
    let store = open(&path);
    let (records, revision) = store.list("").unwrap();
    assert_eq!(records, expected.records);
    assert_eq!(store.write([append("log/", "3")]), revision + 1);
    assert!(store.get(&number("log/", 3)).unwrap().0.is_some());
    drop(store);
    assert_eq!(fs::read_dir(to.path()).unwrap().count(), 1, "something was left beside it");
}

#[test]
fn a_store_is_replaced_only_where_that_is_wished_for_and_then_kept_aside() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let store = open(&path);
    store.write([put("a", "old")]);
    let old = contents(&store, &[]);
    drop(store);
    let kv = store::Kv { key: "b".into(), value: "new".into(), create_rev: 7, mod_rev: 8 };
    let new = Contents { revision: 9, records: vec![kv], logs: BTreeMap::new() };
    assert!(matches!(install(&path, &new, &Aside::Nowhere), Err(OpenError::Present { .. })));
    assert_eq!(salvage(&path).unwrap().contents, old);
    let kept = install(&path, &new, &Aside::As("kept".into())).unwrap().unwrap();
    assert_eq!(kept, dir.path().join("kept"));
    assert_eq!((installed(&path, &new), salvage(&kept).unwrap().contents), (new.clone(), old.clone()));
    // What has the name already is not written over.
    assert!(install(&path, &old, &Aside::As("kept".into())).is_err());
    assert_eq!((installed(&path, &new), salvage(&kept).unwrap().contents), (new, old));
}

#[test]
fn what_an_interrupted_import_left_is_begun_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    fs::create_dir(&path).unwrap();
    fs::create_dir_all(dir.path().join("store.making/data")).unwrap();
    fs::write(dir.path().join("store.making/data/db"), "half").unwrap();
    let nothing = Contents { revision: 5, records: vec![], logs: BTreeMap::new() };
    assert_eq!(install(&path, &nothing, &Aside::Nowhere).unwrap(), None);
    assert_eq!(installed(&path, &nothing), nothing);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}
