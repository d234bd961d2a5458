//! `anweddol access-token`: who is served over the wire protocol.

use std::num::NonZeroU32;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use hyper::Method;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::client::Daemon;
use super::table::Rows;
use super::{namespace as name, tell_once};
use crate::cli::{ConfigArgs, Output, Result, duration};
use crate::manifest::time::{age, ahead};
use crate::model::API_VERSION;

#[derive(Subcommand)]
pub(in crate::cli) enum AccessTokenCommand {
    /// Make an access token; it is printed once
    #[command(after_help = "Examples:
  anweddol access-token add --name anna --expires 30d --max-containers 2 --rate 30/min > anna.token
  anweddol create --access-token anna.token")]
    Add(AddArgs),
    /// List the access tokens there are, and how many containers are taken with each
    List(ListArgs),
    /// Make an access token good again
    Enable(NameArgs),
    /// Refuse whoever shows an access token; its machines live on
    Disable(NameArgs),
    /// Delete an access token: whoever shows it is refused from then on; its machines live on
    Delete(NameArgs),
}

#[derive(Args)]
pub(in crate::cli) struct AddArgs {
    /// What it is called; without it, something random
    #[arg(long, value_parser = name, value_name = "NAME")]
    name: Option<String>,
    /// How long it is good, as 12h or 30d; without it, until it is deleted
    #[arg(long, value_parser = duration::seconds, value_name = "TIME")]
    expires: Option<u32>,
    /// How many containers whoever has it may have at once; without it, as many as there are
    #[arg(long, value_name = "N")]
    max_containers: Option<u32>,
    /// How many requests a minute whoever has it may send; without it, any number
    #[arg(long, value_parser = per_minute, value_name = "N/min")]
    rate: Option<NonZeroU32>,
    /// Take over a token that somebody has already: the SHA-256 of it, as the Python server keeps it
    #[arg(long, value_name = "HEX")]
    sha256: Option<String>,
    /// Make one that is good only once it is enabled
    #[arg(long)]
    disabled: bool,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Args)]
pub(in crate::cli) struct ListArgs {
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Args)]
pub(in crate::cli) struct NameArgs {
    /// Which
    #[arg(value_parser = name)]
    name: String,
    #[command(flatten)]
    output: OutputArgs,
}

/// How it is printed, and which daemon is asked.
#[derive(Args)]
struct OutputArgs {
    /// How it is printed
    #[arg(long, short, default_value = "text")]
    output: Output,
    #[command(flatten)]
    config: ConfigArgs,
}

fn per_minute(text: &str) -> std::result::Result<NonZeroU32, String> {
    let number = text.strip_suffix("/min").unwrap_or(text);
    number.parse().map_err(|_| format!("'{text}' is no rate: write requests a minute, 1 or more, as 30/min"))
}

fn path(name: Option<&str>) -> String {
    let all = format!("/apis/{API_VERSION}/accesstokens");
    name.map_or(all.clone(), |name| format!("{all}/{name}"))
}

pub(in crate::cli) async fn access_token(command: AccessTokenCommand) -> Result<ExitCode> {
    match command {
        AccessTokenCommand::Add(args) => add(args).await?,
        AccessTokenCommand::List(args) => list(args).await?,
        AccessTokenCommand::Enable(args) => switch(args, true).await?,
        AccessTokenCommand::Disable(args) => switch(args, false).await?,
        AccessTokenCommand::Delete(args) => {
            let daemon = Daemon::of(&args.output.config)?;
            let answer = daemon.ask(Method::DELETE, &path(Some(&args.name)), None).await?;
            print(&args.output, &answer.value, || format!("accesstoken/{} deleted", args.name));
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn add(args: AddArgs) -> Result<()> {
    let body = json!({
        "metadata": { "name": args.name },
        "spec": {
            "enabled": !args.disabled,
            "sha256": args.sha256,
            "ttlSeconds": args.expires,
            "maxContainers": args.max_containers,
            "requestsPerMinute": args.rate,
        },
    });
    let daemon = Daemon::of(&args.output.config)?;
    let made = daemon.ask(Method::POST, &path(None), Some(&body)).await?.value;
    let name = made["metadata"]["name"].as_str().unwrap_or("?");
    match made["status"]["token"].as_str() {
        None => print(&args.output, &made, || format!("accesstoken/{name} taken over")),
        // On standard output nothing but the token: it is to go into a file.
        Some(token) => {
            eprintln!("accesstoken/{name} made: it is told here and nowhere else");
            let text = match args.output.output {
                Output::Json => made.to_string(),
                Output::Text => token.to_owned(),
            };
            tell_once(&daemon, &path(Some(name)), &(text + "\n")).await?;
        }
    }
    Ok(())
}

async fn switch(args: NameArgs, enabled: bool) -> Result<()> {
    let daemon = Daemon::of(&args.output.config)?;
    let change = json!({ "spec": { "enabled": enabled } });
    let answer = daemon.ask(Method::PATCH, &path(Some(&args.name)), Some(&change)).await?;
    let done = if enabled { "enabled" } else { "disabled" };
    print(&args.output, &answer.value, || format!("accesstoken/{} {done}", args.name));
    Ok(())
}

async fn list(args: ListArgs) -> Result<()> {
    let listed = Daemon::of(&args.output.config)?.get(&path(None)).await?;
    print(&args.output, &listed["items"], || table(&listed["items"], Timestamp::now()));
    Ok(())
}

fn table(items: &Value, now: Timestamp) -> String {
    let head = ["NAME", "ENABLED", "CONTAINERS", "RATE", "EXPIRES", "AGE"].map(str::to_owned).to_vec();
    let row = |token: &Value| {
        let (meta, spec, status) = (&token["metadata"], &token["spec"], &token["status"]);
        let taken = &status["containers"];
        let most = spec["maxContainers"].as_u64();
        vec![
            meta["name"].as_str().unwrap_or_default().to_owned(),
            if spec["enabled"] == true { "yes" } else { "no" }.to_owned(),
            most.map_or_else(|| taken.to_string(), |most| format!("{taken}/{most}")),
            spec["requestsPerMinute"].as_u64().map_or_else(|| "<any>".into(), |rate| format!("{rate}/min")),
            ahead(&status["expiresAt"], now),
            age(&meta["creationTimestamp"], now),
        ]
    };
    let rows = items.as_array().into_iter().flatten().map(row);
    Rows::default().lines(std::iter::once(head).chain(rows).collect()).trim_end().to_owned()
}

fn print(args: &OutputArgs, value: &Value, text: impl FnOnce() -> String) {
    match args.output {
        Output::Json => println!("{value}"),
        Output::Text => println!("{}", text()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_requests_a_minute() {
        for (text, right) in [("30/min", 30), ("30", 30), ("1/min", 1)] {
            assert_eq!(per_minute(text).map(NonZeroU32::get), Ok(right));
        }
        for bad in ["", "0", "0/min", "-1/min", "30/s", "1.5/min", "/min", "4294967296"] {
            assert!(per_minute(bad).unwrap_err().contains("30/min"), "{bad:?} was taken");
        }
    }

    #[test]
    fn a_list_says_how_much_is_taken_of_how_much() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let items = json!([
            { "metadata": { "name": "anna", "creationTimestamp": at(0) }, "status": { "containers": 1, "expiresAt": at(3700) },
              "spec": { "enabled": true, "maxContainers": 2, "requestsPerMinute": 30 } },
            { "metadata": { "name": "bert", "creationTimestamp": at(40) }, "status": { "containers": 3, "expiresAt": null },
              "spec": { "enabled": false, "maxContainers": null, "requestsPerMinute": null } },
        ]);
        let text = table(&items, at(100));
        let words: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(words[0], ["NAME", "ENABLED", "CONTAINERS", "RATE", "EXPIRES", "AGE"]);
        assert_eq!(words[1], ["anna", "yes", "1/2", "30/min", "in", "60m", "100s"]);
        assert_eq!(words[2], ["bert", "no", "3", "<any>", "<never>", "60s"]);
    }
}
