//! Builds the reference image: a small guest that keeps the [guest contract](crate::guest), out of Debian's packages.
//!
//! ```text
//! apt-get (asks, fetches) ──► .deb files ──► dpkg-deb | tar, in memory ──► tree ──► cpio ──► initrd ─┐
//!                                │                  our own few files ──────┘                        ├─► ISO ─► disk
//!                                └──────────────────────────────────────► vmlinuz ───────────────────┘
//! ```
//!
//! Its kernel is Debian's, its user land BusyBox, OpenSSH and sudo. Everything runs from the initial RAM disk, so a guest
//! needs no disk and forgets everything; where it has one, that is `/dev/vda`. OpenSSH and not a smaller server, because passwords have 120 characters.
//!
//! The image with a whole Debian is made by [`debian`].
//!
//! Nothing is installed on the host, no privilege is needed, and the same packages give the same bytes: an image is cached
//! under the SHA-256 of its packages' hashes and of our files.

mod apt;
mod cache;
pub mod debian;
mod disk;
mod elf;
mod iso;
mod layout;
mod package;
mod tree;

#[cfg(test)]
mod tests;

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{Algorithm, Context, SHA256};
use data_encoding::HEXLOWER;

use apt::{Apt, Lists, Package};
use cache::{keep, make_out, open_file, put_file, sweep};
use package::Contents;

use crate::model::Image;

/// The kernel's command line that the image is made for: quiet, because a serial console is slow, and a guest that panics
/// ends instead of hanging.
pub const CMDLINE: &str =
    "quiet panic=-1 nokaslr tsc=reliable no_timer_check cryptomgr.notests rcupdate.rcu_expedited=1 random.trust_cpu=on";

/// Part of every cache key: change it when the same inputs give another image.
const FORMAT: &str = "anweddol-image-3";
/// The programs of the host that are needed, and their packages.
const PROGRAMS: [(&str, &str); 5] = [
    ("apt-get", "apt"),
    ("apt-cache", "apt"),
    ("dpkg-deb", "dpkg"),
    ("xorriso", "xorriso"),
    ("qemu-img", "qemu-utils"),
];
const NAMES: [&str; 4] = ["vmlinuz", "initrd", "anweddol.iso", "disk.qcow2"];

/// What to build.
#[derive(Clone, Debug)]
pub struct BuildOptions {
    /// Where the kernel, the initial RAM disk, the ISO and the disk are put.
    pub out_dir: PathBuf,
    /// Where packages and finished images are kept.
    pub cache_dir: PathBuf,
}

/// A file of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Artifact {
    /// Where it is.
    pub path: PathBuf,
    /// Its size in bytes.
    pub size: u64,
    /// Its SHA-256, in hexadecimal.
    pub sha256: String,
}

/// A built image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Built {
    /// SHA-256 over everything that it was made of, in hexadecimal.
    pub key: String,
    /// Whether it was in the cache.
    pub cached: bool,
    /// The kernel.
    pub kernel: Artifact,
    /// The initial RAM disk.
    pub initrd: Artifact,
    /// The bootable CD image of the same.
    pub iso: Artifact,
    /// The bootable disk of the same, as a base for overlays.
    pub disk: Artifact,
}

/// Why an image could not be built.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// Not a machine whose packages we can use.
    #[error("the image is made of Debian's or Ubuntu's packages for x86_64: {reason}")]
    Host {
        /// What is different here.
        reason: String,
    },
    /// A program is missing.
    #[error("the program '{program}' is missing: install the package '{package}'")]
    Tool {
        /// Which.
        program: &'static str,
        /// What brings it.
        package: &'static str,
    },
    /// A program could not be run.
    #[error("'{program}' could not be run")]
    Start {
        /// Which.
        program: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// APT does not know a package.
    #[error("APT knows no package '{package}': check /etc/apt/sources.list and run 'apt-get update'")]
    Unknown {
        /// Which.
        package: String,
    },
    /// APT failed.
    #[error("packages could not be fetched: {reason}")]
    Apt {
        /// What it said.
        reason: String,
    },
    /// A package could not be read.
    #[error("the package {path} could not be read: {reason}")]
    Package {
        /// Which.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The packages lack a file that the image needs.
    #[error("no package holds '{path}': this release of the distribution is not known to work")]
    Missing {
        /// Which.
        path: String,
    },
    /// A program, library or module of a package is no such thing.
    #[error("'{path}' in a package is no program, library or module for x86_64")]
    NotElf {
        /// Which.
        path: String,
    },
    /// The CD image could not be written.
    #[error("xorriso could not write the ISO: {reason}")]
    Iso {
        /// What it said.
        reason: String,
    },
    /// This host uses no archive of Debian's.
    #[error(
        "APT uses no archive of Debian's on this host: the image of the flavor debian is made from them; check /etc/apt and run 'apt-get update'"
    )]
    NoDebian,
    /// Debian could not be installed into the image.
    #[error("'{program}' could not make Debian's file system: {reason}")]
    Debian {
        /// Which program failed.
        program: &'static str,
        /// What it said.
        reason: String,
    },
    /// The disk image could not be written.
    #[error("qemu-img could not write the disk: {reason}")]
    Disk {
        /// What it said.
        reason: String,
    },
    /// No room is left.
    #[error("no space is left for {path}: an image needs 180 MB in the cache directory and 100 MB where it is put")]
    NoSpace {
        /// What was being written.
        path: PathBuf,
    },
    /// A file could not be read or written.
    #[error("{path} could not be read or written")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> ImageError {
    let path = path.to_path_buf();
    move |source| match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ImageError::NoSpace { path },
        _ => ImageError::Io { path, source },
    }
}

/// Builds the image, or takes it out of the cache, and puts it into `out_dir`. Says what it does through `progress`.
pub fn build(options: &BuildOptions, progress: &mut dyn FnMut(&str)) -> Result<Built, ImageError> {
    check_host(std::env::consts::ARCH, &PROGRAMS, on_path)?;
    let cache = absolute(&options.cache_dir)?;
    let out = absolute(&options.out_dir)?;
    make_out(&out)?;
    for directory in ["debs", "images", "archives/partial", "lists/partial"].map(|name| cache.join(name)) {
        fs::create_dir_all(&directory).map_err(io_error(&directory))?;
    }
    let _alone = sweep(&cache)?;
    progress("asking APT for the packages");
    let host = Apt { cache: &cache, lists: Lists::Host };
    let own = Apt { cache: &cache, lists: Lists::Own };
    match host.resolve() {
        Ok(packages) => {
            if let Some(built) = take(&cache, &out, &key(&packages), progress)? {
                return Ok(built);
            }
            progress(&format!("fetching what is missing of {} packages", packages.len()));
            match host.download(&packages) {
                Ok(debs) => return make(&cache, &out, &packages, &debs, progress),
                Err(error @ ImageError::Apt { .. }) => progress(&format!("{error}; fetching newer package lists")),
                Err(error) => return Err(error),
            }
        }
        Err(error @ (ImageError::Apt { .. } | ImageError::Unknown { .. })) => {
            progress(&format!("{error}; fetching package lists of our own"));
        }
        Err(error) => return Err(error),
    }
    // Lists that an earlier build fetched: when they still lead to an image of the cache, no network is needed.
    if let Ok(packages) = own.resolve()
        && let Some(built) = take(&cache, &out, &key(&packages), progress)?
    {
        return Ok(built);
    }
    own.update()?;
    let packages = own.resolve()?;
    if let Some(built) = take(&cache, &out, &key(&packages), progress)? {
        return Ok(built);
    }
    let debs = own.download(&packages)?;
    make(&cache, &out, &packages, &debs, progress)
}

/// Makes the image of fetched packages, keeps it in the cache, and puts it into `out`.
fn make(
    cache: &Path,
    out: &Path,
    packages: &[Package],
    debs: &[PathBuf],
    progress: &mut dyn FnMut(&str),
) -> Result<Built, ImageError> {
    let mut contents = Contents::default();
    for (package, deb) in packages.iter().zip(debs) {
        if package.is_kernel() {
            progress(&format!("reading {}", package.file));
        }
        contents.read(deb, |path| layout::wanted(path, package.is_kernel()))?;
    }
    progress("making the initial RAM disk");
    let kernel = layout::kernel(&contents)?;
    let mut initrd = Vec::new();
    layout::root(&contents)?.write_cpio(&mut initrd).map_err(io_error(&cache.join(NAMES[1])))?;

    let key = key(packages);
    // Made aside and then renamed: a build that breaks off, or a second one at the same time, leaves no half image.
    let aside = cache.join("images").join(format!(".{key}-{}", std::process::id()));
    let result = (|| {
        fs::create_dir_all(&aside).map_err(io_error(&aside))?;
        for (name, bytes) in [(NAMES[0], kernel), (NAMES[1], &initrd)] {
            let path = aside.join(name);
            fs::write(&path, bytes).map_err(io_error(&path))?;
        }
        progress("writing the ISO");
        let scratch = aside.join("cd");
        let boot_loader: Vec<(String, Vec<u8>)> = layout::boot_loader(&contents)?
            .into_iter()
            .map(|(name, bytes)| (format!("isolinux/{name}"), bytes))
            .collect();
        let mut files: Vec<(&str, &[u8])> = boot_loader.iter().map(|(name, bytes)| (&name[..], &bytes[..])).collect();
        files.extend([("boot/vmlinuz", kernel), ("boot/initrd", &initrd)]);
        let (mbr, iso) = (aside.join("mbr"), aside.join(NAMES[2]));
        fs::write(&mbr, layout::hybrid_mbr(&contents)?).map_err(io_error(&mbr))?;
        iso::write(&scratch, &files, &mbr, &iso)?;
        fs::remove_file(&mbr).map_err(io_error(&mbr))?;
        progress("writing the disk");
        disk::write(&iso, &aside.join(NAMES[3]))?;
        fs::remove_dir_all(&scratch).map_err(io_error(&scratch))?;
        keep(&aside, cache, &key)
    })();
    if aside.exists() {
        // Nothing more can be done about a left-over than to say why the build itself failed.
        fs::remove_dir_all(&aside).ok();
    }
    result?;
    let built = put(cache, out, &key, false)?;
    progress(&format!("built image {}", &key[..12]));
    Ok(built)
}

/// The image out of the cache, if it is there.
fn take(cache: &Path, out: &Path, key: &str, progress: &mut dyn FnMut(&str)) -> Result<Option<Built>, ImageError> {
    if !cache.join("images").join(key).is_dir() {
        return Ok(None);
    }
    let built = put(cache, out, key, true)?;
    progress(&format!("image {} is in the cache: nothing to do", &key[..12]));
    Ok(Some(built))
}

/// Puts a cached image into `out`.
fn put(cache: &Path, out: &Path, key: &str, cached: bool) -> Result<Built, ImageError> {
    let [kernel, initrd, iso, disk] = NAMES.map(|name| put_file(cache, out, key, name));
    let built = Built { key: key.into(), cached, kernel: kernel?, initrd: initrd?, iso: iso?, disk: disk? };
    let line = |(name, artifact): (&str, &Artifact)| format!("{}  {name}\n", artifact.sha256);
    let sums = NAMES.into_iter().zip([&built.kernel, &built.initrd, &built.iso, &built.disk]).map(line);
    let path = out.join(Image::SUMS);
    fs::write(&path, sums.collect::<String>()).and_then(|()| open_file(&path)).map_err(io_error(&path))?;
    Ok(built)
}

/// What decides the image: the packages by their hashes, and our files.
fn key(packages: &[Package]) -> String {
    let permissions = layout::FILES.map(|(_, permissions, _)| permissions.to_string());
    let mut texts = vec![FORMAT, CMDLINE, layout::ISOLINUX_CFG, layout::SUDO_SOURCE];
    texts.extend(packages.iter().flat_map(|package| [&package.file[..], &package.hash]));
    let files = layout::FILES.iter().zip(&permissions);
    texts.extend(files.flat_map(|((path, _, text), permissions)| [path, &permissions[..], text]));
    digest(&texts)
}

fn digest(texts: &[&str]) -> String {
    let mut context = Context::new(&SHA256);
    for text in texts {
        // Its length first, so that no two lists of texts give the same bytes.
        context.update(&(text.len() as u64).to_be_bytes());
        context.update(text.as_bytes());
    }
    HEXLOWER.encode(context.finish().as_ref())
}

fn file_sha256(path: &Path) -> io::Result<String> {
    file_sum(path, &SHA256)
}

fn file_sum(path: &Path, algorithm: &'static Algorithm) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut context = Context::new(algorithm);
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(HEXLOWER.encode(context.finish().as_ref())),
            count => context.update(&buffer[..count]),
        }
    }
}

fn absolute(path: &Path) -> Result<PathBuf, ImageError> {
    std::path::absolute(path).map_err(io_error(path))
}

fn on_path(program: &str) -> bool {
    std::env::var_os("PATH").is_some_and(|path| std::env::split_paths(&path).any(|at| at.join(program).is_file()))
}

/// Whether this host has what a build needs.
fn check_host(
    architecture: &str,
    programs: &[(&'static str, &'static str)],
    has: impl Fn(&str) -> bool,
) -> Result<(), ImageError> {
    if architecture != "x86_64" {
        return Err(ImageError::Host { reason: format!("this machine is {architecture}") });
    }
    for &(program, package) in programs {
        match (has(program), package) {
            (true, _) => {}
            (false, "apt") => return Err(ImageError::Host { reason: format!("this host has no '{program}'") }),
            (false, package) => return Err(ImageError::Tool { program, package }),
        }
    }
    Ok(())
}
