//! What handlers of events are given: one struct for each documented event, with its documented parameters.

use std::collections::HashMap;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use serde_json::{Map, Value};

use super::{Server, ServerError};
use crate::guest::EndpointShellInstance;
use crate::model::EventKind;
use crate::server::container::ContainerInstance;
use crate::server::{ClientInstance, RawSocket};

/// Keys are exchanged with a client (`EVENT_CLIENT`).
#[derive(Clone, Debug)]
pub struct Client {
    /// The client.
    pub client_instance: Arc<ClientInstance>,
}

/// A connected client was closed (`EVENT_CLIENT_CLOSED`).
#[derive(Clone, Debug)]
pub struct ClientClosed {
    /// The client.
    pub client_instance: Arc<ClientInstance>,
}

/// Somebody connected; the keys are not exchanged yet (`EVENT_CONNECTION`).
#[derive(Clone, Debug)]
pub struct Connection {
    /// The connection.
    pub client_socket: RawSocket,
}

/// A container was made for a client (`EVENT_CREATED_CONTAINER`). One that is not warm waits for the handler before its
/// domain is made.
#[derive(Clone)]
pub struct CreatedContainer {
    /// For whom.
    pub client_instance: Arc<ClientInstance>,
    /// The container.
    pub container_instance: Arc<ContainerInstance>,
}

/// The endpoint shell of a container was opened (`EVENT_CREATED_ENDPOINT_SHELL`); set-up waits for the handler.
#[derive(Clone)]
pub struct CreatedEndpointShell {
    /// The shell.
    pub endpoint_shell_instance: Arc<EndpointShellInstance>,
    /// Of which container.
    pub container_instance: Arc<ContainerInstance>,
    /// For whom. A warm container is nobody's yet.
    pub client_instance: Option<Arc<ClientInstance>>,
}

/// A container was destroyed (`EVENT_DESTROYED_CONTAINER`).
#[derive(Clone)]
pub struct DestroyedContainer {
    /// Who asked for its end, or whose it was. A warm container was nobody's.
    pub client_instance: Option<Arc<ClientInstance>>,
    /// The container, as it last was.
    pub container_instance: Arc<ContainerInstance>,
}

/// A malformed request arrived (`EVENT_MALFORMED_REQUEST`).
#[derive(Clone, Debug)]
pub struct MalformedRequest {
    /// From whom.
    pub client_instance: Arc<ClientInstance>,
    /// What is wrong with it, in the form of Cerberus: keys, each with a list of errors.
    pub cerberus_error_dict: Map<String, Value>,
}

/// A well-formed request arrived (`EVENT_REQUEST`).
#[derive(Clone, Debug)]
pub struct Request {
    /// From whom; it holds the request.
    pub client_instance: Arc<ClientInstance>,
}

/// Something in the server failed (`EVENT_RUNTIME_ERROR`).
#[derive(Clone, Debug)]
pub struct RuntimeError {
    /// The task, the verb or the step where.
    pub name: String,
    /// The kind of error.
    pub ex_class: String,
    /// What happened, with its causes.
    pub traceback: String,
    /// For whom it was done, if for somebody.
    pub client_instance: Option<Arc<ClientInstance>>,
}

/// The server is ready (`EVENT_STARTED`).
#[derive(Clone, Copy, Debug)]
pub struct Started;

/// The server has stopped (`EVENT_STOPPED`).
#[derive(Clone, Copy, Debug)]
pub struct Stopped;

/// No handler knows a verb (`EVENT_UNKNOWN_VERB`).
#[derive(Clone, Debug)]
pub struct UnknownVerb {
    /// From whom; it holds the request.
    pub client_instance: Arc<ClientInstance>,
}

type Handler = Arc<dyn Fn(Payload) -> BoxFuture<'static, ()> + Send + Sync>;

/// The handlers of one server. The last one of an event wins.
#[derive(Clone, Default)]
pub(crate) struct EventHandlers(HashMap<EventKind, Handler>);

impl EventHandlers {
    pub(super) fn set<F, Fut>(&mut self, kind: EventKind, handler: F)
    where
        F: Fn(Payload) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        self.0.insert(kind, Arc::new(move |payload| handler(payload).boxed()));
    }

    pub(super) fn get(&self, kind: EventKind) -> Option<&Handler> {
        self.0.get(&kind)
    }

    pub(super) fn has(&self, kind: EventKind) -> bool {
        self.0.contains_key(&kind)
    }
}

macro_rules! events {
    ($($name:ident by $method:ident,)*) => {
        /// An event with its parameters, for handlers of any event.
        #[derive(Clone)]
        pub enum Payload {
            $(#[doc = concat!("`", stringify!($name), "`.")] $name($name),)*
        }

        impl Payload {
            /// Which event it is.
            pub fn event(&self) -> EventKind {
                match self {
                    $(Payload::$name(_) => EventKind::$name,)*
                }
            }
        }

        impl Server {
            /// Sets the handler of a documented event by its number, 1 to 12; the last one set wins.
            pub fn set_event_handler<F, Fut>(&self, event: impl Into<u8>, handler: F) -> Result<(), ServerError>
            where
                F: Fn(Payload) -> Fut + Send + Sync + 'static,
                Fut: Future<Output = ()> + Send + 'static,
            {
                let number = event.into();
                let documented = [$(EventKind::$name,)*];
                let kind = documented.into_iter().find(|kind| kind.number() == number);
                let kind = kind.ok_or(ServerError::UnknownEvent { number })?;
                self.handlers(|handlers| handlers.events.set(kind, handler))
            }

            $(
                #[doc = concat!("Sets the handler of [`", stringify!($name), "`]; the last one set wins.")]
                pub fn $method<F, Fut>(&self, handler: F) -> Result<(), ServerError>
                where
                    F: Fn($name) -> Fut + Send + Sync + 'static,
                    Fut: Future<Output = ()> + Send + 'static,
                {
                    let handler = move |payload| match payload {
                        Payload::$name(payload) => handler(payload).boxed(),
                        // It is only called for its own event.
                        _ => futures::future::ready(()).boxed(),
                    };
                    self.handlers(|handlers| handlers.events.set(EventKind::$name, handler))
                }
            )*
        }
    };
}

events! {
    Client by on_client,
    ClientClosed by on_client_closed,
    Connection by on_connection,
    CreatedContainer by on_created_container,
    CreatedEndpointShell by on_created_endpoint_shell,
    DestroyedContainer by on_destroyed_container,
    MalformedRequest by on_malformed_request,
    Request by on_request,
    RuntimeError by on_runtime_error,
    Started by on_started,
    Stopped by on_stopped,
    UnknownVerb by on_unknown_verb,
}
