//! The two ways a port of the host leads to a machine.
//!
//! | | embedded: [`user`] | system: [`nft`] |
//! | --- | --- | --- |
//! | who forwards | the machine's own QEMU | the kernel |
//! | needs | nothing | `CAP_NET_ADMIN` |
//! | egress | all or nothing, when it is started | by address and card, from its first login on |
//! | connections | QEMU tells them | the kernel tells them |
//! | before it is published | a loopback address and the port | the machine's own address |
//! | ends with | the machine | its withdrawal |
//!
//! Either way no process of ours is in between: the daemon may end and start again and no session notices.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

mod bounded;
mod bridge;
mod elements;
mod flows;
pub mod nft;
mod table;
pub mod user;

/// Where this host reaches a port that is published on an address of its own, `every` if that is all of them.
fn published_at(bind: Ipv4Addr, every: Ipv4Addr, port: u16) -> SocketAddr {
    SocketAddr::from((if bind.is_unspecified() { every } else { bind }, port))
}

/// Whether a listener could have this address now.
fn can_bind(address: Ipv4Addr, port: u16) -> bool {
    TcpListener::bind((address, port)).is_ok()
}
