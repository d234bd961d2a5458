//! The image with a whole Debian: built of Debian's packages, booted twice.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anweddol::guest::image::BuildOptions;
use anweddol::guest::image::debian::{BuiltDisk, build};
use anweddol::guest::ssh::{EndpointShell, SshShell};
use anweddol::guest::{Login, Shell, ShellError};
use tokio::runtime::Runtime;

use crate::machine::{Boot, Machine};
use crate::{PATIENCE, login, runtime, set_up_at_once, told};

fn disk(out: &Path) -> BuiltDisk {
    let cache_dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("image-cache");
    let start = Instant::now();
    let built = build(&BuildOptions { out_dir: out.into(), cache_dir }, &mut |line| told(line, start)).unwrap();
    told("built", start);
    built
}

/// What a command says, with the state it ended with.
fn says(runtime: &Runtime, machine: &Machine, who: &Login, command: &str) -> String {
    runtime.block_on(async {
        let mut user = EndpointShell::connect_as(machine.at, &who.username, &who.password, PATIENCE).await.unwrap();
        let output = user.execute(command, PATIENCE).await.unwrap();
        user.close().await;
        let said = String::from_utf8(output.stdout).unwrap();
        format!("{}{}", said, String::from_utf8_lossy(&output.stderr)).trim().to_owned()
    })
}

/// What makes it a machine of its own.
fn identity(runtime: &Runtime, machine: &Machine, who: &Login) -> [String; 2] {
    ["cat /etc/machine-id", "cut -d' ' -f2 /etc/ssh/ssh_host_ed25519_key.pub"]
        .map(|command| says(runtime, machine, who, command))
}

#[test]
#[ignore = "needs apt, mmdebstrap and qemu: builds the image and boots it"]
fn a_whole_debian_is_given_to_its_user_and_no_two_machines_are_the_same() {
    let scratch = tempfile::tempdir().unwrap();
    let built = disk(scratch.path());
    let again = disk(scratch.path());
    assert!(again.cached && again.disk == built.disk, "{again:?}");

    let runtime = runtime();
    let shell = SshShell::new(runtime.handle().clone());
    let start = Instant::now();
    let [first, second] = [(); 2].map(|()| Machine::boot(Boot::Disk(&built.disk.path)));
    let who = login();
    shell.personalise(first.at, &who, PATIENCE.into(), None).unwrap();
    told("set up", start);
    let other = set_up_at_once(&runtime, second.at);
    told("set up at once", start);
    let machines = [(first, who), (second, other)];
    let (machine, who) = &machines[0];
    let stranger = shell.personalise(machine.at, &login(), PATIENCE.into(), None);
    assert!(matches!(stranger, Err(ShellError::Refused { .. })), "{stranger:?}");

    let key = scratch.path().join("key");
    assert!(
        Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&key).status().unwrap().success()
    );
    let public = std::fs::read_to_string(key.with_extension("pub")).unwrap();
    shell.authorize(machine.at, who, public.trim(), PATIENCE.into()).unwrap();
    let by_key = Command::new("ssh")
        .args(["-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-i"])
        .arg(&key)
        .args(["-p", &machine.at.port().to_string(), &format!("{}@127.0.0.1", who.username), "id -un"])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&by_key.stdout).trim(), who.username, "{by_key:?}");

    let tell = |command: &str| says(&runtime, machine, who, command);
    assert_eq!(tell("systemctl is-system-running --wait; systemctl --failed --no-legend"), "running");
    assert_eq!(tell("sudo -n id -u; cat /proc/1/comm; locale | head -1"), "0\nsystemd\nLANG=C.UTF-8");
    assert_eq!(tell("sudo -n apt-get -qq check; apt list --installed 2>/dev/null | grep -c ^openssh-server/"), "1");
    assert_eq!(
        tell("sudo -n passwd --status root | cut -d' ' -f2; sudo -n passwd --status endpoint | cut -d' ' -f2"),
        "L\nL"
    );
    assert_eq!(tell("sudo -n grep -rl endpoint /etc/sudoers /etc/sudoers.d | wc -l"), "0");
    assert_eq!(tell("grep -h ^deb /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null | grep -vc debian"), "0");
    let identities = [0, 1].map(|at| identity(&runtime, &machines[at].0, &machines[at].1));
    assert!(identities[0].iter().all(|part| part.len() >= 32), "{identities:?}");
    for part in [0, 1] {
        assert_ne!(identities[0][part], identities[1][part]);
    }
    told("all asked", start);
}
