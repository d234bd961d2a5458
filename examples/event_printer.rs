//! Prints every documented event as it happens.
//!
//! `cargo run --example event_printer [-- --once] [--libvirt STATE_DIR]`

mod common;

fn main() -> Result<(), common::Error> {
    let arguments = common::Arguments::read()?;
    let server = arguments.server().build()?;
    for number in 1..=12_u8 {
        server.set_event_handler(number, |payload| async move {
            println!("{:2} {}", payload.event().number(), payload.event().name());
        })?;
    }
    arguments.serve(&server, common::create_and_destroy)
}
