//! Giving a claim its place: what [`placement`] decides, as a transaction. The same for a client that waits on its
//! connection and for the operator, which serves claims that were written as objects.

use std::sync::Arc;

use jiff::Timestamp;

use super::reservations::{Reservation, Reservations};
use super::{BirthError, Births, Doubts, claims};
use crate::model::{Container, ContainerClaim, ContainerPool, EventKind, Object, ObjectMeta, PoolSpec, PoolStatus};
use crate::plan::claim;
use crate::plan::container::about;
use crate::plan::placement::{self, Asking, Placement};
use crate::plan::pool::counted;
use crate::store::records::{self, RecordError, UNCOUNTED, Versioned};
use crate::store::{Index, Shared, Store, Txn};

/// A place, as far as nobody is faster.
pub(crate) struct Place {
    /// The claim's machine.
    pub(crate) container: String,
    /// Gives it to the claim, with the events, or does nothing. It writes the claim, on no condition: whoever read it
    /// from the store adds that it is unchanged.
    pub(crate) txn: Txn,
    /// Keeps a member for the claim as long as the transaction is on its way.
    pub(crate) reservation: Option<Reservation>,
    /// The machine as it is then, if the transaction binds the claim, so that there is nothing more to wait for.
    pub(crate) bound: Option<Arc<Container>>,
}

/// What a claim finds in its pool.
pub(crate) enum Found {
    /// A member.
    Member(Place),
    /// No member, but one can be made for it.
    Room,
    /// Nothing.
    Full {
        /// A member that may be dead was passed over.
        doubtful: bool,
    },
}

/// What places are found in.
pub(crate) struct Places<'a> {
    pub(crate) store: &'a dyn Store,
    pub(crate) births: &'a Births,
    pub(crate) doubts: &'a Doubts,
    /// Of who places several claims at once. Nobody is woken when one is given back, so who goes to sleep over a full
    /// pool has its own.
    pub(crate) reservations: &'a Arc<Reservations>,
}

impl Places<'_> {
    /// Finds a place: the first one for the claim whose turn it is, for others one that leaves enough for those who wait.
    pub(crate) fn find(
        &self,
        pool: &ContainerPool,
        claim: &ContainerClaim,
        is_first: bool,
        reviewed: bool,
        now: Timestamp,
    ) -> Result<Found, RecordError> {
        let kept = self.reservations.kept();
        let index = self.store.index()?;
        let ahead = if is_first { 0 } else { index.waiting(&pool.metadata.namespace, &pool.metadata.name)? };
        let doubtful = self.doubts.all();
        let asking = Asking { ahead, reviewed, doubtful: &doubtful };
        let free = members(&index, pool)?.filter(|read| !kept.contains(read.object.uuid()));
        let (member, ready) = match placement::place(pool, free.map(|read| (&read.object, read)), asking) {
            Placement::Full => return Ok(Found::Full { doubtful: !doubtful.is_empty() }),
            Placement::Cold => return Ok(Found::Room),
            Placement::Warm(member) => (member, true),
            Placement::Rising(member) => (member, false),
        };
        let reservation = Some(kept.keep(member.object.uuid()));
        // With a key to install, a Ready one is not the claim's own yet.
        let (bound, txn) = if ready && claim.spec.ssh_public_key.is_none() {
            let (bound, txn) = claims::bind(claim.clone(), member, now);
            (Some(bound), txn)
        } else {
            (None, claims::promise(claim.clone(), member, now))
        };
        let container = member.object.metadata.name.clone();
        Ok(Found::Member(Place { container, txn, reservation, bound }))
    }

    /// A machine made for it. That holds only if the pool is as it was counted: so the limit is exact under any number
    /// of clients.
    pub(crate) fn make(
        &self,
        pool: &Versioned<ContainerPool>,
        claim: &ContainerClaim,
        gates: &[String],
        now: Timestamp,
    ) -> Result<Place, BirthError> {
        let name = &claim.metadata.name;
        let birth = self.births.container(self.store, &pool.object, Some(name), gates.to_vec(), now)?;
        let container = birth.container.metadata.name.clone();
        let created = about(&birth.container, Some(claim), EventKind::CreatedContainer, now);
        let mut claim = claim.clone();
        claim.status = claim::promised(&claim.status, &container, now);
        let mut counted = pool.object.clone();
        counted.status.containers += 1;
        let txn = birth.txn.unchanged(pool).write(&counted).write(&claim).tell(&[created]);
        Ok(Place { container, txn, reservation: None, bound: None })
    }
}

/// All containers of a pool, in the order in which claims take them.
pub(crate) fn members<'a>(
    index: &'a Index,
    pool: &ContainerPool,
) -> Result<impl Iterator<Item = &'a Shared<Container>> + use<'a>, RecordError> {
    index.members(&pool.metadata.namespace, &pool.metadata.name)
}

/// Makes the record of a pool that is not there, with whatever counts against it already. However many that are: none is
/// made without a pool, and each that goes without one changes the one key that this number stands on.
pub(crate) fn make_pool(
    store: &dyn Store,
    metadata: ObjectMeta,
    spec: &PoolSpec,
) -> Result<(ContainerPool, Txn), RecordError> {
    let mut pool = ContainerPool { metadata, spec: spec.clone(), status: PoolStatus::default() };
    // Before the members: whoever goes after this is seen as a change of it.
    let (last, _) = store.get(UNCOUNTED)?;
    pool.status = counted(members(&store.index()?, &pool)?.count());
    let absent = Txn::default().absent(&records::key(&pool.object_ref()));
    let as_counted = match last {
        Some(last) => absent.key_unchanged(&last),
        None => absent.absent(UNCOUNTED),
    };
    let txn = as_counted.write(&pool);
    Ok((pool, txn))
}

/// A pool, by the name that a claim says.
pub(crate) fn pool_of(store: &dyn Store, claim: &ContainerClaim) -> Result<Option<Shared<ContainerPool>>, RecordError> {
    Ok(store.index()?.pool(&claim.metadata.namespace, &claim.spec.pool)?.cloned())
}
