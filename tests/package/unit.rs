//! The unit, as systemd runs it.

use std::fs;

use crate::common::ask::{create, grant, runtime};
use crate::common::until;
use crate::host::{ADDRESS, Host, execute, log_in};

/// In tenths, as `systemd-analyze security` counts: what README.md says.
const EXPOSURE: u32 = 17;
/// `CAP_DAC_OVERRIDE` and `CAP_NET_ADMIN`, by their numbers.
const CAPABILITIES: u64 = 1 << 1 | 1 << 12;

fn status(host: &Host, field: &str) -> String {
    let status = host.run(&format!("cat /proc/{}/status", host.unit("MainPID")));
    status.lines().find_map(|line| line.strip_prefix(field)).unwrap().trim().to_owned()
}

#[test]
#[ignore = "needs qemu and prepare.sh: run through tests/lab/run.sh"]
fn the_daemon_has_no_more_rights_than_it_needs_and_one_that_stands_still_is_started_again() {
    let host = Host::boot();
    host.install("first.deb");
    let unit = "/lib/systemd/system/anweddol.service";
    assert_eq!(host.run(&format!("systemd-analyze verify --man=no {unit}")), "");
    host.run(&format!("systemd-analyze security --no-pager --offline=yes --threshold={EXPOSURE} {unit}"));

    host.add_image();
    // A minute would be long to wait for.
    fs::create_dir_all(host.path("/run/systemd/system/anweddol.service.d")).unwrap();
    fs::write(host.path("/run/systemd/system/anweddol.service.d/test.conf"), "[Service]\nWatchdogSec=2\n").unwrap();
    host.run("systemctl daemon-reload && systemctl start anweddol");
    let anweddol = host.run("id -u anweddol");
    assert_eq!(status(&host, "Uid:").split_whitespace().next(), Some(anweddol.trim()));
    for set in ["CapEff:", "CapPrm:", "CapBnd:", "CapAmb:"] {
        assert_eq!(u64::from_str_radix(&status(&host, set), 16).unwrap(), CAPABILITIES, "{set}");
    }

    // A reload is a line of its log, and no other process.
    let process = host.unit("MainPID");
    host.run("systemctl reload anweddol");
    until("the reload", || host.log().contains("configuration: read again").then_some(()));
    assert_eq!(host.unit("MainPID"), process);

    let granted = grant(&create(ADDRESS));
    let runtime = runtime();
    let mut session = runtime.block_on(log_in(&granted));
    // It beats: longer than the watchdog's limit, and nothing happened.
    runtime.block_on(execute(&mut session, "sleep 3"));
    assert_eq!(host.unit("NRestarts"), "0");
    let old = host.unit("MainPID");
    host.run(&format!("kill -STOP {old}"));
    until("another start", || (host.unit("NRestarts") == "1" && host.unit("ActiveState") == "active").then_some(()));
    assert_ne!(host.unit("MainPID"), old);
    assert_eq!(runtime.block_on(execute(&mut session, "echo still")), "still\n");

    host.run("systemctl stop anweddol");
    assert_eq!((host.unit("ActiveState"), host.unit("Result")), ("inactive".into(), "success".into()));
    assert_eq!(runtime.block_on(execute(&mut session, "echo on")), "on\n");
}
