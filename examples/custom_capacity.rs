//! Containers with another capacity than the server's: the handler decides, before the domain is made.
//!
//! `cargo run --example custom_capacity [-- --once] [--libvirt STATE_DIR]`

mod common;

use anweddol::model::Memory;

fn main() -> Result<(), common::Error> {
    let arguments = common::Arguments::read()?;
    let server = arguments.server().container_memory(Memory::mebibytes(256)).build()?;
    server.on_created_container(|event| async move {
        let container = event.container_instance;
        // Who comes from this host gets more.
        if event.client_instance.ip().is_loopback() {
            let changed = container.set_memory(Memory::mebibytes(512)).and_then(|()| container.set_vcpus(2));
            if let Err(error) = changed {
                println!("{error}");
            }
        }
        println!("container with {} and {} vcpus", container.memory(), container.vcpus());
    })?;
    arguments.serve(&server, common::create_and_destroy)
}
