use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::{Common, Rare};

/// Group and version of every kind here.
pub const API_VERSION: &str = "anweddol.io/v1alpha1";

/// The group of every kind here.
pub const GROUP: &str = "anweddol.io";

/// The version of every kind here.
pub const VERSION: &str = "v1alpha1";

/// Where objects live that name no namespace.
pub const DEFAULT_NAMESPACE: &str = "default";

/// Label of a container: the hash of template and image that it was made from.
pub const TEMPLATE_HASH: &str = "anweddol.io/template-hash";

/// Annotation of an object that a directory of manifests, or the configuration, keeps applied: which.
pub const MANAGED_BY: &str = "anweddol.io/managed-by";

/// Annotation of an object that the configuration made: SHA-256 of the spec it last wrote there, in hex.
pub const CONFIGURED: &str = "anweddol.io/configuration-hash";

/// The kinds the operator reconciles.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Kind {
    /// One machine.
    Container,
    /// A number of machines made from one template.
    ContainerPool,
    /// Somebody's right to one machine of a pool.
    ContainerClaim,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 3] = [Kind::ContainerPool, Kind::Container, Kind::ContainerClaim];

    /// The resource name: lower case, plural, as in a URL or a store key.
    pub fn plural(self) -> &'static str {
        match self {
            Kind::Container => "containers",
            Kind::ContainerPool => "containerpools",
            Kind::ContainerClaim => "containerclaims",
        }
    }

    /// The types of the conditions that the operator writes. Those of other types are for other controllers.
    pub fn conditions(self) -> &'static [&'static str] {
        match self {
            Kind::Container => &[
                "Started",
                "Personalised",
                "Published",
                "Authorized",
                "Ready",
                "Seen",
                "Paused",
                "Expiring",
                "Released",
            ],
            Kind::ContainerPool => &["Available", "Progressing", "Degraded", "ImageReady"],
            Kind::ContainerClaim => &["Ready", "Delivered"],
        }
    }

    /// The kind whose resource name is `plural`.
    pub fn from_plural(plural: &str) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.plural() == plural)
    }
}

/// Names one object: the operator's queue key, and half of its store key.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ObjectRef {
    /// Its kind.
    pub kind: Kind,
    /// Its namespace.
    pub namespace: String,
    /// Its name, unique in the namespace for the kind.
    pub name: String,
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {}/{}", self.kind, self.namespace, self.name)
    }
}

/// What every object carries; the fields of Kubernetes' `ObjectMeta` that have a meaning here.
///
/// `resourceVersion` is not stored: it is the revision at which the store last wrote the record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ObjectMeta {
    /// Unique in its namespace for its kind.
    pub name: String,
    /// The namespace.
    pub namespace: Common<String>,
    /// Unique for all time. A container's is also its domain's UUID.
    pub uid: Uuid,
    /// Counts changes of the spec.
    #[serde(default)]
    pub generation: i64,
    /// When it was written first.
    pub creation_timestamp: Timestamp,
    /// Set once when its end is wished for; it never goes back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deletion_timestamp: Rare<Option<Timestamp>>,
    /// For selectors.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: Common<BTreeMap<String, String>>,
    /// For everything else.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: Rare<BTreeMap<String, String>>,
    /// What its name began with when the daemon chose the rest of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generate_name: Rare<Option<String>>,
    /// Who still has to do something before its record may go. What the operator itself has to do is no part of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub finalizers: Rare<Vec<String>>,
    /// Whom it goes with ([`crate::plan::owners`]).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub owner_references: Common<Vec<OwnerReference>>,
    /// Who wrote which of its fields ([`crate::manifest::fields`]). What only the daemon writes is in none of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub managed_fields: Rare<Vec<ManagedFields>>,
}

/// Whom an object goes with: when the last of its owners is gone, it goes too.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-map-type" = "atomic"))]
pub struct OwnerReference {
    /// The owner's group and version.
    pub api_version: String,
    /// The owner's kind.
    pub kind: String,
    /// The owner's name, in the same namespace.
    pub name: String,
    /// The owner's UUID: another object of the same name is no owner.
    pub uid: String,
    /// Whether it is the one owner that keeps the object as it has to be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub controller: Option<bool>,
    /// Whether an owner that is deleted in the foreground waits until this object is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub block_owner_deletion: Option<bool>,
}

/// The fields that one manager wrote by one kind of write, as Kubernetes keeps them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ManagedFields {
    /// Who, by the name that they give themselves.
    #[serde(default)]
    pub manager: String,
    /// By which kind of write.
    pub operation: Operation,
    /// Of which version of the kind they were.
    #[serde(default)]
    pub api_version: String,
    /// When they were written last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<Timestamp>,
    /// The form of `fields_v1`: `FieldsV1`.
    #[serde(default)]
    pub fields_type: String,
    /// Which fields.
    #[serde(default, rename = "fieldsV1")]
    pub fields_v1: Value,
    /// Through which subresource.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subresource: Option<String>,
}

/// The kinds of writes that own fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Operation {
    /// Server-side apply: says all that its manager wants to own.
    Apply,
    /// Everything else: owns what it changed.
    Update,
}

impl ObjectMeta {
    /// A first-generation object, written now.
    pub fn new(namespace: &str, name: &str, uid: Uuid, now: Timestamp) -> Self {
        ObjectMeta {
            name: name.into(),
            namespace: namespace.into(),
            uid,
            generation: 1,
            creation_timestamp: now,
            deletion_timestamp: Rare::nothing(),
            labels: Common::default(),
            annotations: Rare::nothing(),
            generate_name: Rare::nothing(),
            finalizers: Rare::nothing(),
            owner_references: Common::default(),
            managed_fields: Rare::nothing(),
        }
    }

    /// Wishes for its end, once: a wish that is there already stays as it is.
    pub fn end(&mut self, now: Timestamp) {
        if self.deletion_timestamp.is_none() {
            self.deletion_timestamp = Some(now).into();
            self.generation += 1;
        }
    }

    /// Whether its end is wished for.
    pub fn deleting(&self) -> bool {
        self.deletion_timestamp.is_some()
    }
}

/// A record of one of the [`Kind`]s.
pub trait Object: Serialize + DeserializeOwned + Clone + PartialEq + Send + Sync + 'static {
    /// Its kind.
    const KIND: Kind;
    /// Its metadata.
    fn meta(&self) -> &ObjectMeta;
    /// Its metadata, to change.
    fn meta_mut(&mut self) -> &mut ObjectMeta;

    /// Its name among all objects.
    fn object_ref(&self) -> ObjectRef {
        let meta = self.meta();
        ObjectRef { kind: Self::KIND, namespace: meta.namespace.to_string(), name: meta.name.clone() }
    }
}

/// Why a name is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{name}' is no valid name: 1 to 63 lower-case letters, digits and '-', beginning and ending with a letter or digit (RFC 1123 label)"
)]
pub struct NameError {
    /// What was given.
    pub name: String,
}

/// Checks an RFC 1123 label, the rule for names and namespaces.
pub fn valid_name(name: &str) -> Result<(), NameError> {
    let plain = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
    let bytes = name.as_bytes();
    let good = (1..=63).contains(&bytes.len())
        && bytes.iter().all(|&c| plain(c) || c == b'-')
        && bytes.first().copied().is_some_and(plain)
        && bytes.last().copied().is_some_and(plain);
    if good { Ok(()) } else { Err(NameError { name: name.into() }) }
}
