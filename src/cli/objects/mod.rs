//! Commands over objects: the client of the daemon's local API, by noun.

mod access_tokens;
mod apply;
mod client;
mod delete;
mod describe;
mod edit;
mod events;
mod explain;
mod files;
mod follow;
mod get;
mod login;
mod scale;
mod table;
mod tokens;
mod top;

use std::io::Write;
use std::str::FromStr;

use clap::Args;
use hyper::Method;
use serde_json::Value;

use crate::model::{DEFAULT_NAMESPACE, Kind, MANAGED_BY, ObjectRef, valid_name};

pub(super) use access_tokens::{AccessTokenCommand, access_token};
pub(super) use apply::{ApplyArgs, DiffArgs, apply, diff};
pub(super) use client::{Daemon, Refused};
pub(super) use delete::{DeleteArgs, delete};
pub(super) use describe::{DescribeArgs, describe};
pub(super) use edit::{EditArgs, edit};
pub(super) use events::{EventsArgs, events};
pub(super) use explain::{ExplainArgs, explain};
pub(super) use files::{ValidateArgs, validate};
pub(super) use get::{GetArgs, get};
pub(super) use login::{LoginArgs, login};
pub(super) use scale::{ScaleArgs, scale};
pub(super) use tokens::{KubeconfigArgs, TokenCommand, kubeconfig, token};
pub(super) use top::{TopArgs, top};

/// The exit code of the daemon's no.
pub(super) const REFUSED: u8 = 3;

/// Which namespace.
#[derive(Args, Clone)]
struct NamespaceArgs {
    /// The namespace
    #[arg(long, short, default_value = DEFAULT_NAMESPACE, value_parser = namespace, value_name = "NAMESPACE")]
    namespace: String,
}

fn namespace(text: &str) -> Result<String, String> {
    valid_name(text).map(|()| text.to_owned()).map_err(|error| error.to_string())
}

/// A kind as people write it: the resource name, singular or plural, or a short one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct KindName(Kind);

impl FromStr for KindName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.to_ascii_lowercase().as_str() {
            "containerpools" | "containerpool" | "pools" | "pool" | "cpools" | "cpool" => {
                Ok(KindName(Kind::ContainerPool))
            }
            "containers" | "container" | "ctrs" | "ctr" => Ok(KindName(Kind::Container)),
            "containerclaims" | "containerclaim" | "claims" | "claim" | "cclaim" => Ok(KindName(Kind::ContainerClaim)),
            _ => Err(format!(
                "'{text}' is no kind: write pool, container or claim (or containerpools, ctr, claims …); events have a command of their own, 'anweddol events'"
            )),
        }
    }
}

/// The objects that `KIND NAME…` or `KIND/NAME…` name.
fn named(words: &[String], namespace: &str) -> Result<Vec<ObjectRef>, String> {
    let object = |kind: &str, name: &str| -> Result<ObjectRef, String> {
        let KindName(kind) = kind.parse()?;
        valid_name(name).map_err(|error| error.to_string())?;
        Ok(ObjectRef { kind, namespace: namespace.into(), name: name.into() })
    };
    match words.split_first() {
        None => Err("name something: KIND NAME, as in 'pool default'".into()),
        Some((first, _)) if first.contains('/') => words
            .iter()
            .map(|word| {
                let (kind, name) = word.split_once('/').ok_or_else(|| format!("'{word}': write KIND/NAME"))?;
                object(kind, name)
            })
            .collect(),
        Some((kind, [])) => Err(format!("which {kind}? Write '{kind} NAME'; 'anweddol get {kind}' tells the names")),
        Some((kind, names)) => names.iter().map(|name| object(kind, name)).collect(),
    }
}

/// One object of [`named`].
fn named_one(words: &[String], namespace: &str) -> Result<ObjectRef, String> {
    let mut objects = named(words, namespace)?;
    match (objects.pop(), objects.is_empty()) {
        (Some(object), true) => Ok(object),
        _ => Err("name one object only: KIND NAME, as in 'pool default'".into()),
    }
}

/// An object as it is named in a line of output: `containerpool/default`.
fn title(object: &ObjectRef) -> String {
    format!("{}/{}", object.kind.to_string().to_lowercase(), object.name)
}

/// Goes on after the daemon's no to one of several objects, which is told. Any other error ends all of it.
fn tell_refusal(error: Box<dyn std::error::Error + Send + Sync>) -> super::Result<()> {
    if !error.is::<Refused>() {
        return Err(error);
    }
    eprintln!("{} {}", super::paint_error(), crate::error_chain(&*error));
    Ok(())
}

/// Prints what is told once, and takes back what it opens if nobody heard it.
async fn tell_once(daemon: &Daemon, path: &str, text: &str) -> super::Result<()> {
    let mut out = std::io::stdout().lock();
    let told = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    drop(out);
    let Err(error) = told else { return Ok(()) };
    daemon.ask(Method::DELETE, path, None).await?;
    Err(format!("the token could not be told, and was deleted again: {error}").into())
}

/// Says who will put back what was written by hand.
fn note_keeper(object: &ObjectRef, answer: &client::Answer) {
    let keeper = answer.value["metadata"]["annotations"][MANAGED_BY].as_str();
    if let Some(directory) = keeper.filter(|keeper| keeper.starts_with('/') && answer.outcome != "unchanged") {
        eprintln!("note: the manifests in {directory} keep {}, and will put it back: change it there", title(object));
    }
}

/// The object that a value of the API is.
fn object_of(value: &Value) -> Option<ObjectRef> {
    let kind = value["kind"].as_str()?;
    Some(ObjectRef {
        kind: Kind::ALL.into_iter().find(|known| known.to_string() == kind)?,
        namespace: value["metadata"]["namespace"].as_str()?.into(),
        name: value["metadata"]["name"].as_str()?.into(),
    })
}

/// A value as YAML, as it is printed.
fn yaml(value: &Value) -> super::Result<String> {
    Ok(serde_yaml::to_string(value)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_named_by_kind_and_name_in_both_forms() {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let names =
            |text: &str| named(&words(text), "default").map(|found| found.iter().map(title).collect::<Vec<_>>());
        assert_eq!(names("pool a b"), Ok(vec!["containerpool/a".into(), "containerpool/b".into()]));
        assert_eq!(names("ctr/a claims/b"), Ok(vec!["container/a".into(), "containerclaim/b".into()]));
        for bad in ["pool", "vm a", "pool/a b", "pool A"] {
            assert!(names(bad).is_err(), "{bad}");
        }
        assert!(named_one(&words("pool a b"), "default").is_err());
    }
}
