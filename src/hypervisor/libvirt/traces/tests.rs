//! What is taken for ours, and what for somebody else's.

use super::*;

const UUID: Uuid = Uuid::from_u128(0x0123_4567_89ab_4def_8123_4567_89ab_cdef);

#[test]
fn only_names_of_our_machines_are_ours() {
    let name = domain_name(UUID);
    for rest in ["", ".log", ".log.1", ".save", "_VARS.fd", ".pid"] {
        assert_eq!(uuid_of(&format!("{name}{rest}")), Some(UUID), "{rest}");
    }
    for bad in [
        format!("{name}0.log"),
        format!("{name}a"),
        format!("x{name}"),
        name.replace("anweddol", "anweddox"),
        name.replace('-', ""),
        name[..name.len() - 1].to_owned(),
        name.to_uppercase(),
        "anweddol-readme".into(),
        "ä".repeat(40),
    ] {
        assert_eq!(uuid_of(&bad), None, "{bad}");
    }
    assert_eq!(beginning_of("domain-17-anweddol-01234567-89").as_deref(), Some("0123456789"));
    for bad in ["domain-x-anweddol-01234567-89", "domain-1-anweddox-01234567-89", "domain-1-anweddol-0123456g-89"] {
        assert_eq!(beginning_of(bad), None, "{bad}");
    }
}

#[test]
fn a_log_is_whose_it_says_and_one_that_does_not_say_is_nobodys() {
    let other = Uuid::from_u128(9);
    let line = |instance| format!("-device virtio-rng-pci,id={} \\\n", xml::log_mark(instance));
    assert_eq!(logged(line(UUID).as_bytes(), UUID), Logged::Ours);
    assert_eq!(logged(line(other).as_bytes(), UUID), Logged::Others);
    assert_eq!(logged(b"2026-01-01: starting up", UUID), Logged::Unsaid);
    assert_eq!(Logged::Unsaid.or(Logged::Ours), Logged::Ours);
    assert!(matches!(Logged::Others.whose(UUID), Whose::Others(_)));
}

#[test]
fn a_saved_domain_bears_its_mark() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("x.save");
    let namespace = xml::MARK_NAMESPACE;
    let mark =
        format!(r#"<anw:container xmlns:anw="{namespace}" instance="{UUID}" namespace="n" name="c" uid="{UUID}"/>"#);
    let text = format!("LibvirtQemudSave\0\0\x01<domain><metadata>{mark}</metadata></domain>\0\0QEVM");
    fs::write(&file, text).unwrap();
    assert_eq!(saved_mark(&file).unwrap().map(|mark| (mark.instance, mark.uid)), Some((UUID, UUID)));
    fs::write(&file, "LibvirtQemudSave\0<domain/>\0").unwrap();
    assert_eq!(saved_mark(&file).unwrap(), None);
    assert_eq!(saved_mark(&dir.path().join("none")).unwrap(), None);
}

#[test]
fn a_tap_of_another_bridge_is_somebody_elses_whatever_its_name() {
    let net = tempfile::tempdir().unwrap();
    let card = xml::card("anw0", UUID);
    let other = xml::card("anw0", Uuid::from_u128(5 << 100));
    for name in [&card, &other, &xml::card("other", UUID), &format!("{}x", &card[..14]), &"eth0".to_owned()] {
        fs::create_dir(net.path().join(name)).unwrap();
    }
    std::os::unix::fs::symlink("../anw0", net.path().join(&card).join("master")).unwrap();
    std::os::unix::fs::symlink("../docker0", net.path().join(&other).join("master")).unwrap();
    let mut found = taps(net.path(), "anw0").unwrap();
    found.sort();
    let names: Vec<_> = found.iter().map(|trace| trace.name.as_str()).collect();
    assert_eq!(names, [other.as_str().min(&card), other.as_str().max(&card)]);
    for trace in found {
        let ours = matches!(&trace.whose, Whose::Beginning(digits) if *digits.as_bytes() == drift::beginning(UUID));
        assert_eq!(ours, trace.name == card, "{trace:?}");
    }
}

#[test]
fn every_card_of_a_domain_is_seen() {
    let xml = "<domain><devices><interface><mac address='52:54:00:AA:00:01'/></interface>\
               <interface><mac address=\"52:54:00:aa:00:02\"></mac></interface></devices></domain>";
    assert_eq!(cards(xml), ["52:54:00:aa:00:01", "52:54:00:aa:00:02"]);
}
