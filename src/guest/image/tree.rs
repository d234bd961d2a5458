//! A file tree in memory, and its initial RAM disk.
//!
//! The tree decides every byte of the archive: entries are sorted, owned by root unless said otherwise, dated 1970, numbered
//! in order. Nothing of the building host (its user, its umask, its clock, its file system) can reach the result.

use std::collections::BTreeMap;
use std::io::{self, Write};

use cpio::newc::{self, Builder, ModeFileType};
use tar::EntryType;

/// What stands at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Node {
    Directory,
    File(Vec<u8>),
    Link(String),
    /// A character device: major, minor.
    Device(u32, u32),
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    node: Node,
    permissions: u32,
    owner: u32,
}

/// Paths (relative, with `/`) and what stands there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Tree {
    entries: BTreeMap<String, Entry>,
}

impl Tree {
    /// Adds a file, and the directories above it.
    pub(super) fn file(&mut self, path: &str, permissions: u32, bytes: impl Into<Vec<u8>>) {
        self.put(path, Node::File(bytes.into()), permissions);
    }

    /// Adds a symbolic link, and the directories above it.
    pub(super) fn link(&mut self, path: &str, target: &str) {
        self.put(path, Node::Link(target.into()), 0o777);
    }

    /// Adds a directory, or changes its permissions.
    pub(super) fn directory(&mut self, path: &str, permissions: u32) {
        self.put(path, Node::Directory, permissions);
    }

    /// Adds a character device.
    pub(super) fn device(&mut self, path: &str, permissions: u32, major: u32, minor: u32) {
        self.put(path, Node::Device(major, minor), permissions);
    }

    /// Gives what stands at `path` to an account (user and group of the same number).
    pub(super) fn own(&mut self, path: &str, owner: u32) {
        if let Some(entry) = self.entries.get_mut(path) {
            entry.owner = owner;
        }
    }

    /// Whether something stands at `path`.
    pub(super) fn contains(&self, path: &str) -> bool {
        self.entries.contains_key(path)
    }

    fn put(&mut self, path: &str, node: Node, permissions: u32) {
        for (at, _) in path.match_indices('/') {
            self.entries.entry(path[..at].into()).or_insert(Entry {
                node: Node::Directory,
                permissions: 0o755,
                owner: 0,
            });
        }
        self.entries.insert(path.into(), Entry { node, permissions, owner: 0 });
    }

    /// Writes the tree as a `newc` archive, the format of an initial RAM disk. Parents come before children: a path sorts
    /// after its own prefix.
    pub(super) fn write_cpio(&self, mut to: impl Write) -> io::Result<()> {
        for (number, (path, entry)) in (1..).zip(&self.entries) {
            let (kind, body) = match &entry.node {
                Node::Directory => (ModeFileType::Directory, &[][..]),
                Node::File(bytes) => (ModeFileType::Regular, &bytes[..]),
                Node::Link(target) => (ModeFileType::Symlink, target.as_bytes()),
                Node::Device(..) => (ModeFileType::Char, &[][..]),
            };
            let mut header = Builder::new(path)
                .ino(number)
                .mode(entry.permissions)
                .set_mode_file_type(kind)
                .uid(entry.owner)
                .gid(entry.owner)
                .nlink(1)
                .mtime(0);
            if let Node::Device(major, minor) = entry.node {
                header = header.rdev_major(major).rdev_minor(minor);
            }
            let size =
                u32::try_from(body.len()).map_err(|_| io::Error::other(format!("{path} is larger than 4 GiB")))?;
            let mut writer = header.write(&mut to, size);
            writer.write_all(body)?;
            writer.finish()?;
        }
        newc::trailer(&mut to)?;
        to.flush()
    }

    /// Writes the tree as a `tar` archive, everything dated `date` (seconds since 1970). Devices are left out: who unpacks it
    /// may not be able to make them.
    pub(super) fn write_tar(&self, to: impl Write, date: u64) -> io::Result<()> {
        let mut archive = tar::Builder::new(to);
        for (path, entry) in &self.entries {
            let (kind, body, target) = match &entry.node {
                Node::Directory => (EntryType::Directory, &[][..], None),
                Node::File(bytes) => (EntryType::Regular, &bytes[..], None),
                Node::Link(target) => (EntryType::Symlink, &[][..], Some(target)),
                Node::Device(..) => continue,
            };
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(kind);
            header.set_mode(entry.permissions);
            header.set_uid(entry.owner.into());
            header.set_gid(entry.owner.into());
            header.set_mtime(date);
            header.set_size(body.len() as u64);
            match target {
                Some(target) => archive.append_link(&mut header, path, target)?,
                None => archive.append_data(&mut header, path, body)?,
            }
        }
        archive.into_inner()?.flush()
    }
}
