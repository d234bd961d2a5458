//! The two ways a port of the host leads to a machine.
//!
//! | | embedded: [`user`] | system: [`nft`] |
//! | --- | --- | --- |
//! | who forwards | the machine's own QEMU | the kernel |
//! | needs | nothing | root (`CAP_NET_ADMIN`) |
//! | before it is published | 127.0.0.1 and the port | the machine's own address |
//! | ends with | the machine | its withdrawal |
//!
//! Either way no process of ours is in between: the daemon may end and start again and no session notices.

use std::net::{Ipv4Addr, TcpListener};

pub mod nft;
pub mod user;

/// Whether a listener could have this address now.
fn can_bind(address: Ipv4Addr, port: u16) -> bool {
    TcpListener::bind((address, port)).is_ok()
}
