//! What a domain bears of ours in its metadata: our mark, and what it keeps of its records. Two elements, each in a
//! namespace of its own, because libvirt replaces an element by its namespace alone, and the mark is never replaced.

use std::io;

use quick_xml::events::{BytesStart, Event};
use quick_xml::name::{Namespace, ResolveResult};
use quick_xml::{NsReader, Writer, XmlVersion};
use uuid::Uuid;

use super::{Out, empty, invalid, plain};
use crate::hypervisor::HypervisorError;
use crate::model::{MAX_KEEPSAKE, Mark};

/// The namespace of our mark in a domain's metadata.
pub const MARK_NAMESPACE: &str = "https://anweddol.io/domain/1";

/// The namespace of what a domain keeps of its records.
pub const KEEPSAKE_NAMESPACE: &str = "https://anweddol.io/records/1";

/// The prefix that libvirt gives the latter.
pub const KEEPSAKE_PREFIX: &str = "anwr";

/// What a domain bears of ours.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bears {
    /// Our mark, if it bears one that can be read in full.
    pub mark: Option<Mark>,
    /// What it keeps of its records, if that can be read and is not too long.
    pub keepsake: Option<Kept>,
}

/// What a domain keeps of its records, see [`crate::model::Keepsake`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Its name.
    pub digest: String,
    /// All of it.
    pub text: String,
}

pub(super) fn write_mark(w: &mut Out, mark: &Mark) -> io::Result<()> {
    let (instance, uid) = (mark.instance.to_string(), mark.uid.to_string());
    empty(
        w,
        "anw:container",
        &[
            ("xmlns:anw", MARK_NAMESPACE),
            ("instance", &instance),
            ("namespace", &mark.namespace),
            ("name", &mark.name),
            ("uid", &uid),
        ],
    )
}

/// Writes a keepsake as libvirt wants it: without its namespace, which is an argument beside it.
pub fn keepsake(digest: &str, text: &str) -> Result<String, HypervisorError> {
    plain("digest", digest)?;
    plain("keepsake", text)?;
    let mut writer = Writer::new(Vec::new());
    let written = empty(&mut writer, "records", &[("digest", digest), ("json", text)]);
    written.map_err(|error| invalid("the domain's metadata", error.to_string()))?;
    String::from_utf8(writer.into_inner()).map_err(|error| invalid("the domain's metadata", error.to_string()))
}

/// Reads what a domain bears from its XML.
///
/// Only `/domain/metadata/container` and `/domain/metadata/records` of our namespaces count, and of each the first,
/// wherever else a guest or its owner might write one.
pub fn bears(xml: &str) -> Bears {
    let mut reader = NsReader::from_str(xml);
    let mut path: Vec<String> = Vec::new();
    let (mut mark, mut kept) = (None, None);
    // What is broken behind it takes nothing from what was read.
    while let Ok((namespace, event)) = reader.read_resolved_event() {
        let of = |ours: &str| matches!(namespace, ResolveResult::Bound(Namespace(uri)) if uri == ours);
        let (is_mark, is_kept) = (of(MARK_NAMESPACE), of(KEEPSAKE_NAMESPACE));
        if let Event::Start(element) | Event::Empty(element) = &event
            && path == ["domain", "metadata"]
        {
            let name = element.local_name();
            if is_mark && name.as_ref() == "container" && mark.is_none() {
                mark = Some(read_mark(element));
            } else if is_kept && name.as_ref() == "records" && kept.is_none() {
                kept = Some(read_kept(element));
            }
        }
        match event {
            Event::Start(element) => path.push(element.name().as_ref().to_owned()),
            Event::End(_) => {
                path.pop();
                // Devices follow, and nothing of ours.
                if path == ["domain"] && mark.is_some() && kept.is_some() {
                    break;
                }
            }
            Event::Eof => break,
            // Texts, comments, declarations and other empty elements hold nothing.
            _ => {}
        }
    }
    Bears { mark: mark.flatten(), keepsake: kept.flatten() }
}

/// Reads our mark from a domain's XML: `None` if it bears none, or none that can be read in full.
pub fn mark(xml: &str) -> Option<Mark> {
    bears(xml).mark
}

fn attribute(element: &BytesStart<'_>, key: &str) -> Option<String> {
    let attribute = element.try_get_attribute(key).ok()??;
    Some(attribute.normalized_value(XmlVersion::Implicit1_0).ok()?.into_owned())
}

fn read_mark(element: &BytesStart<'_>) -> Option<Mark> {
    Some(Mark {
        instance: Uuid::parse_str(&attribute(element, "instance")?).ok()?,
        namespace: attribute(element, "namespace")?,
        name: attribute(element, "name")?,
        uid: Uuid::parse_str(&attribute(element, "uid")?).ok()?,
    })
}

fn read_kept(element: &BytesStart<'_>) -> Option<Kept> {
    let kept = Kept { digest: attribute(element, "digest")?, text: attribute(element, "json")? };
    (kept.text.len() <= MAX_KEEPSAKE && kept.digest.len() <= MAX_DIGEST).then_some(kept)
}

/// The longest digest that is read.
const MAX_DIGEST: usize = 64;
