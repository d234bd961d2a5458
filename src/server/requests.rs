//! Handlers of requests: for verbs of one's own, and in place of the documented ones.

use std::collections::HashMap;
use std::error::Error;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;

use super::{Answer, ClientInstance, EventSink, Moment, Party, Verbs};
use crate::model::{Event, EventKind};
use crate::wire::{Message, Request, Response};

/// Any error of a handler.
pub type HandlerError = Box<dyn Error + Send + Sync>;

/// What a handler made of its request.
pub enum Reply {
    /// This is the answer.
    Response(Response),
    /// It was answered through the client.
    Sent,
}

/// What a handler may return: a [`Response`]; nothing, if it answered through the client; or a `Result` of either.
pub trait IntoReply {
    /// As what it is.
    fn into_reply(self) -> Result<Reply, HandlerError>;
}

impl IntoReply for Response {
    fn into_reply(self) -> Result<Reply, HandlerError> {
        Ok(Reply::Response(self))
    }
}

impl IntoReply for () {
    fn into_reply(self) -> Result<Reply, HandlerError> {
        Ok(Reply::Sent)
    }
}

impl<R: IntoReply, E: Into<HandlerError>> IntoReply for Result<R, E> {
    fn into_reply(self) -> Result<Reply, HandlerError> {
        self.map_err(Into::into)?.into_reply()
    }
}

type Handler =
    Arc<dyn Fn(Arc<ClientInstance>, Request) -> BoxFuture<'static, Result<Reply, HandlerError>> + Send + Sync>;

/// The handlers of one server, by verb.
#[derive(Clone, Default)]
pub struct RequestHandlers(HashMap<String, Handler>);

impl RequestHandlers {
    /// Sets the handler of a verb; the last one wins. `false` if no client could ever send this verb.
    pub fn set<F, Fut>(&mut self, verb: &str, handler: F) -> bool
    where
        F: Fn(Arc<ClientInstance>, Request) -> Fut + Send + Sync + 'static,
        Fut: Future<Output: IntoReply> + Send + 'static,
    {
        if verb.is_empty() || !verb.bytes().all(|byte| byte.is_ascii_uppercase()) {
            return false;
        }
        let handler: Handler = Arc::new(move |client, request| {
            let work = handler(client, request);
            async move { work.await.into_reply() }.boxed()
        });
        self.0.insert(verb.into(), handler);
        true
    }

    /// In front of the verbs that are answered when there is no handler.
    pub fn before(self, rest: Arc<dyn Verbs>, events: Arc<dyn EventSink>) -> Arc<dyn Verbs> {
        if self.0.is_empty() { rest } else { Arc::new(Handled { handlers: self, rest, events }) }
    }
}

struct Handled {
    handlers: RequestHandlers,
    rest: Arc<dyn Verbs>,
    events: Arc<dyn EventSink>,
}

impl Verbs for Handled {
    fn handle(&self, client: Arc<ClientInstance>, request: Request) -> BoxFuture<'static, Answer> {
        let Some(handler) = self.handlers.0.get(&request.verb) else { return self.rest.handle(client, request) };
        let (events, verb) = (Arc::clone(&self.events), request.verb.clone());
        let work = handler(Arc::clone(&client), request);
        async move {
            let error: HandlerError = match work.await {
                Ok(Reply::Response(response)) => return response.into(),
                // Nobody waits for this one: the client has its answer.
                Ok(Reply::Sent) if client.is_answered() => return Response::ok(Default::default()).into(),
                Ok(Reply::Sent) => "it neither returned a response nor sent one".into(),
                Err(error) => error,
            };
            let event = Event::new(EventKind::RuntimeError, events.now())
                .client(client.client())
                .message(format!("the handler of {verb}: {}", crate::error_chain(&*error)))
                .detail("name", verb)
                .detail("error", "HandlerError");
            events.at(Moment { event, party: Party::Client(client) }).await;
            Response::refused(Message::InternalError, None).into()
        }
        .boxed()
    }
}
