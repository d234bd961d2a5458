//! `anweddol store rebuild`: a store that is lost is written anew from what the domains of its machines bear.
//!
//! ```text
//! hold the store ─► list domains ─► plan::rebuild ─► a new store beside the old one ─► they change places
//! ```
//!
//! Machines are not touched. What their domains bear was written after the records it is of (`Step::Remember`), so it
//! can be behind by what happened in the last moment before the store was lost: a machine given to somebody just then
//! is not found, and one whose end was asked for just then comes back, for the same client to end again. The log of
//! events, pools, and claims that wait begin anew.
//!
//! That the domain of every machine in use bears its records is kept by the histories in `operator/tests` and by
//! `tests/crash`; that machines outlive their records by `machines_in_use_outlive_the_store_and_their_claims_still_end_them`
//! (operator/tests) and, on real guests in both modes, by
//! `a_session_outlives_the_store_and_its_client_still_extends_and_ends_its_machine` (tests/guest); that a look that fails
//! and machines that may be in use stop it by the tests here.

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use uuid::Uuid;

use super::instance::{self, InstanceError};
use super::{checks, libvirt_config, store_path};
use crate::config::Config;
use crate::hypervisor::libvirt::Libvirt;
use crate::hypervisor::{Hypervisor, HypervisorError};
use crate::model::Keepsake;
use crate::plan::rebuild::{self, Found, Left};
use crate::store::records::{self, RecordError};
use crate::store::{Aside, Contents, OpenError, Replacement, Store, StoreError, Txn, TxnResult, memory};

/// Whether the store is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Run {
    /// It is.
    Write,
    /// It only is said what would be.
    Dry,
}

/// What becomes of machines that somebody may be using and whose records cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// Nothing is written because of them.
    Refuse,
    /// They are left out, and ended by the next start.
    LeaveOut,
}

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    /// The installation, where that is not known otherwise.
    pub instance: Option<Uuid>,
    /// Whether anything is written.
    pub run: Run,
    /// What becomes of what cannot be read.
    pub unreadable: Unreadable,
    /// The time, by which the old store is named.
    pub now: Timestamp,
}

/// What came of it.
#[derive(Debug)]
pub struct Report {
    /// The installation; absent if none was ever begun here.
    pub instance: Option<Uuid>,
    /// The machines that are in the new store.
    pub machines: Vec<Keepsake>,
    /// Those that are not. The next start ends them.
    pub left: Vec<Left>,
    /// Where the old store is now.
    pub aside: Option<PathBuf>,
}

/// Why the store is not rebuilt. Everything is as it was.
#[derive(Debug, thiserror::Error)]
pub enum RebuildError {
    /// The store is in use, or its directory cannot be used.
    #[error(transparent)]
    Store(#[from] OpenError),
    /// libvirt.
    #[error(transparent)]
    Hypervisor(#[from] HypervisorError),
    /// Its records cannot be written.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// What is written of this installation.
    #[error(transparent)]
    Instance(#[from] InstanceError),
    /// Domains of several installations run here.
    #[error("machines of several installations run here: say which is this one's with --instance: {}", list(found))]
    WhichInstance {
        /// Each with its number of domains.
        found: Vec<(Uuid, usize)>,
    },
    /// Machines would be lost that somebody may be using.
    #[error(
        "what {} of these machines bear cannot be read, and the next start would end them: see --dry-run, and say \
         --leave-out to go on without them", left.len()
    )]
    InUse {
        /// Which.
        left: Vec<Left>,
    },
}

impl From<StoreError> for RebuildError {
    fn from(error: StoreError) -> Self {
        RebuildError::Record(error.into())
    }
}

fn list(found: &[(Uuid, usize)]) -> String {
    found.iter().map(|(instance, domains)| format!("{instance} ({domains} domains)")).collect::<Vec<_>>().join(", ")
}

/// Rebuilds the store of the daemon with this configuration, which must not run. Blocks.
pub fn rebuild(config: &Config, wish: &Wish) -> Result<Report, RebuildError> {
    let (way, _) = checks::way(config, config.hypervisor.mode);
    // Before libvirt: an embedded one that is a running daemon's would say so less clearly.
    let replacement = Replacement::begin(&store_path(&config.state_dir))?;
    let libvirt = Libvirt::connect(libvirt_config(config, way))?;
    rebuild_held(replacement, &*libvirt, &config.state_dir, wish)
}

/// The same with the machines of any hypervisor.
pub fn rebuild_on(hypervisor: &dyn Hypervisor, state_dir: &Path, wish: &Wish) -> Result<Report, RebuildError> {
    rebuild_held(Replacement::begin(&store_path(state_dir))?, hypervisor, state_dir, wish)
}

fn rebuild_held(
    replacement: Replacement,
    hypervisor: &dyn Hypervisor,
    state_dir: &Path,
    wish: &Wish,
) -> Result<Report, RebuildError> {
    let found = look(hypervisor)?;
    let instance = choose(wish.instance, instance::read(state_dir)?, &found)?;
    let rebuilt = instance.map(|instance| rebuild::rebuild(instance, found)).unwrap_or_default();
    let (machines, left) = (rebuilt.machines, rebuilt.left);
    let mut report = Report { instance, machines, left, aside: None };
    match wish.run {
        Run::Dry => return Ok(report),
        Run::Write => {}
    }
    match wish.unreadable {
        Unreadable::Refuse if report.left.iter().any(|left| left.why.in_use()) => {
            report.left.retain(|left| left.why.in_use());
            return Err(RebuildError::InUse { left: report.left });
        }
        Unreadable::Refuse | Unreadable::LeaveOut => {}
    }
    // What the store was called says where it is from; the time, which one of several.
    let aside = Aside::As(format!("store.damaged-{}", wish.now.strftime("%Y%m%dT%H%M%SZ")));
    report.aside = replacement.finish(&contents(instance, &report.machines)?, &aside)?;
    if let Some(instance) = instance {
        instance::write(state_dir, instance)?;
    }
    Ok(report)
}

/// All domains with a mark. One that cannot be looked at makes the whole look fail: whatever is missing is ended.
fn look(hypervisor: &dyn Hypervisor) -> Result<Vec<Found>, HypervisorError> {
    let domains = hypervisor.list()?;
    domains.into_iter().map(|domain| Ok(Found { text: hypervisor.recall(domain.uuid)?, domain })).collect()
}

/// What is asked for, else what is written beside the store, else the only one there is.
fn choose(asked: Option<Uuid>, written: Option<Uuid>, found: &[Found]) -> Result<Option<Uuid>, RebuildError> {
    if let Some(instance) = asked.or(written) {
        return Ok(Some(instance));
    }
    let found: Vec<(Uuid, usize)> = rebuild::instances(found).into_iter().collect();
    match found[..] {
        [] => Ok(None),
        [(instance, _)] => Ok(Some(instance)),
        _ => Err(RebuildError::WhichInstance { found }),
    }
}

/// What is to be in the store.
fn contents(instance: Option<Uuid>, machines: &[Keepsake]) -> Result<Contents, RebuildError> {
    let store = &*memory();
    if let Some(instance) = instance {
        records::instance(store, instance)?;
    }
    for Keepsake { container, claim, credentials } in machines {
        let meta = &container.metadata;
        let (credentials_key, port_key) =
            (records::credentials_key(&meta.namespace, &meta.name), records::port_key(container.spec.machine.port));
        let txn = Txn::default().write(container).put(&credentials_key, credentials).put(&port_key, &container.uuid());
        let txn = claim.iter().fold(txn, |txn, claim| txn.write(claim));
        match store.txn(txn).wait()? {
            // It has no conditions.
            TxnResult::Committed(_) | TxnResult::Conflict { .. } => {}
        }
    }
    Ok(Contents::of(store)?)
}

#[cfg(test)]
mod tests;
