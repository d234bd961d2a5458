//! `anweddol store`: for whoever has to look after the records themselves.

use std::process::ExitCode;

use clap::Subcommand;

use super::{Result, rebuild};

#[derive(Subcommand)]
pub(super) enum StoreCommand {
    /// Write a lost or damaged store anew from what the domains of its machines bear
    ///
    /// The daemon must not run; machines, and who is logged in to them, are not touched. The old store is moved aside,
    /// never removed. The next start of the daemon takes the machines over, and ends those of its own that are not in
    /// the new store: see --dry-run first. Pools made by hand have to be applied again.
    Rebuild(rebuild::RebuildArgs),
}

pub(super) fn store(command: StoreCommand) -> Result<ExitCode> {
    match command {
        StoreCommand::Rebuild(args) => rebuild::rebuild(&args),
    }
}
