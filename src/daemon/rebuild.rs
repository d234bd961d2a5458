//! `anweddol store rebuild`: a store that is lost is written anew from what the domains of its machines bear.
//!
//! ```text
//! hold the store ─► list domains ─► plan::rebuild ─► a new store beside the old one ─► they change places
//! ```
//!
//! Machines are not touched. What their domains bear was written after the records it is of (`Step::Remember`), so it
//! can be behind by what happened in the last moment before the store was lost: a machine given to somebody just then
//! is not found, and one whose end was asked for just then comes back, for the same client to end again. What no machine
//! bears and people hold keys of (access tokens, tokens of the API, secrets) is carried over from the old store, as far as
//! that can be read. The log of events, pools, and claims that wait begin anew.
//!
//! That the domain of every machine in use bears its records is kept by the histories in `operator/tests` and by
//! `tests/crash`; that machines outlive their records by `machines_in_use_outlive_the_store_and_their_claims_still_end_them`
//! (operator/tests) and, on real guests in both modes, by
//! `a_session_outlives_the_store_and_its_client_still_extends_and_ends_its_machine` (tests/guest); that a look that fails
//! and machines that may be in use stop it by the tests here.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use uuid::Uuid;

use super::instance::{self, InstanceError};
use super::{ServeError, checks, libvirt_config, make_state_dir, store_path};
use crate::config::Config;
use crate::hypervisor::libvirt::Libvirt;
use crate::hypervisor::{Hypervisor, HypervisorError};
use crate::model::Keepsake;
use crate::plan::checks::machines::Way;
use crate::plan::rebuild::{self, Found, Left};
use crate::store::consistency::{check, check_all};
use crate::store::records::{self, ACCESS_TOKENS, PLAIN, RecordError, TOKENS};
use crate::store::{Aside, Contents, Kv, Op, OpenError, Replacement, Salvage, Store, StoreError, Txn, memory, salvage};

/// Below these prefixes is what no machine bears, and cannot be made again by who lost it.
const CARRIED: [&str; 3] = [ACCESS_TOKENS, TOKENS, PLAIN];

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

/// Which store gives way to another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replaces {
    /// One that is damaged, or gone.
    Damaged,
    /// Whatever is there.
    Anything,
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
    /// What becomes of a store that is whole.
    pub replaces: Replaces,
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
    /// What is carried over from the old store.
    pub carried: Vec<Kv>,
    /// Why there may have been more of that; nothing, if this is all.
    pub losses: Vec<String>,
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
    /// The state directory cannot be used.
    #[error(transparent)]
    StateDir(#[from] ServeError),
    /// There is nothing to mend.
    #[error(
        "the store in {} is whole: pools, events, and claims that wait would be lost. With --replace it is kept aside, \
         and another put in its place", dir.display()
    )]
    Whole {
        /// Where.
        dir: PathBuf,
    },
    /// Nobody knows what of it would be lost.
    #[error(
        "the old store cannot be looked at; with --replace nothing of it is carried over, and access tokens, API tokens and \
         secrets have to be made again"
    )]
    Unseen(#[source] OpenError),
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
    let libvirt = libvirt_config(config, way);
    // Before libvirt: an embedded one that is a running daemon's would say so less clearly.
    let old = Old::take(&config.state_dir, wish)?;
    // Connecting to one inside this process makes its directories.
    let never = way == Way::Embedded && !config.state_dir.join("embed").exists();
    let found = match wish.run {
        Run::Dry if never => Vec::new(),
        Run::Dry | Run::Write => look(&*Libvirt::connect(libvirt)?)?,
    };
    rebuild_of(old, found, &config.state_dir, wish)
}

/// The same with the machines of any hypervisor.
pub fn rebuild_on(hypervisor: &dyn Hypervisor, state_dir: &Path, wish: &Wish) -> Result<Report, RebuildError> {
    let old = Old::take(state_dir, wish)?;
    rebuild_of(old, look(hypervisor)?, state_dir, wish)
}

/// The store that was there.
struct Old {
    /// Held, where it is going to be replaced.
    replacement: Option<Replacement>,
    carried: Vec<Kv>,
    losses: Vec<String>,
}

impl Old {
    fn take(state_dir: &Path, wish: &Wish) -> Result<Old, RebuildError> {
        let dir = store_path(state_dir);
        let (replacement, found) = match wish.run {
            Run::Dry if !state_dir.is_dir() => return Err(OpenError::Absent { dir }.into()),
            Run::Dry => (None, salvage(&dir)),
            Run::Write => {
                make_state_dir(state_dir)?;
                let replacement = Replacement::begin(&dir)?;
                let found = replacement.salvage();
                (Some(replacement), found)
            }
        };
        let keeps = wish.run == Run::Write && wish.replaces == Replaces::Damaged;
        let none = |why: String| {
            let contents = Contents { revision: 1, records: vec![], logs: BTreeMap::new() };
            Salvage { contents, losses: vec![why] }
        };
        let Salvage { contents, losses } = match found {
            // A daemon that missed its store has begun one, and has stopped.
            Ok(Salvage { contents, losses }) if losses.is_empty() && contents.records.is_empty() => {
                none("the old store is empty".into())
            }
            Ok(found) if keeps && found.losses.is_empty() && check_all(&found.contents).is_empty() => {
                return Err(RebuildError::Whole { dir });
            }
            Ok(found) => found,
            Err(OpenError::Absent { .. }) => none("there is no old store".into()),
            Err(error @ OpenError::Locked { .. }) => return Err(error.into()),
            Err(error) if keeps => return Err(RebuildError::Unseen(error)),
            Err(error) => none(crate::error_chain(&error)),
        };
        Ok(Old { replacement, carried: carried(contents.records), losses })
    }
}

/// What of these records goes into the new store: what reads as what its key says.
fn carried(mut records: Vec<Kv>) -> Vec<Kv> {
    records.retain(|kv| CARRIED.iter().any(|prefix| kv.key.starts_with(prefix)));
    let wrong: BTreeSet<String> = check(&records).into_iter().map(|finding| finding.key).collect();
    records.retain(|kv| !wrong.contains(&*kv.key));
    records
}

fn rebuild_of(old: Old, found: Vec<Found>, state_dir: &Path, wish: &Wish) -> Result<Report, RebuildError> {
    let instance = choose(wish.instance, instance::read(state_dir)?, &found)?;
    let rebuilt = instance.map(|instance| rebuild::rebuild(instance, found)).unwrap_or_default();
    let (machines, left) = (rebuilt.machines, rebuilt.left);
    let Old { replacement, carried, losses } = old;
    let mut report = Report { instance, machines, left, carried, losses, aside: None };
    let Some(replacement) = replacement else { return Ok(report) };
    match wish.unreadable {
        Unreadable::Refuse if report.left.iter().any(|left| left.why.in_use()) => {
            report.left.retain(|left| left.why.in_use());
            return Err(RebuildError::InUse { left: report.left });
        }
        Unreadable::Refuse | Unreadable::LeaveOut => {}
    }
    // What the store was called says where it is from; the time, which one of several.
    let aside = Aside::As(format!("store.damaged-{}", wish.now.strftime("%Y%m%dT%H%M%SZ")));
    report.aside = replacement.finish(&contents(&report)?, &aside)?;
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
fn contents(report: &Report) -> Result<Contents, RebuildError> {
    let store = &*memory();
    // None of these has conditions.
    let write = |txn: Txn| store.txn(txn).wait().map(drop);
    if let Some(instance) = report.instance {
        records::instance(store, instance)?;
    }
    for Keepsake { container, claim, credentials } in &report.machines {
        let meta = &container.metadata;
        let (credentials_key, port_key) =
            (records::credentials_key(&meta.namespace, &meta.name), records::port_key(container.spec.machine.port));
        let txn = Txn::default().write(container).put(&credentials_key, credentials).put(&port_key, &container.uuid());
        write(claim.iter().fold(txn, |txn, claim| txn.write(claim)))?;
    }
    for Kv { key, value, .. } in &report.carried {
        let put = Op::Put { key: key.to_string(), value: value.clone() };
        write(Txn { conds: vec![], ops: vec![put] })?;
    }
    Ok(Contents::of(store)?)
}

#[cfg(test)]
mod tests;
