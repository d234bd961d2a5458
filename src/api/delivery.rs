//! Whether a client was told of its machine. CREATE's answer is on its way when it is written; it has arrived when the
//! client's system says so, and that is noted beside the claim, behind the client's back: nobody waits for it.

use uuid::Uuid;

use super::{Api, ApiError, claims};
use crate::model::ContainerClaim;
use crate::plan::claim;
use crate::store::records;
use crate::store::{Txn, TxnResult};

impl Api {
    /// Notes that the client of this container's claim was told of it. If it has ended meanwhile, there is nothing to
    /// note.
    pub async fn delivered(&self, container: Uuid) -> Result<(), ApiError> {
        let claim = claims::of_container(&*self.store, &self.namespace, &container.to_string())?;
        let Some(claim) = claim else { return Ok(()) };
        loop {
            let read = records::get::<ContainerClaim>(&*self.store, &self.namespace, &claim.metadata.name)?;
            let Some(read) = read else { return Ok(()) };
            let Some(status) = claim::delivered(&read.object, (self.clock)()) else { return Ok(()) };
            let noted = ContainerClaim { status, ..read.object.clone() };
            if let TxnResult::Committed(_) = self.store.txn(Txn::default().unchanged(&read).write(&noted)).await? {
                return Ok(());
            }
        }
    }
}
