use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Client, Condition, Kind, Object, ObjectMeta, is_zero};

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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ClaimSpec {
    /// The pool to take a machine from, in its own namespace.
    pub pool: String,
    /// Seconds from binding that the machine may live; absent: what its template says. It may grow and shrink while
    /// the claim is bound, up to the template's `maxTtlSeconds`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_seconds: Option<u32>,
    /// Seconds that the claim may wait for a machine; absent: as long as it takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_seconds: Option<u32>,
    /// A public key in OpenSSH's one-line form that may log in, besides the password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ssh_public_key: Option<String>,
    /// SHA-256 of the client token, in hex; the token itself is told once and kept nowhere. Only of wire claims.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(skip)]
    pub token_sha256: Option<String>,
    /// The name of the access token that it was asked for with; it counts for its quota. Only of wire claims.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(skip)]
    pub access_token: Option<String>,
    /// Who asked.
    #[serde(default, skip_serializing_if = "Origin::is_object")]
    #[schemars(skip)]
    pub origin: Origin,
}

/// Who asked for a claim.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
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
    /// Whoever wrote the object, by manifest or API. It stays until it is deleted, whatever becomes of its machine.
    #[default]
    Object,
}

impl ClaimSpec {
    /// A claim on a pool's machine that asks for nothing special.
    pub fn of(pool: &str, origin: Origin) -> Self {
        ClaimSpec {
            pool: pool.into(),
            ttl_seconds: None,
            timeout_seconds: None,
            ssh_public_key: None,
            token_sha256: None,
            access_token: None,
            origin,
        }
    }
}

impl Origin {
    /// Whether somebody wrote it as an object.
    pub fn is_object(&self) -> bool {
        matches!(self, Origin::Object)
    }
}

/// Where a claim is on its way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum ClaimPhase {
    /// Its machine is not Ready.
    #[default]
    Pending,
    /// Its machine is its own. It is never bound again.
    Bound,
    /// It was not bound in time, or whoever waited for it was told that its machine could not be made. It is never bound.
    Failed,
    /// Its machine died. It is never bound again.
    Lost,
    /// Its machine's time was over. It is never bound again.
    Expired,
}

/// What is, as last committed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClaimStatus {
    /// Where it is on its way.
    #[serde(default)]
    pub phase: ClaimPhase,
    /// Its machine. Until it is bound, one that ended may be followed by another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// Why it is there, for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// When it was bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bound_at: Option<Timestamp>,
    /// When its machine ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// When it came to Failed, Lost or Expired.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Timestamp>,
    /// Machines in a row that were promised to it and ended before they were its own.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub failures: u32,
    /// Not before then does it look for another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_at: Option<Timestamp>,
    /// When its login was read through the API: that works once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub login_read_at: Option<Timestamp>,
    /// When the system of the client that asked for it confirmed that all of CREATE's answer arrived there. Only of
    /// wire claims.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivered_at: Option<Timestamp>,
    /// `Ready`: it is bound and its machine can be used. `Delivered`, only where that is in doubt: its client was told.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}
