//! The composition root: the only file that names the adapters, and the order in which things start and stop.
//!
//! Start: state directory, store, keys, hypervisor; then what [`crate::facade`] starts, `READY`. Machines are not part of a
//! daemon's stop: they live on, and the next start takes them over, of another version too (`tests/guest/restart.rs`).
//! Whoever stops it has to leave them alone: `anweddol help serve` says what that means for a unit of systemd.

pub mod checks;
mod instance;
pub mod rebuild;
mod simulation;

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::api::objects::configured::{self, Configured};
use crate::api::{Births, Digests, ImageError, SealError, Sealer};
use crate::config::{self, Config, Mode};
use crate::facade::{Assembly, Handlers, HttpsPlan, Keys, Machines, Plan, StopMode, Virtualization};
use crate::guest::Forwarder;
use crate::guest::fake::{FakeForwarder, FakeShell};
use crate::guest::forward::nft::{NftConfig, NftForwarder, SetUpError};
use crate::guest::forward::user::UserForwarder;
use crate::guest::ssh::SshShell;
use crate::host::local::{self, LocalHost};
use crate::host::{Host, Unlimited};
use crate::hypervisor::fake::{FakeHypervisor, FakeWorld};
use crate::hypervisor::libvirt::{self, Libvirt, NatNetwork};
use crate::hypervisor::{HypervisorError, fake};
use crate::keeper::KeeperError;
use crate::model::{DEFAULT_NAMESPACE, Image, Memory, Network, PoolSpec, Template};
use crate::operator::{Inventory, Operator, PassError};
use crate::plan::checks::machines::Way;
use crate::server::https::{AUTHORITY, HttpsError};
use crate::server::key::{self, KeyFileError};
use crate::server::local::{LocalError, SOCKET};
use crate::server::tcp::{BindError, WireConfig};
use crate::store::records::{self, RecordError};
use crate::store::{self, OpenError, Store, StoreError};
use crate::wire::AccessTokens;

pub use instance::InstanceError;
pub use simulation::Simulation;

/// The pool that the wire protocol's CREATE takes machines from.
pub const DEFAULT_POOL: &str = "default";

/// Why the daemon does not serve.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The state directory cannot be made or written.
    #[error("state directory '{path}' cannot be used: choose another with --state or 'state_dir'")]
    StateDir {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Others than its owner may write to the state directory.
    #[error(
        "state directory '{path}' has mode {mode:04o}, but only its owner may write to it: run 'chmod go-w {path}'"
    )]
    OpenStateDir {
        /// Which.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// There are no records to compare with.
    #[error("there are no records in '{path}': no daemon ever ran there; say where with --state or --config")]
    NoRecords {
        /// Where they would be.
        path: PathBuf,
    },
    /// The server key.
    #[error(transparent)]
    Key(#[from] KeyFileError),
    /// The key of sealed secrets.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// The store cannot be opened.
    #[error("machines are untouched and run on, but the daemon does not serve without its store")]
    Store(#[from] OpenError),
    /// The store could not write while the daemon served.
    #[error(
        "the store failed while it served ({reason}): machines run on, and another start finds everything that was told"
    )]
    StoreFailed {
        /// Why, as the disk said it.
        reason: String,
    },
    /// Records.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// Which installation this is.
    #[error(transparent)]
    Instance(#[from] InstanceError),
    /// The image.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// libvirt.
    #[error(transparent)]
    Hypervisor(#[from] HypervisorError),
    /// How much memory there is for machines.
    #[error("it cannot be read how much memory this host has: set 'host.memory'")]
    Host(#[source] io::Error),
    /// The host lacks what no machine runs without.
    #[error("this host cannot run machines: {what}")]
    Unfit {
        /// Each thing, and what to do about it.
        what: String,
    },
    /// The forwards.
    #[error(transparent)]
    Forwards(#[from] SetUpError),
    /// What an earlier run left.
    #[error("recovery failed")]
    Recovery(#[from] PassError),
    /// The wire port.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The health port.
    #[error("health_listen: cannot listen on {address}: choose another in 'server.health_listen', or 'null' for none")]
    Health {
        /// Where.
        address: std::net::SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The API over TLS.
    #[error(transparent)]
    Https(#[from] HttpsError),
    /// The local API.
    #[error(transparent)]
    Local(#[from] LocalError),
    /// The directory of manifests.
    #[error(transparent)]
    Manifests(#[from] KeeperError),
    /// A task of the daemon died.
    #[error("a task of the daemon died")]
    Task(#[from] tokio::task::JoinError),
}

impl From<StoreError> for ServeError {
    fn from(error: StoreError) -> Self {
        ServeError::Record(error.into())
    }
}

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
pub async fn serve(config: Config, simulate: Option<Simulation>, stop: CancellationToken) -> Result<(), ServeError> {
    let mut plan = Plan::new(config);
    if let Some(simulation) = simulate {
        plan.virtualization = Virtualization::Simulated(simulation);
    }
    let running = assembled(plan).await?.launch(Handlers::default()).await?;
    notify(&[sd_notify::NotifyState::Ready]);
    let over = running.over(&stop).await;
    notify(&[sd_notify::NotifyState::Stopping]);
    running.end(over, StopMode::Drain).await
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
    Ok(Inventory { store, hypervisor, forwarder, instance, clock, state_dir: Some(config.state_dir.clone()) })
}

/// Makes everything that a plan names.
pub(crate) async fn assembled(plan: Plan) -> Result<Assembly, ServeError> {
    let runtime = tokio::runtime::Handle::current();
    tokio::task::spawn_blocking(move || assemble(plan, runtime)).await?
}

fn assemble(mut plan: Plan, runtime: tokio::runtime::Handle) -> Result<Assembly, ServeError> {
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
    // The store first: its lock keeps a second daemon from touching anything else.
    let (store, owned): (Arc<dyn Store>, _) = match plan.database {
        Some(store) => (store, None),
        None => {
            let store = store::open(&store_path(&dir), store::Options::default())?;
            (Arc::clone(&store) as _, Some(store))
        }
    };
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
    let mut template = config.template();
    match plan.image {
        Some(image) => template.image = image,
        None if simulated => template.image = simulated_image(&dir)?,
        None => {}
    }
    // Refused now rather than at the first CREATE, and before a hypervisor is set up for nothing.
    let digests = Digests::default();
    digests.sha256(&template.image)?;
    let host = host(config, matches!(plan.virtualization, Virtualization::Libvirt(_)))?;
    let world = match plan.virtualization {
        Virtualization::Simulated(simulation) => simulation.machines(),
        Virtualization::Libvirt(mode) => {
            checks::refuse_unfit(config, mode, &template.image)?;
            real(config, mode, runtime)?
        }
        Virtualization::Custom(machines) => machines,
    };
    let free = Arc::clone(&world.forwarder);
    let ports = config.port_forwarding.range.ports();
    let births = Births::new(sealer, digests, ports, Arc::new(move |port| free.is_free(port))).on(host);
    let clock = crate::clock::anchored(&*store)?;
    apply_pool(&*store, config, &template, clock())?;
    let operator = Operator {
        store,
        hypervisor: world.hypervisor,
        shell: world.shell,
        observer: None,
        forwarder: world.forwarder,
        births: Arc::new(births),
        doubts: Arc::default(),
        probes: Arc::default(),
        kept_events: config.events.keep,
        clock,
        instance,
        addressed: world.addressed,
        quit: CancellationToken::new(),
    };
    let mut wire = WireConfig::new(config.server.listen);
    wire.client_timeout = plan.client_timeout;
    wire.max_connections = config.server.max_connections;
    let access = plan.access_tokens.then_some(config.access.required);
    if access.is_some() {
        wire.access_tokens = AccessTokens::Enabled;
    }
    let (health, state) = (config.server.health_listen, config.state_dir.clone());
    let (socket, manifests) = (config.server.local_api.then_some(socket), config.manifests.clone());
    let names = config.server.api_names.clone();
    let https = config.server.api_listen.map(|listen| HttpsPlan { listen, authority, names });
    Ok(Assembly { wire, health, access, https, socket, manifests, state, simulated, key, operator, owned })
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

/// The limits of this host, for machines that are real; others have only those that are written.
fn host(config: &Config, real: bool) -> Result<Arc<dyn Host>, ServeError> {
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
    Ok(Arc::new(LocalHost::new(memory, reserve.map(|reserve| (config.state_dir.clone(), reserve)))))
}

/// Writes the daemon's own pool as the configuration describes it, unless it is so already or somebody else's.
fn apply_pool(store: &dyn Store, config: &Config, template: &Template, now: Timestamp) -> Result<(), ServeError> {
    let container = &config.container;
    let spec = PoolSpec::of(container.warm, container.max_allowed_running_containers, template.clone());
    match configured::apply(store, DEFAULT_NAMESPACE, DEFAULT_POOL, &spec, now)? {
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
