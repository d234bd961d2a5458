//! Who owns which field of an object: server-side apply, as Kubernetes does it. Pure.
//!
//! Every write leaves a note of the fields it is about, by manager, kind of write and subresource
//! ([`ManagedFields`]). Who applies says all that they want to own: what they name is set, what they named before and
//! nobody else owns is taken away, and what another one owns and holds a different value for is a conflict, unless it
//! is forced. Every other write owns what it changed. So several of them can keep one object, each its own part.
//!
//! | rule | test in `tests.rs` |
//! | --- | --- |
//! | applying twice changes nothing | `what_is_applied_twice_changes_nothing_and_two_that_share_nothing_never_meet` |
//! | who shares no field with others never meets them | the same |
//! | what is no longer applied goes, unless somebody else owns it | `what_an_applier_no_longer_says_goes_unless_another_owns_it` |
//! | a different value for another's field is a conflict, and force takes the field over | `another_ones_field_is_a_conflict_and_force_takes_it` |
//! | a write owns what it changed, and others own it no more | `a_write_owns_what_it_changed` |
//!
//! What is the daemon's to write (`status` but for conditions that are not its own, what begins with `anweddol.io/`)
//! is nobody's field and never a conflict. An `image` is one value: which of its fields there are is what it means.

mod set;
mod shape;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use self::set::said;
use self::shape::{Shape, changes, fields, remove};
use super::RESERVED;
use crate::model::{API_VERSION, Kind, ManagedFields, Operation};

pub use self::set::{FieldSet, FieldsError};

/// The manager of what an object had before anybody applied to it.
pub const BEFORE_FIRST_APPLY: &str = "before-first-apply";
/// The manager that the oldest of many are gathered under.
pub const ANCIENT: &str = "ancient-changes";
/// So many managers of plain writes are told apart, as in Kubernetes.
const MOST_UPDATERS: usize = 10;
/// So many entries are read of what a body says about managers; more are none that were read here, and cost time.
const MOST_TOLD: usize = 100;
/// And so many bytes: no record has more.
const LONGEST_TOLD: usize = 64 << 10;
/// The annotation in which kubectl keeps what was applied on the client's side.
pub const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// Who may take over what was applied on the client's side.
const KUBECTL: &str = "kubectl";
/// The only form of sets of fields.
const FIELDS_TYPE: &str = "FieldsV1";

/// What of an object a write is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// What people write: labels and the like, and `spec`.
    Wish,
    /// What controllers write: `status`.
    Status,
}

/// Who writes, and what.
#[derive(Clone, Copy, Debug)]
pub struct Author<'a> {
    /// What kind of object.
    pub kind: Kind,
    /// Which part of it.
    pub part: Part,
    /// By the name that they give themselves.
    pub manager: &'a str,
    /// Through which subresource.
    pub subresource: Option<&'a str>,
    /// When.
    pub now: Timestamp,
}

impl Author<'_> {
    /// What changed of what can be somebody's.
    fn changes(&self, before: Option<&Value>, after: &Value) -> shape::Changes {
        let before = before.map_or(Value::Null, |before| claimable(self.kind, before, self.part));
        changes(Shape::of(self.kind), &before, &claimable(self.kind, after, self.part))
    }
}

/// A field that another one owns and holds another value for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// Who.
    pub manager: String,
    /// By which kind of write.
    pub operation: Operation,
    /// Through which subresource.
    pub subresource: Option<String>,
    /// The field, as Kubernetes says it: `.spec.replicas`.
    pub field: String,
}

/// As Kubernetes says it.
impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "conflict with {}", self.with())
    }
}

impl Conflict {
    /// Who owns the field, as Kubernetes says it.
    pub fn with(&self) -> String {
        let subresource =
            self.subresource.as_ref().map_or(String::new(), |name| format!(" with subresource \"{name}\""));
        let version = match self.operation {
            Operation::Update => format!(" using {API_VERSION}"),
            Operation::Apply => String::new(),
        };
        format!("\"{}\"{subresource}{version}", self.manager)
    }
}

/// What of an object can be somebody's.
fn claimable(kind: Kind, object: &Value, part: Part) -> Value {
    match part {
        Part::Wish => {
            let mut metadata = Map::new();
            for name in ["labels", "annotations"] {
                if let Value::Object(map) = &object["metadata"][name] {
                    let own = map.iter().filter(|(key, _)| !key.starts_with(RESERVED));
                    metadata.insert(name.into(), own.map(|(key, value)| (key.clone(), value.clone())).collect());
                }
            }
            for name in ["finalizers", "ownerReferences"] {
                if object["metadata"][name].is_array() {
                    metadata.insert(name.into(), object["metadata"][name].clone());
                }
            }
            json!({ "metadata": metadata, "spec": object["spec"] })
        }
        Part::Status => {
            let conditions = object["status"]["conditions"].as_array().into_iter().flatten();
            let foreign = |condition: &&Value| !kind.conditions().iter().any(|own| condition["type"] == *own);
            json!({ "status": { "conditions": conditions.filter(foreign).collect::<Vec<_>>() } })
        }
    }
}

/// Who owned what, as an update's body says it, if it says so in a form that can be read and says something else than
/// what is known; one empty entry forgets all. Times do not count: clients cut them to seconds as they pass through.
pub fn told(body: &Value, known: &[ManagedFields]) -> Option<Vec<ManagedFields>> {
    let entries = body["metadata"]["managedFields"].as_array().filter(|entries| !entries.is_empty())?;
    if entries.len() > MOST_TOLD || Value::from(entries.clone()).to_string().len() > LONGEST_TOLD {
        return None;
    }
    if entries.len() == 1 && entries[0] == json!({}) {
        return Some(Vec::new());
    }
    let entries: Vec<ManagedFields> = serde_json::from_value(entries.clone().into()).ok()?;
    let good = |entry: &ManagedFields| FieldSet::from_value(&entry.fields_v1).is_ok() && !entry.manager.is_empty();
    let timeless = |entries: &[ManagedFields]| -> Vec<ManagedFields> {
        entries.iter().map(|entry| ManagedFields { time: None, ..entry.clone() }).collect()
    };
    (entries.iter().all(good) && timeless(&entries) != timeless(known)).then_some(entries)
}

/// A write that is no apply: its author owns what it changed.
pub fn updated(
    by: &Author<'_>,
    entries: Vec<ManagedFields>,
    before: Option<&Value>,
    after: &Value,
) -> Vec<ManagedFields> {
    let shape::Changes { written, removed } = by.changes(before, after);
    if written.is_empty() && removed.is_empty() {
        return entries;
    }
    let mut owners = Owners::of(entries);
    owners.forget(&removed, None);
    owners.forget(&written, Some((Operation::Update, by)));
    let mine = owners.set(Operation::Update, by).union(&written);
    owners.note(Operation::Update, by, mine, true);
    owners.gather(by);
    owners.entries()
}

/// The object with an applied configuration on it, and without what its author applied before and nobody else owns.
pub fn merged(by: &Author<'_>, entries: &[ManagedFields], live: &Value, config: &Value) -> Value {
    let (shape, wanted) = (Shape::of(by.kind), claimable(by.kind, config, by.part));
    let wanted_fields = fields(shape, &wanted);
    let mut merged = shape::merge(shape, live, &without_empty(wanted));
    let (mine, others): (Vec<Owner>, Vec<Owner>) =
        Owners::of(entries.to_vec()).0.into_iter().partition(|owner| owner.is(Operation::Apply, by));
    for path in mine.iter().flat_map(|owner| owner.set.iter()) {
        if !wanted_fields.reaches(path) && !others.iter().any(|owner| owner.set.reaches(path)) {
            remove(shape, &mut merged, path);
        }
    }
    merged
}

/// Who owns what after an apply that made `after` of `before`, or who is in its way.
///
/// As with Kubernetes' own, kubectl may take over without force what it applied on the client's side: fields that are
/// as the annotation [`LAST_APPLIED`] says (`kubectl_takes_over_what_it_applied_on_the_clients_side`).
pub fn applied(
    by: &Author<'_>,
    entries: Vec<ManagedFields>,
    before: Option<&Value>,
    after: &Value,
    config: &Value,
    force: bool,
) -> Result<Vec<ManagedFields>, Vec<Conflict>> {
    let shape::Changes { written, removed } = by.changes(before, after);
    let wanted = fields(Shape::of(by.kind), &claimable(by.kind, config, by.part));
    let mut owners = Owners::of(entries);
    let contested = wanted.common(&written);
    let mut conflicts = Vec::new();
    let takes_over = before.filter(|_| by.manager == KUBECTL).map(|before| last_applied(by.kind, before));
    for owner in owners.0.iter().filter(|owner| !owner.is(Operation::Apply, by)) {
        let theirs = contested.common(&owner.set);
        let theirs = takes_over.as_ref().map_or(theirs.clone(), |mine| theirs.minus(mine));
        let conflict = |path| Conflict {
            manager: owner.entry.manager.clone(),
            operation: owner.entry.operation,
            subresource: owner.entry.subresource.clone(),
            field: said(path),
        };
        conflicts.extend(theirs.iter().map(conflict));
    }
    if !conflicts.is_empty() && !force {
        return Err(conflicts);
    }
    let touched = !written.is_empty() || !removed.is_empty();
    owners.forget(&removed, None);
    owners.forget(&contested, Some((Operation::Apply, by)));
    owners.note(Operation::Apply, by, wanted, touched);
    Ok(owners.entries())
}

/// What an object had before anybody applied to it, where no write of it was noted.
pub fn before_first_apply(by: &Author<'_>, live: &Value) -> Vec<ManagedFields> {
    let before = Author { manager: BEFORE_FIRST_APPLY, subresource: None, part: Part::Wish, ..*by };
    updated(&before, Vec::new(), None, live)
}

/// Fields that kubectl applied on the client's side and that are still so.
fn last_applied(kind: Kind, live: &Value) -> FieldSet {
    let text = live["metadata"]["annotations"][LAST_APPLIED].as_str();
    let Some(config) = text.and_then(|text| serde_json::from_str::<Value>(text).ok()) else {
        return FieldSet::default();
    };
    let (config, live) = (claimable(kind, &config, Part::Wish), claimable(kind, live, Part::Wish));
    let shape = Shape::of(kind);
    let shape::Changes { written, removed } = changes(shape, &config, &live);
    fields(shape, &config).minus(&written).minus(&removed)
}

/// Whether an apply also renews what kubectl keeps of it for applying on the client's side.
pub fn keeps_last_applied(by: &Author<'_>, annotations: &BTreeMap<String, String>) -> bool {
    by.manager == KUBECTL && annotations.contains_key(LAST_APPLIED)
}

/// A configuration as it is kept in [`LAST_APPLIED`].
pub fn to_last_applied(config: &Value) -> String {
    let mut config = config.clone();
    if let Some(Value::Object(annotations)) = config.pointer_mut("/metadata/annotations") {
        annotations.shift_remove(LAST_APPLIED);
    }
    if let Some(Value::Object(metadata)) = config.get_mut("metadata") {
        metadata.shift_remove("managedFields");
    }
    // kubectl's own ends with a line break too.
    format!("{config}\n")
}

/// Without maps and lists that say nothing.
fn without_empty(mut value: Value) -> Value {
    if let Value::Object(map) = &mut value {
        for (_, value) in map.iter_mut() {
            *value = without_empty(value.take());
        }
        map.retain(|_, value| !value.is_null() && *value != json!({}) && *value != json!([]));
    }
    value
}

/// One entry, read.
struct Owner {
    entry: ManagedFields,
    set: FieldSet,
    /// Whether it is to be told anew.
    rewritten: bool,
}

impl Owner {
    fn is(&self, operation: Operation, by: &Author<'_>) -> bool {
        let ManagedFields { manager, operation: own, subresource, .. } = &self.entry;
        manager == by.manager && *own == operation && subresource.as_deref() == by.subresource
    }
}

/// All entries.
struct Owners(Vec<Owner>);

impl Owners {
    fn of(entries: Vec<ManagedFields>) -> Owners {
        let owner = |entry: ManagedFields| {
            // What cannot be read owns nothing; only what can was ever let in.
            let set = FieldSet::from_value(&entry.fields_v1).unwrap_or_default();
            Owner { entry, set, rewritten: false }
        };
        Owners(entries.into_iter().map(owner).collect())
    }

    fn set(&self, operation: Operation, by: &Author<'_>) -> FieldSet {
        self.0.iter().find(|owner| owner.is(operation, by)).map(|owner| owner.set.clone()).unwrap_or_default()
    }

    /// Takes fields from all, or from all but one.
    fn forget(&mut self, fields: &FieldSet, but: Option<(Operation, &Author<'_>)>) {
        for owner in self.0.iter_mut().filter(|owner| !but.is_some_and(|(operation, by)| owner.is(operation, by))) {
            let rest = owner.set.minus(fields);
            owner.rewritten |= rest != owner.set;
            owner.set = rest;
        }
    }

    /// What one owns from now on.
    fn note(&mut self, operation: Operation, by: &Author<'_>, set: FieldSet, touched: bool) {
        match self.0.iter_mut().find(|owner| owner.is(operation, by)) {
            Some(owner) => {
                if touched || owner.set != set {
                    owner.entry.time = Some(by.now);
                }
                owner.rewritten |= owner.set != set;
                owner.set = set;
            }
            None => {
                let entry = ManagedFields {
                    manager: by.manager.into(),
                    operation,
                    api_version: API_VERSION.into(),
                    time: Some(by.now),
                    fields_type: FIELDS_TYPE.into(),
                    fields_v1: Value::Null,
                    subresource: by.subresource.map(str::to_owned),
                };
                self.0.push(Owner { entry, set, rewritten: true });
            }
        }
    }

    /// Keeps the number of those that do not apply small: the oldest go together.
    fn gather(&mut self, by: &Author<'_>) {
        let plain = |owner: &Owner| owner.entry.operation == Operation::Update && owner.entry.subresource.is_none();
        while self.0.iter().filter(|owner| plain(owner) && !owner.set.is_empty()).count() > MOST_UPDATERS {
            let movable = self.0.iter().enumerate().filter(|(_, owner)| plain(owner) && owner.entry.manager != ANCIENT);
            let Some(oldest) = movable.min_by_key(|(_, owner)| owner.entry.time).map(|(index, _)| index) else {
                return;
            };
            let old = self.0.remove(oldest);
            let by = Author { manager: ANCIENT, now: old.entry.time.unwrap_or_default(), ..*by };
            let set = self.set(Operation::Update, &by).union(&old.set);
            self.note(Operation::Update, &by, set, true);
        }
    }

    fn entries(self) -> Vec<ManagedFields> {
        let owning = self.0.into_iter().filter(|owner| !owner.set.is_empty());
        owning
            .map(|Owner { entry, set, rewritten }| match rewritten {
                true => ManagedFields { fields_v1: set.to_value(), ..entry },
                false => entry,
            })
            .collect()
    }
}
