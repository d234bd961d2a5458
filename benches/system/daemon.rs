//! The program itself, as a process of its own.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::Result;
use crate::http::Api;

/// How long anything may take that is waited for.
const PATIENCE: Duration = Duration::from_secs(900);
const POLL: Duration = Duration::from_millis(10);
/// Names another build of the program.
const OTHER: &str = "ANWEDDOL_BENCH_PROGRAM";
/// The kernel counts processor time in hundredths of a second.
const TICK: Duration = Duration::from_millis(10);

/// On a disk like the product's: `/tmp` may be memory, where a flush costs nothing.
pub(crate) fn scratch() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR"))
}

/// Where a daemon lives.
pub(crate) struct Home {
    dir: TempDir,
    /// Arguments after `serve`.
    args: Vec<String>,
    state: &'static str,
    /// What its log tells.
    level: Option<&'static str>,
}

impl Home {
    /// `config` is YAML without `server` and `state_dir`; `settings` are those of the simulation.
    pub(crate) fn new(config: &str, settings: &str) -> Result<Home> {
        let home = Home::below(scratch(), config, "s/simulated")?;
        Ok(Home { args: vec![format!("--simulate={settings}")], ..home })
    }

    /// One of real machines, which need short paths that others may pass through.
    pub(crate) fn real(config: &str) -> Result<Home> {
        let home = Home::below(Path::new("/run"), config, "s")?;
        fs::set_permissions(home.dir.path(), fs::Permissions::from_mode(0o755))?;
        Ok(home)
    }

    fn below(parent: &Path, config: &str, state: &'static str) -> Result<Home> {
        let dir = tempfile::Builder::new().prefix("b").tempdir_in(parent)?;
        let server = "server: {listen: '127.0.0.1:0', health_listen: '127.0.0.1:0', api_listen: null}";
        let text = format!("state_dir: {}\n{server}\n{config}\n", dir.path().join("s").display());
        fs::write(dir.path().join("config.yaml"), text)?;
        Ok(Home { dir, args: vec![], state, level: None })
    }

    /// The same with a log that tells of every step.
    pub(crate) fn telling_all(self) -> Home {
        Home { level: Some("anweddol=debug"), ..self }
    }

    /// What its log tells so far.
    pub(crate) fn log(&self) -> io::Result<String> {
        fs::read_to_string(self.log_file())
    }

    fn log_file(&self) -> PathBuf {
        self.dir.path().join("log")
    }

    /// A pool with so many members ready, and none more, made from a manifest: so many boot at once.
    pub(crate) fn with_pool(ready: u32, most: u32, settings: &str) -> Result<Home> {
        let home = Home::new("port_forwarding: {range: 10000-60000}\nevents: {keep: 1000}", settings)?;
        home.set_pool(ready, most)?;
        Ok(home)
    }

    /// Writes the manifest of its pool.
    pub(crate) fn set_pool(&self, ready: u32, most: u32) -> Result<()> {
        fs::create_dir_all(self.manifests())?;
        let image = self.dir.path().join("image.iso");
        fs::write(&image, "simulated")?;
        let pool = format!(
            "apiVersion: anweddol.io/v1alpha1\nkind: ContainerPool\nmetadata: {{name: default}}\n\
             spec:\n  replicas: {ready}\n  maxContainers: {most}\n  refill: {{maxStarting: 64}}\n  \
             template: {{image: {{iso: {}}}}}\n",
            image.display()
        );
        Ok(fs::write(self.manifests().join("pool.yaml"), pool)?)
    }

    fn manifests(&self) -> PathBuf {
        self.dir.path().join("manifests")
    }

    /// Where its records are.
    pub(crate) fn store(&self) -> PathBuf {
        self.dir.path().join(self.state).join("store")
    }

    /// Its local API.
    pub(crate) fn api(&self) -> Api {
        Api::at(self.dir.path().join("s/api.sock"))
    }

    /// Starts it, and waits until it says that it serves.
    pub(crate) fn start(&self) -> Result<Daemon> {
        let began = Instant::now();
        let log = self.log_file();
        // A file: reading along would be our work on the same cores.
        let mut command = Command::new(program());
        command.args(["serve", "--config"]).arg(self.dir.path().join("config.yaml"));
        command.args(&self.args).stdin(Stdio::null()).stdout(Stdio::null());
        if self.manifests().exists() {
            command.arg("--manifests").arg(self.manifests());
        }
        for name in ["ANWEDDOL_CONFIG", "RUST_LOG", "NOTIFY_SOCKET"] {
            command.env_remove(name);
        }
        command.envs(self.level.map(|level| ("RUST_LOG", level)));
        let child = command.env("ANWEDDOL_LOG", "json").stderr(File::create(&log)?).spawn()?;
        let mut daemon = Daemon { child, address: String::new(), started_in: Duration::ZERO };
        let address = until(|| {
            if let Some(status) = daemon.child.try_wait()? {
                return Err(format!("the daemon ended ({status}): {}", fs::read_to_string(&log)?).into());
            }
            Ok(serving(&fs::read_to_string(&log)?))
        })?;
        daemon.address = address;
        daemon.started_in = began.elapsed();
        Ok(daemon)
    }

    /// Waits until so many members are ready.
    pub(crate) fn filled(&self, ready: u32) -> Result<()> {
        let api = self.api();
        let path = "/apis/anweddol.io/v1alpha1/namespaces/default/containerpools/default";
        until(|| {
            let pool: Value = serde_json::from_slice(&api.get(path)?)?;
            Ok((pool["status"]["readyReplicas"].as_u64() == Some(ready.into())).then_some(()))
        })
    }
}

/// The program of this build, or another one, to compare with.
pub(crate) fn program() -> PathBuf {
    std::env::var_os(OTHER).map_or_else(|| env!("CARGO_BIN_EXE_anweddol").into(), PathBuf::from)
}

/// The address that a daemon serves on, once its log says so.
fn serving(log: &str) -> Option<String> {
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut fields = lines.map(|line| line["fields"].clone());
    let says = fields.find(|fields| fields["message"].as_str().is_some_and(|text| text.starts_with("serving")))?;
    says["listen"].as_str().map(str::to_owned)
}

/// Waits for something that comes by itself.
pub(crate) fn until<T>(mut look: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let begin = Instant::now();
    loop {
        if let Some(found) = look()? {
            return Ok(found);
        }
        if begin.elapsed() > PATIENCE {
            return Err("what was waited for did not come".into());
        }
        std::thread::sleep(POLL);
    }
}

/// The processor time that a process has used.
pub(crate) fn cpu(pid: u32) -> Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // Its name, in parentheses, may have blanks.
    let fields: Vec<&str> = stat.rsplit_once(')').ok_or("no stat")?.1.split_whitespace().skip(11).take(2).collect();
    let ticks = fields.iter().map(|field| field.parse::<u32>()).sum::<std::result::Result<u32, _>>()?;
    Ok(TICK * ticks)
}

/// The resident memory of a process, in bytes.
pub(crate) fn resident(pid: u32) -> Result<u64> {
    memory(pid, "VmRSS:")
}

fn memory(pid: u32, name: &str) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(name)).ok_or("no memory")?;
    Ok(line.trim().trim_end_matches(" kB").trim().parse::<u64>()? * 1024)
}

/// A daemon that serves; ended when dropped, by its number.
pub(crate) struct Daemon {
    child: Child,
    pub(crate) address: String,
    /// From its start until it served.
    pub(crate) started_in: Duration,
}

impl Daemon {
    /// The processor time that it has used.
    pub(crate) fn cpu(&self) -> Result<Duration> {
        cpu(self.child.id())
    }

    /// Its resident memory now, in bytes.
    pub(crate) fn rss(&self) -> Result<u64> {
        resident(self.child.id())
    }

    /// The most that it was.
    pub(crate) fn peak_rss(&self) -> Result<u64> {
        memory(self.child.id(), "VmHWM:")
    }

    /// Ends it in order.
    pub(crate) fn stop(mut self) -> Result<()> {
        kill_process(Pid::from_child(&self.child), Signal::TERM)?;
        let status = self.child.wait()?;
        if status.success() { Ok(()) } else { Err(format!("the daemon ended with {status}").into()) }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
