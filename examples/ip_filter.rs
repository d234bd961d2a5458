//! Only some addresses are served: the others are turned away before any key is exchanged.
//!
//! `cargo run --example ip_filter [-- --once] [--libvirt STATE_DIR]`

mod common;

use std::net::IpAddr;

use anweddol::wire::{Request, STAT};

fn main() -> Result<(), common::Error> {
    let arguments = common::Arguments::read()?;
    // Who tries it out connects from loopback, and is to see that it works.
    let denied: Vec<IpAddr> = vec![[127, 0, 0, 1].into()];
    let server = arguments.server().build()?;
    server.on_connection(move |event| {
        if denied.contains(&event.client_socket.ip()) {
            println!("{} is turned away", event.client_socket.ip());
            event.client_socket.close();
        }
        async {}
    })?;
    arguments.serve(&server, |address| match common::say(address, &Request::bare(STAT)) {
        Ok(response) => Err(format!("it was served: {}", response.message).into()),
        Err(error) => {
            println!("STAT: {error}");
            Ok(())
        }
    })
}
