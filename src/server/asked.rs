//! One line of the log and one count for every request, however it ends.
//!
//! The line has the target `request`. What a request carries is not in it: a verb, who asked, and what came of it. Of those
//! that anybody can have written the log has so many in a minute (`super::lines`); all are counted.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::lines::Lines;
use super::telling;
use crate::metrics::{Metrics, Transport};
use crate::wire::{CREATE, DESTROY, EXTEND, Message, Response, STAT};

/// Where requests of one run are told, whichever way they come in.
#[derive(Default)]
pub struct Requests {
    metrics: Arc<Metrics>,
    last: AtomicU64,
    lines: Lines,
}

impl Requests {
    /// Counted here.
    pub fn new(metrics: Arc<Metrics>) -> Arc<Requests> {
        Arc::new(Requests { metrics, ..Requests::default() })
    }

    /// What is counted.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// A request begins. Numbers begin with 1 at every start of the daemon.
    pub(super) fn begin(self: &Arc<Self>, transport: Transport, from: Option<SocketAddr>) -> Asked {
        let id = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        let (client, verb) = (String::new(), String::new());
        Asked { requests: Arc::clone(self), id, transport, from, client, verb, outcome: GONE, began: Instant::now() }
    }
}

/// What came of a request whose client did not wait for its answer.
const GONE: &str = "gone";
/// Of one whose answer could not be delivered.
const UNDELIVERED: &str = "undelivered";

/// A request under way. It is told when this is dropped.
pub(super) struct Asked {
    requests: Arc<Requests>,
    id: u64,
    transport: Transport,
    from: Option<SocketAddr>,
    client: String,
    verb: String,
    outcome: &'static str,
    began: Instant,
}

impl Asked {
    /// Its number.
    pub(super) fn id(&self) -> u64 {
        self.id
    }

    /// Who asks: a client's id, or a user.
    pub(super) fn by(&mut self, client: &str) {
        self.client = client.into();
    }

    /// What is asked for.
    pub(super) fn verb(&mut self, verb: &str) {
        self.verb = telling::verb(verb).into();
    }

    /// There is an answer, which is not delivered yet.
    pub(super) fn answering(&mut self) {
        self.outcome = UNDELIVERED;
    }

    /// What the client was told.
    pub(super) fn told(&mut self, response: &Response) {
        self.outcome = match response.kind() {
            Some(Message::Ok) => "ok",
            Some(Message::BadAuthentication) => "bad_authentication",
            Some(Message::BadRequest) => "bad_request",
            Some(Message::RefusedRequest) => "refused_request",
            Some(Message::Unavailable) => "unavailable",
            Some(Message::InternalError) => "internal_error",
            // Of a handler of one's own.
            None => "other",
        };
    }

    /// What the client was told in HTTP.
    pub(super) fn status(&mut self, code: u16) {
        const CODES: [(u16, &str); 18] = [
            (101, "101"),
            (200, "200"),
            (201, "201"),
            (202, "202"),
            (204, "204"),
            (304, "304"),
            (400, "400"),
            (401, "401"),
            (403, "403"),
            (404, "404"),
            (405, "405"),
            (406, "406"),
            (409, "409"),
            (410, "410"),
            (413, "413"),
            (415, "415"),
            (422, "422"),
            (429, "429"),
        ];
        let known = CODES.iter().find(|(known, _)| *known == code).map(|(_, word)| *word);
        self.outcome = known.unwrap_or(if code >= 500 { "5xx" } else { "4xx" });
    }

    /// The verb as its label says it: one of those there are.
    fn known(&self) -> &'static str {
        const VERBS: [&str; 15] = [
            CREATE,
            DESTROY,
            STAT,
            EXTEND,
            "get",
            "list",
            "watch",
            "create",
            "update",
            "patch",
            "delete",
            "deletecollection",
            "apply",
            "malformed",
            "read",
        ];
        VERBS.into_iter().find(|known| *known == self.verb).unwrap_or("other")
    }

    /// The kind of its line, where anybody can cause it. Whoever has a token of the API, or the local socket, is known.
    fn strangers(&self) -> Option<&'static str> {
        match self.transport {
            Transport::Wire => Some("wire request"),
            Transport::Web => Some("web request"),
            Transport::Https | Transport::Local => self.client.is_empty().then_some("API request"),
        }
    }

    fn write(&self, took: Duration) {
        tracing::info!(
            target: "request",
            id = self.id,
            transport = self.transport.word(),
            client = self.client,
            from = self.from.map(tracing::field::display),
            verb = self.verb,
            outcome = self.outcome,
            milliseconds = u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            "answered"
        );
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        let took = self.began.elapsed();
        self.requests.metrics.request(self.transport, self.known(), self.outcome, took);
        match self.strangers() {
            Some(kind) => self.requests.lines.say(kind, || self.write(took)),
            None => self.write(took),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::lines;

    #[test]
    fn whatever_clients_send_there_are_few_verbs_and_outcomes_to_count() {
        let requests = Requests::new(Arc::default());
        let mut asked = requests.begin(Transport::Wire, None);
        assert_eq!((asked.known(), asked.outcome), ("other", "gone"));
        asked.verb(&"A".repeat(100_000));
        assert_eq!((asked.known(), asked.verb.len()), ("other", 32));
        asked.verb(CREATE);
        asked.told(&Response::refused(Message::RefusedRequest, Some("at most 60 s")));
        assert_eq!((asked.known(), asked.outcome), ("CREATE", "refused_request"));
        for (code, word) in [(200, "200"), (409, "409"), (418, "4xx"), (503, "5xx")] {
            asked.status(code);
            assert_eq!(asked.outcome, word);
        }
        assert_eq!(requests.begin(Transport::Wire, None).id(), 2);
    }

    #[test]
    fn each_request_is_counted_and_strangers_fill_no_log_with_them() {
        let requests = Requests::new(Arc::default());
        let asking = |transport, by: &str| {
            let lines = lines::written(|| {
                for _ in 0..lines::MOST + 7 {
                    requests.begin(transport, None).by(by);
                }
            });
            lines.len() as u64
        };
        for (transport, by) in [(Transport::Wire, "12ca17b"), (Transport::Web, "12ca17b"), (Transport::Https, "")] {
            assert_eq!(asking(transport, by), lines::MOST, "{by} over {transport:?}");
        }
        assert_eq!(asking(Transport::Https, "admin"), lines::MOST + 7, "who is known is no stranger");
        assert_eq!(requests.last.load(Ordering::Relaxed), 4 * (lines::MOST + 7));
    }
}
