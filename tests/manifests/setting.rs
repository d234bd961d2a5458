//! A daemon, a directory of manifests, and somebody at the command line.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Output, Stdio};

use serde_json::Value;
use tempfile::{TempDir, tempdir};

use crate::common::daemon::{Daemon, Home, finish, program, stderr, stdout};
use crate::common::until;

pub(crate) struct Setting {
    dir: TempDir,
    home: Home,
}

impl Setting {
    /// With a directory of manifests that the daemon keeps.
    pub(crate) fn kept() -> Setting {
        Setting::with("", true)
    }

    /// Without one.
    pub(crate) fn plain(config: &str) -> Setting {
        Setting::with(config, false)
    }

    fn with(config: &str, kept: bool) -> Setting {
        let dir = tempdir().unwrap();
        fs::create_dir(dir.path().join("manifests")).unwrap();
        fs::write(dir.path().join("image.iso"), "an image").unwrap();
        let mut home = Home::new(dir.path(), config).with_vectors_key().simulated("boot=10ms");
        if kept {
            home = home.arg(format!("--manifests={}", dir.path().join("manifests").display()));
        }
        Setting { dir, home }
    }

    pub(crate) fn start(&self) -> Daemon {
        self.home.start()
    }

    pub(crate) fn home(&self) -> &Home {
        &self.home
    }

    /// A file in the directory of manifests.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join("manifests").join(name)
    }

    /// Elsewhere.
    pub(crate) fn other(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes a manifest as editors do: whole or not at all.
    pub(crate) fn write(&self, name: &str, text: &str) {
        let draft = self.other("draft");
        fs::write(&draft, text).unwrap();
        fs::rename(draft, self.file(name)).unwrap();
    }

    /// A pool's manifest.
    pub(crate) fn pool(&self, name: &str, replicas: u32) -> String {
        let image = self.other("image.iso");
        format!(
            "apiVersion: anweddol.io/v1alpha1\nkind: ContainerPool\nmetadata: {{name: {name}}}\nspec:\n  replicas: {replicas}\n  maxContainers: 4\n  template:\n    image: {{iso: {}}}\n",
            image.display()
        )
    }

    pub(crate) fn run(&self, args: &[&str]) -> Output {
        finish(program(args).arg("--state").arg(&self.home.state))
    }

    pub(crate) fn run_with(&self, args: &[&str], input: &str, env: &[(&str, &str)]) -> Output {
        let mut command = program(args);
        command.arg("--state").arg(&self.home.state).envs(env.iter().copied());
        command.env("TMPDIR", self.dir.path());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    }

    /// Runs a command that has to succeed: its output.
    pub(crate) fn good(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert_eq!(output.status.code(), Some(0), "{args:?}: {}{}", stdout(&output), stderr(&output));
        stdout(&output)
    }

    /// Runs a command that has to fail with this code: what it said.
    pub(crate) fn bad(&self, code: i32, args: &[&str]) -> String {
        let output = self.run(args);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {}{}", stdout(&output), stderr(&output));
        stderr(&output)
    }

    /// An object, if it is there.
    pub(crate) fn object(&self, kind: &str, name: &str) -> Option<Value> {
        let output = self.run(&["get", kind, name, "-o", "json"]);
        output.status.success().then(|| serde_json::from_slice(&output.stdout).unwrap())
    }

    pub(crate) fn pool_now(&self, name: &str) -> Option<Value> {
        self.object("pool", name)
    }

    /// Waits until a pool is so.
    pub(crate) fn until_pool<T>(&self, what: &str, name: &str, look: impl Fn(&Value) -> Option<T>) -> T {
        until(what, || self.pool_now(name).as_ref().and_then(&look))
    }

    /// Waits until a pool is there with so many replicas.
    pub(crate) fn until_replicas(&self, name: &str, replicas: u32) -> Value {
        let so = |pool: &Value| (pool["spec"]["replicas"] == replicas).then(|| pool.clone());
        self.until_pool(&format!("{replicas} replicas of {name}"), name, so)
    }

    /// Waits until a pool is gone.
    pub(crate) fn until_no_pool(&self, name: &str) {
        until(&format!("no pool {name}"), || self.pool_now(name).is_none().then_some(()));
    }

    /// The events of a type so far.
    pub(crate) fn events(&self, kind: &str) -> Vec<Value> {
        let lines = self.good(&["events", "-o", "json"]);
        let events = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        events.filter(|event| event["type"] == kind).collect()
    }
}
