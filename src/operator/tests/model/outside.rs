//! What the daemon calls, on a stage.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use tokio::sync::broadcast;
use uuid::Uuid;

use super::moment::{Print, print};
use super::stage::{Blind, Bug, Call, Stage};
use crate::guest::{Forward, ForwardError, Forwarder, Login, Patience, Shell, ShellError, ShellObserver};
use crate::hypervisor::{DomainSpec, Hypervisor, HypervisorError};
use crate::model::{DomainSeen, Mark, Wake};
use crate::store::records::REGISTRY;
use crate::store::{Commit, Cond, Index, Kv, Op, Store, StoreError, Txn, TxnResult, Watch};

/// Anything that the daemon calls.
pub(super) struct On<T: ?Sized> {
    pub(super) stage: Arc<Stage>,
    pub(super) inner: Box<T>,
}

fn named(name: String) -> Call {
    Call { name, conds: vec![], writes: Print::default() }
}

fn ended<T, E: std::fmt::Debug>(answer: &Result<T, E>) -> String {
    match answer {
        Ok(_) => "done".into(),
        Err(error) => format!("{error:?}"),
    }
}

/// All but logins, which are random and decide nothing.
fn print_of(txn: &Txn) -> Print {
    print(txn.ops.iter().flat_map(|op| match op {
        Op::Put { key, .. } if key.contains("/credentials/") => [key.as_bytes(), b""],
        Op::Put { key, value } | Op::Append { prefix: key, value } => [key.as_bytes(), value],
        Op::Delete { key } => [key.as_bytes(), b"gone"],
    }))
}

/// The stage itself is the store.
pub(super) struct Recorded(pub(super) Arc<Stage>);

impl Recorded {
    /// Without the condition that a wire claim's member is as it was read, where that is the bug.
    fn seeded(&self, mut txn: Txn) -> Txn {
        let of = |kind: &str, key: &str| key.starts_with(&format!("{REGISTRY}{kind}/"));
        let compares =
            |kind: &str, txn: &Txn| txn.conds.iter().any(|cond| matches!(cond, Cond::ModRev(key, _) if of(kind, key)));
        let writes = |kind: &str| txn.ops.iter().any(|op| matches!(op, Op::Put { key, .. } if of(kind, key)));
        // An operator's transaction compares the claim that it writes.
        let binds = writes("containerclaims") && !compares("containerclaims", &txn);
        if self.0.bug == Some(Bug::BindsWhateverItFinds) && binds {
            txn.conds.retain(|cond| !matches!(cond, Cond::ModRev(key, _) if of("containers", key)));
        }
        txn
    }
}

impl Store for Recorded {
    fn get(&self, key: &str) -> Result<(Option<Kv>, u64), StoreError> {
        self.0.store.get(key)
    }
    fn list(&self, prefix: &str) -> Result<(Vec<Kv>, u64), StoreError> {
        self.0.store.list(prefix)
    }
    fn index(&self) -> Result<Index, StoreError> {
        self.0.store.index()
    }
    fn txn(&self, txn: Txn) -> Commit {
        let txn = self.seeded(txn);
        let call = Call { name: "commit".into(), conds: txn.conds.clone(), writes: print_of(&txn) };
        let said = |answer: &Result<TxnResult, StoreError>| match answer {
            Ok(TxnResult::Committed(_)) => "committed".to_owned(),
            Ok(TxnResult::Conflict { .. }) => "conflict".to_owned(),
            Err(error) => format!("{error:?}"),
        };
        let answer = self.0.call(call, said, || {
            let answer = self.0.store.apply(txn.clone());
            if let Ok(TxnResult::Committed(_)) = answer {
                self.0.note(txn);
            }
            answer
        });
        Commit::new(Box::pin(std::future::ready(answer)))
    }
    fn watch(&self, prefix: &str, from: u64) -> Watch {
        self.0.store.watch(prefix, from)
    }
    fn compact(&self, rev: u64) -> Result<(), StoreError> {
        self.0.store.compact(rev)
    }
}

impl On<dyn Hypervisor> {
    fn look<T>(&self, of: Blind, look: impl FnOnce() -> Result<T, HypervisorError>) -> Result<T, HypervisorError> {
        if self.stage.blind() == Some(of) {
            return Err(HypervisorError::Unreachable { uri: "here".into(), reason: "not to be seen".into() });
        }
        look()
    }

    fn act(&self, name: String, act: impl FnOnce() -> Result<(), HypervisorError>) -> Result<(), HypervisorError> {
        self.stage.call(named(name), ended, act)
    }
}

impl Hypervisor for On<dyn Hypervisor> {
    fn describe(&self) -> String {
        self.inner.describe()
    }
    fn reachable(&self) -> Result<(), HypervisorError> {
        self.inner.reachable()
    }
    fn list(&self) -> Result<Vec<DomainSeen>, HypervisorError> {
        // Between this and the records much can happen: sweeping stands still here too.
        let listed = |answer: &Result<Vec<DomainSeen>, _>| {
            answer.as_ref().map_or_else(|error| format!("{error:?}"), |all| format!("{all:?}"))
        };
        self.stage.call(named("list domains".into()), listed, || self.look(Blind::Domains, || self.inner.list()))
    }
    fn find(&self, uuid: Uuid) -> Result<Option<DomainSeen>, HypervisorError> {
        let found = self.look(Blind::Domains, || self.inner.find(uuid));
        match self.stage.bug {
            Some(Bug::DoubtIsAbsence) => Ok(found.unwrap_or(None)),
            Some(Bug::BindsWhateverItFinds | Bug::AcknowledgesTooEarly) | None => found,
        }
    }
    fn create(&self, spec: &DomainSpec) -> Result<(), HypervisorError> {
        self.act(format!("start {}", spec.mark.uid), || {
            // Its end can be wished for while its start is under way: then the next pass ends it.
            match self.stage.decided_on(&spec.mark.name) {
                None => self.stage.forbid(format!("{} is started and has no record", spec.mark.uid)),
                Some(c) if c.metadata.deleting() => {
                    self.stage.forbid(format!("{} was deleted, and then its start was decided", spec.mark.uid));
                }
                Some(_) => {}
            }
            self.inner.create(spec)
        })
    }
    fn destroy(&self, mark: &Mark) -> Result<(), HypervisorError> {
        self.act(format!("end {}", mark.uid), || self.inner.destroy(mark))
    }
    fn resume(&self, mark: &Mark) -> Result<(), HypervisorError> {
        self.act(format!("resume {}", mark.uid), || self.inner.resume(mark))
    }
    fn remember(&self, mark: &Mark, digest: &str, text: &str) -> Result<(), HypervisorError> {
        self.act(format!("remember {}", mark.uid), || self.inner.remember(mark, digest, text))
    }
    fn recall(&self, uuid: Uuid) -> Result<Option<String>, HypervisorError> {
        self.look(Blind::Domains, || self.inner.recall(uuid))
    }
    fn address(&self, uuid: Uuid, mac: &str) -> Result<Option<Ipv4Addr>, HypervisorError> {
        self.inner.address(uuid, mac)
    }
    fn has_disk(&self, uuid: Uuid) -> Result<bool, HypervisorError> {
        self.look(Blind::Disks, || self.inner.has_disk(uuid))
    }
    fn disks(&self) -> Result<Vec<Uuid>, HypervisorError> {
        self.look(Blind::Disks, || self.inner.disks())
    }
    fn remove_disk(&self, uuid: Uuid) -> Result<(), HypervisorError> {
        self.act(format!("remove disk {uuid}"), || {
            if self.stage.world.domains().iter().any(|domain| domain.uuid == uuid) {
                self.stage.forbid(format!("the disk of {uuid} is removed under its domain"));
            }
            self.inner.remove_disk(uuid)
        })
    }
    fn wakes(&self) -> broadcast::Receiver<Wake> {
        self.inner.wakes()
    }
}

impl Shell for On<dyn Shell> {
    fn personalise(
        &self,
        at: SocketAddr,
        who: &Login,
        patience: Patience<'_>,
        observer: Option<&dyn ShellObserver>,
    ) -> Result<(), ShellError> {
        let call = named(format!("personalise {}", who.uuid));
        self.stage.call(call, ended, || self.inner.personalise(at, who, patience, observer))
    }
    fn authorize(&self, at: SocketAddr, who: &Login, key: &str, patience: Patience<'_>) -> Result<(), ShellError> {
        let call = named(format!("authorize {}", who.uuid));
        self.stage.call(call, ended, || self.inner.authorize(at, who, key, patience))
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

impl On<dyn Forwarder> {
    fn look<T>(&self, look: impl FnOnce() -> Result<T, ForwardError>) -> Result<T, ForwardError> {
        if self.stage.blind() == Some(Blind::Forwards) {
            return Err(ForwardError::Failed { port: 0, reason: "not to be seen".into() });
        }
        look()
    }

    fn act(&self, name: String, act: impl FnOnce() -> Result<(), ForwardError>) -> Result<(), ForwardError> {
        self.stage.call(named(name), ended, act)
    }
}

impl Forwarder for On<dyn Forwarder> {
    fn public(&self, forward: &Forward) -> SocketAddr {
        self.inner.public(forward)
    }
    fn admin(&self, forward: &Forward) -> Result<SocketAddr, ForwardError> {
        self.inner.admin(forward)
    }
    fn publish(&self, forward: &Forward) -> Result<(), ForwardError> {
        self.act(format!("publish {}", forward.uuid), || self.inner.publish(forward))
    }
    fn withdraw(&self, forward: &Forward) -> Result<(), ForwardError> {
        self.act(format!("withdraw {} {}", forward.port, forward.uuid), || self.inner.withdraw(forward))
    }
    fn is_published(&self, forward: &Forward) -> Result<bool, ForwardError> {
        self.look(|| self.inner.is_published(forward))
    }
    fn connections(&self, forward: &Forward) -> Result<u32, ForwardError> {
        self.look(|| self.inner.connections(forward))
    }
    fn list(&self) -> Result<Vec<u16>, ForwardError> {
        self.look(|| self.inner.list())
    }
    fn is_free(&self, port: u16) -> bool {
        self.inner.is_free(port)
    }
}
