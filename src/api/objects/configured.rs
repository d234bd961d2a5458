//! The pool that the daemon's configuration describes.

use jiff::Timestamp;
use uuid::Uuid;

use crate::api::placing;
use crate::manifest::keep::CONFIGURATION;
use crate::model::{CONFIGURED, ContainerPool, MANAGED_BY, ObjectMeta, PoolSpec};
use crate::store::records::{self, RecordError};
use crate::store::{Store, Txn, TxnResult};

/// What became of the configuration's pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Configured {
    /// It is as the configuration says.
    Applied,
    /// The configuration is the one that was applied last, and what was changed since then (`scale`, `edit`) stays.
    Kept,
    /// It is somebody else's now: a directory of manifests keeps it, or somebody made it by hand.
    Others,
    /// It is being deleted.
    Deleting,
}

/// Applies the configuration's pool, if the configuration changed since it was applied last.
pub fn apply(
    store: &dyn Store,
    namespace: &str,
    name: &str,
    spec: &PoolSpec,
    now: Timestamp,
) -> Result<Configured, RecordError> {
    let hash = hash(spec);
    loop {
        let txn = match records::get::<ContainerPool>(store, namespace, name)? {
            Some(read) => {
                let annotations = &read.object.metadata.annotations;
                if annotations.get(MANAGED_BY).map(String::as_str) != Some(CONFIGURATION) {
                    return Ok(Configured::Others);
                }
                if read.object.metadata.deleting() {
                    return Ok(Configured::Deleting);
                }
                if annotations.get(CONFIGURED) == Some(&hash) {
                    return Ok(Configured::Kept);
                }
                let mut pool = read.object.clone();
                if pool.spec != *spec {
                    pool.spec = spec.clone();
                    pool.metadata.generation += 1;
                }
                pool.metadata.annotations.insert(CONFIGURED.into(), hash.clone());
                Txn::default().unchanged(&read).write(&pool)
            }
            None => {
                let mut metadata = ObjectMeta::new(namespace, name, Uuid::new_v4(), now);
                metadata.annotations.insert(MANAGED_BY.into(), CONFIGURATION.into());
                metadata.annotations.insert(CONFIGURED.into(), hash.clone());
                placing::make_pool(store, metadata, spec)?.1
            }
        };
        if let TxnResult::Committed(_) = store.txn(txn).wait()? {
            return Ok(Configured::Applied);
        }
    }
}

fn hash(spec: &PoolSpec) -> String {
    crate::sha256(crate::manifest::json(spec).to_string())
}
