//! Which kinds there are, how one of their objects is named, and why it is not read or written.

use crate::manifest::patch::PatchError;
use crate::store::StoreError;
use crate::store::records::{FOREIGN_EVENTS, RecordError, SECRETS};

/// The most of a kind in a namespace: what comes then is refused, but of events the oldest goes. A record has up to 64 KiB,
/// and all are in memory.
pub(super) const MOST: usize = 1000;
/// The longest name, as of a DNS domain.
pub(super) const LONGEST_NAME: usize = 253;

/// The kinds of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PlainKind {
    /// What separates names.
    Namespace,
    /// Who leads, and until when.
    Lease,
    /// What only few may read.
    Secret,
    /// What a client says has happened, in the form of `v1`.
    Event,
}

impl PlainKind {
    /// All of them.
    pub const ALL: [PlainKind; 4] = [PlainKind::Namespace, PlainKind::Lease, PlainKind::Secret, PlainKind::Event];

    /// The resource name.
    pub fn plural(self) -> &'static str {
        match self {
            PlainKind::Namespace => "namespaces",
            PlainKind::Lease => "leases",
            PlainKind::Secret => "secrets",
            PlainKind::Event => "events",
        }
    }

    /// The kind's name.
    pub fn kind(self) -> &'static str {
        match self {
            PlainKind::Namespace => "Namespace",
            PlainKind::Lease => "Lease",
            PlainKind::Secret => "Secret",
            PlainKind::Event => "Event",
        }
    }

    /// Its group; empty: Kubernetes' own.
    pub fn group(self) -> &'static str {
        match self {
            PlainKind::Namespace | PlainKind::Secret | PlainKind::Event => "",
            PlainKind::Lease => "coordination.k8s.io",
        }
    }

    /// Its group and version.
    pub fn api_version(self) -> &'static str {
        match self {
            PlainKind::Namespace | PlainKind::Secret | PlainKind::Event => "v1",
            PlainKind::Lease => "coordination.k8s.io/v1",
        }
    }

    /// Whether its objects are in namespaces.
    pub fn namespaced(self) -> bool {
        self != PlainKind::Namespace
    }

    /// The most of them in all namespaces.
    pub(super) fn most_of_all(self) -> usize {
        if self.namespaced() { 5 * MOST } else { MOST }
    }

    /// What all keys of the kind begin with.
    fn root(self) -> &'static str {
        match self {
            PlainKind::Namespace => "plain/namespaces/",
            PlainKind::Lease => "plain/leases/",
            PlainKind::Secret => SECRETS,
            PlainKind::Event => FOREIGN_EVENTS,
        }
    }

    pub(in crate::api) fn prefix(self, namespace: Option<&str>) -> String {
        let root = self.root();
        match namespace.filter(|_| self.namespaced()) {
            Some(namespace) => format!("{root}{namespace}/"),
            None => root.into(),
        }
    }
}

/// Names one of them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PlainRef {
    /// Its kind.
    pub kind: PlainKind,
    /// Its namespace; empty where its kind has none.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl PlainRef {
    pub(super) fn key(&self) -> String {
        format!("{}{}", self.kind.prefix(Some(&self.namespace)), self.name)
    }
}

/// The namespace of the one that a key names, if it is in one.
pub(in crate::api) fn namespace_of(key: &str) -> Option<&str> {
    let mut kinds = PlainKind::ALL.into_iter().filter(|kind| kind.namespaced());
    let rest = kinds.find_map(|kind| key.strip_prefix(kind.root()))?;
    rest.split_once('/').map(|(namespace, _)| namespace)
}

/// Why one of them is not read or written.
#[derive(Debug, thiserror::Error)]
pub enum PlainError {
    /// It is not there.
    #[error("{} \"{}\" not found", .0.kind.plural(), .0.name)]
    NotFound(PlainRef),
    /// It is there already.
    #[error("{} \"{}\" already exists", .0.kind.plural(), .0.name)]
    Exists(PlainRef),
    /// It was written meanwhile, or is another one.
    #[error("{} \"{}\" is another one or was changed meanwhile: read it again", .0.kind.plural(), .0.name)]
    Conflict(PlainRef),
    /// It cannot be so.
    #[error("{field}: {message}")]
    Invalid {
        /// Which field.
        field: &'static str,
        /// What would be right.
        message: String,
    },
    /// A patch that does not fit.
    #[error(transparent)]
    Patch(#[from] PatchError),
    /// It may not be done.
    #[error("{message}")]
    Forbidden {
        /// Why.
        message: String,
    },
    /// There are too many of its kind.
    #[error("there are {most} {}{} already: delete some", kind.plural(), within(namespace.as_deref()))]
    TooMany {
        /// Of which.
        kind: PlainKind,
        /// Where; all namespaces together.
        namespace: Option<String>,
        /// How many.
        most: usize,
    },
    /// Records cannot be read or written.
    #[error(transparent)]
    Record(#[from] RecordError),
}

fn within(namespace: Option<&str>) -> String {
    namespace.map_or_else(String::new, |namespace| format!(" in namespace {namespace}"))
}

impl From<StoreError> for PlainError {
    fn from(error: StoreError) -> Self {
        PlainError::Record(error.into())
    }
}

/// Whether a text can be a name of one of them: parts of lower-case letters, digits and '-', with dots between.
pub fn valid_plain_name(name: &str) -> bool {
    name.len() <= LONGEST_NAME
        && name.split('.').all(|part| {
            let plain = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
            let bytes = part.as_bytes();
            let ends = |c: Option<&u8>| c.copied().is_some_and(plain);
            ends(bytes.first()) && ends(bytes.last()) && bytes.iter().all(|&c| plain(c) || c == b'-')
        })
}
