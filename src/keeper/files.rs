//! Which files of a directory are manifests, and their bytes.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use crate::manifest::keep::Scan;
use crate::manifest::{self, MAX_SIZE, Place, Problem, Read};

/// The most manifests in one directory.
const MOST_FILES: usize = 4096;

/// The manifests in a directory, by name: `*.yaml`, `*.yml` and `*.json`, not hidden, not below further directories.
/// Links are followed, because that is how Kubernetes mounts them.
pub fn manifests(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let hidden = path.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
        let extension = path.extension().and_then(|extension| extension.to_str());
        if hidden || !matches!(extension, Some("yaml" | "yml" | "json")) || path.is_dir() {
            continue;
        }
        if files.len() == MOST_FILES {
            let what = format!("it has more than {MOST_FILES} manifests: split it");
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, what));
        }
        files.push(path);
    }
    files.sort();
    Ok(files)
}

/// Reads one file; what cannot be read is a problem like any other.
pub fn read(path: &Path) -> Read {
    let name = path.display().to_string();
    match bytes(path) {
        Ok(bytes) => manifest::read(&name, &bytes),
        Err(error) => {
            let place = Place { file: name, document: 0, line: 0 };
            let message = format!("it cannot be read: {error}");
            Read { manifests: vec![], problems: vec![Problem { place, object: None, field: String::new(), message }] }
        }
    }
}

fn bytes(path: &Path) -> io::Result<Vec<u8>> {
    // A pipe would keep its reader waiting.
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    let mut bytes = Vec::new();
    // One byte too many is what tells that it is too long.
    File::open(path)?.take(MAX_SIZE as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Reads a whole directory. If it cannot be listed, nothing is known of it.
pub(super) fn scan(directory: &Path) -> Scan {
    match manifests(directory) {
        Ok(files) => Scan { files: files.iter().map(|file| read(file)).collect(), complete: true },
        Err(error) => {
            let place = Place { file: directory.display().to_string(), document: 0, line: 0 };
            let message = format!("the directory cannot be read, and what it keeps stays as it is: {error}");
            let problem = Problem { place, object: None, field: String::new(), message };
            Scan { files: vec![Read { manifests: vec![], problems: vec![problem] }], complete: false }
        }
    }
}
