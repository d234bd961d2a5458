use std::net::IpAddr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::ObjectRef;

/// What can happen. 1 to 12 are documented by the original server and keep their numbers; those above are ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[repr(u8)]
pub enum EventKind {
    /// Keys are exchanged with a client.
    Client = 1,
    /// A connected client was closed, by either side.
    ClientClosed = 2,
    /// A connection was accepted; keys are not exchanged yet.
    Connection = 3,
    /// A container was made for a client.
    CreatedContainer = 4,
    /// The endpoint shell on a container was opened.
    CreatedEndpointShell = 5,
    /// A container's domain is gone.
    DestroyedContainer = 6,
    /// A request was malformed.
    MalformedRequest = 7,
    /// A well-formed request arrived. Its verb is told cut to 32 characters, as with [`EventKind::UnknownVerb`].
    Request = 8,
    /// A task of the server failed.
    RuntimeError = 9,
    /// The server is ready to operate.
    Started = 10,
    /// The server has stopped.
    Stopped = 11,
    /// No handler for a verb.
    UnknownVerb = 12,
    /// A pool member became Ready.
    ReadyContainer = 13,
    /// A claim was bound to its container.
    BoundClaim = 14,
    /// A container could not be made, or died.
    FailedContainer = 15,
    /// A container of an earlier run was taken over as it was.
    Adopted = 16,
    /// Something of an earlier run could not be taken over and was removed.
    AdoptionRefused = 17,
    /// A port of the host leads to a container now.
    ForwardAdded = 18,
    /// A port of the host leads nowhere any more.
    ForwardRemoved = 19,
    /// The machine of a bound claim died.
    LostClaim = 20,
    /// A claim could not be bound.
    FailedClaim = 21,
    /// A container's time is nearly over.
    Expiring = 22,
    /// A container's time is over; it is being taken down.
    Expired = 23,
    /// A claim was given another time.
    ExtendedClaim = 24,
    /// An object was made or changed, by a manifest or through the API.
    AppliedObject = 25,
    /// An object's end was wished for, by a manifest that went or through the API.
    DeletedObject = 26,
    /// A manifest has an error and was not applied.
    RefusedManifest = 27,
    /// A pool's template or image changed, and its members are being replaced.
    UpdatingPool = 28,
    /// All of a pool's members are made from its template and image as they are now.
    UpdatedPool = 29,
    /// The machine of a container in use stands still.
    PausedContainer = 30,
    /// It goes on.
    ResumedContainer = 31,
    /// The machine that a claim was promised ended before it was its own: it waits for another one.
    RequeuedClaim = 32,
}

impl EventKind {
    /// All of them, in the order of their numbers.
    pub const ALL: [EventKind; 32] = [
        EventKind::Client,
        EventKind::ClientClosed,
        EventKind::Connection,
        EventKind::CreatedContainer,
        EventKind::CreatedEndpointShell,
        EventKind::DestroyedContainer,
        EventKind::MalformedRequest,
        EventKind::Request,
        EventKind::RuntimeError,
        EventKind::Started,
        EventKind::Stopped,
        EventKind::UnknownVerb,
        EventKind::ReadyContainer,
        EventKind::BoundClaim,
        EventKind::FailedContainer,
        EventKind::Adopted,
        EventKind::AdoptionRefused,
        EventKind::ForwardAdded,
        EventKind::ForwardRemoved,
        EventKind::LostClaim,
        EventKind::FailedClaim,
        EventKind::Expiring,
        EventKind::Expired,
        EventKind::ExtendedClaim,
        EventKind::AppliedObject,
        EventKind::DeletedObject,
        EventKind::RefusedManifest,
        EventKind::UpdatingPool,
        EventKind::UpdatedPool,
        EventKind::PausedContainer,
        EventKind::ResumedContainer,
        EventKind::RequeuedClaim,
    ];

    /// Its number.
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// Its name, as documented: `CREATED_CONTAINER`.
    pub fn name(self) -> &'static str {
        match self {
            EventKind::Client => "CLIENT",
            EventKind::ClientClosed => "CLIENT_CLOSED",
            EventKind::Connection => "CONNECTION",
            EventKind::CreatedContainer => "CREATED_CONTAINER",
            EventKind::CreatedEndpointShell => "CREATED_ENDPOINT_SHELL",
            EventKind::DestroyedContainer => "DESTROYED_CONTAINER",
            EventKind::MalformedRequest => "MALFORMED_REQUEST",
            EventKind::Request => "REQUEST",
            EventKind::RuntimeError => "RUNTIME_ERROR",
            EventKind::Started => "STARTED",
            EventKind::Stopped => "STOPPED",
            EventKind::UnknownVerb => "UNKNOWN_VERB",
            EventKind::ReadyContainer => "READY_CONTAINER",
            EventKind::BoundClaim => "BOUND_CLAIM",
            EventKind::FailedContainer => "FAILED_CONTAINER",
            EventKind::Adopted => "ADOPTED",
            EventKind::AdoptionRefused => "ADOPTION_REFUSED",
            EventKind::ForwardAdded => "FORWARD_ADDED",
            EventKind::ForwardRemoved => "FORWARD_REMOVED",
            EventKind::LostClaim => "LOST_CLAIM",
            EventKind::FailedClaim => "FAILED_CLAIM",
            EventKind::Expiring => "EXPIRING",
            EventKind::Expired => "EXPIRED",
            EventKind::ExtendedClaim => "EXTENDED_CLAIM",
            EventKind::AppliedObject => "APPLIED_OBJECT",
            EventKind::DeletedObject => "DELETED_OBJECT",
            EventKind::RefusedManifest => "REFUSED_MANIFEST",
            EventKind::UpdatingPool => "UPDATING_POOL",
            EventKind::UpdatedPool => "UPDATED_POOL",
            EventKind::PausedContainer => "PAUSED_CONTAINER",
            EventKind::ResumedContainer => "RESUMED_CONTAINER",
            EventKind::RequeuedClaim => "REQUEUED_CLAIM",
        }
    }
}

impl From<EventKind> for u8 {
    fn from(kind: EventKind) -> u8 {
        kind.number()
    }
}

/// A client of the wire protocol, as far as others may know it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Client {
    /// Where it connects from.
    pub ip: IpAddr,
    /// The first seven hex digits of the SHA-256 of its address: tells clients apart in a log.
    pub id: String,
}

/// Something that happened.
///
/// Those that concern a container are committed in the transaction that changes its record, so that they are
/// told once and in order; those that concern a connection are told as they happen and kept nowhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Event {
    /// What.
    pub kind: EventKind,
    /// When.
    pub at: Timestamp,
    /// To what.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub regarding: Option<ObjectRef>,
    /// For whom.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<Client>,
    /// In words.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// Parameters of the kind: the error dictionary, a container's UUID, a port.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub details: Map<String, Value>,
}

impl Event {
    /// An event without particulars.
    pub fn new(kind: EventKind, at: Timestamp) -> Self {
        Event { kind, at, regarding: None, client: None, message: String::new(), details: Map::new() }
    }

    /// Says to what.
    pub fn regarding(mut self, object: ObjectRef) -> Self {
        self.regarding = Some(object);
        self
    }

    /// Says for whom.
    pub fn client(mut self, client: &Client) -> Self {
        self.client = Some(client.clone());
        self
    }

    /// Says it in words.
    pub fn message(mut self, message: impl Into<String>) -> Self {
        self.message = message.into();
        self
    }

    /// Adds a parameter.
    pub fn detail(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.details.insert(name.into(), value.into());
        self
    }
}

/// A word from outside that something may have changed: a hint, never evidence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Wake {
    /// This domain.
    Domain(Uuid),
    /// This machine's card is up: it will have an address soon, of a kind that nobody tells of.
    Card(Uuid),
    /// Somebody's lease.
    Lease,
    /// Anything: the connection to the hypervisor is new.
    Everything,
}
