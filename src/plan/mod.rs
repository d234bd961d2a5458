//! What to do next: pure functions from what is recorded and what is seen to what is committed and the one next
//! step. No IO, no clock, no randomness: time and chance are arguments.

pub mod access;
pub mod admission;
pub mod backoff;
pub mod checks;
pub mod claim;
pub mod clock;
pub mod container;
pub mod drift;
pub mod lifetime;
pub mod owners;
pub mod placement;
pub mod pool;
pub mod probe;
pub mod public_key;
pub mod rebuild;
