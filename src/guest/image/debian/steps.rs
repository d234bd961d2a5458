//! The long steps of a build, by programs of the host.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::super::package::Contents;
use super::super::{ImageError, disk, io_error, iso, layout};
use super::{Ingredients, files};
use crate::error_chain;

/// How long a step may take, in seconds; both take one minute on a slow host that has nothing else to do.
const DEADLINE: &str = "3600";
/// How much of a program's message is told.
const MESSAGE_LINES: usize = 6;
/// Where programs lie that are not on everybody's path.
const SBIN: [&str; 2] = ["/usr/sbin", "/sbin"];
/// The size of the root file system. What nobody writes takes no room.
const ROOT_SIZE: u64 = 4 << 30;
/// Partitions begin at whole MiB.
const ALIGNMENT: u64 = 1 << 20;
const SECTOR: u64 = 512;
/// The second of the four entries in a disk's first sector.
const SECOND_PARTITION: u64 = 446 + 16;
/// The file system's id is no secret and need not differ: a machine has but one.
const MAKE_ROOT: &str = "set -e; mkdir root; tar -xpf root.tar --numeric-owner -C root; rm root.tar
mke2fs -q -F -t ext4 -d root -L anweddol -U 6d5c7a1e-0000-4000-8000-616e77656464 -m 0 -i 32768 -J size=16 \
-O ^metadata_csum -E offset=\"$1\",hash_seed=6d5c7a1e-0000-4000-8000-616e77656464,lazy_itable_init=0,lazy_journal_init=0,root_owner=0:0 \
raw \"$2\"k
rm -rf root";

pub(super) fn in_sbin(program: &str) -> bool {
    SBIN.iter().any(|directory| Path::new(directory).join(program).is_file())
}

/// A build under way, in a directory of its own.
pub(super) struct Work<'a> {
    pub(super) aside: &'a Path,
    pub(super) lists: &'a Path,
    pub(super) ingredients: &'a Ingredients,
}

impl Work<'_> {
    /// Installs Debian with our files into `root.tar`.
    pub(super) fn install(
        &self,
        contents: &Contents,
        packages: &[PathBuf],
        progress: &mut dyn FnMut(&str),
    ) -> Result<(), ImageError> {
        let debs = self.aside.join("debs");
        fs::create_dir(&debs).map_err(io_error(&debs))?;
        for package in packages {
            let name = package.file_name().unwrap_or_default();
            fs::hard_link(package, debs.join(name)).map_err(io_error(package))?;
        }
        let overlay = self.aside.join("overlay.tar");
        let file = File::create(&overlay).map_err(io_error(&overlay))?;
        files::overlay(contents).write_tar(file, iso::EPOCH).map_err(io_error(&overlay))?;
        let sources = self.aside.join("sources.list");
        fs::write(&sources, &self.ingredients.sources).map_err(io_error(&sources))?;

        let version = files::kernel_version(contents)?;
        let mode = if rustix::process::geteuid().is_root() { "--mode=root" } else { "--mode=unshare" };
        let hook = |name: &str, what: &str, path: &Path, target: &str| {
            format!("--{name}-hook={what} {} {target}", quoted(path))
        };
        let arguments = [
            mode.into(),
            "--variant=apt".into(),
            "--format=tar".into(),
            // The packages and their lists are here already.
            "--skip=update,download/empty,essential/unlink,output/dev".into(),
            "--aptopt=APT::Install-Recommends \"false\"".into(),
            "--aptopt=Acquire::Languages \"none\"".into(),
            "--dpkgopt=path-exclude=/usr/share/man/*".into(),
            "--dpkgopt=path-exclude=/usr/share/locale/*".into(),
            "--dpkgopt=path-exclude=/usr/share/doc/*".into(),
            "--dpkgopt=path-include=/usr/share/doc/*/copyright".into(),
            format!("--include={}", files::PACKAGES.join(",")),
            "--setup-hook=mkdir -p \"$1/var/cache/apt/archives\" \"$1/var/lib/apt/lists\"".into(),
            hook("setup", "sync-in", &debs, "/var/cache/apt/archives"),
            hook("setup", "sync-in", self.lists, "/var/lib/apt/lists"),
            hook("customize", "tar-in", &overlay, "/"),
            format!("--customize-hook=chroot \"$1\" sh /{} {version}", files::FINISH_PATH),
            self.ingredients.release.clone(),
        ];
        let arguments = arguments.iter().map(OsString::from).chain([self.root_tar().into(), sources.into()]);
        self.run("mmdebstrap", OsStr::new("mmdebstrap"), arguments, progress)
    }

    fn root_tar(&self) -> PathBuf {
        self.aside.join("root.tar")
    }

    /// Makes the disk of `root.tar`: in front what starts it, behind it the root file system. Only the disk is left.
    pub(super) fn write_disk(&self, contents: &Contents, to: &Path) -> Result<(), ImageError> {
        let raw = self.aside.join("raw");
        self.write_front(contents, &raw)?;
        let front = fs::metadata(&raw).map_err(io_error(&raw))?.len().next_multiple_of(ALIGNMENT);
        let file = File::options().write(true).open(&raw).map_err(io_error(&raw))?;
        file.set_len(front + ROOT_SIZE)
            .and_then(|()| file.write_all_at(&partition(front, ROOT_SIZE), SECOND_PARTITION))
            .map_err(io_error(&raw))?;

        let shell = ["sh", "-c", MAKE_ROOT, "mke2fs"].map(OsString::from).into_iter();
        let numbers = [front.to_string(), (ROOT_SIZE >> 10).to_string()].map(OsString::from);
        // Whoever is not root cannot give files to root: fakeroot remembers for mke2fs whose they should be.
        let program = if rustix::process::geteuid().is_root() { "env" } else { "fakeroot" };
        self.run("mke2fs", OsStr::new(program), shell.chain(numbers), &mut |_| {})?;
        disk::convert(&raw, to)?;
        for name in ["raw", "overlay.tar", "sources.list"].map(|name| self.aside.join(name)) {
            fs::remove_file(&name).map_err(io_error(&name))?;
        }
        let debs = self.aside.join("debs");
        fs::remove_dir_all(&debs).map_err(io_error(&debs))
    }

    /// Writes the CD that starts the machine: as a disk, its first sector starts it too.
    fn write_front(&self, contents: &Contents, to: &Path) -> Result<(), ImageError> {
        let scratch = self.aside.join("cd");
        let mut initrd = Vec::new();
        files::initrd(contents)?.write_cpio(&mut initrd).map_err(io_error(&scratch))?;
        let loader = layout::boot_loader(contents)?;
        let loader: Vec<(String, Vec<u8>)> =
            loader.into_iter().map(|(name, bytes)| (format!("isolinux/{name}"), bytes)).collect();
        let mut on_cd: Vec<(&str, &[u8])> = loader.iter().map(|(name, bytes)| (&name[..], &bytes[..])).collect();
        on_cd.extend([("boot/vmlinuz", layout::kernel(contents)?), ("boot/initrd", &initrd)]);
        let mbr = self.aside.join("mbr");
        fs::write(&mbr, layout::hybrid_mbr(contents)?).map_err(io_error(&mbr))?;
        iso::write(&scratch, &on_cd, &mbr, to)?;
        fs::remove_file(&mbr).map_err(io_error(&mbr))?;
        fs::remove_dir_all(&scratch).map_err(io_error(&scratch))
    }

    /// Runs a program to its end, in our directory, and tells its lines.
    fn run(
        &self,
        name: &'static str,
        program: &OsStr,
        arguments: impl Iterator<Item = OsString>,
        progress: &mut dyn FnMut(&str),
    ) -> Result<(), ImageError> {
        let failed = |reason: String| ImageError::Debian { program: name, reason };
        let start = |source| ImageError::Start { program: name, source };
        let path = std::env::var_os("PATH").unwrap_or_default();
        let path = std::env::split_paths(&path).chain(SBIN.map(PathBuf::from));
        let path = std::env::join_paths(path).map_err(|error| failed(error_chain(&error)))?;
        // In the foreground, so that Ctrl-C ends all of it; mmdebstrap then removes what it has made.
        let mut child = Command::new("timeout")
            .args(["--foreground", "--kill-after=60", DEADLINE])
            .arg(program)
            .args(arguments)
            .current_dir(self.aside)
            .env("LC_ALL", "C")
            .env("PATH", path)
            .env("SOURCE_DATE_EPOCH", iso::EPOCH.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(start)?;
        let mut said = Vec::new();
        if let Some(stderr) = child.stderr.take() {
            for line in BufReader::new(stderr).split(b'\n') {
                let line = String::from_utf8_lossy(&line.map_err(start)?).trim().to_owned();
                if let Some(told) = line.strip_prefix("I: ") {
                    // Its stages end so; what else it tells is for whoever debugs it.
                    told.strip_suffix("...").map(&mut *progress);
                } else if !line.is_empty() {
                    if said.len() == MESSAGE_LINES {
                        said.remove(0);
                    }
                    said.push(line);
                }
            }
        }
        let status = child.wait().map_err(start)?;
        match (status.success(), said.is_empty()) {
            (true, _) => Ok(()),
            (false, true) => Err(failed(format!("it ended with {status} and said nothing"))),
            (false, false) => Err(failed(said.join("; "))),
        }
    }
}

/// A path as one word of mmdebstrap's hooks.
fn quoted(path: &Path) -> String {
    format!("'{}'", path.to_string_lossy().replace('\'', "'\\''"))
}

/// An entry of the partition table: Linux, from `start`, of `size` bytes, with the addresses of cylinders that say "ask the
/// others".
fn partition(start: u64, size: u64) -> [u8; 16] {
    let mut entry = [0, 0xfe, 0xff, 0xff, 0x83, 0xfe, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0];
    for (at, value) in [(8, start), (12, size)] {
        // Both are below two TiB.
        entry[at..at + 4].copy_from_slice(&u32::try_from(value / SECTOR).unwrap_or(u32::MAX).to_le_bytes());
    }
    entry
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_is_told_in_sectors() {
        let entry = partition(1 << 20, 4 << 30);
        assert_eq!((entry[0], entry[4], &entry[8..]), (0, 0x83, &[0, 8, 0, 0, 0, 0, 128, 0][..]));
    }

    #[test]
    fn a_path_stays_one_word() {
        assert_eq!(quoted(Path::new("/a b/it's")), "'/a b/it'\\''s'");
    }
}
