//! What a section or a key means: told from the commented default, so that the two are one.
//!
//! What stands above a key there is what it means. Where a line of that comment is the key itself, commented out, it
//! begins an example, which goes on as long as the lines are indented deeper.

use std::fmt::Write;

use serde::Serialize;

use super::keys::{self, Effect, KEYS, Key};
use super::{COMMENTED, Config, text};
use crate::manifest::{hint, json};

/// What is said of a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Explained {
    /// Its whole name.
    pub key: &'static str,
    /// What it means.
    pub meaning: String,
    /// What its value is.
    pub value: &'static str,
    /// Its default, as it would be written.
    pub default: String,
    /// Whether a reload takes a changed value up; otherwise the next start does.
    pub reloaded: bool,
    /// The key as it could be written, below its section.
    pub examples: Vec<String>,
}

/// There is no such section or key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no key '{name}' in the configuration{hint}; 'anweddol config explain' lists them")]
pub struct Unknown {
    /// What was asked for.
    pub name: String,
    hint: String,
}

/// Every key, in the order of the file.
pub fn all() -> Vec<Explained> {
    let (said, defaults) = (Said::read(), json(&Config::default()));
    KEYS.iter()
        .map(|key| said.explained(key, &text::at(&defaults, key.name).map(text::say).unwrap_or_default()))
        .collect()
}

/// A key, or those of a section, with what the section is for.
pub fn explain(name: &str) -> Result<(String, Vec<Explained>), Unknown> {
    let below = format!("{name}.");
    let mut found = all();
    found.retain(|explained| explained.key == name || explained.key.starts_with(&below));
    if found.is_empty() {
        let last = |key: &Key| key.name.rsplit('.').next().unwrap_or_default();
        let names = KEYS.iter().flat_map(|key| [key.name, last(key), key.name.split('.').next().unwrap_or_default()]);
        let near =
            hint::nearest(name, names).map(|near| KEYS.iter().find(|key| last(key) == near).map_or(near, |k| k.name));
        let hint = near.map_or(String::new(), |near| format!("; did you mean {near}?"));
        return Err(Unknown { name: name.into(), hint });
    }
    Ok((Said::read().about(name), found))
}

impl Explained {
    /// For people.
    pub fn text(&self) -> String {
        let mut text = format!("KEY:      {} <{}>\nDEFAULT:  {}\n", self.key, self.value, self.default);
        let effect = if self.reloaded { "with a reload (SIGHUP)" } else { "with the next start" };
        // A String takes every text.
        let _ = write!(text, "CHANGED:  takes effect {effect}\n\nMEANING:\n  {}\n", self.meaning);
        for example in &self.examples {
            let _ = write!(text, "\nEXAMPLE:\n  {}\n", example.trim_end().replace('\n', "\n  "));
        }
        text
    }

    /// The first sentence of what it means.
    pub fn brief(&self) -> &str {
        self.meaning.split_inclusive(". ").next().unwrap_or_default().trim_end()
    }
}

/// What the commented default says above a section or a key.
#[derive(Default)]
struct Said<'a> {
    entries: Vec<(String, Entry<'a>)>,
}

#[derive(Default)]
struct Entry<'a> {
    about: Vec<&'a str>,
    examples: Vec<Vec<&'a str>>,
}

impl<'a> Said<'a> {
    fn read() -> Said<'static> {
        let (mut said, mut section, mut about) = (Said::default(), "", Vec::new());
        // The key whose example is being read.
        let mut example: Option<String> = None;
        for line in COMMENTED.lines() {
            let outer = !line.is_empty() && !line.starts_with(' ');
            let line = line.trim_start();
            if outer {
                section = "";
            }
            let name = |word: &str| if section.is_empty() { word.to_owned() } else { format!("{section}.{word}") };
            match (line.strip_prefix('#'), line.split_once(':')) {
                (None, None) => {
                    about.clear();
                    example = None;
                }
                (None, Some((word, _))) => {
                    said.entry(&name(word)).about.append(&mut about);
                    example = None;
                    if outer && keys::find(word).is_none() {
                        section = word;
                    }
                }
                (Some(comment), _) => {
                    let comment = comment.strip_prefix(' ').unwrap_or(comment);
                    let begins =
                        comment.split_once(':').map(|(word, _)| name(word)).filter(|key| keys::find(key).is_some());
                    match (begins, &example) {
                        (Some(key), _) => {
                            let entry = said.entry(&key);
                            entry.about.append(&mut about);
                            entry.examples.push(vec![comment]);
                            example = Some(key);
                        }
                        (None, Some(key)) if comment.starts_with(' ') => {
                            said.entry(key).examples.last_mut().into_iter().for_each(|example| example.push(comment));
                        }
                        (None, _) => {
                            example = None;
                            about.push(comment);
                        }
                    }
                }
            }
        }
        said
    }

    fn entry(&mut self, name: &str) -> &mut Entry<'a> {
        let at = self.entries.iter().position(|(known, _)| known == name).unwrap_or_else(|| {
            self.entries.push((name.into(), Entry::default()));
            self.entries.len() - 1
        });
        &mut self.entries[at].1
    }

    fn find(&self, name: &str) -> Option<&Entry<'a>> {
        self.entries.iter().find(|(known, _)| known == name).map(|(_, entry)| entry)
    }

    fn about(&self, name: &str) -> String {
        self.find(name).map(|entry| entry.about.join(" ")).unwrap_or_default()
    }

    fn explained(&self, key: &Key, default: &str) -> Explained {
        let written: Vec<String> = match self.find(key.name).map(|entry| &entry.examples) {
            Some(examples) if !examples.is_empty() => examples.iter().map(|lines| lines.join("\n")).collect(),
            _ => vec![format!("{}: {default}", key.name.rsplit('.').next().unwrap_or_default())],
        };
        let below = |example: String| match key.name.rsplit_once('.') {
            Some((section, _)) => format!("{section}:\n  {}", example.replace('\n', "\n  ")),
            None => example,
        };
        Explained {
            key: key.name,
            meaning: self.about(key.name),
            value: key.value,
            default: default.into(),
            reloaded: key.effect == Effect::Reload,
            examples: written.into_iter().map(below).collect(),
        }
    }
}
