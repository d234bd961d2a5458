//! Bodies in protocol buffers, as kubectl and helm send them for kinds that they know: Kubernetes' envelope, and in it a
//! message that is read by a table of its fields into the JSON it stands for. Pure.
//!
//! Only fields that mean something here are in the tables; others are skipped, as every reader of protocol buffers skips
//! what it does not know.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

/// What the envelope begins with.
const MAGIC: &[u8] = b"k8s\0";

/// Why bytes are none of these.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum ProtoError {
    /// They are not in the envelope.
    #[error("the body is no Kubernetes protobuf: it does not begin with 'k8s' and a zero")]
    Envelope,
    /// They end in the middle, or are not UTF-8 where they should be text.
    #[error("the body breaks off, or is no protobuf of a {kind}")]
    Broken {
        /// Of what it should be.
        kind: String,
    },
    /// A kind that is not read so.
    #[error("a {kind} is not taken as protobuf: send JSON")]
    Kind {
        /// Which.
        kind: String,
    },
}

/// What a field holds.
#[derive(Clone, Copy)]
enum Holds {
    Text,
    Whole,
    Truth,
    /// A moment, to the second or to the microsecond.
    Time,
    Micros,
    /// A map of texts, or of bytes in base64.
    Texts,
    Bytes,
    Message(&'static [Field]),
}

struct Field {
    number: u64,
    name: &'static str,
    holds: Holds,
    many: bool,
}

const fn one(number: u64, name: &'static str, holds: Holds) -> Field {
    Field { number, name, holds, many: false }
}

const fn many(number: u64, name: &'static str, holds: Holds) -> Field {
    Field { number, name, holds, many: true }
}

use Holds::{Bytes, Message, Micros, Text, Texts, Time, Truth, Whole};

const OWNER: &[Field] = &[
    one(1, "kind", Text),
    one(3, "name", Text),
    one(4, "uid", Text),
    one(5, "apiVersion", Text),
    one(6, "controller", Truth),
    one(7, "blockOwnerDeletion", Truth),
];

const META: &[Field] = &[
    one(1, "name", Text),
    one(2, "generateName", Text),
    one(3, "namespace", Text),
    one(5, "uid", Text),
    one(6, "resourceVersion", Text),
    one(11, "labels", Texts),
    one(12, "annotations", Texts),
    many(13, "ownerReferences", Message(OWNER)),
    many(14, "finalizers", Text),
];

const ENVELOPE: &[Field] = &[one(1, "typeMeta", Message(&[one(1, "apiVersion", Text), one(2, "kind", Text)]))];

const NAMESPACE: &[Field] = &[one(1, "metadata", Message(META))];

const SECRET: &[Field] = &[
    one(1, "metadata", Message(META)),
    one(2, "data", Bytes),
    one(3, "type", Text),
    one(4, "stringData", Texts),
    one(5, "immutable", Truth),
];

const LEASE: &[Field] = &[
    one(1, "metadata", Message(META)),
    one(
        2,
        "spec",
        Message(&[
            one(1, "holderIdentity", Text),
            one(2, "leaseDurationSeconds", Whole),
            one(3, "acquireTime", Micros),
            one(4, "renewTime", Micros),
            one(5, "leaseTransitions", Whole),
        ]),
    ),
];

const REFERENCE: &[Field] = &[
    one(1, "kind", Text),
    one(2, "namespace", Text),
    one(3, "name", Text),
    one(4, "uid", Text),
    one(5, "apiVersion", Text),
    one(6, "resourceVersion", Text),
    one(7, "fieldPath", Text),
];

const EVENT: &[Field] = &[
    one(1, "metadata", Message(META)),
    one(2, "involvedObject", Message(REFERENCE)),
    one(3, "reason", Text),
    one(4, "message", Text),
    one(5, "source", Message(&[one(1, "component", Text), one(2, "host", Text)])),
    one(6, "firstTimestamp", Time),
    one(7, "lastTimestamp", Time),
    one(8, "count", Whole),
    one(9, "type", Text),
    one(10, "eventTime", Micros),
    one(12, "action", Text),
    one(14, "reportingComponent", Text),
    one(15, "reportingInstance", Text),
];

const ACCESS_REVIEW: &[Field] = &[one(
    2,
    "spec",
    Message(&[
        one(
            1,
            "resourceAttributes",
            Message(&[
                one(1, "namespace", Text),
                one(2, "verb", Text),
                one(3, "group", Text),
                one(4, "version", Text),
                one(5, "resource", Text),
                one(6, "subresource", Text),
                one(7, "name", Text),
            ]),
        ),
        one(2, "nonResourceAttributes", Message(&[one(1, "path", Text), one(2, "verb", Text)])),
    ]),
)];

const RULES_REVIEW: &[Field] = &[one(2, "spec", Message(&[one(1, "namespace", Text)]))];

const DELETE_OPTIONS: &[Field] = &[
    one(1, "gracePeriodSeconds", Whole),
    one(2, "preconditions", Message(&[one(1, "uid", Text), one(2, "resourceVersion", Text)])),
    one(3, "orphanDependents", Truth),
    one(4, "propagationPolicy", Text),
    many(5, "dryRun", Text),
];

fn fields(kind: &str) -> Option<&'static [Field]> {
    match kind {
        "Namespace" => Some(NAMESPACE),
        "Secret" => Some(SECRET),
        "Lease" => Some(LEASE),
        "Event" => Some(EVENT),
        "SelfSubjectReview" => Some(&[]),
        "SelfSubjectAccessReview" => Some(ACCESS_REVIEW),
        "SelfSubjectRulesReview" => Some(RULES_REVIEW),
        "DeleteOptions" => Some(DELETE_OPTIONS),
        _ => None,
    }
}

/// Reads a body: the JSON that it stands for.
pub(super) fn read(body: &[u8]) -> Result<Value, ProtoError> {
    let unknown = body.strip_prefix(MAGIC).ok_or(ProtoError::Envelope)?;
    let broken = |kind: &str| ProtoError::Broken { kind: kind.into() };
    let mut raw: &[u8] = &[];
    let envelope = message(unknown, ENVELOPE, &mut |number, bytes| {
        if number == 2 {
            raw = bytes;
        }
    });
    let envelope = envelope.ok_or_else(|| broken("message"))?;
    let name = envelope["typeMeta"]["kind"].as_str().unwrap_or_default();
    let fields = fields(name).ok_or_else(|| ProtoError::Kind { kind: name.chars().take(64).collect() })?;
    let mut read = message(raw, fields, &mut |_, _| {}).ok_or_else(|| broken(name))?;
    read["kind"] = name.into();
    read["apiVersion"] = envelope["typeMeta"]["apiVersion"].clone();
    Ok(read)
}

/// The next number of seven bits a byte.
fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (byte, after) = rest.split_first()?;
        *rest = after;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn taken<'a>(rest: &mut &'a [u8], length: u64) -> Option<&'a [u8]> {
    let (taken, after) = rest.split_at_checked(usize::try_from(length).ok()?)?;
    *rest = after;
    Some(taken)
}

/// Reads a message; fields that the table does not have are shown to `other` if they are bytes. Its depth is the tables',
/// whatever the bytes say.
fn message<'a>(mut rest: &'a [u8], fields: &[Field], other: &mut dyn FnMut(u64, &'a [u8])) -> Option<Value> {
    let mut made = Map::new();
    while !rest.is_empty() {
        let tag = varint(&mut rest)?;
        let (number, mut bytes) = (tag >> 3, &[][..]);
        let mut whole = 0;
        match tag & 7 {
            0 => whole = varint(&mut rest)?,
            1 => bytes = taken(&mut rest, 8)?,
            2 => {
                let length = varint(&mut rest)?;
                bytes = taken(&mut rest, length)?;
            }
            5 => bytes = taken(&mut rest, 4)?,
            _ => return None,
        }
        let Some(field) = fields.iter().find(|field| field.number == number) else {
            other(number, bytes);
            continue;
        };
        let value = match field.holds {
            Text => std::str::from_utf8(bytes).ok()?.into(),
            Whole => whole.cast_signed().into(),
            Truth => (whole != 0).into(),
            Time | Micros => time(bytes, matches!(field.holds, Micros))?,
            Message(fields) => message(bytes, fields, &mut |_, _| {})?,
            Texts | Bytes => {
                let (name, value) = pair(bytes)?;
                let value = match field.holds {
                    Bytes => STANDARD.encode(value),
                    _ => std::str::from_utf8(value).ok()?.to_owned(),
                };
                made.entry(field.name).or_insert_with(|| json!({}))[name] = value.into();
                continue;
            }
        };
        // What is empty is what is absent, but for what says something by being there.
        if value.as_str() == Some("") || value.is_null() {
            continue;
        }
        if field.many {
            if let Value::Array(all) = made.entry(field.name).or_insert_with(|| json!([])) {
                all.push(value);
            }
        } else {
            made.insert(field.name.into(), value);
        }
    }
    Some(made.into())
}

/// An entry of a map.
fn pair(mut rest: &[u8]) -> Option<(&str, &[u8])> {
    let (mut name, mut value) = ("", &[][..]);
    while !rest.is_empty() {
        let tag = varint(&mut rest)?;
        if tag & 7 != 2 {
            return None;
        }
        let length = varint(&mut rest)?;
        let bytes = taken(&mut rest, length)?;
        match tag >> 3 {
            1 => name = std::str::from_utf8(bytes).ok()?,
            2 => value = bytes,
            _ => {}
        }
    }
    Some((name, value))
}

fn time(mut rest: &[u8], micros: bool) -> Option<Value> {
    let (mut seconds, mut nanos) = (0_i64, 0_i64);
    while !rest.is_empty() {
        let tag = varint(&mut rest)?;
        let value = varint(&mut rest).filter(|_| tag & 7 == 0)?.cast_signed();
        match tag >> 3 {
            1 => seconds = value,
            2 => nanos = value,
            _ => {}
        }
    }
    // An absent time is written as the year 1.
    if seconds <= 0 {
        return Some(Value::Null);
    }
    let at = Timestamp::new(seconds, i32::try_from(nanos).ok()?).ok()?;
    let form = if micros { "%Y-%m-%dT%H:%M:%S.%6fZ" } else { "%Y-%m-%dT%H:%M:%SZ" };
    Some(at.strftime(form).to_string().into())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
        let mut made = vec![number << 3 | 2, u8::try_from(bytes.len()).unwrap()];
        made.extend(bytes);
        made
    }

    fn envelope(version: &str, kind: &str, raw: &[u8]) -> Vec<u8> {
        let meta = [field(1, version.as_bytes()), field(2, kind.as_bytes())].concat();
        [MAGIC.to_vec(), field(1, &meta), field(2, raw), field(3, b""), field(4, b"")].concat()
    }

    #[test]
    fn what_kubectl_sends_is_read() {
        // SelfSubjectAccessReview of 'kubectl auth can-i create cpool', with an empty metadata before and status after.
        let attributes = [
            field(1, b"default"),
            field(2, b"create"),
            field(3, b"anweddol.io"),
            field(4, b"*"),
            field(5, b"containerpools"),
        ];
        let raw = [field(1, &field(1, b"")), field(2, &field(1, &attributes.concat())), vec![0x1a, 2, 8, 0]].concat();
        let read = read(&envelope("authorization.k8s.io/v1", "SelfSubjectAccessReview", &raw)).unwrap();
        let expected = json!({
            "spec": { "resourceAttributes": {
                "namespace": "default", "verb": "create", "group": "anweddol.io", "version": "*", "resource": "containerpools",
            } },
            "kind": "SelfSubjectAccessReview",
            "apiVersion": "authorization.k8s.io/v1",
        });
        assert_eq!(read, expected);
    }

    #[test]
    fn maps_bytes_lists_and_times_are_read() {
        let data = field(2, &[field(1, b"a"), field(2, &[0xff, 0])].concat());
        let meta = field(1, &[field(1, b"s"), field(11, &[field(1, b"k"), field(2, b"v")].concat())].concat());
        let read_secret = read(&envelope("v1", "Secret", &[meta, data].concat())).unwrap();
        assert_eq!((&read_secret["data"]["a"], &read_secret["metadata"]["labels"]["k"]), (&json!("/wA="), &json!("v")));
        let raw = [field(4, b"Foreground"), field(5, b"All"), vec![8, 30]].concat();
        let options = read(&envelope("v1", "DeleteOptions", &raw)).unwrap();
        assert_eq!((&options["dryRun"], &options["gracePeriodSeconds"]), (&json!(["All"]), &json!(30)));
        let renewed = field(2, &field(4, &[0x08, 0xe8, 0x07, 0x10, 0xc0, 0x84, 0x3d]));
        let lease = read(&envelope("coordination.k8s.io/v1", "Lease", &renewed)).unwrap();
        assert_eq!(lease["spec"]["renewTime"], "1970-01-01T00:16:40.001000Z");
    }

    #[test]
    fn what_is_none_is_refused_for_what_it_is() {
        assert_eq!(read(b"{}"), Err(ProtoError::Envelope));
        assert_eq!(read(&envelope("v1", "Pod", b"")), Err(ProtoError::Kind { kind: "Pod".into() }));
        let broken = Err(ProtoError::Broken { kind: "Namespace".into() });
        assert_eq!(read(&envelope("v1", "Namespace", &[0x0a, 200])), broken);
        assert_eq!(read(&envelope("v1", "Namespace", &[0x0b])), broken);
    }

    proptest! {
        #[test]
        fn any_bytes_in_the_envelope_are_read_or_refused(raw in prop::collection::vec(any::<u8>(), 0..100), whole: bool) {
            let body = if whole { [MAGIC, &raw].concat() } else { envelope("v1", "Secret", &raw) };
            let _ = read(&body);
        }
    }
}
