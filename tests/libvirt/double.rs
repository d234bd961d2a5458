//! On libvirt's own test driver: what needs no guest.

use std::time::{Duration, Instant};

use anweddol::hypervisor::libvirt::{Config, Libvirt, Mode, NatNetwork};
use anweddol::hypervisor::{Hypervisor, HypervisorError};
use anweddol::model::{Mark, Wake};
use uuid::Uuid;
use virt::connect::Connect;

use crate::common::{until, until_wake};

const URI: &str = "test:///default";

fn config(uri: &str) -> Config {
    let network = NatNetwork { name: "anwtest".into(), bridge: "anwt0".into(), ..NatNetwork::default() };
    Config { mode: Mode::System { uri: uri.into(), network }, disks: crate::common::scratch().join("disks") }
}

fn mark() -> Mark {
    Mark { instance: Uuid::from_u128(1), namespace: "ns".into(), name: "n".into(), uid: Uuid::new_v4() }
}

/// Makes a domain of the test driver, with a mark or none.
fn start(connect: &Connect, uid: Uuid, mark: Option<&Mark>) {
    let metadata = mark.map_or(String::new(), |mark| {
        format!(
            r#"<metadata><a:container xmlns:a="https://anweddol.io/domain/1" instance="{}" namespace="{}" name="{}" uid="{}"/></metadata>"#,
            mark.instance, mark.namespace, mark.name, mark.uid
        )
    });
    let xml = format!(
        "<domain type='test'><name>d{uid}</name><uuid>{uid}</uuid>{metadata}<memory>8192</memory>\
         <os><type>hvm</type></os></domain>"
    );
    connect.create_domain_xml(&xml, 0).unwrap();
}

#[test]
fn only_domains_with_our_mark_are_listed_and_ended() {
    let libvirt = Libvirt::connect(config(URI)).unwrap();
    let connect = Connect::open(Some(URI)).unwrap();
    let (ours, theirs) = (mark(), Uuid::new_v4());
    start(&connect, ours.uid, Some(&ours));
    start(&connect, theirs, None);

    let listed: Vec<_> = libvirt.list().unwrap();
    assert!(listed.iter().any(|domain| domain.mark.as_ref() == Some(&ours)));
    assert!(listed.iter().all(|domain| domain.uuid != theirs));
    assert_eq!(libvirt.find(theirs).unwrap().unwrap().mark, None);
    assert_eq!(libvirt.find(Uuid::new_v4()).unwrap(), None);

    for wrong in [
        Mark { uid: theirs, ..ours.clone() },
        Mark { instance: Uuid::from_u128(2), ..ours.clone() },
        Mark { name: "other".into(), ..ours.clone() },
    ] {
        assert!(matches!(libvirt.destroy(&wrong), Err(HypervisorError::NotOurs { .. })), "{wrong:?}");
    }
    assert!(libvirt.find(theirs).unwrap().is_some() && libvirt.find(ours.uid).unwrap().is_some());

    libvirt.destroy(&ours).unwrap();
    assert_eq!(libvirt.find(ours.uid).unwrap(), None);
    libvirt.destroy(&ours).unwrap();
}

#[test]
fn a_domain_bears_what_is_remembered_beside_its_mark_and_the_last_counts() {
    let libvirt = Libvirt::connect(config(URI)).unwrap();
    let connect = Connect::open(Some(URI)).unwrap();
    let (ours, theirs) = (mark(), Uuid::new_v4());
    start(&connect, ours.uid, Some(&ours));
    start(&connect, theirs, None);
    assert_eq!((libvirt.recall(ours.uid).unwrap(), libvirt.recall(Uuid::new_v4()).unwrap()), (None, None));
    let odd = r#"{"a":"<&'\">]]> \u00e9 ${x} %s","b":[1,  2]}"#;
    for (digest, text) in [("one", "{}"), ("two", odd)] {
        libvirt.remember(&ours, digest, text).unwrap();
        let seen = libvirt.find(ours.uid).unwrap().unwrap();
        assert_eq!((seen.mark.as_ref(), seen.keepsake.as_deref()), (Some(&ours), Some(digest)));
        assert_eq!(libvirt.recall(ours.uid).unwrap().as_deref(), Some(text));
    }
    // As somebody with virsh would.
    let domain = connect.lookup_domain_by_uuid(ours.uid).unwrap();
    let space = "https://anweddol.io/records/1";
    let element = virt::sys::VIR_DOMAIN_METADATA_ELEMENT as i32;
    domain.set_metadata(element, Some("<records digest='x'>{}</records>"), Some("q"), Some(space), 0).unwrap();
    assert_eq!(libvirt.find(ours.uid).unwrap().unwrap().keepsake, None);
    libvirt.remember(&ours, "three", odd).unwrap();
    assert_eq!(libvirt.recall(ours.uid).unwrap().as_deref(), Some(odd));

    for wrong in [Mark { uid: theirs, ..ours.clone() }, Mark { instance: Uuid::from_u128(2), ..ours.clone() }] {
        assert!(matches!(libvirt.remember(&wrong, "d", "{}"), Err(HypervisorError::NotOurs { .. })), "{wrong:?}");
    }
    libvirt.destroy(&ours).unwrap();
    libvirt.remember(&ours, "d", "{}").unwrap();
    assert_eq!(libvirt.recall(ours.uid).unwrap(), None);
}

#[test]
fn a_domains_start_and_end_are_told() {
    let libvirt = Libvirt::connect(config(URI)).unwrap();
    let connect = Connect::open(Some(URI)).unwrap();
    let mut wakes = libvirt.wakes();
    let ours = mark();
    start(&connect, ours.uid, Some(&ours));
    until_wake(&mut wakes, Wake::Domain(ours.uid));
    while wakes.try_recv().is_ok() {}
    connect.lookup_domain_by_uuid(ours.uid).unwrap().destroy().unwrap();
    until_wake(&mut wakes, Wake::Domain(ours.uid));
    assert_eq!(libvirt.find(ours.uid).unwrap(), None);
}

#[test]
fn a_permanent_domain_with_our_mark_does_not_come_back() {
    let libvirt = Libvirt::connect(config(URI)).unwrap();
    let connect = Connect::open(Some(URI)).unwrap();
    let ours = mark();
    start(&connect, ours.uid, Some(&ours));
    let xml = connect.lookup_domain_by_uuid(ours.uid).unwrap().xml_desc(0).unwrap();
    connect.define_domain_xml(&xml).unwrap();
    libvirt.destroy(&ours).unwrap();
    assert_eq!(libvirt.find(ours.uid).unwrap(), None);
}

#[test]
fn many_callers_at_once_all_get_answers() {
    let libvirt = Libvirt::connect(config(URI)).unwrap();
    let callers: Vec<_> = (0..32)
        .map(|_| {
            let libvirt = libvirt.clone();
            std::thread::spawn(move || (0..50).all(|_| libvirt.list().is_ok()))
        })
        .collect();
    assert!(callers.into_iter().all(|caller| caller.join().unwrap()));
}

#[test]
fn everything_is_looked_at_again_once_after_connecting() {
    // That comes two seconds after: who was too slow to listen on a busy machine connects again.
    let (_libvirt, mut wakes) = until("a moment to listen", || {
        let begin = Instant::now();
        let libvirt = Libvirt::connect(config(URI)).unwrap();
        let wakes = libvirt.wakes();
        (begin.elapsed() < Duration::from_secs(1)).then_some((libvirt, wakes))
    });
    until("Everything", || matches!(wakes.try_recv(), Ok(Wake::Everything)).then_some(()));
}

#[test]
fn a_libvirt_that_is_not_there_is_told_with_what_to_do() {
    let uri = "qemu+unix:///system?socket=/nonexistent/libvirt-sock";
    let Err(error) = Libvirt::connect(config(uri)) else { panic!("it connected") };
    assert!(matches!(error, HypervisorError::Unreachable { .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains("is libvirtd running") && text.contains("embedded mode"), "{text}");
}

#[test]
fn a_directory_that_is_too_long_is_told_before_anything_is_made() {
    let root = std::env::temp_dir().join("x".repeat(60));
    let Err(error) = Libvirt::connect(Config::embedded(&root)) else { panic!("it connected") };
    assert!(matches!(error, HypervisorError::Invalid { .. }) && error.to_string().contains("too long"), "{error}");
    assert!(!root.exists());
}
