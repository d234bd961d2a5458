//! The wire protocol: its documented bytes, its rules, its state machines cut in every way, its server and its client.

mod client;
mod keys;
mod limits;
mod rsa;
mod running;
mod sanitization;
mod segments;
mod server;
mod support;
mod vectors;
