//! The hypervisor and the forwards on real libvirt, QEMU and nftables.
//!
//! `double` needs nothing: libvirt has a driver for tests. The others are ignored by default and run in the lab,
//! which makes a host of its own for them; outside of it they fail, so that nothing happens to a real host:
//!
//! ```text
//! tests/lab/run.sh               cargo nextest run --test libvirt --run-ignored only system
//! tests/lab/run.sh --no-libvirtd cargo nextest run --test libvirt --run-ignored only embedded
//! ```

mod common;
mod double;
mod embedded;

mod system;
mod system_nft;
