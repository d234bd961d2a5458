//! `anweddol login`.

use std::process::ExitCode;

use clap::Args;
use hyper::Method;
use serde_json::Value;

use super::client::{Daemon, path_of};
use super::{NamespaceArgs, named_one};
use crate::cli::{ConfigArgs, Output, Result};

#[derive(Args)]
#[command(after_help = "The daemon tells a login once: keep what is printed.

Example:
  anweddol login claim mine")]
pub(in crate::cli) struct LoginArgs {
    /// KIND NAME, or KIND/NAME
    #[arg(value_name = "KIND NAME", required = true)]
    object: Vec<String>,
    /// How it is printed
    #[arg(long, short, default_value = "text")]
    output: Output,
    #[command(flatten)]
    namespace: NamespaceArgs,
    #[command(flatten)]
    config: ConfigArgs,
}

pub(in crate::cli) async fn login(args: LoginArgs) -> Result<ExitCode> {
    let object = named_one(&args.object, &args.namespace.namespace)?;
    let daemon = Daemon::of(&args.config)?;
    let login = daemon.ask(Method::POST, &format!("{}/login", path_of(&object)), None).await?.value;
    match args.output {
        Output::Json => println!("{login:#}"),
        Output::Text => {
            let word = |name: &str| login[name].as_str().unwrap_or_default().to_owned();
            println!("container  {}", word("container"));
            println!("password   {}", word("password"));
            if let Value::String(end) = &login["expiresAt"] {
                println!("until      {end}");
            }
            println!("reach it   ssh -p {} {}@HOST", login["port"], word("username"));
        }
    }
    Ok(ExitCode::SUCCESS)
}
