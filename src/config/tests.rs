use super::*;

#[test]
fn the_commented_default_says_the_defaults() {
    assert_eq!(Config::parse(COMMENTED).unwrap(), Config::default());
}

#[test]
fn every_key_stands_in_the_commented_default() {
    let all = serde_yaml::to_string(&Config::default()).unwrap();
    for line in all.lines() {
        let key = line.trim().split(':').next().unwrap();
        assert!(COMMENTED.contains(&format!("{key}:")), "'{key}' is not in the commented default");
    }
}

/// What the commented default shows as an example is taken as it stands there.
#[test]
fn the_images_of_the_commented_default_can_be_uncommented() {
    let examples: Vec<&str> = COMMENTED.split("  # image:\n").skip(1).collect();
    let image = |example: &str| {
        let lines = example.lines().take_while(|line| line.starts_with("  #   "));
        let lines: Vec<&str> = lines.map(|line| line.strip_prefix("  # ").unwrap()).collect();
        let text = format!("container:\n  image:\n  {}", lines.join("\n  "));
        let config = Config::parse(&text).unwrap();
        let again = serde_yaml::to_string(&config).unwrap();
        assert_eq!(Config::parse(&again).unwrap(), config);
        config.template().image
    };
    assert_eq!(examples.len(), 2);
    assert_eq!(image(examples[0]), Image::Iso("/srv/images/guest.iso".into()));
    let path = |name: &str| Path::new("/srv/images").join(name);
    let kernel = Image::Kernel { path: path("vmlinuz"), initrd: path("initrd"), cmdline: String::new() };
    assert_eq!(image(examples[1]), kernel);
}

#[test]
fn an_empty_file_is_all_defaults() {
    assert_eq!(Config::parse("").unwrap(), Config::default());
    assert_eq!(Config::parse("# nothing\n").unwrap(), Config::default());
}

#[test]
fn a_wrong_file_is_refused_by_line_and_key() {
    for (text, says) in [
        ("server:\n  lisen: 1", &["lisen", "line 2", "listen"][..]),
        ("container:\n  memory: lots", &["container.memory", "lots", "256Mi"]),
        ("container:\n  vcpus: many", &["container.vcpus", "many", "line 2"]),
        ("container:\n  image: {floppy: a}", &["floppy", "iso", "kernel"]),
        ("port_forwarding:\n  range: 5-4", &["5-4", "FIRST-LAST"]),
        ("hypervisor:\n  mode: cloud", &["cloud", "embedded", "system"]),
        ("hypervisor:\n  subnet: 8.8.8.0/24", &["hypervisor.subnet", "8.8.8.0/24", "192.168.127.0/24"]),
        ("server: {listen: nowhere}", &["server.listen"]),
        ("server: {", &["line"]),
    ] {
        let said = Config::parse(text).unwrap_err().to_string();
        for word in says {
            assert!(said.contains(word), "for {text:?} it says {said:?}, without {word:?}");
        }
    }
}

#[test]
fn an_impossible_value_is_refused_by_key() {
    for (text, key) in [
        ("container: {max_allowed_running_containers: 0}", "container.max_allowed_running_containers"),
        ("container: {warm: 7}", "container.warm"),
        ("container: {memory: 1Mi}", "container.memory"),
        ("container: {vcpus: 0}", "container.vcpus"),
        ("container: {boot_deadline: 1}", "container.boot_deadline"),
        ("container: {ttl: 9}", "container.ttl"),
        ("container: {ttl: 600, max_ttl: 60}", "container.ttl"),
        ("container: {idle_timeout: 0}", "container.idle_timeout"),
        ("container: {max_ready: 99999999}", "container.max_ready"),
        ("events: {keep: 1}", "events.keep"),
        ("server: {client_timeout: 0}", "server.client_timeout"),
        ("server: {listen: '0.0.0.0:10001'}", "port_forwarding.range"),
        ("port_forwarding: {range: 7000-7001}", "port_forwarding.range"),
        ("hypervisor: {bridge: a-name-that-is-too-long}", "hypervisor.bridge"),
    ] {
        let said = Config::parse(text).unwrap().check().unwrap_err().to_string();
        assert!(said.contains(key), "for {text:?} it says {said:?}");
    }
    Config::default().check().unwrap();
}
