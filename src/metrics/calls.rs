//! Around the traits that reach outside: every call takes as long as it takes, and is measured.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use futures::FutureExt;
use tokio::sync::broadcast;
use uuid::Uuid;

use super::{Commit, Fault, Metrics, Stage};
use crate::guest::{Forward, ForwardError, Forwarder, Login, Patience, Shell, ShellError, ShellObserver};
use crate::hypervisor::{DomainSpec, Hypervisor, HypervisorError};
use crate::model::{DomainSeen, Listing, Mark, Trace, Wake};
use crate::store::{self, Index, Kv, Store, StoreError, Txn, TxnResult, Watch};

/// The target of spans, for whoever collects them.
pub const SPANS: &str = "anweddol::span";

/// One of the traits, measured.
pub struct Measured<T: ?Sized> {
    inner: Arc<T>,
    metrics: Arc<Metrics>,
}

impl<T: ?Sized> Measured<T> {
    /// Around what does the work.
    pub fn new(inner: Arc<T>, metrics: &Arc<Metrics>) -> Arc<Measured<T>> {
        Arc::new(Measured { inner, metrics: Arc::clone(metrics) })
    }

    fn call<R, E: Blame>(&self, call: &'static str, work: impl FnOnce(&T) -> Result<R, E>) -> Result<R, E> {
        let _span = tracing::debug_span!(target: SPANS, "call", call).entered();
        let began = Instant::now();
        let done = work(&self.inner);
        self.metrics.call(call, done.as_ref().err().map(Blame::fault), began.elapsed());
        done
    }

    fn look<R>(&self, call: &'static str, work: impl FnOnce(&T) -> R) -> R {
        let began = Instant::now();
        let seen = work(&self.inner);
        self.metrics.call(call, None, began.elapsed());
        seen
    }
}

/// What kind of failure an error is.
trait Blame {
    fn fault(&self) -> Fault;
}

impl Blame for HypervisorError {
    fn fault(&self) -> Fault {
        match self {
            HypervisorError::Unreachable { .. } => Fault::Unreachable,
            HypervisorError::NotOurs { .. } => Fault::NotOurs,
            HypervisorError::Invalid { .. } => Fault::Invalid,
            HypervisorError::Failed { .. } => Fault::Failed,
        }
    }
}

impl Blame for ForwardError {
    fn fault(&self) -> Fault {
        match self {
            ForwardError::Taken { .. } => Fault::NotOurs,
            ForwardError::NoAddress { .. } => Fault::Unreachable,
            ForwardError::Failed { .. } => Fault::Failed,
        }
    }
}

impl Blame for ShellError {
    fn fault(&self) -> Fault {
        match self {
            ShellError::NotAnswering { .. } => Fault::Unreachable,
            ShellError::Unwanted { .. } | ShellError::Closed { .. } => Fault::Unwanted,
            ShellError::Refused { .. } | ShellError::OtherKey { .. } | ShellError::NotLocked { .. } => Fault::Invalid,
            ShellError::SetUp { .. } | ShellError::Broken { .. } => Fault::Failed,
        }
    }
}

impl Hypervisor for Measured<dyn Hypervisor> {
    fn describe(&self) -> String {
        self.inner.describe()
    }

    fn reachable(&self) -> Result<(), HypervisorError> {
        self.inner.reachable()
    }

    fn list(&self) -> Result<Vec<DomainSeen>, HypervisorError> {
        self.call("list", |inner| inner.list())
    }

    fn find(&self, uuid: Uuid) -> Result<Option<DomainSeen>, HypervisorError> {
        self.call("find", |inner| inner.find(uuid))
    }

    fn create(&self, spec: &DomainSpec) -> Result<(), HypervisorError> {
        self.call("create", |inner| inner.create(spec))
    }

    fn destroy(&self, mark: &Mark) -> Result<(), HypervisorError> {
        self.call("destroy", |inner| inner.destroy(mark))
    }

    fn resume(&self, mark: &Mark) -> Result<(), HypervisorError> {
        self.call("resume", |inner| inner.resume(mark))
    }

    fn remember(&self, mark: &Mark, digest: &str, text: &str) -> Result<(), HypervisorError> {
        self.call("remember", |inner| inner.remember(mark, digest, text))
    }

    fn recall(&self, uuid: Uuid) -> Result<Option<String>, HypervisorError> {
        self.call("recall", |inner| inner.recall(uuid))
    }

    fn address(&self, uuid: Uuid, mac: &str) -> Result<Option<Ipv4Addr>, HypervisorError> {
        self.call("address", |inner| inner.address(uuid, mac))
    }

    fn has_disk(&self, uuid: Uuid) -> Result<bool, HypervisorError> {
        self.call("has_disk", |inner| inner.has_disk(uuid))
    }

    fn disks(&self) -> Result<Vec<Uuid>, HypervisorError> {
        self.call("disks", |inner| inner.disks())
    }

    fn remove_disk(&self, uuid: Uuid) -> Result<(), HypervisorError> {
        self.call("remove_disk", |inner| inner.remove_disk(uuid))
    }

    fn traces(&self, instance: Uuid) -> Vec<Listing> {
        self.look("traces", |inner| inner.traces(instance))
    }

    fn remove_trace(&self, trace: &Trace) -> Result<(), HypervisorError> {
        self.call("remove_trace", |inner| inner.remove_trace(trace))
    }

    fn wakes(&self) -> broadcast::Receiver<Wake> {
        self.inner.wakes()
    }
}

impl Shell for Measured<dyn Shell> {
    fn personalise(
        &self,
        at: SocketAddr,
        who: &Login,
        patience: Patience<'_>,
        observer: Option<&dyn ShellObserver>,
    ) -> Result<(), ShellError> {
        // The first time that it answered: what came after a connection that broke belongs to the set-up.
        let (began, answered) = (Instant::now(), OnceLock::new());
        let note = || {
            answered.set(began.elapsed()).ok();
        };
        let patience = Patience { answered: &note, ..patience };
        let done = self.call("shell_personalise", |inner| inner.personalise(at, who, patience, observer));
        if let (Ok(()), Some(answered)) = (&done, answered.get()) {
            self.metrics.stage(Stage::Ssh, *answered);
            self.metrics.stage(Stage::Personalise, began.elapsed().saturating_sub(*answered));
        }
        done
    }

    fn authorize(&self, at: SocketAddr, who: &Login, key: &str, patience: Patience<'_>) -> Result<(), ShellError> {
        self.call("shell_authorize", |inner| inner.authorize(at, who, key, patience))
    }

    fn probe(&self, at: SocketAddr, container: Uuid, patience: Patience<'_>) -> Result<(), ShellError> {
        self.call("shell_probe", |inner| inner.probe(at, container, patience))
    }

    fn soon(&self, container: Uuid) {
        self.inner.soon(container);
    }

    fn forget(&self, container: Uuid) {
        self.inner.forget(container);
    }
}

impl Forwarder for Measured<dyn Forwarder> {
    fn admin(&self, forward: &Forward) -> Result<SocketAddr, ForwardError> {
        self.call("forward_admin", |inner| inner.admin(forward))
    }

    fn public(&self, forward: &Forward) -> SocketAddr {
        self.inner.public(forward)
    }

    fn publish(&self, forward: &Forward) -> Result<(), ForwardError> {
        self.call("forward_publish", |inner| inner.publish(forward))
    }

    fn withdraw(&self, forward: &Forward) -> Result<(), ForwardError> {
        self.call("forward_withdraw", |inner| inner.withdraw(forward))
    }

    fn is_published(&self, forward: &Forward) -> Result<bool, ForwardError> {
        self.call("forward_is_published", |inner| inner.is_published(forward))
    }

    fn connections(&self, forward: &Forward) -> Result<u32, ForwardError> {
        self.call("forward_connections", |inner| inner.connections(forward))
    }

    fn list(&self) -> Result<Vec<u16>, ForwardError> {
        self.call("forward_list", |inner| inner.list())
    }

    fn traces(&self) -> Vec<Listing> {
        self.look("forward_traces", |inner| inner.traces())
    }

    fn remove_trace(&self, trace: &Trace) -> Result<(), ForwardError> {
        self.call("forward_remove_trace", |inner| inner.remove_trace(trace))
    }

    fn is_free(&self, port: u16) -> bool {
        self.inner.is_free(port)
    }
}

impl Store for Measured<dyn Store> {
    fn get(&self, key: &str) -> Result<(Option<Kv>, u64), StoreError> {
        self.inner.get(key)
    }

    fn list(&self, prefix: &str) -> Result<(Vec<Kv>, u64), StoreError> {
        self.inner.list(prefix)
    }

    fn index(&self) -> Result<Index, StoreError> {
        self.inner.index()
    }

    fn txn(&self, txn: Txn) -> store::Commit {
        let (began, metrics) = (Instant::now(), Arc::clone(&self.metrics));
        // On its way from here on, whether somebody waits for it or not.
        let commit = self.inner.txn(txn);
        store::Commit::new(
            commit
                .map(move |ended| {
                    let result = match &ended {
                        Ok(TxnResult::Committed(_)) => Commit::Committed,
                        Ok(TxnResult::Conflict { .. }) => Commit::Conflict,
                        Err(StoreError::Invalid { .. } | StoreError::Compacted { .. }) => Commit::Invalid,
                        Err(StoreError::Unavailable { .. }) => Commit::Unavailable,
                        Err(StoreError::Unknown { .. }) => Commit::Unknown,
                    };
                    metrics.commit(result, began.elapsed());
                    ended
                })
                .boxed(),
        )
    }

    fn watch(&self, prefix: &str, from: u64) -> Watch {
        self.inner.watch(prefix, from)
    }

    fn compact(&self, rev: u64) -> Result<(), StoreError> {
        self.inner.compact(rev)
    }
}
