//! A store as a document: JSON lines that say everything it holds, to keep elsewhere or to carry to another disk. Pure.
//!
//! ```text
//! {"document":"anweddol store","version":1,"revision":812,"instance":"…","exported":"…","losses":[]}
//! {"key":"registry/containers/default/…","created":8,"modified":811,"json":{…}}      one a record, in order
//! {"log":"events/","last":97}                                                         one a log
//! {"records":63,"logs":1,"sha256":"…"}                                                of every byte before this line
//! ```
//!
//! What is sealed stays sealed: a document opens no password without the `seal.key` of its state directory. Values
//! that are not JSON, or not as this program writes it, are told in Base64: what is read is the same to the byte.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::engine::{MAX_KEY, MAX_VALUE};
use super::{Contents, Kv};
use crate::sha256;

const NAME: &str = "anweddol store";
/// Of documents that this program writes, and the newest that it reads.
const VERSION: u32 = 1;

/// Its first line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Header {
    document: String,
    version: u32,
    revision: u64,
    /// The installation's UUID, as far as the store has one.
    pub instance: Option<String>,
    /// When it was written, in RFC 3339.
    pub exported: String,
    /// What could not be read of a damaged store; nothing, where the document is whole.
    pub losses: Vec<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    key: String,
    created: u64,
    modified: u64,
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "some")]
    json: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    base64: Option<String>,
}

/// `null` is a value like any other.
fn some<'de, D: serde::Deserializer<'de>>(value: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(value).map(Some)
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Log {
    log: String,
    last: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Trailer {
    records: usize,
    logs: usize,
    sha256: String,
}

/// Why a text is no document of a whole store. Nothing of it is used then.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    /// A line makes no sense where it is.
    #[error("line {line} is not what 'anweddol store export' writes there")]
    Line {
        /// Which, from 1.
        line: usize,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// A line says what no store holds.
    #[error("line {line}: {reason}")]
    Content {
        /// Which, from 1.
        line: usize,
        /// What.
        reason: String,
    },
    /// A later version of this program wrote it.
    #[error("it has version {version}, and this program reads versions up to {VERSION}: use the one that wrote it")]
    Newer {
        /// Its version.
        version: u32,
    },
    /// It has no end, or another one than it was written with.
    #[error("it was cut off or changed: {reason}")]
    Changed {
        /// How that is known.
        reason: String,
    },
}

/// Writes everything down. `losses` says what could not be read; `exported` is the time.
pub fn write(contents: &Contents, exported: String, losses: Vec<String>) -> String {
    let instance = contents.records.iter().find(|kv| *kv.key == *super::records::INSTANCE);
    let instance = instance.and_then(|kv| serde_json::from_slice(&kv.value).ok());
    let (document, revision) = (NAME.to_owned(), contents.revision);
    let mut text = String::new();
    line(&mut text, &Header { document, version: VERSION, revision, instance, exported, losses });
    for kv in &contents.records {
        let json = serde_json::from_slice::<Value>(&kv.value).ok();
        // Only what comes out as it went in, of its line, too: that nests one deeper.
        let json = json.filter(|value| *value.to_string().as_bytes() == *kv.value);
        let json = json.filter(|value| serde_json::from_str::<[Value; 1]>(&format!("[{value}]")).is_ok());
        let base64 = json.is_none().then(|| BASE64.encode(&*kv.value));
        let (key, created, modified) = (kv.key.to_string(), kv.create_rev, kv.mod_rev);
        line(&mut text, &Record { key, created, modified, json, base64 });
    }
    for (log, last) in &contents.logs {
        line(&mut text, &Log { log: log.clone(), last: *last });
    }
    let sha256 = sha256(&text);
    line(&mut text, &Trailer { records: contents.records.len(), logs: contents.logs.len(), sha256 });
    text
}

/// Reads a document, once it is seen to be whole: how it was written, and what the store held.
pub fn read(text: &str) -> Result<(Header, Contents), DocumentError> {
    let changed = |reason: &str| DocumentError::Changed { reason: reason.into() };
    let body = text.strip_suffix('\n').ok_or_else(|| changed("its last line has no end"))?;
    let (before, last) = body.rsplit_once('\n').ok_or_else(|| changed("it has only one line"))?;
    let before = &text[..=before.len()];
    let trailer: Trailer = serde_json::from_str(last).map_err(|_| changed("its last line is not its sum"))?;
    if trailer.sha256 != sha256(before) {
        return Err(changed("its SHA-256 is another one"));
    }
    let mut lines = before.lines().enumerate().map(|(at, line)| (at + 1, line));
    let header: Header = parse(lines.next().unwrap_or((1, "")))?;
    if header.document != NAME {
        return Err(DocumentError::Content { line: 1, reason: format!("a document of '{}'", header.document) });
    }
    if header.version > VERSION {
        return Err(DocumentError::Newer { version: header.version });
    }
    let mut contents = Contents { revision: header.revision, records: vec![], logs: BTreeMap::new() };
    let mut keys = BTreeSet::new();
    for (at, line) in lines {
        let wrong = |reason: String| DocumentError::Content { line: at, reason };
        if contents.records.len() < trailer.records {
            let kv = record(parse((at, line))?).map_err(wrong)?;
            if kv.create_rev > kv.mod_rev || kv.mod_rev > contents.revision {
                return Err(wrong(format!("'{}' was written after the last revision", kv.key)));
            }
            if !keys.insert(kv.key.clone()) {
                return Err(wrong(format!("'{}' for the second time", kv.key)));
            }
            contents.records.push(kv);
        } else {
            let Log { log, last } = parse((at, line))?;
            contents.logs.insert(log, last);
        }
    }
    if (contents.records.len(), contents.logs.len()) != (trailer.records, trailer.logs) {
        return Err(changed("its last line counts other records than it has"));
    }
    Ok((header, contents))
}

fn record(record: Record) -> Result<Kv, String> {
    let Record { key, created: create_rev, modified: mod_rev, json, base64 } = record;
    let value = match (json, base64) {
        (Some(json), None) => json.to_string().into_bytes(),
        (None, Some(base64)) => BASE64.decode(base64).map_err(|error| format!("'{key}': {error}"))?,
        (Some(_), Some(_)) | (None, None) => return Err(format!("'{key}' has not one value")),
    };
    if key.is_empty() || key.len() > MAX_KEY || value.len() > MAX_VALUE {
        return Err(format!("'{key}' or its value is longer than any in a store, or empty"));
    }
    Ok(Kv { key: key.into(), value: value.into(), create_rev, mod_rev })
}

fn parse<'a, T: Deserialize<'a>>((line, text): (usize, &'a str)) -> Result<T, DocumentError> {
    serde_json::from_str(text).map_err(|source| DocumentError::Line { line, source })
}

fn line(text: &mut String, of: &impl Serialize) {
    text.push_str(&serde_json::to_string(of).expect("strings and numbers serialise"));
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn contents() -> impl Strategy<Value = Contents> {
        let value = prop_oneof![
            prop::collection::vec(any::<u8>(), 0..40),
            Just(b"null".to_vec()),
            Just(b"{\"b\":1,\"a\":[1.50,1e3,{}]}".to_vec()),
            Just(b"{\"b\":\"line\\nend\",\"a\":2}".to_vec()),
            Just(br#"{ "spaced": true }"#.to_vec()),
            (120..130_usize).prop_map(|deep| ["[".repeat(deep), "]".repeat(deep)].concat().into_bytes()),
            "\"[a-z]{0,9}\"".prop_map(String::into_bytes),
        ];
        let record = (value, 1..50u64, 0..50u64);
        let records = prop::collection::btree_map("[a-z/]{1,9}", record, 0..12);
        let logs = prop::collection::btree_map("[a-z]{1,5}/", any::<u64>(), 0..3);
        (records, logs, 100..1000u64).prop_map(|(records, logs, revision)| {
            let kv = |(key, (value, create_rev, more)): (String, (Vec<u8>, u64, u64))| Kv {
                key: key.into(),
                value: value.into(),
                create_rev,
                mod_rev: create_rev + more,
            };
            Contents { revision, records: records.into_iter().map(kv).collect(), logs }
        })
    }

    proptest! {
        #[test]
        fn what_is_written_down_is_read_to_the_byte(contents in contents()) {
            let text = write(&contents, "now".into(), vec!["a part".into()]);
            let (header, read) = read(&text).unwrap();
            prop_assert_eq!(read, contents);
            prop_assert_eq!(header.losses, ["a part"]);
        }

        #[test]
        fn a_document_that_was_cut_off_or_changed_is_refused(
            contents in contents(), at: prop::sample::Index, change in 1..=127u8,
        ) {
            let text = write(&contents, "now".into(), vec![]);
            let at = at.index(text.len());
            prop_assert!(read(&text[..at]).is_err());
            let mut bytes = text.into_bytes();
            bytes[at] ^= change;
            // Hexadecimal digits have two cases.
            if let Ok(changed) = String::from_utf8(bytes) {
                prop_assert!(read(&changed).is_err());
            }
        }
    }

    #[test]
    fn records_can_be_read_by_people() {
        let value = serde_json::json!({"metadata": {"name": "a"}}).to_string();
        let kv = Kv { key: "k".into(), value: value.into(), create_rev: 2, mod_rev: 3 };
        let text = write(&Contents { revision: 3, records: vec![kv], logs: BTreeMap::new() }, "now".into(), vec![]);
        assert!(text.contains(r#"{"key":"k","created":2,"modified":3,"json":{"metadata":{"name":"a"}}}"#), "{text}");
    }

    #[test]
    fn what_no_store_holds_is_refused_although_its_sum_is_right() {
        let header =
            r#"{"document":"anweddol store","version":1,"revision":9,"instance":null,"exported":"","losses":[]}"#;
        let seal = |lines: &[&str], records: usize| {
            let text: String = lines.iter().flat_map(|line| [*line, "\n"]).collect();
            let sum = format!("{{\"records\":{records},\"logs\":0,\"sha256\":\"{}\"}}\n", sha256(&text));
            text + &sum
        };
        let record = r#"{"key":"a","created":2,"modified":3,"json":1}"#;
        assert!(read(&seal(&[header, record], 1)).is_ok());
        let refused: [(&[&str], usize, &str); 7] = [
            (&[header, record, record], 2, "second time"),
            (&[header, r#"{"key":"a","created":2,"modified":10,"json":1}"#], 1, "last revision"),
            (&[header, r#"{"key":"a","created":3,"modified":2,"json":1}"#], 1, "last revision"),
            (&[header, r#"{"key":"","created":2,"modified":2,"json":1}"#], 1, "empty"),
            (&[header, r#"{"key":"a","created":2,"modified":2}"#], 1, "not one value"),
            (&[header, record], 2, "other records"),
            (&[&header.replace(":1,", ":2,")], 0, "up to 1"),
        ];
        for (lines, records, says) in refused {
            let error = read(&seal(lines, records)).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
    }
}
