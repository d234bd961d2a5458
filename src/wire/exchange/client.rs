use std::sync::Arc;

use super::inbox::Inbox;
use super::{acknowledged, size_within};
use crate::wire::frame::{self, ACK, SIZE};
use crate::wire::session::{BLOCK, packet_limit};
use crate::wire::{
    Element, Fingerprint, Generation, Limits, Malformed, PrivateKey, PublicKey, Response, Session, WireError,
};

/// The client's side of the key exchange.
///
/// ```text
/// SizeAck ─► KeyAck ─► KeySize ─► Key ─► (Wrap) ─► SessionAck ─► SessionKey ─► Connected
///    2         4          5        7                   10            11
/// ```
pub struct ClientExchange {
    state: State,
    inbox: Inbox,
    key: Arc<PrivateKey>,
    limits: Limits,
}

enum State {
    SizeAck,
    KeyAck,
    KeySize,
    Key,
    Wrapping(Fingerprint),
    SessionAck(Fingerprint),
    SessionKey(Fingerprint),
    Over,
}

/// What is to be done next.
#[derive(Debug)]
pub enum ClientStep {
    /// Read on.
    More,
    /// Send this, then read on.
    Send(Vec<u8>),
    /// The server's key: look at its fingerprint, wrap a session key for it, give that to
    /// [`ClientExchange::wrapped`], send what that returns, then read on.
    Wrap(Box<PublicKey>),
    /// The session key that the server sent: unwrap it, send `1`, and go on with the request.
    Unwrap {
        /// The wrapped session key.
        wrapped: Vec<u8>,
        /// Whose server it is.
        server: Fingerprint,
    },
}

impl ClientExchange {
    /// Begins. The bytes are the first to send: the key goes with its size, without waiting for the word between.
    pub fn start(key: Arc<PrivateKey>, limits: Limits) -> Result<(Self, Vec<u8>), WireError> {
        let size = key.public_pem().len();
        let limit = limits.public_key;
        let header =
            frame::size_header(size).ok_or(WireError::Size { element: Element::PublicKeySize, size, limit })?;
        let mut inbox = Inbox::default();
        inbox.expect(1);
        let first = [&header[..], key.public_pem().as_bytes()].concat();
        Ok((ClientExchange { state: State::SizeAck, inbox, key, limits }, first))
    }

    /// How many bytes are missing for the next step.
    pub fn want(&self) -> usize {
        self.inbox.missing()
    }

    /// Takes bytes off `input`, at most [`ClientExchange::want`] of them.
    pub fn receive(&mut self, input: &mut &[u8]) -> Result<ClientStep, WireError> {
        let Some(element) = self.inbox.fill(input) else { return Ok(ClientStep::More) };
        match std::mem::replace(&mut self.state, State::Over) {
            State::SizeAck => {
                acknowledged(Element::PublicKeySize, element[0])?;
                self.then(State::KeyAck, 1);
                Ok(ClientStep::More)
            }
            State::KeyAck => {
                acknowledged(Element::PublicKey, element[0])?;
                self.then(State::KeySize, SIZE);
                Ok(ClientStep::More)
            }
            State::KeySize => {
                let size = size_within(Element::PublicKeySize, Inbox::array(element), self.limits.public_key)?;
                self.then(State::Key, size);
                Ok(ClientStep::Send(vec![ACK]))
            }
            State::Key => {
                let key = PublicKey::from_pem(&element, &self.limits).map_err(WireError::PublicKey)?;
                self.state = State::Wrapping(key.fingerprint());
                Ok(ClientStep::Wrap(Box::new(key)))
            }
            State::SessionAck(server) => {
                acknowledged(Element::SessionKey, element[0])?;
                self.then(State::SessionKey(server), self.key.modulus_length());
                Ok(ClientStep::More)
            }
            State::SessionKey(server) => Ok(ClientStep::Unwrap { wrapped: element, server }),
            // Neither expects bytes, so neither gets any.
            State::Wrapping(_) | State::Over => Ok(ClientStep::More),
        }
    }

    /// Goes on after [`ClientStep::Wrap`]; returns what to send.
    pub fn wrapped(&mut self, wrapped: &[u8]) -> Vec<u8> {
        let mut reply = vec![ACK];
        reply.extend_from_slice(wrapped);
        if let State::Wrapping(server) = self.state {
            self.then(State::SessionAck(server), 1);
        }
        reply
    }

    fn then(&mut self, state: State, count: usize) {
        self.state = state;
        self.inbox.expect(count);
    }
}

/// The client's reading of the response.
pub struct ResponseExchange {
    session: Session,
    generation: Generation,
    at: Part,
    inbox: Inbox,
    limits: Limits,
}

#[derive(Clone, Copy)]
enum Part {
    Size,
    Message,
}

/// What is to be done next.
#[derive(Debug)]
pub enum ResponseStep {
    /// Read on.
    More,
    /// Send this, then read on.
    Send(Vec<u8>),
    /// The response is here.
    Response(Response),
}

impl ResponseExchange {
    /// Waits for the answer to a request that `session` sealed.
    pub fn new(session: Session, generation: Generation, limits: Limits) -> Self {
        let mut inbox = Inbox::default();
        inbox.expect(match generation {
            Generation::First => SIZE,
            Generation::Second => BLOCK,
        });
        ResponseExchange { session, generation, at: Part::Size, inbox, limits }
    }

    /// How many bytes are missing for the next step.
    pub fn want(&self) -> usize {
        self.inbox.missing()
    }

    /// Takes bytes off `input`, at most [`ResponseExchange::want`] of them.
    pub fn receive(&mut self, input: &mut &[u8]) -> Result<ResponseStep, WireError> {
        let Some(element) = self.inbox.fill(input) else { return Ok(ResponseStep::More) };
        match self.at {
            Part::Size => {
                let limit = packet_limit(self.generation, &self.limits);
                let size = match self.generation {
                    Generation::First => size_within(Element::MessageSize, Inbox::array(element), limit)?,
                    Generation::Second => self
                        .session
                        .open_size(&Inbox::array(element))
                        .and_then(|size| (1..=limit).contains(&size).then_some(size).ok_or(Malformed::Size))
                        .map_err(WireError::Response)?,
                };
                self.at = Part::Message;
                self.inbox.expect(size);
                Ok(ResponseStep::Send(vec![ACK]))
            }
            Part::Message => {
                let text = self.session.open(self.generation, &element).map_err(WireError::Response)?;
                Response::from_text(&text).map(ResponseStep::Response).map_err(WireError::Response)
            }
        }
    }
}
