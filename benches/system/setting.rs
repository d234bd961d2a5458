//! Where a table was made.

use std::fs;
use std::process::Command;

/// Says on what this runs: figures of another setting are other figures.
pub(crate) fn print() {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let memory = value("/proc/meminfo", "MemTotal").unwrap_or_default();
    let processor = value("/proc/cpuinfo", "model name").unwrap_or_else(|| "unknown".into());
    let flags = value("/proc/cpuinfo", "flags").unwrap_or_default();
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    println!("processor   {cores} x {processor}{}", if flags.contains("hypervisor") { " (virtual)" } else { "" });
    println!("memory      {memory}");
    println!("kernel      {}", release.trim());
    println!("disk        {} ({})", crate::daemon::scratch().display(), file_system());
    println!("load        {} (before the first measurement)", load.trim());
    println!("program     anweddol {}, profile {}", env!("CARGO_PKG_VERSION"), profile());
    println!("servers     {}", crate::daemon::program().display());
    println!("compiler    {}\n", rustc());
}

fn profile() -> &'static str {
    if cfg!(debug_assertions) { "dev: figures say nothing" } else { "bench (as release)" }
}

/// What a file of `name : value` says of a name.
fn value(file: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

fn file_system() -> String {
    let output = Command::new("stat").args(["-f", "-c", "%T"]).arg(crate::daemon::scratch()).output();
    output.map_or_else(|_| "unknown".into(), |output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn rustc() -> String {
    let output = Command::new("rustc").arg("--version").output();
    output.map_or_else(|_| "unknown".into(), |output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
