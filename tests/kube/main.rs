//! A real kubectl against the daemon on the simulated hypervisor: the commands that people type, and what they see.
//!
//! The kubectl is the one in `ANWEDDOL_KUBECTL`; `tests/kube/tools.sh` fetches it. What clients send is tested without
//! one, in `src/server/kube/tests.rs`.

#[path = "../common/mod.rs"]
mod common;

mod apply;
mod cluster;
mod controller;
mod helm;
mod looking;
mod older;
mod python;
mod roles;
mod schema;
