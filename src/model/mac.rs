use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

/// The address of a network card.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Mac(pub [u8; 6]);

super::text::from_text!(Mac);

/// Why a text is no address of a network card.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{text}' is no MAC address: write six bytes in hexadecimal, as in 52:54:00:0a:0b:0c")]
pub struct ParseMacError {
    /// What was given.
    pub text: String,
}

impl FromStr for Mac {
    type Err = ParseMacError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let byte = |digits: &str| match digits.len() == 2 && digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            true => u8::from_str_radix(digits, 16).ok(),
            false => None,
        };
        let bytes = text.split(':').map(byte).collect::<Option<Vec<u8>>>();
        let bytes = bytes.and_then(|bytes| bytes.try_into().ok());
        bytes.map(Mac).ok_or_else(|| ParseMacError { text: text.into() })
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Mac {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
