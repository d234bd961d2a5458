//! What manifests are read into, and what of an object is shown beyond its record.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use crate::model::{ClaimStatus, ContainerStatus, OwnerReference, Template};

/// A document of a kind.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Form<S> {
    #[serde(rename = "apiVersion")]
    _api_version: IgnoredAny,
    #[serde(rename = "kind")]
    _kind: IgnoredAny,
    pub(super) metadata: MetadataForm,
    pub(super) spec: S,
    #[serde(default, rename = "status")]
    _status: IgnoredAny,
}

/// Name, labels and annotations.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(rename = "Metadata")]
pub(super) struct MetadataForm {
    /// Unique in its namespace for its kind: 1 to 63 lower-case letters, digits and '-'.
    pub(super) name: String,
    /// The namespace.
    #[serde(default = "default_namespace")]
    pub(super) namespace: String,
    /// For selectors. Those that begin with anweddol.io/ are the daemon's.
    #[serde(default)]
    pub(super) labels: BTreeMap<String, String>,
    /// For everything else. Those that begin with anweddol.io/ are the daemon's.
    #[serde(default)]
    pub(super) annotations: BTreeMap<String, String>,
    /// The revision that last wrote it. Set by the daemon; ignored by apply, a condition for replace.
    #[serde(default)]
    pub(super) resource_version: Option<String>,
    /// Unique for all time; a container's is also its domain's UUID. Set by the daemon and ignored in a manifest.
    #[serde(default, rename = "uid")]
    #[schemars(with = "Option<String>")]
    _uid: IgnoredAny,
    /// Counts changes of the spec. Set by the daemon and ignored in a manifest.
    #[serde(default, rename = "generation")]
    #[schemars(with = "Option<i64>")]
    _generation: IgnoredAny,
    /// When it was written first. Set by the daemon and ignored in a manifest.
    #[serde(default, rename = "creationTimestamp")]
    #[schemars(with = "Option<String>")]
    _creation_timestamp: IgnoredAny,
    /// When its end was wished for. Set by the daemon and ignored in a manifest.
    #[serde(default, rename = "deletionTimestamp")]
    #[schemars(with = "Option<String>")]
    _deletion_timestamp: IgnoredAny,
    /// Seconds that its end may take. Set by the daemon and ignored in a manifest.
    #[serde(default, rename = "deletionGracePeriodSeconds")]
    #[schemars(with = "Option<i64>")]
    _deletion_grace_period_seconds: IgnoredAny,
    /// What the name begins with where the daemon is to choose the rest; ignored where there is a name.
    #[serde(default, rename = "generateName")]
    #[schemars(with = "Option<String>")]
    _generate_name: IgnoredAny,
    /// Who still has to do something before its record may go, each as example.org/name.
    #[serde(default)]
    #[schemars(extend("x-kubernetes-list-type" = "set"))]
    pub(super) finalizers: Vec<String>,
    /// Whom it goes with: when the last of its owners is gone, it goes too.
    #[serde(default)]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["uid"]))]
    pub(super) owner_references: Vec<OwnerReference>,
    /// Who wrote which of its fields. Kept by the daemon; only a patch for itself may change it.
    #[serde(default, rename = "managedFields")]
    #[schemars(with = "Option<Vec<serde_json::Map<String, serde_json::Value>>>", extend("x-kubernetes-list-type" = "atomic"))]
    _managed_fields: IgnoredAny,
    /// Where it is found. Not used, and ignored in a manifest.
    #[serde(default, rename = "selfLink")]
    #[schemars(with = "Option<String>")]
    _self_link: IgnoredAny,
}

fn default_namespace() -> String {
    crate::model::DEFAULT_NAMESPACE.into()
}

/// What a manifest says of a container: everything else of it is chosen for it.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(rename = "ContainerSpec")]
pub(super) struct ContainerForm {
    /// What it is made from. It never changes.
    pub(super) template: Template,
}

/// What is told of a container: its status, and what was chosen for it.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "ContainerStatus")]
pub struct ContainerReport {
    /// As last committed.
    #[serde(flatten)]
    pub status: ContainerStatus,
    /// The pool it counts against.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pool: Option<String>,
    /// The claim it is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub claim: Option<String>,
    /// Port of the host that leads to its SSH server.
    pub port: u16,
    /// Address of its network card.
    pub mac: String,
    /// SHA-256 of its image when it was made, in hex.
    pub image_sha256: String,
}

/// What is told of a claim: its status, and who asked.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "ClaimStatus")]
pub struct ClaimReport {
    /// As last committed.
    #[serde(flatten)]
    pub status: ClaimStatus,
    /// Who asked: a client of the wire protocol, the program around the server, or whoever wrote the object.
    pub requested_by: String,
}
