//! `anweddol teardown`: the end of an installation on this host. Its machines end, and what the daemon made for them goes.
//!
//! To the doctor, everything of an installation without any record is left over ([`crate::plan::drift`]): so this is its
//! cure with no records. Those in the store stay, and the next start tells clients that their machines have ended. The
//! network and the nftables tables go at last, where no other installation has machines on them.

use std::sync::Arc;

use tokio::runtime::Handle;

use super::{Machines, ServeError, checks, instance, libvirt_config, nat, real, store_path};
use crate::clock;
use crate::config::Config;
use crate::guest::forward::nft::{self, NftConfig};
use crate::hypervisor::{HypervisorError, libvirt};
use crate::operator::Inventory;
use crate::plan::checks::machines::Way;
use crate::plan::drift::Removal;
use crate::store::{Replacement, memory};

/// What was removed, and what could not be.
#[derive(Debug, Default)]
pub struct Report {
    /// Machines, and what belonged to them.
    pub removals: Vec<Removal>,
    /// Why the network and the nftables tables stay, where there are any and they do.
    pub kept: Option<String>,
}

impl Report {
    /// Whether nothing is left.
    pub fn is_clean(&self) -> bool {
        self.kept.is_none() && self.removals.iter().all(|removal| removal.failed.is_none())
    }
}

/// Removes everything of the installation with this configuration, whose daemon must not run. Blocks.
pub fn teardown(config: &Config, runtime: Handle) -> Result<Report, ServeError> {
    let Some(instance) = instance::read(&config.state_dir)? else { return Ok(Report::default()) };
    // Its lock keeps a daemon from making what is taken away.
    let _held = Replacement::begin(&store_path(&config.state_dir))?;
    let mode = config.hypervisor.mode;
    let (way, _) = checks::way(config, mode);
    let Machines { hypervisor, forwarder, .. } = real(config, mode, runtime)?;
    let store = memory();
    let clock = clock::anchored(&*store)?;
    let state_dir = Some(config.state_dir.clone());
    let inventory = Inventory { store, hypervisor, forwarder, instance, clock, state_dir, metrics: Arc::default() };
    let removals = inventory.mend()?;
    let others = inventory.hypervisor.list()?.len();
    let kept = match way {
        Way::Embedded => None,
        Way::System if others > 0 => Some(format!("{others} machines are still on them")),
        Way::System => remove_network(config).err().map(|error| crate::error_chain(&error)),
    };
    Ok(Report { removals, kept })
}

fn remove_network(config: &Config) -> Result<(), ServeError> {
    let network = nat(config);
    nft::remove(&NftConfig::new(config.port_forwarding.bind, network.clone()))?;
    let failed = |reason| HypervisorError::Invalid { what: format!("network '{}'", network.name), reason };
    libvirt::remove_network(&libvirt_config(config, Way::System), &network.name).map_err(failed)?;
    Ok(())
}
