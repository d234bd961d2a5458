//! The Debian that boots in the lab.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anweddol::guest::image::{BuildOptions, build};
use anweddol::guest::ssh::{EndpointShell, Exit};

use crate::common::ask::Grant;
use crate::common::{PATIENCE, until};

/// Where the daemon of the package serves.
pub(crate) const ADDRESS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 6150);

/// A Debian; it ends with the test.
pub(crate) struct Host {
    unshare: Child,
    init: String,
}

/// What `prepare.sh` made.
fn prepared(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("package").join(name);
    assert!(path.exists(), "{} is missing: run tests/package/prepare.sh first", path.display());
    path
}

impl Host {
    /// Boots it.
    pub(crate) fn boot() -> Host {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/package/host.sh");
        let unshare = Command::new(script)
            .arg(prepared("debian.tar"))
            .stdout(Stdio::null())
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let children = format!("/proc/{0}/task/{0}/children", unshare.id());
        let mut host = Host { unshare, init: String::new() };
        // The script has children of its own before it becomes the one whose child is process 1.
        host.init = until("systemd", || {
            assert!(host.unshare.try_wait().unwrap().is_none(), "host.sh ended");
            let child = fs::read_to_string(&children).ok()?.split_whitespace().next()?.to_owned();
            let name = fs::read_to_string(format!("/proc/{child}/comm")).ok()?;
            (name.trim() == "systemd").then_some(child)
        });
        until("the end of the boot", || {
            (host.tries("systemctl is-system-running").1.trim() == "running").then_some(())
        });
        host
    }

    /// A file of it, from outside.
    pub(crate) fn path(&self, path: &str) -> PathBuf {
        format!("/proc/{}/root{path}", self.init).into()
    }

    /// Runs a shell's command on it: whether it succeeded, and what it said.
    pub(crate) fn tries(&self, command: &str) -> (bool, String) {
        let output = Command::new("nsenter")
            .args(["--target", &self.init, "--mount", "--pid", "--uts", "--ipc", "--cgroup", "--"])
            .args(["sh", "-c", &format!("exec 2>&1; {command}")])
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", "/root")
            .output()
            .unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Runs a command that has to succeed: what it said.
    pub(crate) fn run(&self, command: &str) -> String {
        let (good, said) = self.tries(command);
        assert!(good, "{command}: {said}");
        said
    }

    /// Installs the package, or upgrades to it: what was said.
    pub(crate) fn install(&self, name: &str) -> String {
        fs::copy(prepared(name), self.path("/root/anweddol.deb")).unwrap();
        self.run("dpkg --install /root/anweddol.deb")
    }

    /// Puts the reference image where 'anweddol image build' would.
    pub(crate) fn add_image(&self) {
        let out_dir = self.path("/var/lib/anweddol/images");
        let cache_dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("image-cache");
        build(&BuildOptions { out_dir, cache_dir }, &mut |_| {}).expect("the image, which the suite 'image' builds");
    }

    /// What systemd says of the unit.
    pub(crate) fn unit(&self, property: &str) -> String {
        self.run(&format!("systemctl show --value --property={property} anweddol")).trim().to_owned()
    }

    /// The daemon's log.
    pub(crate) fn log(&self) -> String {
        self.run("journalctl --no-pager --output=cat --unit=anweddol")
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if std::thread::panicking() && !self.init.is_empty() {
            eprintln!("the journal:\n{}", self.tries("journalctl --no-pager --lines=300").1);
        }
        // Its child, process 1 there, ends with it, and all others with that one.
        let _ = self.unshare.kill();
        let _ = self.unshare.wait();
        let _ = Command::new("umount").args(["--lazy", "/run/host"]).status();
        let groups = format!(
            "find /run/cgroup/anweddol-lab-{} -depth -type d -exec rmdir {{}} + 2>/dev/null",
            self.unshare.id()
        );
        until("an empty control group", || {
            Command::new("sh").args(["-c", &groups]).status().ok()?.success().then_some(())
        });
    }
}

/// An open session with the granted login.
pub(crate) async fn log_in(grant: &Grant) -> EndpointShell {
    let (at, password) = ((Ipv4Addr::LOCALHOST, grant.port).into(), grant.password.clone().into());
    EndpointShell::connect_as(at, &grant.username, &password, PATIENCE).await.expect("the granted login")
}

/// Runs a command in a session that has to be there.
pub(crate) async fn execute(session: &mut EndpointShell, command: &str) -> String {
    let output = session.execute(command, PATIENCE).await.unwrap();
    assert_eq!(output.exit, Exit::Status(0), "{command}");
    String::from_utf8(output.stdout).unwrap()
}
