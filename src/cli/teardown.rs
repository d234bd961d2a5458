//! `anweddol teardown`.

use std::process::ExitCode;

use super::{ConfigArgs, Result, admin};
use crate::daemon;

pub(super) fn teardown(args: &ConfigArgs) -> Result<ExitCode> {
    let config = admin::config_as_owner(args)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let report = daemon::teardown::teardown(&config, runtime.handle().clone())?;
    runtime.shutdown_background();
    for removal in &report.removals {
        match &removal.failed {
            None => eprintln!("removed: {} {}", removal.kind, removal.name),
            Some(why) => eprintln!("stays: {} {}: {why}", removal.kind, removal.name),
        }
    }
    if let Some(why) = &report.kept {
        eprintln!("stays: network '{}' and the nftables tables: {why}", config.hypervisor.network);
    }
    Ok(if report.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
