//! Real guests, in the lab: what a machine costs that has to boot, one that waits, and the end of one.

use std::path::Path;
use std::time::{Duration, Instant};

use anweddol::client::{ClientConfig, ask};
use anweddol::guest::image::{BuildOptions, build};
use anweddol::wire::{CREATE, DESTROY, Request, Response};
use jiff::Timestamp;
use serde_json::{Map, Value};

use crate::Result;
use crate::bare::Bare;
use crate::daemon::{Daemon, Home, scratch, until};
use crate::sample::Sample;
use crate::table::{Row, Table};

/// Machines one after the other; a guest boots for seconds.
const MACHINES: usize = 5;

/// Cold, warm, gone.
pub(crate) fn guests(table: &mut Table, bare: &Bare) -> Result<()> {
    let mode = std::env::var("ANWEDDOL_LAB").map_err(|_| "real guests are measured in tests/lab/run.sh")?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let cold = Home::real(&config(&mode, 0)?)?;
    let daemon = cold.start()?;
    let (mut created, mut destroyed) = (Vec::new(), Vec::new());
    let mut stages: [Vec<Duration>; 3] = Default::default();
    for _ in 0..MACHINES {
        let (granted, took) = runtime.block_on(timed(&daemon, bare, Request::bare(CREATE)))?;
        created.push(took);
        for (stage, took) in stages.iter_mut().zip(stages_of(&cold, &granted)?) {
            stage.push(took);
        }
        destroyed.push(runtime.block_on(timed(&daemon, bare, pair(&granted)))?.1);
    }
    table.row(Row::new(format!("cold CREATE, real guest ({mode})")).times(&Sample::of(created)).rss(daemon.rss()?));
    for (name, times) in ["  recorded to started", "  started to ready", "  ready to bound"].iter().zip(stages) {
        table.row(Row::new(*name).times(&Sample::of(times)));
    }
    table.row(Row::new("DESTROY, real guest").times(&Sample::of(destroyed)));
    daemon.stop()?;

    let warm = Home::real(&config(&mode, 1)?)?;
    let daemon = warm.start()?;
    let mut created = Vec::new();
    for _ in 0..MACHINES {
        warm.filled(1)?;
        let (granted, took) = runtime.block_on(timed(&daemon, bare, Request::bare(CREATE)))?;
        created.push(took);
        runtime.block_on(timed(&daemon, bare, pair(&granted)))?;
    }
    table.row(Row::new("warm CREATE, real guest").times(&Sample::of(created)));
    // The pool's own machine goes with the lab.
    daemon.stop()
}

fn config(mode: &str, warm: u32) -> Result<String> {
    let options = BuildOptions { out_dir: Path::new("/run/image").into(), cache_dir: scratch().join("image-cache") };
    let image = build(&options, &mut |_| {})?;
    let (kernel, initrd) = (image.kernel.path.display(), image.initrd.path.display());
    Ok(format!(
        "hypervisor: {{mode: {mode}}}\n\
         container: {{image: {{kernel: {{path: {kernel}, initrd: {initrd}}}}}, warm: {warm}, \
         max_allowed_running_containers: 2}}"
    ))
}

async fn timed(daemon: &Daemon, bare: &Bare, request: Request) -> Result<(Response, Duration)> {
    let config = ClientConfig { key: Some(bare.key.clone()), ..ClientConfig::default() };
    let begin = Instant::now();
    let answer = ask(&daemon.address, &request, &config).await?;
    if answer.success { Ok((answer, begin.elapsed())) } else { Err(answer.message.into()) }
}

/// What ends a machine.
fn pair(granted: &Response) -> Request {
    let part = |name: &str| (name.to_owned(), granted.data.get(name).cloned().unwrap_or_default());
    Request::new(DESTROY, Map::from_iter([part("container_uuid"), part("client_token")]))
}

/// From its record to its domain, from there until it was ready, from there until it was its client's.
fn stages_of(home: &Home, granted: &Response) -> Result<[Duration; 3]> {
    let name = granted.data.get("container_uuid").and_then(Value::as_str).ok_or("no container")?;
    let path = format!("/apis/anweddol.io/v1alpha1/namespaces/default/containers/{name}");
    let container: Value = until(|| Ok(serde_json::from_slice(&home.api().get(&path)?)?))?;
    let at = |pointer: &str| -> Result<Timestamp> {
        let text = container.pointer(pointer).and_then(Value::as_str).ok_or_else(|| format!("no {pointer}"))?;
        Ok(text.parse()?)
    };
    let times =
        [at("/metadata/creationTimestamp")?, at("/status/startedAt")?, at("/status/readyAt")?, at("/status/boundAt")?];
    Ok([0, 1, 2].map(|stage| times[stage + 1].duration_since(times[stage]).unsigned_abs()))
}
