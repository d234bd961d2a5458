//! A store's records, the document that it is carried in, what is sealed, and what a domain keeps of its records. An input is a
//! key and a value, eight times.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use anweddol::api::Sealer;
use anweddol::api::access::Token;
use anweddol::model::{
    AccessToken, Container, ContainerClaim, ContainerPool, Credentials, Event, Keepsake, KeepsakeError, Mark, Object,
};
use anweddol::store::records::{self, Versioned};
use anweddol::store::{Contents, Index, Kv, MAX_KEY, MAX_VALUE, consistency, document};
use secrecy::SecretString;
use serde::Serialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use super::parts;

static SEALER: LazyLock<Sealer> = LazyLock::new(|| {
    let dir = tempfile::tempdir().expect("a directory");
    Sealer::from_file(&dir.path().join("seal.key")).expect("a key")
});

pub(super) fn run(input: &[u8]) {
    let parts = parts::<16>(input);
    let mut records: BTreeMap<String, Kv> = BTreeMap::new();
    for (number, pair) in parts.chunks(2).enumerate() {
        let (key, value) = (String::from_utf8_lossy(pair[0]).into_owned(), pair[1].to_vec());
        if !key.is_empty() && key.len() <= MAX_KEY && value.len() <= MAX_VALUE {
            let rev = number as u64 + 2;
            records.insert(key.clone(), Kv { key: key.into(), value: value.into(), create_rev: rev, mod_rev: rev });
        }
    }
    let records: Vec<Kv> = records.into_values().collect();
    for kv in &records {
        read::<Container>(kv);
        read::<ContainerPool>(kv);
        read::<ContainerClaim>(kv);
        read::<Event>(kv);
        read::<AccessToken>(kv);
        read::<Credentials>(kv);
        read::<Token>(kv);
        named(kv);
        keepsake(&kv.value);
        sealed(&kv.value);
    }
    for finding in consistency::check(&records) {
        assert!(!finding.key.is_empty());
    }
    let index = Index::of(records.iter().cloned(), 20);
    let (containers, claims) = (index.containers().map(Iterator::count), index.claims().map(Iterator::count));
    let unreadable = |of: &str| {
        let cannot =
            |finding: &consistency::Finding| finding.key.starts_with(of) && finding.wrong.starts_with("cannot");
        consistency::check(&records).iter().any(cannot)
    };
    assert!(containers.is_ok() || unreadable("registry/containers/"));
    assert!(claims.is_ok() || unreadable("registry/containerclaims/"));
    carried(Contents { revision: 20, records, logs: BTreeMap::new() });
}

/// What is read is written in a form that is read as the same.
fn read<T: Serialize + DeserializeOwned + Clone + PartialEq + Send + Sync + 'static>(kv: &Kv) {
    if let Ok(Versioned { object, .. }) = records::decode::<T>(kv) {
        let value = serde_json::to_vec(&object).expect("records serialise");
        let again = records::decode::<T>(&Kv { value: value.into(), ..kv.clone() }).expect("read again").object;
        assert!(again == object, "{}: {}", kv.key, String::from_utf8_lossy(&kv.value));
    }
}

/// A key that names an object is that object's key.
fn named(kv: &Kv) {
    if let Some(object) = records::parse_key(&kv.key) {
        assert_eq!(records::key(&object), *kv.key);
    }
    if let Ok(Versioned { object, .. }) = records::decode::<Container>(kv)
        && !object.metadata.name.contains('/')
        && !object.metadata.namespace.contains('/')
    {
        assert_eq!(records::parse_key(&records::key(&object.object_ref())), Some(object.object_ref()));
    }
}

fn keepsake(value: &[u8]) {
    let Ok(text) = std::str::from_utf8(value) else { return };
    let mark = |namespace: &str, name: &str, uid| Mark {
        instance: Uuid::nil(),
        namespace: namespace.into(),
        name: name.into(),
        uid,
    };
    // Of whichever machine it says it is.
    if let Err(KeepsakeError::Another { namespace, name, uid }) = Keepsake::read(text, &mark("", "", Uuid::max()))
        && let Ok(keepsake) = Keepsake::read(text, &mark(&namespace, &name, uid))
    {
        let written = keepsake.text();
        assert!(written.is_ascii() && !written.contains(|c: char| c.is_control()));
        let again = Keepsake::read(&written, &mark(&namespace, &name, uid)).expect("read again");
        assert!(again == keepsake);
    }
}

/// Nothing opens that was not sealed here, and what was sealed does.
fn sealed(value: &[u8]) {
    let Ok(text) = std::str::from_utf8(value) else { return };
    assert!(SEALER.open(Uuid::nil(), text).is_err());
    let sealed = SEALER.seal(Uuid::nil(), &SecretString::from(text));
    assert!(SEALER.open(Uuid::nil(), &sealed).is_ok());
    assert!(SEALER.open(Uuid::max(), &sealed).is_err());
}

/// A document holds what the store held, and any line of it may be anything else.
fn carried(contents: Contents) {
    let text = document::write(&contents, "now".into(), Vec::new());
    let (_, read) = document::read(&text).unwrap_or_else(|error| panic!("{text}: {error}"));
    assert_eq!(read, contents);
    for kv in &contents.records {
        if let Ok(line) = std::str::from_utf8(&kv.value) {
            drop(document::read(&resealed(line, contents.records.len())));
        }
    }
}

/// A text with the last line that a document of it would have.
fn resealed(text: &str, records: usize) -> String {
    let text = format!("{text}\n");
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes());
    let sum: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{text}{{\"records\":{records},\"logs\":0,\"sha256\":\"{sum}\"}}\n")
}
