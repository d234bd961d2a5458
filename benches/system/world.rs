//! An operator over a simulated world and a store on the disk, inside this process.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::{Duration, Instant};

use anweddol::api::{Api, Births, Digests, Sealer};
use anweddol::guest::fake::{FakeForwarder, FakeShell};
use anweddol::hypervisor::fake::{self, Call, FakeHypervisor, FakeWorld};
use anweddol::model::{
    Client, ContainerPool, DEFAULT_NAMESPACE, Image, ObjectMeta, Phase, PoolSpec, PoolStatus, Template,
};
use anweddol::operator::{self, Clock, Operator};
use anweddol::store::{self, LocalStore, Store, Txn, records};
use jiff::Timestamp;
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{Result, daemon};

/// Everything but sockets.
pub(crate) struct World {
    pub(crate) api: Arc<Api>,
    pub(crate) store: Arc<LocalStore>,
    pub(crate) world: Arc<FakeWorld>,
    pub(crate) runtime: Runtime,
    births: Arc<Births>,
    quit: CancellationToken,
    working: Option<JoinHandle<()>>,
    dir: TempDir,
}

/// The program's own.
fn clock() -> Clock {
    Arc::new(Timestamp::now)
}

impl World {
    /// With a pool of so many ready members, and the most of it; machines boot at once.
    pub(crate) fn new(ready: u32, most: u32) -> Result<World> {
        World::booting(ready, most, Duration::ZERO)
    }

    /// The same, with machines that take a time to boot.
    pub(crate) fn booting(ready: u32, most: u32, boot: Duration) -> Result<World> {
        let dir = tempfile::tempdir_in(daemon::scratch())?;
        let image = dir.path().join("image.iso");
        std::fs::write(&image, "simulated")?;
        let world = FakeWorld::new(fake::Options { boot, ..fake::Options::default() });
        let store = store::open(&dir.path().join("store"), store::Options::default())?;
        let sealer = Sealer::from_file(&dir.path().join("seal.key"))?;
        let births = Arc::new(Births::new(sealer, Digests::default(), 10_000..=60_000, Arc::new(|_| true)));
        let mut spec = PoolSpec::of(ready, most, Template::of(Image::Iso(image)));
        (spec.refill.max_starting, spec.refill.debounce_milliseconds) = (64, 0);
        let metadata = ObjectMeta::new(DEFAULT_NAMESPACE, "default", Uuid::new_v4(), Timestamp::now());
        let pool = ContainerPool { metadata, spec, status: PoolStatus::default() };
        store.txn(Txn::default().write(&pool)).wait()?;
        let (api, runtime, quit, working) = begin(&store, &births, &world)?;
        let world = World { api, store, world, runtime, births, quit, working: Some(working), dir };
        world.filled(ready)?;
        Ok(world)
    }

    /// Ends in order and starts again, over the same machines: how long the store took to open.
    pub(crate) fn restart(&mut self) -> Result<Duration> {
        self.end();
        self.store.close();
        let begin_at = Instant::now();
        self.store = store::open(&self.dir.path().join("store"), store::Options::default())?;
        let opened = begin_at.elapsed();
        let (api, runtime, quit, working) = begin(&self.store, &self.births, &self.world)?;
        (self.api, self.runtime, self.quit, self.working) = (api, runtime, quit, Some(working));
        Ok(opened)
    }

    /// Lets the operator finish what it is about.
    fn end(&mut self) {
        self.quit.cancel();
        if let Some(Err(error)) = self.working.take().map(|working| self.runtime.block_on(working)) {
            eprintln!("the operator: {error}");
        }
    }

    /// Waits until the pool says that so many are ready, and nothing moves.
    pub(crate) fn filled(&self, ready: u32) -> Result<()> {
        daemon::until(|| {
            let pool = records::get::<ContainerPool>(&*self.store, DEFAULT_NAMESPACE, "default")?;
            Ok(pool.is_some_and(|pool| pool.object.status.ready_replicas == ready).then_some(()))
        })?;
        self.quiet()
    }

    /// Waits until nothing is written for a while.
    pub(crate) fn quiet(&self) -> Result<()> {
        let mut before = 0;
        daemon::until(|| {
            let now = self.store.get("")?.1;
            let quiet = std::mem::replace(&mut before, now) == now;
            std::thread::sleep(Duration::from_millis(100));
            Ok(quiet.then_some(()))
        })
    }

    /// How many passes for containers there were: each looks for its domain once.
    pub(crate) fn passes(&self) -> usize {
        self.world.calls(Call::Find)
    }

    /// Machines that are given to nobody.
    pub(crate) fn ready(&self) -> Result<usize> {
        let all = records::list::<anweddol::model::Container>(&*self.store, DEFAULT_NAMESPACE)?;
        Ok(all.iter().filter(|c| c.object.status.phase == Phase::Ready).count())
    }

    /// One small write.
    pub(crate) async fn write(&self, key: &str) -> Result<()> {
        self.store.txn(Txn::default().put(key, &"value")).await?;
        Ok(())
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.end();
    }
}

/// What serves claims, where it runs, what ends it, and until when it works.
type Begun = (Arc<Api>, Runtime, CancellationToken, JoinHandle<()>);

/// Recovers, and lets the operator work.
fn begin(store: &Arc<LocalStore>, births: &Arc<Births>, world: &Arc<FakeWorld>) -> Result<Begun> {
    let (run, quit) = (Uuid::new_v4(), CancellationToken::new());
    let operator = Operator {
        store: Arc::clone(store) as Arc<dyn Store>,
        hypervisor: Arc::new(FakeHypervisor::new(Arc::clone(world))),
        shell: Arc::new(FakeShell::new(Arc::clone(world))),
        observer: None,
        metrics: Arc::default(),
        forwarder: Arc::new(FakeForwarder::new(Arc::clone(world))),
        births: Arc::clone(births),
        doubts: Arc::default(),
        probes: Arc::default(),
        boots: Arc::default(),
        kept_events: Arc::new(AtomicUsize::new(10_000)),
        clock: clock(),
        instance: Uuid::from_u128(1),
        addressed: false,
        quit: quit.clone(),
    };
    let api = Api::new(Arc::clone(store) as _, Arc::clone(births), clock(), run, DEFAULT_NAMESPACE, "default");
    let api = Arc::new(api.doubting(Arc::clone(&operator.doubts)));
    operator.recover(run)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let working = runtime.spawn(operator::run(Arc::new(operator), operator::RESYNC));
    Ok((api, runtime, quit, working))
}

/// Somebody who asks.
pub(crate) fn client() -> Client {
    Client { ip: std::net::Ipv4Addr::LOCALHOST.into(), id: "1234567".into() }
}
