//! The API over HTTP: lists and watches of many objects.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anweddol::store::Store;
use futures::StreamExt;

use crate::Result;
use crate::bare::Bare;
use crate::daemon::Home;
use crate::sample::Sample;
use crate::table::{Row, Table, mebibytes, time};
use crate::world::World;

const OBJECTS: u32 = 10_000;
const LISTS: usize = 10;
const WATCHERS: usize = 1_000;
const CHANGES: usize = 100;
/// How often.
const TIMES: usize = 9;
const CONTAINERS: &str = "/apis/anweddol.io/v1alpha1/namespaces/default/containers";

/// The local API of a daemon.
pub(crate) struct Api(PathBuf);

impl Api {
    pub(crate) fn at(socket: PathBuf) -> Api {
        Api(socket)
    }

    fn ask(&self, path: &str, accept: &str) -> Result<BufReader<UnixStream>> {
        let mut stream = UnixStream::connect(&self.0)?;
        // In the old form, so that the answer's end is the connection's.
        write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\nAccept: {accept}\r\n\r\n")?;
        let mut answer = BufReader::new(stream);
        let mut line = String::new();
        answer.read_line(&mut line)?;
        if !line.contains(" 200 ") {
            return Err(format!("{path}: {line}").into());
        }
        while line.trim() != "" {
            line.clear();
            answer.read_line(&mut line)?;
        }
        Ok(answer)
    }

    /// The whole of an answer.
    pub(crate) fn get(&self, path: &str) -> Result<Vec<u8>> {
        self.get_as(path, "application/json")
    }

    fn get_as(&self, path: &str, accept: &str) -> Result<Vec<u8>> {
        let mut body = Vec::new();
        self.ask(path, accept)?.read_to_end(&mut body)?;
        Ok(body)
    }

    /// Reads so many events of a watch.
    fn watch(&self, path: &str, events: usize) -> Result<()> {
        let mut answer = self.ask(path, "application/json")?;
        let mut line = Vec::new();
        let mut seen = 0;
        while seen < events {
            line.clear();
            if answer.read_until(b'\n', &mut line)? == 0 {
                return Err(format!("a watch ended after {seen} events").into());
            }
            seen += usize::from(line.starts_with(b"{\"type\""));
        }
        Ok(())
    }
}

/// Lists, a watch, and many watchers.
pub(crate) fn http(table: &mut Table, _: &Bare) -> Result<()> {
    let home = Home::with_pool(OBJECTS, OBJECTS, "boot=0ms")?;
    let daemon = home.start()?;
    home.filled(OBJECTS)?;
    let api = home.api();
    let whole = "application/json";
    let table_form = "application/json;as=Table;v=v1;g=meta.k8s.io";
    for (name, accept) in [("list", whole), ("list as a table", table_form)] {
        let (cpu, began) = (daemon.cpu()?, Instant::now());
        let (mut times, mut bytes) = (Vec::new(), 0);
        for _ in 0..LISTS {
            let begin = Instant::now();
            bytes = api.get_as(CONTAINERS, accept)?.len();
            times.push(begin.elapsed());
        }
        let row = Row::new(format!("{name} of {OBJECTS} containers")).times(&Sample::of(times));
        let row = row.rate(LISTS, began.elapsed()).cpu((daemon.cpu()? - cpu) / LISTS as u32).rss(daemon.rss()?);
        table.row(row.note(format!("{} in one answer", mebibytes(bytes as u64))));
    }
    let begin = Instant::now();
    api.watch(&format!("{CONTAINERS}?watch=true"), OBJECTS as usize)?;
    let row = Row::new(format!("watch of {OBJECTS} containers, from nothing"));
    table.row(row.rate(OBJECTS as usize, begin.elapsed()).rss(daemon.rss()?));
    daemon.stop()?;
    watchers(table)
}

/// Many who watch the store, which every watch over HTTP is.
fn watchers(table: &mut Table) -> Result<()> {
    let world = World::new(1, 1)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    // Whether one that is behind sees several changes at once, or each by itself, is the scheduler's whim.
    let times = (0..TIMES).map(|time| runtime.block_on(watched(&world, time))).collect::<Result<Vec<_>>>()?;
    let times = Sample::of(times);
    let each: Duration = times.p50() / (WATCHERS * CHANGES) as u32;
    let row = Row::new(format!("{WATCHERS} watchers of {CHANGES} writes (in process)")).times(&times);
    let note = format!("{} for each change and watcher, on all cores; of {TIMES} times", time(each));
    table.row(row.rate(CHANGES, times.p50()).note(note));
    Ok(())
}

async fn watched(world: &World, time: usize) -> Result<Duration> {
    let prefix = format!("bench/{time}/");
    let watching: Vec<_> = (0..WATCHERS)
        .map(|_| {
            let mut changes = world.store.watch(&prefix, 0);
            tokio::spawn(async move {
                let mut seen = 0;
                while seen < CHANGES {
                    seen += changes.next().await.ok_or("a watch ended")??.changes.len();
                }
                Result::Ok(())
            })
        })
        .collect();
    let begin = Instant::now();
    for number in 0..CHANGES {
        world.write(&format!("{prefix}{number}")).await?;
    }
    for watcher in watching {
        watcher.await??;
    }
    Ok(begin.elapsed())
}
