use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Client, Kind, Object, ObjectMeta};

/// Somebody's right to one machine: what CREATE writes and DESTROY deletes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerClaim {
    /// Name and deletion.
    pub metadata: ObjectMeta,
    /// What is wished for.
    pub spec: ClaimSpec,
    /// What is.
    #[serde(default)]
    pub status: ClaimStatus,
}

impl Object for ContainerClaim {
    const KIND: Kind = Kind::ContainerClaim;

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

/// What is wished for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClaimSpec {
    /// The pool to take a machine from, in its own namespace.
    pub pool: String,
    /// SHA-256 of the client token, in hex; the token itself is told once and kept nowhere.
    pub token_sha256: String,
    /// Who asked.
    pub origin: Origin,
}

/// Who asked for a claim.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Origin {
    /// A client of the wire protocol, on a connection to one run of the daemon: a claim of another run that is not
    /// Bound has nobody who waits for it.
    #[serde(rename_all = "camelCase")]
    Wire {
        /// The client.
        client: Client,
        /// The run of the daemon that holds the connection.
        run: Uuid,
    },
    /// The program that embeds the server: nobody waits for it on a connection.
    Embedder,
}

/// Where a claim is on its way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ClaimPhase {
    /// Its machine is not Ready.
    #[default]
    Pending,
    /// Its machine is its own. It is never bound again.
    Bound,
    /// Its machine could not be made.
    Failed,
    /// Its machine died.
    Lost,
}

/// What is, as last committed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClaimStatus {
    /// Where it is on its way.
    #[serde(default)]
    pub phase: ClaimPhase,
    /// Its machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// Why it is there, for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// When it was bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bound_at: Option<Timestamp>,
}
