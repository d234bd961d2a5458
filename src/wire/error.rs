use std::fmt;

use serde_json::{Map, Value};

use super::KeyError;
use super::frame::REFUSAL;

/// A part of the conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Element {
    /// The size of a public key.
    PublicKeySize,
    /// A public key.
    PublicKey,
    /// The session key.
    SessionKey,
    /// The size of a request or response.
    MessageSize,
}

impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Element::PublicKeySize => "size of a public key",
            Element::PublicKey => "public key",
            Element::SessionKey => "session key",
            Element::MessageSize => "size of a message",
        })
    }
}

/// Why a conversation ends early.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// It answered `0`.
    #[error("the peer refused our {element}")]
    Refused {
        /// What it refused.
        element: Element,
    },
    /// It answered neither `1` nor `0`.
    #[error(
        "the peer answered our {element} with byte {byte:#04x} instead of '1' or '0': it does not speak this protocol"
    )]
    NoAcknowledgement {
        /// What it answered to.
        element: Element,
        /// How.
        byte: u8,
    },
    /// What should be a size is none.
    #[error("\"{}\" is no {element} (1 to 8 digits, padded with '=')", header.escape_ascii())]
    NoSize {
        /// Of what.
        element: Element,
        /// What was there.
        header: Vec<u8>,
    },
    /// A size is zero or too large.
    #[error("a {element} of {size} bytes; 1 to {limit} are allowed")]
    Size {
        /// Of what.
        element: Element,
        /// The size announced.
        size: usize,
        /// The largest allowed.
        limit: usize,
    },
    /// A public key is not acceptable.
    #[error("the peer's public key is not acceptable")]
    PublicKey(#[source] KeyError),
    /// A session key could not be opened, or was none. Why is not told apart.
    #[error("the peer's session key could not be opened")]
    SessionKey,
    /// A session key could not be wrapped for the peer.
    #[error("the session key could not be encrypted for the peer")]
    Wrap(#[source] KeyError),
    /// The cipher failed.
    #[error("the cipher failed")]
    Cipher,
    /// A response cannot be understood.
    #[error("the peer's response cannot be understood")]
    Response(#[source] Malformed),
}

impl WireError {
    /// What the peer is told before the connection is closed.
    pub fn reply(&self) -> &'static [u8] {
        match self {
            // It knows already, or is somebody else.
            WireError::Refused { .. } | WireError::NoAcknowledgement { .. } => b"",
            WireError::NoSize { .. }
            | WireError::Size { .. }
            | WireError::PublicKey(_)
            | WireError::SessionKey
            | WireError::Wrap(_)
            | WireError::Cipher
            | WireError::Response(_) => &[REFUSAL],
        }
    }
}

/// Why a message is malformed. For our own log: the peer is not told which it was.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Malformed {
    /// Its size is none, zero, or too large.
    #[error("its size cannot be read, is zero or over the limit")]
    Size,
    /// It is not whole blocks, or its padding is wrong.
    #[error("it cannot be deciphered")]
    Undecipherable,
    /// It is not UTF-8.
    #[error("it is not UTF-8 text")]
    NotText,
    /// It is not JSON.
    #[error("it is not JSON")]
    NotJson,
    /// It is not an object.
    #[error("it is not a JSON object")]
    NotAnObject,
    /// It is an object, but no response.
    #[error("it lacks one of 'success', 'message' and 'data'")]
    NotAResponse,
    /// Its fields break the rules: the documented error dictionary.
    #[error("its fields break the rules: {}", Value::Object(.0.clone()))]
    Fields(Map<String, Value>),
}

impl Malformed {
    /// The documented error dictionary; empty where there are no fields to speak of.
    pub fn dictionary(&self) -> Map<String, Value> {
        match self {
            Malformed::Fields(errors) => errors.clone(),
            Malformed::Size
            | Malformed::Undecipherable
            | Malformed::NotText
            | Malformed::NotJson
            | Malformed::NotAnObject
            | Malformed::NotAResponse => Map::new(),
        }
    }
}
