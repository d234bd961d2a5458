//! The conversation as state machines: one for each side. They are fed bytes and say what to do next.
//!
//! A machine says how many bytes it lacks ([`ServerExchange::want`]); who reads no more than that never holds
//! more of a peer's bytes than one element, whatever the peer sends ahead. How the bytes are cut into segments
//! makes no difference.

mod client;
mod inbox;
mod server;

pub use client::{ClientExchange, ClientStep, ResponseExchange, ResponseStep};
pub use server::{Incoming, ServerExchange, ServerStep, Unwrap, Unwrapped};

pub use super::session::Answering;

use super::frame::{ACK, REFUSAL, SIZE, clear_size};
use super::{Element, WireError};

/// Checks a peer's acknowledgement of `element`.
pub fn acknowledged(element: Element, byte: u8) -> Result<(), WireError> {
    match byte {
        ACK => Ok(()),
        REFUSAL => Err(WireError::Refused { element }),
        byte => Err(WireError::NoAcknowledgement { element, byte }),
    }
}

/// Reads a size in the clear and holds it against its limit.
fn size_within(element: Element, header: [u8; SIZE], limit: usize) -> Result<usize, WireError> {
    let size = clear_size(&header).ok_or_else(|| WireError::NoSize { element, header: header.to_vec() })?;
    if (1..=limit).contains(&size) { Ok(size) } else { Err(WireError::Size { element, size, limit }) }
}
