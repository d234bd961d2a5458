use std::num::NonZeroU32;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// What a client of the wire protocol shows to be served, as it is kept: not the token, but its SHA-256.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AccessToken {
    /// What it is called: claims, lists and logs know it by this name.
    pub name: String,
    /// SHA-256 of its text, in hex.
    pub sha256: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it ends; absent: when it is deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// Whether it is good at all.
    pub enabled: bool,
    /// How much whoever has it may take.
    #[serde(default)]
    pub quotas: Quotas,
}

/// How much whoever has an access token may take. What is absent has no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Quotas {
    /// Containers at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_containers: Option<u32>,
    /// Requests in a minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests_per_minute: Option<NonZeroU32>,
}
