use std::os::unix::fs::{MetadataExt, chown};
use std::process::Command;

use super::*;

/// Only root can act as somebody else.
#[test]
fn root_goes_on_as_the_owner_of_a_directory_with_what_nft_needs_and_makes_files_of_theirs() {
    if !geteuid().is_root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    // Of this thread alone: the kernel keeps these for each.
    let acted = |uid: u32| {
        let dir = dir.path().to_owned();
        chown(&dir, Some(uid), Some(uid)).unwrap();
        std::thread::spawn(move || {
            act_as_owner_of(&dir).unwrap();
            let file = dir.join(uid.to_string());
            fs::write(&file, "").unwrap();
            let status = Command::new("grep").arg("CapAmb").arg("/proc/self/status").output().unwrap();
            (geteuid().as_raw(), fs::metadata(file).unwrap().uid(), String::from_utf8(status.stdout).unwrap())
        })
        .join()
        .unwrap()
    };
    let (user, owner, ambient) = acted(0);
    assert_eq!((user, owner), (0, 0));
    assert!(ambient.trim_end().ends_with("0000000000000000"), "{ambient}");
    let (user, owner, ambient) = acted(65_533);
    assert_eq!((user, owner), (65_533, 65_533));
    let inherited: u64 = INHERITED.iter().map(|capability| capability.bits()).sum();
    assert!(ambient.trim_end().ends_with(&format!("{inherited:016x}")), "{ambient}");
}

#[test]
fn a_directory_that_is_not_there_is_nobody_elses() {
    assert_eq!(stranger(Path::new("/no/such/directory")).unwrap(), None);
}
