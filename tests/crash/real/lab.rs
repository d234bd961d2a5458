//! What there is on the lab's host, seen without asking the product.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use uuid::Uuid;

use crate::common::until;
use crate::host::{Host, Mode, run};
use crate::promises::Things;
use crate::workload::Guests;

/// Somebody else's domain, without a mark.
const FOREIGN: Uuid = Uuid::from_u128(1);
/// Ports that lead to machines.
pub(super) const PORTS: std::ops::RangeInclusive<u16> = 20_000..=20_019;

pub(super) struct Lab {
    pub(super) host: Host,
    pub(super) state: PathBuf,
}

impl Guests for Lab {
    fn running(&self) -> BTreeMap<Uuid, Duration> {
        let machines = self.host.machines().into_iter().filter_map(|pid| Some((uuid(pid)?, started(pid)?)));
        machines.filter(|(uuid, _)| *uuid != FOREIGN).collect()
    }

    fn kill(&self, uuid: Uuid) {
        // It may have ended by itself, or by the daemon's hand.
        let Some(pid) = self.host.machine(&uuid.to_string()) else { return };
        let _ = kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL);
        until("the end of a QEMU", || (!self.host.machines().contains(&pid)).then_some(()));
    }
}

impl Lab {
    /// In system mode, with a domain of somebody else.
    pub(super) fn with_a_stranger(host: Host, state: PathBuf) -> Lab {
        match host.mode {
            // Its libvirt is this daemon's alone.
            Mode::Embedded => {}
            Mode::System => {
                let xml = format!(
                    "<domain type='qemu'><name>foreign</name><uuid>{FOREIGN}</uuid><memory unit='MiB'>32</memory><os><type \
                     arch='x86_64'>hvm</type></os></domain>"
                );
                let mut virsh = Command::new("virsh")
                    .args(["-q", "-c", "qemu:///system", "create", "--paused", "/dev/stdin"])
                    .stdin(Stdio::piped())
                    .spawn()
                    .unwrap();
                virsh.stdin.take().unwrap().write_all(xml.as_bytes()).unwrap();
                assert!(virsh.wait().unwrap().success());
            }
        }
        Lab { host, state }
    }

    /// Whether the stranger's domain is as it was.
    pub(super) fn stranger_is_there(&self) -> bool {
        match self.host.mode {
            Mode::Embedded => true,
            Mode::System => self.host.machine(&FOREIGN.to_string()).is_some(),
        }
    }

    /// What is there that a daemon can have made.
    pub(super) fn things(&self) -> Things {
        let mut domains: BTreeSet<Uuid> = self.running().into_keys().collect();
        let forwards = match self.host.mode {
            Mode::Embedded => listeners(),
            Mode::System => {
                let listed = run("virsh", &["-q", "-c", "qemu:///system", "list", "--all", "--uuid"]);
                let listed = listed.lines().filter_map(|line| line.trim().parse::<Uuid>().ok());
                domains.extend(listed.filter(|uuid| *uuid != FOREIGN));
                rules()
            }
        };
        let disks = fs::read_dir(self.state.join("disks")).into_iter().flatten();
        let disks = disks.filter_map(|file| file.unwrap().path().file_stem()?.to_str()?.parse().ok()).collect();
        Things { domains, disks, forwards }
    }

    /// Ports of machines whose cards the kernel's rules know. A card that is left over goes with the sweep that follows its
    /// machine's end, and not with its record.
    pub(super) fn cards(&self) -> BTreeSet<u16> {
        match self.host.mode {
            Mode::Embedded => BTreeSet::new(),
            Mode::System => {
                let cards = elements(["set", "bridge", "anweddol", "guests"]);
                cards.iter().filter_map(|card| card["elem"]["comment"].as_str()?.parse().ok()).collect()
            }
        }
    }
}

/// The machine that a QEMU runs.
fn uuid(pid: i32) -> Option<Uuid> {
    let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).ok()?;
    line.split('\0').skip_while(|word| *word != "-uuid").nth(1)?.parse().ok()
}

/// When a process started, since the host did: no two of the same number have the same.
fn started(pid: i32) -> Option<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is a name in brackets and may hold anything; this is the 22nd.
    let ticks: u64 = stat.rsplit(')').next()?.split_whitespace().nth(19)?.parse().ok()?;
    Some(Duration::from_millis(ticks * 10))
}

/// Ports for machines that somebody listens on.
fn listeners() -> BTreeSet<u16> {
    let table = fs::read_to_string("/proc/net/tcp").unwrap();
    let listening = table.lines().skip(1).filter_map(|line| {
        let mut fields = line.split_whitespace().skip(1);
        let (local, state) = (fields.next()?, fields.nth(1)?);
        let port = u16::from_str_radix(local.rsplit(':').next()?, 16).ok()?;
        (state == "0A").then_some(port)
    });
    listening.filter(|port| PORTS.contains(port)).collect()
}

/// Ports that rules of the kernel lead somewhere.
fn rules() -> BTreeSet<u16> {
    let forwards = elements(["map", "ip", "anweddol", "fwds"]);
    forwards.iter().filter_map(|forward| u16::try_from(forward[0].as_u64()?).ok()).collect()
}

/// What one of the daemon's maps or sets holds.
fn elements(what: [&str; 4]) -> Vec<Value> {
    let told: Value = serde_json::from_str(&run("nft", &[&["-j", "list"], &what[..]].concat())).unwrap();
    let found = told["nftables"].as_array().unwrap().iter().find_map(|object| object.get(what[0])).unwrap();
    found["elem"].as_array().cloned().unwrap_or_default()
}
