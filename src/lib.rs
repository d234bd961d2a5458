//! Temporary, SSH-reachable virtual machines.

pub mod api;
pub mod guest;
pub mod hypervisor;
pub mod model;
pub mod operator;
pub mod private_file;
pub mod server;
pub mod store;
pub mod wire;
