use std::process::Command;

use super::*;

/// Bytes that nobody can read are as good as their source.
#[test]
fn the_boot_sector_is_what_its_source_says() {
    let dir = tempfile::tempdir().unwrap();
    let (object, binary) = (dir.path().join("o"), dir.path().join("b"));
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/src/hypervisor/boot/sector.s");
    let done = |program: &str, args: &[&std::ffi::OsStr]| {
        assert!(Command::new(program).args(args).status().unwrap().success(), "{program}");
    };
    done("as", &["--64".as_ref(), source.as_ref(), "-o".as_ref(), object.as_ref()]);
    let words = ["-O", "binary", "-j", ".text"].map(AsRef::as_ref);
    done("objcopy", &[&words[..], &[object.as_ref(), binary.as_ref()]].concat());
    assert_eq!(std::fs::read(binary).unwrap(), SECTOR);
}

#[test]
fn an_emulated_guest_runs_to_its_end_and_a_disk_without_one_does_not() {
    // A build may run beside it.
    let patient = Program { deadline: Duration::from_secs(60), ..QEMU };
    let disk = disk().unwrap();
    assert_eq!(patient.run(&arguments(Accelerator::Tcg, disk.path()), "").unwrap(), SAID);
    let empty = tempfile::NamedTempFile::new().unwrap();
    empty.as_file().set_len(DISK).unwrap();
    let short = Program { deadline: Duration::from_millis(500), ..QEMU };
    let said = short.run(&arguments(Accelerator::Tcg, empty.path()), "").unwrap_err().to_string();
    assert!(said.contains("did not end within"), "{said}");
}
