//! The documented constants, by their documented names. Each is another name for what the program itself goes by.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use super::tcp;
use crate::model::EventKind;
use crate::wire::{self, Message};

/// All addresses of the host. Documented as `""`, which means the same to a Python socket.
pub const DEFAULT_SERVER_BIND_ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
/// 6150.
pub const DEFAULT_SERVER_LISTEN_PORT: u16 = wire::DEFAULT_PORT;
/// Ten seconds.
pub const DEFAULT_CLIENT_TIMEOUT: Duration = tcp::DEFAULT_CLIENT_TIMEOUT;
/// Starting a server blocks where nobody says otherwise. The spelling is the documented one.
pub const DEFAULT_ASYCHRONOUS: bool = false;

/// `CREATE`: a container for this client.
pub const REQUEST_VERB_CREATE: &str = wire::CREATE;
/// `DESTROY`: the end of a container.
pub const REQUEST_VERB_DESTROY: &str = wire::DESTROY;
/// `STAT`: how the server is.
pub const REQUEST_VERB_STAT: &str = wire::STAT;

/// `OK`: done.
pub const RESPONSE_MSG_OK: &str = Message::Ok.text();
/// `Bad authentication`: wrong credentials.
pub const RESPONSE_MSG_BAD_AUTH: &str = Message::BadAuthentication.text();
/// `Bad request`: malformed, or an unknown verb.
pub const RESPONSE_MSG_BAD_REQ: &str = Message::BadRequest.text();
/// `Refused request`: policy says no.
pub const RESPONSE_MSG_REFUSED_REQ: &str = Message::RefusedRequest.text();
/// `Unavailable`: no capacity now.
pub const RESPONSE_MSG_UNAVAILABLE: &str = Message::Unavailable.text();
/// `Internal error`: the server failed.
pub const RESPONSE_MSG_INTERNAL_ERROR: &str = Message::InternalError.text();

/// 1: keys are exchanged with a client.
pub const EVENT_CLIENT: u8 = EventKind::Client.number();
/// 2: a connected client was closed.
pub const EVENT_CLIENT_CLOSED: u8 = EventKind::ClientClosed.number();
/// 3: a connection was accepted.
pub const EVENT_CONNECTION: u8 = EventKind::Connection.number();
/// 4: a container was made for a client.
pub const EVENT_CREATED_CONTAINER: u8 = EventKind::CreatedContainer.number();
/// 5: the endpoint shell on a container was opened.
pub const EVENT_CREATED_ENDPOINT_SHELL: u8 = EventKind::CreatedEndpointShell.number();
/// 6: a container is gone.
pub const EVENT_DESTROYED_CONTAINER: u8 = EventKind::DestroyedContainer.number();
/// 7: a request was malformed.
pub const EVENT_MALFORMED_REQUEST: u8 = EventKind::MalformedRequest.number();
/// 8: a well-formed request arrived.
pub const EVENT_REQUEST: u8 = EventKind::Request.number();
/// 9: something failed in the server.
pub const EVENT_RUNTIME_ERROR: u8 = EventKind::RuntimeError.number();
/// 10: the server is ready to operate.
pub const EVENT_STARTED: u8 = EventKind::Started.number();
/// 11: the server has stopped.
pub const EVENT_STOPPED: u8 = EventKind::Stopped.number();
/// 12: no handler for a verb.
pub const EVENT_UNKNOWN_VERB: u8 = EventKind::UnknownVerb.number();
