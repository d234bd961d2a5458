//! The records of a container that belongs to no pool.

use jiff::Timestamp;

use super::{Birth, BirthError, Births};
use crate::model::{ContainerPool, Object, ObjectMeta, PoolSpec, PoolStatus, Template};
use crate::store::records;
use crate::store::{Op, Store, Txn};

impl Births {
    /// A new container that somebody wished for by its own name, with these labels and annotations.
    pub fn standalone(
        &self,
        store: &dyn Store,
        metadata: &ObjectMeta,
        template: &Template,
        now: Timestamp,
    ) -> Result<Birth, BirthError> {
        // Born as the one member of a pool that is nowhere recorded, so that every choice is made in one place.
        let pool = ContainerPool {
            metadata: metadata.clone(),
            spec: PoolSpec::of(0, 1, template.clone()),
            status: PoolStatus::default(),
        };
        let Birth { mut container, mut txn } = self.container(store, &pool, None, vec![], now)?;
        let namespace = &metadata.namespace;
        let (record, login) =
            (records::key(&container.object_ref()), records::credentials_key(namespace, &container.metadata.name));
        container.spec.pool = None;
        container.metadata.name = metadata.name.clone();
        container.metadata.labels.extend(metadata.labels.clone());
        container.metadata.annotations.extend(metadata.annotations.clone());
        // The same transaction under the name that was wished for.
        let Txn { conds, ops } = std::mem::take(&mut txn);
        let own_login = records::credentials_key(namespace, &metadata.name);
        let rest = ops.into_iter().filter_map(|op| match op {
            Op::Put { key, .. } if key == record => None,
            Op::Put { key, value } if key == login => Some(Op::Put { key: own_login.clone(), value }),
            other @ (Op::Put { .. } | Op::Delete { .. } | Op::Append { .. }) => Some(other),
        });
        let own = records::key(&container.object_ref());
        let txn = Txn { conds, ops: rest.collect() }.absent(&own).absent(&own_login).write(&container);
        Ok(Birth { container, txn })
    }
}
