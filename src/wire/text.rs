//! JSON as the protocol carries it.

use std::io;

use serde::Serialize;
use serde_json::ser::{Formatter, Serializer};
use serde_json::{Map, Value};
use zeroize::{Zeroize, Zeroizing};

use super::Malformed;

/// Reads an object.
pub(super) fn read(bytes: &[u8]) -> Result<Map<String, Value>, Malformed> {
    let text = std::str::from_utf8(bytes).map_err(|_| Malformed::NotText)?;
    match serde_json::from_str(text).map_err(|_| Malformed::NotJson)? {
        Value::Object(object) => Ok(object),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            Err(Malformed::NotAnObject)
        }
    }
}

/// Room for every answer and request of the documented verbs: a text that grows leaves copies of its beginning behind.
const ROOM: usize = 4096;

/// Writes an object as the original implementation does: a blank after `,` and `:`, and ASCII only.
///
/// Any JSON would do for its clients; this way the protocol's examples can be compared byte by byte.
pub(super) fn write(object: &impl Serialize) -> Zeroizing<String> {
    let mut text = Vec::with_capacity(ROOM);
    // It has string keys and a `Vec` takes all that is written: neither can fail.
    let written = object.serialize(&mut Serializer::with_formatter(&mut text, Ascii));
    debug_assert!(written.is_ok(), "{written:?}");
    Zeroizing::new(String::from_utf8(text).unwrap_or_default())
}

/// Wipes the texts of an object, tokens and passwords among them.
pub(super) fn wipe(object: &mut Map<String, Value>) {
    object.values_mut().for_each(wipe_value);
}

fn wipe_value(value: &mut Value) {
    match value {
        Value::String(text) => text.zeroize(),
        Value::Array(values) => values.iter_mut().for_each(wipe_value),
        Value::Object(object) => wipe(object),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

struct Ascii;

impl Formatter for Ascii {
    fn begin_array_value<W: ?Sized + io::Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        out.write_all(if first { b"" } else { b", " })
    }

    fn begin_object_key<W: ?Sized + io::Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        out.write_all(if first { b"" } else { b", " })
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, out: &mut W) -> io::Result<()> {
        out.write_all(b": ")
    }

    fn write_string_fragment<W: ?Sized + io::Write>(&mut self, out: &mut W, fragment: &str) -> io::Result<()> {
        for c in fragment.chars() {
            if (' '..='~').contains(&c) {
                out.write_all(&[c as u8])?;
            } else {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    write!(out, "\\u{unit:04x}")?;
                }
            }
        }
        Ok(())
    }
}
