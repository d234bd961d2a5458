//! A server that says what happens to its clients and their containers.
//!
//! `cargo run --example basic_server [-- --once] [--libvirt STATE_DIR]`

mod common;

fn main() -> Result<(), common::Error> {
    let arguments = common::Arguments::read()?;
    let server = arguments.server().build()?;
    server.on_client(|event| async move {
        println!("client {} from {}", event.client_instance.id(), event.client_instance.ip());
    })?;
    server.on_created_container(|event| async move {
        println!("container {} created", event.container_instance.uuid());
    })?;
    server.on_destroyed_container(|event| async move {
        println!("container {} destroyed", event.container_instance.uuid());
    })?;
    server.on_runtime_error(|event| async move {
        println!("error in {}: {}", event.name, event.traceback);
    })?;
    arguments.serve(&server, common::create_and_destroy)
}
