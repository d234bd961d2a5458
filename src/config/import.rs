//! The configuration file of the Python server, converted. Pure.
//!
//! Its keys and what becomes of each are in `old`. Nothing is passed over: of every key it is told whether it was taken
//! over, what stands for it, or why nothing does. What would be no configuration of ours is an error that names the old
//! file's line.

pub(super) mod old;

use std::fmt::Write;
use std::path::Path;

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::error::{Problem, Problems};
use super::keys::KEYS;
use super::{Config, ConfigError, text};
use crate::manifest::{self, hint, locate};
use old::{Became, Old, ROWS};

/// A converted file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Import {
    /// Our file: what differs from the defaults, each with where it comes from.
    pub config: String,
    /// What became of each key, in the order of the old file.
    pub keys: Vec<Note>,
}

/// What became of one old key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Note {
    /// Which, as `container.container_memory`.
    pub key: String,
    /// On which line of the old file it stands.
    pub line: usize,
    /// Its value; absent for passwords.
    pub value: Option<String>,
    /// What became of it.
    pub outcome: Outcome,
    /// Our key that stands for it.
    #[serde(rename = "as")]
    pub new: Option<&'static str>,
    /// The value of that.
    pub to: Option<String>,
    /// Why.
    pub why: String,
}

/// What became of an old key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It is taken over.
    Taken,
    /// It is written as a comment: somebody has to choose.
    Offered,
    /// It is what happens here without being written.
    Default,
    /// Nothing stands for it.
    None,
    /// The Python server had no such key either, and ignored it.
    Unknown,
}

impl Note {
    /// For people; it follows the file's name and the line.
    pub fn text(&self) -> String {
        let why = if self.why.is_empty() { String::new() } else { format!(" ({})", self.why) };
        let value = self.value.as_ref().map(|value| format!(": {value}")).unwrap_or_default();
        let became = format!("{}: {}", self.new.unwrap_or_default(), self.to.as_deref().unwrap_or_default());
        let said = match self.outcome {
            Outcome::Taken => format!("taken over as {became}{why}"),
            Outcome::Offered => format!("written as a comment, {became}{why}"),
            Outcome::Default => format!("is the default here{why}"),
            Outcome::None => format!("has no counterpart: {}", self.why),
            Outcome::Unknown => format!("left out{why}"),
        };
        format!("{}{value} -> {said}", self.key)
    }
}

/// Reads and converts a file.
pub fn read(path: &Path) -> Result<Import, ConfigError> {
    import(Some(path), &super::source(path)?)
}

/// Converts a text, which stands in this file.
pub fn import(file: Option<&Path>, text: &str) -> Result<Import, ConfigError> {
    let fail = |problem| Err(ConfigError::Wrong(Problems(vec![problem])));
    let tree = match manifest::value(text.as_bytes()) {
        Ok(tree) => tree,
        Err(error) => {
            let (message, line, column) = text::apart(&error);
            return fail(Problem { line, column, ..Problem::whole(file, message) });
        }
    };
    let mut reader =
        Reader { file, text, old: Old(&tree), written: Vec::new(), notes: Vec::new(), problems: Vec::new() };
    for (section, inside) in tree.as_object().into_iter().flatten() {
        reader.section(section, inside);
    }
    if reader.notes.iter().all(|note| note.outcome == Outcome::Unknown) && reader.problems.is_empty() {
        let mut sections: Vec<&str> = ROWS.iter().filter_map(|(key, _)| key.split('.').next()).collect();
        sections.dedup();
        let message = format!(
            "it is no configuration of the Python server, which has keys below {}; \
             a file of this server's own needs no import",
            sections.join(", ")
        );
        return fail(Problem::whole(file, message));
    }
    reader.finish()
}

struct Reader<'a> {
    file: Option<&'a Path>,
    text: &'a str,
    old: Old<'a>,
    /// Our keys, their values, and the index of each note that they come from.
    written: Vec<(&'static str, Value, Vec<usize>)>,
    notes: Vec<Note>,
    problems: Vec<Problem>,
}

impl Reader<'_> {
    fn section(&mut self, section: &str, inside: &Value) {
        let known = ROWS.iter().any(|(key, _)| key.split('.').next() == Some(section));
        match inside {
            Value::Null if known => {}
            Value::Object(map) if known => map.iter().for_each(|(name, value)| self.key(section, name, value)),
            other if known => self.wrong(&[section], other, "it is a section: its keys stand below it, indented"),
            other => {
                let sections = ROWS.iter().filter_map(|(key, _)| key.split('.').next());
                self.unknown(&[section], other, hint::nearest(section, sections));
            }
        }
    }

    fn key(&mut self, section: &str, name: &str, value: &Value) {
        let key = format!("{section}.{name}");
        let Some((_, convert)) = ROWS.iter().find(|(row, _)| *row == key) else {
            let below = ROWS.iter().filter_map(|(row, _)| row.strip_prefix(section)?.strip_prefix('.'));
            return self.unknown(&[section, name], value, hint::nearest(name, below));
        };
        let (outcome, new, to, why) = match convert(&self.old, value) {
            Became::As(new, to, why) => {
                let defaults = manifest::json(&Config::default());
                let same = text::at(&defaults, new) == Some(&to);
                if same {
                    (Outcome::Default, Some(new), Some(to), why)
                } else {
                    let at = self.notes.len();
                    match self.written.iter_mut().find(|(there, ..)| *there == new) {
                        Some((.., from)) => from.push(at),
                        None => self.written.push((new, to.clone(), vec![at])),
                    }
                    (Outcome::Taken, Some(new), Some(to), why)
                }
            }
            Became::Offered(new, to, why) => (Outcome::Offered, Some(new), Some(to), why),
            Became::Default(why) => (Outcome::Default, None, None, why),
            Became::Gone(why) => (Outcome::None, None, None, why),
            Became::Wrong(right) => return self.wrong(&[section, name], value, &format!("write {right}")),
        };
        self.note(&[section, name], value, Note { outcome, new, to: to.as_ref().map(inline), why, ..blank() });
    }

    fn unknown(&mut self, path: &[&str], value: &Value, near: Option<&str>) {
        let near = near.map_or(String::new(), |near| format!("; did you mean {near}?"));
        let why = format!("the Python server has no such key, and ignored it{near}");
        self.note(path, value, Note { outcome: Outcome::Unknown, why, ..blank() });
    }

    fn note(&mut self, path: &[&str], value: &Value, note: Note) {
        let line = self.place(path).0;
        let key = manifest::plain(&path.join("."));
        let value = (!key.contains("password")).then(|| text::say(value));
        self.notes.push(Note { key, line, value, ..note });
    }

    fn wrong(&mut self, path: &[&str], value: &Value, message: &str) {
        let (line, column) = self.place(path);
        let (key, value) = (manifest::plain(&path.join(".")), Some(text::say(value)));
        self.problems.push(Problem { line, column, key, value, ..Problem::whole(self.file, message) });
    }

    fn place(&self, path: &[&str]) -> (usize, usize) {
        locate::place(self.text, 1, path).unwrap_or_default()
    }

    fn finish(mut self) -> Result<Import, ConfigError> {
        let config = self.config();
        if self.problems.is_empty()
            && let Err(error) = Config::parse(&config)
        {
            error.problems().iter().for_each(|problem| self.refused(problem));
        }
        if self.problems.is_empty() {
            return Ok(Import { config, keys: self.notes });
        }
        Err(ConfigError::Wrong(Problems(self.problems)))
    }

    /// What became of an old value could not be: told where that stands.
    fn refused(&mut self, problem: &Problem) {
        let from = self.written.iter().find(|(new, ..)| *new == problem.key).and_then(|(.., from)| from.first());
        let would =
            format!("{} would be {}: {}", problem.key, problem.value.as_deref().unwrap_or("?"), problem.message);
        let problem = match from.map(|at| &self.notes[*at]) {
            Some(note) => {
                let path: Vec<&str> = note.key.split('.').collect();
                let (line, column) = self.place(&path);
                let (key, value) = (note.key.clone(), note.value.clone());
                Problem { line, column, key, value, ..Problem::whole(self.file, would) }
            }
            None => Problem::whole(self.file, would),
        };
        self.problems.push(problem);
    }

    /// Our file, its keys in the order of [`super::COMMENTED`].
    fn config(&self) -> String {
        let mut out = String::from(
            "# Configuration of the anweddol daemon, converted from the Python server's by 'anweddol config import'.\n\
             # What is not here has its default: 'anweddol config explain' lists all keys.\n",
        );
        let mut section = "";
        for key in KEYS {
            let (here, name) = key.name.split_once('.').unwrap_or(("", key.name));
            let offered: Vec<&Note> =
                self.notes.iter().filter(|n| n.outcome == Outcome::Offered && n.new == Some(key.name)).collect();
            let written = self.written.iter().find(|(new, ..)| *new == key.name);
            if written.is_none() && offered.is_empty() {
                continue;
            }
            if here != section || here.is_empty() {
                out.push('\n');
                // The section alone is a section of defaults.
                let _ = if here.is_empty() { Ok(()) } else { writeln!(out, "{here}:") };
                section = here;
            }
            let indent = if here.is_empty() { "" } else { "  " };
            if let Some((_, value, from)) = written {
                for note in from.iter().map(|at| &self.notes[*at]) {
                    let why = if note.why.is_empty() { String::new() } else { format!(" ({})", note.why) };
                    let value = note.value.as_deref().unwrap_or_default();
                    let _ = writeln!(out, "{indent}# {}: {value}{why}", note.key);
                }
                block(name, value).lines().for_each(|line| out.push_str(&format!("{indent}{line}\n")));
            }
            if let Some(note) = offered.first() {
                let _ = writeln!(out, "{indent}# {}", note.why);
                let _ = writeln!(out, "{indent}# {name}: {}", note.to.as_deref().unwrap_or_default());
            }
        }
        out
    }
}

fn blank() -> Note {
    let (key, why) = (String::new(), String::new());
    Note { key, line: 0, value: None, outcome: Outcome::None, new: None, to: None, why }
}

/// A value on one line, as YAML takes it: it may stand in a comment, of which a second line would be none.
fn inline(value: &Value) -> String {
    match value {
        Value::String(text) if !text.contains('\n') => {
            serde_yaml::to_string(text).unwrap_or_default().trim_end().to_owned()
        }
        other => manifest::yaml(other),
    }
}

/// A key with its value, as YAML writes it.
fn block(name: &str, value: &Value) -> String {
    let map: Map<String, Value> = [(name.to_owned(), value.clone())].into_iter().collect();
    serde_yaml::to_string(&json!(map)).unwrap_or_default()
}
