//! Ports, memory, clock and the kernel's limits.

use super::{Check, Group, Seen, size};

const GROUP: Group = Group::Host;

/// Files that a daemon has open besides its clients' sockets: store, libvirt, watches.
const FILES_BESIDES: u64 = 256;
/// Processes and threads of one QEMU: its own, one a processor, and a few workers.
const TASKS_OF_A_MACHINE: u64 = 8;
/// Seconds between the daemon's time and the wall clock that are worth a word.
const CLOCK_TOLERANCE: u64 = 5;

/// What is known of it.
#[derive(Clone, Debug)]
pub struct Host {
    /// The sockets of the configuration.
    pub listens: Vec<Listen>,
    /// Whether a daemon of this state directory runs: what is taken is its own then.
    pub serves: bool,
    /// The first and the last port that leads to machines.
    pub range: (u16, u16),
    /// How many of them have a listener.
    pub taken: Seen<usize>,
    /// The ports that the kernel gives to clients of this host, without those that it was told to leave alone.
    pub ephemeral: Seen<(u16, u16)>,
    /// Whether the kernel was told to leave our range alone.
    pub reserved: bool,
    /// The most machines at once.
    pub most: u32,
    /// Bytes that all machines together get.
    pub memory: Seen<u64>,
    /// Bytes of each.
    pub each: u64,
    /// Whether the kernel says that something keeps the clock in time.
    pub synchronised: Seen<bool>,
    /// Seconds that the wall clock is ahead of the daemon's own time, where one was asked.
    pub ahead: Option<i64>,
    /// Files that a process of this user may have open; absent: no limit.
    pub files: Option<u64>,
    /// Clients at once.
    pub clients: u64,
    /// Directories and files that this user may watch.
    pub watches: Seen<u64>,
    /// Processes and threads that may be, by the nearest limit.
    pub tasks: Seen<Option<u64>>,
}

/// A socket of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// Its key.
    pub key: &'static str,
    /// Where.
    pub address: String,
    /// Why it cannot be had, if so.
    pub refused: Option<String>,
}

/// Judges it.
pub fn judge(facts: &Host) -> Vec<Check> {
    let mut checks: Vec<Check> = facts.listens.iter().map(|listen| port(facts, listen)).collect();
    checks.extend([range(facts), ephemeral(facts), memory(facts), clock(facts)]);
    checks.extend(daemon_clock(facts));
    checks.extend([files(facts), watches(facts), tasks(facts)]);
    checks
}

fn port(facts: &Host, Listen { key, address, refused }: &Listen) -> Check {
    match (refused, facts.serves) {
        (None, false) => Check::ok(GROUP, key, format!("{address} is free")),
        (Some(_), true) => Check::ok(GROUP, key, format!("{address} is taken, by the daemon that runs")),
        (None, true) => {
            let message = format!("a daemon runs, but nobody listens on {address}");
            Check::warn(GROUP, key, message, "restart it, if the configuration was changed since it started")
        }
        (Some(why), false) => {
            let message = format!("cannot listen on {address}: {why}");
            let remedy = format!("end who has it ('ss -ltnp' tells), or choose another in '{key}'");
            Check::fail(GROUP, key, message, remedy)
        }
    }
}

fn range(facts: &Host) -> Check {
    let ((first, last), name) = (facts.range, "forwarded ports");
    let all = usize::from(last - first) + 1;
    match &facts.taken {
        Err(why) => Check::unknown(GROUP, name, why),
        Ok(taken) if all.saturating_sub(*taken) < facts.most as usize && !facts.serves => {
            let message = format!(
                "{taken} of the {all} ports {first}-{last} have listeners: too few for {} machines",
                facts.most
            );
            Check::fail(
                GROUP,
                name,
                message,
                "choose another 'port_forwarding.range', or end who listens ('ss -ltnp' tells)",
            )
        }
        Ok(taken) => {
            Check::ok(GROUP, name, format!("{} of the {all} ports {first}-{last} have no listener", all - taken))
        }
    }
}

fn ephemeral(facts: &Host) -> Check {
    let ((first, last), name) = (facts.range, "ports of outgoing connections");
    match &facts.ephemeral {
        Err(why) => Check::unknown(GROUP, name, why),
        Ok((from, to)) if first.max(*from) <= last.min(*to) && !facts.reserved => {
            let message = format!(
                "the kernel gives {from}-{to} to connections of this host, and {first}-{last} lead to machines: now and then one is \
                 taken"
            );
            let remedy = format!(
                "run 'sysctl -w net.ipv4.ip_local_reserved_ports={first}-{last}' and write it to /etc/sysctl.d, or choose another \
                 'port_forwarding.range'"
            );
            Check::warn(GROUP, name, message, remedy)
        }
        Ok((from, to)) => Check::ok(GROUP, name, format!("{from}-{to}, apart from those that lead to machines")),
    }
}

fn memory(facts: &Host) -> Check {
    let name = "memory";
    let each = facts.each.max(1);
    match &facts.memory {
        Err(why) => Check::unknown(GROUP, name, why),
        Ok(all) if *all < facts.each => {
            let message = format!("machines get {}, and each takes {}: there is room for none", size(*all), size(each));
            Check::fail(GROUP, name, message, "lower 'container.memory', or set 'host.memory'")
        }
        Ok(all) if all / each < u64::from(facts.most) => {
            let message = format!(
                "{} for machines: room for {} of {}, and {} may be",
                size(*all),
                all / each,
                size(each),
                facts.most
            );
            Check::warn(GROUP, name, message, "lower 'container.max_allowed_running_containers' or 'container.memory'")
        }
        Ok(all) => Check::ok(
            GROUP,
            name,
            format!("{} for machines: room for all {} of {}", size(*all), facts.most, size(each)),
        ),
    }
}

fn clock(facts: &Host) -> Check {
    let name = "clock";
    match &facts.synchronised {
        Ok(true) => Check::ok(GROUP, name, "the kernel says that it is kept in time"),
        Ok(false) => {
            let message = "nothing keeps it in time, says the kernel: certificates and times in records drift";
            Check::warn(GROUP, name, message, "install chrony or systemd-timesyncd")
        }
        Err(why) => Check::unknown(GROUP, name, why),
    }
}

fn daemon_clock(facts: &Host) -> Option<Check> {
    let (ahead, name) = (facts.ahead?, "the daemon's time");
    let off = ahead.unsigned_abs();
    Some(match off <= CLOCK_TOLERANCE {
        true => Check::ok(GROUP, name, "it agrees with the wall clock"),
        false => {
            let side = if ahead > 0 { "ahead of" } else { "behind" };
            let message = format!("the wall clock is {off} s {side} it: deadlines keep to the daemon's time");
            Check::warn(GROUP, name, message, "set the clock right; a reboot makes them agree again")
        }
    })
}

fn files(facts: &Host) -> Check {
    let (name, needed) = ("open files", facts.clients.saturating_add(FILES_BESIDES));
    // The limit that counts is the daemon's own; this process stands for it.
    match facts.files {
        None => Check::ok(GROUP, name, "no limit"),
        Some(now) if now >= needed => Check::ok(GROUP, name, format!("{now} for a process of this user")),
        Some(now) => {
            let message =
                format!("{now} for a process of this user, and {needed} are needed for {} clients", facts.clients);
            let remedy = format!(
                "raise it ('LimitNOFILE={needed}' in the unit, 'ulimit -n'), or lower 'server.max_connections'"
            );
            Check::warn(GROUP, name, message, remedy)
        }
    }
}

fn watches(facts: &Host) -> Check {
    let name = "inotify";
    match &facts.watches {
        Err(why) => Check::unknown(GROUP, name, why),
        Ok(0) => Check::warn(
            GROUP,
            name,
            "fs.inotify.max_user_instances is 0: changed manifests are seen late",
            "run 'sysctl -w fs.inotify.max_user_instances=128'",
        ),
        Ok(most) => Check::ok(GROUP, name, format!("{most} instances for a user")),
    }
}

fn tasks(facts: &Host) -> Check {
    let (name, needed) = ("processes", u64::from(facts.most).saturating_mul(TASKS_OF_A_MACHINE));
    match &facts.tasks {
        Err(why) => Check::unknown(GROUP, name, why),
        Ok(None) => Check::ok(GROUP, name, "no limit"),
        Ok(Some(most)) if *most >= needed => Check::ok(GROUP, name, format!("{most} may be")),
        Ok(Some(most)) => {
            let message = format!("{most} may be, and {} machines take some {needed}", facts.most);
            Check::warn(GROUP, name, message, "raise it ('TasksMax' in the unit, 'ulimit -u'), or allow fewer machines")
        }
    }
}
