//! What stands where in the guest: our few files, and out of Debian's packages only what they need.

use std::collections::BTreeSet;
use std::io::Write;
use std::process::{Command, Stdio};

use super::elf;
use super::package::Contents;
use super::tree::Tree;
use super::{CMDLINE, ImageError};

/// Programs, and what they load by name at run time.
const PROGRAMS: [(&str, u32); 6] = [
    ("usr/bin/busybox", 0o755),
    ("usr/sbin/sshd", 0o755),
    ("usr/bin/ssh-keygen", 0o755),
    ("usr/bin/sudo", 0o4755),
    ("usr/lib/x86_64-linux-gnu/security/pam_permit.so", 0o644),
    ("usr/lib/x86_64-linux-gnu/security/pam_deny.so", 0o644),
];
/// sudo's policy: its directory changed between Debian's releases.
const SUDOERS_PLUGIN: &str = "/sudo/sudoers.so";
/// Network, randomness and disks. What the kernel has built in, and what a release does not have, is left out.
pub(super) const MODULES: [&str; 4] = ["virtio_pci", "virtio_net", "virtio-rng", "virtio_blk"];
/// Without this one there is no network.
const NEEDED_MODULE: &str = "virtio_net";
/// Everything that those may depend on; a new dependency is an error that names it.
const MODULE_FILES: [&str; 13] = [
    "virtio",
    "virtio_ring",
    "virtio_pci",
    "virtio_pci_modern_dev",
    "virtio_pci_legacy_dev",
    "virtio_net",
    "virtio-rng",
    "virtio_blk",
    "rng-core",
    "failover",
    "net_failover",
    "dimlib",
    "virtio_anchor",
];
const ISOLINUX: [(&str, &str); 2] =
    [("isolinux.bin", "usr/lib/ISOLINUX/isolinux.bin"), ("ldlinux.c32", "usr/lib/syslinux/modules/bios/ldlinux.c32")];
/// The first sector of a disk that starts isolinux.
const HYBRID_MBR: &str = "usr/lib/ISOLINUX/isohdpfx.bin";

const ENDPOINT: u32 = 900;
/// `endpoint`, with few rounds: the password is public.
const ENDPOINT_HASH: &str = "$6$rounds=1000$anweddolendpoint$5KsaFCOuhe02zg.N8NUP15orGAlJg49lv7m8Z9l8hRPSRjfAI5QMUI3nTWoIqF1zdlIbaHBdE7l5yXfpyscs80";

/// The `sudo` of the endpoint account: `sudo.s`, assembled.
pub(super) const SUDO: &[u8; 317] = &[
    0x7f, 0x45, 0x4c, 0x46, 0x02, 0x01, 0x01, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x02, 0x00, 0x3e,
    0x00, 0x01, 0x00, 0x00, 0x00, 0x78, 0x00, 0x40, 0x00, 0x00, 0x00, 0x00, 0x00, 0x40, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x40, 0x00, 0x38, 0x00, 0x01,
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x01, 0x00, 0x00, 0x00, 0x05, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x40, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x40, 0x00, 0x00, 0x00, 0x00,
    0x00, 0x3d, 0x01, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x3d, 0x01, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x10,
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0xb8, 0x66, 0x00, 0x00, 0x00, 0x0f, 0x05, 0x3d, 0x84, 0x03, 0x00, 0x00, 0x75,
    0x72, 0x48, 0x83, 0x3c, 0x24, 0x02, 0x72, 0x6b, 0x48, 0x8d, 0x5c, 0x24, 0x10, 0x48, 0x8b, 0x33, 0x48, 0x8d, 0x3d,
    0x77, 0x00, 0x00, 0x00, 0xb9, 0x21, 0x00, 0x00, 0x00, 0xf3, 0xa6, 0x75, 0x53, 0xbd, 0x74, 0x00, 0x00, 0x00, 0xe8,
    0x55, 0x00, 0x00, 0x00, 0xbd, 0x77, 0x00, 0x00, 0x00, 0xe8, 0x4b, 0x00, 0x00, 0x00, 0xbd, 0x75, 0x00, 0x00, 0x00,
    0xe8, 0x41, 0x00, 0x00, 0x00, 0x48, 0x8d, 0x3d, 0x6a, 0x00, 0x00, 0x00, 0x31, 0xf6, 0xb8, 0x02, 0x00, 0x00, 0x00,
    0x0f, 0x05, 0x89, 0xc7, 0xbe, 0x02, 0x00, 0x00, 0x00, 0xb8, 0x49, 0x00, 0x00, 0x00, 0x0f, 0x05, 0x85, 0xc0, 0x75,
    0x13, 0x48, 0x8d, 0x3d, 0x27, 0x00, 0x00, 0x00, 0x48, 0x89, 0xde, 0x31, 0xd2, 0xb8, 0x3b, 0x00, 0x00, 0x00, 0x0f,
    0x05, 0xbf, 0x01, 0x00, 0x00, 0x00, 0xb8, 0x3c, 0x00, 0x00, 0x00, 0x0f, 0x05, 0x31, 0xff, 0x31, 0xf6, 0x31, 0xd2,
    0x89, 0xe8, 0x0f, 0x05, 0x85, 0xc0, 0x75, 0xe6, 0xc3, 0x2f, 0x62, 0x69, 0x6e, 0x2f, 0x61, 0x6e, 0x77, 0x65, 0x64,
    0x64, 0x6f, 0x6c, 0x5f, 0x63, 0x6f, 0x6e, 0x74, 0x61, 0x69, 0x6e, 0x65, 0x72, 0x5f, 0x73, 0x65, 0x74, 0x75, 0x70,
    0x2e, 0x73, 0x68, 0x00, 0x2f, 0x65, 0x74, 0x63, 0x2f, 0x6e, 0x65, 0x77, 0x00,
];
/// What it was assembled from.
pub(super) const SUDO_SOURCE: &str = include_str!("sudo.s");

/// Our files: path, permissions, content. Together with the packages they decide the image.
pub(super) const FILES: [(&str, u32, &str); 19] = [
    ("bin/anweddol_container_setup.sh", 0o755, include_str!("rootfs/setup.sh")),
    ("etc/rc", 0o755, include_str!("rootfs/rc")),
    ("etc/sshd", 0o755, include_str!("rootfs/sshd")),
    ("etc/dhcp", 0o755, include_str!("rootfs/dhcp")),
    ("etc/dhcp-event", 0o755, include_str!("rootfs/dhcp-event")),
    ("etc/inittab", 0o644, include_str!("rootfs/inittab")),
    ("etc/profile", 0o644, include_str!("rootfs/profile")),
    ("etc/ssh/sshd_config", 0o644, include_str!("rootfs/sshd_config")),
    ("etc/sudoers", 0o440, include_str!("rootfs/sudoers")),
    ("etc/pam.d/sudo", 0o644, include_str!("rootfs/pam-sudo")),
    ("etc/pam.d/other", 0o644, "auth required pam_deny.so\naccount required pam_deny.so\n"),
    ("etc/passwd", 0o644, include_str!("rootfs/passwd")),
    ("etc/group", 0o644, include_str!("rootfs/group")),
    ("etc/nsswitch.conf", 0o644, "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\n"),
    ("etc/hosts", 0o644, "127.0.0.1 localhost\n127.0.1.1 anweddol\n"),
    ("etc/hostname", 0o644, "anweddol\n"),
    ("etc/shells", 0o644, "/bin/sh\n"),
    ("etc/resolv.conf", 0o644, ""),
    (
        "etc/os-release",
        0o644,
        "ID=anweddol\nNAME=\"Anweddol reference guest\"\nPRETTY_NAME=\"Anweddol reference guest\"\n",
    ),
];

/// Which files of a package are worth keeping in memory.
pub(super) fn wanted(path: &str, kernel: bool) -> bool {
    match kernel {
        true => path.starts_with("boot/vmlinuz-") || module_name(path).is_some_and(|n| MODULE_FILES.contains(&n)),
        false => {
            PROGRAMS.iter().any(|(program, _)| path == *program)
                || ISOLINUX.iter().any(|(_, file)| path == *file)
                || path == HYBRID_MBR
                || path.starts_with("usr/lib") && path.contains(".so")
        }
    }
}

/// `…/virtio_net.ko.xz` is the module `virtio_net`.
fn module_name(path: &str) -> Option<&str> {
    let (name, tail) = path.rsplit('/').next()?.split_once(".ko")?;
    (path.starts_with("usr/lib/modules/") && matches!(tail, "" | ".xz" | ".zst" | ".gz")).then_some(name)
}

/// The kernel.
pub(super) fn kernel(contents: &Contents) -> Result<&[u8], ImageError> {
    let path = contents.find(|path| path.starts_with("boot/vmlinuz-"));
    path.and_then(|path| contents.get(path)).ok_or(ImageError::Missing { path: "/boot/vmlinuz-*".into() })
}

/// The tree of the initial RAM disk.
pub(super) fn root(contents: &Contents) -> Result<Tree, ImageError> {
    let mut tree = Tree::default();
    for (link, target) in [("bin", "usr/bin"), ("sbin", "usr/sbin"), ("lib", "usr/lib"), ("lib64", "usr/lib64")] {
        tree.link(link, target);
    }
    for directory in ["dev", "proc", "sys", "run", "mnt", "home", "var/log", "usr/lib64", "usr/sbin"] {
        tree.directory(directory, 0o755);
    }
    tree.directory("tmp", 0o1777);
    tree.directory("root", 0o700);
    tree.directory("var/empty", 0o755);
    tree.directory("home/endpoint", 0o700);
    tree.own("home/endpoint", ENDPOINT);
    // Where the set-up script writes what it then moves into its place.
    tree.directory("etc/new", 0o700);
    // Before the real one on the path that sshd gives; gone when the machine is somebody's.
    tree.file("usr/local/bin/sudo", 0o4755, SUDO);
    // PID 1 has no output without it, and /dev is mounted later.
    tree.device("dev/console", 0o600, 5, 1);
    tree.link("var/run", "/run");
    tree.link("init", "usr/bin/busybox");
    tree.link("usr/bin/sh", "busybox");

    for (path, permissions, text) in FILES {
        tree.file(&super::package::merged(path), permissions, text);
    }
    tree.file(
        "etc/shadow",
        0o600,
        format!("root:*:20000:0:99999:7:::\nsshd:!:20000:0:99999:7:::\nendpoint:{ENDPOINT_HASH}:20000:0:99999:7:::\n"),
    );

    let plugin = contents.find(|path| path.ends_with(SUDOERS_PLUGIN));
    let plugin = plugin.ok_or(ImageError::Missing { path: SUDOERS_PLUGIN.into() })?;
    for (path, permissions) in PROGRAMS.into_iter().chain([(plugin, 0o644)]) {
        add_program(&mut tree, contents, path, permissions)?;
    }
    add_modules(&mut tree, contents, &MODULES)?;
    Ok(tree)
}

/// Adds a file with everything that the dynamic loader will look for, in the places where it will look.
fn add_program(tree: &mut Tree, contents: &Contents, path: &str, permissions: u32) -> Result<(), ImageError> {
    let bytes = contents.get(path).ok_or_else(|| ImageError::Missing { path: format!("/{path}") })?;
    let needs = elf::needs(bytes).ok_or_else(|| ImageError::NotElf { path: format!("/{path}") })?;
    tree.file(path, permissions, bytes);
    if let Some(interpreter) = needs.interpreter {
        let at = super::package::merged(&interpreter);
        if !tree.contains(&at) {
            add_program(tree, contents, &at, 0o755)?;
        }
    }
    for library in needs.libraries {
        let suffix = format!("/{library}");
        let found = contents.find(|path| path.ends_with(&suffix));
        let at = found.ok_or(ImageError::Missing { path: library })?;
        if !tree.contains(at) {
            add_program(tree, contents, at, 0o644)?;
        }
    }
    Ok(())
}

/// Adds the modules, and the order in which to load them: each after all that it depends on.
pub(super) fn add_modules(tree: &mut Tree, contents: &Contents, names: &[&str]) -> Result<(), ImageError> {
    let mut order = String::new();
    let mut done = BTreeSet::new();
    for name in names.iter().copied() {
        if find_module(contents, name).is_some() {
            add_module(tree, contents, name, &mut order, &mut done)?;
        } else if name == NEEDED_MODULE {
            return Err(ImageError::Missing { path: format!("{name}.ko") });
        }
    }
    tree.file("usr/lib/modules/order", 0o644, order);
    Ok(())
}

fn find_module<'a>(contents: &'a Contents, name: &str) -> Option<&'a str> {
    // A module's name and its file's name may differ in '-' and '_'.
    let same = |path: &str| module_name(path).is_some_and(|found| found.replace('-', "_") == name.replace('-', "_"));
    contents.find(same)
}

fn add_module(
    tree: &mut Tree,
    contents: &Contents,
    name: &str,
    order: &mut String,
    done: &mut BTreeSet<String>,
) -> Result<(), ImageError> {
    // Marked before its dependencies: a cycle ends here.
    if !done.insert(name.replace('-', "_")) {
        return Ok(());
    }
    let missing = || ImageError::Missing { path: format!("{name}.ko") };
    let path = find_module(contents, name).ok_or_else(missing)?;
    let packed = contents.get(path).ok_or_else(missing)?;
    let module = unpack(path, packed)?;
    let depends = elf::module_depends(&module).ok_or_else(|| ImageError::NotElf { path: format!("/{path}") })?;
    for other in depends {
        add_module(tree, contents, &other, order, done)?;
    }
    let at = format!("usr/lib/modules/{name}.ko");
    order.push_str(&format!("/{at}\n"));
    tree.file(&at, 0o644, module);
    Ok(())
}

/// Newer releases compress their modules; in the guest they are plain, so that loading them costs nothing.
fn unpack(path: &str, packed: &[u8]) -> Result<Vec<u8>, ImageError> {
    let program = match path.rsplit('.').next() {
        Some("xz") => "xz",
        Some("zst") => "zstd",
        Some("gz") => "gzip",
        _ => return Ok(packed.to_vec()),
    };
    let start = |source| ImageError::Start { program, source };
    let mut child = Command::new(program)
        .arg("-dc")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(start)?;
    let mut stdin = child.stdin.take();
    // Written from a thread of its own: a pipe that is full in both directions would stand still.
    let output = std::thread::scope(|scope| {
        scope.spawn(|| stdin.take().map(|mut stdin| stdin.write_all(packed)));
        child.wait_with_output()
    });
    let output = output.map_err(start)?;
    match output.status.success() {
        true => Ok(output.stdout),
        false => Err(ImageError::NotElf { path: format!("/{path}") }),
    }
}

/// The files of the CD next to the kernel and the initial RAM disk.
pub(super) fn boot_loader(contents: &Contents) -> Result<Vec<(&'static str, Vec<u8>)>, ImageError> {
    let mut files = Vec::new();
    for (name, path) in ISOLINUX {
        let bytes = contents.get(path).ok_or_else(|| ImageError::Missing { path: format!("/{path}") })?;
        files.push((name, bytes.to_vec()));
    }
    files.push(("isolinux.cfg", ISOLINUX_CFG.replace("@CMDLINE@", CMDLINE).into_bytes()));
    Ok(files)
}

/// What makes the CD start from a disk too.
pub(super) fn hybrid_mbr(contents: &Contents) -> Result<&[u8], ImageError> {
    contents.get(HYBRID_MBR).ok_or_else(|| ImageError::Missing { path: format!("/{HYBRID_MBR}") })
}

pub(super) const ISOLINUX_CFG: &str = include_str!("rootfs/isolinux.cfg");
