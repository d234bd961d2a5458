//! Whole connections of the wire protocol: keys, request, answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anweddol::client::{ClientConfig, ask};
use anweddol::wire::{CREATE, Request, STAT};

use crate::Result;
use crate::bare::Bare;
use crate::daemon::{Daemon, Home};
use crate::sample::Sample;
use crate::table::{Row, Table};

/// Connections in all, for each number at once.
const STATS: usize = 640;
const CREATES: usize = 320;
/// STAT and CREATE take turns: how fast a host is changes within seconds.
const TURNS: usize = 2;
const AT_ONCE: [usize; 3] = [1, 8, 64];

/// What many connections needed.
#[derive(Default)]
struct Run {
    times: Vec<Duration>,
    took: Duration,
    /// Of the server, for all.
    cpu: Duration,
}

impl Run {
    fn of(parts: Vec<Run>) -> Run {
        parts.into_iter().fold(Run::default(), |mut all, part| {
            all.times.extend(part.times);
            Run { times: all.times, took: all.took + part.took, cpu: all.cpu + part.cpu }
        })
    }
}

/// STAT, and what its keys cost.
pub(crate) fn stat(table: &mut Table, bare: &Bare) -> Result<()> {
    let home = Home::new("", "")?;
    let daemon = home.start()?;
    for at_once in AT_ONCE {
        let (parts, pairs) = bare.in_turns(|turns| connections(&daemon, bare, STAT, at_once, STATS / turns))?;
        table.row(pairs.row());
        let (p50, cpu) = show(table, "STAT", at_once, Run::of(parts), daemon.rss()?)?;
        if at_once == 1 {
            table.check("p50", p50, 1.3, pairs.both_ends(), "the bare RSA of both ends");
        }
        table.check("server CPU a connection", cpu, 1.3, pairs.cpu, "its own two operations");
    }
    daemon.stop()
}

/// CREATE with a machine that waits already, beside STAT on the same daemon.
pub(crate) fn create(table: &mut Table, bare: &Bare) -> Result<()> {
    let members = u32::try_from(CREATES * AT_ONCE.len())?;
    let home = Home::with_pool(members, members, "boot=0ms")?;
    let daemon = home.start()?;
    home.filled(members)?;
    for at_once in AT_ONCE {
        let (mut stats, mut creates) = (Vec::new(), Vec::new());
        for _ in 0..TURNS {
            stats.push(connections(&daemon, bare, STAT, at_once, CREATES / TURNS)?);
            creates.push(connections(&daemon, bare, CREATE, at_once, CREATES / TURNS)?);
        }
        let (p50, _) = show(table, "warm CREATE", at_once, Run::of(creates), daemon.rss()?)?;
        table.check("p50", p50, 1.5, Sample::of(Run::of(stats).times).p50(), "STAT on the same daemon");
    }
    daemon.stop()
}

/// The middle of the times, and the server's processor time for one of them.
fn show(table: &mut Table, verb: &str, at_once: usize, run: Run, rss: u64) -> Result<(Duration, Duration)> {
    let (name, count) = (format!("{verb}, {at_once} at once"), run.times.len());
    let (times, cpu) = (Sample::of(run.times), run.cpu / u32::try_from(count)?);
    table.row(Row::new(name).times(&times).rate(count, run.took).cpu(cpu).rss(rss));
    Ok((times.p50(), cpu))
}

fn connections(daemon: &Daemon, bare: &Bare, verb: &'static str, at_once: usize, count: usize) -> Result<Run> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    // What is made on first use is no part of it.
    runtime.block_on(asks(daemon, bare, STAT, at_once, at_once))?;
    let (cpu, began) = (daemon.cpu()?, Instant::now());
    let times = runtime.block_on(asks(daemon, bare, verb, at_once, count))?;
    let took = began.elapsed();
    Ok(Run { times, took, cpu: daemon.cpu()? - cpu })
}

async fn asks(daemon: &Daemon, bare: &Bare, verb: &'static str, at_once: usize, count: usize) -> Result<Vec<Duration>> {
    let left = Arc::new(AtomicUsize::new(count));
    let config = Arc::new(ClientConfig { key: Some(Arc::clone(&bare.key)), ..ClientConfig::default() });
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..at_once {
        let (left, config, address) = (Arc::clone(&left), Arc::clone(&config), daemon.address.clone());
        clients.spawn(async move {
            let mut times = Vec::new();
            let next = || left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
            while next().is_ok() {
                let begin = Instant::now();
                let answer = ask(&address, &Request::bare(verb), &config).await?;
                times.push(begin.elapsed());
                if !answer.success {
                    return Err(format!("{verb} was refused: {}", answer.message).into());
                }
            }
            Result::Ok(times)
        });
    }
    let mut all = Vec::with_capacity(count);
    while let Some(times) = clients.join_next().await {
        all.extend(times??);
    }
    Ok(all)
}
