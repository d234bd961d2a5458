//! `anweddol store`: the daemon's records, while it is stopped. What holds them is a directory with a lock: a daemon
//! that runs is named, and nothing is done.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use jiff::Timestamp;
use serde_json::json;

use super::{ConfigArgs, Output, OutputArgs, Result, admin, rebuild};
use crate::daemon;
use crate::store::consistency::{Finding, check_all};
use crate::store::{Aside, Salvage, document, install, salvage};

#[derive(Subcommand)]
pub(super) enum StoreCommand {
    /// Check that the store is whole and that its records agree. Nothing in it is changed: a copy is read, in TMPDIR.
    /// Exit code 1 if anything is wrong
    Check(CheckArgs),
    /// Write everything that the store holds to a document, JSON a line: a backup, or the way to another disk. Of a
    /// damaged store it has what can be read, with a warning for each part that cannot, and exit code 1. Passwords stay
    /// sealed: keep seal.key of the state directory too
    Export(ExportArgs),
    /// Put what a document holds in place of the store, all of it or nothing. Revisions and the numbers of events go on
    /// from there, and machines that run are taken over by the next start; it ends those of this installation that the
    /// document does not know: 'anweddol store rebuild --dry-run' tells which run
    Import(ImportArgs),
    /// Write a lost or damaged store anew from what the domains of its machines bear
    ///
    /// The daemon must not run; machines, and who is logged in to them, are not touched. The old store is moved aside,
    /// never removed. The next start of the daemon takes the machines over, and ends those of its own that are not in
    /// the new store: see --dry-run first. Access tokens, API tokens and secrets are carried over as far as they can be
    /// read; the others have to be made again, and pools made by hand be applied again.
    Rebuild(rebuild::RebuildArgs),
}

#[derive(Args)]
pub(super) struct CheckArgs {
    #[command(flatten)]
    config: ConfigArgs,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Args)]
pub(super) struct ExportArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Where to; it must not exist yet. '-' for standard output
    #[arg(default_value = "-")]
    file: PathBuf,
}

#[derive(Args)]
pub(super) struct ImportArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// What 'anweddol store export' wrote; '-' for standard input
    file: PathBuf,
    /// If there is a store, keep it aside as store.replaced-TIME, in the state directory
    #[arg(long)]
    replace: bool,
}

pub(super) fn store(command: StoreCommand) -> Result<ExitCode> {
    match command {
        StoreCommand::Check(args) => check(&args),
        StoreCommand::Export(args) => export(&args),
        StoreCommand::Import(args) => import(&args),
        StoreCommand::Rebuild(args) => rebuild::rebuild(&args),
    }
}

/// The store that an invocation means. A daemon that simulates has its own, below `simulated`.
fn path(config: &ConfigArgs) -> Result<PathBuf> {
    Ok(daemon::store_path(&admin::config_as_owner(config)?.state_dir))
}

fn check(args: &CheckArgs) -> Result<ExitCode> {
    let path = path(&args.config)?;
    let Salvage { contents, losses } = salvage(&path)?;
    let findings = check_all(&contents);
    let (records, revision) = (contents.records.len(), contents.revision);
    match args.output.output {
        Output::Json => {
            let whole = losses.is_empty();
            println!(
                "{}",
                json!({ "store": path, "revision": revision, "records": records, "whole": whole,
                        "losses": losses, "findings": findings })
            );
        }
        Output::Text => {
            losses.iter().for_each(|loss| println!("damaged: {loss}"));
            findings.iter().for_each(|finding| println!("{finding}"));
        }
    }
    let what = format!("{records} records at revision {revision} in {}", path.display());
    match (losses.len(), findings.len()) {
        (0, 0) => eprintln!("good: {what}"),
        (0, count) => eprintln!("not good: {count} of {what} do not agree with the others"),
        (_, _) => eprintln!("damaged: {what} can be read; 'anweddol store export' saves them"),
    }
    Ok(if losses.is_empty() && findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn export(args: &ExportArgs) -> Result<ExitCode> {
    let path = path(&args.config)?;
    let Salvage { contents, losses } = salvage(&path)?;
    losses.iter().for_each(|loss| eprintln!("warning: {loss}"));
    if contents.records.is_empty() && !losses.is_empty() {
        let advice = "'anweddol store rebuild' makes another one from the machines that run";
        return Err(format!("nothing in {} can be read: {advice}", path.display()).into());
    }
    let whole = losses.is_empty();
    let text = document::write(&contents, Timestamp::now().to_string(), losses);
    match args.file.as_path() {
        file if file == Path::new("-") => std::io::stdout().write_all(text.as_bytes())?,
        file => {
            write(file, &text).map_err(|error| format!("'{}' cannot be written: {error}", file.display()))?;
            eprintln!(
                "written: {}, {} records at revision {}",
                file.display(),
                contents.records.len(),
                contents.revision
            );
        }
    }
    Ok(if whole { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// For its owner only, and on the disk when it is said to be written.
fn write(path: &Path, text: &str) -> std::io::Result<()> {
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(path)?;
    let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
    if written.is_err() {
        // Half a document is none.
        let _ = fs::remove_file(path);
    }
    written
}

fn import(args: &ImportArgs) -> Result<ExitCode> {
    let state_dir = admin::config_as_owner(&args.config)?.state_dir;
    let mut text = String::new();
    let read = match args.file.as_path() {
        file if file == Path::new("-") => std::io::stdin().read_to_string(&mut text),
        file => File::open(file).and_then(|mut file| file.read_to_string(&mut text)),
    };
    let name = args.file.display();
    read.map_err(|error| format!("'{name}' cannot be read: {error}"))?;
    let (header, contents) = document::read(&text)
        .map_err(|error| format!("'{name}' is no whole document of a store: {}", crate::error_chain(&error)))?;
    header.losses.iter().for_each(|loss| eprintln!("warning: it was written from a damaged store: {loss}"));
    check_all(&contents).iter().for_each(|Finding { key, wrong, .. }| eprintln!("warning: '{key}' {wrong}"));
    daemon::make_state_dir(&state_dir)?;
    let aside = match args.replace {
        true => Aside::As(format!("store.replaced-{}", Timestamp::now().strftime("%Y%m%dT%H%M%S.%fZ"))),
        false => Aside::Nowhere,
    };
    let path = daemon::store_path(&state_dir);
    if let Some(kept) = install(&path, &contents, &aside)? {
        eprintln!("kept: {}", kept.display());
    }
    let (records, revision) = (contents.records.len(), contents.revision);
    eprintln!("imported: {records} records at revision {revision}, of {}, to {}", header.exported, path.display());
    eprintln!(
        "the next start ends machines of this installation that are not in it: 'anweddol store rebuild --dry-run' tells \
         which run"
    );
    let seal = daemon::seal_path(&state_dir);
    if !seal.exists() {
        eprintln!("warning: without {}, passwords of running machines cannot be opened: bring it here", seal.display());
    }
    Ok(ExitCode::SUCCESS)
}
