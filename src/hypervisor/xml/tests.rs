use std::path::PathBuf;

use proptest::prelude::*;
use quick_xml::events::Event;
use quick_xml::{Reader, XmlVersion};

use super::*;
use crate::model::{MAX_KEEPSAKE, Mark, Memory, NetworkSpec};

fn host() -> Host {
    Host { auto: Accelerator::Tcg, attachment: Attachment::User, disks: "/disks".into() }
}

fn spec(image: Image) -> DomainSpec {
    DomainSpec {
        mark: Mark {
            instance: Uuid::from_u128(1),
            namespace: "default".into(),
            name: "web-0".into(),
            uid: Uuid::from_u128(2),
        },
        mac: "52:54:00:0a:0b:0c".into(),
        image,
        memory: Memory::mebibytes(256),
        vcpus: 1,
        domain_type: DomainType::Auto,
        network: NetworkSpec::default(),
    }
}

fn kernel(path: &str, initrd: &str, cmdline: &str) -> Image {
    Image::Kernel { path: path.into(), initrd: initrd.into(), cmdline: cmdline.into() }
}

/// An element's name, attributes and text.
type Element = (String, Vec<(String, String)>, String);

/// Every element, in order: what a reader makes of the XML.
fn shape(xml: &str) -> Vec<Element> {
    let mut reader = Reader::from_str(xml);
    let mut out: Vec<Element> = Vec::new();
    let mut open: Vec<usize> = Vec::new();
    loop {
        match reader.read_event().unwrap() {
            event @ (Event::Start(_) | Event::Empty(_)) => {
                let (element, stays) = match &event {
                    Event::Start(element) => (element, true),
                    Event::Empty(element) => (element, false),
                    _ => unreachable!(),
                };
                let attributes = element
                    .attributes()
                    .map(|a| {
                        let a = a.unwrap();
                        let value = a.normalized_value(XmlVersion::Implicit1_0).unwrap().into_owned();
                        (a.key.as_ref().to_owned(), value)
                    })
                    .collect();
                out.push((element.name().as_ref().to_owned(), attributes, String::new()));
                if stays {
                    open.push(out.len() - 1);
                }
            }
            Event::End(_) => {
                open.pop();
            }
            Event::Text(text) => out[*open.last().unwrap()].2.push_str(text.as_ref()),
            Event::GeneralRef(reference) => {
                let escaped = format!("&{};", reference.as_ref() as &str);
                out[*open.last().unwrap()].2.push_str(&quick_xml::escape::unescape(&escaped).unwrap());
            }
            Event::Eof => return out,
            other => panic!("unexpected {other:?}"),
        }
    }
}

fn names(xml: &str) -> Vec<String> {
    shape(xml).into_iter().map(|(name, _, _)| name).collect()
}

fn text_of(xml: &str, element: &str) -> String {
    shape(xml).into_iter().find(|(name, _, _)| name == element).unwrap().2
}

fn attribute_of(xml: &str, element: &str, key: &str) -> String {
    let (_, attributes, _) = shape(xml).into_iter().find(|(name, _, _)| name == element).unwrap();
    attributes.into_iter().find(|(k, _)| k == key).unwrap().1
}

proptest! {
    #[test]
    fn no_field_can_become_an_element(
        name in "\\PC*", namespace in "\\PC*", path in "/\\PC*", initrd in "/\\PC*", cmdline in "\\PC*",
    ) {
        let mut spec = spec(kernel(&path, &initrd, &cmdline));
        let plain = names(&domain(&spec, &host()).unwrap());
        (spec.mark.name, spec.mark.namespace) = (name, namespace);
        match domain(&spec, &host()) {
            Ok(xml) => {
                prop_assert_eq!(names(&xml), plain);
                prop_assert_eq!(mark(&xml), Some(spec.mark));
                prop_assert_eq!(text_of(&xml, "kernel"), path);
                prop_assert_eq!(text_of(&xml, "initrd"), initrd);
                prop_assert!(text_of(&xml, "cmdline").ends_with(&cmdline));
            }
            Err(HypervisorError::Invalid { .. }) => {}
            Err(other) => prop_assert!(false, "{other}"),
        }
    }

    #[test]
    fn an_iso_path_comes_out_as_it_went_in(path in "/\\PC*") {
        let xml = domain(&spec(Image::Iso(PathBuf::from(&path))), &host()).unwrap();
        prop_assert_eq!(attribute_of(&xml, "source", "file"), path);
    }

    #[test]
    fn reading_a_mark_never_panics(xml in "\\PC*|(<|>|/|domain|metadata|anw:container|\"|=| ){0,60}") {
        let _ = mark(&xml);
    }
}

#[test]
fn quotes_and_brackets_survive() {
    let odd = r#"/a'b"c<d>&amp;]]><!--/e"#;
    let xml = domain(&spec(kernel(odd, odd, r#"x="]]>" y='&lt;'"#)), &host()).unwrap();
    assert_eq!(text_of(&xml, "kernel"), odd);
    assert!(text_of(&xml, "cmdline").ends_with(r#" x="]]>" y='&lt;'"#));
}

#[test]
fn what_xml_cannot_carry_is_refused_with_its_name() {
    for (image, word) in [
        (kernel("/k\n", "/i", ""), "image"),
        (kernel("/k", "/i\0", ""), "image"),
        (kernel("/k", "/i", "a\u{1}b"), "cmdline"),
        (kernel("/k", "/i", "a\u{ffff}"), "cmdline"),
        (kernel("k", "/i", ""), "absolute"),
        (Image::Iso("relative.iso".into()), "absolute"),
        (Image::Iso("/tab\there".into()), "image"),
    ] {
        let error = domain(&spec(image.clone()), &host()).unwrap_err();
        assert!(matches!(error, HypervisorError::Invalid { .. }), "{image:?}: {error}");
        assert!(error.to_string().contains(word), "{image:?}: {error}");
    }
}

#[test]
fn a_network_that_xml_cannot_carry_is_refused_with_its_name() {
    for name in ["a\nb", "\u{fffe}"] {
        let attachment = Attachment::Network { name: name.into(), bridge: "anw0".into() };
        let error = domain(&spec(Image::Iso("/x".into())), &Host { attachment, ..host() }).unwrap_err();
        assert!(error.to_string().starts_with("network "), "{error}");
    }
}

#[test]
fn a_mac_address_is_a_mac_address() {
    for bad in ["", "52:54:00:0a:0b", "52:54:00:0a:0b:0c,script=/x", "52:54:00:0a:0b:0g", "5:54:00:0a:0b:0c0"] {
        let mut spec = spec(Image::Iso("/x".into()));
        spec.mac = bad.into();
        assert!(matches!(domain(&spec, &host()), Err(HypervisorError::Invalid { .. })), "{bad:?} was taken");
    }
}

#[test]
fn kvm_guests_keep_their_defences_and_emulated_ones_boot_fast() {
    let mut spec = spec(kernel("/k", "/i", "own=1"));
    let xml = domain(&spec, &host()).unwrap();
    assert_eq!(attribute_of(&xml, "domain", "type"), "qemu");
    assert!(text_of(&xml, "cmdline").contains("mitigations=off"));
    assert_eq!(text_of(&xml, "tb-cache"), "48");
    spec.domain_type = DomainType::Kvm;
    let xml = domain(&spec, &host()).unwrap();
    assert_eq!(attribute_of(&xml, "domain", "type"), "kvm");
    assert!(!text_of(&xml, "cmdline").contains("mitigations"));
    assert!(!names(&xml).contains(&"tcg".to_owned()));
}

fn nat() -> Host {
    Host { attachment: Attachment::Network { name: "anweddol".into(), bridge: "anw0".into() }, ..host() }
}

#[test]
fn the_network_follows_the_host() {
    let mut spec = spec(Image::Iso("/x".into()));
    let user = domain(&spec, &host()).unwrap();
    assert!(user.contains("user,id=anwnet,restrict=on") && !names(&user).contains(&"interface".to_owned()));
    let nat = domain(&spec, &nat()).unwrap();
    assert_eq!(attribute_of(&nat, "source", "file"), "/x");
    assert_eq!(attribute_of(&nat, "mac", "address"), spec.mac);
    assert_eq!(attribute_of(&nat, "port", "isolated"), "yes");
    assert!(nat.contains(&format!("<target dev=\"{}\"/>", card("anw0", spec.mark.uid))));
    assert!(!nat.contains("-netdev"));
    spec.network.egress = Egress::All;
    assert!(domain(&spec, &host()).unwrap().contains("restrict=off"));
}

#[test]
fn a_network_that_the_host_does_not_offer_is_refused_with_what_it_offers() {
    let mut spec = spec(Image::Iso("/x".into()));
    for (mode, egress, host, words) in [
        (Network::Nat, Egress::None, host(), ["network.mode nat", "'user'"]),
        (Network::User, Egress::None, nat(), ["network.mode user", "'nat'"]),
        (Network::Auto, Egress::Internet, host(), ["network.egress internet", "'all'"]),
    ] {
        spec.network = NetworkSpec { mode, egress };
        let error = domain(&spec, &host).unwrap_err();
        assert!(matches!(error, HypervisorError::Invalid { .. }), "{error}");
        words.iter().for_each(|word| assert!(error.to_string().contains(word), "{error}"));
    }
    spec.network = NetworkSpec { mode: Network::Nat, egress: Egress::Internet };
    domain(&spec, &nat()).unwrap();
}

#[test]
fn every_card_has_a_name_of_its_own_that_the_kernel_takes() {
    let uids = [Uuid::from_u128(1 << 100), Uuid::from_u128(2 << 100)];
    let names: Vec<String> = ["anw0", "anw1"].iter().flat_map(|b| uids.map(|uid| card(b, uid))).collect();
    for (index, name) in names.iter().enumerate() {
        assert_eq!(name.len(), 15);
        assert!(!names[..index].contains(name) && !name.starts_with("vnet"), "{name}");
    }
    assert!(names[0].starts_with(&cards("anw0")) && !names[0].starts_with(&cards("anw1")));
}

#[test]
fn a_disk_is_read_below_an_overlay_of_the_machines_own() {
    for (format, name) in [(DiskFormat::Qcow2, "qcow2"), (DiskFormat::Raw, "raw")] {
        let spec = spec(Image::Disk { path: "/base".into(), format });
        let xml = domain(&spec, &host()).unwrap();
        assert_eq!(attribute_of(&xml, "source", "file"), format!("/disks/{}.qcow2", spec.mark.uid));
        assert_eq!(attribute_of(&xml, "format", "type"), name);
        assert_eq!(attribute_of(&xml, "boot", "dev"), "hd");
        let base = xml.split("<backingStore").nth(1).unwrap();
        assert!(base.contains("file=\"/base\"") && base.contains("relabel=\"no\""), "{xml}");
    }
}

#[test]
fn a_mark_counts_only_in_its_place_and_namespace() {
    let ours = r#"xmlns:m="https://anweddol.io/domain/1" instance="00000000-0000-0000-0000-000000000001"
        namespace="a" name="b" uid="00000000-0000-0000-0000-000000000002""#;
    let there = format!("<domain><name>x</name><metadata><m:container {ours}/></metadata></domain>");
    assert_eq!(mark(&there).unwrap().name, "b");
    let other_prefix = there.replace("m:container", "q:container").replace("xmlns:m", "xmlns:q");
    assert_eq!(mark(&other_prefix).unwrap().uid, Uuid::from_u128(2));
    for elsewhere in [
        format!("<domain><description><m:container {ours}/></description></domain>"),
        format!("<domain><metadata><x><m:container {ours}/></x></metadata></domain>"),
        format!("<domain><metadata><m:other {ours}/></metadata></domain>"),
        there.replace("domain/1", "domain/2"),
        there.replace("uid=", "id="),
        there.replace("000001", "00000x"),
        "<domain/>".to_owned(),
        String::new(),
    ] {
        assert_eq!(mark(&elsewhere), None, "{elsewhere}");
    }
}

/// A domain as libvirt makes it of a mark and a keepsake that was set later.
fn bearing(spec: &DomainSpec, digest: &str, text: &str) -> String {
    let kept = keepsake(digest, text).unwrap();
    let named = format!("<k:records xmlns:k=\"{KEEPSAKE_NAMESPACE}\" ");
    domain(spec, &host()).unwrap().replacen(
        "</metadata>",
        &format!("{}</metadata>", kept.replacen("<records ", &named, 1)),
        1,
    )
}

#[test]
fn a_keepsake_counts_only_in_its_place_and_namespace_and_takes_nothing_from_the_mark() {
    let spec = spec(Image::Iso("/i.iso".into()));
    let there = bearing(&spec, "d", r#"{"a":"<&'> ]]>"}"#);
    let bears_it = bears(&there);
    assert_eq!(bears_it.keepsake, Some(Kept { digest: "d".into(), text: r#"{"a":"<&'> ]]>"}"#.into() }));
    assert_eq!(bears_it.mark, Some(spec.mark.clone()));
    for elsewhere in [
        there.replace("records/1", "records/2"),
        there.replace("k:records", "k:other"),
        there.replace("<k:records", "<x><k:records").replace("</metadata>", "</x></metadata>"),
        there.replace("json=", "text="),
        there.replace("digest=\"d\"", &format!("digest=\"{}\"", "d".repeat(65))),
        there.replace("json=\"", &format!("json=\"{}", "x".repeat(MAX_KEEPSAKE))),
        // What is broken ends the reading; what was read before counts.
        there.replace("<k:records", "<k:records <"),
    ] {
        let found = bears(&elsewhere);
        assert_eq!((found.mark.as_ref(), found.keepsake), (Some(&spec.mark), None));
    }
    // Two, of which somebody else wrote one.
    let twice = there.replace(
        "</metadata>",
        &format!("<o:records xmlns:o=\"{KEEPSAKE_NAMESPACE}\" digest=\"e\" json=\"\"/></metadata>"),
    );
    assert_eq!(bears(&twice).keepsake.unwrap().digest, "d");
    assert!(keepsake("d", "a\nb").is_err() && keepsake("d", "\u{fffe}").is_err());
}

proptest! {
    /// Also when what follows is not XML.
    #[test]
    fn any_text_comes_back_from_a_domain_or_is_refused(text in "\\PC{0,40}", rest in ".{0,40}") {
        let spec = spec(Image::Iso("/i.iso".into()));
        let xml = bearing(&spec, "d", &text);
        prop_assert_eq!(bears(&xml).keepsake.unwrap().text, text);
        let _ = bears(&format!("{}{rest}", &xml[..xml.len() / 2]));
    }
}

#[test]
fn every_machine_can_tell_that_it_panics_and_ends_then() {
    for image in [Image::Iso("/i.iso".into()), kernel("/k", "/i", "")] {
        let elements = shape(&domain(&spec(image), &host()).unwrap());
        let there = |name: &str| elements.iter().find(|(found, ..)| found == name).unwrap();
        assert_eq!(there("panic").1, [("model".to_owned(), "isa".to_owned())]);
        assert_eq!(there("on_crash").2, "destroy");
    }
}
