//! Objects in the form that was asked for: as they are, as rows of a table, or their metadata alone. Pure.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::negotiate::Form;
use super::query::Include;
use super::target::Resource;
use crate::api::events::Face;
use crate::manifest::columns::{Column, cells, columns};
use crate::manifest::time::age;

/// How objects of a resource are told.
#[derive(Clone, Copy, Debug)]
pub(super) struct Telling {
    /// Of what.
    pub(super) resource: Resource,
    /// In which form.
    pub(super) form: Form,
    /// What of an object stands in a row.
    pub(super) include: Include,
}

const NAME: Column = Column { title: "Name", kind: "string", wide: false, path: ".metadata.name" };
const AGE: Column = Column { title: "Age", kind: "date", wide: false, path: ".metadata.creationTimestamp" };

const fn of(title: &'static str, path: &'static str) -> Column {
    Column { title, kind: "string", wide: false, path }
}

const NAMESPACE: &[Column] = &[NAME, of("Status", ".status.phase"), AGE];
const LEASE: &[Column] = &[NAME, of("Holder", ".spec.holderIdentity"), AGE];
const SECRET: &[Column] = &[NAME, of("Type", ".type"), AGE];
const EVENT: &[Column] = &[
    Column { title: "Last Seen", kind: "date", wide: false, path: ".lastTimestamp" },
    of("Type", ".type"),
    of("Reason", ".reason"),
    of("Object", ".involvedObject"),
    of("Message", ".message"),
];
const PLAIN: &[Column] = &[NAME, AGE];

fn heads(resource: Resource) -> &'static [Column] {
    use crate::api::plain::PlainKind;
    match resource {
        Resource::Ours(kind) => columns(kind),
        Resource::Plain(PlainKind::Namespace) => NAMESPACE,
        Resource::Plain(PlainKind::Lease) => LEASE,
        Resource::Plain(PlainKind::Secret) => SECRET,
        Resource::Plain(PlainKind::Event) | Resource::Events(_) | Resource::Log => EVENT,
        Resource::Review(_) | Resource::Tokens | Resource::AccessTokens => PLAIN,
    }
}

fn row(resource: Resource, object: &Value, now: Timestamp) -> Vec<Value> {
    if let Resource::Ours(kind) = resource {
        return cells(kind, object, now);
    }
    let at = |path: &str| path.split('.').skip(1).fold(object, |value, name| &value[name]);
    let about = if resource == Resource::Events(Face::Events) { "regarding" } else { "involvedObject" };
    let cell = |column: &Column| match column.path {
        ".lastTimestamp" if object["lastTimestamp"].is_null() => Value::from(age(&object["eventTime"], now)),
        ".message" if object["message"].is_null() => object["note"].clone(),
        ".involvedObject" => {
            let word = |name: &str| object[about][name].as_str().unwrap_or_default();
            format!("{}/{}", word("kind").to_lowercase(), word("name")).into()
        }
        path if column.kind == "date" => age(at(path), now).into(),
        path => at(path).as_str().unwrap_or_default().into(),
    };
    heads(resource).iter().map(cell).collect()
}

impl Telling {
    /// One object.
    pub(super) fn one(&self, object: Value, now: Timestamp) -> Value {
        match self.form {
            Form::Whole | Form::Discovery(_) => object,
            Form::Metadata => metadata(object),
            Form::Table(_) => self.line(object, true, now),
        }
    }

    /// A list of objects as of a revision, without them.
    pub(super) fn list(&self, revision: u64) -> List {
        let version = Value::from(revision.to_string());
        let head = |kind: &str, version_of: &str| json!({ "kind": kind, "apiVersion": version_of, "metadata": { "resourceVersion": version }, "items": [] });
        List::of(&match self.form {
            Form::Whole | Form::Discovery(_) => {
                head(&format!("{}List", self.resource.kind()), &self.resource.api_version())
            }
            Form::Metadata => head("PartialObjectMetadataList", "meta.k8s.io/v1"),
            Form::Table(api_version) => self.table(api_version, version, true, vec![]),
        })
    }

    /// An object in a list.
    pub(super) fn item(&self, object: Value, now: Timestamp) -> Value {
        match self.form {
            Form::Whole | Form::Discovery(_) => object,
            Form::Metadata => metadata(object),
            Form::Table(_) => self.row(object, now),
        }
    }

    /// An object in a line of a watch; the first of a table names the columns.
    pub(super) fn line(&self, object: Value, first: bool, now: Timestamp) -> Value {
        match self.form {
            Form::Whole | Form::Discovery(_) | Form::Metadata => self.one(object, now),
            Form::Table(api_version) => {
                let version = object["metadata"]["resourceVersion"].clone();
                self.table(api_version, version, first, vec![self.row(object, now)])
            }
        }
    }

    /// What says that everything that was there has been told.
    pub(super) fn bookmark(&self, revision: u64) -> Value {
        let annotations = json!({ "k8s.io/initial-events-end": "true" });
        let meta =
            json!({ "resourceVersion": revision.to_string(), "annotations": annotations, "creationTimestamp": null });
        let partial = ("PartialObjectMetadata", "meta.k8s.io/v1".to_owned());
        let (kind, version) = match self.form {
            Form::Whole | Form::Discovery(_) => (&*self.resource.kind(), self.resource.api_version()),
            Form::Metadata | Form::Table(_) => partial,
        };
        let object = json!({ "kind": kind, "apiVersion": version, "metadata": meta });
        match self.form {
            Form::Whole | Form::Discovery(_) | Form::Metadata => object,
            Form::Table(version) => json!({
                "kind": "Table", "apiVersion": version, "metadata": { "resourceVersion": revision.to_string() },
                "columnDefinitions": null, "rows": [{ "cells": [], "object": object }],
            }),
        }
    }

    fn row(&self, object: Value, now: Timestamp) -> Value {
        let mut made = json!({ "cells": row(self.resource, &object, now) });
        match self.include {
            Include::None => {}
            Include::Metadata => made["object"] = metadata(object),
            Include::Object => made["object"] = object,
        }
        made
    }

    fn table(&self, api_version: &str, version: Value, named: bool, rows: Vec<Value>) -> Value {
        let column = |column: &Column| {
            json!({
                "name": column.title,
                "type": column.kind,
                "format": if column.path == ".metadata.name" { "name" } else { "" },
                "description": format!("{} of the object", column.path),
                "priority": u8::from(column.wide),
            })
        };
        let columns: Value = match named {
            true => heads(self.resource).iter().map(column).collect(),
            false => Value::Null,
        };
        json!({
            "kind": "Table",
            "apiVersion": api_version,
            "metadata": { "resourceVersion": version },
            "columnDefinitions": columns,
            "rows": rows,
        })
    }
}

/// The text of a list, which objects are added to one by one: all of them at once would take ten times as much memory.
pub(super) struct List {
    text: Vec<u8>,
    objects: usize,
}

impl List {
    /// Of what stands around the objects: their own list is empty, and comes last.
    fn of(around: &Value) -> List {
        let mut text = around.to_string().into_bytes();
        debug_assert!(text.ends_with(END), "{around}");
        text.truncate(text.len() - END.len());
        List { text, objects: 0 }
    }

    pub(super) fn add(&mut self, object: &Value) {
        if self.objects > 0 {
            self.text.push(b',');
        }
        self.objects += 1;
        serde_json::to_writer(&mut self.text, object).expect("a value serialises");
    }

    pub(super) fn end(mut self) -> Vec<u8> {
        self.text.extend(END);
        self.text
    }
}

/// Of a list's text.
const END: &[u8] = b"]}";

fn metadata(mut object: Value) -> Value {
    let mut partial = json!({ "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1" });
    partial["metadata"] = object["metadata"].take();
    partial
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Kind;

    fn telling(form: Form) -> Telling {
        Telling { resource: Resource::Ours(Kind::ContainerPool), form, include: Include::Metadata }
    }

    fn pool(name: &str) -> Value {
        json!({
            "kind": "ContainerPool", "apiVersion": "anweddol.io/v1alpha1",
            "metadata": { "name": name, "resourceVersion": "7" }, "spec": { "replicas": 2 },
        })
    }

    #[test]
    fn a_table_has_columns_rows_and_the_metadata_of_each() {
        let now = Timestamp::from_second(100).unwrap();
        let telling_rows = telling(Form::Table("meta.k8s.io/v1"));
        let mut list = telling_rows.list(9);
        [pool("a"), pool("b")].into_iter().for_each(|pool| list.add(&telling_rows.item(pool, now)));
        let table: Value = serde_json::from_slice(&list.end()).unwrap();
        assert_eq!((&table["kind"], &table["metadata"]["resourceVersion"]), (&json!("Table"), &json!("9")));
        let (columns, rows) = (table["columnDefinitions"].as_array().unwrap(), table["rows"].as_array().unwrap());
        assert_eq!((&columns[0]["format"], &columns[1]["name"], rows.len()), (&json!("name"), &json!("Ready"), 2));
        assert_eq!(rows[1]["cells"].as_array().unwrap().len(), columns.len());
        assert_eq!(rows[1]["object"], metadata(pool("b")));
        for resource in Resource::published() {
            let telling = Telling { resource, form: Form::Table("meta.k8s.io/v1"), include: Include::None };
            let table = telling.one(json!({}), now);
            assert_eq!(table["rows"][0]["cells"].as_array().unwrap().len(), heads(resource).len(), "{resource:?}");
        }
    }

    #[test]
    fn in_a_watch_only_the_first_table_names_the_columns() {
        let now = Timestamp::from_second(100).unwrap();
        let telling = telling(Form::Table("meta.k8s.io/v1"));
        assert!(telling.line(pool("a"), true, now)["columnDefinitions"].is_array());
        assert!(telling.line(pool("a"), false, now)["columnDefinitions"].is_null());
    }

    #[test]
    fn the_end_of_what_was_there_is_told_in_every_form() {
        let annotation = "/metadata/annotations/k8s.io~1initial-events-end";
        for (form, kind, at) in [
            (Form::Whole, "ContainerPool", ""),
            (Form::Metadata, "PartialObjectMetadata", ""),
            (Form::Table("meta.k8s.io/v1"), "Table", "/rows/0/object"),
        ] {
            let mark = telling(form).bookmark(12);
            assert_eq!((&mark["kind"], &mark["metadata"]["resourceVersion"]), (&json!(kind), &json!("12")));
            assert_eq!(mark.pointer(&format!("{at}{annotation}")), Some(&json!("true")), "{mark}");
        }
    }
}
