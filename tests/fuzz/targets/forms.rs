//! Small texts, of which the command line, headers, queries and records are full.

use std::fmt::Display;
use std::str::FromStr;

use anweddol::api::access::Role;
use anweddol::config::{Cidr, PortRange, WebListen};
use anweddol::manifest::selector::{Fields, Filter, Selector};
use anweddol::model::{Memory, Subnet, valid_name};
use anweddol::plan::public_key;
use anweddol::wire::{Fingerprint, Limits, PublicKey};
use serde_json::json;

pub(super) fn run(input: &[u8]) {
    drop(PublicKey::from_pem(input, &Limits::default()));
    let Ok(text) = std::str::from_utf8(input) else { return };
    again::<Memory>(text);
    again::<Subnet>(text);
    again::<Cidr>(text);
    again::<Role>(text);
    again::<Fingerprint>(text);
    written::<PortRange>(text);
    written::<WebListen>(text);
    name(text);
    key(text);
    selectors(text);
}

/// What is read is written in a form that is read as the same.
fn again<T: FromStr + Display + PartialEq>(text: &str) {
    if let Ok(value) = text.parse::<T>() {
        let written = value.to_string();
        assert!(written.parse::<T>().is_ok_and(|again| again == value), "'{text}' is written '{written}'");
    }
}

/// The same of what is written by serde.
fn written<T: FromStr + Copy + Into<String> + PartialEq>(text: &str) {
    if let Ok(value) = text.parse::<T>() {
        let written: String = value.into();
        assert!(written.parse::<T>().is_ok_and(|again| again == value), "'{text}' is written '{written}'");
    }
}

/// A name is one part of a path, a key and a file's name, and means nothing to a shell.
fn name(text: &str) {
    if valid_name(text).is_ok() {
        assert!(
            text.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, b'-' | b'.')),
            "{text}"
        );
        assert!(!text.is_empty() && text.len() <= 253 && !text.starts_with('.') && !text.starts_with('-'), "{text}");
    }
}

/// A public key becomes a line of a file and a part of a command, between single quotes.
fn key(text: &str) {
    if let Ok(line) = public_key::read(text) {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '=' | '-' | ' ' | '@' | '.');
        assert!(line.chars().all(plain) && line.matches(' ').count() == 1, "{line}");
        assert_eq!(public_key::read(&line).as_ref(), Ok(&line));
    }
}

/// A selector says of a label only whether it has the value; the empty one takes everything.
fn selectors(text: &str) {
    let object =
        json!({ "metadata": { "name": "a", "labels": { "app": "web", "a.b/c": "" } }, "status": { "port": 7 } });
    // Twice is not to be too long.
    if text.len() < 4096
        && let Ok(selector) = text.parse::<Selector>()
    {
        let twice: Selector = format!("{text},{text}").parse().unwrap_or_else(|error| panic!("{error}"));
        let takes = |selector: Selector| Filter::from(selector).takes(&object);
        assert_eq!(takes(twice), takes(selector));
    }
    if let Ok(fields) = Fields::parse(text, &["metadata.name", "status.port"]) {
        let only = fields.only("metadata.name").map(str::to_owned);
        let filter = Filter { fields, ..Filter::default() };
        if filter.takes(&object) {
            assert!(only.is_none_or(|only| only == "a"));
        }
    }
}
