//! The keys of the Python server, and what becomes of each.
//!
//! The names are those of `resources/config.yaml` and of the schema in `anwdlserver/config.py`, in the repository
//! `the-anweddol-project/Anweddol-server`, at its tags. There are two generations:
//!
//! | generation | tags | section | names that the other one has not |
//! | --- | --- | --- | --- |
//! | first | beta-1.0.0 | `paths` | `container_iso_path`, `rsa_keys_root_path`, `log_file_path`, `pid_file_path`, `access_tokens_database_path`, `permalink_resource_file_url`, `container_iso_mirror_url` |
//! | first | beta-1.2.7, beta-1.2.8 | `container` | `container_iso_path`, `max_allowed_running_containers`, `bridge_interface_name` |
//! | first | beta-1.2.7, beta-1.2.8 | `server` | `rsa_keys_root_path` |
//! | first | beta-1.2.7, beta-1.2.8 | `access_token` | `access_tokens_database_path` |
//! | second | from v2.0.0 on | `container` | `container_iso_file_path`, `max_allowed_running_container_domains` |
//! | second | from v2.0.0 on | `server` | `public_rsa_key_file_path`, `private_rsa_key_file_path` |
//! | second | from v2.0.0 on | `port_forwarding` | `port_range` |
//! | second | from v2.0.0 on | `access_token` | `access_token_database_file_path`; before the tag also `access_tokens_database_file_path` |
//! | second | from v2.1.1 on | `web_server` | all of it |
//! | second | v4.1.3, v4.1.4 | `container` | `domain_type`, `wait_max_tryout` |
//!
//! All other names are in both; `log_rotation` came with beta-1.2.7. What values mean is taken from
//! `anwdlserver/process.py` and `anwdlserver/core/`, at v4.1.4 and beta-1.2.8: memory is in MiB (the domain's XML says
//! so, the file says MB), a timeout of 0 or `null` is none, `wait_max_tryout` counts tries a second apart.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use serde_json::{Value, json};

/// The whole old file.
pub(in crate::config) struct Old<'a>(pub(in crate::config) &'a Value);

impl<'a> Old<'a> {
    fn get(&self, section: &str, name: &str) -> Option<&'a Value> {
        self.0.get(section)?.get(name)
    }
}

/// What becomes of an old key.
pub(in crate::config) enum Became {
    /// Our key, its value; and why that differs, where it does.
    As(&'static str, Value, String),
    /// Our key and its value, as a comment, and when to write it.
    Offered(&'static str, Value, String),
    /// What is asked for happens anyway.
    Default(String),
    /// Nothing, and why.
    Gone(String),
    /// The Python server would not take the value either: what would be right.
    Wrong(&'static str),
}

use Became::{As, Default, Gone, Offered, Wrong};

pub(in crate::config) type Convert = fn(&Old<'_>, &Value) -> Became;

/// Every old key, section by section.
pub(in crate::config) const ROWS: &[(&str, Convert)] = &[
    ("paths.container_iso_path", iso),
    ("paths.rsa_keys_root_path", key_file),
    ("paths.log_file_path", log_file),
    ("paths.pid_file_path", pid_file),
    ("paths.access_tokens_database_path", token_database),
    ("paths.permalink_resource_file_url", download),
    ("paths.container_iso_mirror_url", download),
    ("container.container_iso_path", iso),
    ("container.container_iso_file_path", iso),
    ("container.max_allowed_running_containers", most),
    ("container.max_allowed_running_container_domains", most),
    ("container.container_memory", memory),
    ("container.container_vcpus", |_, value| number("container.vcpus", value, 1)),
    ("container.nat_interface_name", |_, _| {
        gone("machines have a NAT network of the daemon's own, or QEMU's user networking: see 'hypervisor'")
    }),
    ("container.bridge_interface_name", |_, _| {
        gone("clients reach machines through ports of this host: see 'port_forwarding'")
    }),
    ("container.domain_type", domain_type),
    ("container.wait_max_tryout", tries),
    ("container.endpoint_username", |_, value| endpoint(value, &json!("endpoint"))),
    ("container.endpoint_password", |_, value| endpoint(value, &json!("endpoint"))),
    ("container.endpoint_listen_port", |_, value| endpoint(value, &json!(22))),
    ("server.public_rsa_key_file_path", |_, _| gone("it is derived from the private key")),
    ("server.private_rsa_key_file_path", key_file),
    ("server.rsa_keys_root_path", key_file),
    ("server.log_file_path", log_file),
    ("server.pid_file_path", pid_file),
    ("server.user", user),
    ("server.bind_address", listen),
    ("server.listen_port", listen),
    ("server.timeout", timeout),
    ("server.enable_onetime_rsa_keys", onetime_keys),
    ("web_server.log_file_path", log_file),
    ("web_server.pid_file_path", pid_file),
    ("web_server.user", user),
    ("web_server.listen_port", web_listen),
    ("web_server.enable_ssl", web_tls),
    ("web_server.ssl_pem_private_key_file_path", web_tls_file),
    ("web_server.ssl_pem_certificate_file_path", web_tls_file),
    ("port_forwarding.port_range", |_, value| match range(value) {
        Some((first, last)) => took("port_forwarding.range", json!(format!("{first}-{last}"))),
        None => Wrong("a list of two ports, as [10000, 20000]"),
    }),
    ("log_rotation.enabled", rotation),
    ("log_rotation.log_archive_folder_path", rotation),
    ("log_rotation.max_log_lines_amount", rotation),
    ("log_rotation.action", rotation),
    ("ip_filter.enabled", filter),
    ("ip_filter.allowed_ip_list", filter_allowed),
    ("ip_filter.denied_ip_list", filter_denied),
    ("access_token.enabled", |_, value| match value {
        Value::Bool(enabled) => took("access.required", json!(enabled)),
        _ => Wrong(FLAG),
    }),
    ("access_token.access_tokens_database_path", token_database),
    ("access_token.access_tokens_database_file_path", token_database),
    ("access_token.access_token_database_file_path", token_database),
];

const FLAG: &str = "true or false";
/// The longest `server.client_timeout` and `container.boot_deadline`, in seconds.
const LONGEST: u64 = 3600;

fn took(key: &'static str, value: Value) -> Became {
    As(key, value, String::new())
}

fn gone(why: &str) -> Became {
    Gone(why.into())
}

fn number(key: &'static str, value: &Value, least: u64) -> Became {
    match value.as_u64() {
        Some(number) if number >= least => took(key, json!(number)),
        _ => Wrong("a whole number, 1 at least"),
    }
}

fn iso(_: &Old<'_>, value: &Value) -> Became {
    match value.as_str() {
        Some(path) => took("container.image", json!({ "iso": path })),
        None => Wrong("the path of an ISO image"),
    }
}

/// No limit is as many as there are ports.
fn most(old: &Old<'_>, value: &Value) -> Became {
    const KEY: &str = "container.max_allowed_running_containers";
    if !value.is_null() {
        return number(KEY, value, 1);
    }
    let range = old.get("port_forwarding", "port_range").and_then(range);
    let (first, last) = range.unwrap_or((10_000, 14_999));
    As(KEY, json!(last - first + 1), "there is always a limit: as many as there are ports".into())
}

fn memory(_: &Old<'_>, value: &Value) -> Became {
    match value.as_u64() {
        Some(mib) if mib > 0 => took("container.memory", json!(format!("{mib}Mi"))),
        _ => Wrong("a whole number of MiB, 1 at least"),
    }
}

fn domain_type(_: &Old<'_>, value: &Value) -> Became {
    match value.as_str() {
        Some(name @ ("kvm" | "qemu")) => took("container.domain_type", json!(name)),
        Some(_) => {
            gone("machines are QEMU's, with KVM or emulated: container.domain_type chooses, by itself if it is auto")
        }
        None => Wrong("a text"),
    }
}

/// It counts seconds until a machine has an address; ours until it can be logged in to, which is longer.
fn tries(_: &Old<'_>, value: &Value) -> Became {
    const KEY: &str = "container.boot_deadline";
    match value.as_i64() {
        Some(-1) => As(KEY, json!(LONGEST), "there is always a limit: this is the longest".into()),
        Some(tries @ 0..=120) => Default(format!(
            "{KEY}: a machine has 120 seconds until it can be logged in to, which is more than {tries} for its address"
        )),
        Some(tries @ 121..) => {
            let tries = u64::try_from(tries).unwrap_or(LONGEST).min(LONGEST);
            As(KEY, json!(tries), "seconds until it can be logged in to, not only until it has an address".into())
        }
        _ => Wrong("a whole number, -1 at least"),
    }
}

fn endpoint(value: &Value, usual: &Value) -> Became {
    if value == usual {
        return Default("every image has this account".into());
    }
    gone(
        "the account is the same for every image: endpoint, with the password endpoint, on port 22; the image has to have it",
    )
}

fn key_file(_: &Old<'_>, _: &Value) -> Became {
    gone(
        "the server's key is 'server.pem' in state_dir: make it of the old private key before the first start, with 'openssl \
         pkcs8 -topk8 -nocrypt -in OLD -out server.pem' and mode 0600, and clients find the server they know",
    )
}

fn log_file(_: &Old<'_>, _: &Value) -> Became {
    gone("the log goes to standard error, which systemd keeps in its journal")
}

fn pid_file(_: &Old<'_>, _: &Value) -> Became {
    gone("systemd knows the process, and a lock in state_dir keeps a second one away")
}

fn user(_: &Old<'_>, _: &Value) -> Became {
    gone("whoever starts the daemon says who runs it: User= in the unit")
}

fn rotation(_: &Old<'_>, _: &Value) -> Became {
    gone("the journal rotates by itself: SystemMaxUse= in journald.conf")
}

fn token_database(_: &Old<'_>, _: &Value) -> Became {
    gone(
        "access tokens are kept among the daemon's records; 'anweddol access-token add --sha256' takes over what the old \
         database says in AccessToken",
    )
}

fn download(_: &Old<'_>, _: &Value) -> Became {
    gone("no image is downloaded: 'anweddol image build' makes one, or container.image names one")
}

/// Both keys together are ours.
fn listen(old: &Old<'_>, _: &Value) -> Became {
    let address = old.get("server", "bind_address").map_or(Some("0.0.0.0"), Value::as_str);
    let address = address.and_then(|text| text.parse::<Ipv4Addr>().ok());
    let port = old.get("server", "listen_port").map_or(Some(6150), port);
    match (address, port) {
        (None, _) => Wrong("an IPv4 address as bind_address"),
        (_, None) => Wrong("a port as listen_port, 1 to 65535"),
        (Some(address), Some(port)) => {
            took("server.listen", json!(SocketAddr::new(IpAddr::V4(address), port).to_string()))
        }
    }
}

fn port(value: &Value) -> Option<u16> {
    value.as_u64().and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0)
}

fn range(value: &Value) -> Option<(u16, u16)> {
    let [first, last] = value.as_array()?.as_slice() else { return None };
    port(first).zip(port(last)).filter(|(first, last)| first <= last)
}

fn timeout(_: &Old<'_>, value: &Value) -> Became {
    const KEY: &str = "server.client_timeout";
    let longest = |why: &str| As(KEY, json!(LONGEST), why.into());
    match (value, value.as_u64()) {
        (Value::Null, _) | (_, Some(0)) => longest("there is always a limit: this is the longest"),
        (_, Some(seconds)) if seconds > LONGEST => longest("this is the longest"),
        (_, Some(seconds)) => took(KEY, json!(seconds)),
        _ => Wrong("a whole number of seconds, or null"),
    }
}

fn onetime_keys(_: &Old<'_>, value: &Value) -> Became {
    match value {
        Value::Bool(false) => Default("the server's key is made at the first start, and kept".into()),
        Value::Bool(true) => {
            gone("clients know a server by its key, which is kept; remove 'server.pem' in state_dir for a fresh one")
        }
        _ => Wrong(FLAG),
    }
}

/// It was there only if it was asked for on the command line, which the file does not say.
const IF_WEB: &str = "if the server was run with --web";

fn web_listen(_: &Old<'_>, value: &Value) -> Became {
    match port(value) {
        Some(port) => Offered("web.listen", json!(format!("0.0.0.0:{port}")), IF_WEB.into()),
        None => Wrong("a port, 1 to 65535"),
    }
}

fn web_tls(old: &Old<'_>, value: &Value) -> Became {
    let file = |name| old.get("web_server", name).and_then(Value::as_str);
    let files = file("ssl_pem_certificate_file_path").zip(file("ssl_pem_private_key_file_path"));
    match (value, files) {
        (Value::Bool(false), _) => Default("web.tls: null".into()),
        (Value::Bool(true), Some((certificate, key))) => {
            Offered("web.tls", json!({ "certificate": certificate, "key": key }), IF_WEB.into())
        }
        (Value::Bool(true), None) => Wrong("its certificate and key too, or false"),
        _ => Wrong(FLAG),
    }
}

fn web_tls_file(old: &Old<'_>, value: &Value) -> Became {
    match old.get("web_server", "enable_ssl") {
        Some(enabled @ Value::Bool(true)) => web_tls(old, enabled),
        _ if value.is_string() => gone("without enable_ssl it was not used"),
        _ => Wrong("the path of a file"),
    }
}

fn filter(_: &Old<'_>, value: &Value) -> Became {
    match value {
        Value::Bool(false) => {
            Default("without networks in ip_filter.allow and ip_filter.deny everybody may connect".into())
        }
        Value::Bool(true) => Default("ip_filter works as soon as it has networks".into()),
        _ => Wrong(FLAG),
    }
}

/// An address, or `any`.
fn addresses(value: &Value) -> Option<(Vec<&str>, bool)> {
    let list: Option<Vec<&str>> = value.as_array()?.iter().map(Value::as_str).collect();
    let (any, list): (Vec<&str>, Vec<&str>) = list?.into_iter().partition(|text| *text == "any");
    Some((list, !any.is_empty()))
}

const ADDRESSES: &str = "a list of IPv4 addresses or any";

fn filters(old: &Old<'_>) -> bool {
    old.get("ip_filter", "enabled") == Some(&Value::Bool(true))
}

/// Only where `any` is denied was the list of allowed ones asked.
fn filter_allowed(old: &Old<'_>, value: &Value) -> Became {
    let Some((allowed, anybody)) = addresses(value) else { return Wrong(ADDRESSES) };
    let denies_any = old.get("ip_filter", "denied_ip_list").and_then(addresses).is_some_and(|(_, any)| any);
    match (filters(old), denies_any && !anybody) {
        (false, _) => gone("without ip_filter.enabled it was not used"),
        (true, false) => Default("it was asked only where 'any' is denied and not allowed".into()),
        (true, true) if allowed.is_empty() => Default("nobody is allowed: see what is denied".into()),
        (true, true) => took("ip_filter.allow", networks(&allowed)),
    }
}

fn filter_denied(old: &Old<'_>, value: &Value) -> Became {
    let Some((denied, any)) = addresses(value) else { return Wrong(ADDRESSES) };
    let allowed = old.get("ip_filter", "allowed_ip_list").and_then(addresses);
    let nobody = any && allowed.is_none_or(|(list, anybody)| list.is_empty() && !anybody);
    match filters(old) {
        false => gone("without ip_filter.enabled it was not used"),
        true if nobody => As("ip_filter.deny", json!(["0.0.0.0/0", "::/0"]), "nobody was allowed".into()),
        true => As(
            "ip_filter.deny",
            networks(&denied),
            if any { "'any' is what a list in ip_filter.allow means" } else { "" }.into(),
        ),
    }
}

/// As they are written here: a network of one.
fn networks(list: &[&str]) -> Value {
    list.iter()
        .map(|text| text.parse::<Ipv4Addr>().map_or_else(|_| json!(text), |one| json!(format!("{one}/32"))))
        .collect()
}
