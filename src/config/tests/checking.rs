//! What is wrong with a configuration is said wholly: file, line, column, key, value, and what would be right.

use std::fs;
use std::path::Path;

use crate::config::{Config, ConfigError, MAX_SIZE};

/// What is said of a text that stands in `c.yaml`.
fn said(text: &str) -> String {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("c.yaml");
    fs::write(&file, text).unwrap();
    let error = Config::read(&file).expect_err(text);
    crate::error_chain(&error).replace(&format!("{}/", dir.path().display()), "")
}

/// One row for each rule: the text, and what is said of it.
const ROWS: &[(&str, &str)] = &[
    // Keys that are none.
    ("servr: {}", "c.yaml:1:1: servr: there is no such key; did you mean server?"),
    ("server:\n  lisen: 1", "c.yaml:2:3: server.lisen: there is no such key; did you mean listen?"),
    ("container:\n  vcpu: 1", "c.yaml:2:3: container.vcpu: there is no such key; did you mean vcpus?"),
    ("port_forwarding:\n  rnge: 1", "c.yaml:2:3: port_forwarding.rnge: there is no such key; did you mean range?"),
    ("hypervisor:\n  moed: x", "c.yaml:2:3: hypervisor.moed: there is no such key; did you mean mode?"),
    ("host:\n  memry: 1Gi", "c.yaml:2:3: host.memry: there is no such key; did you mean memory?"),
    ("events:\n  keeep: 1000", "c.yaml:2:3: events.keeep: there is no such key; did you mean keep?"),
    ("events:\n  retention_time: 1", "c.yaml:2:3: events.retention_time: there is no such key; events has keep"),
    (
        "max_connections: 9",
        "c.yaml:1:1: max_connections: there is no such key here; did you mean server.max_connections?",
    ),
    (
        "container.memory: 1Gi",
        "c.yaml:1:1: container.memory: there is no such key: write 'container:' and below it, indented, 'memory:'",
    ),
    // Values of the wrong type.
    ("state_dir: []", "c.yaml:1:1: state_dir is []: write the path of a directory"),
    ("manifests: {}", "c.yaml:1:1: manifests is {}: write the path of a directory, or null"),
    ("server: 1", "c.yaml:1:1: server is 1: it is a section: write its keys below it, indented"),
    (
        "server:\n  listen: here",
        "c.yaml:2:3: server.listen is 'here': invalid socket address syntax; write ADDRESS:PORT",
    ),
    ("server:\n  client_timeout: 10s", "c.yaml:2:3: server.client_timeout is '10s': write a whole number of seconds"),
    ("server:\n  client_timeout: 1.5", "c.yaml:2:3: server.client_timeout is 1.5: write a whole number of seconds"),
    ("server:\n  client_timeout: null", "c.yaml:2:3: server.client_timeout is null: write a whole number of seconds"),
    ("server:\n  max_connections: -1", "c.yaml:2:3: server.max_connections is -1: "),
    (
        "server: {health_listen: 6152}",
        "c.yaml:1:10: server.health_listen is 6152: invalid socket address syntax; write ADDRESS:PORT, or null",
    ),
    (
        "server: {api_listen: x}",
        "c.yaml:1:10: server.api_listen is 'x': invalid socket address syntax; write ADDRESS:PORT, or null",
    ),
    ("server:\n  api_names: x", "c.yaml:2:3: server.api_names is 'x': write a list of names and addresses"),
    ("server:\n  local_api: maybe", "c.yaml:2:3: server.local_api is 'maybe': write true or false"),
    (
        "container:\n  image: x",
        "c.yaml:2:3: container.image is 'x': write a map with one of iso, kernel and disk, or null",
    ),
    (
        "container:\n  image: {floppy: a}",
        "c.yaml:2:3: container.image is {\"floppy\":\"a\"}: unknown field `floppy`, expected one of `iso`, `kernel`, `disk`; write a map with",
    ),
    ("container:\n  image: {kernel: {path: /k}}", "in kernel: missing field `initrd`; write a map with"),
    ("container:\n  memory: lots", "c.yaml:2:3: container.memory is 'lots': "),
    (
        "container:\n  memory: -5",
        "c.yaml:2:3: container.memory is -5: write a whole number with Ki, Mi or Gi, as 256Mi",
    ),
    ("container:\n  vcpus: many", "c.yaml:2:3: container.vcpus is 'many': write a whole number"),
    (
        "container:\n  domain_type: xen",
        "c.yaml:2:3: container.domain_type is 'xen': unknown variant `xen`, expected one of `auto`, `kvm`, `qemu`",
    ),
    ("container:\n  egress: some", "c.yaml:2:3: container.egress is 'some': "),
    ("container:\n  max_allowed_running_containers: null", "containers is null: write a whole number"),
    ("container:\n  warm: true", "c.yaml:2:3: container.warm is true: write a whole number"),
    ("container:\n  boot_deadline: 2m", "c.yaml:2:3: container.boot_deadline is '2m': write a whole number of seconds"),
    ("container:\n  ttl: 1h", "c.yaml:2:3: container.ttl is '1h': write a whole number of seconds, or null"),
    ("container:\n  max_ttl: 1h", "c.yaml:2:3: container.max_ttl is '1h': write a whole number of seconds, or null"),
    (
        "container:\n  idle_timeout: []",
        "c.yaml:2:3: container.idle_timeout is []: write a whole number of seconds, or null",
    ),
    (
        "container:\n  max_ready: never",
        "c.yaml:2:3: container.max_ready is 'never': write a whole number of seconds, or null",
    ),
    (
        "port_forwarding:\n  bind: '::'",
        "c.yaml:2:3: port_forwarding.bind is '::': invalid IPv4 address syntax; write an IPv4 address",
    ),
    (
        "port_forwarding:\n  range: 5-4",
        "c.yaml:2:3: port_forwarding.range is '5-4': '5-4' is no port range: write FIRST-LAST with 1 <= FIRST <= LAST <= 65535",
    ),
    ("port_forwarding:\n  range: 0-9", "range is '0-9': "),
    (
        "hypervisor:\n  mode: cloud",
        "c.yaml:2:3: hypervisor.mode is 'cloud': unknown variant `cloud`, expected one of `auto`, `embedded`, `system`",
    ),
    ("hypervisor:\n  network: []", "c.yaml:2:3: hypervisor.network is []: write a text"),
    ("hypervisor:\n  bridge: {a: 1}", "c.yaml:2:3: hypervisor.bridge is {\"a\":1}: write a text"),
    (
        "hypervisor:\n  subnet: 8.8.8.0/24",
        "c.yaml:2:3: hypervisor.subnet is '8.8.8.0/24': '8.8.8.0/24' is no subnet for guests: write a private IPv4 network",
    ),
    ("host:\n  memory: x", "c.yaml:2:3: host.memory is 'x': "),
    (
        "host:\n  disk_reserve: true",
        "c.yaml:2:3: host.disk_reserve is true: write a whole number with Ki, Mi or Gi, as 512Mi, or null",
    ),
    (
        "ip_filter:\n  allow: [10.0.0.0/33]",
        "c.yaml:2:3: ip_filter.allow is [\"10.0.0.0/33\"]: in [0]: '10.0.0.0/33' is no network of IP addresses: write ADDRESS/BITS",
    ),
    ("ip_filter:\n  deny: everybody", "c.yaml:2:3: ip_filter.deny is 'everybody': "),
    (
        "rates:\n  connections_per_minute: 0",
        "c.yaml:2:3: rates.connections_per_minute is 0: invalid value: integer `0`, expected a nonzero u32; write a whole number above 0",
    ),
    (
        "rates:\n  requests_per_minute: -1",
        "c.yaml:2:3: rates.requests_per_minute is -1: write a whole number above 0, or null",
    ),
    ("rates:\n  connections_per_address: many", "c.yaml:2:3: rates.connections_per_address is 'many': "),
    ("rates:\n  key_exchanges: 513", "c.yaml:2:3: rates.key_exchanges is 513: write 1 to 512, or null"),
    ("host:\n  parallel_boots: 0", "c.yaml:2:3: host.parallel_boots is 0: "),
    ("rates:\n  exempt: [localhost]", "c.yaml:2:3: rates.exempt is [\"localhost\"]: in [0]: 'localhost' is no network"),
    ("events:\n  keep: all", "c.yaml:2:3: events.keep is 'all': write a whole number"),
    // Values that types take and that cannot be.
    ("server:\n  client_timeout: 0", "c.yaml:2:3: server.client_timeout is 0: write 1 to 3600 seconds"),
    (
        "server:\n  max_connections: 0",
        "c.yaml:2:3: server.max_connections is 0: nobody could connect; write at least 1",
    ),
    (
        "server:\n  api_names: ['a b']",
        "c.yaml:2:3: server.api_names is [\"a b\"]: write names of hosts, or addresses, without ports",
    ),
    (
        "server:\n  listen: 127.0.0.1:6152",
        "c.yaml:2:3: server.health_listen is '127.0.0.1:6152' by default: server.listen listens there: choose a port apart",
    ),
    (
        "server:\n  api_listen: 0.0.0.0:6150",
        "c.yaml:2:3: server.api_listen is '0.0.0.0:6150': server.listen listens there",
    ),
    (
        "server:\n  api_listen: 127.0.0.1:6152",
        "c.yaml:2:3: server.api_listen is '127.0.0.1:6152': server.health_listen listens there",
    ),
    (
        "container:\n  max_allowed_running_containers: 0",
        "c.yaml:2:3: container.max_allowed_running_containers is 0: nobody could ever create a container; write at least 1",
    ),
    (
        "container:\n  warm: 7",
        "c.yaml:2:3: container.warm is 7: write no more than container.max_allowed_running_containers, which is 6",
    ),
    (
        "container:\n  memory: 1Mi",
        "c.yaml:2:3: container.memory is '1Mi': no guest boots in less than 64Mi; write at least that",
    ),
    ("access:\n  requried: true", "c.yaml:2:3: access.requried: there is no such key; did you mean required?"),
    ("access:\n  required: 1", "c.yaml:2:3: access.required is 1: write true or false"),
    (
        "web:\n  listen: localhost:8080",
        "c.yaml:2:3: web.listen is 'localhost:8080': 'localhost:8080' is no address: write ADDRESS or ADDRESS:PORT",
    ),
    ("web:\n  listen: 8080", "c.yaml:2:3: web.listen is 8080: '8080' is no address"),
    ("web:\n  listen: 0.0.0.0:6150", "c.yaml:2:3: web.listen is '0.0.0.0:6150': server.listen listens there"),
    ("web:\n  listen: 127.0.0.1:6151", "c.yaml:2:3: web.listen is '127.0.0.1:6151': server.api_listen listens there"),
    ("web:\n  listen: 127.0.0.1:10001", "the port of web.listen is in it: choose ranges apart"),
    ("web:\n  tls: {certificate: /a}", "web.tls is {\"certificate\":\"/a\"}: write both its certificate and its key"),
    ("web:\n  tls: {key: /a}", "write both its certificate and its key, or '{}'"),
    (
        "container:\n  image: {iso: guest.iso}",
        "c.yaml:2:3: container.image is {\"iso\":\"guest.iso\"}: write absolute paths, as /srv/images/guest.iso",
    ),
    ("state_dir: ~/anweddol", "c.yaml:1:1: state_dir is '~/anweddol': write an absolute path, as /srv/anweddol"),
    ("manifests: pools", "c.yaml:1:1: manifests is 'pools': write an absolute path, as /etc/anweddol/manifests"),
    (
        "web:\n  tls: {certificate: /a, key: b}",
        "web.tls is {\"certificate\":\"/a\",\"key\":\"b\"}: write absolute paths",
    ),
    (
        "hypervisor:\n  mode: embedded\ncontainer:\n  egress: internet",
        "c.yaml:4:3: container.egress is 'internet': QEMU's user networking cannot tell public addresses from others: write 'none' or",
    ),
    ("container:\n  vcpus: 0", "c.yaml:2:3: container.vcpus is 0: write 1 to 256"),
    ("container:\n  vcpus: 257", "c.yaml:2:3: container.vcpus is 257: write 1 to 256"),
    ("container:\n  boot_deadline: 1", "c.yaml:2:3: container.boot_deadline is 1: write 5 to 3600 seconds"),
    (
        "container:\n  ttl: 9",
        "c.yaml:2:3: container.ttl is 9: write 10 to 31536000 seconds (the most is a year), or null for no limit",
    ),
    ("container:\n  max_ttl: 0", "c.yaml:2:3: container.max_ttl is 0: write 10 to"),
    ("container:\n  idle_timeout: 0", "c.yaml:2:3: container.idle_timeout is 0: write 10 to"),
    ("container:\n  max_ready: 99999999", "c.yaml:2:3: container.max_ready is 99999999: write 10 to 31536000"),
    (
        "container:\n  ttl: 600\n  max_ttl: 60",
        "c.yaml:2:3: container.ttl is 600: write no more than container.max_ttl, which is 60",
    ),
    (
        "port_forwarding:\n  range: 6150-9000",
        "c.yaml:2:3: port_forwarding.range is '6150-9000': the port of server.listen is in it: choose ranges apart",
    ),
    (
        "server:\n  listen: 0.0.0.0:10001",
        "c.yaml:2:3: port_forwarding.range is '10000-14999' by default: the port of server.listen is in it",
    ),
    (
        "server: {api_listen: '[::1]:10001'}",
        "c.yaml:1:10: port_forwarding.range is '10000-14999' by default: the port of server.api_listen is in it",
    ),
    ("server: {health_listen: '[::1]:10001'}", "the port of server.health_listen is in it"),
    (
        "port_forwarding:\n  range: 7000-7001",
        "c.yaml:2:3: port_forwarding.range is '7000-7001': write at least as many ports as container.max_allowed_running_containers, which is 6",
    ),
    (
        "hypervisor:\n  bridge: a-name-that-is-too-long",
        "c.yaml:2:3: hypervisor.bridge is 'a-name-that-is-too-long': write 1 to 15 letters",
    ),
    ("hypervisor:\n  network: a/b", "c.yaml:2:3: hypervisor.network is 'a/b': write a libvirt network name"),
    (
        "host:\n  memory: 255Mi",
        "c.yaml:2:3: host.memory is '255Mi': nobody could ever create a container; write at least container.memory, which is 256Mi",
    ),
    ("events:\n  keep: 1", "c.yaml:2:3: events.keep is 1: write 100 to 1000000"),
    (
        "observe:\n  otlp_endpoint: https://user:word@there",
        "c.yaml:2:3: observe.otlp_endpoint is 'https://user:word@there': write the collector's address as http://HOST:4317",
    ),
    (
        "observe:\n  otlp_endpoint: 127.0.0.1:4317",
        "c.yaml:2:3: observe.otlp_endpoint is '127.0.0.1:4317': write the coll",
    ),
    (
        "container: {image: {kernel: {path: , initrd: /i}}}",
        "c.yaml:1:13: container.image is {\"kernel\":{\"path\":null,\"initrd\":\"/i\"}}: within it, invalid type: null, expected path \
         string; write a map with one of iso, kernel and disk",
    ),
    // No configuration at all.
    ("events:\n  keep: 200\n  keep: 300", "c.yaml:3:3: events: the key 'keep' stands here twice: leave one of the two"),
    ("server:\n  client_timeout: 2\nserver:\n  local_api: true", "c.yaml:3:1: the key 'server' stands here twice"),
    ("server: {", "c.yaml:2:1: "),
    ("a: b: c", "c.yaml:1:5: "),
    ("- a", "c.yaml:1: it is a list: write sections with keys, as 'anweddol config init' shows"),
    ("hello", "c.yaml:1: it is 'hello': write sections with keys"),
    ("a\n\nb", "c.yaml:1: it is 'a\\nb': write sections with keys"),
    ("events: {keep: 200}\n---\nevents: {keep: 300}", "more than one document"),
    ("events: &a {keep: *a}", "c.yaml:"),
];

#[test]
fn each_bad_configuration_is_named_by_file_line_column_key_value_and_what_would_be_right() {
    let said = ROWS.iter().map(|(text, right)| (text, right, said(text)));
    let other: Vec<_> = said.filter(|(_, right, said)| !said.contains(*right)).collect();
    assert!(other.is_empty(), "(text, what has to be said, what is said): {other:#?}");
}

/// Whoever adds a key adds its row.
#[test]
fn each_key_has_a_row() {
    for key in crate::config::keys::KEYS {
        assert!(ROWS.iter().any(|(_, says)| says.contains(&format!("{} is ", key.name))), "{}", key.name);
    }
}

#[test]
fn all_that_is_wrong_is_told_at_once_in_the_order_of_the_file() {
    let text =
        "events: {keep: 1}\nservr: {}\ncontainer:\n  vcpus: 0\n  memory: lots\n  warm: 9\nserver:\n  listen: x\n";
    let said = said(text);
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines[0], "configuration: 6 things are wrong");
    let begin = |n: usize, text: &str| assert!(lines[n].starts_with(text), "{said}");
    begin(1, "  c.yaml:1:10: events.keep is 1");
    begin(2, "  c.yaml:2:1: servr: ");
    begin(3, "  c.yaml:4:3: container.vcpus is 0");
    begin(4, "  c.yaml:5:3: container.memory is 'lots'");
    begin(5, "  c.yaml:6:3: container.warm is 9");
    begin(6, "  c.yaml:8:3: server.listen is 'x'");
}

/// An error is lines of text, whatever the file holds.
#[test]
fn what_is_repeated_of_a_file_is_short_and_harmless() {
    let long = "x".repeat(100_000);
    for text in [
        "\"\\e[2J\": 1".to_owned(),
        "events: {keep: \"\\e[2J\\n\"}".to_owned(),
        "hypervisor: {mode: \"\\e[2J\"}".to_owned(),
        format!("{long}: 1"),
        format!("hypervisor: {{mode: {long}}}"),
    ] {
        let said = said(&text);
        assert!(said.len() < 1000 && said.lines().count() == 1 && !said.contains('\u{1b}'), "{said:?}");
    }
}

/// The default that stands in for a value which cannot be read is nobody's error.
#[test]
fn a_value_that_cannot_be_read_breaks_no_rule_with_others() {
    let said = said("container:\n  warm: 9\n  max_allowed_running_containers: ten\n");
    assert!(said.contains("containers is 'ten'") && !said.contains("warm"), "{said}");
}

#[test]
fn a_file_that_is_none_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("c.yaml");
    let says = |words: &str| {
        let said = crate::error_chain(&Config::read(&file).unwrap_err());
        assert!(said.contains(words) && said.contains("c.yaml"), "{said}");
    };
    says("cannot be read");
    fs::create_dir(&file).unwrap();
    says("is a directory: name the file in it");
    fs::remove_dir(&file).unwrap();
    fs::write(&file, b"events:\n  keep: 200 # \xff\n").unwrap();
    says("c.yaml:2: it is not UTF-8 text");
    let long = "#".repeat(usize::try_from(MAX_SIZE).unwrap() + 1);
    fs::write(&file, &long).unwrap();
    says("is longer than 1048576 bytes");
    fs::write(&file, &long[1..]).unwrap();
    assert_eq!(Config::read(&file).unwrap(), Config::default());
    // Not even root reads a process' own memory from its beginning.
    let unreadable = Config::read(Path::new("/proc/self/mem")).unwrap_err();
    assert!(matches!(unreadable, ConfigError::Unreadable { .. }), "{unreadable}");
}

#[test]
fn what_stands_in_no_file_is_named_by_its_key() {
    let mut config = Config::default();
    config.container.vcpus = 0;
    assert_eq!(config.check().unwrap_err().to_string(), "configuration: container.vcpus is 0: write 1 to 256");
    Config::default().check().unwrap();
}
