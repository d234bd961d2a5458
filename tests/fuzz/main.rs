//! The targets of the fuzzer over their committed corpora: what was found once is found again by every test run, on any
//! compiler. `make fuzz` looks for more.

mod targets;

use std::fs;
use std::path::{Path, PathBuf};

/// Inputs are seeds, not a store of everything that was ever seen.
const MOST_FILES: usize = 100;
/// Of all corpora together, in bytes.
const MOST_BYTES: u64 = 1 << 20;

fn corpora() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus")
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// A test for each target, so that what fails says of what.
macro_rules! corpus {
    ($($name:ident),+) => {
        $(
            #[test]
            fn $name() {
                let files = files(&corpora().join(stringify!($name)));
                assert!(!files.is_empty());
                for file in files {
                    println!("{}", file.display());
                    targets::find(stringify!($name))(&fs::read(&file).unwrap());
                }
            }
        )+
        const TESTED: &[&str] = &[$(stringify!($name)),+];
    };
}

corpus!(wire, request, manifest, config, import, patch, http, domain, records, guest, forms);

#[test]
fn every_target_has_a_test_a_program_and_a_small_corpus() {
    let names: Vec<&str> = targets::ALL.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, TESTED);
    let package = fs::read_to_string(corpora().with_file_name("Cargo.toml")).unwrap();
    let programs: Vec<&str> = package.lines().filter_map(|line| line.strip_prefix("path = \"bin/")).collect();
    let expected: Vec<String> = names.iter().map(|name| format!("{name}.rs\"")).collect();
    assert_eq!(programs, expected);
    let mut bytes = 0;
    for directory in files(&corpora()) {
        let files = files(&directory);
        assert!(names.iter().any(|name| directory.ends_with(name)), "{}", directory.display());
        assert!(files.len() <= MOST_FILES, "{} inputs in {}", files.len(), directory.display());
        bytes += files.iter().map(|file| file.metadata().unwrap().len()).sum::<u64>();
    }
    assert!(bytes <= MOST_BYTES, "{bytes} bytes in all corpora");
}
