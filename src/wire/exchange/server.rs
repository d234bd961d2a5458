use std::fmt;
use std::sync::Arc;

use super::inbox::Inbox;
use super::{acknowledged, size_within};
use crate::wire::frame::{self, ACK, SIZE};
use crate::wire::session::{Answering, BLOCK, packet_limit};
use crate::wire::{AccessTokens, Element, Generation, Limits, Malformed, PrivateKey, PublicKey};
use crate::wire::{Request, Session, WireError};

/// The server's side, up to the request.
///
/// ```text
/// KeySize ─► Key ─► SizeAck ─► KeyAck ─► SessionKey ─► (Unwrap) ─► SessionAck ─► RequestSize ─┬─► Message ─► Request
///    1        3        6         8           9                         12             8 bytes └─► RequestBlock ─┘
/// ```
///
/// An error ends the conversation, with [`WireError::reply`] for the client.
pub struct ServerExchange {
    state: State,
    inbox: Inbox,
    key: Arc<PrivateKey>,
    limits: Limits,
    access: AccessTokens,
}

enum State {
    KeySize,
    Key,
    SizeAck(PublicKey),
    KeyAck(PublicKey),
    SessionKey(PublicKey),
    Unwrapping,
    SessionAck(Session),
    RequestSize(Session),
    RequestBlock(Session, [u8; SIZE]),
    Message(Session, Generation),
    Over,
}

/// What is to be done next.
#[derive(Debug)]
pub enum ServerStep {
    /// Read on.
    More,
    /// Send this, then read on.
    Send(Vec<u8>),
    /// Do the RSA work, give the outcome to [`ServerExchange::unwrapped`], send what that returns, then read on.
    Unwrap(Box<Unwrap>),
    /// The keys are exchanged; read on.
    Connected,
    /// The request is here, and the machine at its end.
    Request(Box<Incoming>),
}

/// A request as it came in, and the way to answer it.
#[derive(Debug)]
pub struct Incoming {
    /// The request, or what is wrong with it.
    pub request: Result<Request, Malformed>,
    /// The way back.
    pub answering: Answering,
}

/// RSA work: milliseconds of a core, so not for the thread that serves everybody.
pub struct Unwrap {
    wrapped: Vec<u8>,
    client_key: PublicKey,
}

impl fmt::Debug for Unwrap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Unwrap({} bytes)", self.wrapped.len())
    }
}

/// The outcome of [`Unwrap`].
#[derive(Debug)]
pub struct Unwrapped {
    /// The session that both sides use from now on.
    pub session: Session,
    /// The same, encrypted for the client.
    pub wrapped: Vec<u8>,
}

impl Unwrap {
    /// What the client sent.
    pub fn wrapped(&self) -> &[u8] {
        &self.wrapped
    }

    /// Checks that the client sent a session key for us, and wraps the fresh one for it. Its own is not used: then
    /// nothing that it chose, and nothing that our long-lived key protects, is enough to read the session.
    ///
    /// A key that cannot be opened is refused with `0`, and that is no oracle. OAEP is made for it: who learns of any
    /// ciphertext that it is none learns nothing of another one's text. What would help (Manger 2001) is to tell a wrong
    /// first byte from the other ways to be wrong, and those have one error, one answer and, in aws-lc, one time: padding
    /// is checked whole, without a branch. A text of another length than a session key's is refused in the same way; who
    /// can make one knew it already. A number that is not less than the modulus is refused without work, and whoever
    /// sends one knows that it is. Kept by `every_way_to_be_no_session_key_is_the_same_failure` (tests/wire).
    pub fn perform(self, key: &PrivateKey, fresh: Session) -> Result<Unwrapped, WireError> {
        let chosen = key.unwrap(&self.wrapped).map_err(|_| WireError::SessionKey)?;
        Session::from_bytes(&chosen)?;
        let wrapped = self.client_key.wrap(&fresh.to_bytes()).map_err(WireError::Wrap)?;
        Ok(Unwrapped { session: fresh, wrapped })
    }
}

impl ServerExchange {
    /// Waits for a client's first byte.
    pub fn new(key: Arc<PrivateKey>, limits: Limits, access: AccessTokens) -> Self {
        let mut inbox = Inbox::default();
        inbox.expect(SIZE);
        ServerExchange { state: State::KeySize, inbox, key, limits, access }
    }

    /// How many bytes are missing for the next step; 0 while [`Unwrap`] is out, and at the end.
    pub fn want(&self) -> usize {
        self.inbox.missing()
    }

    /// Takes bytes off `input`, at most [`ServerExchange::want`] of them.
    pub fn receive(&mut self, input: &mut &[u8]) -> Result<ServerStep, WireError> {
        let Some(element) = self.inbox.fill(input) else { return Ok(ServerStep::More) };
        match std::mem::replace(&mut self.state, State::Over) {
            State::KeySize => {
                let size = size_within(Element::PublicKeySize, Inbox::array(element), self.limits.public_key)?;
                self.then(State::Key, size);
                Ok(ServerStep::Send(vec![ACK]))
            }
            State::Key => {
                let client_key = PublicKey::from_pem(&element, &self.limits).map_err(WireError::PublicKey)?;
                let mut reply = vec![ACK];
                let size = self.key.public_pem().len();
                let header = frame::size_header(size).ok_or(WireError::Size {
                    element: Element::PublicKeySize,
                    size,
                    limit: self.limits.public_key,
                })?;
                reply.extend_from_slice(&header);
                self.then(State::SizeAck(client_key), 1);
                Ok(ServerStep::Send(reply))
            }
            State::SizeAck(client_key) => {
                acknowledged(Element::PublicKeySize, element[0])?;
                self.then(State::KeyAck(client_key), 1);
                Ok(ServerStep::Send(self.key.public_pem().into()))
            }
            State::KeyAck(client_key) => {
                acknowledged(Element::PublicKey, element[0])?;
                self.then(State::SessionKey(client_key), self.key.modulus_length());
                Ok(ServerStep::More)
            }
            State::SessionKey(client_key) => {
                self.state = State::Unwrapping;
                Ok(ServerStep::Unwrap(Box::new(Unwrap { wrapped: element, client_key })))
            }
            State::SessionAck(session) => {
                acknowledged(Element::SessionKey, element[0])?;
                self.then(State::RequestSize(session), SIZE);
                Ok(ServerStep::Connected)
            }
            State::RequestSize(session) => {
                let header: [u8; SIZE] = Inbox::array(element);
                match frame::clear_size(&header) {
                    Some(size) => Ok(self.message(session, Generation::First, Ok(size))),
                    None => {
                        self.then(State::RequestBlock(session, header), BLOCK - SIZE);
                        Ok(ServerStep::More)
                    }
                }
            }
            State::RequestBlock(session, first) => {
                let mut block = [0; BLOCK];
                block[..SIZE].copy_from_slice(&first);
                block[SIZE..].copy_from_slice(&element);
                let size = session.open_size(&block);
                Ok(self.message(session, Generation::Second, size))
            }
            State::Message(mut session, generation) => {
                let request =
                    session.open(generation, &element).and_then(|text| Request::from_text(&text, self.access));
                Ok(incoming(request, Answering::sealing(session, generation)))
            }
            // Neither expects bytes, so neither gets any.
            State::Unwrapping | State::Over => Ok(ServerStep::More),
        }
    }

    /// Goes on after [`ServerStep::Unwrap`]; returns what to send.
    pub fn unwrapped(&mut self, unwrapped: Unwrapped) -> Vec<u8> {
        let mut reply = vec![ACK];
        reply.extend_from_slice(&unwrapped.wrapped);
        self.then(State::SessionAck(unwrapped.session), 1);
        reply
    }

    fn message(&mut self, session: Session, generation: Generation, size: Result<usize, Malformed>) -> ServerStep {
        match size {
            Ok(size) if (1..=packet_limit(generation, &self.limits)).contains(&size) => {
                self.then(State::Message(session, generation), size);
                ServerStep::Send(vec![ACK])
            }
            Ok(_) | Err(_) => incoming(Err(Malformed::Size), Answering::refusing()),
        }
    }

    fn then(&mut self, state: State, count: usize) {
        self.state = state;
        self.inbox.expect(count);
    }
}

fn incoming(request: Result<Request, Malformed>, answering: Answering) -> ServerStep {
    ServerStep::Request(Box::new(Incoming { request, answering }))
}
