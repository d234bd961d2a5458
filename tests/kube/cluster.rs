//! A daemon as a cluster, and kubectl as its user.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

use tempfile::{TempDir, tempdir};

use crate::common::daemon::{Daemon, Home, finish, program, stderr, stdout};

pub(crate) struct Cluster {
    dir: TempDir,
    home: Home,
    daemon: Daemon,
}

/// What a command printed, and its exit code.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Cluster {
    /// A daemon whose machines boot at once, with a kubeconfig for its admin.
    pub(crate) fn new() -> Cluster {
        Cluster::at("127.0.0.1")
    }

    /// The same at another address of this host: one that is to be restarted has its own.
    pub(crate) fn at(address: &str) -> Cluster {
        let dir = tempdir().unwrap();
        fs::write(dir.path().join("image.iso"), "an image").unwrap();
        let home = Home::new(dir.path(), "").with_vectors_key().simulated("boot=10ms").at(address);
        let daemon = home.start();
        let cluster = Cluster { dir, home, daemon };
        cluster.user("admin", &["--role", "admin"]);
        cluster
    }

    /// Writes a kubeconfig for another user.
    pub(crate) fn user(&self, name: &str, args: &[&str]) {
        let made = self.anweddol(&[&["kubeconfig", "--name", name], args].concat());
        assert_eq!(made.code, 0, "{made:?}");
        fs::write(self.kubeconfig(name), made.out).unwrap();
    }

    fn kubeconfig(&self, user: &str) -> PathBuf {
        self.dir.path().join(format!("{user}.kubeconfig"))
    }

    /// Our own command line, on the daemon's host.
    pub(crate) fn anweddol(&self, args: &[&str]) -> Said {
        said(finish(program(args).arg("--state").arg(&self.home.state)))
    }

    /// A pool's manifest.
    pub(crate) fn pool(&self, name: &str, replicas: u32) -> String {
        let image = self.dir.path().join("image.iso");
        format!(
            "apiVersion: anweddol.io/v1alpha1\nkind: ContainerPool\nmetadata:\n  name: {name}\n  labels: {{app: {name}}}\nspec:\n  replicas: {replicas}\n  maxContainers: 6\n  template:\n    image: {{iso: {}}}\n",
            image.display()
        )
    }

    /// A file of this cluster's users.
    pub(crate) fn file(&self, name: &str, text: &str) -> String {
        let path = self.dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// A program of Kubernetes as a user.
    pub(crate) fn tool(&self, variable: &str, user: &str, args: &[&str]) -> Command {
        let path = std::env::var_os(variable)
            .unwrap_or_else(|| panic!("{variable} is not set: eval \"$(tests/kube/tools.sh)\" sets it"));
        let mut command = Command::new(path);
        // Nothing of the real user's: neither clusters nor caches.
        command
            .env_clear()
            .env("HOME", self.dir.path())
            .env("TMPDIR", self.dir.path())
            .env("PATH", "/usr/bin:/bin")
            .env("KUBECONFIG", self.kubeconfig(user));
        command.args(args).stdin(Stdio::null());
        command
    }

    /// kubectl as the admin: what it says.
    pub(crate) fn kubectl(&self, args: &[&str]) -> Said {
        self.kubectl_as("admin", args)
    }

    pub(crate) fn kubectl_as(&self, user: &str, args: &[&str]) -> Said {
        self.run("ANWEDDOL_KUBECTL", user, args)
    }

    /// A program of Kubernetes as a user: what it says.
    pub(crate) fn run(&self, variable: &str, user: &str, args: &[&str]) -> Said {
        said(finish(&mut self.tool(variable, user, args)))
    }

    /// kubectl with something to read.
    pub(crate) fn kubectl_with(&self, args: &[&str], input: &str) -> Said {
        let mut command = self.tool("ANWEDDOL_KUBECTL", "admin", args);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        said(child.wait_with_output().unwrap())
    }

    /// A kubectl that goes on; whoever starts it ends it.
    pub(crate) fn kubectl_on(&self, args: &[&str]) -> Child {
        self.tool("ANWEDDOL_KUBECTL", "admin", args).stdout(Stdio::piped()).spawn().unwrap()
    }

    /// The same after a restart of the daemon, at the same address.
    pub(crate) fn restarted(self) -> Cluster {
        let Cluster { dir, home, daemon } = self;
        daemon.stop();
        let kubeconfig = fs::read_to_string(dir.path().join("admin.kubeconfig")).unwrap();
        let address = kubeconfig.split("https://").nth(1).unwrap().split_whitespace().next().unwrap();
        let config = fs::read_to_string(&home.config).unwrap();
        let (host, _) = address.split_once(':').unwrap();
        let config = config.replace(&format!("api_listen: '{host}:0'"), &format!("api_listen: '{address}'"));
        fs::write(&home.config, config).unwrap();
        let daemon = home.start();
        Cluster { dir, home, daemon }
    }

    /// Stops the daemon: everything it wrote to its log.
    pub(crate) fn stop(self) -> Vec<String> {
        self.daemon.stop()
    }

    /// kubectl that has to do what it is told: what it prints.
    pub(crate) fn done(&self, args: &[&str]) -> String {
        self.kubectl(args).done()
    }
}

fn said(output: Output) -> Said {
    Said { code: output.status.code().unwrap_or(-1), out: stdout(&output), err: stderr(&output) }
}

impl Said {
    /// What a command printed that did what it was told.
    pub(crate) fn done(self) -> String {
        assert_eq!(self.code, 0, "{self:?}");
        self.out
    }

    /// What a command said that was refused.
    pub(crate) fn refused(self) -> String {
        assert_ne!(self.code, 0, "{self:?}");
        self.err
    }
}

/// The cells of a table, row by row.
pub(crate) fn cells(table: &str) -> Vec<Vec<&str>> {
    table.lines().map(|line| line.split("   ").map(str::trim).filter(|cell| !cell.is_empty()).collect()).collect()
}
