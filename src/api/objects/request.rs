//! What a write asks for, and what it comes to.

use serde_json::Value;

use crate::model::ObjectRef;

/// A write of one object.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// Which. Without a name, it is the one that the body of a [`Verb::Create`] names, or asks to choose.
    pub object: ObjectRef,
    /// How.
    pub verb: Verb,
    /// Which part of it; `None`: the object as people write it.
    pub subresource: Option<Subresource>,
    /// The object, the part, the patch or the configuration.
    pub body: Value,
    /// Under which conditions, and for whom.
    pub terms: Terms,
}

impl Request {
    /// A write of the object itself, without conditions.
    pub fn new(object: ObjectRef, verb: Verb, body: Value) -> Self {
        Request { object, verb, subresource: None, body, terms: Terms::default() }
    }
}

/// How an object is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// Only if it is not there yet.
    Create,
    /// Only if it is there, as it was read: the body or the terms say by which revision.
    Replace,
    /// Made as the body describes it wholly, whether it is there or not: what manifests ask for. What a body leaves
    /// out has its default; only finalizers and owners that it does not name stay. The body's revision does not count.
    Describe,
    /// A JSON merge patch (RFC 7396) on what is there.
    MergePatch,
    /// A JSON patch (RFC 6902) on what is there.
    JsonPatch,
    /// Server-side apply ([`crate::manifest::fields`]), whether it is there or not.
    Apply {
        /// Takes over the fields that others own.
        force: bool,
    },
}

/// A part of an object with writers of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Subresource {
    /// What is. The daemon's, but for conditions of types that are not its own: those are for other controllers.
    Status,
    /// A pool's number of replicas, as `autoscaling/v1`.
    Scale,
}

impl Subresource {
    /// Its name in a path.
    pub fn name(self) -> &'static str {
        match self {
            Subresource::Status => "status",
            Subresource::Scale => "scale",
        }
    }
}

/// What becomes of fields that a kind does not have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FieldValidation {
    /// Nothing is written.
    Strict,
    /// They are left out, and told.
    #[default]
    Warn,
    /// They are left out.
    Ignore,
}

/// Under which conditions, and for whom.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    /// Nothing is written; the answer says what would be.
    pub dry_run: bool,
    /// What becomes of fields that the kind does not have.
    pub field_validation: FieldValidation,
    /// Who writes, as they call themselves; [`Verb::Apply`] needs it.
    pub field_manager: Option<String>,
    /// Only if it was last written by this revision.
    pub revision: Option<u64>,
    /// The directory of manifests that keeps the object applied from now on: goes into [`crate::model::MANAGED_BY`].
    pub keeper: Option<String>,
}

/// What a write came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was not there.
    Created,
    /// It was changed.
    Configured,
    /// It was so already, and nothing was written.
    Unchanged,
}

/// An object that was written.
#[derive(Clone, Debug, PartialEq)]
pub struct Written {
    /// What the write came to.
    pub outcome: Outcome,
    /// The object, or its scale, as it is shown.
    pub object: Value,
    /// What the writer is to be told, in the words of Kubernetes.
    pub warnings: Vec<String>,
}
