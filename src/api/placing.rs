//! Giving a claim its place: what [`placement`] decides, as a transaction. The same for a client that waits on its
//! connection and for the operator, which serves claims that were written as objects.

use jiff::Timestamp;

use super::{BirthError, Births, Doubts, claims};
use crate::model::{Container, ContainerClaim, ContainerPool, EventKind, Object};
use crate::plan::claim;
use crate::plan::container::about;
use crate::plan::placement::{self, Asking, Placement};
use crate::store::records::{self, RecordError, Versioned};
use crate::store::{Store, Txn};

/// A place, as far as nobody is faster.
pub(crate) struct Place {
    /// The claim's machine.
    pub(crate) container: String,
    /// Gives it to the claim, with the events, or does nothing. It writes the claim, on no condition: whoever read it
    /// from the store adds that it is unchanged.
    pub(crate) txn: Txn,
}

/// What places are found in.
pub(crate) struct Places<'a> {
    pub(crate) store: &'a dyn Store,
    pub(crate) births: &'a Births,
    pub(crate) doubts: &'a Doubts,
}

impl Places<'_> {
    /// Finds a place behind so many other claims; none, if the pool is full.
    pub(crate) fn find(
        &self,
        pool: &Versioned<ContainerPool>,
        claim: &ContainerClaim,
        ahead: usize,
        gates: &[String],
        now: Timestamp,
    ) -> Result<Option<Place>, BirthError> {
        let members = members(self.store, &pool.object)?;
        let objects: Vec<Container> = members.iter().map(|member| member.object.clone()).collect();
        let doubtful = self.doubts.all();
        let asking = Asking { ahead, reviewed: !gates.is_empty(), doubtful: &doubtful };
        let (member, ready) = match placement::place(&pool.object, &objects, asking) {
            Placement::Full => return Ok(None),
            Placement::Cold => return self.cold(pool, claim, gates, now).map(Some),
            Placement::Warm(name) => (name, true),
            Placement::Rising(name) => (name, false),
        };
        let Some(member) = members.iter().find(|read| read.object.metadata.name == member) else { return Ok(None) };
        let mut claim = claim.clone();
        // With a key to install, a Ready one is not the claim's own yet.
        let txn = match ready && claim.spec.ssh_public_key.is_none() {
            true => claims::bind(&mut claim, member, now),
            false => claims::promise(&mut claim, member, now),
        };
        Ok(Some(Place { container: member.object.metadata.name.clone(), txn }))
    }

    /// A machine made for it. That holds only if the pool is as it was counted: so the limit is exact under any number
    /// of clients.
    fn cold(
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
        Ok(Place { container, txn: birth.txn.unchanged(pool).write(&counted).write(&claim).tell(&[created]) })
    }
}

/// All containers of a pool.
pub(crate) fn members(store: &dyn Store, pool: &ContainerPool) -> Result<Vec<Versioned<Container>>, RecordError> {
    let all: Vec<Versioned<Container>> = records::list(store, &pool.metadata.namespace)?;
    Ok(all.into_iter().filter(|c| c.object.spec.pool.as_deref() == Some(&pool.metadata.name)).collect())
}

/// The claims on a pool that wait for a place, the first one first.
pub(crate) fn waiting(store: &dyn Store, namespace: &str, pool: &str) -> Result<Vec<ContainerClaim>, RecordError> {
    let all: Vec<Versioned<ContainerClaim>> = records::list(store, namespace)?;
    let mut waiting: Vec<ContainerClaim> = all.into_iter().map(|read| read.object).collect();
    waiting.retain(|claim| claim.spec.pool == pool && claim::waits(claim));
    waiting.sort_by(|a, b| claim::turn(a).cmp(&claim::turn(b)));
    Ok(waiting)
}

/// A pool, by the name that a claim says.
pub(crate) fn pool_of(
    store: &dyn Store,
    claim: &ContainerClaim,
) -> Result<Option<Versioned<ContainerPool>>, RecordError> {
    let object = claim.object_ref();
    records::get(store, &object.namespace, &claim.spec.pool)
}
