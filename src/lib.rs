//! Temporary, SSH-reachable virtual machines.

pub mod client;
pub mod guest;
pub mod hypervisor;
mod link;
pub mod model;
pub mod server;
pub mod store;
pub mod wire;
