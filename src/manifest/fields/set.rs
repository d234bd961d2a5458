//! Sets of fields, and their form `FieldsV1`.

use std::collections::BTreeSet;
use std::fmt::{self, Write};

use serde_json::{Map, Value};

/// A field's path; each step as `FieldsV1` writes it: `f:NAME`, `k:{KEYS}` of a list's item, `v:VALUE` of a set's.
pub(super) type Path = Vec<String>;

/// What stands in `FieldsV1` for the thing around it.
const ITSELF: &str = ".";

/// Fields of an object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSet(BTreeSet<Path>);

/// The most steps of all paths of a set together. A record has room for a third of it; but a path of a hundred steps, which is
/// told once, is kept in every field below it.
const MOST_STEPS: usize = 100_000;

/// Why a value is no `FieldsV1`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FieldsError {
    /// A key is no step.
    #[error("'{key}' is no step of a path in FieldsV1: write f:NAME, k:KEYS, v:VALUE or '.'")]
    Step {
        /// What was found.
        key: String,
    },
    /// It is more than any object has.
    #[error("it has more fields, or deeper ones, than any object")]
    TooMany,
}

impl FieldSet {
    /// Reads `FieldsV1`.
    pub fn from_value(value: &Value) -> Result<FieldSet, FieldsError> {
        let (mut set, mut left) = (FieldSet::default(), MOST_STEPS);
        set.read(value, &mut Vec::new(), &mut left)?;
        Ok(set)
    }

    fn read(&mut self, value: &Value, path: &mut Path, left: &mut usize) -> Result<(), FieldsError> {
        let Value::Object(map) = value else { return Err(FieldsError::Step { key: value.to_string() }) };
        // The object as a whole is no field of it.
        if !path.is_empty() && (map.is_empty() || map.contains_key(ITSELF)) {
            *left = left.checked_sub(path.len()).ok_or(FieldsError::TooMany)?;
            self.0.insert(path.clone());
        }
        for (key, value) in map.iter().filter(|(key, _)| *key != ITSELF) {
            let Some(("f" | "k" | "v" | "i", _)) = key.split_once(':') else {
                return Err(FieldsError::Step { key: key.clone() });
            };
            path.push(key.clone());
            self.read(value, path, left)?;
            path.pop();
        }
        Ok(())
    }

    /// As `FieldsV1`.
    pub fn to_value(&self) -> Value {
        let mut root = Map::new();
        for path in &self.0 {
            let mut at = &mut root;
            for step in path {
                let below = at.entry(step.clone()).or_insert_with(|| Value::Object(Map::new()));
                at = below.as_object_mut().expect("only maps are put here");
            }
            if self.below(path).next().is_some() {
                at.insert(ITSELF.into(), Value::Object(Map::new()));
            }
        }
        root.into()
    }

    /// Whether no field is in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds a field.
    pub(super) fn insert(&mut self, path: Path) {
        self.0.insert(path);
    }

    /// Its fields, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Path> {
        self.0.iter()
    }

    /// Whether a field, or one below it, is in it.
    pub(super) fn reaches(&self, path: &Path) -> bool {
        self.0.contains(path) || self.below(path).next().is_some()
    }

    fn below<'a>(&'a self, path: &'a Path) -> impl Iterator<Item = &'a Path> {
        // In this order, all that begins with a path comes right after it.
        self.0
            .range(path.clone()..)
            .skip_while(move |other| *other == path)
            .take_while(move |other| other.starts_with(path))
    }

    /// Those of both together.
    pub(super) fn union(&self, other: &FieldSet) -> FieldSet {
        FieldSet(self.0.union(&other.0).cloned().collect())
    }

    /// Those that are not in the other.
    pub(super) fn minus(&self, other: &FieldSet) -> FieldSet {
        FieldSet(self.0.difference(&other.0).cloned().collect())
    }

    /// Those that are in both.
    pub(super) fn common(&self, other: &FieldSet) -> FieldSet {
        FieldSet(self.0.intersection(&other.0).cloned().collect())
    }
}

/// A path as Kubernetes says it: `.spec.replicas`, `.status.conditions[type="Ready"]`.
pub(super) fn said(path: &Path) -> String {
    let mut text = String::new();
    for step in path {
        step_said(&mut text, step).expect("a text takes all that is written");
    }
    text
}

fn step_said(text: &mut String, step: &str) -> fmt::Result {
    match step.split_once(':') {
        Some(("f", name)) => write!(text, ".{name}"),
        Some(("k", keys)) => match serde_json::from_str::<Map<String, Value>>(keys) {
            Ok(keys) => {
                let keys: Vec<String> = keys.iter().map(|(key, value)| format!("{key}={value}")).collect();
                write!(text, "[{}]", keys.join(","))
            }
            Err(_) => write!(text, "[{keys}]"),
        },
        Some(("v", value)) => write!(text, "[={value}]"),
        _ => write!(text, "[{step}]"),
    }
}
