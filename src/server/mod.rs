//! Sockets: who connects, what they ask, what they are told. Knows the rules only through [`Verbs`].
#![doc = include_str!("api.md")]
#![doc = include_str!("api-facade.md")]

pub mod access;
pub mod asked;
mod connections;
pub mod constants;
pub mod container;
pub mod descriptors;
pub mod events;
pub mod gate;
mod handling;
pub mod health;
pub mod https;
mod instance;
pub mod key;
pub mod kube;
pub mod lines;
pub mod local;
mod parameters;
pub mod requests;
pub mod rsa;
pub mod sessions;
mod taking;
pub mod tcp;
mod telling;
pub mod verbs;
pub mod web;

use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use jiff::Timestamp;
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::api::Review;
use crate::model::Event;
use crate::wire::{Request, Response};

pub use instance::{ClientInstance, RawSocket, SendError};

/// Answers requests of the wire protocol.
pub trait Verbs: Send + Sync + 'static {
    /// Handles one request. The future is dropped when the client goes away first: it has to undo its work then.
    fn handle(&self, client: Arc<ClientInstance>, request: Request) -> BoxFuture<'static, Answer>;
}

/// A response, and what to do when it has reached its client, or has not. Where neither is sure, neither is done.
pub struct Answer {
    /// What is sent.
    pub response: Response,
    /// Run when sending failed.
    pub undelivered: Option<Box<dyn FnOnce() + Send>>,
    /// Run when the client's system has confirmed that all of it is there.
    pub delivered: Option<Box<dyn FnOnce() + Send>>,
}

impl From<Response> for Answer {
    fn from(response: Response) -> Self {
        Answer { response, undelivered: None, delivered: None }
    }
}

/// Something that happens on a connection, with the connection.
#[derive(Clone, Debug)]
pub struct Moment {
    /// What happens.
    pub event: Event,
    /// To whom.
    pub party: Party,
}

/// Whom a moment is about.
#[derive(Clone, Debug)]
pub enum Party {
    /// A connection without keys.
    Socket(RawSocket),
    /// A client.
    Client(Arc<ClientInstance>),
    /// Nobody.
    Nobody,
}

/// Is told what happens on connections.
pub trait EventSink: Send + Sync + 'static {
    /// The daemon's time, which its events bear.
    fn now(&self) -> Timestamp;

    /// Takes an event; never blocks.
    fn emit(&self, event: Event);

    /// Takes a moment. The connection waits until the future ends, and may be closed in between.
    fn at(&self, moment: Moment) -> BoxFuture<'static, ()> {
        self.emit(moment.event);
        futures::future::ready(()).boxed()
    }
}

/// Has a part in the life of clients' containers.
pub trait Lifecycle: Send + Sync + 'static {
    /// Who looks at a container of this client before it is started.
    fn review(&self, client: &Arc<ClientInstance>) -> Option<Review>;

    /// This client asks for the end of a container. The future ends when everybody was told of it.
    fn destroying(&self, client: &Arc<ClientInstance>, container: Uuid) -> BoxFuture<'static, ()>;
}

/// A request's parameters.
pub type Parameters = Map<String, Value>;

/// What a panic says.
pub(crate) fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(text), _) => (*text).into(),
        (None, Some(text)) => text.clone(),
        (None, None) => "no text".into(),
    }
}
