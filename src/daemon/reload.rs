//! SIGHUP: the configuration is read again, and what can be is taken up.

use std::convert::Infallible;
use std::sync::Arc;

use sd_notify::NotifyState;
use tokio::signal::unix::Signal;
use tokio::sync::watch;
use tokio::task::spawn_blocking;

use super::{ServeError, notify, taken};
use crate::config::reload::{Changes, compare};
use crate::config::{Config, ConfigError};
use crate::facade::Running;

/// When and from where a configuration is read again.
pub struct Reloads {
    /// Asks for it: SIGHUP.
    pub asked: Signal,
    /// Reads it as it was read at the start.
    pub read: Arc<dyn Fn() -> Result<Config, ConfigError> + Send + Sync>,
}

/// The configuration that is in effect.
pub(crate) struct Live {
    /// Whoever subscribes is told of each change of it. Keys that need a restart keep their values here too.
    pub(crate) config: watch::Sender<Arc<Config>>,
    /// Has what is no subscriber take it up.
    pub(crate) apply: Apply,
}

/// Blocks. Changes nothing if it fails on what the configuration names.
pub(crate) type Apply = Arc<dyn Fn(&Config) -> Result<(), ServeError> + Send + Sync>;

/// Why a configuration is not taken up. Nothing is changed then.
#[derive(Debug, thiserror::Error)]
enum ReloadError {
    /// It is none.
    #[error(transparent)]
    Config(ConfigError),
    /// It would be one after a restart.
    #[error("what needs no restart cannot be without what needs one: restart the daemon")]
    Together(#[source] ConfigError),
    /// What it names is not there, or the records cannot be written.
    #[error(transparent)]
    Apply(#[from] ServeError),
}

/// Reads the configuration again whenever it is asked to.
pub(super) async fn follow(running: &Running, mut reloads: Reloads) -> Infallible {
    while reloads.asked.recv().await.is_some() {
        begin();
        let status = match reload(running, &reloads).await {
            Ok(changes) => tell(&changes),
            Err(error) => {
                let error = crate::error_chain(&error);
                tracing::error!(error, "configuration: refused, and nothing is changed");
                format!("Serving; the configuration was refused at the last reload: {}", error.replace('\n', " "))
            }
        };
        notify(&[NotifyState::Ready, NotifyState::Status(&status)]);
    }
    std::future::pending().await
}

/// As `Type=notify-reload` wants it: with the time, so that systemd knows which reload is meant.
fn begin() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => notify(&[NotifyState::Reloading, now]),
        Err(error) => tracing::warn!(%error, "systemd is not told of the reload"),
    }
}

async fn reload(running: &Running, reloads: &Reloads) -> Result<Changes, ReloadError> {
    let (read, apply) = (Arc::clone(&reloads.read), Arc::clone(&running.live.apply));
    let before = Arc::clone(&running.live.config.borrow());
    let work = spawn_blocking(move || {
        let changes = compare(&before, &read().map_err(ReloadError::Config)?).map_err(ReloadError::Together)?;
        if !changes.taken.is_empty() {
            apply(&changes.config)?;
        }
        Ok(changes)
    });
    let changes = work.await.map_err(ServeError::Task).map_err(ReloadError::Apply).flatten()?;
    if !changes.taken.is_empty() {
        running.settings.send_modify(|wire| taken::wire(wire, &changes.config));
        running.live.config.send_replace(Arc::new(changes.config.clone()));
    }
    Ok(changes)
}

/// Says what became of it; the last word is for `systemctl status`.
fn tell(changes: &Changes) -> String {
    for change in &changes.taken {
        tracing::info!(key = change.key, from = %change.running, to = %change.read, "configuration: taken up");
    }
    for change in &changes.waiting {
        tracing::warn!(
            key = change.key, running = %change.running, configured = %change.read,
            "configuration: needs a restart"
        );
    }
    tracing::info!(taken = changes.taken.len(), waiting = changes.waiting.len(), "configuration: read again");
    match changes.waiting.as_slice() {
        [] => "Serving".into(),
        waiting => {
            let keys: Vec<&str> = waiting.iter().map(|change| change.key).collect();
            format!("Serving; a restart is needed for {}", keys.join(", "))
        }
    }
}
