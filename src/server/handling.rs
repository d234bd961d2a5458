//! A request in the hands of those who answer it, whatever it came in by.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::{mpsc, oneshot};

use super::instance::Sending;
use super::{Answer, ClientInstance, EventSink, Verbs, panic_text, telling};
use crate::model::EventKind;
use crate::wire::{Message, Request, Response};

/// A handler failed as no handler should.
#[derive(Debug, thiserror::Error)]
#[error("the handler of {verb} panicked: {panic}")]
pub(super) struct Panicked {
    verb: String,
    panic: String,
}

impl Panicked {
    fn new(verb: String, panic: &(dyn Any + Send)) -> Self {
        Panicked { verb, panic: panic_text(panic) }
    }
}

/// What is sent, and what is left to be done then.
pub(super) struct Handled {
    pub(super) answer: Answer,
    /// Who answered through the client, and waits for the delivery.
    pub(super) delivered: Option<oneshot::Sender<()>>,
    /// What the handler still does after its answer.
    pub(super) rest: Option<BoxFuture<'static, Result<(), Panicked>>>,
}

impl From<Answer> for Handled {
    fn from(answer: Answer) -> Self {
        Handled { answer, delivered: None, rest: None }
    }
}

/// To be run once the client has its answer.
pub(super) type Confirm = Box<dyn FnOnce() + Send>;

/// Undoes the work of an answer unless it was delivered: also if its task is dropped.
pub(super) struct Undelivered(pub(super) Option<Box<dyn FnOnce() + Send>>);

impl Drop for Undelivered {
    fn drop(&mut self) {
        if let Some(undo) = self.0.take() {
            // A panic in here could be one within another, which aborts the process.
            let _ = std::panic::catch_unwind(AssertUnwindSafe(undo));
        }
    }
}

/// Has the request told and handled; until its first answer, whoever gives it. Whoever drops it has the work undone.
pub(super) async fn handle(
    verbs: &Arc<dyn Verbs>,
    events: &dyn EventSink,
    client: &Arc<ClientInstance>,
    sent: &mut mpsc::Receiver<Sending>,
    request: Request,
) -> Result<Handled, Panicked> {
    let verb = telling::verb(&request.verb).to_owned();
    let event = telling::about(EventKind::Request, client.client(), events.now()).detail("verb", verb.as_str());
    client.asked(request.clone());
    let told = events.at(telling::moment(event, client));
    let (verbs, instance) = (Arc::clone(verbs), Arc::clone(client));
    // Within the future, so that a panic before the handler's own future exists is caught too.
    let work = AssertUnwindSafe(async move {
        told.await;
        // Answered by who was told: there is nothing left to do.
        if instance.is_answered() { None } else { Some(verbs.handle(instance, request).await) }
    });
    let mut work = Box::pin(work.catch_unwind());
    let handled = tokio::select! {
        biased;
        Some(sending) = sent.recv() => {
            let answer = Answer::from(sending.response);
            let rest = work.map(|ended| {
                if let Some(Answer { undelivered: Some(undo), .. }) = ended.map_err(|panic| Panicked::new(verb, &*panic))? {
                    undo();
                }
                Ok(())
            });
            return Ok(Handled { answer, delivered: Some(sending.delivered), rest: Some(rest.boxed()) });
        }
        handled = &mut work => handled,
    };
    match handled {
        Ok(Some(answer)) => Ok(answer.into()),
        // It said that it would answer by itself, and was dropped before it did.
        Ok(None) => Ok(Answer::from(Response::refused(Message::InternalError, None)).into()),
        Err(panic) => Err(Panicked::new(verb, &*panic)),
    }
}
