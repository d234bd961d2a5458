//! Label selectors, as kubectl writes them: `app=web,tier!=db,canary,!old`.

use std::collections::BTreeMap;
use std::str::FromStr;

use super::rules;

/// Which labels an object has to have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector(Vec<Term>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Term {
    Is(String, String),
    IsNot(String, String),
    Has(String),
    HasNot(String),
}

impl Selector {
    /// Whether these labels are selected.
    pub fn takes(&self, labels: &BTreeMap<String, String>) -> bool {
        self.0.iter().all(|term| match term {
            Term::Is(key, value) => labels.get(key) == Some(value),
            Term::IsNot(key, value) => labels.get(key) != Some(value),
            Term::Has(key) => labels.contains_key(key),
            Term::HasNot(key) => !labels.contains_key(key),
        })
    }
}

/// Why a text is no selector.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{text}' is no label selector: write KEY=VALUE, KEY!=VALUE, KEY or !KEY, several of them with commas")]
pub struct ParseSelectorError {
    /// What was given.
    pub text: String,
}

impl FromStr for Selector {
    type Err = ParseSelectorError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || ParseSelectorError { text: text.into() };
        let mut terms = Vec::new();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let owned = |key: &str, value: &str| (key.trim().to_owned(), value.trim().to_owned());
            let (term, key) = if let Some((key, value)) = part.split_once("!=") {
                let (key, value) = owned(key, value);
                (Term::IsNot(key.clone(), value), key)
            } else if let Some((key, value)) = part.split_once("==").or_else(|| part.split_once('=')) {
                let (key, value) = owned(key, value);
                (Term::Is(key.clone(), value), key)
            } else if let Some(key) = part.strip_prefix('!') {
                (Term::HasNot(key.trim().into()), key.trim().to_owned())
            } else {
                (Term::Has(part.into()), part.to_owned())
            };
            if !rules::label_key(&key) {
                return Err(bad());
            }
            terms.push(term);
        }
        Ok(Selector(terms))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_selector_takes_what_has_all_its_labels() {
        let labels = BTreeMap::from([("app".to_owned(), "web".to_owned()), ("a.b/c".to_owned(), String::new())]);
        for (text, takes) in [
            ("", true),
            ("app=web", true),
            ("app==web, a.b/c", true),
            ("app=db", false),
            ("app!=db,!old", true),
            ("app!=web", false),
            ("old", false),
            ("!app", false),
        ] {
            assert_eq!(text.parse::<Selector>().unwrap().takes(&labels), takes, "{text}");
        }
        for bad in ["=a", "a b=c", "a/b/c", "-a"] {
            assert!(bad.parse::<Selector>().is_err(), "{bad}");
        }
    }
}
