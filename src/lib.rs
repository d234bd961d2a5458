//! Temporary, SSH-reachable virtual machines.

pub mod guest;
pub mod hypervisor;
pub mod model;
pub mod server;
pub mod store;
pub mod wire;
