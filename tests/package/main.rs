//! The Debian package, on a Debian that boots in the lab: systemd is process 1 there, libvirtd, polkit and QEMU are the
//! distribution's own, and nothing is set up but what the package says. One Debian for each test.
//!
//! ```text
//! tests/package/prepare.sh        what needs the network or the program: the package, and the Debian's files
//! tests/lab/run.sh --no-libvirtd cargo nextest run --profile lab --test package --run-ignored only
//! ```

#[path = "../common/mod.rs"]
mod common;

mod host;
mod life;
mod unit;
