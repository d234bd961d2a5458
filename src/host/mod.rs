//! The host that machines run on: what it gives to them, and what is asked of it before they run ([`crate::plan::checks`]).

pub mod firewall;
pub mod kernel;
pub mod local;
pub mod programs;

use std::io;
use std::sync::{Arc, PoisonError, RwLock};

use crate::plan::admission::Capacity;

/// Looks at a host.
pub trait Host: Send + Sync + 'static {
    /// What it gives to machines, and what of it is free now. Cheap: it is asked for each new machine.
    fn capacity(&self) -> io::Result<Capacity>;
}

/// A host whose limits are changed while machines run on it.
pub struct Changing(RwLock<Arc<dyn Host>>);

impl Changing {
    /// With these limits at first.
    pub fn new(host: Arc<dyn Host>) -> Self {
        Changing(RwLock::new(host))
    }

    /// With these limits from now on; machines that are there stay.
    pub fn set(&self, host: Arc<dyn Host>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = host;
    }
}

impl Host for Changing {
    fn capacity(&self) -> io::Result<Capacity> {
        let host = Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner));
        host.capacity()
    }
}

/// A host without limits: what simulated machines run on.
pub struct Unlimited;

impl Host for Unlimited {
    fn capacity(&self) -> io::Result<Capacity> {
        Ok(Capacity::UNLIMITED)
    }
}
