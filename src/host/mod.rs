//! The host that machines run on: what it gives to them, and what is asked of it before they run ([`crate::plan::checks`]).

pub mod clock;
pub mod firewall;
pub mod kernel;
pub mod local;
pub mod programs;

use std::io;

use crate::plan::admission::Capacity;

/// Looks at a host.
pub trait Host: Send + Sync + 'static {
    /// What it gives to machines, and what of it is free now. Cheap: it is asked for each new machine.
    fn capacity(&self) -> io::Result<Capacity>;
}

/// A host without limits: what simulated machines run on.
pub struct Unlimited;

impl Host for Unlimited {
    fn capacity(&self) -> io::Result<Capacity> {
        Ok(Capacity::UNLIMITED)
    }
}
