//! What the daemon takes up from its configuration: at its start, and again at each reload.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use futures::StreamExt;
use tokio::sync::watch;
use tokio::task::spawn_blocking;

use super::reload::Apply;
use super::{DEFAULT_POOL, ServeError};
use crate::api::Digests;
use crate::api::objects::configured::{self, Configured};
use crate::config::{self, Config};
use crate::host::local::{self, LocalHost};
use crate::host::{Changing, Host, Unlimited};
use crate::model::{DEFAULT_NAMESPACE, Image, Kind, Memory, ObjectRef, PoolSpec, Template};
use crate::operator::Boots;
use crate::plan::backoff;
use crate::plan::clock::Clock;
use crate::server::gate::Gate;
use crate::server::tcp::WireConfig;
use crate::store::{Store, StoreError, records};

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
                tracing::warn!("pool '{DEFAULT_POOL}' is being deleted; it is made anew when it is gone");
            }
        }
        Ok(())
    }
}

/// Makes the daemon's own pool anew when it is gone: whoever deletes it takes back what was changed of it, and wire clients have
/// no other one (`who_deletes_the_daemons_own_pool_gets_it_as_it_is_configured`).
pub(crate) async fn keep_pool(config: watch::Receiver<Arc<Config>>, apply: Apply, store: Arc<dyn Store>) {
    let pool = ObjectRef { kind: Kind::ContainerPool, namespace: DEFAULT_NAMESPACE.into(), name: DEFAULT_POOL.into() };
    let key = records::key(&pool);
    let mut changes = store.watch(&key, 0);
    loop {
        match changes.next().await {
            Some(Ok(_)) => {}
            Some(Err(StoreError::Compacted { .. })) => changes = store.watch(&key, 0),
            Some(Err(_)) | None => return,
        }
        for failures in 1.. {
            if !store.get(&key).is_ok_and(|(found, _)| found.is_none()) {
                break;
            }
            let (apply, config) = (Arc::clone(&apply), Arc::clone(&config.borrow()));
            match spawn_blocking(move || apply(&config)).await {
                Ok(Ok(())) => break,
                Ok(Err(error)) => {
                    tracing::warn!(error = crate::error_chain(&error), "pool '{DEFAULT_POOL}' is not made")
                }
                Err(error) => tracing::error!(%error, "pool '{DEFAULT_POOL}' is not made"),
            }
            tokio::time::sleep(backoff::after(failures).unsigned_abs()).await;
        }
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
