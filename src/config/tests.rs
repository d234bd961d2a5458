use serde_json::json;

use super::keys::{Effect, KEYS};
use super::reload::compare;
use super::*;
use crate::model::DiskFormat;

mod checking;
mod importing;

#[test]
fn the_commented_default_says_the_defaults() {
    assert_eq!(Config::parse(COMMENTED).unwrap(), Config::default());
}

/// The leaves of a tree, by their names.
fn leaves(tree: &serde_json::Value, path: &str, found: &mut Vec<String>) {
    for (name, value) in tree.as_object().unwrap() {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        match value {
            serde_json::Value::Object(_) => leaves(value, &path, found),
            _ => found.push(path),
        }
    }
}

#[test]
fn every_key_is_in_the_table_and_in_the_commented_default() {
    let mut there = Vec::new();
    leaves(&json!(Config::default()), "", &mut there);
    let mut table: Vec<&str> = KEYS.iter().map(|key| key.name).collect();
    for explained in explain::all() {
        assert!(!explained.meaning.is_empty(), "{}: the commented default does not say what it means", explained.key);
        let last = explained.key.rsplit('.').next().unwrap();
        assert!(COMMENTED.contains(&format!("{last}:")), "{}: not in the commented default", explained.key);
    }
    there.sort();
    table.sort();
    assert_eq!(table, there);
}

#[test]
fn every_section_says_what_it_is_for() {
    for key in KEYS {
        let Some((section, _)) = key.name.split_once('.') else { continue };
        let (about, keys) = explain::explain(section).unwrap();
        assert!(!about.is_empty(), "nothing stands above '{section}:' in the commented default");
        assert!(keys.iter().any(|explained| explained.key == key.name));
    }
}

/// What the commented default shows as an example is taken as it stands there.
#[test]
fn every_example_can_be_written_as_it_stands() {
    for explained in explain::all() {
        let nullable = explained.value.contains("null");
        for example in &explained.examples {
            Config::parse(example).unwrap_or_else(|error| panic!("{example}: {error}"));
            let shows = example.trim_end().rsplit(": ").next().unwrap();
            assert!(!nullable || shows != "null", "{}: no example of a value in the commented default", explained.key);
        }
    }
    let image = |at: usize| Config::parse(&explain::explain("container.image").unwrap().1[0].examples[at]);
    let path = |name: &str| Path::new("/srv/images").join(name);
    let kernel = Image::Kernel { path: path("vmlinuz"), initrd: path("initrd"), cmdline: String::new() };
    assert_eq!(image(0).unwrap().template().image, Image::Iso(path("guest.iso")));
    assert_eq!(image(1).unwrap().template().image, kernel);
    let disk = image(2).unwrap();
    assert_eq!(disk.template().image, Image::Disk { path: path("disk.qcow2"), format: DiskFormat::Qcow2 });
    assert_eq!(Config::parse(&serde_yaml::to_string(&disk).unwrap()).unwrap(), disk);
}

/// A document with one key.
fn alone(key: &str, value: &str) -> String {
    match key.split_once('.') {
        Some((section, key)) => format!("{section}:\n  {key}: {value}\n"),
        None => format!("{key}: {value}\n"),
    }
}

#[test]
fn what_a_keys_value_is_said_to_be_is_what_is_taken() {
    for key in KEYS {
        let taken = |value: &str| Config::parse(&alone(key.name, value));
        assert_eq!(taken("null").is_ok(), key.value.contains("null"), "{}: null", key.name);
        let numbers = ["number", "Mi"].iter().any(|word| key.value.contains(word));
        // A number without quotes is the same text, for what is read as a text.
        let text = key.value.contains("text") || key.value.contains("directory");
        assert!(numbers || text || taken("7").is_err(), "{}: a number", key.name);
        assert_eq!(taken("true").is_ok(), key.value.starts_with("true"), "{}: true", key.name);
        assert_eq!(taken("[]").is_ok(), key.value.contains("list"), "{}: a list", key.name);
    }
}

#[test]
fn a_key_is_explained_and_a_wrong_one_is_guessed() {
    let (_, found) = explain::explain("container.ttl").unwrap();
    let text = found[0].text();
    for word in ["container.ttl", "DEFAULT:  null", "with a reload", "Seconds that a client may keep", "ttl: 3600"] {
        assert!(text.contains(word), "no '{word}' in:\n{text}");
    }
    assert!(explain::explain("server.listen").unwrap().1[0].text().contains("with the next start"));
    for (name, meant) in [
        ("container.memroy", "container.memory"),
        ("memory", "container.memory"),
        ("servr", "server"),
        ("x", "lists them"),
    ] {
        let said = explain::explain(name).unwrap_err().to_string();
        assert!(said.contains(meant), "{name}: {said}");
    }
}

#[test]
fn an_empty_file_and_an_empty_section_are_all_defaults() {
    for text in ["", "# nothing\n", "---\n", "null\n", "{}", "server:\ncontainer: # all of it later\n"] {
        assert_eq!(Config::parse(text).unwrap(), Config::default(), "{text:?}");
    }
}

/// Each key's other value, and one that it goes together with.
const OTHERS: &[(&str, &str)] = &[
    ("state_dir", "/elsewhere"),
    ("manifests", "/elsewhere"),
    ("server.listen", "127.0.0.1:7000"),
    ("server.health_listen", "null"),
    ("server.api_listen", "null"),
    ("server.api_names", "[here]"),
    ("server.local_api", "false"),
    ("access.required", "true"),
    ("web.listen", "127.0.0.1"),
    ("web.tls", "{}"),
    ("container.image", "{iso: /elsewhere}"),
    ("container.domain_type", "kvm"),
    ("container.egress", "all"),
    ("container.warm", "1"),
    ("port_forwarding.bind", "127.0.0.1"),
    ("port_forwarding.range", "20000-29999"),
    ("hypervisor.mode", "system"),
    ("hypervisor.network", "other"),
    ("hypervisor.bridge", "other"),
    ("hypervisor.subnet", "10.1.2.0/24"),
    ("ip_filter.allow", "[192.0.2.0/24]"),
    ("ip_filter.deny", "[192.0.2.7]"),
    ("rates.exempt", "[]"),
    ("events.keep", "100"),
    ("observe.otlp_endpoint", "http://127.0.0.1:4317"),
];

#[test]
fn a_changed_key_is_taken_up_or_waits_as_the_table_says() {
    for key in KEYS {
        let other = OTHERS.iter().find(|(name, _)| *name == key.name).map(|(_, value)| (*value).to_owned());
        let other = other.unwrap_or_else(|| if key.value.contains("Mi") { "512Mi".into() } else { "90".into() });
        let (running, read) = (Config::default(), Config::parse(&alone(key.name, &other)).unwrap());
        let changes = compare(&running, &read).unwrap();
        let names = |changes: &[reload::Change]| changes.iter().map(|change| change.key).collect::<Vec<_>>();
        match key.effect {
            Effect::Reload => {
                assert_eq!((names(&changes.taken), names(&changes.waiting)), (vec![key.name], vec![]));
                assert_eq!(changes.config, read, "{}", key.name);
            }
            Effect::Restart => {
                assert_eq!((names(&changes.taken), names(&changes.waiting)), (vec![], vec![key.name]));
                assert_eq!(changes.config, running, "{}", key.name);
            }
        }
    }
    let same = compare(&Config::default(), &Config::default()).unwrap();
    assert!(same.taken.is_empty() && same.waiting.is_empty());
}

/// Twenty ports need a restart, twenty containers do not, and there are ten ports until then.
#[test]
fn what_is_taken_up_has_to_go_together_with_what_stays() {
    let config = |range: &str, most: u32| {
        let text =
            format!("port_forwarding: {{range: {range}}}\ncontainer: {{max_allowed_running_containers: {most}}}\n");
        Config::parse(&text).unwrap()
    };
    let error = compare(&config("10000-10009", 5), &config("10000-10019", 20)).unwrap_err().to_string();
    assert!(error.contains("port_forwarding.range is '10000-10009'"), "{error}");
}
