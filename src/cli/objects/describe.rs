//! `anweddol describe`.

use std::process::ExitCode;

use clap::Args;
use jiff::Timestamp;
use serde_json::{Map, Value};

use super::client::{Daemon, path_of, path_of_kind};
use super::table::{Rows, head, row};
use super::{NamespaceArgs, events, named_one, yaml};
use crate::cli::{ConfigArgs, Result};
use crate::manifest::time::age;
use crate::model::{Kind, ObjectRef};

/// Events that are told of an object, the last ones.
const MOST_EVENTS: usize = 20;

#[derive(Args)]
#[command(after_help = "Example:
  anweddol describe pool default")]
pub(in crate::cli) struct DescribeArgs {
    /// KIND NAME, or KIND/NAME
    #[arg(value_name = "KIND NAME", required = true)]
    object: Vec<String>,
    #[command(flatten)]
    namespace: NamespaceArgs,
    #[command(flatten)]
    config: ConfigArgs,
}

pub(in crate::cli) async fn describe(args: DescribeArgs) -> Result<ExitCode> {
    let object = named_one(&args.object, &args.namespace.namespace)?;
    let daemon = Daemon::of(&args.config)?;
    let shown = daemon.get(&path_of(&object)).await?;
    let now = Timestamp::now();
    print!("{}", about(&object, &shown, now)?);
    if let Some(members) = members(&daemon, &object, &shown).await? {
        println!("Containers:");
        if members.is_empty() {
            println!("  <none>");
        }
        if !members.is_empty() {
            let rows = members.iter().map(|member| row(Kind::Container, member, false, false, now));
            let rows = std::iter::once(head(Kind::Container, false, false)).chain(rows).collect();
            print!("{}", indented(&Rows::default().lines(rows)));
        }
    }
    let mut of = vec![object.clone()];
    // What becomes of a claim is told of its machine.
    if let (Kind::ContainerClaim, Some(name)) = (object.kind, shown["status"]["container"].as_str()) {
        of.push(ObjectRef { kind: Kind::Container, name: name.into(), ..object });
    }
    let events = events::of(&daemon, &of).await?;
    println!("Events:");
    if events.is_empty() {
        println!("  <none>");
    } else {
        let rows = events[events.len().saturating_sub(MOST_EVENTS)..].iter();
        let rows = std::iter::once(events::head()).chain(rows.map(|event| events::row(event, now))).collect();
        print!("{}", indented(&Rows::default().lines(rows)));
    }
    Ok(ExitCode::SUCCESS)
}

/// Everything that the object itself says.
fn about(object: &ObjectRef, shown: &Value, now: Timestamp) -> Result<String> {
    let meta = &shown["metadata"];
    let mut facts = vec![
        ("Name".to_owned(), object.name.clone()),
        ("Namespace".into(), object.namespace.clone()),
        ("Kind".into(), object.kind.to_string()),
        ("UID".into(), meta["uid"].as_str().unwrap_or_default().into()),
        ("Generation".into(), meta["generation"].to_string()),
        ("Age".into(), age(&meta["creationTimestamp"], now)),
    ];
    if !meta["deletionTimestamp"].is_null() {
        facts.push(("Deleting".into(), format!("for {}", age(&meta["deletionTimestamp"], now))));
    }
    for (title, name) in [("Labels", "labels"), ("Annotations", "annotations")] {
        let mut title = title.to_owned();
        for (key, value) in meta[name].as_object().unwrap_or(&Map::new()) {
            facts.push((std::mem::take(&mut title), format!("{key}={}", value.as_str().unwrap_or_default())));
        }
    }
    let mut text: String = facts
        .iter()
        .map(|(name, value)| {
            format!("{:<14}{value}\n", if name.is_empty() { String::new() } else { format!("{name}:") })
        })
        .collect();
    let mut status = shown["status"].clone();
    let conditions = status.as_object_mut().and_then(|status| status.shift_remove("conditions"));
    for (title, part) in [("Spec", &shown["spec"]), ("Status", &status)] {
        text.push_str(&format!("{title}:\n{}", indented(&yaml(part)?)));
    }
    if let Some(Value::Array(conditions)) = conditions {
        let names = ["TYPE", "STATUS", "SINCE", "REASON", "MESSAGE"].map(str::to_owned).to_vec();
        let rows = conditions.iter().map(|condition| {
            let word = |name: &str| condition[name].as_str().unwrap_or_default().to_owned();
            let since = age(&condition["lastTransitionTime"], now);
            vec![word("type"), word("status"), since, word("reason"), word("message")]
        });
        let rows = std::iter::once(names).chain(rows).collect();
        text.push_str(&format!("Conditions:\n{}", indented(&Rows::default().lines(rows))));
    }
    Ok(text)
}

/// The containers of a pool or a claim; `None` for what has none.
async fn members(daemon: &Daemon, object: &ObjectRef, shown: &Value) -> Result<Option<Vec<Value>>> {
    match object.kind {
        Kind::Container => Ok(None),
        Kind::ContainerClaim => {
            let Some(name) = shown["status"]["container"].as_str() else { return Ok(Some(vec![])) };
            let container = ObjectRef { kind: Kind::Container, name: name.into(), ..object.clone() };
            Ok(Some(daemon.find(&container).await?.into_iter().collect()))
        }
        Kind::ContainerPool => {
            let listed = daemon.get(&path_of_kind(Kind::Container, Some(&object.namespace))).await?;
            let all = listed["items"].as_array().cloned().unwrap_or_default();
            Ok(Some(all.into_iter().filter(|container| container["status"]["pool"] == object.name).collect()))
        }
    }
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("  {line}\n")).collect()
}
