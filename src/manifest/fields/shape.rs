//! Objects as trees of fields, by the schema of their kind: which maps and lists are made of fields of their own, and
//! which are one value.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::set::{FieldSet, Path};
use crate::manifest::schema::{self, resolve, types};
use crate::model::Kind;

/// A place in a schema.
#[derive(Clone, Copy)]
pub(super) struct Shape {
    root: &'static Value,
    schema: &'static Value,
}

/// How a value is made of fields.
enum Form {
    /// Each of its fields is one.
    Fields,
    /// A list whose items are known by these of their fields.
    Keyed(Vec<&'static str>),
    /// A list in which each value stands once.
    Set,
    /// It is one value, whatever is in it.
    Whole,
}

/// A part of a value: the step that leads to it, what it is, and its place in the schema.
type Part<'a> = (String, &'a Value, Shape);

/// What became of fields.
#[derive(Default)]
pub(super) struct Changes {
    /// Those that are new or have another value.
    pub(super) written: FieldSet,
    /// Those that are gone.
    pub(super) removed: FieldSet,
}

impl Shape {
    pub(super) fn of(kind: Kind) -> Shape {
        let root = schema::schema(kind);
        Shape { root, schema: root }
    }

    /// What the schema says here, or at the type that is named here.
    fn word(self, word: &str) -> &'static Value {
        match &self.schema[word] {
            Value::Null => &resolve(self.root, self.schema)[word],
            found => found,
        }
    }

    fn form(self) -> Form {
        let keys = || self.word("x-kubernetes-list-map-keys").as_array().into_iter().flatten();
        let has = |name| types(resolve(self.root, self.schema)).contains(&name);
        match self.word("x-kubernetes-list-type").as_str() {
            Some("map") => Form::Keyed(keys().filter_map(Value::as_str).collect()),
            Some("set") => Form::Set,
            _ if has("object") && self.word("x-kubernetes-map-type") != "atomic" => Form::Fields,
            _ => Form::Whole,
        }
    }

    fn at(self, schema: &'static Value) -> Shape {
        Shape { schema, ..self }
    }

    fn field(self, name: &str) -> Shape {
        let own = &self.word("properties")[name];
        self.at(if own.is_null() { self.word("additionalProperties") } else { own })
    }

    /// What a value is made of, each with the step that leads to it; `None` if it is one value.
    fn parts(self, value: &Value) -> Option<Vec<Part<'_>>> {
        match (self.form(), value) {
            (Form::Fields, Value::Object(map)) => {
                Some(map.iter().map(|(name, value)| (format!("f:{name}"), value, self.field(name))).collect())
            }
            (Form::Keyed(keys), Value::Array(items)) => {
                let below = self.at(self.word("items"));
                Some(items.iter().map(|item| (key(&keys, item), item, below)).collect())
            }
            (Form::Set, Value::Array(items)) => {
                let below = self.at(&Value::Null);
                Some(items.iter().map(|item| (format!("v:{item}"), item, below)).collect())
            }
            _ => None,
        }
    }
}

/// The step to an item of a list.
fn key(keys: &[&str], item: &Value) -> String {
    let keys: Map<String, Value> = keys.iter().map(|key| ((*key).to_owned(), item[*key].clone())).collect();
    format!("k:{}", Value::from(keys))
}

/// All fields of an object.
pub(super) fn fields(shape: Shape, value: &Value) -> FieldSet {
    changes(shape, &Value::Null, value).written
}

/// What changed from one to the other.
pub(super) fn changes(shape: Shape, before: &Value, after: &Value) -> Changes {
    let mut changes = Changes::default();
    compare(shape, Some(before), Some(after), false, &mut Vec::new(), &mut changes);
    changes
}

fn by_step(parts: Vec<Part<'_>>) -> BTreeMap<String, (&Value, Shape)> {
    parts.into_iter().map(|(step, value, below)| (step, (value, below))).collect()
}

fn compare<'a>(
    shape: Shape,
    before: Option<&'a Value>,
    after: Option<&'a Value>,
    item: bool,
    path: &mut Path,
    changes: &mut Changes,
) {
    let there = |value: Option<&Value>| value.is_some_and(|value| !value.is_null());
    let (old, new) = (there(before), there(after));
    // What is made of fields, on the one side at least, and is nothing else on the other.
    let made = |value: Option<&Value>, there: bool| !there || value.is_some_and(|value| shape.parts(value).is_some());
    if (old || new) && made(before, old) && made(after, new) {
        match (old, new) {
            (false, true) if item => changes.written.insert(path.clone()),
            (true, false) if item => changes.removed.insert(path.clone()),
            _ => {}
        }
        let parts = |value: Option<&'a Value>| value.and_then(|value| shape.parts(value)).unwrap_or_default();
        let (old, new) = (by_step(parts(before)), by_step(parts(after)));
        let item = matches!(shape.form(), Form::Keyed(_));
        for step in old.keys().chain(new.keys().filter(|step| !old.contains_key(*step))) {
            let (was, is) = (old.get(step), new.get(step));
            let below = was.or(is).map_or(shape, |(_, below)| *below);
            path.push(step.clone());
            compare(below, was.map(|(value, _)| *value), is.map(|(value, _)| *value), item, path, changes);
            path.pop();
        }
        return;
    }
    match (old, new) {
        (_, true) if before != after => changes.written.insert(path.clone()),
        (true, false) => changes.removed.insert(path.clone()),
        _ => {}
    }
}

/// An object with the fields of a configuration on it.
pub(super) fn merge(shape: Shape, live: &Value, config: &Value) -> Value {
    match (shape.form(), live, config) {
        (Form::Fields, Value::Object(live), Value::Object(config)) => {
            let mut merged = live.clone();
            for (name, value) in config {
                let below = live.get(name).unwrap_or(&Value::Null);
                merged.insert(name.clone(), merge(shape.field(name), below, value));
            }
            merged.into()
        }
        (Form::Keyed(keys), Value::Array(live), Value::Array(config)) => {
            let below = shape.at(shape.word("items"));
            let mut merged = live.clone();
            let places = live.iter().enumerate().map(|(index, item)| (key(&keys, item), index));
            let places: BTreeMap<String, usize> = places.collect();
            for item in config {
                match places.get(&key(&keys, item)) {
                    Some(&index) => merged[index] = merge(below, &live[index], item),
                    None => merged.push(item.clone()),
                }
            }
            merged.into()
        }
        (Form::Set, Value::Array(live), Value::Array(config)) => {
            let there: BTreeSet<String> = live.iter().map(Value::to_string).collect();
            live.iter().chain(config.iter().filter(|item| !there.contains(&item.to_string()))).cloned().collect()
        }
        _ => config.clone(),
    }
}

/// Takes a field out of an object, if it is there.
pub(super) fn remove(shape: Shape, value: &mut Value, path: &[String]) {
    let Some((step, rest)) = path.split_first() else { return };
    match (shape.form(), value) {
        (Form::Fields, Value::Object(map)) => {
            let Some(name) = step.strip_prefix("f:") else { return };
            match map.get_mut(name) {
                Some(below) if !rest.is_empty() => remove(shape.field(name), below, rest),
                _ => drop(map.shift_remove(name)),
            }
        }
        (Form::Keyed(keys), Value::Array(items)) => {
            let Some(index) = items.iter().position(|item| key(&keys, item) == *step) else { return };
            if rest.is_empty() {
                items.remove(index);
            } else {
                remove(shape.at(shape.word("items")), &mut items[index], rest);
            }
        }
        (Form::Set, Value::Array(items)) => items.retain(|item| format!("v:{item}") != *step),
        _ => {}
    }
}
