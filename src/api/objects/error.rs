//! Why an object is not read or written, with everything that a `Status` of Kubernetes tells.

use super::super::births::BirthError;
use crate::manifest::Fault;
use crate::manifest::Unknown;
use crate::manifest::fields::Conflict;
use crate::manifest::patch::PatchError;
use crate::model::ObjectRef;
use crate::store::StoreError;
use crate::store::records::RecordError;

/// Why an object is not read or written.
#[derive(Debug, thiserror::Error)]
pub enum ObjectError {
    /// It is not there.
    #[error("there is no {object}")]
    NotFound {
        /// Which.
        object: ObjectRef,
    },
    /// It has no such part.
    #[error("{object} has no {subresource}: only pools have")]
    NoSubresource {
        /// Which.
        object: ObjectRef,
        /// Which part.
        subresource: &'static str,
    },
    /// It is there already.
    #[error("{object} exists already")]
    Exists {
        /// Which.
        object: ObjectRef,
    },
    /// It was written meanwhile.
    #[error("{object} was changed since revision {expected}, by revision {found}: read it again")]
    Conflict {
        /// Which.
        object: ObjectRef,
        /// The condition.
        expected: u64,
        /// What is.
        found: u64,
    },
    /// It is another one of the same name.
    #[error("{object} has the UID {found}, and {expected} was meant: it was made anew, read it again")]
    OtherUid {
        /// Which.
        object: ObjectRef,
        /// The condition.
        expected: String,
        /// What is.
        found: String,
    },
    /// Others own fields that were applied with another value.
    #[error("{}", contested(conflicts))]
    Contested {
        /// Which object.
        object: ObjectRef,
        /// Whose, and which.
        conflicts: Vec<Conflict>,
    },
    /// Its end was wished for.
    #[error("{object} is being deleted: wait until it is gone")]
    Deleting {
        /// Which.
        object: ObjectRef,
    },
    /// Another keeper's.
    #[error("{object} is kept by the manifests in {manager}: change it there")]
    Managed {
        /// Which.
        object: ObjectRef,
        /// Whose.
        manager: String,
    },
    /// Fields that it does not have, where each is an error.
    #[error("strict decoding error: {}", listed(fields))]
    UnknownFields {
        /// Which object.
        object: ObjectRef,
        /// Which fields.
        fields: Vec<Unknown>,
    },
    /// A request that makes no sense.
    #[error("{object}: {message}")]
    BadRequest {
        /// About which object.
        object: ObjectRef,
        /// What, and what would be right.
        message: String,
    },
    /// A patch that changes nothing.
    #[error("{object} cannot be patched")]
    Patch {
        /// Which.
        object: ObjectRef,
        /// Why.
        #[source]
        source: PatchError,
    },
    /// Values that cannot be.
    #[error("{object} cannot be so: {}", said(faults))]
    Invalid {
        /// Which.
        object: ObjectRef,
        /// What is wrong.
        faults: Vec<Fault>,
    },
    /// No machine can be made now.
    #[error("{object} cannot be made")]
    Birth {
        /// Which.
        object: ObjectRef,
        /// Why.
        #[source]
        source: BirthError,
    },
    /// Records cannot be read or written.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The task that prepared it died.
    #[error("the task that chooses what is a container's own died")]
    Task(#[from] tokio::task::JoinError),
}

impl From<StoreError> for ObjectError {
    fn from(error: StoreError) -> Self {
        ObjectError::Record(error.into())
    }
}

fn said(faults: &[Fault]) -> String {
    faults.iter().map(Fault::to_string).collect::<Vec<_>>().join("; ")
}

fn listed(fields: &[Unknown]) -> String {
    fields.iter().map(Unknown::to_string).collect::<Vec<_>>().join(", ")
}

/// As Kubernetes says it.
fn contested(conflicts: &[Conflict]) -> String {
    if let [conflict] = conflicts {
        return format!("Apply failed with 1 conflict: {conflict}: {}", conflict.field);
    }
    let mut lines: Vec<String> = Vec::new();
    for group in conflicts.chunk_by(|one, other| one.with() == other.with()) {
        lines.push(format!("conflicts with {}:", group[0].with()));
        lines.extend(group.iter().map(|conflict| format!("- {}", conflict.field)));
    }
    format!("Apply failed with {} conflicts: {}", conflicts.len(), lines.join("\n"))
}

/// One cause in a `Status`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    /// One CamelCase word.
    pub reason: &'static str,
    /// What, and what would be right.
    pub message: String,
    /// The field it is about.
    pub field: String,
}

impl ObjectError {
    /// As HTTP numbers it, and as Kubernetes names it.
    pub fn status(&self) -> (u16, &'static str) {
        match self {
            ObjectError::NotFound { .. } | ObjectError::NoSubresource { .. } => (404, "NotFound"),
            ObjectError::Exists { .. } => (409, "AlreadyExists"),
            ObjectError::Conflict { .. }
            | ObjectError::OtherUid { .. }
            | ObjectError::Contested { .. }
            | ObjectError::Deleting { .. }
            | ObjectError::Managed { .. } => (409, "Conflict"),
            ObjectError::UnknownFields { .. } | ObjectError::BadRequest { .. } => (400, "BadRequest"),
            ObjectError::Patch { source, .. } => match source {
                PatchError::Malformed { .. } => (400, "BadRequest"),
                PatchError::Failed { .. } => (422, "Invalid"),
                PatchError::TooLarge => (413, "RequestEntityTooLarge"),
            },
            ObjectError::Invalid { .. } => (422, "Invalid"),
            ObjectError::Birth { .. } => (503, "ServiceUnavailable"),
            ObjectError::Record(RecordError::Store(error)) => match error {
                StoreError::Unavailable { .. } => (503, "ServiceUnavailable"),
                // What is written is made here: only its size can be too much for the store.
                StoreError::Invalid { .. } => (413, "RequestEntityTooLarge"),
                StoreError::Compacted { .. } => (410, "Expired"),
                StoreError::Unknown { .. } => (500, "InternalError"),
            },
            ObjectError::Record(RecordError::Unreadable { .. } | RecordError::Unopened { .. })
            | ObjectError::Task(_) => (500, "InternalError"),
        }
    }

    /// What exactly is wrong, field by field.
    pub fn causes(&self) -> Vec<Cause> {
        match self {
            ObjectError::Invalid { faults, .. } => faults
                .iter()
                .map(|fault| Cause {
                    reason: fault.kind.reason(),
                    message: fault.message.clone(),
                    field: fault.field.clone(),
                })
                .collect(),
            ObjectError::Contested { conflicts, .. } => conflicts
                .iter()
                .map(|conflict| Cause {
                    reason: "FieldManagerConflict",
                    message: conflict.to_string(),
                    field: conflict.field.clone(),
                })
                .collect(),
            _ => Vec::new(),
        }
    }

    /// Which object it is about.
    pub fn object(&self) -> Option<&ObjectRef> {
        match self {
            ObjectError::NotFound { object }
            | ObjectError::NoSubresource { object, .. }
            | ObjectError::Exists { object }
            | ObjectError::Conflict { object, .. }
            | ObjectError::OtherUid { object, .. }
            | ObjectError::Contested { object, .. }
            | ObjectError::Deleting { object }
            | ObjectError::Managed { object, .. }
            | ObjectError::UnknownFields { object, .. }
            | ObjectError::BadRequest { object, .. }
            | ObjectError::Patch { object, .. }
            | ObjectError::Invalid { object, .. }
            | ObjectError::Birth { object, .. } => Some(object),
            ObjectError::Record(_) | ObjectError::Task(_) => None,
        }
    }
}
