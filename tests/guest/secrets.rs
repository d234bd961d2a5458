//! What is secret of a machine is told to its client, and to nobody else on the host who looks around meanwhile.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::common::ask::Grant;
use crate::host::{Host, Mode};

/// As much of a secret as nobody guesses.
const TELLING: usize = 24;

/// Does something, and says what all processes of the host were started with meanwhile: arguments and environments. One
/// that lives for less than a few milliseconds can be missed.
pub(crate) fn watched<T>(work: impl FnOnce() -> T) -> (T, BTreeSet<String>) {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watching = scope.spawn(|| {
            let mut seen = BTreeSet::new();
            while !done.load(Ordering::Relaxed) {
                seen.extend(processes());
                std::thread::sleep(Duration::from_millis(3));
            }
            seen.extend(processes());
            seen
        });
        let worked = work();
        done.store(true, Ordering::Relaxed);
        (worked, watching.join().unwrap())
    })
}

/// What every process was started with, and in which environment. One that ends meanwhile says nothing.
fn processes() -> impl Iterator<Item = String> {
    let all = fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap());
    let all = all.filter(|entry| entry.file_name().as_encoded_bytes()[0].is_ascii_digit());
    let texts = all.flat_map(|entry| ["cmdline", "environ"].map(|file| fs::read(entry.path().join(file))));
    texts.flatten().map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

/// Of a machine that was made while this was seen.
pub(crate) fn nobody_else_was_told(host: &Host, granted: &Grant, seen: &BTreeSet<String>) {
    let machine = |text: &&String| text.contains("qemu-system") && text.contains(&granted.uuid);
    let qemu = seen.iter().find(machine).expect("its QEMU is among what was seen");
    assert!(seen.iter().any(|text| text.contains("ssh")), "and who logged in to it");
    // A core of it would not hold what its guest knows.
    assert!(qemu.contains("dump-guest-core=off"), "{qemu}");
    if host.mode == Mode::Embedded {
        let limits = fs::read_to_string(format!("/proc/{}/limits", host.machine(&granted.uuid).unwrap())).unwrap();
        let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
        assert_eq!(core.split_whitespace().nth(4), Some("0"), "a crash of QEMU would leave a core: {core}");
    }
    for (name, secret) in [("password", &granted.password), ("token", &granted.token)] {
        let part = &secret[..TELLING];
        if let Some(text) = seen.iter().find(|text| text.contains(part)) {
            panic!("its {name} is what a process was started with: {}", text.replace('\0', " "));
        }
        // Records, logs and what libvirt keeps of its domain. The images are as they were built.
        let mut grep = Command::new("grep");
        grep.args(["-rlFs", "--devices=skip", "--exclude-dir=images", part]).arg(host.dir.join("s"));
        grep.args(["/var/log/libvirt", "/var/lib/libvirt", "/run/libvirt", "/var/cache/libvirt"]);
        let found = String::from_utf8(grep.output().unwrap().stdout).unwrap();
        assert_eq!(found, "", "its {name} is in a file");
    }
    // What is looked for could be found.
    let found = Command::new("grep").args(["-rlFs", "--devices=skip", &granted.uuid]).arg(host.dir.join("s")).output();
    assert!(!found.unwrap().stdout.is_empty());
}
