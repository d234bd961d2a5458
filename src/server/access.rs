//! Before the verbs, whichever they are: whether a request bears a good access token, where it has to, or does.
//!
//! | the request bears | and has to bear one | and need not |
//! | --- | --- | --- |
//! | none | `Bad request (Access token is required)` | is answered |
//! | one that is unknown, deleted, disabled, or over | `Bad authentication (Invalid access token)` | the same |
//! | one that was used too often | `Refused request (…)`, with the seconds to wait | the same |
//! | a good one | is answered, and counts for its quotas | the same |
//!
//! The first two answers are the original's. As there, the `REQUEST` event is told before. What is wrong with a token is
//! for the log alone.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::FutureExt;
use futures::future::BoxFuture;
use serde_json::Value;

use super::lines::Lines;
use super::{Answer, ClientInstance, EventSink, Moment, Parameters, Party, Verbs, telling};
use crate::api::access_tokens::{AccessTokenManager, AdmitError};
use crate::model::{Event, EventKind};
use crate::wire::{Message, Request, Response};

/// The parameter that a token is in.
const PARAMETER: &str = "access_token";
/// What the answer says about any token that is not good, as the original does.
pub(super) const INVALID: &str = "Invalid access token";
/// What the log says of whoever is refused for their token.
pub(super) const REFUSED: &str = "refused: access token";
/// And of whoever is not.
const ADMITTED: &str = "access token";

/// Verbs behind access tokens.
pub struct TokenCheck {
    tokens: Arc<AccessTokenManager>,
    required: Arc<AtomicBool>,
    events: Arc<dyn EventSink>,
    rest: Arc<dyn Verbs>,
    lines: Lines,
}

/// Why a request does not come through.
enum Stopped {
    Missing,
    Token(AdmitError),
}

impl TokenCheck {
    /// In front of these verbs. While `required` is set nobody comes through without a token.
    pub fn before(
        rest: Arc<dyn Verbs>,
        tokens: Arc<AccessTokenManager>,
        required: Arc<AtomicBool>,
        events: Arc<dyn EventSink>,
    ) -> Arc<dyn Verbs> {
        match tokens.any_good() {
            Ok(false) if required.load(Ordering::Relaxed) => tracing::warn!(
                "'access.required' is set and there is no good access token: nobody is served until 'anweddol access-token \
                 add' makes one"
            ),
            // Each request says so.
            Ok(_) | Err(_) => {}
        }
        Arc::new(TokenCheck { tokens, required, events, rest, lines: Lines::default() })
    }

    /// The name of the token that a request bears, if it bears one.
    fn admitted(&self, parameters: &Parameters) -> Result<Option<String>, Stopped> {
        match parameters.get(PARAMETER) {
            Some(Value::String(text)) => self.tokens.admit(text).map(Some).map_err(Stopped::Token),
            Some(_) => Err(Stopped::Token(AdmitError::Invalid { why: "no text".into() })),
            None if self.required.load(Ordering::Relaxed) => Err(Stopped::Missing),
            None => Ok(None),
        }
    }

    /// It cannot be told whose the token is: that is for the administrator.
    fn failed(&self, client: Arc<ClientInstance>, verb: &str, reason: &str) -> BoxFuture<'static, Answer> {
        let event = Event::new(EventKind::RuntimeError, self.events.now()).client(client.client()).message(reason);
        let event = event.detail("name", verb).detail("error", "AdmitError");
        let told = self.events.at(Moment { event, party: Party::Client(client) });
        told.map(|()| Response::refused(Message::InternalError, None).into()).boxed()
    }
}

impl Verbs for TokenCheck {
    fn handle(&self, client: Arc<ClientInstance>, request: Request) -> BoxFuture<'static, Answer> {
        let (verb, id) = (telling::verb(&request.verb), client.id());
        let stopped = match self.admitted(&request.parameters) {
            Ok(None) => return self.rest.handle(client, request),
            Ok(Some(name)) => {
                let say = || tracing::info!(verb, client = id, access_token = name, "{ADMITTED}");
                self.lines.say(ADMITTED, say);
                client.admitted(name);
                return self.rest.handle(client, request);
            }
            Err(stopped) => stopped,
        };
        let reason = match &stopped {
            Stopped::Missing => "no access token".to_owned(),
            Stopped::Token(error) => crate::error_chain(error),
        };
        self.lines.say(REFUSED, || tracing::info!(verb, client = id, reason, "{REFUSED}"));
        let response = match stopped {
            Stopped::Missing => Response::refused(Message::BadRequest, Some("Access token is required")),
            Stopped::Token(AdmitError::Invalid { .. }) => Response::refused(Message::BadAuthentication, Some(INVALID)),
            Stopped::Token(AdmitError::TooOften { .. }) => Response::refused(Message::RefusedRequest, Some(&reason)),
            Stopped::Token(AdmitError::Record(_)) => return self.failed(client, verb, &reason),
        };
        futures::future::ready(response.into()).boxed()
    }
}

#[cfg(test)]
mod tests;
