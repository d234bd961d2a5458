//! `anweddol apply` and `anweddol diff`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use hyper::Method;
use serde_json::Value;
use similar::TextDiff;

use super::client::{Answer, Daemon, path_of};
use super::{REFUSED, files, note_keeper, tell_refusal, title, yaml};
use crate::cli::{ConfigArgs, Result};
use crate::manifest::Located;
use crate::model::Kind;

#[derive(Args)]
#[command(after_help = "Examples:
  anweddol apply -f pool.yaml
  anweddol apply -f manifests/          every *.yaml, *.yml and *.json in it
  anweddol get pool default -o yaml | anweddol apply -f -")]
pub(in crate::cli) struct ApplyArgs {
    /// Manifests: files, directories, or '-' for standard input. If 'anweddol validate' finds an error in
    /// one, nothing is applied. What the daemon refuses is told, and the others are applied all the same; the exit code is
    /// 3 then
    #[arg(long = "filename", short = 'f', required = true, value_name = "FILE|DIR|-")]
    filenames: Vec<PathBuf>,
    /// Only say what would be done
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    config: ConfigArgs,
}

#[derive(Args)]
#[command(after_help = "Exit code: 0 without differences, 1 with differences, 2 or more if it failed.")]
pub(in crate::cli) struct DiffArgs {
    /// Manifests: files, directories, or '-' for standard input
    #[arg(long = "filename", short = 'f', required = true, value_name = "FILE|DIR|-")]
    filenames: Vec<PathBuf>,
    #[command(flatten)]
    config: ConfigArgs,
}

pub(in crate::cli) async fn apply(args: ApplyArgs) -> Result<ExitCode> {
    let manifests = sorted(files::good(&args.filenames)?);
    let daemon = Daemon::of(&args.config)?;
    let mut code = ExitCode::SUCCESS;
    for located in manifests {
        let object = located.manifest.object_ref();
        let answer = match send(&daemon, &located, args.dry_run).await {
            Ok(answer) => answer,
            Err(error) => {
                tell_refusal(error)?;
                code = ExitCode::from(REFUSED);
                continue;
            }
        };
        let how = if args.dry_run { " (dry run)" } else { "" };
        println!("{} {}{how}", title(&object), answer.outcome);
        if !args.dry_run {
            note_keeper(&object, &answer);
        }
    }
    Ok(code)
}

/// Pools before what is made from them.
fn sorted(mut manifests: Vec<Located>) -> Vec<Located> {
    manifests.sort_by_key(|located| Kind::ALL.iter().position(|kind| *kind == located.manifest.kind()));
    manifests
}

async fn send(daemon: &Daemon, located: &Located, dry_run: bool) -> Result<Answer> {
    let path = path_of(&located.manifest.object_ref());
    let path = if dry_run { format!("{path}?dryRun=All") } else { path };
    daemon.ask(Method::PATCH, &path, Some(&located.manifest.to_json())).await
}

pub(in crate::cli) async fn diff(args: DiffArgs) -> ExitCode {
    match differences(&args).await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("{} {}", crate::cli::paint_error(), crate::error_chain(&*error));
            ExitCode::from(if error.is::<super::Refused>() { REFUSED } else { 2 })
        }
    }
}

async fn differences(args: &DiffArgs) -> Result<ExitCode> {
    let manifests = sorted(files::good(&args.filenames)?);
    let daemon = Daemon::of(&args.config)?;
    let (mut differ, mut refused) = (false, false);
    for located in manifests {
        let object = located.manifest.object_ref();
        let before = daemon.find(&object).await?.map(described).map(|value| yaml(&value)).transpose()?;
        let after = match send(&daemon, &located, true).await {
            Ok(answer) => yaml(&described(answer.value))?,
            Err(error) => {
                tell_refusal(error)?;
                refused = true;
                continue;
            }
        };
        let before = before.unwrap_or_default();
        if before != after {
            differ = true;
            let (title, from) = (title(&object), &located.place.file);
            let text = TextDiff::from_lines(before.as_str(), after.as_str());
            print!("{}", text.unified_diff().header(&format!("{title} as it is"), &format!("{title} in {from}")));
        }
    }
    Ok(match (refused, differ) {
        (true, _) => ExitCode::from(REFUSED),
        (false, true) => ExitCode::from(1),
        (false, false) => ExitCode::SUCCESS,
    })
}

/// What of an object somebody wrote.
fn described(mut object: Value) -> Value {
    if let Value::Object(fields) = &mut object {
        fields.shift_remove("status");
    }
    if let Some(Value::Object(metadata)) = object.get_mut("metadata") {
        metadata.retain(|name, _| matches!(name.as_str(), "name" | "namespace" | "labels" | "annotations"));
    }
    object
}
