//! Temporary, SSH-reachable virtual machines.

pub mod api;
pub mod cli;
pub mod client;
pub mod config;
pub mod daemon;
pub mod facade;
pub mod guest;
pub mod hypervisor;
mod link;
pub mod model;
pub mod operator;
pub mod plan;
pub mod private_file;
pub mod server;
pub mod store;
pub mod wire;

/// An error with its causes, as it is printed once, at the end of its way.
pub fn error_chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
