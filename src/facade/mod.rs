//! The server as a library: what the original calls `ServerInterface`, and what `anweddol serve` is built on.
//!
//! ```no_run
//! use anweddol::facade::{Server, Simulation, Virtualization};
//!
//! let server = Server::builder().virtualization(Virtualization::Simulated(Simulation::default())).build()?;
//! server.on_created_container(|event| async move {
//!     println!("container {} for {}", event.container_instance.uuid(), event.client_instance.ip());
//! })?;
//! server.start()?; // until somebody calls `stop`
//! # Ok::<(), anweddol::facade::ServerError>(())
//! ```
//!
//! ```text
//!            start, start_background                  stop, drop
//! stopped ───────────────────────────► running ───────────────────────► stopped
//!    │ handlers may be set                │ handlers are fixed              StopMode::Destroy: no container is left
//!    └──────────────────────────────◄─────┴── restart ──►                   StopMode::Drain: they live on
//! ```
//!
//! # What stop means
//!
//! The original destroys every container when it stops, and so does this one unless it is told otherwise:
//! [`StopMode::Destroy`] is the library's default. `anweddol serve` uses [`StopMode::Drain`], because a daemon that is
//! updated must not end its users' machines: they live on, and the next start on the same state directory takes
//! them over.
//!
//! # Handlers
//!
//! Each call of a handler is a task of its own on the server's runtime, and the session that it is about waits for it:
//! a slow one delays its own client and nobody else. A panic in one becomes a `RUNTIME_ERROR` event; a container whose
//! `CREATED_CONTAINER` or `CREATED_ENDPOINT_SHELL` handler panicked is withdrawn. Whoever closes the client, the raw
//! socket or the endpoint shell in a handler ends that session at once, with its follow-up events and with nothing left
//! behind. A handler that wants the server to stop calls [`Server::ask_to_stop`].

mod builder;
mod dispatch;
pub mod events;
mod pulse;
mod run;

use std::net::SocketAddr;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use tokio_util::sync::CancellationToken;

pub use crate::daemon::{ServeError, Simulation};
pub(crate) use builder::{Keys, Plan};
pub use builder::{Machines, ServerBuilder, StopMode, Virtualization};
pub(crate) use pulse::Pulse;
pub(crate) use run::{Assembly, HttpsPlan, Running};

use crate::api::Api;
use crate::api::access_tokens::AccessTokenManager;
use crate::config::ConfigError;
use crate::hypervisor::Hypervisor;
use crate::server::ClientInstance;
use crate::server::requests::{IntoReply, RequestHandlers};
use crate::store::Store;
use crate::wire::{PrivateKey, Request};
use dispatch::Dispatcher;
use events::EventHandlers;

/// Why a server does not do something.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// It runs: it cannot be started again, and its handlers are fixed.
    #[error("the server is running: stop it first")]
    Running,
    /// It does not run.
    #[error("the server is not running")]
    NotRunning,
    /// There is no such event.
    #[error("there is no event {number}: the documented ones are 1 (CLIENT) to 12 (UNKNOWN_VERB)")]
    UnknownEvent {
        /// The number given.
        number: u8,
    },
    /// No client could send this verb.
    #[error("'{verb}' is no verb: write one or more capital letters, A to Z (^[A-Z]+$)")]
    Verb {
        /// The verb given.
        verb: String,
    },
    /// A setting cannot be.
    #[error(transparent)]
    Setting(#[from] ConfigError),
    /// It did not start, or failed while it stopped.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// Its runtime cannot be made.
    #[error("no runtime for the server can be made")]
    Runtime(#[source] std::io::Error),
    /// Its thread ended without a word.
    #[error("the server's thread died")]
    Died,
}

/// Everything that is called from outside.
#[derive(Clone, Default)]
pub(crate) struct Handlers {
    pub(crate) events: EventHandlers,
    pub(crate) requests: RequestHandlers,
}

/// What `getRuntimeStatistics` tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RuntimeStatistics {
    /// Whether the server runs. If not, the rest is 0.
    pub is_running: bool,
    /// `RUNTIME_ERROR` events of this run.
    pub recorded_runtime_errors_amount: u64,
    /// Seconds since its start.
    pub uptime: u64,
    /// Containers that could still be given to clients.
    pub available_containers_amount: u32,
}

/// A server in this program, on a thread and a runtime of its own. Dropped while it runs, it stops.
pub struct Server {
    plan: Plan,
    stop_mode: StopMode,
    handlers: Mutex<Handlers>,
    run: Mutex<Option<Run>>,
    changed: Arc<(Mutex<()>, Condvar)>,
}

/// One run, from its start until it is noticed that it is over.
struct Run {
    thread: JoinHandle<Result<(), ServeError>>,
    stop: CancellationToken,
    facts: Facts,
}

/// What a run can be asked for.
#[derive(Clone)]
struct Facts {
    address: SocketAddr,
    api: Arc<Api>,
    dispatcher: Arc<Dispatcher>,
    hypervisor: Arc<dyn Hypervisor>,
    store: Arc<dyn Store>,
    key: Arc<PrivateKey>,
    access_tokens: Option<Arc<AccessTokenManager>>,
}

impl Facts {
    fn of(running: &Running) -> Self {
        Facts {
            address: running.address,
            api: Arc::clone(&running.api),
            dispatcher: Arc::clone(&running.dispatcher),
            hypervisor: Arc::clone(&running.hypervisor),
            store: Arc::clone(&running.store),
            key: Arc::clone(&running.key),
            access_tokens: running.access_tokens.clone(),
        }
    }
}

impl Server {
    /// All defaults, to be changed.
    pub fn builder() -> ServerBuilder {
        ServerBuilder::default()
    }

    pub(crate) fn new(plan: Plan, stop_mode: StopMode) -> Self {
        Server { plan, stop_mode, handlers: Mutex::default(), run: Mutex::default(), changed: Arc::default() }
    }

    /// Starts, and blocks until the server was stopped: by another thread, or by [`Server::ask_to_stop`].
    pub fn start(&self) -> Result<(), ServerError> {
        self.start_background()?;
        self.wait()
    }

    /// Starts, and returns once clients are served: the original's asynchronous start.
    pub fn start_background(&self) -> Result<(), ServerError> {
        let mut run = self.run();
        if run.as_ref().is_some_and(|run| !run.thread.is_finished()) {
            return Err(ServerError::Running);
        }
        let (plan, handlers, mode) = (self.plan.clone(), lock(&self.handlers).clone(), self.stop_mode);
        let (stop, changed) = (CancellationToken::new(), Arc::clone(&self.changed));
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
        let runtime = runtime.map_err(ServerError::Runtime)?;
        let (ready, started) = std::sync::mpsc::channel();
        let asked = stop.clone();
        let serve = async move {
            let running = crate::daemon::assembled(plan).await?.launch(handlers).await?;
            // Whoever started it waits for this.
            ready.send(Facts::of(&running)).ok();
            drop(ready);
            let over = running.over(&asked).await;
            running.end(over, mode).await
        };
        let thread = std::thread::spawn(move || {
            let ended = runtime.block_on(serve);
            // Whatever still blocks has had its time: its work is repeated after the next start.
            runtime.shutdown_timeout(std::time::Duration::from_secs(1));
            drop(lock(&changed.0));
            changed.1.notify_all();
            ended
        });
        match started.recv() {
            Ok(facts) => {
                *run = Some(Run { thread, stop, facts });
                Ok(())
            }
            Err(_) => match thread.join() {
                Ok(Err(error)) => Err(error.into()),
                Ok(Ok(())) | Err(_) => Err(ServerError::Died),
            },
        }
    }

    /// Stops the server and waits until it has: with [`StopMode::Destroy`], until its containers are gone. Not for
    /// handlers, which it waits for: they call [`Server::ask_to_stop`].
    pub fn stop(&self) -> Result<(), ServerError> {
        let run = self.run().take().ok_or(ServerError::NotRunning)?;
        run.stop.cancel();
        run.thread.join().map_err(|_| ServerError::Died)?.map_err(ServerError::Serve)
    }

    /// Has the server stop, and returns at once.
    pub fn ask_to_stop(&self) -> Result<(), ServerError> {
        self.run().as_ref().map(|run| run.stop.cancel()).ok_or(ServerError::NotRunning)
    }

    /// Stops and starts again, and blocks as [`Server::start`] does.
    pub fn restart(&self) -> Result<(), ServerError> {
        self.restart_background()?;
        self.wait()
    }

    /// Stops and starts again, and returns once clients are served.
    pub fn restart_background(&self) -> Result<(), ServerError> {
        self.stop()?;
        self.start_background()
    }

    /// Whether it serves.
    pub fn is_running(&self) -> bool {
        self.facts().is_some()
    }

    /// Where it listens, while it runs; tells the port if the system chose it.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.facts().map(|facts| facts.address)
    }

    /// What runs its machines, while it runs.
    pub fn virtualization(&self) -> Option<Arc<dyn Hypervisor>> {
        self.facts().map(|facts| facts.hypervisor)
    }

    /// Its records, while it runs.
    pub fn database(&self) -> Option<Arc<dyn Store>> {
        self.facts().map(|facts| facts.store)
    }

    /// Its keys, while it runs.
    pub fn rsa_keys(&self) -> Option<Arc<PrivateKey>> {
        self.facts().map(|facts| facts.key)
    }

    /// Its access tokens, while it runs, if it knows any ([`ServerBuilder::access_tokens`]).
    pub fn access_tokens(&self) -> Option<Arc<AccessTokenManager>> {
        self.facts()?.access_tokens
    }

    /// How it is.
    pub fn runtime_statistics(&self) -> RuntimeStatistics {
        let Some(facts) = self.facts() else { return RuntimeStatistics::default() };
        // Records that cannot be read offer nothing.
        let (uptime, available) = facts.api.stat().map_or((0, 0), |stat| (stat.uptime, stat.available));
        RuntimeStatistics {
            is_running: true,
            recorded_runtime_errors_amount: facts.dispatcher.bus.runtime_errors(),
            uptime,
            available_containers_amount: available,
        }
    }

    /// Sets the handler of a verb, documented or not; the last one set wins. It returns a [`crate::wire::Response`], or
    /// answers through the client ([`ClientInstance::send_response`]) and returns nothing; or a `Result` of either. One
    /// that panics or errs is answered with `Internal error`.
    pub fn set_request_handler<F, Fut>(&self, verb: &str, handler: F) -> Result<(), ServerError>
    where
        F: Fn(Arc<ClientInstance>, Request) -> Fut + Send + Sync + 'static,
        Fut: Future<Output: IntoReply> + Send + 'static,
    {
        let mut taken = false;
        self.handlers(|handlers| taken = handlers.requests.set(verb, handler))?;
        if taken { Ok(()) } else { Err(ServerError::Verb { verb: verb.into() }) }
    }

    /// Changes the handlers of a server that does not run.
    fn handlers(&self, change: impl FnOnce(&mut Handlers)) -> Result<(), ServerError> {
        let run = self.run();
        if run.as_ref().is_some_and(|run| !run.thread.is_finished()) {
            return Err(ServerError::Running);
        }
        change(&mut lock(&self.handlers));
        Ok(())
    }

    /// Blocks until the run is over, whoever ended it.
    fn wait(&self) -> Result<(), ServerError> {
        let mut changed = lock(&self.changed.0);
        loop {
            let mut run = self.run();
            let ended = match run.as_ref() {
                // Whoever stopped it has its result.
                None => return Ok(()),
                Some(ended) if ended.thread.is_finished() => run.take(),
                Some(_) => None,
            };
            drop(run);
            if let Some(ended) = ended {
                return ended.thread.join().map_err(|_| ServerError::Died)?.map_err(ServerError::Serve);
            }
            // The thread says it is over a moment before it is.
            let pause = std::time::Duration::from_millis(100);
            changed = self.changed.1.wait_timeout(changed, pause).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn facts(&self) -> Option<Facts> {
        let run = self.run();
        run.as_ref().filter(|run| !run.thread.is_finished()).map(|run| run.facts.clone())
    }

    fn run(&self) -> MutexGuard<'_, Option<Run>> {
        lock(&self.run)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        match self.stop() {
            Ok(()) | Err(ServerError::NotRunning) => {}
            Err(error) => tracing::error!(error = crate::error_chain(&error), "stop"),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
