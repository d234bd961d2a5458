//! What a server is made of.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::{Server, ServerError};
use crate::config::{Config, Mode};
use crate::daemon::Simulation;
use crate::guest::{Forwarder, Shell};
use crate::hypervisor::Hypervisor;
use crate::metrics::Metrics;
use crate::metrics::calls::Measured;
use crate::model::{Image, Memory};
use crate::store::Store;
use crate::wire::PrivateKey;

/// What becomes of containers when a server stops. See [`crate::facade`], "What stop means".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StopMode {
    /// They are destroyed, and the stop waits until they are gone: what the original does.
    #[default]
    Destroy,
    /// They live on, and the next start on the same state directory takes them over.
    Drain,
}

/// What runs machines.
#[derive(Clone)]
pub enum Virtualization {
    /// Nothing does: for trying the protocol, for tests, for developing clients.
    Simulated(Simulation),
    /// libvirt: inside this process, of the system, or whichever fits.
    Libvirt(Mode),
    /// Something else.
    Custom(Machines),
}

/// Machines and the ways to them.
#[derive(Clone)]
pub struct Machines {
    /// The domains.
    pub hypervisor: Arc<dyn Hypervisor>,
    /// The guests.
    pub shell: Arc<dyn Shell>,
    /// The ports.
    pub forwarder: Arc<dyn Forwarder>,
    /// Whether machines get addresses of their own (a NAT network) or none (user networking).
    pub addressed: bool,
}

impl Machines {
    /// The same, with every call measured.
    pub(crate) fn measured(self, metrics: &Arc<Metrics>) -> Machines {
        Machines {
            hypervisor: Measured::new(self.hypervisor, metrics),
            shell: Measured::new(self.shell, metrics),
            forwarder: Measured::new(self.forwarder, metrics),
            addressed: self.addressed,
        }
    }
}

/// Where the server's key comes from.
#[derive(Clone)]
pub(crate) enum Keys {
    StateDir,
    File(PathBuf),
    Given(Arc<PrivateKey>),
}

/// Everything that a server is assembled from.
#[derive(Clone)]
pub(crate) struct Plan {
    pub(crate) config: Config,
    /// In place of the configured one.
    pub(crate) image: Option<Image>,
    pub(crate) client_timeout: Duration,
    pub(crate) virtualization: Virtualization,
    pub(crate) database: Option<Arc<dyn Store>>,
    pub(crate) keys: Keys,
    /// Whether access tokens are known at all.
    pub(crate) access_tokens: bool,
}

impl Plan {
    /// What a configuration says.
    pub(crate) fn new(config: Config) -> Self {
        Plan {
            image: None,
            client_timeout: Duration::from_secs(config.server.client_timeout),
            virtualization: Virtualization::Libvirt(config.hypervisor.mode),
            database: None,
            keys: Keys::StateDir,
            access_tokens: true,
            config,
        }
    }
}

/// The parameters of a server, each with its documented default.
#[derive(Clone)]
pub struct ServerBuilder {
    plan: Plan,
    stop_mode: StopMode,
}

impl Default for ServerBuilder {
    fn default() -> Self {
        let mut config = Config::default();
        // A program that wants it says so.
        config.server.health_listen = None;
        config.server.api_listen = None;
        // As its `access_token` was: a parameter for whoever handles it.
        let plan = Plan { access_tokens: false, ..Plan::new(config) };
        ServerBuilder { plan, stop_mode: StopMode::default() }
    }
}

impl ServerBuilder {
    /// The ISO image of containers (`container_iso_path`). Default: what `anweddol image build` made in the state directory.
    pub fn container_iso(self, path: impl Into<PathBuf>) -> Self {
        self.container_image(Image::Iso(path.into()))
    }

    /// The image of containers, an ISO or a kernel with its initial RAM disk.
    pub fn container_image(mut self, image: Image) -> Self {
        self.plan.image = Some(image);
        self
    }

    /// Memory of each container: 256 MiB.
    pub fn container_memory(mut self, memory: Memory) -> Self {
        self.plan.config.container.memory = memory;
        self
    }

    /// Virtual processors of each container: 1.
    pub fn container_vcpus(mut self, vcpus: u32) -> Self {
        self.plan.config.container.vcpus = vcpus;
        self
    }

    /// The most containers at once: 6.
    pub fn max_containers(mut self, most: u32) -> Self {
        self.plan.config.container.max_allowed_running_containers = most;
        self
    }

    /// Containers kept ready before anybody asks: 0.
    pub fn warm_containers(mut self, count: u32) -> Self {
        self.plan.config.container.warm = count;
        self
    }

    /// Where to listen (`bind_address`): all addresses.
    pub fn bind_address(mut self, address: IpAddr) -> Self {
        self.plan.config.server.listen.set_ip(address);
        self
    }

    /// The port to listen on (`listen_port`): 6150; 0 lets the system choose.
    pub fn listen_port(mut self, port: u16) -> Self {
        self.plan.config.server.listen.set_port(port);
        self
    }

    /// How long a client may take for the key exchange and its request together (`client_timeout`), from one second to an
    /// hour: 10 s.
    pub fn client_timeout(mut self, limit: Duration) -> Self {
        self.plan.config.server.client_timeout = limit.as_secs();
        self.plan.client_timeout = limit;
        self
    }

    /// What runs machines (`runtime_virtualization_interface`): libvirt, of the system for root where it answers, in this
    /// process elsewhere.
    pub fn virtualization(mut self, virtualization: Virtualization) -> Self {
        self.plan.virtualization = virtualization;
        self
    }

    /// Where records are (`runtime_database_interface`): a database in the state directory.
    pub fn database(mut self, database: Arc<dyn Store>) -> Self {
        self.plan.database = Some(database);
        self
    }

    /// The server's keys (`runtime_rsa_wrapper`): those in the state directory, made at the first start.
    pub fn rsa_keys(mut self, keys: Arc<PrivateKey>) -> Self {
        self.plan.keys = Keys::Given(keys);
        self
    }

    /// The server's keys, from a file (PEM, PKCS#8) that only its owner may read.
    pub fn rsa_key_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.plan.keys = Keys::File(path.into());
        self
    }

    /// Where records, keys and images live: `/var/lib/anweddol` for root, `~/.local/state/anweddol` for others.
    pub fn state_dir(mut self, directory: impl Into<PathBuf>) -> Self {
        self.plan.config.state_dir = from_here(directory);
        self
    }

    /// Whether `api.sock` in the state directory answers this program's user and root: it does.
    pub fn local_api(mut self, answers: bool) -> Self {
        self.plan.config.server.local_api = answers;
        self
    }

    /// Knows access tokens, made by [`Server::access_tokens`] or on the command line; `required`: no request is handled without one. Default: `access_token` is a parameter like any other,
    /// as it is for the original's `ServerInterface`.
    pub fn access_tokens(mut self, required: bool) -> Self {
        self.plan.config.access.required = required;
        self.plan.access_tokens = true;
        self
    }

    /// A directory of manifests that is kept applied: none.
    pub fn manifests(mut self, directory: impl Into<PathBuf>) -> Self {
        self.plan.config.manifests = Some(from_here(directory));
        self
    }

    /// What becomes of containers at a stop: they are destroyed.
    pub fn stop_mode(mut self, mode: StopMode) -> Self {
        self.stop_mode = mode;
        self
    }

    /// Everything else that the daemon's configuration file can say; what was set before is lost, but for image,
    /// database and keys.
    pub fn config(mut self, config: Config) -> Self {
        let before = self.plan;
        self.plan = Plan { image: before.image, database: before.database, keys: before.keys, ..Plan::new(config) };
        self
    }

    /// A server, not started.
    pub fn build(self) -> Result<Server, ServerError> {
        self.plan.config.check()?;
        Ok(Server::new(self.plan, self.stop_mode))
    }
}

/// A program means its own directory, where a configuration file would mean anybody's.
fn from_here(path: impl Into<PathBuf>) -> PathBuf {
    let path = path.into();
    std::path::absolute(&path).unwrap_or(path)
}
