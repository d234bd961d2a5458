//! Claims inside the process: from the call to what is committed, without sockets and keys.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anweddol::api::{Api, Granted};
use anweddol::store::{Change, Store, records};
use futures::StreamExt;
use futures::future::try_join_all;
use secrecy::ExposeSecret;
use tokio::sync::watch;

use crate::Result;
use crate::bare::{self, Bare, Work};
use crate::sample::Sample;
use crate::table::{Row, Table, time};
use crate::world::{World, client};

/// One after the other, between so many at once.
const CLAIMS: usize = 34;
const MEMBERS: u32 = 1_000;
const TOGETHER: usize = 64;
/// How often so many come at once: one time alone is as long as the machine happens to let it be.
const TIMES: usize = 9;
const BURST: usize = 300;
const SUSTAINED: Duration = Duration::from_secs(5);

/// One claim after the other, and several at once, beside one write of the same bytes.
pub(crate) fn claim(table: &mut Table, _: &Bare) -> Result<()> {
    let world = World::new(MEMBERS, MEMBERS)?;
    let bytes = bytes_of_a_claim(&world)?;
    // In turns: a disk is not as fast in one second as in the next.
    let work = Work::of(Sample::of(bare::flushed_writes(bytes, CLAIMS)?).p50());
    let (mut worked, mut writes, mut alone, mut together) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..TIMES {
        worked.extend(work.times(CLAIMS));
        writes.extend(bare::flushed_writes(bytes, CLAIMS)?);
        for _ in 0..CLAIMS {
            // What the operator does after a claim is not waited for by the next client.
            std::thread::sleep(bare::PAUSE);
            alone.push(world.runtime.block_on(grant(&world))?.1);
        }
        world.quiet()?;
        together.push(at_once(&world, TOGETHER)?.1);
        world.quiet()?;
    }
    let (work, write, one, all) = (Sample::of(worked), Sample::of(writes), Sample::of(alone), Sample::of(together));
    let row = Row::new("bare: the processor alone, about as long").times(&work);
    table.row(row.note("its p99 is what this machine adds by itself"));
    let row = Row::new("bare: one flushed write of a claim's bytes").times(&write);
    table.row(row.note(format!("{bytes} bytes appended and synced, in the same directory")));
    table.row(Row::new(format!("warm claim of {MEMBERS} members (in process)")).times(&one));
    table.check("p50", one.p50(), 2.0, write.p50(), "one flushed write");
    // A claim is both.
    let least = work.p99().max(write.p99());
    table.check_above("p99", one.p99(), 5.0, write.p50(), "one flushed write (p50)", least);

    let row = Row::new(format!("{TOGETHER} warm claims at once, until the last")).times(&all).rate(TOGETHER, all.p50());
    table.row(row.note(format!("of {TIMES} times")));
    table.check("p50", all.p50(), 8.0, one.p50(), "one claim");
    Ok(())
}

/// More than the pool has, and as many as it bears.
pub(crate) fn burst(table: &mut Table, _: &Bare) -> Result<()> {
    let world = World::new(BURST as u32, BURST as u32)?;
    let (times, took) = at_once(&world, BURST)?;
    table.row(Row::new(format!("{BURST} warm claims at once")).times(&times).rate(BURST, took));
    drop(world);

    let boot = Duration::from_millis(200);
    let (ready, most) = (BURST as u32 / 3, BURST as u32);
    let world = World::booting(ready, most, boot)?;
    let (times, took) = at_once(&world, BURST)?;
    let row = Row::new(format!("{BURST} claims at once, {ready} of them warm")).times(&times).rate(BURST, took);
    table.row(row.note(format!("all were granted; a machine boots in {}, {} had to", time(boot), most - ready)));
    drop(world);

    let world = World::new(128, 256)?;
    let (count, took) = world.runtime.block_on(sustained(&world))?;
    let row = Row::new("claims and ends, 32 at a time, for seconds").rate(count, took);
    table.row(row.note(format!("the pool keeps 128 ready meanwhile; {} are, at the end", world.ready()?)));
    Ok(())
}

async fn grant(world: &World) -> Result<(Granted, Duration)> {
    let begin = Instant::now();
    let granted = world.api.create(&client()).await?;
    Ok((granted, begin.elapsed()))
}

/// How long each of them took, and all of them together. Clients are connected before they ask: what it takes to begin a
/// task for each is no part of it, as it is none of one claim's time.
fn at_once(world: &World, count: usize) -> Result<(Sample, Duration)> {
    let (api, (go, went)) = (Arc::clone(&world.api), watch::channel(None));
    // A task: this thread would be a third one on their cores, woken by each of them.
    let all = world.runtime.spawn(async move {
        let tasks: Vec<_> = (0..count).map(|_| tokio::spawn(asks(Arc::clone(&api), went.clone()))).collect();
        tokio::time::sleep(bare::PAUSE).await;
        go.send_replace(Some(Instant::now()));
        try_join_all(tasks).await
    });
    let all = world.runtime.block_on(all)??;
    let times = all.into_iter().collect::<Result<Vec<Duration>>>()?;
    let last = times.iter().copied().max().unwrap_or_default();
    Ok((Sample::of(times), last))
}

/// How long after the word a client has its container.
async fn asks(api: Arc<Api>, mut went: watch::Receiver<Option<Instant>>) -> Result<Duration> {
    let begin = went.wait_for(Option::is_some).await?.ok_or("no beginning")?;
    api.create(&client()).await?;
    Ok(begin.elapsed())
}

async fn sustained(world: &World) -> Result<(usize, Duration)> {
    let begin = Instant::now();
    let clients = (0..32).map(|_| {
        let api = Arc::clone(&world.api);
        tokio::spawn(async move {
            let mut done = 0;
            while begin.elapsed() < SUSTAINED {
                let granted = api.create(&client()).await?;
                api.destroy(granted.uuid, granted.client_token.expose_secret()).await?;
                done += 1;
            }
            Result::Ok(done)
        })
    });
    let done = try_join_all(clients).await?.into_iter().collect::<Result<Vec<usize>>>()?;
    Ok((done.iter().sum(), begin.elapsed()))
}

/// Of what a claim's transaction writes.
fn bytes_of_a_claim(world: &World) -> Result<usize> {
    let mut changes = world.store.watch("", 0);
    world.runtime.block_on(async {
        world.api.create(&client()).await?;
        while let Some(batch) = changes.next().await {
            let batch = batch?;
            let claims = |change: &Change| change.key().starts_with(&format!("{}containerclaims/", records::REGISTRY));
            if batch.changes.iter().any(claims) {
                return Ok(batch.changes.iter().map(size).sum());
            }
        }
        Err("a claim was not seen".into())
    })
}

fn size(change: &Change) -> usize {
    match change {
        Change::Put { kv, .. } => kv.key.len() + kv.value.len(),
        Change::Delete { prev } => prev.key.len(),
    }
}
