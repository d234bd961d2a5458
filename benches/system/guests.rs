//! Real guests, in the lab: what a cold CREATE adds to what the guest itself needs, by stage; a warm CREATE; a DESTROY.
//!
//! The stages are those of one and the same machine, from the daemon's own log. Beside them stands the same image without any
//! daemon, in turn with them: started by the same call, told by the same word, and tried until the same login is in. On a quiet
//! host what a cold CREATE takes longer than that is what its own stages add; on another one a boot differs from the next by more
//! than all of it, so these are what is judged. Machines come one after the other, since guests that boot at the same time share
//! the processors. Most of all of it is the guest's own; its QEMU's processor time says so whatever else the host does.

use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anweddol::client::{ClientConfig, ask};
use anweddol::guest::forward::nft::{NftConfig, NftForwarder};
use anweddol::guest::forward::user::UserForwarder;
use anweddol::guest::image::{BuildOptions, Built, build};
use anweddol::guest::ssh::EndpointShell;
use anweddol::guest::{Forward, Forwarder};
use anweddol::hypervisor::libvirt::{Config, Libvirt, Mode, NatNetwork};
use anweddol::hypervisor::{DomainSpec, Hypervisor};
use anweddol::model::{DomainType, Egress, Image, Mark, Memory, NetworkSpec, Wake};
use anweddol::wire::{CREATE, DESTROY, Request, Response};
use jiff::Timestamp;
use serde_json::{Map, Value};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::sync::Notify;
use uuid::Uuid;

use crate::Result;
use crate::bare::Bare;
use crate::daemon::{Daemon, Home, cpu, scratch, until};
use crate::sample::Sample;
use crate::table::{Row, Table};

/// Machines one after the other; a guest boots for seconds.
const MACHINES: usize = 7;
/// What a cold CREATE may add, in milliseconds.
const MOST_ADDED: f64 = 300.0;
/// How long a guest may boot on a host that does other things too.
const BOOT: Duration = Duration::from_secs(300);
/// Of the guests without a daemon.
const PORT: u16 = 20_200;

/// What a cold CREATE consists of; each ends where the next one begins.
const STAGES: [&str; 8] = [
    "ask: keys, claim, record",
    "define: the call that starts its domain",
    "address",
    "boot: to the first words of its SSH server",
    "SSH: endpoint is logged in",
    "personalise: the script",
    "personalise: endpoint is out, its user in",
    "publish, bind, answer",
];
/// Those that everybody has who does nothing but log in.
const OWN: std::ops::Range<usize> = 1..5;

/// Alone, cold, warm, gone.
pub(crate) fn guests(table: &mut Table, bare: &Bare) -> Result<()> {
    let mode = std::env::var("ANWEDDOL_LAB").map_err(|_| "real guests are measured in tests/lab/run.sh")?;
    let options = BuildOptions { out_dir: Path::new("/run/image").into(), cache_dir: scratch().join("image-cache") };
    let image = build(&options, &mut |_| {})?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;

    let bench = Bench::open(&mode, &image, &runtime)?;
    let home = Home::real(&config(&mode, &image, 0))?.telling_all();
    let daemon = home.start()?;
    let (mut alone, mut cold, mut gone) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..MACHINES {
        alone.push(bench.alone()?);
        let (machine, granted) = one_cold(&home, &daemon, bare, &runtime)?;
        cold.push(machine);
        gone.push(runtime.block_on(timed(&daemon, bare, pair(&granted)))?.1);
    }
    let (start, all, its) = (sample(&alone, |g| g.start), sample(&alone, |g| g.all), sample(&alone, |g| g.cpu));
    let note = "server CPU of guests is that of their QEMU, from its start to here";
    table.row(Row::new(format!("a guest alone, to a login ({mode})")).times(&all).cpu(its.p50()).note(note));
    table.row(Row::new("  the call that starts it").times(&start));
    let cpu = sample(&cold, |machine| machine.cpu);
    let row = Row::new(format!("cold CREATE, real guest ({mode})")).times(&sample(&cold, |machine| machine.all));
    table.row(row.cpu(cpu.p50()).rss(daemon.rss()?));
    for (index, name) in STAGES.iter().enumerate() {
        table.row(Row::new(format!("  {name}")).times(&sample(&cold, |machine| machine.stages[index])));
    }
    let turns = alone.iter().zip(&cold);
    let longer = Sample::of(turns.map(|(alone, cold)| cold.all.saturating_sub(alone.all)).collect());
    table.row(Row::new("  longer than the guest alone in the same turn").times(&longer));
    let added = sample(&cold, |machine| {
        let own: Duration = machine.stages[OWN].iter().sum();
        machine.all.saturating_sub(own)
    });
    table
        .row(Row::new("  added to what the guest itself needs").times(&added).cpu(cpu.p50().saturating_sub(its.p50())));
    table.check_number("added", added.p50().as_secs_f64() * 1e3, MOST_ADDED, "ms");
    table.row(Row::new("DESTROY, real guest").times(&Sample::of(gone)));
    daemon.stop()?;

    table.row(Row::new("warm CREATE, real guest").times(&warm(&config(&mode, &image, 1), bare, &runtime)?));
    Ok(())
}

fn sample<T>(all: &[T], what: impl Fn(&T) -> Duration) -> Sample {
    Sample::of(all.iter().map(what).collect())
}

fn config(mode: &str, image: &Built, warm: u32) -> String {
    let (kernel, initrd) = (image.kernel.path.display(), image.initrd.path.display());
    format!(
        "hypervisor: {{mode: {mode}}}\n\
         container: {{image: {{kernel: {{path: {kernel}, initrd: {initrd}}}}}, warm: {warm}, \
         max_allowed_running_containers: 2, boot_deadline: {}}}",
        BOOT.as_secs()
    )
}

/// A guest without a daemon.
struct Alone {
    start: Duration,
    all: Duration,
    cpu: Duration,
}

/// What starts guests without a daemon, beside one.
struct Bench<'a> {
    libvirt: Arc<Libvirt>,
    forwarder: Box<dyn Forwarder>,
    /// Whether guests get addresses of their own.
    addressed: bool,
    image: &'a Built,
    runtime: &'a Runtime,
    _dir: TempDir,
}

impl<'a> Bench<'a> {
    fn open(mode: &str, image: &'a Built, runtime: &'a Runtime) -> Result<Bench<'a>> {
        // Short, for the sockets' sake, and open to the user that runs QEMU.
        let dir = tempfile::Builder::new().prefix("a").tempdir_in("/run")?;
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755))?;
        let addressed = mode == "system";
        let (libvirt, forwarder): (_, Box<dyn Forwarder>) = match addressed {
            false => {
                let libvirt = Libvirt::connect(Config::embedded(dir.path().join("v")))?;
                (libvirt.clone(), Box::new(UserForwarder::new(libvirt, Ipv4Addr::UNSPECIFIED)))
            }
            true => {
                // The daemon removes from its own whatever it did not make.
                let network =
                    NatNetwork { name: "bench".into(), bridge: "anwbench".into(), subnet: "192.168.126.0/24".parse()? };
                let mode = Mode::System { uri: "qemu:///system".into(), network: network.clone() };
                let libvirt = Libvirt::connect(Config { mode, ..Config::system() })?;
                let tables = NftConfig { table: "bench".into(), ..NftConfig::new(Ipv4Addr::UNSPECIFIED, network) };
                (libvirt, Box::new(NftForwarder::open(tables)?))
            }
        };
        Ok(Bench { libvirt, forwarder, addressed, image, runtime, _dir: dir })
    }

    /// Boots a guest: from its start until somebody is logged in who does nothing but try.
    fn alone(&self) -> Result<Alone> {
        let Bench { libvirt, forwarder, runtime, .. } = self;
        let spec = spec(self.image);
        let uid = spec.mark.uid;
        let mut wakes = libvirt.wakes();
        let begin = Instant::now();
        libvirt.create(&spec)?;
        let start = begin.elapsed();
        let address = if self.addressed { Some(until(|| Ok(libvirt.address(uid, &spec.mac)?))?) } else { None };
        let forward = Forward { uuid: uid, port: PORT, address, mac: spec.mac.clone(), egress: Egress::None };
        let (at, soon) = (forwarder.admin(&forward)?, Notify::new());
        // Told by the same word as the daemon.
        let told = async {
            while wakes.recv().await.is_ok_and(|wake| wake != Wake::Card(uid)) {}
            soon.notify_one();
            std::future::pending().await
        };
        let connect = EndpointShell::connect_told(at, &soon, BOOT);
        let login = runtime.block_on(async {
            tokio::select! { login = connect => login, () = told => unreachable!("it goes on") }
        })?;
        let (all, cpu) = (begin.elapsed(), cpu(qemu(&uid.to_string())?)?);
        runtime.block_on(login.close());
        forwarder.withdraw(&forward)?;
        libvirt.destroy(&spec.mark)?;
        Ok(Alone { start, all, cpu })
    }
}

/// A machine like those of the daemon.
fn spec(image: &Built) -> DomainSpec {
    let uid = Uuid::new_v4();
    let [a, b, c, ..] = *uid.as_bytes();
    let (path, initrd) = (image.kernel.path.clone(), image.initrd.path.clone());
    DomainSpec {
        mark: Mark { instance: Uuid::from_u128(7), namespace: "default".into(), name: "bench-0".into(), uid },
        mac: format!("52:54:00:{a:02x}:{b:02x}:{c:02x}"),
        image: Image::Kernel { path, initrd, cmdline: String::new() },
        memory: Memory::mebibytes(256),
        vcpus: 1,
        domain_type: DomainType::Auto,
        network: NetworkSpec::default(),
    }
}

/// The number of a machine's QEMU.
fn qemu(uuid: &str) -> Result<u32> {
    let pids = fs::read_dir("/proc")?.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let line = |pid: &u32| fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let mut its = pids.filter(|pid| line(pid).contains("qemu-system") && line(pid).contains(uuid));
    its.next().ok_or_else(|| format!("machine {uuid} has no QEMU").into())
}

/// A machine that was made when somebody asked.
struct Machine {
    stages: [Duration; STAGES.len()],
    all: Duration,
    cpu: Duration,
}

fn one_cold(home: &Home, daemon: &Daemon, bare: &Bare, runtime: &Runtime) -> Result<(Machine, Response)> {
    let begin = Timestamp::now();
    let (granted, all) = runtime.block_on(timed(daemon, bare, Request::bare(CREATE)))?;
    let end = Timestamp::now();
    let name = granted.data.get("container_uuid").and_then(Value::as_str).ok_or("no container")?;
    let cpu = cpu(qemu(name)?)?;
    let stages = stages(home, begin, started(home, name)?, end)?;
    Ok((Machine { stages, all, cpu }, granted))
}

/// When its start was decided, which is written before it is called for.
fn started(home: &Home, name: &str) -> Result<Timestamp> {
    let path = format!("/apis/anweddol.io/v1alpha1/namespaces/default/containers/{name}");
    let container: Value = serde_json::from_slice(&home.api().get(&path)?)?;
    Ok(container["status"]["startedAt"].as_str().ok_or("it was not started")?.parse()?)
}

/// When the log tells of each other stage's end.
fn stages(home: &Home, begin: Timestamp, started: Timestamp, end: Timestamp) -> Result<[Duration; STAGES.len()]> {
    let ends = [
        ("step", "create domain"),
        ("asking", "endpoint"),
        ("a guest answers", "endpoint"),
        ("logged in", "endpoint"),
        ("set up", "endpoint"),
        ("step", "personalise"),
    ];
    let log = home.log()?;
    let lines: Vec<Value> = log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let at = |line: &Value| line["timestamp"].as_str()?.parse::<Timestamp>().ok();
    let mut moments = vec![begin, started];
    for (message, what) in ends {
        let is =
            |fields: &Value| fields["message"] == message && (fields["step"] == what || fields["username"] == what);
        let found = lines.iter().filter(|line| is(&line["fields"])).filter_map(at).find(|at| *at >= begin);
        moments.push(found.ok_or_else(|| format!("no '{message}' of {what} in the log:\n{log}"))?);
    }
    moments.push(end);
    let spans = moments.windows(2).map(|pair| pair[1].duration_since(pair[0]).try_into().unwrap_or_default());
    Ok(spans.collect::<Vec<Duration>>().try_into().map_err(|_| "a stage is missing")?)
}

/// Machines that waited.
fn warm(config: &str, bare: &Bare, runtime: &Runtime) -> Result<Sample> {
    let home = Home::real(config)?;
    let daemon = home.start()?;
    let mut created = Vec::new();
    for _ in 0..MACHINES {
        home.filled(1)?;
        let (granted, took) = runtime.block_on(timed(&daemon, bare, Request::bare(CREATE)))?;
        created.push(took);
        runtime.block_on(timed(&daemon, bare, pair(&granted)))?;
    }
    // The pool's own machine goes with the lab.
    daemon.stop()?;
    Ok(Sample::of(created))
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
