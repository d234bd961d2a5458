//! What the kernel tells in `/proc` and of this process: routes, listeners, limits.

use std::fs::{self, File};
use std::io::Read;
use std::net::Ipv4Addr;
use std::ops::RangeInclusive;
use std::path::Path;

use rustix::process::{Resource, getrlimit};

use crate::plan::checks::Seen;
use crate::plan::checks::network::Route;

/// The longest file that is read of it: some 400,000 sockets.
const MOST: u64 = 64 << 20;

fn read(path: impl AsRef<Path>) -> Seen<String> {
    let path = path.as_ref();
    let mut text = String::new();
    let file = File::open(path).and_then(|file| file.take(MOST).read_to_string(&mut text));
    file.map_err(|error| format!("'{}' cannot be read: {error}", path.display()))?;
    Ok(text)
}

fn odd<T>(path: &str, text: &str) -> Seen<T> {
    Err(format!("'{path}' says {:?}, which nobody knows how to read", text.lines().next().unwrap_or_default()))
}

/// The host's routes to IPv4 networks.
pub fn routes() -> Seen<Vec<Route>> {
    let path = "/proc/net/route";
    let text = read(path)?;
    text.lines().skip(1).map(|line| route(line).map_or_else(|| odd(path, line), Ok)).collect()
}

/// `eth0  000210AC  00000000  0001  0  0  0  00FFFFFF  0  0  0`: addresses are as the processor reads them.
fn route(line: &str) -> Option<Route> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let address = |word: &str| u32::from_str_radix(word, 16).ok().map(u32::from_be);
    let (base, mask) = (address(words.get(1)?)?, address(words.get(7)?)?);
    let prefix = u8::try_from(mask.leading_ones()).ok()?;
    Some(Route { interface: (*words.first()?).into(), base: Ipv4Addr::from_bits(base), prefix })
}

/// How many of these ports somebody listens on, for TCP.
pub fn listeners(range: RangeInclusive<u16>) -> Seen<usize> {
    let mut ports: Vec<u16> = Vec::new();
    for path in ["/proc/net/tcp", "/proc/net/tcp6"] {
        match read(path) {
            Ok(text) => ports.extend(text.lines().skip(1).filter_map(listener)),
            // A host without IPv6.
            Err(_) if path.ends_with('6') => {}
            Err(why) => return Err(why),
        }
    }
    ports.sort_unstable();
    ports.dedup();
    Ok(ports.into_iter().filter(|port| range.contains(port)).count())
}

/// `0: 0100007F:1812 00000000:0000 0A …`: the state 0A is that of a listener.
fn listener(line: &str) -> Option<u16> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let (_, port) = words.get(1)?.rsplit_once(':')?;
    (*words.get(3)? == "0A").then(|| u16::from_str_radix(port, 16).ok()).flatten()
}

/// The ports that the kernel gives to connections of this host.
pub fn ephemeral() -> Seen<(u16, u16)> {
    let path = "/proc/sys/net/ipv4/ip_local_port_range";
    let text = read(path)?;
    let mut words = text.split_whitespace().map(str::parse);
    match (words.next(), words.next()) {
        (Some(Ok(first)), Some(Ok(last))) => Ok((first, last)),
        _ => odd(path, &text),
    }
}

/// Whether the kernel was told to keep all of these ports for who asks for them.
pub fn is_reserved(range: RangeInclusive<u16>) -> bool {
    read("/proc/sys/net/ipv4/ip_local_reserved_ports").is_ok_and(|text| covers(&text, range))
}

/// `8080,9148-9150`.
fn covers(text: &str, range: RangeInclusive<u16>) -> bool {
    let part = |text: &str| {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        Some(first.trim().parse::<u16>().ok()?..=last.trim().parse::<u16>().ok()?)
    };
    let parts: Vec<_> = text.trim().split(',').filter_map(part).collect();
    range.into_iter().all(|port| parts.iter().any(|part| part.contains(&port)))
}

/// Whether it forwards packets from card to card.
pub fn forwards() -> Seen<bool> {
    read("/proc/sys/net/ipv4/ip_forward").map(|text| text.trim() == "1")
}

/// How many files a process of this user may have open; `None` is no limit.
pub fn files() -> Option<u64> {
    getrlimit(Resource::Nofile).current
}

/// How many instances of inotify a user may have.
pub fn watches() -> Seen<u64> {
    let path = "/proc/sys/fs/inotify/max_user_instances";
    let text = read(path)?;
    text.trim().parse().map_or_else(|_| odd(path, &text), Ok)
}

/// How many processes and threads there may be, by the nearest of the limits: of the user, of its control group, of all.
pub fn tasks() -> Seen<Option<u64>> {
    let root = rustix::process::geteuid().is_root();
    // The kernel does not hold root to it.
    let user = getrlimit(Resource::Nproc).current.filter(|_| !root);
    let all = read("/proc/sys/kernel/pid_max")?.trim().parse().ok();
    Ok([user, group(), all].into_iter().flatten().min())
}

/// The limit of this process' control group, where there is one.
fn group() -> Option<u64> {
    let text = read("/proc/self/cgroup").ok()?;
    let path = text.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let limit = fs::read_to_string(Path::new("/sys/fs/cgroup").join(path).join("pids.max")).ok()?;
    limit.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_is_read_as_the_kernel_writes_it() {
        let line = "eth0\t007FA8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0";
        let want = Route { interface: "eth0".into(), base: [192, 168, 127, 0].into(), prefix: 24 };
        assert_eq!(route(line), Some(want));
        let default = route("eth0\t00000000\t0110A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0").unwrap();
        assert_eq!((default.base, default.prefix), (Ipv4Addr::UNSPECIFIED, 0));
        for bad in ["", "eth0", "eth0 x 0 1 0 0 0 00FFFFFF"] {
            assert_eq!(route(bad), None, "{bad}");
        }
    }

    #[test]
    fn only_who_listens_has_a_port() {
        let line = |state: &str| format!("   0: 0100007F:2710 00000000:0000 {state} 00000000:00000000 00:00000000 0");
        assert_eq!((listener(&line("0A")), listener(&line("01"))), (Some(10_000), None));
        assert_eq!(listener("   0: 00000000000000000000000001000000:2711 0:0 0A 0"), Some(10_001));
        let socket = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = socket.local_addr().unwrap().port();
        assert_eq!(listeners(port..=port), Ok(1));
    }

    #[test]
    fn a_range_is_reserved_by_parts_that_cover_it() {
        for (text, whole) in
            [("", false), ("10-12\n", false), ("9-11,12-20", true), ("10,11,12,13", true), ("x", false)]
        {
            assert_eq!(covers(text, 10..=13), whole, "{text}");
        }
    }

    #[test]
    fn this_host_tells_all_of_it() {
        assert!(ephemeral().unwrap().0 > 0 && forwards().is_ok() && watches().is_ok() && tasks().is_ok());
    }
}
