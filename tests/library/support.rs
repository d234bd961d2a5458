//! A simulated server in this process, a client to ask it, and a log of what handlers saw.

use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, Instant};

use anweddol::client::{self, ClientConfig, ClientError};
use anweddol::facade::{Machines, Server, ServerBuilder, Simulation, Virtualization};
use anweddol::guest::fake::{FakeForwarder, FakeShell};
use anweddol::hypervisor::fake::{FakeHypervisor, FakeWorld, Options};
use anweddol::model::{Container, DEFAULT_NAMESPACE};
use anweddol::store::records;
use anweddol::wire::keys::Backend;
use anweddol::wire::{CREATE, DESTROY, PrivateKey, Request, Response};
use serde_json::{Map, Value, json};
use tempfile::TempDir;

static VECTORS: LazyLock<Value> =
    LazyLock::new(|| serde_json::from_str(include_str!("../wire/vectors.json")).expect("vectors.json"));

/// A documented key pair, which need not be made.
pub(crate) fn key(who: &str) -> Arc<PrivateKey> {
    let pem = VECTORS.pointer(&format!("/{who}/private_pem")).and_then(Value::as_str).expect(who);
    Arc::new(PrivateKey::from_pem(pem, Backend::ConstantTime).expect(who))
}

/// Quick machines.
pub(crate) const QUICK: Simulation = Simulation { boot: Duration::from_millis(20), fail: 0.0 };

pub(crate) fn builder(dir: &TempDir) -> ServerBuilder {
    Server::builder()
        .virtualization(Virtualization::Simulated(QUICK))
        .state_dir(dir.path().join("state"))
        .bind_address([127, 0, 0, 1].into())
        .listen_port(0)
        .rsa_keys(key("server"))
}

/// Machines of a world that a test can look at.
pub(crate) fn machines() -> (Arc<FakeWorld>, Machines) {
    let world = FakeWorld::new(Options { boot: QUICK.boot, ..Options::default() });
    let machines = Machines {
        hypervisor: Arc::new(FakeHypervisor::new(world.clone())),
        shell: Arc::new(FakeShell::new(world.clone())),
        forwarder: Arc::new(FakeForwarder::new(world.clone())),
        addressed: false,
    };
    (world, machines)
}

/// What handlers saw, in order.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    pub(crate) fn add(&self, line: impl Into<String>) {
        self.0.lock().unwrap().push(line.into());
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }

    pub(crate) fn count(&self, line: &str) -> usize {
        self.lines().iter().filter(|seen| *seen == line).count()
    }

    pub(crate) fn until(&self, line: &str, times: usize) {
        until(&format!("{times} x {line} in {:?}", self.lines()), || self.count(line) >= times);
    }
}

/// Waits for a condition; a minute is far more than anything here takes.
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !holds() {
        assert!(Instant::now() < deadline, "never came: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub(crate) struct Bench {
    pub(crate) server: Server,
    pub(crate) log: Log,
    pub(crate) dir: TempDir,
}

impl Bench {
    /// A server that is not started yet.
    pub(crate) fn new(change: impl FnOnce(ServerBuilder) -> ServerBuilder) -> Bench {
        Bench::on(tempfile::tempdir().unwrap(), change)
    }

    /// In a directory.
    pub(crate) fn on(dir: TempDir, change: impl FnOnce(ServerBuilder) -> ServerBuilder) -> Bench {
        let server = change(builder(&dir)).build().unwrap();
        Bench { server, log: Log::default(), dir }
    }

    pub(crate) fn ask(&self, request: &Request) -> Result<Response, ClientError> {
        ask(&self.server.local_addr().expect("it runs").to_string(), request)
    }

    /// CREATE, granted: what it says.
    pub(crate) fn create(&self) -> Map<String, Value> {
        let response = self.ask(&Request::bare(CREATE)).unwrap();
        assert!(response.success, "{response:?}");
        response.data
    }

    pub(crate) fn destroy(&self, granted: &Map<String, Value>) {
        let response = self.ask(&destroy(granted)).unwrap();
        assert!(response.success, "{response:?}");
    }

    pub(crate) fn containers(&self) -> Vec<Container> {
        let store = self.server.database().expect("it runs");
        records::list(&*store, DEFAULT_NAMESPACE).unwrap().into_iter().map(|read| read.object).collect()
    }

    /// Waits until nothing of any container is left.
    pub(crate) fn until_empty(&self) {
        until("no container", || self.containers().is_empty());
        assert_eq!(self.server.virtualization().unwrap().list().unwrap(), []);
    }
}

pub(crate) fn destroy(granted: &Map<String, Value>) -> Request {
    let pair = json!({"container_uuid": granted["container_uuid"], "client_token": granted["client_token"]});
    Request::new(DESTROY, pair.as_object().unwrap().clone())
}

pub(crate) fn ask(address: &str, request: &Request) -> Result<Response, ClientError> {
    let config = ClientConfig { key: Some(key("client")), ..ClientConfig::default() };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(client::ask(address, request, &config))
}
