//! The lab's host: what runs on it, and a daemon's home on it.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anweddol::guest::image::{BuildOptions, Built, build};
use anweddol::guest::ssh::{EndpointShell, Exit};
use rustix::process::{Pid, Signal, kill_process};
use uuid::Uuid;

use crate::common::ask::{Grant, runtime};
use crate::common::daemon::{Home, finish, program, stdout};
use crate::common::{PATIENCE, until};

/// A login, or a command, on a guest that is emulated on a busy processor.
pub(crate) const SSH_PATIENCE: Duration = Duration::from_secs(60);

/// How guests are run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Embedded,
    System,
}

/// The lab, for one test. When it ends, so do the machines that are left.
pub(crate) struct Host {
    pub(crate) mode: Mode,
    pub(crate) dir: PathBuf,
    /// The reference image.
    pub(crate) image: Built,
}

impl Host {
    /// The lab that this test runs in; there is none anywhere else.
    pub(crate) fn lab() -> Host {
        let mode = match std::env::var("ANWEDDOL_LAB").as_deref() {
            Ok("embedded") => Mode::Embedded,
            Ok("system") => Mode::System,
            _ => panic!("this test boots guests: run it in tests/lab/run.sh (see tests/guest/main.rs)"),
        };
        // Short, for the sockets' sake, and open to the user that runs QEMU.
        let dir = PathBuf::from(format!("/run/g{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).unwrap();
        let host = Host { mode, dir, image: image() };
        assert_eq!(host.machines(), [0; 0], "machines of an earlier test still run");
        host
    }

    /// A daemon's home; `container` and `rest` are what its configuration says beside the image and the mode.
    pub(crate) fn home(&self, container: &str, rest: &str) -> Home {
        self.home_of(self.mode(), &self.kernel(), container, rest)
    }

    /// The same with the mode as it is written.
    pub(crate) fn home_with_mode(&self, mode: &str) -> Home {
        self.home_of(mode, &self.kernel(), "", "")
    }

    /// The same with an image as it is written.
    pub(crate) fn home_with_image(&self, image: &str, container: &str) -> Home {
        self.home_of(self.mode(), image, container, "")
    }

    /// The reference image as configurations name it.
    pub(crate) fn kernel(&self) -> String {
        let (kernel, initrd) = (self.image.kernel.path.display(), self.image.initrd.path.display());
        format!("{{kernel: {{path: {kernel}, initrd: {initrd}}}}}")
    }

    fn mode(&self) -> &'static str {
        match self.mode {
            Mode::Embedded => "embedded",
            Mode::System => "system",
        }
    }

    fn home_of(&self, mode: &str, image: &str, container: &str, rest: &str) -> Home {
        let comma = if container.is_empty() { "" } else { ", " };
        let config = format!("hypervisor: {{mode: {mode}}}\ncontainer: {{image: {image}{comma}{container}}}\n{rest}");
        Home::new(&self.dir, &config).with_vectors_key()
    }

    /// The number of a container's QEMU process.
    pub(crate) fn machine(&self, uuid: &str) -> Option<i32> {
        let is_its = |pid: &i32| fs::read_to_string(command_line(*pid)).is_ok_and(|line| line.contains(uuid));
        self.machines().into_iter().find(is_its)
    }

    /// What a container's QEMU was started with.
    pub(crate) fn arguments(&self, uuid: &str) -> String {
        let pid = self.machine(uuid).expect("its QEMU");
        fs::read_to_string(command_line(pid)).unwrap().replace('\0', " ")
    }

    /// The numbers of all QEMU processes.
    pub(crate) fn machines(&self) -> Vec<i32> {
        let pids = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        pids.filter(|pid| is_qemu(*pid)).collect()
    }

    /// Nothing is left of a machine, of any kind: no QEMU, nothing behind its port, nothing with its name, card or
    /// port in libvirt, the kernel or any directory. A look with other eyes than the product's, whose own are asked too.
    pub(crate) fn until_gone(&self, grant: &Grant) {
        until("the end of its QEMU", || self.machine(&grant.uuid).is_none().then_some(()));
        let refused = std::net::TcpStream::connect(at(grant)).map_err(|error| error.kind());
        assert!(matches!(refused, Err(std::io::ErrorKind::ConnectionRefused)), "its port leads somewhere: {refused:?}");
        let deadline = Instant::now() + PATIENCE;
        while let left = self.left(grant)
            && !left.is_empty()
        {
            assert!(Instant::now() < deadline, "this is left of {}:\n{left}", grant.uuid);
            std::thread::sleep(Duration::from_millis(20));
        }
        let said = until("a clean host", || {
            let output = finish(program(["doctor", "--only", "records", "--config"]).arg(self.dir.join("config.yaml")));
            output.status.success().then(|| stdout(&output))
        });
        assert!(said.contains("clean: everything is as recorded"), "{said}");
    }

    /// What there is of a machine, in lines.
    fn left(&self, grant: &Grant) -> String {
        let uuid = Uuid::parse_str(&grant.uuid).unwrap();
        let digits = &uuid.simple().to_string()[..10];
        let (first, second) = (&grant.uuid[..8], &grant.uuid[9..11]);
        let [a, b, c, d, e, f, ..] = *uuid.as_bytes();
        let mac = format!("{:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}", a & 0xfc | 2);
        let names = ["-name", &format!("*{}*", grant.uuid), "-o", "-name", &format!("*{first}-{second}*")];
        let places = [
            self.dir.join("s"),
            "/var/log/libvirt".into(),
            "/var/lib/libvirt".into(),
            "/run/libvirt".into(),
            "/etc/libvirt".into(),
        ];
        let mut left = String::new();
        for place in places.into_iter().filter(|place| place.exists()) {
            let output = Command::new("find").arg(place).args(names).output().unwrap();
            left.push_str(&String::from_utf8(output.stdout).unwrap());
        }
        let words = [grant.uuid.as_str(), digits, &mac, &grant.port.to_string()];
        let its = |text: String| {
            text.lines()
                .filter(|line| words.iter().any(|word| line.contains(word)))
                .map(|line| format!("{line}\n"))
                .collect::<String>()
        };
        left.push_str(&its(run("ip", &["-o", "link"])));
        match self.mode {
            Mode::Embedded => {}
            Mode::System => {
                left.push_str(&its(run("virsh", &["-q", "-c", "qemu:///system", "list", "--all", "--name"])));
                left.push_str(&its(run("virsh", &["-q", "-c", "qemu:///system", "net-dhcp-leases", "anweddol"])));
                left.push_str(&its(run("nft", &["list", "ruleset"])));
            }
        }
        left
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // In the lab every QEMU is a test's: its processes are its own.
        for pid in self.machines() {
            let _ = kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL);
        }
    }
}

fn command_line(pid: i32) -> PathBuf {
    format!("/proc/{pid}/cmdline").into()
}

/// A zombie has no command line; libvirt's questions about QEMU's abilities boot nothing.
fn is_qemu(pid: i32) -> bool {
    let line = fs::read_to_string(command_line(pid)).unwrap_or_default();
    line.split('\0').next().is_some_and(|program| program.ends_with("qemu-system-x86_64")) && line.contains("-uuid")
}

pub(crate) fn run(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output().unwrap();
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The reference image: from the cache that the suite `image` fills, put where the user that runs QEMU can read it.
fn image() -> Built {
    let out_dir = Path::new("/run/image").to_path_buf();
    let cache_dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("image-cache");
    let built = build(&BuildOptions { out_dir, cache_dir }, &mut |_| {});
    built.expect("the image, which the suite 'image' builds outside of the lab")
}

/// Where a container is reached.
pub(crate) fn at(grant: &Grant) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, grant.port).into()
}

/// An open session with the granted login.
pub(crate) async fn log_in(grant: &Grant) -> EndpointShell {
    let password = grant.password.clone().into();
    EndpointShell::connect_as(at(grant), &grant.username, &password, SSH_PATIENCE).await.expect("the granted login")
}

/// Runs a command that has to succeed.
pub(crate) async fn execute(session: &mut EndpointShell, command: &str) -> String {
    let output = session.execute(command, SSH_PATIENCE).await.unwrap();
    assert_eq!(output.exit, Exit::Status(0), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Tells a guest's address.
pub(crate) const OWN_ADDRESS: &str = "ip -4 -o addr show eth0 | awk '{ print $4 }' | cut -d/ -f1";

/// Whether a guest can open a TCP connection to an address; a guest that may not has to be told or wait in vain.
pub(crate) async fn reaches(session: &mut EndpointShell, address: &str, port: u16) -> bool {
    let command = format!("nc -w 3 {address} {port} </dev/null >/dev/null 2>&1");
    session.execute(&command, SSH_PATIENCE).await.unwrap().exit == Exit::Status(0)
}

/// Which of these addresses and ports a guest can open a TCP connection to. It tries all of them at once: some have to be
/// waited for in vain.
pub(crate) async fn reached(session: &mut EndpointShell, places: &[(&str, u16)]) -> Vec<String> {
    let tries = places.iter().map(|(address, port)| {
        format!("{{ nc -w 3 {address} {port} </dev/null >/dev/null 2>&1 && echo '{address} {port}'; }} & ")
    });
    let reached = execute(session, &format!("{}wait", tries.collect::<String>())).await;
    reached.lines().map(str::to_owned).collect()
}

/// The same of places that have to be reached or must not, all of them: on busy processors one try may be too short for
/// those that have to.
pub(crate) async fn reached_or_not(session: &mut EndpointShell, places: &[(&str, u16)], wanted: bool) -> Vec<String> {
    let begin = Instant::now();
    loop {
        let reached = reached(session, places).await;
        if !wanted || reached.len() == places.len() || begin.elapsed() > PATIENCE {
            return reached;
        }
    }
}

/// Logs in with the granted login and looks around: it is a machine of that user.
pub(crate) fn is_a_machine_of_its_user(grant: &Grant) {
    runtime().block_on(async {
        let mut session = log_in(grant).await;
        let output = execute(&mut session, "uname -s; id -un; sudo -n id -u").await;
        assert_eq!(output, format!("Linux\n{}\n0\n", grant.username));
        session.close().await;
    });
}
