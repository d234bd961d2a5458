//! The wire protocol, both generations of it. Pure: bytes in, bytes out; no socket, no clock, no runtime.
//!
//! A connection is a key exchange, one request, one response, close. `1` acknowledges, `0` refuses and ends it.
//!
//! ```text
//!      client                                        server
//!  1   "800====="  size of its public key  ────────►
//!  3   public key (PEM)                    ────────►  2, 4   "1", "1"
//!      "1", "1"    6, 8                    ◄────────  5, 7   size and public key (PEM) of the server
//!  9   RSA-OAEP(server key, AES key ‖ IV)  ────────►  10     "1"
//! 12   "1"                                 ◄────────  11     RSA-OAEP(client key, fresh AES key ‖ IV)
//!      ─────────────────── from here on AES-CBC with what the server sent ───────────────────
//!      size of the request                 ────────►  "1"
//!      request                             ────────►
//!      "1"                                 ◄────────  size of the response
//!                                          ◄────────  response
//! ```
//!
//! The **generations** differ in the last four lines only. The first sends sizes in the clear and keeps the IV; the
//! second encrypts sizes and sends with each message the IV of the next ([`Session::seal`]). The server knows them
//! apart by the first 8 bytes of the request's size ([`frame::clear_size`]) and answers in kind.
//!
//! Where what lives: [`frame`] sizes in the clear · [`session`] the cipher and a message in each generation ·
//! [`keys`] RSA · [`exchange`] the state machines · [`sanitize`] what a request must look like · this file what
//! a request and a response are.
//!
//! Three things are kept out, so that a conversation can be replayed byte for byte: randomness comes in as
//! arguments, RSA work is handed to the caller as a value ([`exchange::Unwrap`]; a server does it on a bounded
//! pool), and reading and waiting are the caller's. Elements are read by count, never by packet.
//!
//! What a peer may send is limited ([`Limits`]) before anything is allocated for it. What fails after decryption
//! (padding, text, JSON, rules) is one kind of failure outwardly: `Bad request`, no reason, the same bytes in number, on
//! the same way through the server (`no_failure_after_decryption_can_be_told_from_another`, tests/wire). Padding is
//! checked without a branch; the JSON of one that was right is read in microseconds, on a connection that takes
//! milliseconds. A size that cannot be read leaves no message to answer: it is refused with `0`. Either way the session key
//! is fresh for each connection, and a connection has one request, so nobody gets to ask such a question twice of one
//! key. A session key that cannot be opened is another matter: [`exchange::Unwrap::perform`].

mod error;
pub mod exchange;
pub mod frame;
pub mod keys;
pub mod sanitize;
pub mod session;
mod text;

#[cfg(test)]
mod tests;

use std::fmt;

use serde::Serialize;
use serde_json::{Map, Value};
use zeroize::{Zeroize, Zeroizing};

pub use error::{Element, Malformed, WireError};
pub use keys::{Fingerprint, KeyError, KeySize, PrivateKey, PublicKey};
pub use sanitize::AccessTokens;
pub use session::{Generation, Sealed, Session};

/// The port that clients expect.
pub const DEFAULT_PORT: u16 = 6150;

/// A container for this client.
pub const CREATE: &str = "CREATE";
/// The end of a container.
pub const DESTROY: &str = "DESTROY";
/// More time for a container. The original does not know it.
pub const EXTEND: &str = "EXTEND";
/// How the server is.
pub const STAT: &str = "STAT";

/// How much a peer may ask of us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a public key in PEM. One of 8192 bits has 1,400; 16 KiB.
    pub public_key: usize,
    /// Bits of the smallest modulus: 2048.
    pub modulus_min: usize,
    /// Bits of the largest modulus: 8192. The work of wrapping grows with its square.
    pub modulus_max: usize,
    /// Bits of the largest public exponent: 33, so that wrapping stays cheap.
    pub exponent_max: usize,
    /// Bytes of an encrypted message: 64 KiB.
    pub message: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { public_key: 16 << 10, modulus_min: 2048, modulus_max: 8192, exponent_max: 33, message: 64 << 10 }
    }
}

/// A well-formed request.
#[derive(Clone, PartialEq)]
pub struct Request {
    /// `^[A-Z]+$`.
    pub verb: String,
    /// What goes with it.
    pub parameters: Map<String, Value>,
    /// What else the client wrote beside the verb and the parameters.
    pub extra: Map<String, Value>,
}

impl Request {
    /// A request.
    pub fn new(verb: impl Into<String>, parameters: Map<String, Value>) -> Self {
        Request { verb: verb.into(), parameters, extra: Map::new() }
    }

    /// A request without parameters.
    pub fn bare(verb: impl Into<String>) -> Self {
        Request::new(verb, Map::new())
    }

    /// As it is sent.
    pub fn to_text(&self) -> Zeroizing<String> {
        #[derive(Serialize)]
        struct Text<'a> {
            verb: &'a str,
            parameters: &'a Map<String, Value>,
            #[serde(flatten)]
            extra: &'a Map<String, Value>,
        }
        text::write(&Text { verb: &self.verb, parameters: &self.parameters, extra: &self.extra })
    }

    /// Reads and checks what a client sent.
    pub fn from_text(bytes: &[u8], access: AccessTokens) -> Result<Self, Malformed> {
        sanitize::request(text::read(bytes)?, access)
    }
}

/// Its tokens and passwords are gone then; what it was about is not.
impl Zeroize for Request {
    fn zeroize(&mut self) {
        text::wipe(&mut self.parameters);
        text::wipe(&mut self.extra);
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("verb", &self.verb)
            .field("parameters", &Discreet(&self.parameters))
            .field("extra", &Discreet(&self.extra))
            .finish()
    }
}

/// What a response can say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Message {
    /// Done.
    Ok,
    /// Wrong pair of container UUID and client token, or wrong access token.
    BadAuthentication,
    /// Malformed, or an unknown verb.
    BadRequest,
    /// Policy says no.
    RefusedRequest,
    /// No capacity now.
    Unavailable,
    /// The server failed.
    InternalError,
}

impl Message {
    /// All of them.
    pub const ALL: [Message; 6] = [
        Message::Ok,
        Message::BadAuthentication,
        Message::BadRequest,
        Message::RefusedRequest,
        Message::Unavailable,
        Message::InternalError,
    ];

    /// As documented.
    pub const fn text(self) -> &'static str {
        match self {
            Message::Ok => "OK",
            Message::BadAuthentication => "Bad authentication",
            Message::BadRequest => "Bad request",
            Message::RefusedRequest => "Refused request",
            Message::Unavailable => "Unavailable",
            Message::InternalError => "Internal error",
        }
    }
}

/// A response.
#[derive(Clone, PartialEq)]
pub struct Response {
    /// Whether it was done.
    pub success: bool,
    /// One of the documented messages, perhaps with a reason in parentheses.
    pub message: String,
    /// What there is to say.
    pub data: Map<String, Value>,
}

impl Response {
    /// Done.
    pub fn ok(data: Map<String, Value>) -> Self {
        Response { success: true, message: Message::Ok.text().into(), data }
    }

    /// Not done, and perhaps why.
    pub fn refused(message: Message, reason: Option<&str>) -> Self {
        let message = match reason {
            Some(reason) => format!("{} ({reason})", message.text()),
            None => message.text().into(),
        };
        Response { success: false, message, data: Map::new() }
    }

    /// Which of the documented messages it carries, whatever its reason.
    pub fn kind(&self) -> Option<Message> {
        let text = self.message.split_once(" (").map_or(self.message.as_str(), |(text, _)| text);
        Message::ALL.into_iter().find(|message| message.text() == text)
    }

    /// As it is sent.
    pub fn to_text(&self) -> Zeroizing<String> {
        #[derive(Serialize)]
        struct Text<'a> {
            success: bool,
            message: &'a str,
            data: &'a Map<String, Value>,
        }
        text::write(&Text { success: self.success, message: &self.message, data: &self.data })
    }

    /// Reads what a server sent.
    pub fn from_text(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut object = text::read(bytes)?;
        match (object.remove("success"), object.remove("message"), object.remove("data")) {
            (Some(Value::Bool(success)), Some(Value::String(message)), Some(Value::Object(data))) => {
                Ok(Response { success, message, data })
            }
            _ => Err(Malformed::NotAResponse),
        }
    }
}

/// Its tokens and passwords are gone then; whether it was done is not.
impl Zeroize for Response {
    fn zeroize(&mut self) {
        text::wipe(&mut self.data);
    }
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Response")
            .field("success", &self.success)
            .field("message", &self.message)
            .field("data", &Discreet(&self.data))
            .finish()
    }
}

/// Shows an object in a log without what must not be in one.
struct Discreet<'a>(&'a Map<String, Value>);

impl fmt::Debug for Discreet<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SECRET: [&str; 3] = ["client_token", "access_token", "container_password"];
        let mut map = f.debug_map();
        for (name, value) in self.0 {
            if SECRET.contains(&name.as_str()) {
                map.entry(name, &"…");
            } else {
                map.entry(name, value);
            }
        }
        map.finish()
    }
}
