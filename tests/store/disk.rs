//! What the store on disk keeps between one start and the next.

use std::os::unix::fs::PermissionsExt;

use anweddol::store::OpenError;
use futures::StreamExt;
use futures::executor::block_on;

use super::*;

fn error(dir: &Path) -> OpenError {
    match store::open(dir, Options::default()) {
        Ok(_) => panic!("it opened"),
        Err(error) => error,
    }
}

#[test]
fn records_revisions_and_log_numbers_survive_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    store.write([put("a", "1"), append("log/", "1"), append("log/", "2")]);
    store.write([put("a", "2"), delete(&number("log/", 2))]);
    store.write([put("b", ""), put("c", "1")]);
    store.write([delete("c")]);
    let before = store.list("").unwrap();
    drop(store);

    let store = open(dir.path());
    assert_eq!(store.list("").unwrap(), before);
    assert_eq!(store.write([append("log/", "3"), append("new/", "1")]), 6);
    assert!(store.get(&number("log/", 3)).unwrap().0.is_some());
    assert!(store.get(&number("new/", 1)).unwrap().0.is_some());
}

#[test]
fn the_past_before_a_restart_counts_as_compacted() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    store.write([put("a", "1")]);
    store.write([put("a", "2")]);
    drop(store);

    let store = open(dir.path());
    let (mut old, mut new) = (store.watch("", 3), store.watch("", 4));
    assert!(matches!(block_on(old.next()), Some(Err(StoreError::Compacted { rev: 3 }))));
    store.write([put("a", "3")]);
    assert_eq!(block_on(new.next()).unwrap().unwrap().rev, 4);
}

#[test]
fn a_second_opener_is_refused_and_told_who_holds_the_store() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let text = error(dir.path()).to_string();
    let expected = format!("store {} is held by process {}:", dir.path().display(), std::process::id());
    assert!(text.starts_with(&expected), "{text}");
    store.write([put("a", "1")]);

    store.close();
    let again = open(dir.path());
    assert_eq!(again.get("a").unwrap().1, 2);
}

#[test]
fn a_newer_format_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    store.write([put("a", "1")]);
    drop(store);
    fs::write(dir.path().join("data/format"), "anweddol store format 2\n").unwrap();
    let before = files(dir.path());
    let error = error(dir.path());
    assert!(matches!(error, OpenError::NewerFormat { found: 2, .. }), "{error}");
    assert_eq!(files(dir.path()), before);
}

#[test]
fn a_snapshot_left_half_written_does_not_keep_the_store_from_opening() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    store.write([put("a", "1")]);
    drop(store);
    let partial = dir.path().join("data/snap.FFFFFFFFFFFFFFF0.generating");
    fs::write(&partial, b"half a snapshot").unwrap();
    assert_eq!(open(dir.path()).get("a").unwrap().1, 2);
    assert!(!partial.exists());
}

#[test]
fn a_first_start_that_was_killed_is_begun_again() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("creating"), "").unwrap();
    fs::create_dir(dir.path().join("data")).unwrap();
    fs::write(dir.path().join("data/conf"), "half").unwrap();
    fs::write(dir.path().join("data/db"), "half").unwrap();
    let store = open(dir.path());
    store.write([put("a", "1")]);
    drop(store);
    assert_eq!(open(dir.path()).get("a").unwrap().1, 2);
}

#[test]
fn the_data_is_for_its_owner_only() {
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().join("some/where");
    drop(open(&store));
    for path in [dir.path().join("some"), store.clone(), store.join("data")] {
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700, "{path:?}");
    }
    assert_eq!(fs::metadata(store.join("lock")).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn a_directory_with_something_else_in_it_is_not_made_a_store() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("thesis.tex"), "").unwrap();
    assert!(matches!(error(dir.path()), OpenError::NotAStore { found, .. } if found == "thesis.tex"));
    assert!(!dir.path().join("data").exists());
}

type Lose = fn(&Path);

#[test]
fn a_store_that_lost_its_files_is_damaged_and_not_empty() {
    let losses: [(&str, Lose); 4] = [
        ("the log", |data| fs::remove_file(data.join("db")).unwrap()),
        ("the format", |data| fs::remove_file(data.join("format")).unwrap()),
        ("what the format says", |data| fs::write(data.join("format"), "\0").unwrap()),
        ("the log's content", |data| {
            let len = fs::metadata(data.join("db")).unwrap().len() as usize;
            fs::write(data.join("db"), vec![0; len]).unwrap();
        }),
    ];
    for (what, lose) in losses {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path());
        store.write([put("a", "1")]);
        drop(store);
        lose(&dir.path().join("data"));
        let error = error(dir.path());
        assert!(matches!(error, OpenError::Damaged { .. }), "without {what}: {error}");
    }
}

#[test]
fn a_directory_that_cannot_be_used_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    let text = error(&file.join("store")).to_string();
    assert!(text.contains("file/store"), "{text}");
}
