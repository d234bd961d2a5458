//! The Python server's file, of both generations, becomes ours.

use std::collections::BTreeSet;
use std::path::Path;

use crate::config::import::{Import, Note, Outcome, import};
use crate::config::{Config, Image};
use crate::model::{DomainType, Memory};

/// Written from the keys of beta-1.2.8.
const FIRST: &str = include_str!("first.yaml");
/// Written from the keys of v4.1.4.
const SECOND: &str = include_str!("second.yaml");

fn good(text: &str) -> (Config, Import) {
    let import = import(Some(Path::new("old.yaml")), text).unwrap_or_else(|error| panic!("{error}"));
    (Config::parse(&import.config).unwrap_or_else(|error| panic!("{error}\n{}", import.config)), import)
}

fn bad(text: &str) -> String {
    import(Some(Path::new("old.yaml")), text).unwrap_err().to_string()
}

/// What became of each key of a file, shortly.
fn became(import: &Import) -> Vec<(&str, Outcome, Option<&str>)> {
    import.keys.iter().map(|note| (note.key.as_str(), note.outcome, note.new)).collect()
}

#[test]
fn a_file_of_the_first_generation_becomes_ours() {
    let (config, import) = good(FIRST);
    assert_eq!(config.container.image, Some(Image::Iso("/etc/anweddol/iso/anweddol_container.iso".into())));
    assert_eq!(config.container.max_allowed_running_containers, 8);
    assert_eq!(config.container.memory, Memory::mebibytes(1024));
    assert_eq!(config.container.vcpus, 2);
    assert_eq!(config.server.listen, "127.0.0.1:6155".parse().unwrap());
    assert_eq!(config.server.client_timeout, 20);
    let became = became(&import);
    for (key, outcome, new) in [
        ("container.container_iso_path", Outcome::Taken, Some("container.image")),
        ("container.max_allowed_running_containers", Outcome::Taken, Some("container.max_allowed_running_containers")),
        ("container.bridge_interface_name", Outcome::None, None),
        ("container.endpoint_username", Outcome::Default, None),
        ("server.rsa_keys_root_path", Outcome::None, None),
        ("server.bind_address", Outcome::Taken, Some("server.listen")),
        ("server.listen_port", Outcome::Taken, Some("server.listen")),
        ("server.enable_onetime_rsa_keys", Outcome::Default, None),
        ("log_rotation.action", Outcome::None, None),
        ("ip_filter.enabled", Outcome::Default, None),
        ("access_token.access_tokens_database_path", Outcome::None, None),
    ] {
        assert!(became.contains(&(key, outcome, new)), "{key}: {became:?}");
    }
    for line in [
        "# server.bind_address: '127.0.0.1'\n  # server.listen_port: 6155\n  listen: 127.0.0.1:6155",
        "  # container.container_memory: 1024\n  memory: 1024Mi",
    ] {
        assert!(import.config.contains(line), "{}", import.config);
    }
}

#[test]
fn a_file_of_the_second_generation_becomes_ours() {
    let (config, import) = good(SECOND);
    assert_eq!(config.container.image, Some(Image::Iso("/srv/old.iso".into())));
    // No limit is as many as there are ports.
    assert_eq!(config.container.max_allowed_running_containers, 10_001);
    assert_eq!(config.port_forwarding.range.ports(), 10_000..=20_000);
    assert_eq!(config.container.domain_type, DomainType::Qemu);
    assert_eq!(config.container.boot_deadline, 600);
    assert_eq!(config.server.client_timeout, 3600);
    assert!(config.access.required);
    assert_eq!(config.ip_filter.allow, ["192.0.2.7/32".parse().unwrap()]);
    assert_eq!(config.ip_filter.deny, ["192.0.2.9/32".parse().unwrap()]);
    let became = became(&import);
    for (key, outcome, new) in [
        ("server.bind_address", Outcome::Default, Some("server.listen")),
        ("server.private_rsa_key_file_path", Outcome::None, None),
        ("server.timeout", Outcome::Taken, Some("server.client_timeout")),
        ("container.nat_interface_name", Outcome::None, None),
        ("container.endpoint_password", Outcome::None, None),
        ("access_token.enabled", Outcome::Taken, Some("access.required")),
        ("ip_filter.denied_ip_list", Outcome::Taken, Some("ip_filter.deny")),
        ("web_server.listen_port", Outcome::Offered, Some("web.listen")),
        ("access_token.access_token_database_file_path", Outcome::None, None),
        ("server.colour", Outcome::Unknown, None),
    ] {
        assert!(became.contains(&(key, outcome, new)), "{key}: {became:?}");
    }
}

/// The samples have every key there is, so that no row is untried.
#[test]
fn every_old_key_is_in_a_sample() {
    let oldest = "paths: {container_iso_path: /a, rsa_keys_root_path: /b, log_file_path: /c, pid_file_path: /d, \
                  access_tokens_database_path: /e, permalink_resource_file_url: f, container_iso_mirror_url: null}\n\
                  access_token: {access_tokens_database_file_path: /g}\n";
    let tried: BTreeSet<String> =
        [FIRST, SECOND, oldest].iter().flat_map(|text| good(text).1.keys).map(|note| note.key).collect();
    for (key, _) in crate::config::import::old::ROWS {
        assert!(tried.contains(*key), "{key} is in no sample");
    }
}

#[test]
fn every_key_is_told_with_its_line_and_nothing_is_passed_over() {
    for text in [FIRST, SECOND] {
        let (_, import) = good(text);
        let lines =
            text.lines().enumerate().filter(|(_, line)| line.starts_with("  ") && !line.trim().starts_with(['#', '-']));
        let keys: Vec<(usize, &str)> =
            lines.map(|(at, line)| (at + 1, line.trim().split(':').next().unwrap())).collect();
        let told: Vec<(usize, &str)> =
            import.keys.iter().map(|note| (note.line, note.key.split('.').next_back().unwrap())).collect();
        assert_eq!(told, keys);
        let unknown = import.keys.iter().filter(|note| note.outcome == Outcome::Unknown);
        assert!(unknown.into_iter().all(|note| note.key == "server.colour"), "a key of the original has no row");
        for note in &import.keys {
            assert!(!note.text().ends_with(": ") && !note.text().ends_with("()"), "{}", note.text());
        }
    }
}

#[test]
fn the_old_key_is_converted_as_the_manual_says() {
    let (_, import) = good(SECOND);
    let note = import.keys.iter().find(|note| note.key == "server.private_rsa_key_file_path").unwrap();
    for text in [&note.text(), include_str!("../../cli/help/migration.md")] {
        assert!(text.contains("openssl pkcs8 -topk8 -nocrypt -in "), "{text}");
    }
}

#[test]
fn a_password_is_not_repeated() {
    let (_, import) = good(SECOND);
    let said = serde_json::to_string(&import).unwrap();
    assert!(!said.contains("hunter2") && said.contains("container.endpoint_password"), "{said}");
}

#[test]
fn what_cannot_be_is_told_with_the_old_line() {
    for (text, right) in [
        (
            "container:\n  container_memory: lots",
            "old.yaml:2:3: container.container_memory is 'lots': write a whole number of MiB",
        ),
        (
            "container:\n  container_memory: 32",
            "old.yaml:2:3: container.container_memory is 32: container.memory would be '32Mi': no guest boots in less than 64Mi",
        ),
        (
            "container:\n  container_vcpus: 500",
            "old.yaml:2:3: container.container_vcpus is 500: container.vcpus would be 500: write 1 to 256",
        ),
        ("container:\n  max_allowed_running_containers: 0", "write a whole number, 1 at least"),
        ("container:\n  wait_max_tryout: -2", "write a whole number, -1 at least"),
        ("container: 7", "old.yaml:1:1: container is 7: it is a section"),
        ("container:\n  container_iso_path: 7", "write the path of an ISO image"),
        ("server:\n  listen_port: 0", "old.yaml:2:3: server.listen_port is 0: write a port as listen_port, 1 to 65535"),
        ("server:\n  bind_address: here", "write an IPv4 address as bind_address"),
        ("server:\n  timeout: soon", "write a whole number of seconds, or null"),
        ("server:\n  enable_onetime_rsa_keys: 1", "write true or false"),
        ("port_forwarding:\n  port_range: [9, 8]", "write a list of two ports, as [10000, 20000]"),
        (
            "port_forwarding:\n  port_range: [6000, 7000]",
            "port_forwarding.range would be '6000-7000': the port of server.listen is in it",
        ),
        ("access_token:\n  enabled: 1", "write true or false"),
        ("ip_filter:\n  enabled: 1", "write true or false"),
        ("web_server:\n  listen_port: x", "write a port, 1 to 65535"),
        ("server: {", "old.yaml:2:1: "),
        ("server: {timeout: 1}\nserver: {timeout: 2}", "the key 'server' stands here twice"),
        ("", "old.yaml: it is no configuration of the Python server"),
        ("container:\n  memory: 1Gi", "a file of this server's own needs no import"),
        ("- a", "no configuration of the Python server"),
    ] {
        let said = bad(text);
        assert!(said.contains(right), "for {text:?} it says\n{said}");
    }
}

/// A comment is one line, or it would be no comment; YAML ends a line with more than a line feed.
#[test]
fn a_value_of_several_lines_does_not_leave_its_comment() {
    for end in ["\\n", "\\r", "\\N", "\\L", "\\P", "\u{2028}"] {
        let path = format!("/a{end}server: {{local_api: false}}");
        let tls = "enable_ssl: true, listen_port: 1, ssl_pem_private_key_file_path: /k";
        for old in [
            format!("container: {{container_iso_path: \"{path}\"}}"),
            format!("web_server: {{{tls}, ssl_pem_certificate_file_path: \"{path}\"}}"),
            format!("ip_filter: {{enabled: false, denied_ip_list: [\"{path}\"]}}"),
        ] {
            let (config, import) = good(&old);
            assert!(config.server.local_api, "{}", import.config);
            let told: Vec<String> = import.keys.iter().map(Note::text).collect();
            assert!(!told.iter().any(|line| line.contains(['\n', '\r', '\u{85}', '\u{2028}', '\u{2029}'])), "{told:?}");
        }
    }
}

#[test]
fn a_key_of_the_old_file_is_told_without_what_a_terminal_would_obey() {
    let (_, import) = good("server: {listen_port: 6150, \"\\e[31m\\n\": 1}");
    assert_eq!(import.keys[1].key, "server.\\u{1b}[31m\\n");
}

#[test]
fn limits_that_were_none_become_the_longest() {
    for (text, seconds) in [("null", 3600), ("0", 3600), ("9999", 3600), ("1", 1)] {
        assert_eq!(good(&format!("server: {{timeout: {text}}}")).0.server.client_timeout, seconds, "{text}");
    }
    for (text, seconds) in [("-1", 3600), ("20", 120), ("121", 121), ("99999", 3600)] {
        let deadline = good(&format!("container: {{wait_max_tryout: {text}}}")).0.container.boot_deadline;
        assert_eq!(deadline, seconds, "{text}");
    }
}
