//! Sockets: who connects, what they ask, what they are told. Knows the rules only through [`Verbs`].
#![doc = include_str!("api.md")]

pub mod constants;
pub mod events;
pub mod health;
pub mod key;
pub mod rsa;
pub mod sessions;
pub mod tcp;
pub mod verbs;

use futures::future::BoxFuture;
use serde_json::{Map, Value};

use crate::model::{Client, Event};
use crate::wire::{Request, Response};

/// Answers requests of the wire protocol.
pub trait Verbs: Send + Sync + 'static {
    /// Handles one request. The future is dropped when the client goes away first: it has to undo its work then.
    fn handle(&self, client: Client, request: Request) -> BoxFuture<'static, Answer>;
}

/// A response, and what to do if it does not reach its client.
pub struct Answer {
    /// What is sent.
    pub response: Response,
    /// Run when sending failed.
    pub undelivered: Option<Box<dyn FnOnce() + Send>>,
}

impl From<Response> for Answer {
    fn from(response: Response) -> Self {
        Answer { response, undelivered: None }
    }
}

/// Is told what happens on connections.
pub trait EventSink: Send + Sync + 'static {
    /// Takes an event; never blocks.
    fn emit(&self, event: Event);
}

/// A request's parameters.
pub type Parameters = Map<String, Value>;
