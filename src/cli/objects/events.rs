//! `anweddol events`.

use std::io::Write;
use std::process::ExitCode;

use clap::Args;
use jiff::Timestamp;
use serde_json::Value;

use super::client::Daemon;
use super::follow::PAUSE;
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
    tell(&args, &daemon).await?;
    Ok(ExitCode::SUCCESS)
}

/// Ends with the last event, or goes on until the daemon cannot be reached.
async fn tell(args: &EventsArgs, daemon: &Daemon) -> Result<()> {
    let mut rows = Rows::default();
    let (mut next, mut headed) = (args.from, false);
    loop {
        // An answer has an end: whoever wants all events asks until there are no more.
        let revision = loop {
            let mut listed = daemon.get(&path(next)).await?;
            let items = match listed["items"].take() {
                Value::Array(items) if !items.is_empty() => items,
                _ => break listed["metadata"]["resourceVersion"].as_str().unwrap_or_default().to_owned(),
            };
            next = number(items.last()).unwrap_or(next) + 1;
            print(args, &mut rows, &items, &mut headed)?;
        };
        if !args.watch {
            return Ok(());
        }
        let path = format!("/apis/{API_VERSION}/events?watch=1&resourceVersion={revision}");
        let mut lines = daemon.watch(&path).await?;
        while let Some((_, event)) = lines.next().await? {
            // With --from beyond the last one, some that come are before it.
            if let Some(number) = number(Some(&event)).filter(|number| *number >= next) {
                next = number + 1;
                print(args, &mut rows, &[event], &mut headed)?;
            }
        }
        // A watch has its time.
        tokio::time::sleep(PAUSE).await;
    }
}

fn number(event: Option<&Value>) -> Option<u64> {
    event?["number"].as_u64()
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
        next = number(items.last()).unwrap_or(next) + 1;
        found.extend(items.into_iter().filter(|event| about.contains(&event["regarding"])));
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use serde_json::json;

    use super::super::follow::tests::scripted;
    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: EventsArgs,
    }

    #[tokio::test]
    async fn events_go_on_when_a_watch_is_over_until_the_daemon_is_gone() {
        let listed = |numbers: &[u64]| {
            let items: Vec<Value> = numbers.iter().map(|number| json!({ "number": number })).collect();
            json!({ "metadata": { "resourceVersion": "7" }, "items": items }).to_string()
        };
        let came = format!("{}\n", json!({ "type": "ADDED", "object": { "number": 3 } }));
        let answers = vec![listed(&[1, 2]), listed(&[]), came, listed(&[4]), listed(&[]), String::new()];
        let (_dir, daemon, asked) = scripted(answers);
        let args = Line::parse_from(["events", "-w", "-o", "json"]).args;
        let gone = tell(&args, &daemon).await.unwrap_err().to_string();
        assert!(gone.contains("no daemon answers"), "{gone}");
        let watch = format!("/apis/{API_VERSION}/events?watch=1&resourceVersion=7");
        assert_eq!(asked.await.unwrap(), [path(0), path(3), watch.clone(), path(4), path(5), watch]);
    }
}
