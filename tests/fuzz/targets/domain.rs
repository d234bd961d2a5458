//! Domain XML. An input is a namespace, a name, two paths, a command line, a card's address and a network's name; as a whole it
//! is somebody else's XML too.

use anweddol::hypervisor::xml::{self, Accelerator, Attachment, Host};
use anweddol::hypervisor::{DomainSpec, HypervisorError};
use anweddol::model::{DiskFormat, DomainType, Egress, Image, Mark, Memory, NetworkSpec};
use quick_xml::events::Event;
use quick_xml::{Reader, XmlVersion};
use uuid::Uuid;

use super::parts;

pub(super) fn run(input: &[u8]) {
    let texts = parts::<7>(input).map(|part| String::from_utf8_lossy(part).into_owned());
    written(&texts);
    if let Ok(xml) = std::str::from_utf8(input) {
        let bears = xml::bears(xml);
        if let Some(kept) = bears.keepsake {
            // Only control characters are not taken; a reader of XML may have made some of references.
            if let Ok(again) = xml::keepsake(&kept.digest, &kept.text) {
                shape(&again);
            }
        }
    }
}

fn written([namespace, name, path, second, cmdline, mac, network]: &[String; 7]) {
    let images = |path: &str, second: &str, cmdline: &str| {
        [
            Image::Iso(path.into()),
            Image::Disk { path: path.into(), format: DiskFormat::Raw },
            Image::Disk { path: path.into(), format: DiskFormat::Qcow2 },
            Image::Kernel { path: path.into(), initrd: second.into(), cmdline: cmdline.into() },
        ]
    };
    let mark = |namespace: &str, name: &str| Mark {
        instance: Uuid::from_u128(1),
        namespace: namespace.into(),
        name: name.into(),
        uid: Uuid::from_u128(2),
    };
    let on = |attachment| Host { auto: Accelerator::Tcg, attachment, disks: "/disks".into() };
    let nat = |name: &str| on(Attachment::Network { name: name.into(), bridge: "anw0".into() });
    let attachments = [(on(Attachment::User), on(Attachment::User)), (nat(network), nat("n"))];
    for (image, harmless) in images(path, second, cmdline).into_iter().zip(images("/a", "/b", "c")) {
        for (host, harmless_host) in &attachments {
            let of = |mark, image, mac: &str| DomainSpec {
                mark,
                mac: mac.into(),
                image,
                memory: Memory::mebibytes(64),
                vcpus: 1,
                domain_type: DomainType::Auto,
                network: NetworkSpec { egress: Egress::None, ..NetworkSpec::default() },
            };
            let spec = of(mark(namespace, name), image.clone(), mac);
            let plain = of(mark("a", "b"), harmless.clone(), "52:54:00:00:00:01");
            let plain = xml::domain(&plain, harmless_host).expect("a harmless one");
            match xml::domain(&spec, host) {
                Ok(written) => {
                    assert_eq!(names(&written), names(&plain), "{written}");
                    assert_eq!(xml::mark(&written).as_ref(), Some(&spec.mark), "{written}");
                    let shape = shape(&written);
                    let has = |text: &str| shape.iter().any(|(_, texts)| texts.iter().any(|it| it.ends_with(text)));
                    for file in spec.image.files() {
                        assert!(has(file.to_str().expect("UTF-8")), "{file:?} in {written}");
                    }
                    assert!(has(mac) || host.attachment == Attachment::User);
                }
                Err(HypervisorError::Invalid { .. }) => {}
                Err(other) => panic!("{other}"),
            }
        }
    }
}

/// An element's name, with those of its attributes; and its texts.
type Element = (Vec<String>, Vec<String>);

/// Every element, in order: what a reader makes of the XML.
fn shape(xml: &str) -> Vec<Element> {
    let (mut reader, mut open) = (Reader::from_str(xml), vec![0]);
    let mut all: Vec<Element> = vec![Element::default()];
    loop {
        let event = reader.read_event().unwrap_or_else(|error| panic!("{xml}: {error}"));
        match &event {
            Event::Start(element) | Event::Empty(element) => {
                let (mut names, mut texts) = (vec![element.name().as_ref().to_owned()], vec![String::new()]);
                for attribute in element.attributes() {
                    let attribute = attribute.unwrap_or_else(|error| panic!("{xml}: {error}"));
                    names.push(attribute.key.as_ref().to_owned());
                    let value = attribute.normalized_value(XmlVersion::Implicit1_0);
                    texts.push(value.unwrap_or_else(|error| panic!("{xml}: {error}")).into_owned());
                }
                all.push((names, texts));
                if matches!(event, Event::Start(_)) {
                    open.push(all.len() - 1);
                }
            }
            Event::End(_) => drop(open.pop()),
            Event::Text(text) => all[open[open.len() - 1]].1.first_mut().expect("inside").push_str(text.as_ref()),
            Event::GeneralRef(reference) => {
                let escaped = format!("&{};", reference.as_ref() as &str);
                let text = quick_xml::escape::unescape(&escaped).unwrap_or_else(|error| panic!("{xml}: {error}"));
                all[open[open.len() - 1]].1.first_mut().expect("inside").push_str(&text);
            }
            Event::Eof => return all,
            other => panic!("{xml}: {other:?}"),
        }
    }
}

fn names(xml: &str) -> Vec<Vec<String>> {
    shape(xml).into_iter().map(|(names, _)| names).collect()
}
