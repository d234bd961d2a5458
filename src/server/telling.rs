//! Events of connections.

use std::error::Error;
use std::net::IpAddr;
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::Value;

use crate::model::{Client, Event, EventKind};
use crate::server::{ClientInstance, Moment, Party};

/// A client, by its address.
pub(super) fn client(ip: IpAddr) -> Client {
    // A socket for both families shows IPv4 clients as ::ffff:a.b.c.d.
    let ip = ip.to_canonical();
    Client { ip, id: crate::sha256(ip.to_string())[..7].into() }
}

/// As much of a verb as an event and a line of the log have room for: a client may send any of 64 KiB. Handlers find the
/// whole of it in their client's request.
pub(super) fn verb(verb: &str) -> &str {
    const MOST: usize = 32;
    verb.char_indices().nth(MOST).map_or(verb, |(end, _)| &verb[..end])
}

/// Something about a client.
pub(super) fn about(kind: EventKind, client: &Client, now: Timestamp) -> Event {
    Event::new(kind, now).client(client)
}

/// Something about a client with a connection.
pub(super) fn moment(event: Event, client: &Arc<ClientInstance>) -> Moment {
    Moment { event: event.client(client.client()), party: Party::Client(Arc::clone(client)) }
}

/// A task failed.
pub(super) fn runtime_error(
    task: &str,
    kind: &str,
    error: &dyn Error,
    client: Option<&Client>,
    now: Timestamp,
) -> Event {
    let chain: Vec<Value> = std::iter::successors(Some(error), |&error| error.source())
        .map(|error| Value::from(error.to_string()))
        .collect();
    let mut event = Event::new(EventKind::RuntimeError, now)
        .message(error.to_string())
        .detail("task", task)
        .detail("error", kind)
        .detail("chain", chain);
    event.client = client.cloned();
    event
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_the_same_in_both_address_families() {
        let plain = client("192.0.2.7".parse().unwrap());
        // printf 192.0.2.7 | sha256sum
        assert_eq!(plain.id, "37dad67");
        assert_eq!(client("::ffff:192.0.2.7".parse().unwrap()), plain);
    }
}
