//! The program as people run it: `anweddol serve` as a process on the simulated hypervisor, wire clients, and the
//! command line. What only a real guest can show is in the suite `guest`.

#[path = "../common/mod.rs"]
mod common;
#[allow(dead_code)]
#[path = "../wire/support.rs"]
mod support;

mod access;
mod bad_input;
mod capacity;
mod claims;
mod cli;
mod conversations;
mod doctor;
mod exposition;
mod failing;
mod health;
mod host;
mod life;
mod memory;
mod metrics;
mod operator;
#[cfg(feature = "otlp")]
mod otlp;
mod records;
mod reload;
mod secrets;
mod store;
mod top;
mod web;
