//! What the operator calls, by a daemon that can die before any call.

use std::net::{Ipv4Addr, SocketAddr};
use std::panic::panic_any;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use tokio::sync::broadcast;
use uuid::Uuid;

use super::bench::NS;
use super::pools;
use crate::guest::{Forward, ForwardError, Forwarder, Login, Patience, Shell, ShellError, ShellObserver};
use crate::hypervisor::{DomainSpec, Hypervisor, HypervisorError};
use crate::model::{Container, DomainSeen, Listing, Mark, Trace, Wake};
use crate::store::records;
use crate::store::{Commit, Index, Kv, Store, StoreError, Txn, Watch};

/// What a daemon dies of here.
pub(super) struct Crash;

/// Counts down calls to the outside; at zero the daemon dies, before the call is made. (Death after a call is
/// death before the next one.)
pub(super) struct Fuse(AtomicI64);

impl Fuse {
    /// One that does not burn.
    pub(super) fn new() -> Self {
        Fuse(AtomicI64::new(-1))
    }

    fn burn(&self) {
        let left = self.0.load(Ordering::SeqCst);
        if left < 0 {
            return;
        }
        self.0.store(left - 1, Ordering::SeqCst);
        if left == 0 {
            panic_any(Crash);
        }
    }

    pub(super) fn set(&self, calls: Option<usize>) {
        self.0.store(calls.map_or(-1, |calls| calls as i64), Ordering::SeqCst);
    }
}

/// Anything the operator calls, with the fuse before it.
pub(super) struct Mortal<T: ?Sized> {
    pub(super) fuse: Arc<Fuse>,
    pub(super) store: Arc<dyn Store>,
    pub(super) inner: Arc<T>,
}

impl Store for Mortal<dyn Store> {
    fn get(&self, key: &str) -> Result<(Option<Kv>, u64), StoreError> {
        self.inner.get(key)
    }
    fn list(&self, prefix: &str) -> Result<(Vec<Kv>, u64), StoreError> {
        self.inner.list(prefix)
    }
    fn index(&self) -> Result<Index, StoreError> {
        self.inner.index()
    }
    fn txn(&self, txn: Txn) -> Commit {
        self.fuse.burn();
        pools::check_written(&*self.store, &txn);
        self.inner.txn(txn)
    }
    fn watch(&self, prefix: &str, from: u64) -> Watch {
        self.inner.watch(prefix, from)
    }
    fn compact(&self, rev: u64) -> Result<(), StoreError> {
        self.inner.compact(rev)
    }
}

impl Hypervisor for Mortal<dyn Hypervisor> {
    fn describe(&self) -> String {
        self.inner.describe()
    }
    fn reachable(&self) -> Result<(), HypervisorError> {
        self.inner.reachable()
    }
    fn list(&self) -> Result<Vec<DomainSeen>, HypervisorError> {
        self.fuse.burn();
        self.inner.list()
    }
    fn find(&self, uuid: Uuid) -> Result<Option<DomainSeen>, HypervisorError> {
        self.fuse.burn();
        self.inner.find(uuid)
    }
    fn create(&self, spec: &DomainSpec) -> Result<(), HypervisorError> {
        self.fuse.burn();
        // Promise 4, seen from the world: whoever is started has a record that does not wish for its end.
        let record = records::get::<Container>(&*self.store, NS, &spec.mark.name).unwrap();
        let record = record.expect("a domain is started that has no record").object;
        assert!(!record.metadata.deleting(), "a deleted container is started");
        assert!(record.spec.scheduling_gates.is_empty(), "a gated container is started");
        assert_eq!(record.spec.template.vcpus, spec.vcpus, "what was changed at the gate is not what is started");
        self.inner.create(spec)
    }
    fn destroy(&self, mark: &Mark) -> Result<(), HypervisorError> {
        self.fuse.burn();
        self.inner.destroy(mark)
    }
    fn resume(&self, mark: &Mark) -> Result<(), HypervisorError> {
        self.fuse.burn();
        self.inner.resume(mark)
    }
    fn remember(&self, mark: &Mark, digest: &str, text: &str) -> Result<(), HypervisorError> {
        self.fuse.burn();
        self.inner.remember(mark, digest, text)
    }
    fn recall(&self, uuid: Uuid) -> Result<Option<String>, HypervisorError> {
        self.inner.recall(uuid)
    }
    fn address(&self, uuid: Uuid, mac: &str) -> Result<Option<Ipv4Addr>, HypervisorError> {
        self.inner.address(uuid, mac)
    }
    fn has_disk(&self, uuid: Uuid) -> Result<bool, HypervisorError> {
        self.inner.has_disk(uuid)
    }
    fn disks(&self) -> Result<Vec<Uuid>, HypervisorError> {
        self.inner.disks()
    }
    fn remove_disk(&self, uuid: Uuid) -> Result<(), HypervisorError> {
        self.fuse.burn();
        self.inner.remove_disk(uuid)
    }
    fn traces(&self, instance: Uuid) -> Vec<Listing> {
        self.inner.traces(instance)
    }
    fn remove_trace(&self, trace: &Trace) -> Result<(), HypervisorError> {
        self.fuse.burn();
        self.inner.remove_trace(trace)
    }
    fn wakes(&self) -> broadcast::Receiver<Wake> {
        self.inner.wakes()
    }
}

impl Shell for Mortal<dyn Shell> {
    fn personalise(
        &self,
        at: SocketAddr,
        who: &Login,
        patience: Patience<'_>,
        observer: Option<&dyn ShellObserver>,
    ) -> Result<(), ShellError> {
        self.fuse.burn();
        self.inner.personalise(at, who, patience, observer)
    }
    fn authorize(&self, at: SocketAddr, who: &Login, key: &str, patience: Patience<'_>) -> Result<(), ShellError> {
        self.fuse.burn();
        self.inner.authorize(at, who, key, patience)
    }
    fn probe(&self, at: SocketAddr, container: Uuid, patience: Patience<'_>) -> Result<(), ShellError> {
        self.inner.probe(at, container, patience)
    }

    fn soon(&self, container: Uuid) {
        self.inner.soon(container);
    }

    fn forget(&self, container: Uuid) {
        self.inner.forget(container);
    }
}

impl Forwarder for Mortal<dyn Forwarder> {
    fn admin(&self, forward: &Forward) -> Result<SocketAddr, ForwardError> {
        self.fuse.burn();
        self.inner.admin(forward)
    }
    fn public(&self, forward: &Forward) -> SocketAddr {
        self.inner.public(forward)
    }
    fn publish(&self, forward: &Forward) -> Result<(), ForwardError> {
        self.fuse.burn();
        self.inner.publish(forward)
    }
    fn withdraw(&self, forward: &Forward) -> Result<(), ForwardError> {
        self.fuse.burn();
        self.inner.withdraw(forward)
    }
    fn is_published(&self, forward: &Forward) -> Result<bool, ForwardError> {
        self.inner.is_published(forward)
    }
    fn connections(&self, forward: &Forward) -> Result<u32, ForwardError> {
        self.inner.connections(forward)
    }
    fn list(&self) -> Result<Vec<u16>, ForwardError> {
        self.inner.list()
    }
    fn traces(&self) -> Vec<Listing> {
        self.inner.traces()
    }
    fn remove_trace(&self, trace: &Trace) -> Result<(), ForwardError> {
        self.fuse.burn();
        self.inner.remove_trace(trace)
    }
    fn is_free(&self, port: u16) -> bool {
        self.inner.is_free(port)
    }
}
