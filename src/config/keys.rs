//! Every key, in the order of [`super::COMMENTED`].

/// A key that can be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    /// Its whole name, as `container.memory`.
    pub name: &'static str,
    /// What its value is, as it follows "write".
    pub value: &'static str,
    /// When a changed value takes effect.
    pub effect: Effect,
}

/// When a changed value takes effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// With a reload.
    Reload,
    /// With the daemon's next start.
    Restart,
}

use Effect::{Reload, Restart};

const fn key(name: &'static str, value: &'static str, effect: Effect) -> Key {
    Key { name, value, effect }
}

const SOCKET: &str = "ADDRESS:PORT";
const SOCKET_OR_NOT: &str = "ADDRESS:PORT, or null";
const NUMBER: &str = "a whole number";
const SECONDS: &str = "a whole number of seconds";
const SECONDS_OR_NOT: &str = "a whole number of seconds, or null";
const MEMORY: &str = "a whole number with Ki, Mi or Gi, as 256Mi";
const MEMORY_OR_NOT: &str = "a whole number with Ki, Mi or Gi, as 512Mi, or null";
const FLAG: &str = "true or false";
const TEXT: &str = "a text";
const COUNT_OR_NOT: &str = "a whole number above 0, or null";
const NETWORKS: &str = "a list of networks, as 192.0.2.0/24, and addresses";
const DIRECTORY: &str = "the path of a directory";

/// Every key. That it is every key, once, is kept by `every_key_is_in_the_table_and_in_the_commented_default`.
///
/// Sockets stay open and machines stay where they are: what names an address, a port, a directory or a network takes
/// effect with the next start.
pub const KEYS: &[Key] = &[
    key("state_dir", DIRECTORY, Restart),
    key("manifests", "the path of a directory, or null", Restart),
    key("server.listen", SOCKET, Restart),
    key("server.client_timeout", SECONDS, Reload),
    key("server.max_connections", NUMBER, Reload),
    key("server.health_listen", SOCKET_OR_NOT, Restart),
    key("server.api_listen", SOCKET_OR_NOT, Restart),
    key("server.api_names", "a list of names and addresses", Restart),
    key("server.local_api", FLAG, Restart),
    key("access.required", FLAG, Reload),
    key("web.listen", "ADDRESS or ADDRESS:PORT, or null", Restart),
    key("web.tls", "a map, empty or with certificate and key, or null", Restart),
    key("ip_filter.allow", NETWORKS, Reload),
    key("ip_filter.deny", NETWORKS, Reload),
    key("rates.connections_per_minute", COUNT_OR_NOT, Reload),
    key("rates.requests_per_minute", COUNT_OR_NOT, Reload),
    key("rates.connections_per_address", COUNT_OR_NOT, Reload),
    key("rates.key_exchanges", COUNT_OR_NOT, Restart),
    key("rates.exempt", NETWORKS, Reload),
    key("container.image", "a map with one of iso, kernel and disk, or null", Reload),
    key("container.memory", MEMORY, Reload),
    key("container.vcpus", NUMBER, Reload),
    key("container.domain_type", "auto, kvm or qemu", Reload),
    key("container.egress", "none, internet or all", Reload),
    key("container.max_allowed_running_containers", NUMBER, Reload),
    key("container.warm", NUMBER, Reload),
    key("container.boot_deadline", SECONDS, Reload),
    key("container.ttl", SECONDS_OR_NOT, Reload),
    key("container.max_ttl", SECONDS_OR_NOT, Reload),
    key("container.idle_timeout", SECONDS_OR_NOT, Reload),
    key("container.max_ready", SECONDS_OR_NOT, Reload),
    key("port_forwarding.bind", "an IPv4 address", Restart),
    key("port_forwarding.range", "FIRST-LAST, as 10000-14999", Restart),
    key("hypervisor.mode", "auto, embedded or system", Restart),
    key("hypervisor.network", TEXT, Restart),
    key("hypervisor.bridge", TEXT, Restart),
    key("hypervisor.subnet", "a private IPv4 network, as 192.168.127.0/24", Restart),
    key("host.memory", MEMORY_OR_NOT, Reload),
    key("host.disk_reserve", MEMORY_OR_NOT, Reload),
    key("host.parallel_boots", COUNT_OR_NOT, Reload),
    key("events.keep", NUMBER, Reload),
    key("observe.otlp_endpoint", "http://HOST:PORT, or null", Restart),
];

/// The key of this name.
pub fn find(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == name)
}
