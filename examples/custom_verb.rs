//! A verb of one's own: PING is answered with PONG.
//!
//! `cargo run --example custom_verb [-- --once] [--libvirt STATE_DIR]`

mod common;

use anweddol::wire::{Request, Response};
use serde_json::Map;

fn main() -> Result<(), common::Error> {
    let arguments = common::Arguments::read()?;
    let server = arguments.server().build()?;
    server.set_request_handler("PING", |_client, _request| async {
        let mut data = Map::new();
        data.insert("answer".into(), "PONG".into());
        Response::ok(data)
    })?;
    arguments.serve(&server, |address| {
        let response = common::say(address, &Request::bare("PING"))?;
        println!("PING: {}", response.data["answer"].as_str().unwrap_or("no answer"));
        Ok(())
    })
}
