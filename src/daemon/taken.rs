//! What the daemon takes up from its configuration: at its start, and again at each reload.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use super::{DEFAULT_POOL, ServeError};
use crate::api::Digests;
use crate::api::objects::configured::{self, Configured};
use crate::config::{self, Config};
use crate::host::local::{self, LocalHost};
use crate::host::{Changing, Host, Unlimited};
use crate::model::{DEFAULT_NAMESPACE, Image, Memory, PoolSpec, Template};
use crate::operator::Boots;
use crate::plan::clock::Clock;
use crate::server::gate::Gate;
use crate::server::tcp::WireConfig;
use crate::store::Store;

/// Whoever works with what can be reloaded.
pub(super) struct Taken {
    pub(super) store: Arc<dyn Store>,
    pub(super) clock: Clock,
    pub(super) gate: Arc<Gate>,
    /// In place of the configured one.
    pub(super) image: Option<Image>,
    pub(super) limits: Limits,
    pub(super) kept_events: Arc<AtomicUsize>,
    pub(super) boots: Arc<Boots>,
    /// Whether every request has to bear an access token.
    pub(super) required: Arc<AtomicBool>,
    pub(super) digests: Digests,
}

impl Taken {
    /// Takes a changed configuration up. What it names is looked at first: if that is missing, nothing is changed.
    pub(super) fn up(&self, config: &Config) -> Result<(), ServeError> {
        self.digests.sha256(&self.template(config).image)?;
        let host = self.limits.read(config)?;
        self.pool(config)?;
        self.limits.host.set(host);
        self.required.store(config.access.required, Ordering::Relaxed);
        self.gate.change(config.ip_filter.clone(), config.rates.clone());
        self.boots.set(self.limits.boots(config));
        self.kept_events.store(config.events.keep, Ordering::Relaxed);
        Ok(())
    }

    /// The template of the daemon's own pool.
    pub(super) fn template(&self, config: &Config) -> Template {
        template(config, self.image.clone())
    }

    /// Writes the daemon's own pool as the configuration describes it, unless it is so already or somebody else's.
    pub(super) fn pool(&self, config: &Config) -> Result<(), ServeError> {
        let (container, template) = (&config.container, self.template(config));
        let spec = PoolSpec::of(container.warm, container.max_allowed_running_containers, template);
        match configured::apply(&*self.store, DEFAULT_NAMESPACE, DEFAULT_POOL, &spec, (self.clock)())? {
            Configured::Applied | Configured::Kept => {}
            Configured::Others => {
                tracing::info!(
                    "pool '{DEFAULT_POOL}' was made by a manifest or by hand: 'container' in the configuration does not change it"
                );
            }
            Configured::Deleting => {
                tracing::warn!("pool '{DEFAULT_POOL}' is being deleted; the next start after its end makes it anew");
            }
        }
        Ok(())
    }
}

/// The configured template, with this image if there is one.
pub(super) fn template(config: &Config, image: Option<Image>) -> Template {
    let mut template = config.template();
    template.image = image.unwrap_or(template.image);
    template
}

/// How wire clients are served from now on.
pub(super) fn wire(wire: &mut WireConfig, config: &Config) {
    wire.client_timeout = Duration::from_secs(config.server.client_timeout);
    wire.answer_timeout = wire.client_timeout;
    wire.max_connections = config.server.max_connections;
}

/// The limits of the host that machines run on.
pub(super) struct Limits {
    pub(super) host: Arc<Changing>,
    /// Whether machines are real; others have only the limits that are written.
    real: bool,
    state_dir: PathBuf,
}

impl Limits {
    pub(super) fn new(config: &Config, real: bool) -> Result<Self, ServeError> {
        let host = limits(config, real, &config.state_dir)?;
        Ok(Limits { host: Arc::new(Changing::new(host)), real, state_dir: config.state_dir.clone() })
    }

    /// How many machines boot at once.
    pub(super) fn boots(&self, config: &Config) -> Option<NonZeroUsize> {
        let written = config.host.parallel_boots.and_then(|most| NonZeroUsize::try_from(most).ok());
        written.or_else(|| self.real.then(local::boots_at_once))
    }

    fn read(&self, config: &Config) -> Result<Arc<dyn Host>, ServeError> {
        limits(config, self.real, &self.state_dir)
    }
}

fn limits(config: &Config, real: bool, state_dir: &Path) -> Result<Arc<dyn Host>, ServeError> {
    let (memory, reserve) = (config.host.memory.map(Memory::bytes), config.host.disk_reserve);
    if !real && memory.is_none() && reserve.is_none() {
        return Ok(Arc::new(Unlimited));
    }
    let memory = match memory {
        Some(memory) => memory,
        None if real => local::memory_for_machines().map_err(ServeError::Host)?,
        None => u64::MAX,
    };
    let reserve = reserve.or(real.then_some(config::DISK_RESERVE)).map(Memory::bytes);
    Ok(Arc::new(LocalHost::new(memory, reserve.map(|reserve| (state_dir.into(), reserve)))))
}
