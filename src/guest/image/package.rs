//! Reads Debian packages: straight from `dpkg-deb` into memory, so that nothing is unpacked, let alone installed, on the host,
//! and file modes do not depend on who builds.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};

use tar::{Archive, EntryType};

use super::ImageError;

/// No file that we want is larger; the kernel is 14 MB.
const FILE_LIMIT: u64 = 128 << 20;
/// A chain of links longer than this is a loop.
const LINK_LIMIT: usize = 16;

enum Item {
    File(Vec<u8>),
    Link(String),
}

/// The wanted files of some packages, by path in a merged `/usr` (`bin/x` is `usr/bin/x`), without a leading slash.
#[derive(Default)]
pub(super) struct Contents {
    items: BTreeMap<String, Item>,
}

impl Contents {
    /// Adds those files of a package whose path `wanted` takes.
    pub(super) fn read(&mut self, package: &Path, wanted: impl Fn(&str) -> bool) -> Result<(), ImageError> {
        let broken = |reason: String| ImageError::Package { path: package.into(), reason };
        let mut unpack = Command::new("dpkg-deb")
            .arg("--fsys-tarfile")
            .arg(package)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|source| ImageError::Start { program: "dpkg-deb", source })?;
        let read = match unpack.stdout.take() {
            Some(stdout) => self.read_tar(stdout, wanted),
            None => Ok(()),
        };
        let output = unpack.wait_with_output().map_err(|source| ImageError::Start { program: "dpkg-deb", source })?;
        // When reading stopped early, dpkg-deb dies of a closed pipe: our own reason is the first one.
        read.map_err(|error| broken(error.to_string()))?;
        if !output.status.success() {
            return Err(broken(super::apt::last_lines(&output.stderr)));
        }
        Ok(())
    }

    fn read_tar(&mut self, stream: impl Read, wanted: impl Fn(&str) -> bool) -> std::io::Result<()> {
        let mut archive = Archive::new(stream);
        for entry in archive.entries()? {
            let mut entry = entry?;
            let path = merged(&String::from_utf8_lossy(&entry.path_bytes()));
            if !wanted(&path) {
                continue;
            }
            match entry.header().entry_type() {
                EntryType::Regular | EntryType::Continuous => {
                    let mut bytes = Vec::new();
                    entry.by_ref().take(FILE_LIMIT).read_to_end(&mut bytes)?;
                    self.items.insert(path, Item::File(bytes));
                }
                EntryType::Symlink => {
                    let target = entry.link_name_bytes().unwrap_or_default();
                    let target = resolve(&path, &String::from_utf8_lossy(&target));
                    self.items.insert(path, Item::Link(target));
                }
                EntryType::Link => {
                    let target = entry.link_name_bytes().unwrap_or_default();
                    self.items.insert(path, Item::Link(merged(&String::from_utf8_lossy(&target))));
                }
                // Directories are made as needed; packages hold nothing else that we want.
                _ => {}
            }
        }
        // dpkg-deb pads the stream; it must be read to its end, or dpkg-deb fails to write.
        std::io::copy(&mut archive.into_inner(), &mut std::io::sink())?;
        Ok(())
    }

    /// The file at a path, links followed.
    pub(super) fn get(&self, path: &str) -> Option<&[u8]> {
        let mut path = merged(path);
        for _ in 0..LINK_LIMIT {
            match self.items.get(&path)? {
                Item::File(bytes) => return Some(bytes),
                Item::Link(target) => path.clone_from(target),
            }
        }
        None
    }

    /// The files (no links) below a directory, in order.
    pub(super) fn below(&self, directory: &str) -> impl Iterator<Item = (&str, &[u8])> {
        let all = self.items.range(directory.to_owned()..).map(|(path, item)| (path.as_str(), item));
        all.take_while(move |(path, _)| path.starts_with(directory)).filter_map(|(path, item)| match item {
            Item::File(bytes) => Some((path, &bytes[..])),
            Item::Link(_) => None,
        })
    }

    /// The first path (in order) that `wanted` takes.
    pub(super) fn find(&self, wanted: impl Fn(&str) -> bool) -> Option<&str> {
        self.items.keys().map(String::as_str).find(|path| wanted(path))
    }
}

/// `./lib/x`, `/lib/x` and `usr/lib/x` are one path in a merged `/usr`.
pub(super) fn merged(path: &str) -> String {
    let path = path.trim_start_matches("./").trim_start_matches('/').trim_end_matches('/');
    match path.split('/').next() {
        Some("bin" | "sbin" | "lib" | "lib64") => format!("usr/{path}"),
        _ => path.to_owned(),
    }
}

/// Where a symbolic link at `path` leads.
fn resolve(path: &str, target: &str) -> String {
    if target.starts_with('/') {
        return merged(target);
    }
    let mut parts: Vec<&str> = path.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            name => parts.push(name),
        }
    }
    merged(&parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_lead_where_a_merged_usr_leads() {
        assert_eq!(merged("./lib/x86_64-linux-gnu/libz.so.1"), "usr/lib/x86_64-linux-gnu/libz.so.1");
        assert_eq!(merged("./usr/bin/sudo"), "usr/bin/sudo");
        assert_eq!(resolve("usr/lib64/ld.so.2", "/lib/x86/ld.so.2"), "usr/lib/x86/ld.so.2");
        assert_eq!(resolve("usr/lib/a/libz.so.1", "libz.so.1.2"), "usr/lib/a/libz.so.1.2");
        assert_eq!(resolve("usr/lib/a/libz.so", "../b/./libz.so"), "usr/lib/b/libz.so");
    }

    #[test]
    fn a_loop_of_links_is_no_file() {
        let mut contents = Contents::default();
        contents.items.insert("usr/a".into(), Item::Link("usr/b".into()));
        contents.items.insert("usr/b".into(), Item::Link("usr/a".into()));
        assert_eq!(contents.get("usr/a"), None);
    }
}
