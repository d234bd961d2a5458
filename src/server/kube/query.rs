//! What a request asks for besides its path. Pure.

use super::status::Status;
use crate::api::objects::FieldValidation;
use crate::manifest::selector::{Fields, Filter};

/// The longest that a watch lives, in seconds; clients begin again.
const LONGEST_WATCH: u64 = 3600;

/// The parameters that are known; others are ignored, as in Kubernetes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Query {
    /// Changes instead of a list.
    pub(super) watch: bool,
    /// As of which revision; 0: any.
    pub(super) revision: Option<u64>,
    /// How it is meant.
    pub(super) revision_match: Option<String>,
    /// Of labels.
    pub(super) labels: String,
    /// Of fields.
    pub(super) fields: String,
    /// Where an earlier answer ended.
    pub(super) continued: bool,
    /// Seconds until a watch ends.
    pub(super) timeout: Option<u64>,
    /// A watch begins with what is there, and says when that was all.
    pub(super) initial: Option<bool>,
    /// Whether a watch may have lines that are no change.
    pub(super) bookmarks: bool,
    /// Nothing is written.
    pub(super) dry_run: bool,
    /// Who writes.
    pub(super) manager: Option<String>,
    /// How strictly fields are taken.
    pub(super) validation: FieldValidation,
    /// Whether the fields of others are taken.
    pub(super) force: bool,
    /// What of an object stands in a table's row.
    pub(super) include: Include,
    /// What becomes of what an object owns.
    pub(super) propagation: Option<String>,
    /// Events of the log from this number on.
    pub(super) from: u64,
}

/// What of an object stands in a table's row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Include {
    /// Nothing.
    None,
    /// Its metadata.
    #[default]
    Metadata,
    /// All of it.
    Object,
}

impl Query {
    /// Reads a query.
    pub(super) fn parse(text: &str) -> Result<Query, Status> {
        let mut query = Query::default();
        let bad = |name: &str, right: &str| Status::bad_request(format!("{name}: write {right}"));
        for (name, value) in form_urlencoded::parse(text.as_bytes()) {
            let number = |right| value.parse::<u64>().map_err(|_| bad(&name, right));
            let truth = || match &*value {
                "1" | "true" | "True" | "" => Ok(true),
                "0" | "false" | "False" => Ok(false),
                _ => Err(bad(&name, "true or false")),
            };
            match &*name {
                "watch" => query.watch = truth()?,
                "resourceVersion" if value.is_empty() => {}
                "resourceVersion" => query.revision = Some(number("a revision, as metadata.resourceVersion tells it")?),
                "resourceVersionMatch" => match &*value {
                    "" => {}
                    "Exact" | "NotOlderThan" => query.revision_match = Some(value.into_owned()),
                    _ => return Err(bad(&name, "Exact or NotOlderThan")),
                },
                "labelSelector" => query.labels = value.into_owned(),
                "fieldSelector" => query.fields = value.into_owned(),
                "continue" => query.continued = !value.is_empty(),
                "timeoutSeconds" => query.timeout = Some(number("seconds")?.min(LONGEST_WATCH)),
                "sendInitialEvents" => query.initial = Some(truth()?),
                "allowWatchBookmarks" => query.bookmarks = truth()?,
                "dryRun" => match &*value {
                    "" => {}
                    "All" => query.dry_run = true,
                    _ => return Err(bad(&name, "All")),
                },
                "fieldManager" => {
                    if value.chars().count() > 128 || value.chars().any(char::is_control) {
                        return Err(bad(&name, "at most 128 printable characters"));
                    }
                    query.manager = Some(value.into_owned()).filter(|manager| !manager.is_empty());
                }
                "fieldValidation" => {
                    query.validation = match &*value {
                        "Ignore" => FieldValidation::Ignore,
                        "Warn" | "" => FieldValidation::Warn,
                        "Strict" => FieldValidation::Strict,
                        _ => return Err(bad(&name, "Ignore, Warn or Strict")),
                    }
                }
                "force" => query.force = truth()?,
                "includeObject" => {
                    query.include = match &*value {
                        "None" => Include::None,
                        "Metadata" | "" => Include::Metadata,
                        "Object" => Include::Object,
                        _ => return Err(bad(&name, "None, Metadata or Object")),
                    }
                }
                "propagationPolicy" => query.propagation = Some(value.into_owned()).filter(|value| !value.is_empty()),
                "from" => query.from = number("the number of an event")?,
                _ => {}
            }
        }
        query.checked()
    }

    fn checked(self) -> Result<Query, Status> {
        if self.initial.is_some() && !self.watch {
            return Err(Status::invalid("sendInitialEvents is forbidden for list", vec![]));
        }
        if self.initial.is_some() && self.revision_match.as_deref() != Some("NotOlderThan") {
            let message = "sendInitialEvents: write resourceVersionMatch=NotOlderThan with it";
            return Err(Status::invalid(message, vec![]));
        }
        if self.initial == Some(true) && !self.bookmarks {
            return Err(Status::invalid("sendInitialEvents: write allowWatchBookmarks=true with it", vec![]));
        }
        if self.continued {
            // Lists are told whole, so nobody has been given one.
            return Err(Status::expired("this list has no further parts: list again, without 'continue'"));
        }
        Ok(self)
    }

    /// The selectors, of these fields besides name and namespace.
    pub(super) fn filter(&self, fields: &[&str]) -> Result<Filter, Status> {
        let known: Vec<&str> = ["metadata.name", "metadata.namespace"].iter().chain(fields).copied().collect();
        Ok(Filter { labels: self.labels.parse()?, fields: Fields::parse(&self.fields, &known)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_of_real_clients_are_read() {
        let wait = "allowWatchBookmarks=true&fieldSelector=metadata.name%3Dweb&resourceVersionMatch=NotOlderThan&sendInitialEvents=true&timeoutSeconds=562&watch=true";
        let query = Query::parse(wait).unwrap();
        assert_eq!((query.watch, query.initial, query.timeout), (true, Some(true), Some(562)));
        assert_eq!(query.filter(&[]).unwrap().fields.only("metadata.name"), Some("web"));
        let kube_rs = Query::parse("&limit=500").unwrap();
        assert_eq!(kube_rs, Query::default());
        let apply = Query::parse("dryRun=All&fieldManager=kubectl&fieldValidation=Strict&force=false").unwrap();
        assert_eq!((apply.dry_run, apply.manager.as_deref(), apply.force), (true, Some("kubectl"), false));
        assert_eq!(apply.validation, FieldValidation::Strict);
        assert_eq!(Query::parse("resourceVersion=").unwrap().revision, None);
    }

    #[test]
    fn queries_that_make_no_sense_are_refused_with_what_would() {
        for (text, code) in [
            ("resourceVersion=abc", 400),
            ("resourceVersion=-1", 400),
            ("resourceVersion=99999999999999999999999", 400),
            ("watch=maybe", 400),
            ("dryRun=Some", 400),
            ("fieldValidation=strict", 400),
            ("sendInitialEvents=true", 422),
            ("watch=1&sendInitialEvents=true", 422),
            ("continue=abc", 410),
            ("fieldManager=a%00b", 400),
        ] {
            assert_eq!(Query::parse(text).unwrap_err().code(), code, "{text}");
        }
        let long = format!("fieldManager={}", "x".repeat(129));
        assert_eq!(Query::parse(&long).unwrap_err().code(), 400);
        assert_eq!(Query { fields: "spec.image=x".into(), ..Query::default() }.filter(&[]).unwrap_err().code(), 400);
    }
}
