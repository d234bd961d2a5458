//! From a file's bytes to its manifests and its problems.

use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::Value;
use serde_yaml::Deserializer;

use super::forms::{ContainerForm, Form, MetadataForm};
use super::tree::{Room, open_brackets};
use super::{Fault, Located, MAX_PROBLEMS, Manifest, Place, Problem, RESERVED, Spec, hint, locate, rules, schema};
use crate::model::{API_VERSION, ClaimSpec, Kind, ObjectRef, PoolSpec, valid_name};

/// The longest file that is read, in bytes.
pub const MAX_SIZE: usize = 1 << 20;
/// The most documents in one file.
pub const MAX_DOCUMENTS: usize = 1000;

/// The longest value that is repeated, in characters.
pub(crate) const LONGEST: usize = 60;

/// What a file holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Read {
    /// Its good documents.
    pub manifests: Vec<Located>,
    /// What is wrong with the others.
    pub problems: Vec<Problem>,
}

/// Reads a file's bytes. It never panics, whatever they are (`any_bytes_are_read_or_refused_and_never_panic`).
pub fn read(file: &str, bytes: &[u8]) -> Read {
    let mut reader = Reader { file, text: "", lines: true, read: Read::default() };
    if bytes.len() > MAX_SIZE {
        reader.whole(0, format!("it is longer than {MAX_SIZE} bytes: split it"));
        return reader.read;
    }
    match std::str::from_utf8(bytes) {
        Ok(text) => reader.text = text,
        Err(error) => {
            let line = bytes[..error.valid_up_to()].iter().filter(|&&byte| byte == b'\n').count() + 1;
            reader.whole(line, "it is not UTF-8 text: save it as such".into());
            return reader.read;
        }
    }
    match open_brackets::<serde_yaml::Error>(reader.text) {
        Ok(()) => reader.documents(),
        Err(error) => reader.whole(0, error.to_string()),
    }
    let mut read = reader.read;
    read.problems.extend(super::duplicates(&read.manifests));
    read
}

/// Reads a document that is a value already, as the API gets it: one manifest of this kind, or what is wrong with it.
pub fn of_value(kind: Kind, document: &Value) -> Result<Manifest, Vec<Fault>> {
    let faults = schema::faults(kind, document);
    if !faults.is_empty() {
        return Err(faults);
    }
    // JSON is YAML: what the types and the rules say, with the field it is about, is said by the one reader there is. What
    // nobody writes in a manifest may be anything, as long and as deep as it likes: it is not read.
    let mut document = document.clone();
    document.as_object_mut().map(|fields| fields.shift_remove("status"));
    document["metadata"].as_object_mut().map(|meta| meta.shift_remove("managedFields"));
    let text = yaml(&document);
    // Nobody sees its lines, and each costs reading it again.
    let mut reader = Reader { file: "the object", text: &text, lines: false, read: Read::default() };
    reader.documents();
    let Read { mut manifests, problems } = reader.read;
    match manifests.pop() {
        Some(located) if problems.is_empty() => Ok(located.manifest),
        _ => Err(problems.into_iter().map(|problem| Fault::new(problem.field, problem.message)).collect()),
    }
}

/// JSON that YAML takes: of what stands in texts it wants a few characters escaped that JSON does not.
pub(crate) fn yaml(document: &Value) -> String {
    let (json, mut text) = (document.to_string(), String::new());
    text.reserve(json.len());
    for c in json.chars() {
        match c {
            '\u{7f}'..='\u{9f}' | '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}' => {
                text.push_str(&format!("\\u{:04x}", u32::from(c)));
            }
            c => text.push(c),
        }
    }
    text
}

struct Reader<'a> {
    file: &'a str,
    text: &'a str,
    /// Whether it is told on which line a fault is.
    lines: bool,
    read: Read,
}

impl Reader<'_> {
    fn documents(&mut self) {
        // The same documents three times: as a tree, as their type, and for where they begin.
        let (mut typed, mut begins) = (Deserializer::from_str(self.text), Deserializer::from_str(self.text));
        let room = Room::of(self.text);
        for (index, document) in Deserializer::from_str(self.text).enumerate() {
            let (number, Some(typed), Some(begin)) = (index + 1, typed.next(), begins.next()) else { return };
            if number > MAX_DOCUMENTS {
                self.whole(0, format!("it has more than {MAX_DOCUMENTS} documents: split it"));
                return;
            }
            match room.read(document) {
                Ok(Value::Null) => {}
                Ok(tree) => self.document(number, &tree, typed, begin),
                Err(error) => {
                    self.unreadable(number, None, &error);
                    // After what is not YAML the parser finds no further document.
                    if IgnoredAny::deserialize(typed).is_err() {
                        return;
                    }
                }
            }
            if self.read.problems.len() >= MAX_PROBLEMS {
                self.whole(0, format!("only its first {MAX_PROBLEMS} problems are told"));
                return;
            }
        }
    }

    fn document(&mut self, number: usize, tree: &Value, typed: Deserializer<'_>, begin: Deserializer<'_>) {
        let kind = match self.kind(tree) {
            Ok(kind) => kind,
            Err(faults) => return self.faults(number, None, faults),
        };
        let object = object(kind, tree);
        let mut faults = schema::faults(kind, tree);
        if !faults.is_empty() {
            // What follows from one error is no second one: the first of a field is told.
            faults.dedup_by(|b, a| a.field == b.field);
            return self.faults(number, object, faults);
        }
        let read = match kind {
            Kind::ContainerPool => parse(typed).map(|(meta, spec): (_, PoolSpec)| (meta, Spec::Pool(spec))),
            Kind::Container => {
                parse(typed).map(|(meta, spec): (_, ContainerForm)| (meta, Spec::Container(spec.template)))
            }
            Kind::ContainerClaim => parse(typed).map(|(meta, spec): (_, ClaimSpec)| (meta, Spec::Claim(spec))),
        };
        let (metadata, spec) = match read {
            Ok(read) => read,
            Err(error) => return self.unreadable(number, object, &error),
        };
        let mut faults = check_metadata(&metadata);
        faults.extend(rules::check(&spec));
        if !faults.is_empty() {
            return self.faults(number, object, faults);
        }
        let MetadataForm { name, namespace, mut labels, mut annotations, resource_version, .. } = metadata;
        let MetadataForm { finalizers, owner_references, .. } = metadata;
        labels.retain(|key, _| !key.starts_with(RESERVED));
        annotations.retain(|key, _| !key.starts_with(RESERVED));
        let manifest =
            Manifest { name, namespace, labels, annotations, finalizers, owner_references, resource_version, spec };
        let place = Place { file: self.file.into(), document: number, line: locate::start(begin) };
        self.read.manifests.push(Located { manifest, place });
    }

    fn kind(&self, tree: &Value) -> Result<Kind, Vec<Fault>> {
        let Value::Object(document) = tree else {
            let what = "it is no manifest: write a map with apiVersion, kind, metadata and spec";
            return Err(vec![Fault::new("", what)]);
        };
        let mut faults = Vec::new();
        match document.get("apiVersion") {
            Some(Value::String(version)) if version == API_VERSION => {}
            Some(other) => {
                faults.push(Fault::new("apiVersion", format!("{} is not known: write {API_VERSION}", say(other))))
            }
            None => faults.push(Fault::new("apiVersion", format!("it is missing: write apiVersion: {API_VERSION}"))),
        }
        let names = || Kind::ALL.map(|kind| kind.to_string());
        let kind = match document.get("kind") {
            Some(Value::String(name)) => {
                let kind = Kind::ALL.into_iter().find(|kind| kind.to_string() == *name);
                if kind.is_none() {
                    let names = names();
                    let meant = hint::nearest(name, names.iter().map(String::as_str));
                    let hint = meant.map_or(String::new(), |meant| format!("; did you mean {meant}?"));
                    let known = names.join(", ");
                    faults.push(Fault::new("kind", format!("'{name}' is not known: write one of {known}{hint}")));
                }
                kind
            }
            Some(other) => {
                let known = names().join(", ");
                faults.push(Fault::new("kind", format!("{} is no kind: write one of {known}", say(other))));
                None
            }
            None => {
                faults.push(Fault::new("kind", format!("it is missing: write one of {}", names().join(", "))));
                None
            }
        };
        match kind {
            Some(kind) if faults.is_empty() => Ok(kind),
            _ => Err(faults),
        }
    }

    fn faults(&mut self, document: usize, object: Option<ObjectRef>, faults: Vec<Fault>) {
        for Fault { field, message, .. } in faults {
            if self.read.problems.len() >= MAX_PROBLEMS {
                return;
            }
            let line = if self.lines { locate::line(self.text, document, &field) } else { 0 };
            let place = Place { file: self.file.into(), document, line };
            self.read.problems.push(Problem { place, object: object.clone(), field, message });
        }
    }

    /// What the parser itself says names field and line in its text; here they are taken apart.
    fn unreadable(&mut self, document: usize, object: Option<ObjectRef>, error: &serde_yaml::Error) {
        let (mut text, mut line) = (error.to_string(), 0);
        if let Some(location) = error.location() {
            line = location.line();
            let told = format!(" at line {line} column {}", location.column());
            text.truncate(text.strip_suffix(&told).unwrap_or(&text).len());
        }
        let path = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '[' | ']' | '_' | '-' | '/');
        let (field, message) = match text.split_once(": ") {
            Some((field, message)) if !field.is_empty() && field.chars().all(path) => (field.into(), message.into()),
            _ => (String::new(), text),
        };
        let place = Place { file: self.file.into(), document, line };
        self.read.problems.push(Problem { place, object, field, message });
    }

    fn whole(&mut self, line: usize, message: String) {
        let place = Place { file: self.file.into(), document: 0, line };
        self.read.problems.push(Problem { place, object: None, field: String::new(), message });
    }
}

fn parse<S: DeserializeOwned>(document: Deserializer<'_>) -> Result<(MetadataForm, S), serde_yaml::Error> {
    let Form { metadata, spec, .. } = Form::<S>::deserialize(document)?;
    Ok((metadata, spec))
}

/// The object that a document is about, as far as it says.
fn object(kind: Kind, tree: &Value) -> Option<ObjectRef> {
    let name = tree.pointer("/metadata/name")?.as_str()?;
    let namespace = tree.pointer("/metadata/namespace").and_then(Value::as_str);
    let namespace = namespace.unwrap_or(crate::model::DEFAULT_NAMESPACE).to_owned();
    let object = ObjectRef { kind, namespace, name: name.into() };
    // What is no name is not repeated as one.
    (valid_name(&object.name).is_ok() && valid_name(&object.namespace).is_ok()).then_some(object)
}

/// What somebody wrote, on one line (YAML ends one with more than a line feed), without what a terminal would obey, and not all
/// of it if it is long.
pub(crate) fn plain(text: &str) -> String {
    let mut plain = String::new();
    for c in text.chars() {
        if plain.len() > 4 * LONGEST {
            return plain + "…";
        }
        if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') {
            plain.extend(c.escape_debug())
        } else {
            plain.push(c)
        }
    }
    plain
}

/// A value in a message.
pub(crate) fn say(value: &Value) -> String {
    match value {
        Value::Null => "nothing".into(),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::String(text) if text.chars().count() > LONGEST => "a long text".into(),
        Value::String(text) => format!("'{}'", plain(text)),
        Value::Array(_) => "a list".into(),
        Value::Object(_) => "a map".into(),
    }
}

fn check_metadata(metadata: &MetadataForm) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (field, name) in [("metadata.name", &metadata.name), ("metadata.namespace", &metadata.namespace)] {
        if let Err(error) = valid_name(name) {
            faults.push(Fault::new(field, error.to_string()));
        }
    }
    faults.extend(rules::labels(&metadata.labels));
    faults.extend(rules::annotations(&metadata.annotations));
    faults.extend(rules::finalizers(&metadata.finalizers));
    faults.extend(rules::owner_references(&metadata.owner_references));
    faults
}

/// A text with one document as a value, whatever it is of.
pub fn value(bytes: &[u8]) -> Result<Value, serde_yaml::Error> {
    use serde::de::Error;
    let text = std::str::from_utf8(bytes).map_err(|_| serde_yaml::Error::custom("it is not UTF-8 text"))?;
    open_brackets::<serde_yaml::Error>(text)?;
    Room::of(text).read(Deserializer::from_str(text))
}
