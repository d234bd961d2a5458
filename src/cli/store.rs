//! `anweddol store`: for whoever has to look after the records themselves.

use std::process::ExitCode;

use clap::Subcommand;

use super::{Result, rebuild};

#[derive(Subcommand)]
pub(super) enum StoreCommand {
    /// Write a lost or damaged store anew from what the domains of its machines bear
    Rebuild(rebuild::RebuildArgs),
}

pub(super) fn store(command: StoreCommand) -> Result<ExitCode> {
    match command {
        StoreCommand::Rebuild(args) => rebuild::rebuild(&args),
    }
}
