//! Selectors, as kubectl writes them: of labels, `app=web,tier!=db,canary,!old,zone in (a,b)`; of fields,
//! `metadata.name=web,status.phase!=Ready`.

use std::str::FromStr;

use serde_json::Value;

use super::rules;

/// The longest text of a selector, in bytes.
pub const LONGEST: usize = 64 << 10;

/// Which labels an object has to have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector(Vec<Term>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Term {
    In(String, Vec<String>),
    NotIn(String, Vec<String>),
    Has(String),
    HasNot(String),
}

impl Selector {
    /// Whether labels are selected, given what each of them is.
    pub fn takes<'a>(&self, label: impl Fn(&str) -> Option<&'a str>) -> bool {
        self.0.iter().all(|term| match term {
            Term::In(key, values) => label(key).is_some_and(|value| values.iter().any(|one| one == value)),
            Term::NotIn(key, values) => label(key).is_none_or(|value| values.iter().all(|one| one != value)),
            Term::Has(key) => label(key).is_some(),
            Term::HasNot(key) => label(key).is_none(),
        })
    }
}

/// Why a text is no selector.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseSelectorError {
    /// Of labels.
    #[error(
        "'{text}' is no label selector: write KEY=VALUE, KEY!=VALUE, KEY in (VALUE,VALUE), KEY notin (VALUE), KEY or !KEY, several of them with commas"
    )]
    Labels {
        /// What was given.
        text: String,
    },
    /// Of fields.
    #[error("'{text}' is no field selector: write FIELD=VALUE or FIELD!=VALUE, several of them with commas")]
    Fields {
        /// What was given.
        text: String,
    },
    /// A field that nobody can select by.
    #[error("field label not supported: {field}; there are {known}")]
    Unknown {
        /// Which.
        field: String,
        /// Those that there are.
        known: String,
    },
}

impl FromStr for Selector {
    type Err = ParseSelectorError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || ParseSelectorError::Labels { text: text.chars().take(200).collect() };
        if text.len() > LONGEST {
            return Err(bad());
        }
        let parts = split(text).ok_or_else(bad)?;
        let terms = parts.into_iter().map(str::trim).filter(|part| !part.is_empty()).map(term);
        terms.collect::<Option<Vec<_>>>().map(Selector).ok_or_else(bad)
    }
}

/// The parts between commas that stand in no brackets.
fn split(text: &str) -> Option<Vec<&str>> {
    let (mut parts, mut begin, mut inside) = (Vec::new(), 0, false);
    for (at, c) in text.char_indices() {
        match c {
            '(' if inside => return None,
            '(' => inside = true,
            ')' if !inside => return None,
            ')' => inside = false,
            ',' if !inside => {
                parts.push(&text[begin..at]);
                begin = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[begin..]);
    (!inside).then_some(parts)
}

fn term(part: &str) -> Option<Term> {
    let key = |key: &str| rules::label_key(key.trim()).then(|| key.trim().to_owned());
    if let Some((head, values)) = part.strip_suffix(')').and_then(|part| part.split_once('(')) {
        let values = values.split(',').map(|value| value.trim().to_owned()).collect();
        let (name, word) = head.trim().rsplit_once(char::is_whitespace)?;
        return match word {
            "in" => Some(Term::In(key(name)?, values)),
            "notin" => Some(Term::NotIn(key(name)?, values)),
            _ => None,
        };
    }
    let one = |value: &str| vec![value.trim().to_owned()];
    if let Some((name, value)) = part.split_once("!=") {
        Some(Term::NotIn(key(name)?, one(value)))
    } else if let Some((name, value)) = part.split_once("==").or_else(|| part.split_once('=')) {
        Some(Term::In(key(name)?, one(value)))
    } else if let Some(name) = part.strip_prefix('!') {
        Some(Term::HasNot(key(name)?))
    } else {
        Some(Term::Has(key(part)?))
    }
}

/// Which fields an object has to have. A field that is not there counts as an empty text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fields(Vec<(String, bool, String)>);

impl Fields {
    /// Reads a selector of these fields.
    pub fn parse(text: &str, known: &[&str]) -> Result<Fields, ParseSelectorError> {
        let bad = || ParseSelectorError::Fields { text: text.chars().take(200).collect() };
        if text.len() > LONGEST {
            return Err(bad());
        }
        let mut terms = Vec::new();
        for part in text.split(',').filter(|part| !part.trim().is_empty()) {
            let (field, is, value) = match (part.split_once("!="), part.split_once("==")) {
                (Some((field, value)), _) => (field, false, value),
                (None, Some((field, value))) => (field, true, value),
                (None, None) => part.split_once('=').map(|(field, value)| (field, true, value)).ok_or_else(bad)?,
            };
            let field = field.trim();
            if !known.contains(&field) {
                return Err(ParseSelectorError::Unknown { field: field.into(), known: known.join(", ") });
            }
            terms.push((field.to_owned(), is, value.trim().to_owned()));
        }
        Ok(Fields(terms))
    }

    /// The value that a field has to have, if there is only one that it may have.
    pub fn only(&self, field: &str) -> Option<&str> {
        self.0.iter().find(|(name, is, _)| *is && name == field).map(|(_, _, value)| value.as_str())
    }

    fn takes(&self, object: &Value) -> bool {
        self.0.iter().all(|(field, is, wanted)| {
            let value = field.split('.').fold(object, |value, name| &value[name]);
            let equal = match value {
                Value::Null => wanted.is_empty(),
                Value::String(text) => text == wanted,
                Value::Bool(truth) => wanted == if *truth { "true" } else { "false" },
                Value::Number(number) => {
                    let text = number.to_string();
                    text == *wanted
                }
                Value::Array(_) | Value::Object(_) => false,
            };
            equal == *is
        })
    }
}

/// Which objects are meant, by labels and fields.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// By labels.
    pub labels: Selector,
    /// By fields.
    pub fields: Fields,
}

impl Filter {
    /// Whether an object, as it is shown, is meant.
    pub fn takes(&self, object: &Value) -> bool {
        let labels = &object["metadata"]["labels"];
        self.labels.takes(|key| labels[key].as_str()) && self.fields.takes(object)
    }
}

impl From<Selector> for Filter {
    fn from(labels: Selector) -> Self {
        Filter { labels, fields: Fields::default() }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn takes(text: &str) -> bool {
        let object = json!({ "metadata": { "labels": { "app": "web", "a.b/c": "" } } });
        Filter::from(text.parse::<Selector>().unwrap()).takes(&object)
    }

    #[test]
    fn a_selector_takes_what_has_all_its_labels() {
        for (text, expected) in [
            ("", true),
            ("app=web", true),
            ("app==web, a.b/c", true),
            ("app=db", false),
            ("app!=db,!old", true),
            ("app!=web", false),
            ("old", false),
            ("!app", false),
            ("app in (db, web),a.b/c", true),
            ("app in (db)", false),
            ("app notin (db),old notin (x)", true),
            ("app notin (web,db)", false),
        ] {
            assert_eq!(takes(text), expected, "{text}");
        }
        for bad in ["=a", "a b=c", "a/b/c", "-a", "a in b", "a in (b", "a in ((b))", "a)", "a among (b)"] {
            assert!(bad.parse::<Selector>().is_err(), "{bad}");
        }
        assert!("a,".repeat(LONGEST).parse::<Selector>().is_err());
    }

    #[test]
    fn fields_are_selected_by_their_value_and_unknown_ones_are_named() {
        let object = json!({ "metadata": { "name": "a" }, "status": { "phase": "Ready", "port": 7 } });
        let known = ["metadata.name", "status.phase", "status.port", "status.claim"];
        for (text, expected) in [
            ("metadata.name=a,status.phase==Ready", true),
            ("status.phase!=Ready", false),
            ("status.port=7,status.claim=", true),
            ("status.claim!=", false),
        ] {
            let fields = Fields::parse(text, &known).unwrap();
            assert_eq!(Filter { fields, ..Filter::default() }.takes(&object), expected, "{text}");
        }
        let said = Fields::parse("spec.image=x", &known).unwrap_err().to_string();
        assert!(said.contains("not supported: spec.image") && said.contains("status.phase"), "{said}");
        assert!(Fields::parse("metadata.name", &known).is_err());
        assert_eq!(Fields::parse("metadata.name=a", &known).unwrap().only("metadata.name"), Some("a"));
    }
}
