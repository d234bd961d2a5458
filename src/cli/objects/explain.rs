//! `anweddol explain`.

use std::process::ExitCode;

use clap::Args;

use super::KindName;
use crate::cli::Result;
use crate::manifest;

#[derive(Args)]
#[command(after_help = "Examples:
  anweddol explain pool
  anweddol explain pool.spec.template.lifetime
  anweddol explain claim --json-schema       for editors")]
pub(in crate::cli) struct ExplainArgs {
    /// KIND, or a field of it: KIND.spec.template
    #[arg(value_name = "KIND[.FIELD]")]
    field: String,
    /// Print the JSON schema of the whole kind
    #[arg(long)]
    json_schema: bool,
}

/// Says what a kind or a field means. Asks no daemon.
pub(in crate::cli) fn explain(args: ExplainArgs) -> Result<ExitCode> {
    let (kind, path) = args.field.split_once('.').unwrap_or((&args.field, ""));
    let KindName(kind) = kind.parse()?;
    if args.json_schema {
        println!("{:#}", manifest::schema(kind));
    } else {
        print!("{}", manifest::explain::explain(kind, path)?);
    }
    Ok(ExitCode::SUCCESS)
}
