//! The daemon under test: the product as a library, on a world in another process, in a process of its own that is
//! killed.

use std::io::BufRead;
use std::net::Ipv4Addr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::process::exit;
use std::sync::Arc;

use anweddol::config::Config;
use anweddol::facade::{Machines, Server, StopMode, Virtualization};
use anweddol::model::{Image, Memory};
use anweddol::store::records::EVENTS;
use anweddol::store::{self, Commit, Index, Kv, Options, Store, StoreError, Txn, TxnResult, Watch};
use anweddol::wire::PrivateKey;
use anweddol::wire::keys::Backend;
use futures::FutureExt;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tracing_subscriber::EnvFilter;

use crate::common::daemon::VECTORS;
use crate::points::{Aim, Trap, arm, of_txn, say};
use crate::remote::Remote;

/// The variable that makes this test program a daemon.
pub(crate) const PLAN: &str = "ANWEDDOL_CRASH_DAEMON";

/// How long machines live unless their clients ask for more, in seconds: longer than any history.
pub(crate) const TTL: u32 = 3600;
/// The most that they may ask for.
pub(crate) const MAX_TTL: u32 = 365 * 24 * 3600;

/// How a daemon is started.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Plan {
    pub(crate) state: PathBuf,
    pub(crate) world: PathBuf,
    /// Its history's own: nobody else is given the port that it leaves when it dies.
    pub(crate) address: Ipv4Addr,
    pub(crate) addressed: bool,
    /// Of the configuration's pool.
    pub(crate) image: Image,
    pub(crate) memory: Memory,
    pub(crate) warm: u32,
    pub(crate) most: u32,
    /// Where it dies by itself.
    pub(crate) aim: Option<Aim>,
}

/// What a daemon is asked, one line each.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Order {
    /// All records but the events before this one of them, counted from 0, as one line.
    Records { events_from: usize },
    /// To die there.
    Aim(Aim),
}

/// All records of one revision.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Records {
    pub(crate) revision: u64,
    pub(crate) keys: Vec<(String, Value)>,
}

/// Serves until it is killed, or until nobody listens any more.
pub(crate) fn run(plan: &str) {
    let plan: Plan = serde_json::from_str(plan).unwrap();
    let filter = EnvFilter::new("info,anweddol=debug");
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false).with_writer(std::io::stderr).init();
    let trap = Arc::new(Trap::default());
    trap.aim(plan.aim.clone());
    arm(&trap);
    std::fs::create_dir_all(&plan.state).unwrap();
    let store = store::open(&plan.state.join("store"), Options::default()).unwrap();
    let store: Arc<dyn Store> = Arc::new(Trapped { store, trap: Arc::clone(&trap) });
    let remote = Arc::new(Remote::new(plan.world.clone(), Arc::clone(&trap)));
    let machines = Machines {
        hypervisor: Arc::clone(&remote) as _,
        shell: Arc::clone(&remote) as _,
        forwarder: remote,
        addressed: plan.addressed,
    };
    let pem = VECTORS.pointer("/server/private_pem").and_then(Value::as_str).unwrap();
    let server = Server::builder()
        .config(config(&plan))
        .database(Arc::clone(&store))
        .rsa_keys(Arc::new(PrivateKey::from_pem(pem, Backend::ConstantTime).unwrap()))
        .virtualization(Virtualization::Custom(machines))
        .stop_mode(StopMode::Drain)
        .build()
        .unwrap();
    server.start_background().unwrap();
    say(&format!("ready {}", server.local_addr().unwrap()));
    for line in std::io::stdin().lock().lines() {
        match serde_json::from_str(&line.unwrap()).unwrap() {
            Order::Records { events_from } => {
                let records = Records::of(&*store, events_from);
                say(&format!("records {}", serde_json::to_string(&records).unwrap()));
            }
            Order::Aim(aim) => trap.aim(Some(aim)),
        }
    }
    // The suite is gone.
    exit(0);
}

fn config(plan: &Plan) -> Config {
    let mut config = Config { state_dir: plan.state.clone(), ..Config::default() };
    config.server.listen = (plan.address, 0).into();
    config.server.health_listen = None;
    config.server.api_listen = None;
    config.container.image = Some(plan.image.clone());
    config.container.memory = plan.memory;
    config.container.warm = plan.warm;
    config.container.max_allowed_running_containers = plan.most;
    config.container.ttl = Some(TTL);
    config.container.max_ttl = Some(MAX_TTL);
    // Some are in line whenever it dies.
    config.host.parallel_boots = NonZeroU32::new(3);
    // Few, so that each is used again and again.
    config.port_forwarding.range = "20000-20019".parse().unwrap();
    // The whole log is checked.
    config.events.keep = 1_000_000;
    config
}

impl Records {
    /// What a store holds.
    pub(crate) fn of(store: &dyn Store, events_from: usize) -> Records {
        let (keys, revision) = store.list("").unwrap();
        let first = format!("{EVENTS}{:020}", events_from + 1);
        let known = |kv: &Kv| kv.key.starts_with(EVENTS) && *kv.key < *first;
        let keys = keys.into_iter().filter(|kv| !known(kv));
        let keys = keys.map(|kv| (kv.key.to_string(), serde_json::from_slice(&kv.value).unwrap())).collect();
        Records { revision, keys }
    }
}

/// The product's store, with a point before each transaction is handed over and one before its answer is.
struct Trapped {
    store: Arc<dyn Store>,
    trap: Arc<Trap>,
}

impl Store for Trapped {
    fn get(&self, key: &str) -> Result<(Option<Kv>, u64), StoreError> {
        self.store.get(key)
    }

    fn list(&self, prefix: &str) -> Result<(Vec<Kv>, u64), StoreError> {
        self.store.list(prefix)
    }

    fn index(&self) -> Result<Index, StoreError> {
        self.store.index()
    }

    fn txn(&self, txn: Txn) -> Commit {
        let (names, trap) = (of_txn(&txn), Arc::clone(&self.trap));
        names.iter().for_each(|name| trap.before(name));
        let commit = self.store.txn(txn);
        let passing = async move {
            let done = commit.await;
            if let Ok(TxnResult::Committed(_)) = done {
                names.iter().for_each(|name| trap.after(name));
            }
            done
        };
        Commit::new(passing.boxed())
    }

    fn watch(&self, prefix: &str, from: u64) -> Watch {
        self.store.watch(prefix, from)
    }

    fn compact(&self, rev: u64) -> Result<(), StoreError> {
        self.store.compact(rev)
    }
}
