//! The composition root: the only file that names the adapters, and the order in which things start and stop.
//!
//! Start: state directory, store, keys, hypervisor; then what [`crate::facade`] starts, `READY`. Machines are not part of a
//! daemon's stop: they live on, and the next start takes them over, of another version too (`tests/guest/restart.rs`).
//! Whoever stops it has to leave them alone: `anweddol help serve` says what that means for a unit of systemd.

pub mod checks;
mod error;
mod instance;
mod memory;
pub mod rebuild;
mod reload;
mod simulation;
mod taken;
pub mod teardown;
mod watchdog;

use std::fs;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::api::{Births, Digests, Sealer};
use crate::config::{Config, Mode, WebTls};
use crate::facade::{Assembly, Handlers, HttpsPlan, Keys, Machines, Plan, StopMode, Virtualization};
use crate::guest::Forwarder;
use crate::guest::fake::{FakeForwarder, FakeShell};
use crate::guest::forward::nft::{NftConfig, NftForwarder};
use crate::guest::forward::user::UserForwarder;
use crate::guest::ssh::SshShell;
use crate::hypervisor::fake;
use crate::hypervisor::fake::{FakeHypervisor, FakeWorld};
use crate::hypervisor::libvirt::{self, Libvirt, NatNetwork};
use crate::metrics::Metrics;
use crate::metrics::calls::Measured;
use crate::model::{Image, Network};
use crate::operator::{Boots, Inventory, Operator};
use crate::plan::checks::machines::Way;
use crate::private_file;
use crate::server::descriptors;
use crate::server::gate::Gate;
use crate::server::https::AUTHORITY;
use crate::server::key;
use crate::server::local::SOCKET;
use crate::server::tcp::{self, WireConfig};
use crate::server::web::{Tls, WebConfig};
use crate::store::records;
use crate::store::{self, Store};
use crate::wire::AccessTokens;

pub use error::ServeError;
pub use instance::InstanceError;
pub(crate) use reload::Live;
pub use reload::Reloads;
pub use simulation::Simulation;
pub(crate) use taken::keep_pool;
use taken::{Limits, Taken};

/// The pool that the wire protocol's CREATE takes machines from.
pub const DEFAULT_POOL: &str = "default";
/// How long a daemon may take to stop. What is not done by then the next start goes on with, as after a kill. Whoever
/// supervises it has to wait longer: `the_units_wait_longer_than_the_daemon_takes` (daemon/watchdog) reads it in the
/// unit.
const STOP_PATIENCE: Duration = Duration::from_secs(45);

/// Where the server key is.
pub fn key_path(state_dir: &Path) -> PathBuf {
    state_dir.join("server.pem")
}

/// Where the records are.
pub fn store_path(state_dir: &Path) -> PathBuf {
    state_dir.join("store")
}

/// Where the key of sealed secrets is.
pub fn seal_path(state_dir: &Path) -> PathBuf {
    state_dir.join("seal.key")
}

/// Where the local API answers. A daemon that simulates answers at the same place.
pub fn socket_path(state_dir: &Path) -> PathBuf {
    state_dir.join(SOCKET)
}

/// To be called before there is any thread: libvirt inside this process would write its own log beside ours.
pub fn prepare() {
    libvirt::quiet();
}

/// Serves until `stop` is cancelled, or until the store fails; machines live on.
pub async fn serve(
    config: Config,
    simulate: Option<Simulation>,
    reloads: Reloads,
    stop: CancellationToken,
) -> Result<(), ServeError> {
    descriptors::raise();
    memory::secret();
    let mut plan = Plan::new(config);
    if let Some(simulation) = simulate {
        plan.virtualization = Virtualization::Simulated(simulation);
    }
    let running = assembled(plan).await?.launch(Handlers::default()).await?;
    notify(&[sd_notify::NotifyState::Ready]);
    let watched = watchdog::start(running.pulse());
    let over = tokio::select! {
        over = running.over(&stop) => over,
        never = reload::follow(&running, reloads) => match never {},
    };
    notify(&[sd_notify::NotifyState::Stopping]);
    let ended = timeout(STOP_PATIENCE, running.end(over, StopMode::Drain)).await;
    drop(watched);
    ended.unwrap_or_else(|_| {
        tracing::warn!("something did not end within {} s and is left behind", STOP_PATIENCE.as_secs());
        Ok(())
    })
}

/// What a doctor works with where no daemon runs: the store, which nobody else can open meanwhile, and the hypervisor. It
/// starts nothing, and makes nothing but what a daemon makes when it opens them.
pub fn doctor(config: &Config, runtime: tokio::runtime::Handle) -> Result<Inventory, ServeError> {
    let dir = config.state_dir.join("store");
    // Opening one that is not there would make it.
    let there = fs::exists(&dir).map_err(|source| ServeError::StateDir { path: dir.clone(), source })?;
    if !there {
        return Err(ServeError::NoRecords { path: dir });
    }
    let store: Arc<dyn Store> = store::open(&dir, store::Options::default())?;
    let clock = crate::clock::anchored(&*store)?;
    let instance = records::instance(&*store, Uuid::new_v4())?;
    let Machines { hypervisor, forwarder, .. } = real(config, config.hypervisor.mode, runtime)?;
    let (metrics, state_dir) = (Arc::default(), Some(config.state_dir.clone()));
    Ok(Inventory { store, hypervisor, forwarder, instance, clock, metrics, state_dir })
}

/// Makes everything that a plan names.
pub(crate) async fn assembled(plan: Plan) -> Result<Assembly, ServeError> {
    let runtime = tokio::runtime::Handle::current();
    tokio::task::spawn_blocking(move || assemble(plan, runtime)).await?
}

fn assemble(mut plan: Plan, runtime: tokio::runtime::Handle) -> Result<Assembly, ServeError> {
    let live = Arc::new(plan.config.clone());
    let config = &mut plan.config;
    make_state_dir(&config.state_dir)?;
    // Clients know a server by its key: one that simulates is the same server, and not an impostor's.
    let (key_path, socket) = (key_path(&config.state_dir), socket_path(&config.state_dir));
    let authority = config.state_dir.join(AUTHORITY);
    let simulated = matches!(plan.virtualization, Virtualization::Simulated(_));
    if simulated {
        // Never among the records of real machines.
        config.state_dir.push("simulated");
        make_state_dir(&config.state_dir)?;
    }
    let dir = config.state_dir.clone();
    let metrics = Arc::new(Metrics::new());
    // The store first: its lock keeps a second daemon from touching anything else.
    let (store, owned): (Arc<dyn Store>, _) = match plan.database {
        Some(store) => (store, None),
        None => {
            let options = store::Options { rounds: Some(Arc::clone(&metrics) as _), ..store::Options::default() };
            // sled's own files have the mode that the system gives them: what is around them keeps others out.
            private_file::check_directory(&store_path(&dir))?;
            let store = store::open(&store_path(&dir), options)?;
            (Arc::clone(&store) as _, Some(store))
        }
    };
    let store: Arc<dyn Store> = Measured::new(store, &metrics);
    let instance = match owned {
        Some(_) => instance::of(&*store, &dir)?,
        // Its owner knows whether it is the one from before.
        None => records::instance(&*store, Uuid::new_v4())?,
    };
    let key = match plan.keys {
        Keys::StateDir => Arc::new(key::load_or_generate(&key_path)?),
        Keys::File(path) => Arc::new(key::load(&path)?),
        Keys::Given(key) => key,
    };
    let sealer = Sealer::from_file(&seal_path(&dir))?;
    let image = match plan.image {
        None if simulated => Some(simulated_image(&dir)?),
        given => given,
    };
    // Refused now rather than at the first CREATE, and before a hypervisor is set up for nothing.
    let digests = Digests::default();
    let boots = taken::template(config, image.clone()).image;
    digests.sha256(&boots)?;
    let limits = Limits::new(config, matches!(plan.virtualization, Virtualization::Libvirt(_)))?;
    let world = match plan.virtualization {
        Virtualization::Simulated(simulation) => simulation.machines(),
        Virtualization::Libvirt(mode) => {
            checks::refuse_unfit(config, mode, &boots)?;
            real(config, mode, runtime)?
        }
        Virtualization::Custom(machines) => machines,
    };
    let world = world.measured(&metrics);
    let free = Arc::clone(&world.forwarder);
    let ports = config.port_forwarding.range.ports();
    let births = Births::new(sealer, digests, ports, Arc::new(move |port| free.is_free(port)));
    let births = births.on(Arc::clone(&limits.host) as _);
    let clock = crate::clock::anchored(&*store)?;
    let kept_events = Arc::new(AtomicUsize::new(config.events.keep));
    let boots = Arc::new(Boots::at_most(limits.boots(config)));
    let required = Arc::new(AtomicBool::new(config.access.required));
    let gate = Arc::new(Gate::new(config.ip_filter.clone(), config.rates.clone()));
    let key_exchanges = config.rates.key_exchanges.map_or_else(tcp::processors, |most| most.get() as usize);
    let taken = Taken {
        gate: Arc::clone(&gate),
        store: Arc::clone(&store),
        clock: Arc::clone(&clock),
        image,
        limits,
        kept_events: Arc::clone(&kept_events),
        boots: Arc::clone(&boots),
        required: Arc::clone(&required),
        digests: Digests::default(),
    };
    taken.pool(config)?;
    let live = Live { config: watch::Sender::new(live), apply: Arc::new(move |config| taken.up(config)) };
    let operator = Operator {
        store,
        hypervisor: world.hypervisor,
        shell: world.shell,
        observer: None,
        forwarder: world.forwarder,
        births: Arc::new(births),
        doubts: Arc::default(),
        probes: Arc::default(),
        boots,
        kept_events,
        clock,
        instance,
        addressed: world.addressed,
        metrics,
        quit: CancellationToken::new(),
    };
    let mut wire = WireConfig::new(config.server.listen);
    taken::wire(&mut wire, config);
    wire.client_timeout = plan.client_timeout;
    let access = plan.access_tokens.then_some(required);
    if access.is_some() {
        wire.access_tokens = AccessTokens::Enabled;
    }
    let (health, state) = (config.server.health_listen, config.state_dir.clone());
    let (socket, manifests) = (config.server.local_api.then_some(socket), config.manifests.clone());
    let names = config.server.api_names.clone();
    let web = web(config, &authority);
    let https = config.server.api_listen.map(|listen| HttpsPlan { listen, authority, names });
    Ok(Assembly {
        live,
        wire,
        web,
        gate,
        key_exchanges,
        health,
        access,
        https,
        socket,
        manifests,
        state,
        simulated,
        key,
        operator,
        owned,
    })
}

/// The original's plain web server, if it is wished for.
fn web(config: &Config, authority: &Path) -> Option<WebConfig> {
    let tls = match &config.web.tls {
        None => Tls::Plain,
        Some(WebTls { certificate: Some(certificate), key: Some(key) }) => {
            Tls::Files { certificate: certificate.clone(), key: key.clone() }
        }
        Some(_) => Tls::Own { authority: authority.into(), names: config.server.api_names.clone() },
    };
    config.web.address().map(|listen| WebConfig { listen, tls })
}

/// Tells systemd, where it is there.
fn notify(state: &[sd_notify::NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "systemd is not told");
    }
}

/// Others may pass through it (QEMU runs as another user where the daemon is root), but not list it; what is
/// secret in it has a mode of its own.
pub(crate) fn make_state_dir(dir: &Path) -> Result<(), ServeError> {
    let failed = |source| ServeError::StateDir { path: dir.into(), source };
    fs::DirBuilder::new().recursive(true).mode(0o711).create(dir).map_err(failed)?;
    let mode = fs::metadata(dir).map_err(failed)?.permissions().mode();
    if mode & 0o022 != 0 { Err(ServeError::OpenStateDir { path: dir.into(), mode: mode & 0o7777 }) } else { Ok(()) }
}

fn simulated_image(dir: &Path) -> Result<Image, ServeError> {
    let image = dir.join("simulated.iso");
    fs::write(&image, "a simulated image\n").map_err(|source| ServeError::StateDir { path: image.clone(), source })?;
    Ok(Image::Iso(image))
}

impl Simulation {
    /// Machines of a world of its own.
    pub fn machines(self) -> Machines {
        let options = fake::Options { boot: self.boot, failure_rate: self.fail, ..fake::Options::default() };
        let world = FakeWorld::new(options);
        Machines {
            hypervisor: Arc::new(FakeHypervisor::new(Arc::clone(&world))),
            shell: Arc::new(FakeShell::new(Arc::clone(&world))),
            forwarder: Arc::new(FakeForwarder::new(world)),
            addressed: false,
        }
    }
}

fn real(config: &Config, mode: Mode, runtime: tokio::runtime::Handle) -> Result<Machines, ServeError> {
    let (way, _) = checks::way(config, mode);
    let bind = config.port_forwarding.bind;
    let network = nat(config);
    let libvirt = Libvirt::connect(libvirt_config(config, way))?;
    let addressed = libvirt.network() == Network::Nat;
    let forwarder: Arc<dyn Forwarder> = if addressed {
        Arc::new(NftForwarder::open(NftConfig::new(bind, network))?)
    } else {
        Arc::new(UserForwarder::new(Arc::clone(&libvirt) as _, bind))
    };
    let shell = Arc::new(SshShell::new(runtime));
    Ok(Machines { hypervisor: libvirt, shell, forwarder, addressed })
}

fn nat(config: &Config) -> NatNetwork {
    let hypervisor = &config.hypervisor;
    NatNetwork { name: hypervisor.network.clone(), bridge: hypervisor.bridge.clone(), subnet: hypervisor.subnet }
}

fn libvirt_config(config: &Config, way: Way) -> libvirt::Config {
    let mode = match way {
        Way::System => libvirt::Mode::System { uri: "qemu:///system".into(), network: nat(config) },
        Way::Embedded => libvirt::Mode::Embedded { root: config.state_dir.join("embed") },
    };
    libvirt::Config { mode, disks: config.state_dir.join("disks") }
}
