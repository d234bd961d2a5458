use super::tree::Tree;
use super::*;

fn small_tree(backwards: bool) -> Vec<u8> {
    let mut steps: Vec<fn(&mut Tree)> = vec![
        |tree| tree.file("etc/a", 0o644, "a"),
        |tree| tree.link("bin", "usr/bin"),
        |tree| tree.file("usr/bin/sudo", 0o4755, "program"),
        |tree| tree.device("dev/console", 0o600, 5, 1),
    ];
    if backwards {
        steps.reverse();
    }
    let mut tree = Tree::default();
    steps.into_iter().for_each(|step| step(&mut tree));
    let mut archive = Vec::new();
    tree.write_cpio(&mut archive).unwrap();
    archive
}

#[test]
fn the_archive_does_not_depend_on_the_order_in_which_it_was_filled() {
    assert_eq!(small_tree(false), small_tree(true));
}

#[test]
fn the_archive_holds_parents_first_owned_by_root_and_undated() {
    let archive = small_tree(false);
    let mut rest = &archive[..];
    let mut seen = Vec::new();
    loop {
        let reader = cpio::NewcReader::new(rest).unwrap();
        if reader.entry().is_trailer() {
            break;
        }
        let entry = reader.entry();
        assert_eq!((entry.uid(), entry.gid(), entry.mtime(), entry.nlink()), (0, 0, 0, 1));
        seen.push((entry.name().to_owned(), entry.mode()));
        rest = reader.finish().unwrap();
    }
    let expected = [
        ("bin", 0o120777),
        ("dev", 0o040755),
        ("dev/console", 0o020600),
        ("etc", 0o040755),
        ("etc/a", 0o100644),
        ("usr", 0o040755),
        ("usr/bin", 0o040755),
        ("usr/bin/sudo", 0o104755),
    ];
    assert_eq!(seen, expected.map(|(name, mode)| (name.to_owned(), mode)));
}

/// Bytes that nobody can read are as good as their source.
#[test]
fn the_sudo_of_the_endpoint_is_what_its_source_says() {
    let dir = tempfile::tempdir().unwrap();
    let (object, binary) = (dir.path().join("o"), dir.path().join("b"));
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/src/guest/image/sudo.s");
    let done = |program: &str, args: &[&std::ffi::OsStr]| {
        assert!(std::process::Command::new(program).args(args).status().unwrap().success(), "{program}");
    };
    done("as", &["--64".as_ref(), source.as_ref(), "-o".as_ref(), object.as_ref()]);
    let words = ["-O", "binary", "-j", ".text"].map(AsRef::as_ref);
    done("objcopy", &[&words[..], &[object.as_ref(), binary.as_ref()]].concat());
    assert_eq!(fs::read(binary).unwrap(), layout::SUDO);
}

#[test]
fn the_key_follows_the_packages() {
    let package = |hash: &str| Package { file: "a_1_amd64.deb".into(), hash: hash.into() };
    assert_eq!(key(&[package("SHA256:1")]), key(&[package("SHA256:1")]));
    assert_ne!(key(&[package("SHA256:1")]), key(&[package("SHA256:2")]));
}

#[test]
fn a_host_that_cannot_build_is_told_what_is_missing() {
    let arm = check_host("aarch64", &PROGRAMS, |_| true).unwrap_err();
    assert!(arm.to_string().contains("this machine is aarch64"), "{arm}");
    let fedora = check_host("x86_64", &PROGRAMS, |program| program == "xorriso").unwrap_err();
    assert!(matches!(&fedora, ImageError::Host { reason } if reason.contains("apt-get")), "{fedora}");
    let bare = check_host("x86_64", &PROGRAMS, |program| program != "xorriso").unwrap_err();
    assert!(bare.to_string().ends_with("install the package 'xorriso'"), "{bare}");
}

#[test]
fn a_full_disk_is_told_as_such() {
    let error = io_error(Path::new("/x"))(io::ErrorKind::StorageFull.into());
    assert!(matches!(error, ImageError::NoSpace { .. }), "{error}");
}

#[test]
fn a_broken_elf_file_needs_nothing_and_breaks_nothing() {
    let own = fs::read(std::env::current_exe().unwrap()).unwrap();
    assert!(elf::needs(&own).is_some_and(|needs| needs.libraries.iter().any(|library| library.starts_with("libc."))));
    assert_eq!(elf::needs(b""), None);
    assert_eq!(elf::needs(&own[..4096]), None);
    assert_eq!(elf::module_depends(b"\x7fELF"), None);
}
