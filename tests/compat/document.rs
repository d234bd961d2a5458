//! What the original document names, and what the table has rows for: both read from their Markdown.

use std::collections::BTreeSet;

/// The documented server API, as it was published.
pub(crate) const DOCUMENT: &str = include_str!("server-api.md");
/// The table.
pub(crate) const TABLE: &str = include_str!("../../src/server/api.md");
/// What is compiled beside the table.
const FACADE: &str = include_str!("../../src/server/api-facade.md");

/// Every name of the document, as the table's first column writes it: `NAME`, `Class(parameter)`, `method()`,
/// `method(parameter)`, `method().part_of_the_result`, `on_event`, `on_event(parameter)`, and classes by their name.
pub(crate) fn documented() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let (mut owner, mut section, mut in_code, mut block) = (String::new(), Section::Other, false, String::new());
    for line in DOCUMENT.lines() {
        if line.starts_with("```") {
            if in_code {
                if let Some(opened) = signature(&block, &mut names) {
                    (owner, section) = (opened, Section::Other);
                }
                block.clear();
            }
            in_code = !in_code;
        } else if in_code {
            block.push_str(line);
            block.push('\n');
        } else if let Some(cells) = cells(line) {
            names.extend(code_span(cells[0]).map(str::to_owned));
        } else if line.starts_with('_') {
            section = Section::of(line);
        } else if let Some(item) = line.strip_prefix("- ")
            && let Some(name) = code_span(item.trim_start_matches("(optional) ").split(" :").next().unwrap())
        {
            match section {
                Section::Parameters => names.insert(format!("{}({name})", owner.trim_end_matches("()"))),
                Section::Result => names.insert(format!("{owner}.{name}")),
                Section::Other => panic!("'{name}' stands in no section that is known"),
            };
        }
    }
    let identifiers = DOCUMENT.split(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != '.');
    names.extend(identifiers.filter(|name| is_class(name) || *name == "__del__").map(str::to_owned));
    names
}

#[derive(Clone, Copy)]
enum Section {
    Parameters,
    Result,
    Other,
}

impl Section {
    fn of(line: &str) -> Section {
        match line.split('_').nth(1) {
            Some("Parameters" | "Provided parameters") => Section::Parameters,
            Some("Return value") => Section::Result,
            Some("Affiliated constant") => Section::Other,
            other => panic!("a section {other:?} is not known"),
        }
    }
}

/// Whose signature a block of code is, if it is one: its names are added.
fn signature(block: &str, names: &mut BTreeSet<String>) -> Option<String> {
    let text = block.trim();
    if let Some(event) = text.strip_prefix("@ServerInterface.") {
        // The example of a decorator has a function below it.
        let event = (!event.contains('\n')).then(|| event.to_owned())?;
        names.insert(event.clone());
        return Some(event);
    }
    let (name, rest) = text.split_once('(')?;
    let (name, shown) = match name.strip_prefix("class ") {
        Some(class) => (class, class.to_owned()),
        None => (name, format!("{name}()")),
    };
    if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return None;
    }
    let parameters = rest.rsplit_once(')').expect("a signature ends").0;
    names.insert(shown.clone());
    for parameter in parameters.split(',').filter_map(|parameter| parameter.split(':').next()) {
        if !parameter.trim().is_empty() {
            names.insert(format!("{name}({})", parameter.trim()));
        }
    }
    Some(shown)
}

/// The classes are known by how they are named; the package by its dots.
fn is_class(name: &str) -> bool {
    let camel = name.starts_with(|c: char| c.is_ascii_uppercase()) && !name.contains(['_', '.']);
    let kind =
        ["Interface", "Wrapper", "Instance"].into_iter().any(|end| name.len() > end.len() && name.ends_with(end));
    (camel && kind) || name == "anwdlserver.core.server"
}

/// A row of the table.
pub(crate) struct Row {
    pub(crate) documented: &'static str,
    pub(crate) here: &'static str,
    pub(crate) cells: usize,
}

/// All of its rows.
pub(crate) fn rows() -> Vec<Row> {
    let named = TABLE.lines().filter_map(cells).filter_map(|cells| {
        let documented = code_span(cells[0])?;
        let here = cells.get(1).and_then(|cell| code_span(cell)).unwrap_or_default();
        Some(Row { documented, here, cells: cells.len() })
    });
    named.collect()
}

/// The document's constants with their values, as they are written.
pub(crate) fn documented_values() -> Vec<(&'static str, &'static str)> {
    let rows = DOCUMENT.lines().filter_map(cells);
    rows.filter_map(|cells| Some((code_span(cells[0])?, code_span(cells[1])?))).collect()
}

/// Everything in backquotes of the document that is a name.
pub(crate) fn mentioned() -> BTreeSet<&'static str> {
    let prose = DOCUMENT.split("```").step_by(2);
    let spans = prose.flat_map(|text| text.split('`').skip(1).step_by(2));
    spans.filter(|span| span.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')).collect()
}

/// Every word that is compiled by a documentation test.
pub(crate) fn compiled() -> BTreeSet<&'static str> {
    let blocks = [TABLE, FACADE].into_iter().flat_map(|text| text.split("```").skip(1).step_by(2));
    blocks.flat_map(words).collect()
}

/// Its words.
pub(crate) fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').filter(|word| !word.is_empty())
}

fn cells(line: &str) -> Option<Vec<&str>> {
    let row = line.strip_prefix('|')?.strip_suffix('|')?;
    Some(row.split('|').map(str::trim).collect())
}

/// What stands in backquotes at the beginning.
fn code_span(text: &str) -> Option<&str> {
    Some(text.strip_prefix('`')?.split_once('`')?.0)
}
