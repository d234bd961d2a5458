//! The registry's objects and access tokens as they are used: decoded, and found by what they are asked for by: their
//! pool, or the SHA-256 of their text.
//!
//! Without it, whoever looks for a member reads and decodes all of them, and the cost of making N containers grows
//! with the square of N. It is what an informer's cache with its indexers is to a controller of Kubernetes, but it is
//! never behind: whoever asks the store for it gets what a list would say at that moment. A store keeps one and brings
//! it up to date by the changes since it was last asked for, so that each record is decoded at most once for all
//! readers; a copy costs a few pointers.

mod access_tokens;

#[cfg(test)]
mod tests;

use std::cmp::Ordering;
use std::ops::Bound;
use std::sync::Arc;

use imbl::{OrdMap, OrdSet};
use jiff::Timestamp;

use super::records::{self, ACCESS_TOKENS, RecordError, Versioned};
use super::{Batch, Change, Kv};
use crate::model::{Condition, Container, ContainerClaim, ContainerPool, Kind, Object, ObjectMeta, ObjectRef};
use crate::plan::claim;
use crate::plan::placement::{self, Turn};

pub use access_tokens::AccessTokens;

/// All objects and access tokens at one revision.
#[derive(Clone)]
pub struct Index {
    revision: u64,
    containers: Shelf<Container>,
    claims: Shelf<ContainerClaim>,
    pools: Shelf<ContainerPool>,
    access_tokens: AccessTokens,
}

/// An object as it is shared by all readers.
pub type Shared<T> = Arc<Versioned<T>>;

impl Default for Index {
    /// Of a store that was never written.
    fn default() -> Self {
        Index {
            revision: 1,
            containers: Shelf::default(),
            claims: Shelf::default(),
            pools: Shelf::default(),
            access_tokens: AccessTokens::default(),
        }
    }
}

impl Index {
    /// Of all records of a store, as of a revision.
    pub fn of(all: impl IntoIterator<Item = Kv>, revision: u64) -> Index {
        let mut index = Index { revision, ..Index::default() };
        all.into_iter().for_each(|kv| index.set(&kv.key, Some(&kv)));
        index
    }

    /// What it is as of.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// Takes in what changed, in the next revision that changed anything.
    pub fn follow(&mut self, batch: &Batch) {
        for change in &batch.changes {
            match change {
                Change::Put { kv, .. } => self.set(&kv.key, Some(kv)),
                Change::Delete { prev } => self.set(&prev.key, None),
            }
        }
        self.revision = batch.rev;
    }

    /// All containers of a pool, in the order in which claims take them.
    pub fn members(
        &self,
        namespace: &str,
        pool: &str,
    ) -> Result<impl Iterator<Item = &Shared<Container>> + use<'_>, RecordError> {
        Ok(self.containers.of_pool(namespace, pool)?.into_iter().flatten().map(|InRow(member)| member))
    }

    /// Whose turn it is of the claims that wait for a place in a pool.
    pub fn first_waiting(&self, namespace: &str, pool: &str) -> Result<Option<&Shared<ContainerClaim>>, RecordError> {
        let row = self.claims.of_pool(namespace, pool)?;
        Ok(row.and_then(OrdSet::get_min).map(|InRow(first)| first))
    }

    /// How many claims wait for a place in a pool.
    pub fn waiting(&self, namespace: &str, pool: &str) -> Result<usize, RecordError> {
        Ok(self.claims.of_pool(namespace, pool)?.map_or(0, OrdSet::len))
    }

    /// A pool, if it is there.
    pub fn pool(&self, namespace: &str, name: &str) -> Result<Option<&Shared<ContainerPool>>, RecordError> {
        let object = ObjectRef { kind: Kind::ContainerPool, namespace: namespace.into(), name: name.into() };
        self.pools.get(&records::key(&object))
    }

    /// All containers, in the order of their namespaces and names.
    pub fn containers(&self) -> Result<impl Iterator<Item = &Shared<Container>>, RecordError> {
        self.containers.all()
    }

    /// All pools, in the order of their namespaces and names.
    pub fn pools(&self) -> Result<impl Iterator<Item = &Shared<ContainerPool>>, RecordError> {
        self.pools.all()
    }

    /// The keys of all objects behind a key, in order: of claims, pools and containers, as their plurals are.
    pub fn behind<'a>(&'a self, key: &'a str) -> Result<impl Iterator<Item = &'a Arc<str>>, RecordError> {
        let (claims, pools) = (self.claims.behind(key)?, self.pools.behind(key)?);
        Ok(claims.chain(pools).chain(self.containers.behind(key)?))
    }

    /// All objects of a kind below a key, in the order of their keys: what a list of the store would say of them, without
    /// reading each of them again.
    pub(crate) fn below<'a, T: Indexed>(
        &'a self,
        prefix: &'a str,
    ) -> Result<impl Iterator<Item = &'a Shared<T>> + use<'a, T>, RecordError> {
        T::shelf(self).below(prefix)
    }

    /// How many objects there are.
    pub fn count(&self) -> usize {
        self.claims.all.len() + self.pools.all.len() + self.containers.all.len()
    }

    /// All claims, in the order of their namespaces and names.
    pub fn claims(&self) -> Result<impl Iterator<Item = &Shared<ContainerClaim>>, RecordError> {
        self.claims.all()
    }

    /// All access tokens.
    pub fn access_tokens(&self) -> Result<&AccessTokens, RecordError> {
        self.access_tokens.readable()
    }

    fn set(&mut self, key: &Arc<str>, kv: Option<&Kv>) {
        if key.starts_with(ACCESS_TOKENS) {
            return self.access_tokens.set(key, kv);
        }
        let Some(object) = records::parse_key(key) else { return };
        match object.kind {
            Kind::Container => self.containers.set(key, &object, kv),
            Kind::ContainerClaim => self.claims.set(key, &object, kv),
            Kind::ContainerPool => self.pools.set(key, &object, kv),
        }
    }
}

/// A kind whose objects are all here.
pub(crate) trait Indexed: Placed {
    /// Where.
    fn shelf(index: &Index) -> &Shelf<Self>;
}

impl Indexed for Container {
    fn shelf(index: &Index) -> &Shelf<Self> {
        &index.containers
    }
}

impl Indexed for ContainerClaim {
    fn shelf(index: &Index) -> &Shelf<Self> {
        &index.claims
    }
}

impl Indexed for ContainerPool {
    fn shelf(index: &Index) -> &Shelf<Self> {
        &index.pools
    }
}

/// What stands in a row before or in a pool.
pub(crate) trait Placed: Object {
    /// Its place in the row.
    type Place<'a>: Ord;

    /// Its pool and its place there, if it has one.
    fn place(&self) -> Option<(&str, Self::Place<'_>)>;

    /// Takes no more room than it needs, since it is kept for as long as its record: what it and another one have alike
    /// is kept once (`a_member_takes_less_in_the_index_than_its_record`).
    fn shrink(&mut self, others: &[&Self]);
}

impl Placed for Container {
    type Place<'a> = Turn<'a>;

    fn place(&self) -> Option<(&str, Turn<'_>)> {
        Some((self.spec.pool.as_deref()?, placement::turn(self)))
    }

    fn shrink(&mut self, others: &[&Self]) {
        self.metadata.owner_references.shrink_to_fit();
        self.status.conditions.shrink_to_fit();
        for other in others {
            share(&mut self.metadata, &other.metadata);
            if let (Some(pool), Some(theirs)) = (&mut self.spec.pool, &other.spec.pool) {
                pool.share(theirs);
            }
            self.spec.template.share(&other.spec.template);
            self.spec.machine.image_sha256.share(&other.spec.machine.image_sha256);
            share_conditions(&mut self.status.conditions, &other.status.conditions);
        }
    }
}

impl Placed for ContainerClaim {
    type Place<'a> = (Timestamp, &'a str);

    fn place(&self) -> Option<(&str, Self::Place<'_>)> {
        claim::waits(self).then(|| (self.spec.pool.as_str(), claim::turn(self)))
    }

    fn shrink(&mut self, others: &[&Self]) {
        self.metadata.owner_references.shrink_to_fit();
        self.status.conditions.shrink_to_fit();
        for other in others {
            share(&mut self.metadata, &other.metadata);
            share_conditions(&mut self.status.conditions, &other.status.conditions);
        }
    }
}

impl Placed for ContainerPool {
    type Place<'a> = ();

    fn place(&self) -> Option<(&str, ())> {
        None
    }

    fn shrink(&mut self, _: &[&Self]) {}
}

fn share(meta: &mut ObjectMeta, other: &ObjectMeta) {
    meta.namespace.share(&other.namespace);
    meta.labels.share(&other.labels);
    meta.owner_references.share(&other.owner_references);
}

fn share_conditions(conditions: &mut [Condition], others: &[Condition]) {
    for condition in conditions {
        if let Some(other) = others.iter().find(|other| other.kind == condition.kind) {
            condition.said.share(&other.said);
        }
    }
}

/// The objects of a pool, in the order of their places.
type Row<T> = OrdSet<InRow<T>>;

/// An object that has a place in a row. It stands there itself, without a copy of its place: there are as many as objects.
struct InRow<T>(Shared<T>);

impl<T: Placed> InRow<T> {
    fn place(&self) -> Option<T::Place<'_>> {
        self.0.object.place().map(|(_, place)| place)
    }
}

impl<T: Placed> Ord for InRow<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.place().cmp(&other.place())
    }
}

impl<T: Placed> PartialOrd for InRow<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T: Placed> PartialEq for InRow<T> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl<T: Placed> Eq for InRow<T> {}

impl<T> Clone for InRow<T> {
    fn clone(&self) -> Self {
        InRow(Arc::clone(&self.0))
    }
}

/// All objects of a kind.
#[derive(Clone)]
pub(crate) struct Shelf<T: Placed> {
    /// By their keys in the store.
    all: OrdMap<Arc<str>, Shared<T>>,
    /// By `namespace/pool`, in the order of their places.
    pools: OrdMap<String, Row<T>>,
    /// Records that are none of this kind. Whether they would belong to a list nobody knows, so none is given.
    unreadable: OrdMap<Arc<str>, Kv>,
}

impl<T: Placed> Default for Shelf<T> {
    fn default() -> Self {
        Shelf { all: OrdMap::new(), pools: OrdMap::new(), unreadable: OrdMap::new() }
    }
}

impl<T: Placed> Shelf<T> {
    fn all(&self) -> Result<impl Iterator<Item = &Shared<T>>, RecordError> {
        self.readable(|_| true)?;
        Ok(self.all.values())
    }

    fn below<'a>(&'a self, prefix: &'a str) -> Result<impl Iterator<Item = &'a Shared<T>> + use<'a, T>, RecordError> {
        self.readable(|key| key.starts_with(prefix))?;
        let from = self.all.range::<_, str>((Bound::Included(prefix), Bound::Unbounded));
        Ok(from.take_while(move |(key, _)| key.starts_with(prefix)).map(|(_, read)| read))
    }

    fn behind<'a>(&'a self, key: &'a str) -> Result<impl Iterator<Item = &'a Arc<str>> + use<'a, T>, RecordError> {
        self.readable(|_| true)?;
        let behind = (Bound::Excluded(key), Bound::Unbounded);
        Ok(self.all.range::<_, str>(behind).map(|(key, _)| key))
    }

    fn get(&self, key: &str) -> Result<Option<&Shared<T>>, RecordError> {
        // It says itself what is wrong with it.
        self.unreadable.get(key).map_or(Ok(()), |kv| records::decode::<T>(kv).map(drop))?;
        Ok(self.all.get(key))
    }

    fn of_pool(&self, namespace: &str, pool: &str) -> Result<Option<&Row<T>>, RecordError> {
        self.readable(|key| records::parse_key(key).is_some_and(|object| object.namespace == namespace))?;
        Ok(self.pools.get(&format!("{namespace}/{pool}")))
    }

    fn readable(&self, belongs: impl Fn(&str) -> bool) -> Result<(), RecordError> {
        match self.unreadable.values().find(|kv| belongs(&kv.key)) {
            None => Ok(()),
            // It says itself what is wrong with it.
            Some(kv) => records::decode::<T>(kv).map(drop),
        }
    }

    fn set(&mut self, key: &Arc<str>, object: &ObjectRef, kv: Option<&Kv>) {
        self.unreadable.remove(key);
        let before = self.all.remove(key);
        if let Some(before) = &before {
            self.leave(&object.namespace, before);
        }
        let Some(kv) = kv else { return };
        let Ok(mut read) = records::decode::<T>(kv) else {
            self.unreadable.insert(Arc::clone(key), kv.clone());
            return;
        };
        let pool = read.object.place().map(|(pool, _)| format!("{}/{pool}", object.namespace));
        let row = pool.map(|pool| self.pools.entry(pool).or_default());
        let ends = row.iter().flat_map(|row| [row.get_min(), row.get_max()]).flatten().map(|InRow(other)| other);
        let others: Vec<&T> = before.iter().chain(ends).map(|other| &other.object).collect();
        read.object.shrink(&others);
        let read = Arc::new(read);
        if let Some(row) = row {
            row.insert(InRow(Arc::clone(&read)));
        }
        self.all.insert(Arc::clone(key), read);
    }

    /// Takes what was there out of its pool.
    fn leave(&mut self, namespace: &str, before: &Shared<T>) {
        let Some((pool, _)) = before.object.place() else { return };
        let pool = format!("{namespace}/{pool}");
        let empty = self.pools.get_mut(&pool).is_some_and(|row| {
            row.remove(&InRow(Arc::clone(before)));
            row.is_empty()
        });
        if empty {
            self.pools.remove(&pool);
        }
    }
}
