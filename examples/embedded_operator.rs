//! An operator in another program: a pool and a claim, without server and wire protocol.
//!
//! `cargo run --example embedded_operator [-- --libvirt STATE_DIR]`; it ends by itself, with `--once` or without.

mod common;

use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anweddol::api::{Api, Births, Digests, Sealer};
use anweddol::facade::{Machines, Simulation};
use anweddol::guest::forward::user::UserForwarder;
use anweddol::guest::ssh::SshShell;
use anweddol::hypervisor::libvirt::{Config, Libvirt};
use anweddol::model::{Client, ContainerPool, DEFAULT_NAMESPACE, Image, ObjectMeta, PoolSpec, PoolStatus, Template};
use anweddol::operator::{self, Clock, Operator};
use anweddol::store::{Store, Txn, memory};
use jiff::Timestamp;
use secrecy::ExposeSecret;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

#[tokio::main]
async fn main() -> Result<(), common::Error> {
    let arguments = common::Arguments::read()?;
    let scratch = tempfile::tempdir()?;
    let (machines, image) = match &arguments.libvirt {
        Some(state) => libvirt(state)?,
        None => {
            let image = scratch.path().join("image.iso");
            std::fs::write(&image, "a simulated image\n")?;
            (Simulation::default().machines(), Image::Iso(image))
        }
    };

    // What is wished for: one machine ready, two at most.
    let store: Arc<dyn Store> = memory();
    let pool = ContainerPool {
        metadata: ObjectMeta::new(DEFAULT_NAMESPACE, "mine", Uuid::new_v4(), Timestamp::now()),
        spec: PoolSpec::of(1, 2, Template::of(image)),
        status: PoolStatus::default(),
    };
    store.txn(Txn::default().write(&pool)).await?;

    // Who makes it so.
    let free = Arc::clone(&machines.forwarder);
    let sealer = Sealer::from_file(&scratch.path().join("seal.key"))?;
    let births = Births::new(sealer, Digests::default(), 12_000..=12_099, Arc::new(move |port| free.is_free(port)));
    let (births, clock): (_, Clock) = (Arc::new(births), Arc::new(Timestamp::now));
    let stop = CancellationToken::new();
    let operator = Operator {
        store: Arc::clone(&store),
        hypervisor: machines.hypervisor,
        shell: machines.shell,
        observer: None,
        forwarder: machines.forwarder,
        births: Arc::clone(&births),
        doubts: Arc::default(),
        metrics: Arc::default(),
        probes: Arc::default(),
        boots: Arc::default(),
        kept_events: Arc::new(10_000.into()),
        clock: Arc::clone(&clock),
        instance: Uuid::new_v4(),
        addressed: machines.addressed,
        quit: stop.clone(),
    };
    let working = tokio::spawn(operator::run(Arc::new(operator), operator::RESYNC));

    // A claim on one of them.
    let api = Arc::new(Api::new(store, births, clock, Uuid::new_v4(), DEFAULT_NAMESPACE, "mine"));
    let me = Client { ip: Ipv4Addr::LOCALHOST.into(), id: "12ca17b".into() };
    let granted = api.create(&me).await?;
    println!("claimed {}: {} on port {}", granted.uuid, granted.username, granted.port);
    api.destroy(granted.uuid, granted.client_token.expose_secret()).await?;
    println!("gone");

    while api.end_all().await? > 0 {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    stop.cancel();
    working.await?;
    Ok(())
}

/// libvirt inside this process, with the image that `anweddol image build` made.
fn libvirt(state: &Path) -> Result<(Machines, Image), common::Error> {
    let libvirt = Libvirt::connect(Config::embedded(state.join("embed")))?;
    let machines = Machines {
        shell: Arc::new(SshShell::new(tokio::runtime::Handle::current())),
        forwarder: Arc::new(UserForwarder::new(Arc::clone(&libvirt) as _, Ipv4Addr::LOCALHOST)),
        hypervisor: libvirt,
        addressed: false,
    };
    let dir = state.join("images");
    let image = Image::Kernel { path: dir.join("vmlinuz"), initrd: dir.join("initrd"), cmdline: String::new() };
    Ok((machines, image))
}
