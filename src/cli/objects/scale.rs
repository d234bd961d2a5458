//! `anweddol scale`.

use std::process::ExitCode;

use clap::Args;
use hyper::Method;
use serde_json::json;

use super::client::{Answer, Daemon, path_of};
use super::{NamespaceArgs, named_one, note_keeper, title};
use crate::cli::{ConfigArgs, Result};

#[derive(Args)]
#[command(after_help = "Example:
  anweddol scale pool default --replicas 4")]
pub(in crate::cli) struct ScaleArgs {
    /// pool NAME, or pool/NAME
    #[arg(value_name = "pool NAME", required = true)]
    pool: Vec<String>,
    /// Machines kept ready
    #[arg(long, value_name = "N")]
    replicas: u32,
    #[command(flatten)]
    namespace: NamespaceArgs,
    #[command(flatten)]
    config: ConfigArgs,
}

pub(in crate::cli) async fn scale(args: ScaleArgs) -> Result<ExitCode> {
    let object = named_one(&args.pool, &args.namespace.namespace)?;
    let body = json!({ "spec": { "replicas": args.replicas } });
    let daemon = Daemon::of(&args.config)?;
    let answer = daemon.ask(Method::PUT, &format!("{}/scale", path_of(&object)), Some(&body)).await?;
    let what = if answer.outcome == "unchanged" { "unchanged" } else { "scaled" };
    println!("{} {what}", title(&object));
    // The answer is the scale alone, and does not say who keeps the pool.
    note_keeper(&object, &Answer { value: daemon.get(&path_of(&object)).await?, ..answer });
    Ok(ExitCode::SUCCESS)
}
