//! From CREATE to SSH on real guests: the real program, libvirt, QEMU, the reference image. The same tests in both
//! modes, each in the lab, which makes a host of its own for them; outside of it they fail, so that nothing happens
//! to a real host:
//!
//! ```text
//! cargo nextest run --profile lab --test image --run-ignored only        builds the image: the lab has no network
//! tests/lab/run.sh               cargo nextest run --profile lab --test guest --run-ignored only
//! tests/lab/run.sh --no-libvirtd cargo nextest run --profile lab --test guest --run-ignored only -E 'not test(/^libvirtd::/)'
//! ```

#[path = "../common/mod.rs"]
mod common;

mod adapters;
mod disk;
mod doctor;
mod egress;
mod faults;
mod host;
mod libvirtd;
mod life;
mod lifetimes;
mod pool;
mod rebuild;
mod refused;
mod restart;
mod secrets;
mod user;
