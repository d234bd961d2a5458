//! From a file's text to a configuration, or to everything that is wrong with it.
//!
//! ```text
//! text ─► tree ─► known keys ─► each value by itself ─► all of them ─► rules ─► Config
//!           └────────┴───────────────┴────────────────────────────────┴─────► Problem: file, line, column, key, value
//! ```
//!
//! serde stops at the first error of a document. So each value is read by itself first, as a document of its own, and
//! what is wrong with one hides nothing of the others.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::error::{Fault, Faults, Problem, Problems};
use super::{Config, ConfigError, keys};
use crate::manifest::{self, LONGEST, hint, locate, plain};

/// The most problems that are told: whoever has more begins with these.
const MOST_PROBLEMS: usize = 50;

/// Reads a text; an empty one is all defaults.
pub(super) fn read(file: Option<&Path>, text: &str) -> Result<Config, ConfigError> {
    let mut reader =
        Reader { file, text, tree: Value::Null, good: Map::new(), wrong: Vec::new(), problems: Vec::new() };
    match reader.config() {
        Some(config) if reader.problems.is_empty() => Ok(config),
        _ => {
            reader.problems.sort_by_key(|problem| (problem.line, problem.column));
            reader.problems.truncate(MOST_PROBLEMS);
            Err(ConfigError::Wrong(Problems(reader.problems)))
        }
    }
}

/// What is wrong with a configuration that stands in no file.
pub(super) fn check(config: &Config) -> Result<(), ConfigError> {
    let mut faults = Faults::default();
    config.faults(&mut faults);
    let tree = manifest::json(config);
    let problem = |Fault { key, message, .. }: Fault| {
        let value = at(&tree, key).map(say);
        Problem { key: key.into(), value, ..Problem::whole(None, message) }
    };
    let problems: Vec<Problem> = faults.0.into_iter().map(problem).collect();
    if problems.is_empty() { Ok(()) } else { Err(ConfigError::Wrong(Problems(problems))) }
}

struct Reader<'a> {
    file: Option<&'a Path>,
    text: &'a str,
    /// What was written.
    tree: Value,
    /// What of it can be read.
    good: Map<String, Value>,
    /// The keys of what cannot.
    wrong: Vec<String>,
    problems: Vec<Problem>,
}

impl Reader<'_> {
    fn config(&mut self) -> Option<Config> {
        match manifest::value(self.text.as_bytes()) {
            Ok(tree) => self.tree = tree,
            Err(error) => {
                let (message, line, column) = apart(&error);
                self.problems.push(Problem { line, column, ..Problem::whole(self.file, message) });
                return None;
            }
        }
        match self.tree.clone() {
            Value::Null => {}
            Value::Object(map) => {
                let known = manifest::json(&Config::default());
                self.map(&map, &known, &[]);
            }
            other => {
                let message = format!(
                    "it is {}: write sections with keys, as 'anweddol config init' shows",
                    manifest::say(&other)
                );
                self.problems.push(Problem { line: 1, ..Problem::whole(self.file, message) });
                return None;
            }
        }
        // Each of its values was read already; should they not go together all the same, that is said.
        let config: Config = match serde_json::from_value(Value::Object(std::mem::take(&mut self.good))) {
            Ok(config) => config,
            Err(error) => {
                self.problems.push(Problem::whole(self.file, error.to_string()));
                return None;
            }
        };
        let mut faults = Faults::default();
        config.faults(&mut faults);
        let tree = manifest::json(&config);
        faults.0.into_iter().for_each(|fault| self.fault(&tree, fault));
        Some(config)
    }

    /// A section, or the whole file.
    fn map(&mut self, map: &Map<String, Value>, known: &Value, path: &[&str]) {
        for (name, value) in map {
            let path: Vec<&str> = path.iter().copied().chain([name.as_str()]).collect();
            let key = path.join(".");
            match (known.get(name), value) {
                (None, _) => self.unknown(&path, known),
                (Some(inside @ Value::Object(_)), value) if keys::find(&key).is_none() => match value {
                    // All of its keys are left out, or comments.
                    Value::Null => {}
                    Value::Object(map) => self.map(map, inside, &path),
                    other => self.problem(&path, Some(other), "it is a section: write its keys below it, indented"),
                },
                (Some(_), value) => self.value(&path, value),
            }
        }
    }

    /// Reads one value by itself.
    fn value(&mut self, path: &[&str], value: &Value) {
        let alone = path.iter().rev().fold(value.clone(), |inside, name| json!({ *name: inside }));
        // YAML's reader says where within the value; it takes what is left empty for a text, and the other one does not.
        let said = serde_yaml::from_str::<Config>(&manifest::yaml(&alone))
            .map_err(|error| apart(&error).0)
            .and_then(|_| serde_json::from_value::<Config>(alone).map_err(|error| format!("within it, {error}")));
        match said {
            Ok(_) => put(&mut self.good, path, value),
            Err(said) => {
                let key = path.join(".");
                let right = keys::find(&key).map_or("another value", |key| key.value);
                // A value within the key's is named with its own path.
                let (inner, said) = match said.split_once(": ") {
                    Some((field, said)) if field == key => (String::new(), said.to_owned()),
                    Some((field, said)) if field.starts_with(&key) => {
                        (format!("in {}: ", field[key.len()..].trim_start_matches('.')), said.to_owned())
                    }
                    _ => (String::new(), said),
                };
                let own = said.contains("write ");
                let message = match said.starts_with("invalid type") && inner.is_empty() {
                    true => format!("write {right}"),
                    false if own => format!("{inner}{said}"),
                    false => format!("{inner}{said}; write {right}"),
                };
                self.problem(path, Some(value), &message);
            }
        }
    }

    fn unknown(&mut self, path: &[&str], known: &Value) {
        let (name, place) = (path[path.len() - 1], path[..path.len() - 1].join("."));
        let names: Vec<&str> = known.as_object().into_iter().flatten().map(|(name, _)| name.as_str()).collect();
        let near = hint::nearest(name, names.iter().copied()).map(|near| format!("did you mean {near}?"));
        let message = match (keys::find(name), near, elsewhere(name)) {
            (Some(_), _, _) if name.contains('.') => {
                let (section, key) = name.split_once('.').unwrap_or_default();
                format!("there is no such key: write '{section}:' and below it, indented, '{key}:'")
            }
            (_, Some(hint), _) => format!("there is no such key; {hint}"),
            (_, None, Some(key)) => format!("there is no such key here; did you mean {key}?"),
            (_, None, None) if place.is_empty() => format!("there is no such key; there are {}", names.join(", ")),
            (_, None, None) => format!("there is no such key; {place} has {}", names.join(", ")),
        };
        self.problem(path, None, &message);
    }

    fn problem(&mut self, path: &[&str], value: Option<&Value>, message: &str) {
        let (line, column) = locate::place(self.text, 1, path).unwrap_or_default();
        let (key, message) = (path.join("."), plain(message));
        self.problems.push(Problem {
            line,
            column,
            key: plain(&key),
            value: value.map(say),
            ..Problem::whole(self.file, message)
        });
        self.wrong.push(key);
    }

    /// A rule that is broken; where the key is not written, its default is told, and where the other one stands.
    fn fault(&mut self, tree: &Value, Fault { key, with, message }: Fault) {
        // What was guessed in place of a value that could not be read breaks no rule.
        if self.wrong.iter().any(|wrong| wrong == key || Some(wrong.as_str()) == with) {
            return;
        }
        let place = |key: &str| locate::place(self.text, 1, &key.split('.').collect::<Vec<_>>());
        let (line, column) = place(key).or_else(|| with.and_then(place)).unwrap_or_default();
        let value = match (at(&self.tree, key), at(tree, key)) {
            (Some(written), _) => Some(say(written)),
            (None, value) => value.map(|value| format!("{} by default", say(value))),
        };
        self.problems.push(Problem { line, column, key: key.into(), value, ..Problem::whole(self.file, message) });
    }
}

/// A key of another section with this name, or nearly.
fn elsewhere(name: &str) -> Option<&'static str> {
    let last = |key: &keys::Key| key.name.rsplit('.').next().unwrap_or_default();
    let meant = hint::nearest(name, keys::KEYS.iter().map(last))?;
    keys::KEYS.iter().find(|key| last(key) == meant).map(|key| key.name)
}

/// The value of a key.
pub(super) fn at<'a>(tree: &'a Value, key: &str) -> Option<&'a Value> {
    key.split('.').try_fold(tree, |tree, name| tree.get(name))
}

fn put(tree: &mut Map<String, Value>, path: &[&str], value: &Value) {
    if let [name] = path {
        tree.insert((*name).into(), value.clone());
    } else if let [name, rest @ ..] = path
        && let Value::Object(inside) = tree.entry(*name).or_insert_with(|| json!({}))
    {
        put(inside, rest, value);
    }
}

/// A value in a message: short, and as it is written in the file.
pub(super) fn say(value: &Value) -> String {
    match value {
        Value::Null => "null".into(),
        Value::Array(list) if list.is_empty() => "[]".into(),
        Value::Array(_) | Value::Object(_) => {
            let text = value.to_string();
            if text.chars().count() <= LONGEST { plain(&text) } else { manifest::say(value) }
        }
        other => manifest::say(other),
    }
}

/// The parser's own words without the place, and the place.
pub(super) fn apart(error: &serde_yaml::Error) -> (String, usize, usize) {
    let mut text = error.to_string();
    let Some(place) = error.location() else { return (text, 0, 0) };
    let (line, column) = (place.line(), place.column());
    let told = format!(" at line {line} column {column}");
    text.truncate(text.strip_suffix(&told).unwrap_or(&text).len());
    (text, line, column)
}
