//! One run of a server: the order in which things start and stop.
//!
//! Start: sockets, recovery, passes, `STARTED`, clients. Stop: clients, containers (where they are to go), passes,
//! `STOPPED`, store.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use futures::future::OptionFuture;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use super::dispatch::Dispatcher;
use super::pulse::Pulse;
use super::{Handlers, StopMode};
use crate::api::access_tokens::AccessTokenManager;
use crate::api::plain::Plain;
use crate::api::{Api, Objects, namespaces};
use crate::daemon::{self, DEFAULT_POOL, Live, ServeError};
use crate::hypervisor::Hypervisor;
use crate::keeper::Keeper;
use crate::metrics::{self, Exposition};
use crate::model::{DEFAULT_NAMESPACE, Event, EventKind, ObjectRef};
use crate::operator::queue::Queue;
use crate::operator::{self, Operator};
use crate::server::access::TokenCheck;
use crate::server::asked::Requests;
use crate::server::events::Bus;
use crate::server::gate::Gate;
use crate::server::health::{self, Health, Life};
use crate::server::https::{Authority, Https};
use crate::server::kube::Kube;
use crate::server::local::Local;
use crate::server::tcp::{WireConfig, WireServer};
use crate::server::verbs::{ApiVerbs, Documented};
use crate::server::web::{Web, WebConfig};
use crate::server::{EventSink, Lifecycle};
use crate::store::{LocalStore, Store};
use crate::wire::PrivateKey;

/// How long containers may take to go when a server stops with [`StopMode::Destroy`]. Their end is recorded: the next
/// start goes on with it.
const DESTROY_PATIENCE: Duration = Duration::from_secs(60);
/// How long a server whose store failed may take to stop: whoever waits for a record to change waits in vain.
const FAILED_PATIENCE: Duration = Duration::from_secs(10);
/// How often it is looked whether they are gone.
const DESTROY_POLL: Duration = Duration::from_millis(50);

/// Everything that is there before the first socket.
pub(crate) struct Assembly {
    pub(crate) live: Live,
    pub(crate) wire: WireConfig,
    /// Where the verbs are answered over HTTP.
    pub(crate) web: Option<WebConfig>,
    /// Who is let in, to the ports that face others.
    pub(crate) gate: Arc<Gate>,
    /// Exchanges of keys at the same time.
    pub(crate) key_exchanges: usize,
    pub(crate) health: Option<SocketAddr>,
    /// Whether a request has to bear an access token, now; absent: they are not known.
    pub(crate) access: Option<Arc<AtomicBool>>,
    /// Where the API answers over TLS.
    pub(crate) https: Option<HttpsPlan>,
    /// Where the local API answers.
    pub(crate) socket: Option<PathBuf>,
    /// The directory of manifests.
    pub(crate) manifests: Option<PathBuf>,
    /// Where the state is, for the log and for the doctor.
    pub(crate) state: PathBuf,
    pub(crate) simulated: bool,
    pub(crate) key: Arc<PrivateKey>,
    pub(crate) operator: Operator,
    /// The store, if it is ours to close.
    pub(crate) owned: Option<Arc<LocalStore>>,
}

/// The API over TLS as it is to be.
pub(crate) struct HttpsPlan {
    pub(crate) listen: SocketAddr,
    /// The file of the authority that vouches for it.
    pub(crate) authority: PathBuf,
    /// What clients call it besides.
    pub(crate) names: Vec<String>,
}

/// A server that serves.
pub(crate) struct Running {
    /// The configuration that is in effect: `live.config.subscribe()` follows it.
    pub(crate) live: Live,
    /// How wire clients are served.
    pub(crate) settings: watch::Sender<WireConfig>,
    pub(super) address: SocketAddr,
    pub(super) api: Arc<Api>,
    pub(super) dispatcher: Arc<Dispatcher>,
    pub(super) hypervisor: Arc<dyn Hypervisor>,
    pub(super) store: Arc<dyn Store>,
    pub(super) key: Arc<PrivateKey>,
    pub(super) access_tokens: Option<Arc<AccessTokenManager>>,
    health: Arc<Health>,
    queue: Queue<ObjectRef>,
    /// No new clients.
    stop: CancellationToken,
    /// Those who ask for machines.
    clients: JoinHandle<()>,
    /// The local API and the keeper of manifests.
    writers: TaskTracker,
    /// No new passes.
    quit: DropGuard,
    passes: JoinHandle<()>,
    /// Nothing more to tell.
    hush: DropGuard,
    told: JoinHandle<()>,
    owned: Option<Arc<LocalStore>>,
}

impl Assembly {
    /// Starts, on the runtime that this is called on.
    pub(crate) async fn launch(mut self, handlers: Handlers) -> Result<Running, ServeError> {
        let run = Uuid::new_v4();
        let clock = Arc::clone(&self.operator.clock);
        let dispatcher = Dispatcher::new(handlers.events, Arc::clone(&clock), tokio::runtime::Handle::current());
        self.operator.observer = dispatcher.observer();
        let operator = Arc::new(self.operator);
        let (store, hypervisor) = (Arc::clone(&operator.store), Arc::clone(&operator.hypervisor));
        let asked = Arc::clone(&hypervisor);
        let reachable = Box::new(move || asked.reachable().map_err(|error| error.to_string()));
        let metrics = Arc::clone(&operator.metrics);
        let exposition = Exposition::new(Arc::clone(&metrics), Arc::clone(&store), Arc::clone(&hypervisor));
        let health = Health::new(self.simulated, hypervisor.describe(), reachable, Arc::clone(&store));
        let requests = Requests::new(Arc::clone(&metrics));
        let births = Arc::clone(&operator.births);
        let objects = Arc::new(Objects::new(Arc::clone(&store), Arc::clone(&births), Arc::clone(&clock)));
        let plain = Arc::new(Plain::new(Arc::clone(&store), Arc::clone(&clock), Arc::clone(births.sealer())));
        let sealed = plain.seal().await?;
        if sealed > 0 {
            tracing::info!(sealed, "secrets of a version that kept them as they came are sealed now");
        }
        let api = Api::new(Arc::clone(&store), births, Arc::clone(&clock), run, DEFAULT_NAMESPACE, DEFAULT_POOL);
        let api = Arc::new(api.doubting(Arc::clone(&operator.doubts)).measured(Arc::clone(&metrics)));
        dispatcher.set_api(Arc::clone(&api));
        let mut version = env!("CARGO_PKG_VERSION").to_owned();
        if self.simulated {
            version.push_str(" (simulated)");
            tracing::warn!("SIMULATION: no machine is started, and the ports that are told lead nowhere");
        }
        let events = Arc::clone(&dispatcher) as Arc<dyn EventSink>;
        let lifecycle = Some(Arc::clone(&dispatcher) as Arc<dyn Lifecycle>);
        let documented = ApiVerbs::new(Arc::clone(&api), Arc::clone(&events), lifecycle, version);
        let verbs = handlers.requests.before(Arc::new(Documented(Arc::new(documented))), Arc::clone(&events));
        let tokens = || Arc::new(AccessTokenManager::new(Arc::clone(&store), Arc::clone(&clock)));
        let access_tokens = self.access.as_ref().map(|_| tokens());
        let verbs = match (&access_tokens, self.access) {
            (Some(tokens), Some(required)) => {
                TokenCheck::before(verbs, Arc::clone(tokens), required, Arc::clone(&events))
            }
            _ => verbs,
        };

        // Sockets before recovery: a port that is taken costs nothing.
        let fingerprint = self.key.fingerprint();
        let wire = WireServer::bind(self.wire, Arc::clone(&self.key), Arc::clone(&verbs), Arc::clone(&events)).await?;
        let wire = wire.limited(Arc::clone(&self.gate), Arc::new(Semaphore::new(self.key_exchanges)));
        let wire = wire.telling(Arc::clone(&requests));
        let (address, settings) = (wire.local_addr(), wire.settings());
        let web = match &self.web {
            Some(web) => {
                let (gate, requests) = (Arc::clone(&self.gate), Arc::clone(&requests));
                Some(Web::bind(web, gate, settings.subscribe(), verbs, events, requests).await?)
            }
            None => None,
        };
        let local = self.socket.as_deref().map(Local::bind).transpose()?;
        let https = match &self.https {
            Some(https) => {
                let authority = Authority::open(&https.authority)?;
                Some(Https::bind(https.listen, &authority, &https.names).await?)
            }
            None => None,
        };
        let keeper =
            self.manifests.as_deref().map(|directory| Keeper::new(directory, Arc::clone(&objects))).transpose()?;
        let quit = operator.quit.clone();
        // Whatever fails from here on takes along what was started.
        let guard = quit.clone().drop_guard();
        let (teller, hush) = (Arc::clone(&dispatcher), CancellationToken::new());
        let told = Bus::follow(Arc::clone(&store), hush.clone(), move |event, ended| teller.committed(event, ended));
        let (told, hush) = (tokio::spawn(told), hush.drop_guard());
        tokio::spawn(metrics::records::follow(metrics, Arc::clone(&store), Arc::clone(&clock), quit.clone()));
        let mut health_address = None;
        if let Some(address) = self.health {
            let failed = |source| ServeError::Health { address, source };
            let listener = health::bind(address).await.map_err(failed)?;
            health_address = Some(listener.local_addr().map_err(failed)?);
            tokio::spawn(health::serve(listener, Arc::clone(&health), Arc::new(exposition), quit.clone()));
        }
        let doctor = Arc::new(operator.inventory(Some(self.state.clone())));
        let queue = Queue::new();
        let passes = operator::begin(queue.clone(), operator, operator::RESYNC, run).await?;
        let (stop, writers) = (CancellationToken::new(), TaskTracker::new());
        let contact = https.as_ref().map(Https::contact);
        let server = contact.as_ref().map(|contact| contact.server.clone());
        if local.is_some() || https.is_some() {
            writers.spawn(namespaces::keep(Arc::clone(&plain), Arc::clone(&objects), stop.clone()));
        }
        let kube = Kube::new(&store, objects, Arc::clone(&api), plain, clock, contact, stop.clone());
        let kube = Arc::new(kube.telling(requests));
        if let Some(local) = local {
            writers.spawn(local.serve(Arc::clone(&kube), doctor, stop.clone()));
        }
        if let Some(https) = https {
            writers.spawn(https.serve(kube, self.gate, stop.clone()));
        }
        let (config, apply) = (self.live.config.subscribe(), Arc::clone(&self.live.apply));
        let kept = daemon::keep_pool(config, apply, Arc::clone(&store));
        writers.spawn(stop.clone().run_until_cancelled_owned(kept));
        if let Some(keeper) = keeper {
            writers.spawn(keeper.run(stop.clone()));
        }
        writers.close();

        health.set(Life::Serving);
        tracing::info!(
            listen = %address,
            web = web.as_ref().map(|web| tracing::field::display(web.local_addr())),
            health = health_address.map(tracing::field::display),
            api = server,
            hypervisor = hypervisor.describe(),
            state = %self.state.display(),
            "serving; server key fingerprint {fingerprint}"
        );
        dispatcher.emit(Event::new(EventKind::Started, dispatcher.now()));
        let web = web.map(|web| web.run(stop.clone()));
        let wire = wire.run(stop.clone());
        let clients = tokio::spawn(async move {
            futures::join!(wire, OptionFuture::from(web));
        });
        let (key, owned) = (self.key, self.owned);
        Ok(Running {
            live: self.live,
            settings,
            address,
            api,
            dispatcher,
            hypervisor,
            store,
            key,
            access_tokens,
            health,
            queue,
            stop,
            clients,
            writers,
            quit: guard,
            passes,
            hush,
            told,
            owned,
        })
    }
}

impl Running {
    /// What tells that it lives.
    pub(crate) fn pulse(&self) -> Pulse {
        Pulse { store: Arc::clone(&self.store), queue: self.queue.clone() }
    }

    /// Serves until it is asked to stop, or until its store takes no more writes.
    ///
    /// A store that failed is not mended while it is open, and a daemon that can record nothing must do nothing. So it
    /// ends with an error, machines as they are, for whoever supervises it to start it again: that start finds
    /// everything that was told, or says what is wrong with the disk. Kept by
    /// `a_store_that_fails_ends_the_daemon_with_an_error_and_the_next_start_goes_on` (tests/daemon).
    pub(crate) async fn over(&self, asked: &CancellationToken) -> Result<(), ServeError> {
        let Some(store) = &self.owned else {
            asked.cancelled().await;
            return Ok(());
        };
        let reason = tokio::select! {
            () = asked.cancelled() => return Ok(()),
            reason = store.failed() => reason,
        };
        tracing::error!(reason, "the store failed; stopping, machines live on");
        self.health.store_failed(reason.clone());
        Err(ServeError::StoreFailed { reason })
    }

    /// Stops in a mode, once it is over: after a failure no container is ended, since its end could not be recorded.
    pub(crate) async fn end(self, over: Result<(), ServeError>, mode: StopMode) -> Result<(), ServeError> {
        let Err(error) = over else { return self.stop(mode).await };
        match timeout(FAILED_PATIENCE, self.stop(StopMode::Drain)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(error = crate::error_chain(&error), "stop"),
            Err(_) => tracing::warn!("something still waits for the store; it is left behind"),
        }
        Err(error)
    }

    /// Stops, and returns when it has.
    async fn stop(self, mode: StopMode) -> Result<(), ServeError> {
        self.health.set(Life::Stopping);
        self.stop.cancel();
        self.writers.wait().await;
        match mode {
            StopMode::Drain => {}
            StopMode::Destroy => self.destroy().await,
        }
        self.clients.await?;
        drop(self.quit);
        self.passes.await?;
        drop(self.hush);
        self.told.await?;
        self.dispatcher.stopped().await;
        if let Some(store) = self.owned {
            tokio::task::spawn_blocking(move || store.close()).await?;
        }
        Ok(())
    }

    /// Ends every container, those too that a client which is still served is about to get.
    async fn destroy(&self) {
        let deadline = Instant::now() + DESTROY_PATIENCE;
        loop {
            let last = self.clients.is_finished();
            match self.api.end_all().await {
                Ok(0) if last => return,
                Ok(left) if Instant::now() > deadline => {
                    tracing::warn!(left, "containers are not gone yet; the next start goes on with it");
                    return;
                }
                Ok(_) => sleep(DESTROY_POLL).await,
                Err(error) => {
                    tracing::error!(error = crate::error_chain(&error), "containers cannot be destroyed");
                    return;
                }
            }
        }
    }
}
