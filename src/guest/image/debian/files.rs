//! What the guest is made of: Debian's packages by name, and our own few files.

use super::super::layout;
use super::super::package::Contents;
use super::super::tree::Tree;
use super::super::{ImageError, package};

/// What a user of Debian expects, next to the essential packages. What these depend on comes along; what they recommend
/// does not. Without libpam-systemd: a session manager for each login would take seconds where machines are emulated.
pub(super) const PACKAGES: [&str; 19] = [
    "apt",
    "bash",
    "ca-certificates",
    "curl",
    "dbus",
    "iproute2",
    "iputils-ping",
    "kmod",
    "less",
    "netbase",
    "openssh-server",
    "procps",
    "python3-minimal",
    "sudo",
    "systemd",
    "systemd-resolved",
    "systemd-sysv",
    "udev",
    "vim-tiny",
];
/// Process 1 of the initial RAM disk.
pub(super) const INIT: &str = include_str!("rootfs/init");
/// What is run once in the new file system, and where it lies for that.
pub(super) const FINISH: &str = include_str!("rootfs/finish.sh");
/// Where that lies.
pub(super) const FINISH_PATH: &str = "anweddol-finish.sh";

/// Our files: path, permissions, content.
pub(super) const FILES: [(&str, u32, &str); 11] = [
    ("usr/bin/anweddol_container_setup.sh", 0o755, include_str!("rootfs/setup.sh")),
    ("etc/ssh/sshd_config.d/anweddol.conf", 0o644, include_str!("rootfs/sshd.conf")),
    ("etc/sudoers.d/anweddol", 0o440, include_str!("rootfs/sudoers-user")),
    ("etc/sudoers.d/endpoint", 0o440, include_str!("rootfs/sudoers-endpoint")),
    ("etc/systemd/system/anweddol-hostkey.service", 0o644, include_str!("rootfs/hostkey.service")),
    ("etc/systemd/network/80-anweddol.network", 0o644, include_str!("rootfs/dhcp.network")),
    ("etc/systemd/journald.conf.d/anweddol.conf", 0o644, include_str!("rootfs/journald.conf")),
    ("etc/hostname", 0o644, "anweddol\n"),
    ("etc/hosts", 0o644, "127.0.0.1 localhost\n127.0.1.1 anweddol\n::1 localhost ip6-localhost ip6-loopback\n"),
    ("etc/default/locale", 0o644, "LANG=C.UTF-8\n"),
    ("etc/fstab", 0o644, "# The root file system is mounted by the initial RAM disk.\n"),
];

const BUSYBOX: &str = "usr/bin/busybox";
const MODULES: &str = "usr/lib/modules/";
/// What the disk's file system may need next to what every machine needs. A kernel that has one built in lacks its file.
const DISK_MODULES: [&str; 2] = ["crc32c_generic", "ext4"];

/// Which files of a package that belongs to the start are worth keeping in memory.
pub(super) fn wanted(path: &str, kernel: bool) -> bool {
    kernel && path.starts_with(MODULES) || layout::wanted(path, kernel)
}

/// The files that are laid over Debian's: ours, and the kernel's modules.
pub(super) fn overlay(contents: &Contents) -> Tree {
    let mut tree = Tree::default();
    for (path, permissions, text) in FILES {
        tree.file(path, permissions, text);
    }
    tree.directory("etc/sudoers.d", 0o750);
    tree.link("etc/systemd/system/ssh.service.wants/anweddol-hostkey.service", "../anweddol-hostkey.service");
    tree.file(FINISH_PATH, 0o755, FINISH);
    for (path, bytes) in contents.below(MODULES) {
        tree.file(path, 0o644, bytes);
    }
    tree
}

/// The kernel's version, as its modules' directory has it.
pub(super) fn kernel_version(contents: &Contents) -> Result<&str, ImageError> {
    let path = contents.find(|path| path.starts_with(MODULES) && path.ends_with("/modules.builtin"));
    let version = path.and_then(|path| path.strip_prefix(MODULES)?.split('/').next());
    version.ok_or_else(|| ImageError::Missing { path: format!("/{MODULES}*/modules.builtin") })
}

/// The initial RAM disk.
pub(super) fn initrd(contents: &Contents) -> Result<Tree, ImageError> {
    let mut tree = Tree::default();
    for directory in ["dev", "proc", "sys", "root"] {
        tree.directory(directory, 0o755);
    }
    // Process 1 has no output without it, and /dev is mounted later.
    tree.device("dev/console", 0o600, 5, 1);
    let busybox = contents.get(BUSYBOX).ok_or_else(|| ImageError::Missing { path: format!("/{BUSYBOX}") })?;
    tree.file(&package::merged(BUSYBOX), 0o755, busybox);
    tree.link("bin", "usr/bin");
    tree.link("lib", "usr/lib");
    tree.file("init", 0o755, INIT);
    let names: Vec<&str> = layout::MODULES.into_iter().chain(DISK_MODULES).collect();
    layout::add_modules(&mut tree, contents, &names)?;
    Ok(tree)
}
