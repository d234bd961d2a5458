//! Builds the image with a whole Debian: systemd, APT, sudo and what a user expects, on a disk that a machine's overlay
//! lies on. It keeps the [guest contract](crate::guest).
//!
//! ```text
//! the host's Debian archives ──► .deb files ──► mmdebstrap ──► tar ──► mke2fs ──► ext4 ──┐
//!                                    │              └── our own few files               ├─► disk
//!                                    └──► vmlinuz, initrd ──► ISO, as the boot loader ────┘
//! ```
//!
//! The packages are chosen and fetched first; from then on no network is used. The kernel is no package of the guest: it
//! is started from the front of the disk, only its modules are in the file system, and a newer one comes with a newer
//! image. Its initial RAM disk is our own, of BusyBox and a few modules, because Debian's takes longer than all the rest.
//!
//! Root builds as root; anybody else needs user namespaces with subordinate ids. The same packages give the same files
//! with the same dates, but not the same bytes: the file system notes when it was made.

mod files;
mod steps;

use std::fs;
use std::path::{Path, PathBuf};

use super::apt::{Apt, DEBIAN, Lists, Package};
use super::cache::{keep, make_out, put_file, sweep};
use super::package::Contents;
use super::{Artifact, BuildOptions, ImageError, absolute, check_host, digest, io_error, on_path};

/// Part of every cache key: change it when the same inputs give another image.
const FORMAT: &str = "anweddol-debian-1";
/// The disk's file name.
const NAME: &str = "debian.qcow2";
/// The programs of the host that are needed, and their packages.
const PROGRAMS: [(&str, &str); 7] = [
    ("apt-get", "apt"),
    ("apt-cache", "apt"),
    ("dpkg-deb", "dpkg"),
    ("xorriso", "xorriso"),
    ("qemu-img", "qemu-utils"),
    ("mmdebstrap", "mmdebstrap"),
    ("mke2fs", "e2fsprogs"),
];
/// And those that only somebody without privileges needs: ids of other accounts, and files that belong to them.
const UNPRIVILEGED: [(&str, &str); 2] = [("newuidmap", "uidmap"), ("fakeroot", "fakeroot")];

/// A built disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuiltDisk {
    /// SHA-256 over everything that it was made of, in hexadecimal.
    pub key: String,
    /// Whether it was in the cache.
    pub cached: bool,
    /// The bootable disk, as a base for overlays.
    pub disk: Artifact,
}

/// What an image is made of.
struct Ingredients {
    key: String,
    /// Lines of the guest's `sources.list`.
    sources: String,
    /// The name of Debian's release, such as `bookworm`.
    release: String,
    /// The packages that are installed.
    system: Vec<Package>,
    /// Those that kernel, initial RAM disk and boot loader are taken from.
    boot: Vec<Package>,
}

/// Builds the disk, or takes it out of the cache, and puts it into `out_dir`. Says what it does through `progress`.
pub fn build(options: &BuildOptions, progress: &mut dyn FnMut(&str)) -> Result<BuiltDisk, ImageError> {
    let root = rustix::process::geteuid().is_root();
    let programs: Vec<_> = PROGRAMS.into_iter().chain(UNPRIVILEGED.into_iter().filter(|_| !root)).collect();
    check_host(std::env::consts::ARCH, &programs, |program| on_path(program) || steps::in_sbin(program))?;
    let cache = absolute(&options.cache_dir)?;
    let out = absolute(&options.out_dir)?;
    let lists = Path::new(DEBIAN).join("lists/partial");
    make_out(&out)?;
    for directory in [Path::new("debs"), Path::new("images"), Path::new("archives/partial"), &lists] {
        let directory = cache.join(directory);
        fs::create_dir_all(&directory).map_err(io_error(&directory))?;
    }
    let _alone = sweep(&cache)?;
    progress("asking APT for Debian's archives");
    let sources = sources(&cache, progress)?;
    let path = cache.join(DEBIAN).join("sources.list");
    fs::write(&path, &sources).map_err(io_error(&path))?;
    let apt = Apt { cache: &cache, lists: Lists::Debian };
    progress("fetching the package lists");
    // Without a network the lists of an earlier build may still lead to an image of the cache.
    let updated = apt.update();
    let ingredients = match (choose(&apt, sources), updated) {
        (Ok(ingredients), Ok(())) => ingredients,
        (Ok(ingredients), Err(error)) if !cache.join("images").join(&ingredients.key).is_dir() => return Err(error),
        (Ok(ingredients), Err(_)) => ingredients,
        (Err(_), Err(error)) | (Err(error), Ok(())) => return Err(error),
    };
    let cached = cache.join("images").join(&ingredients.key).is_dir();
    if !cached {
        progress(&format!(
            "fetching what is missing of {} packages",
            ingredients.system.len() + ingredients.boot.len()
        ));
        let system = apt.download(&ingredients.system)?;
        let boot = apt.download(&ingredients.boot)?;
        make(&cache, &ingredients, &system, &boot, progress)?;
    }
    progress(&format!("image {}: putting it where it is wanted", &ingredients.key[..12]));
    let disk = put_file(&cache, &out, &ingredients.key, NAME)?;
    Ok(BuiltDisk { key: ingredients.key, cached, disk })
}

/// The host's archives of Debian: from its own lists, or, where it has none, from lists of ours.
fn sources(cache: &Path, progress: &mut dyn FnMut(&str)) -> Result<String, ImageError> {
    let found = Apt { cache, lists: Lists::Host }.debian_sources()?;
    let found = match found.is_empty() {
        false => found,
        true => {
            progress("this host has no package lists: fetching some");
            let partial = cache.join("lists/partial");
            fs::create_dir_all(&partial).map_err(io_error(&partial))?;
            let own = Apt { cache, lists: Lists::Own };
            own.update()?;
            own.debian_sources()?
        }
    };
    match found.is_empty() {
        true => Err(ImageError::NoDebian),
        false => Ok(found.join("\n") + "\n"),
    }
}

fn choose(apt: &Apt<'_>, sources: String) -> Result<Ingredients, ImageError> {
    let release = release(&sources).ok_or(ImageError::NoDebian)?;
    let system = apt.installation(&files::PACKAGES)?;
    let boot = apt.resolve()?;
    let key = key(&sources, &system, &boot);
    Ok(Ingredients { key, sources, release, system, boot })
}

/// The release of a list of sources: updates and security fixes have its name in theirs.
fn release(sources: &str) -> Option<String> {
    let releases = sources.lines().filter_map(|line| line.split(' ').nth(3));
    releases.min_by_key(|release| release.len()).map(str::to_owned)
}

/// What decides the image: the archives, the packages by their hashes, and our files.
fn key(sources: &str, system: &[Package], boot: &[Package]) -> String {
    let mut texts = vec![FORMAT, super::CMDLINE, super::layout::ISOLINUX_CFG, sources, files::INIT, files::FINISH];
    // How many first, so that no package can change sides.
    let count = system.len().to_string();
    texts.push(&count);
    texts.extend(system.iter().chain(boot).flat_map(|package| [&package.file[..], &package.hash]));
    texts.extend(files::FILES.iter().flat_map(|(path, _, text)| [*path, *text]));
    digest(&texts)
}

/// Makes the image and keeps it in the cache. What breaks off leaves nothing, or what the next build sweeps away.
fn make(
    cache: &Path,
    ingredients: &Ingredients,
    system: &[PathBuf],
    boot: &[PathBuf],
    progress: &mut dyn FnMut(&str),
) -> Result<(), ImageError> {
    let aside = cache.join("images").join(format!(".{}-{}", ingredients.key, std::process::id()));
    let result = (|| {
        fs::create_dir_all(&aside).map_err(io_error(&aside))?;
        let mut contents = Contents::default();
        for (package, deb) in ingredients.boot.iter().zip(boot) {
            let kernel = package.is_kernel();
            if kernel {
                progress(&format!("reading {}", package.file));
            }
            contents.read(deb, |path| files::wanted(path, kernel))?;
        }
        let work = steps::Work { aside: &aside, lists: &cache.join(DEBIAN).join("lists"), ingredients };
        work.install(&contents, system, progress)?;
        progress("writing the disk");
        work.write_disk(&contents, &aside.join(NAME))?;
        keep(&aside, cache, &ingredients.key)
    })();
    if aside.exists() {
        // Nothing more can be done about a left-over than to say why the build itself failed.
        fs::remove_dir_all(&aside).ok();
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(hash: &str) -> Package {
        Package { file: "a_1_amd64.deb".into(), hash: hash.into() }
    }

    #[test]
    fn the_key_follows_the_archives_and_what_is_made_of_each_package() {
        let first = key("deb", &[package("SHA256:1")], &[package("SHA256:2")]);
        assert_eq!(first, key("deb", &[package("SHA256:1")], &[package("SHA256:2")]));
        assert_ne!(first, key("other", &[package("SHA256:1")], &[package("SHA256:2")]));
        assert_ne!(first, key("deb", &[package("SHA256:3")], &[package("SHA256:2")]));
        assert_ne!(first, key("deb", &[package("SHA256:1"), package("SHA256:2")], &[]));
    }

    #[test]
    fn the_release_is_the_one_that_updates_are_named_after() {
        let line = |release: &str| format!("deb [signed-by=/k] http://d/debian/ {release} main\n");
        let sources = ["bookworm-security", "bookworm", "bookworm-updates"].map(line).concat();
        assert_eq!(release(&sources).as_deref(), Some("bookworm"));
        assert_eq!(release(""), None);
    }
}
