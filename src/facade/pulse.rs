//! Whether a server lives: not whether all is well ([`crate::server::health`]), but whether the parts answer without which
//! nothing would ever be well again.

use std::sync::Arc;

use crate::model::ObjectRef;
use crate::operator::queue::Queue;
use crate::store::{Store, Txn};

/// The parts that have to answer.
#[derive(Clone)]
pub(crate) struct Pulse {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) queue: Queue<ObjectRef>,
}

impl Pulse {
    /// Waits until each has answered: the runtime, by going on; the store's committer, with a transaction that changes
    /// nothing; the operator's queue, with a look. One that hangs keeps it waiting for ever.
    ///
    /// A hypervisor that hangs is none of them: a daemon that is started again would meet the same one.
    pub(crate) async fn beat(&self) {
        // A store that refuses answers too: what failed ends the daemon by itself.
        let _ = self.store.txn(Txn::default()).await;
        self.queue.looked().await;
    }
}
