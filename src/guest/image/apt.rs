//! Asks APT for packages: which versions this host would install, and their files. Nothing is installed and nothing outside
//! our cache directory is written, so no privilege is needed.
//!
//! The host's own package lists are asked first. Where they are missing or too old (a container image ships none; a mirror
//! drops replaced versions), lists of our own are fetched into the cache and asked instead.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use aws_lc_rs::digest::{SHA256, SHA512};

use super::{ImageError, file_sum};

/// What the guest runs, and what starts it from a CD. Libraries follow from these.
const ROOTS: [&str; 6] = ["busybox-static", "openssh-server", "openssh-client", "sudo", "isolinux", "syslinux-common"];
/// Kernels made for virtual machines, by preference: Debian's, Ubuntu's; then Debian's general one.
const KERNELS: [&str; 3] = ["linux-image-cloud-amd64", "linux-image-virtual", "linux-image-amd64"];
/// The keys of Debian's archives, from the package debian-archive-keyring: on the host and in the guest.
pub(super) const DEBIAN_KEYS: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
/// How much of a program's message is told.
const MESSAGE_LINES: usize = 4;

/// One package file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Package {
    /// Its file name: name, version and architecture.
    pub(super) file: String,
    /// As APT prints it: `SHA256:…`, or `SHA512:…` where the archive has those.
    pub(super) hash: String,
}

impl Package {
    /// Its name.
    pub(super) fn name(&self) -> &str {
        self.file.split('_').next().unwrap_or(&self.file)
    }

    /// Whether it is a package of the kernel, which holds modules.
    pub(super) fn is_kernel(&self) -> bool {
        is_kernel(self.name())
    }
}

fn is_kernel(name: &str) -> bool {
    ["linux-image-", "linux-modules-"].iter().any(|prefix| name.starts_with(prefix))
}

fn is_library(name: &str) -> bool {
    (name.starts_with("lib") || name.starts_with("zlib")) && !name.ends_with("-perl") && !name.starts_with("libperl")
}

/// Whose package lists are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lists {
    /// The host's.
    Host,
    /// Our own, in the cache directory.
    Own,
    /// Our own, of Debian's archives alone: those of `sources.list` in the directory [`DEBIAN`].
    Debian,
}

/// What the cache directory keeps of Debian's archives.
pub(super) const DEBIAN: &str = "debian";
/// One line an archive: who publishes it, where it is, its release, the part of it, and what the line is about.
const TARGETS: &str = "$(ORIGIN)|$(REPO_URI)|$(RELEASE)|$(COMPONENT)|$(CREATED_BY)";

/// APT, working in a cache directory of ours.
pub(super) struct Apt<'a> {
    pub(super) cache: &'a Path,
    pub(super) lists: Lists,
}

impl Apt<'_> {
    /// Fetches package lists of our own. Needs no privilege.
    pub(super) fn update(&self) -> Result<(), ImageError> {
        self.run("apt-get", self.cache, &["update"]).map(drop)
    }

    /// The packages that the image is made of, as this host would install them now; sorted.
    pub(super) fn resolve(&self) -> Result<Vec<Package>, ImageError> {
        let mut question = vec!["depends", "--recurse", "--important"];
        question.extend(ROOTS.iter().chain(&KERNELS));
        let graph = parse_depends(&self.run("apt-cache", self.cache, &question)?);
        let names = closure(&graph)?;
        self.files(names.iter().map(String::as_str))
    }

    /// The package files of these names; sorted.
    fn files<'a>(&self, names: impl Iterator<Item = &'a str>) -> Result<Vec<Package>, ImageError> {
        let mut question = vec!["--print-uris", "download"];
        question.extend(names);
        // Not asked in the directory of the packages: what is there already would be left out of the answer.
        let mut packages = parse_uris(&self.run("apt-get", self.cache, &question)?);
        packages.sort();
        packages.dedup();
        match packages.is_empty() {
            true => Err(ImageError::Apt { reason: "apt-get names no package files".into() }),
            false => Ok(packages),
        }
    }

    /// What an empty system installs to have all essential packages and `names`; sorted.
    pub(super) fn installation(&self, names: &[&str]) -> Result<Vec<Package>, ImageError> {
        let mut question = vec!["--print-uris", "-y", "-o", "Dir::State::status=/dev/null", "--no-install-recommends"];
        question.extend(["install", "?essential"]);
        question.extend(names);
        // This answer has weaker sums than that for a download.
        let packages = parse_uris(&self.run("apt-get", self.cache, &question)?);
        self.files(packages.iter().map(Package::name))
    }

    /// Debian's archives that this host uses, as lines of a `sources.list`; sorted.
    pub(super) fn debian_sources(&self) -> Result<Vec<String>, ImageError> {
        Ok(parse_targets(&self.run("apt-get", self.cache, &["indextargets", "--format", TARGETS])?))
    }

    /// Fetches the packages that are not in the cache yet, and checks all of them against their hashes. Returns their paths.
    pub(super) fn download(&self, packages: &[Package]) -> Result<Vec<PathBuf>, ImageError> {
        let directory = self.cache.join("debs");
        let is_right = |package: &Package| has_hash(&directory.join(&package.file), &package.hash);
        let missing = sift(&directory, packages);
        if !missing.is_empty() {
            let mut question = vec!["download"];
            question.extend(missing.iter().map(|package| package.name()));
            self.run("apt-get", &directory, &question)?;
        }
        if let Some(package) = missing.into_iter().find(|package| is_right(package) == Some(false)) {
            return Err(ImageError::Apt { reason: format!("{} is not what was asked for", package.file) });
        }
        Ok(packages.iter().map(|package| directory.join(&package.file)).collect())
    }

    /// Runs one of APT's programs.
    fn run(&self, program: &'static str, directory: &Path, arguments: &[&str]) -> Result<Vec<u8>, ImageError> {
        let own = |name: &str| {
            let mut option = OsString::from(name);
            option.push(self.cache);
            option
        };
        let pkgcache = match self.lists {
            Lists::Host => "Dir::Cache::pkgcache=host.bin",
            Lists::Own => "Dir::Cache::pkgcache=own.bin",
            Lists::Debian => "Dir::Cache::pkgcache=debian.bin",
        };
        let mut command = Command::new(program);
        command.current_dir(directory).env("LC_ALL", "C").env("DEBIAN_FRONTEND", "noninteractive");
        command.stdin(Stdio::null()).arg("-q").arg("-q");
        // Its parsed form of the lists stays in our cache: images that lack it make every question take a second.
        command.arg("-o").arg(own("Dir::Cache=")).args(["-o", pkgcache, "-o", "Dir::Cache::srcpkgcache="]);
        // Run by root, APT would drop to an account that may not write here.
        command.args(["-o", "APT::Sandbox::User=root", "-o", "Acquire::Retries=2"]);
        command.args(["-o", "APT::Architecture=amd64"]);
        if self.lists == Lists::Own {
            let mut option = own("Dir::State::lists=");
            option.push("/lists");
            command.arg("-o").arg(option);
        }
        if self.lists == Lists::Debian {
            for (option, name) in [("Dir::State::lists=", "lists"), ("Dir::Etc::sourcelist=", "sources.list")] {
                let mut option = OsString::from(option);
                option.push(self.cache.join(DEBIAN).join(name));
                command.arg("-o").arg(option);
            }
            command.args(["-o", "Dir::Etc::sourceparts=/dev/null", "-o", "Acquire::Languages=none"]);
        }
        let output = command.args(arguments).output().map_err(|source| ImageError::Start { program, source })?;
        checked(output)
    }
}

/// The packages that are not known to be right in `directory`. What is there of them goes: APT leaves a file of the right size
/// as it is.
fn sift<'a>(directory: &Path, packages: &'a [Package]) -> Vec<&'a Package> {
    let missing = packages.iter().filter(|package| {
        let path = directory.join(&package.file);
        let right = has_hash(&path, &package.hash) == Some(true);
        if !right {
            // What cannot go is found to be wrong once more, after the download.
            std::fs::remove_file(&path).ok();
        }
        !right
    });
    missing.collect()
}

/// Whether the file at `path` has a hash as APT prints it. `None`: of a kind that only APT knows, who checks what it fetches.
fn has_hash(path: &Path, hash: &str) -> Option<bool> {
    let (kind, right) = hash.split_once(':')?;
    let algorithm = match kind {
        "SHA256" => &SHA256,
        "SHA512" => &SHA512,
        _ => return None,
    };
    Some(file_sum(path, algorithm).is_ok_and(|sum| sum == right))
}

fn checked(output: Output) -> Result<Vec<u8>, ImageError> {
    match output.status.success() {
        true => Ok(output.stdout),
        false => Err(ImageError::Apt { reason: last_lines(&output.stderr) }),
    }
}

/// The last lines of a program's message, in one line.
pub(super) fn last_lines(stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    match lines.len() {
        0 => "it failed and said nothing".into(),
        count => lines[count.saturating_sub(MESSAGE_LINES)..].join("; "),
    }
}

/// Reads `apt-cache depends`: a package a line, below it, indented by two, what it depends on. Deeper lines name packages
/// that provide something, `<…>` is a virtual package: neither is followed.
fn parse_depends(text: &[u8]) -> BTreeMap<String, Vec<String>> {
    let mut graph: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut current = String::new();
    for line in String::from_utf8_lossy(text).lines() {
        if !line.starts_with([' ', '|', '<']) {
            current = line.trim().to_owned();
            graph.entry(current.clone()).or_default();
        } else if let Some((_, name)) = line.split_once("Depends: ")
            && !name.starts_with('<')
        {
            graph.entry(current.clone()).or_default().push(name.trim().to_owned());
        }
    }
    graph
}

/// The roots, the first kernel that is known, and from there along libraries and the kernel's own packages.
fn closure(graph: &BTreeMap<String, Vec<String>>) -> Result<BTreeSet<String>, ImageError> {
    let known = |name: &&str| graph.get(*name).is_some();
    if let Some(name) = ROOTS.iter().find(|name| !known(name)) {
        return Err(ImageError::Unknown { package: (*name).into() });
    }
    let has_image = |name: &&str| known(name) && graph[*name].iter().any(|next| is_kernel(next));
    let kernel = KERNELS.into_iter().find(has_image).ok_or(ImageError::Unknown { package: KERNELS[0].into() })?;
    let mut found = BTreeSet::new();
    let mut ahead: Vec<&str> = ROOTS.into_iter().chain([kernel]).collect();
    while let Some(name) = ahead.pop() {
        if found.insert(name.to_owned()) {
            let next = graph.get(name).map(Vec::as_slice).unwrap_or_default();
            ahead.extend(next.iter().map(String::as_str).filter(|next| is_library(next) || is_kernel(next)));
        }
    }
    Ok(found)
}

/// Reads the answer to [`TARGETS`]: of Debian's own archives the part `main`, where the network leads to it.
fn parse_targets(text: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(text);
    let source = |line: &str| match line.split('|').collect::<Vec<_>>()[..] {
        ["Debian", uri, release, "main", "Packages"] if uri.starts_with("http://") || uri.starts_with("https://") => {
            Some(format!("deb [signed-by={DEBIAN_KEYS}] {uri} {release} main"))
        }
        _ => None,
    };
    let sources: BTreeSet<String> = text.lines().filter_map(source).collect();
    sources.into_iter().collect()
}

/// Reads `apt-get --print-uris`: `'URI' FILE SIZE HASH`.
fn parse_uris(text: &[u8]) -> Vec<Package> {
    let text = String::from_utf8_lossy(text);
    let fields = text.lines().filter(|line| line.starts_with('\'')).map(|line| line.split(' ').collect::<Vec<_>>());
    fields
        .filter_map(|fields| match fields.as_slice() {
            [_, file, _, hash, ..] if file.ends_with(".deb") && !file.contains('/') => {
                Some(Package { file: (*file).into(), hash: (*hash).into() })
            }
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEPENDS: &str = "busybox-static\nopenssh-client\n  Depends: passwd\n  Depends: libedit2\nopenssh-server\n  PreDepends: init-system-helpers\n |Depends: debconf\n  Depends: <debconf-2.0>\n    cdebconf\n  Depends: libssl3\nlibssl3\n  Depends: libc6\nlibc6\nlibedit2\nsudo\nisolinux\nsyslinux-common\nlinux-image-cloud-amd64\n  Depends: linux-image-6.1.0-56-cloud-amd64\nlinux-image-6.1.0-56-cloud-amd64\n  Depends: kmod\n";

    #[test]
    fn packages_are_the_roots_the_kernel_and_their_libraries() {
        let names = closure(&parse_depends(DEPENDS.as_bytes())).unwrap();
        let libraries: Vec<&str> = names.iter().map(String::as_str).filter(|name| is_library(name)).collect();
        assert_eq!(libraries, ["libc6", "libedit2", "libssl3"]);
        assert!(names.contains("linux-image-6.1.0-56-cloud-amd64"));
        assert!(!names.contains("passwd") && !names.contains("kmod") && !names.contains("cdebconf"));
    }

    #[test]
    fn a_package_that_apt_does_not_know_is_named() {
        let graph = parse_depends(DEPENDS.replace("busybox-static\n", "").as_bytes());
        assert!(matches!(closure(&graph), Err(ImageError::Unknown { package }) if package == "busybox-static"));
    }

    #[test]
    fn only_package_files_are_read_from_the_addresses() {
        let text = "'http://d/a.deb' a_1%3a2_amd64.deb 928188 SHA256:3d\nE: no\n'http://d/b' ../b.deb 1 SHA256:00\n";
        let packages = parse_uris(text.as_bytes());
        assert_eq!(packages, [Package { file: "a_1%3a2_amd64.deb".into(), hash: "SHA256:3d".into() }]);
        assert_eq!(packages[0].name(), "a");
    }

    #[test]
    fn only_debians_own_archives_become_sources_of_the_guest() {
        let text = "Debian|http://d/debian/|bookworm|main|Packages\nDebian|http://d/debian/|bookworm|main|Contents-deb\n\
            Debian|http://d/debian/|bookworm|non-free|Packages\nDebian|file:/srv/|bookworm|main|Packages\n\
            . nodistro|https://n/|nodistro|main|Packages\n$(ORIGIN)|https://o/|bookworm|main|Packages\n\
            Debian|http://d/debian/|bookworm|main|Packages\n";
        let only = format!("deb [signed-by={DEBIAN_KEYS}] http://d/debian/ bookworm main");
        assert_eq!(parse_targets(text.as_bytes()), [only]);
    }

    #[test]
    fn only_what_has_a_hash_that_was_computed_is_not_fetched_again() {
        let dir = tempfile::tempdir().unwrap();
        // Of the text "abc".
        let [sha256, sha512, md5] = [
            "SHA256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
            "SHA512:ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f",
            "MD5Sum:900150983cd24fb0d6963f7d28e17f72",
        ];
        let packages = [("abc", sha256), ("abc", sha512), ("abc", md5), ("ab", sha256), ("ab", sha512), ("ab", md5)];
        let packages: Vec<Package> = (0..)
            .zip(packages)
            .map(|(number, (text, hash))| {
                let file = format!("{number}_1_amd64.deb");
                std::fs::write(dir.path().join(&file), text).unwrap();
                Package { file, hash: hash.into() }
            })
            .collect();
        let missing: Vec<&str> = sift(dir.path(), &packages).into_iter().map(Package::name).collect();
        assert_eq!(missing, ["2", "3", "4", "5"]);
        let left = packages.iter().map(|package| dir.path().join(&package.file).exists());
        assert_eq!(left.collect::<Vec<_>>(), [true, true, false, false, false, false]);
    }

    #[test]
    fn a_message_is_its_last_lines() {
        assert_eq!(last_lines(b"1\n2\n\nE: 3\n4\n5\n"), "2; E: 3; 4; 5");
        assert_eq!(last_lines(b""), "it failed and said nothing");
    }
}
