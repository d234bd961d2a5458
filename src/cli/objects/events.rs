//! `anweddol events`.

use std::io::Write;
use std::process::ExitCode;

use clap::Args;
use jiff::Timestamp;
use serde_json::Value;

use super::client::Daemon;
use super::table::Rows;
use crate::cli::{ConfigArgs, Output, Result};
use crate::manifest::time::age;
use crate::model::{API_VERSION, ObjectRef};

#[derive(Args)]
#[command(after_help = "Examples:
  anweddol events --from 100
  anweddol events -w -o json | jq .type")]
pub(in crate::cli) struct EventsArgs {
    /// Go on with every event that comes
    #[arg(long, short)]
    watch: bool,
    /// From this number on
    #[arg(long, value_name = "N", default_value_t = 0)]
    from: u64,
    /// How they are printed
    #[arg(long, short, default_value = "text")]
    output: Output,
    #[command(flatten)]
    config: ConfigArgs,
}

pub(in crate::cli) async fn events(args: EventsArgs) -> Result<ExitCode> {
    let daemon = Daemon::of(&args.config)?;
    let mut rows = Rows::default();
    let (mut next, mut headed) = (args.from, false);
    // An answer has an end: whoever wants all events asks until there are no more.
    let revision = loop {
        let mut listed = daemon.get(&path(next)).await?;
        let items = match listed["items"].take() {
            Value::Array(items) if !items.is_empty() => items,
            _ => break listed["metadata"]["resourceVersion"].as_str().unwrap_or_default().to_owned(),
        };
        next = items.last().and_then(|event| event["number"].as_u64()).unwrap_or(next) + 1;
        print(&args, &mut rows, &items, &mut headed)?;
    };
    if args.watch {
        let path = format!("/apis/{API_VERSION}/events?watch=1&resourceVersion={revision}");
        let mut lines = daemon.watch(&path).await?;
        while let Some((_, event)) = lines.next().await? {
            // With --from beyond the last one, some that come are before it.
            if event["number"].as_u64().is_some_and(|number| number >= args.from) {
                print(&args, &mut rows, &[event], &mut headed)?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn path(from: u64) -> String {
    format!("/apis/{API_VERSION}/events?from={from}")
}

fn print(args: &EventsArgs, rows: &mut Rows, events: &[Value], headed: &mut bool) -> Result<()> {
    match args.output {
        Output::Json => events.iter().for_each(|event| println!("{event}")),
        Output::Text => {
            let now = Timestamp::now();
            let lines = (!*headed).then(head).into_iter().chain(events.iter().map(|event| row(event, now)));
            print!("{}", rows.lines(lines.collect()));
            *headed = true;
        }
    }
    Ok(std::io::stdout().flush()?)
}

/// The names of an event's columns.
pub(super) fn head() -> Vec<String> {
    ["NUMBER", "AGE", "TYPE", "OBJECT", "MESSAGE"].map(str::to_owned).to_vec()
}

/// An event's row.
pub(super) fn row(event: &Value, now: Timestamp) -> Vec<String> {
    let about = &event["regarding"];
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let object = match about["kind"].as_str() {
        Some(kind) => format!("{}/{}", kind.to_lowercase(), word(&about["name"])),
        None => String::new(),
    };
    let message = word(&event["message"]).replace(char::is_control, " ");
    vec![event["number"].to_string(), age(&event["at"], now), word(&event["type"]), object, message]
}

/// All events about these objects.
pub(super) async fn of(daemon: &Daemon, objects: &[ObjectRef]) -> Result<Vec<Value>> {
    let about = objects.iter().map(serde_json::to_value).collect::<std::result::Result<Vec<_>, _>>()?;
    let (mut next, mut found) = (0, Vec::new());
    loop {
        let mut listed = daemon.get(&path(next)).await?;
        let items = match listed["items"].take() {
            Value::Array(items) if !items.is_empty() => items,
            _ => return Ok(found),
        };
        next = items.last().and_then(|event| event["number"].as_u64()).unwrap_or(next) + 1;
        found.extend(items.into_iter().filter(|event| about.contains(&event["regarding"])));
    }
}
