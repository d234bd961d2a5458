//! Objects as people write them: manifests, the directory that is kept applied, the local API, and the command line
//! over it, against the running program on the simulated hypervisor.

#[path = "../common/mod.rs"]
mod common;

mod api;
mod commands;
mod crds;
mod directory;
mod setting;
mod shipped;
