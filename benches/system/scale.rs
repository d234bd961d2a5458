//! Many containers: how they come to be, how a daemon starts with them, and what it costs to have them.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anweddol::hypervisor::fake::FakeDomain;
use anweddol::operator::RESYNC;
use anweddol::store::{self, Contents, Store};
use uuid::Uuid;

use crate::Result;
use crate::bare::Bare;
use crate::daemon::{Daemon, Home, resident, until};
use crate::table::{Row, Table, mebibytes, time};
use crate::world::World;

/// And how often each: what the log's buffer in memory holds at the end, up to 8 MiB, is another part of it each time.
const SIZES: [(u32, usize); 3] = [(100, 1), (1_000, 3), (10_000, 3)];
/// Until threads that nobody needs any more have ended, and caches are as they stay.
const SETTLE: Duration = Duration::from_secs(10);
/// Two looks at everything.
const IDLE: Duration = RESYNC.saturating_mul(2);
/// One of them at least, and what is between two.
const LOOK: Duration = RESYNC.saturating_add(Duration::from_secs(1));
const SAMPLE: Duration = Duration::from_millis(100);

/// One size.
struct Converged {
    containers: u32,
    each: Duration,
    cpu_each: Duration,
    rest: Rest,
    peak: u64,
    bytes: u64,
}

/// Resident memory of a daemon with nothing to do: mostly, and while it looks at everything.
struct Rest {
    mostly: u64,
    most: u64,
}

/// From nothing to so many ready ones.
pub(crate) fn converge(table: &mut Table, _: &Bare) -> Result<()> {
    let mut all = Vec::new();
    for (containers, times) in SIZES {
        let runs = (0..times).map(|_| one_run(containers)).collect::<Result<Vec<Converged>>>()?;
        all.push(one_size(table, runs));
    }
    let [_, small, large] = &all[..] else { return Err("three sizes".into()) };
    table.check("time a container", large.each, 1.2, small.each, "that of 1,000");
    table.check("server CPU a container", large.cpu_each, 1.2, small.cpu_each, "that of 1,000");
    let more = |of: fn(&Converged) -> u64| of(large).saturating_sub(of(small)) as f64;
    let each = |of| (more(of) - more(|c| c.bytes)) / f64::from(large.containers - small.containers);
    let (beyond, looking) = (each(|c| c.rest.mostly), each(|c| c.rest.most));
    let world = World::new(1_000, 1_000)?;
    let simulated = simulated(&world)?;
    let row = Row::new("memory a container, beyond its bytes");
    table.row(row.note(format!(
        "{:.1} KiB at rest, {:.1} while everything is looked at, and {:.1} of them a simulation's",
        beyond / 1024.0,
        looking / 1024.0,
        simulated / 1024.0
    )));
    table.check_number("memory a container, without the simulation's", (beyond - simulated) / 1024.0, 3.0, "KiB");
    let (passes, revisions) = (world.passes() as f64, world.store.get("")?.1 as f64);
    let row = Row::new("passes for 1,000 containers (in process)");
    table.row(row.note(format!("{:.1} passes, {:.1} commits a container", passes / 1e3, revisions / 1e3)));
    Ok(())
}

/// What a simulation keeps of a machine, in bytes: a daemon of real ones has none of it. They are put into a map one by
/// one, as they came to be there.
fn simulated(world: &World) -> Result<f64> {
    const TIMES: usize = 50;
    let own = || resident(std::process::id());
    let mut domains = world.world.domains();
    domains.sort_by_key(|domain| domain.started);
    let before = own()?;
    let copies: Vec<BTreeMap<Uuid, FakeDomain>> = (0..TIMES)
        .map(|_| {
            let mut copy = BTreeMap::new();
            domains.iter().for_each(|domain| drop(copy.insert(domain.uuid, domain.clone())));
            copy
        })
        .collect();
    let taken = own()?.saturating_sub(before);
    Ok(taken as f64 / copies.iter().map(BTreeMap::len).sum::<usize>() as f64)
}

fn one_run(containers: u32) -> Result<Converged> {
    let home = Home::with_pool(0, containers, "boot=0ms")?;
    let daemon = home.start()?;
    let (cpu, begin) = (daemon.cpu()?, Instant::now());
    home.set_pool(containers, containers)?;
    home.filled(containers)?;
    let (took, cpu) = (begin.elapsed(), daemon.cpu()? - cpu);
    std::thread::sleep(SETTLE);
    let (rest, peak) = (rest(&daemon)?, daemon.peak_rss()?);
    daemon.stop()?;
    let bytes = bytes(&home)?;
    Ok(Converged { containers, each: took / containers, cpu_each: cpu / containers, rest, peak, bytes })
}

/// The middle of each number.
fn one_size(table: &mut Table, runs: Vec<Converged>) -> Converged {
    fn middle<N: Ord + Copy>(runs: &[Converged], of: fn(&Converged) -> N) -> N {
        let mut all: Vec<N> = runs.iter().map(of).collect();
        all.sort_unstable();
        all[all.len() / 2]
    }
    let one = Converged {
        containers: middle(&runs, |run| run.containers),
        each: middle(&runs, |run| run.each),
        cpu_each: middle(&runs, |run| run.cpu_each),
        rest: Rest { mostly: middle(&runs, |run| run.rest.mostly), most: middle(&runs, |run| run.rest.most) },
        peak: middle(&runs, |run| run.peak),
        bytes: middle(&runs, |run| run.bytes),
    };
    let took = one.each * one.containers;
    let row = Row::new(format!("{} containers become ready", one.containers)).rate(one.containers as usize, took);
    let resident: Vec<String> = runs.iter().map(|run| mebibytes(run.rest.mostly)).collect();
    let row = row.cpu(one.cpu_each).rss(one.rest.mostly).note(format!(
        "{} in all; at most {} meanwhile; its records are {}",
        time(took),
        mebibytes(one.peak),
        mebibytes(one.bytes)
    ));
    table.row(if runs.len() > 1 { row.note(format!("the middle of {}", resident.join(", "))) } else { row });
    one
}

fn rest(daemon: &Daemon) -> Result<Rest> {
    let begin = Instant::now();
    let mut seen = Vec::new();
    while begin.elapsed() < LOOK {
        seen.push(daemon.rss()?);
        std::thread::sleep(SAMPLE);
    }
    seen.sort_unstable();
    Ok(Rest { mostly: seen[seen.len() / 2], most: seen[seen.len() - 1] })
}

/// Of everything that a stopped daemon's store holds.
fn bytes(home: &Home) -> Result<u64> {
    let store = store::open(&home.store(), store::Options::default())?;
    let contents = Contents::of(&*store as &dyn Store)?;
    store.close();
    Ok(contents.records.iter().map(|kv| (kv.key.len() + kv.value.len()) as u64).sum())
}

/// A start with records, whose machines ran on.
pub(crate) fn restart(table: &mut Table, _: &Bare) -> Result<()> {
    for containers in [1_000, 10_000] {
        let mut world = World::new(containers, containers)?;
        let before = world.passes();
        let begin = Instant::now();
        let opened = world.restart()?;
        let recovered = begin.elapsed();
        // Recovery looks at each of them once, and then its pass does.
        until(|| Ok((world.passes() >= before + 2 * containers as usize).then_some(())))?;
        let row = Row::new(format!("start with {containers} records (in process)"));
        let row = row.rate(containers as usize, begin.elapsed());
        table.row(row.note(format!(
            "store open in {}, recovered in {}, every machine looked at in {}",
            time(opened),
            time(recovered),
            time(begin.elapsed())
        )));
    }
    Ok(())
}

/// A daemon with nothing to do.
pub(crate) fn idle(table: &mut Table, _: &Bare) -> Result<()> {
    let home = Home::with_pool(1_000, 1_000, "boot=0ms")?;
    let daemon = home.start()?;
    home.filled(1_000)?;
    std::thread::sleep(SETTLE);
    let cpu = daemon.cpu()?;
    std::thread::sleep(IDLE);
    let share = (daemon.cpu()? - cpu).as_secs_f64() / IDLE.as_secs_f64() * 100.0;
    let rss = daemon.rss()?;
    table.row(Row::new("idle with 1,000 ready members").rss(rss).note(format!("watched for {}", time(IDLE))));
    table.check_number("processor", share, 1.0, "% of a core");
    table.check_number("resident memory", rss as f64 / f64::from(1 << 20), 60.0, "MiB");
    daemon.stop()
}
