//! Manifests: YAML or JSON text to typed objects, or to everything that is wrong with it. Pure: no file, no clock.
//!
//! ```text
//! text ─► documents ─► tree ─► schema ─► types ─► rules ─► Manifest
//!          (text)     (tree)  (schema)  (model)  (rules)
//!             └──────────┴───────┴─────────┴────────┴────► Problem: file, document, line, field, what would be right
//! ```
//!
//! The schema comes from the types (`schemars`), so that what is checked, what `anweddol explain` tells and what is
//! read are one thing. It is asked before the types are, because it finds all errors of a document, and serde only the
//! first one.
//!
//! A manifest describes its object wholly: a field that is left out has its default. What the daemon writes (the rest
//! of `metadata`, `status`) is read and ignored, so that what `anweddol get -o yaml` prints can be applied.

pub mod columns;
pub mod crd;
pub mod explain;
pub mod fields;
mod forms;
pub(crate) mod hint;
pub mod keep;
pub(crate) mod locate;
pub mod patch;
mod prune;
pub mod rules;
mod schema;
pub mod selector;
mod text;
pub(crate) mod time;
mod tree;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Map, Value};

pub use forms::{ClaimReport, ContainerReport};
pub use prune::{Unknown, prune};
pub use schema::schema;
pub(crate) use text::{LONGEST, plain, say, yaml};
pub use text::{MAX_DOCUMENTS, MAX_SIZE, Read, of_value, read, value};

use crate::model::{API_VERSION, ClaimSpec, Kind, ObjectRef, OwnerReference, PoolSpec, Template};

/// The most problems that are told of one text, or of one object: whoever has more begins with these. Each may be longer than
/// what is wrong.
const MAX_PROBLEMS: usize = 50;

/// Labels and annotations that begin so are the daemon's: a manifest may repeat them and never changes them.
pub const RESERVED: &str = "anweddol.io/";

/// One object as somebody wishes for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// Its labels, without the daemon's.
    pub labels: BTreeMap<String, String>,
    /// Its annotations, without the daemon's.
    pub annotations: BTreeMap<String, String>,
    /// Who has to do something before its record may go.
    pub finalizers: Vec<String>,
    /// Whom it goes with.
    pub owner_references: Vec<OwnerReference>,
    /// The revision it was read at: `metadata.resourceVersion`. A condition for who replaces, ignored by who applies.
    pub resource_version: Option<String>,
    /// What is wished for.
    pub spec: Spec,
}

/// What is wished for, by kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Spec {
    /// Of a pool.
    Pool(PoolSpec),
    /// Of a container without pool: its template; everything else of it is chosen for it.
    Container(Template),
    /// Of a claim.
    Claim(ClaimSpec),
}

impl Manifest {
    /// The kind of the object.
    pub fn kind(&self) -> Kind {
        match self.spec {
            Spec::Pool(_) => Kind::ContainerPool,
            Spec::Container(_) => Kind::Container,
            Spec::Claim(_) => Kind::ContainerClaim,
        }
    }

    /// Which object it is about.
    pub fn object_ref(&self) -> ObjectRef {
        ObjectRef { kind: self.kind(), namespace: self.namespace.clone(), name: self.name.clone() }
    }

    /// As it is sent and shown: every field with its value.
    pub fn to_json(&self) -> Value {
        let mut metadata = Map::new();
        metadata.insert("name".into(), self.name.clone().into());
        metadata.insert("namespace".into(), self.namespace.clone().into());
        if let Some(version) = &self.resource_version {
            metadata.insert("resourceVersion".into(), version.clone().into());
        }
        for (name, map) in [("labels", &self.labels), ("annotations", &self.annotations)] {
            if !map.is_empty() {
                metadata.insert(name.into(), map.iter().map(|(k, v)| (k.clone(), Value::from(v.as_str()))).collect());
            }
        }
        if !self.finalizers.is_empty() {
            metadata.insert("finalizers".into(), json(&self.finalizers));
        }
        if !self.owner_references.is_empty() {
            metadata.insert("ownerReferences".into(), json(&self.owner_references));
        }
        let spec = match &self.spec {
            Spec::Pool(spec) => json(spec),
            Spec::Container(template) => serde_json::json!({ "template": json(template) }),
            Spec::Claim(spec) => json(spec),
        };
        serde_json::json!({ "apiVersion": API_VERSION, "kind": self.kind().to_string(), "metadata": metadata, "spec": spec })
    }
}

/// A value of ours as JSON.
pub(crate) fn json<T: serde::Serialize>(value: &T) -> Value {
    // Structs, strings and numbers; only maps with keys that are no strings could fail.
    serde_json::to_value(value).expect("records serialise")
}

/// Where something stands.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    /// In which file.
    pub file: String,
    /// In which of its documents, from 1 on; 0: in the file as a whole.
    pub document: usize,
    /// On which line, from 1 on; 0: on none.
    pub line: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if self.line > 0 { write!(f, ":{}", self.line) } else { Ok(()) }
    }
}

/// A manifest and where it begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Located {
    /// What.
    pub manifest: Manifest,
    /// Where.
    pub place: Place,
}

/// What is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[error("{place}: {}{message}", self.about())]
pub struct Problem {
    /// Where.
    pub place: Place,
    /// About which object, as far as that is known.
    pub object: Option<ObjectRef>,
    /// About which field; empty: none in particular.
    pub field: String,
    /// What, and what would be right.
    pub message: String,
}

impl Problem {
    fn about(&self) -> String {
        let object = self.object.as_ref().map(|object| format!("{object}: "));
        let document = (self.place.document > 1).then(|| format!("document {}: ", self.place.document));
        let field = (!self.field.is_empty()).then(|| format!("{}: ", self.field));
        [document, object, field].into_iter().flatten().collect()
    }
}

/// A value that cannot be, by field.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {message}")]
pub struct Fault {
    /// The path of the field, as `spec.template.memory`.
    pub field: String,
    /// Why, and what would be right.
    pub message: String,
    /// In which way.
    pub kind: FaultKind,
}

/// In which way a value cannot be; the names are those of Kubernetes' causes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FaultKind {
    /// It is wrong.
    Invalid,
    /// It is not there.
    Required,
    /// It is none of those there are.
    NotSupported,
    /// It may be nobody's to write, or not now.
    Forbidden,
}

impl FaultKind {
    /// As it stands in a cause's `reason`.
    pub fn reason(self) -> &'static str {
        match self {
            FaultKind::Invalid => "FieldValueInvalid",
            FaultKind::Required => "FieldValueRequired",
            FaultKind::NotSupported => "FieldValueNotSupported",
            FaultKind::Forbidden => "FieldValueForbidden",
        }
    }
}

impl Fault {
    /// A fault of a field.
    pub fn new(field: impl Into<String>, message: impl Into<String>) -> Self {
        Fault { field: field.into(), message: message.into(), kind: FaultKind::Invalid }
    }

    /// The same, of another kind.
    pub fn of(self, kind: FaultKind) -> Self {
        Fault { kind, ..self }
    }
}

/// The same object twice, in one file or in two: each of them is told, with the place of the first.
pub fn duplicates(manifests: &[Located]) -> Vec<Problem> {
    let mut first: BTreeMap<ObjectRef, &Place> = BTreeMap::new();
    let mut problems = Vec::new();
    for Located { manifest, place } in manifests {
        let object = manifest.object_ref();
        match first.get(&object) {
            None => {
                first.insert(object, place);
            }
            Some(before) => problems.push(Problem {
                place: place.clone(),
                message: format!("{object} stands at {before} already: leave one of the two"),
                object: Some(object),
                field: "metadata.name".into(),
            }),
        }
    }
    problems
}
