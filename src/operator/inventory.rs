//! Everything that is there, compared with everything that is recorded ([`crate::plan::drift`]), and the end of what
//! is left over. The sweep and the doctor are two uses of it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use super::Clock;
use crate::api::{Cure, Doctor};
use crate::error_chain;
use crate::guest::{Forward, Forwarder};
use crate::hypervisor::Hypervisor;
use crate::metrics::{Leak, Metrics};
use crate::model::{Container, ContainerClaim, ContainerPool, Event, EventKind, Kind, ObjectRef};
use crate::model::{Listing, Trace, TraceKind, Whose};
use crate::plan::drift::{self, Attention, Check, Comparison, Outcome, Owners, Removal, Report, attention, compare};
use crate::private_file;
use crate::store::consistency::{self, Finding};
use crate::store::records::{self, REGISTRY, RecordError};
use crate::store::{Kv, Shared, Store, Txn};

/// Between the two looks of an examination: longer than a pass takes to do what was just seen to be undone.
const SETTLE: Duration = Duration::from_millis(500);

/// Where things are, and where they are recorded.
pub struct Inventory {
    /// The records.
    pub store: Arc<dyn Store>,
    /// The domains.
    pub hypervisor: Arc<dyn Hypervisor>,
    /// The ports.
    pub forwarder: Arc<dyn Forwarder>,
    /// This installation.
    pub instance: Uuid,
    /// The time, for the event of a domain that was removed.
    pub clock: Clock,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// The state directory, where its files are looked at too.
    pub state_dir: Option<PathBuf>,
}

/// The records. Containers and claims are those that everybody shares: a look at a large host is not to take its memory
/// twice.
struct Recorded {
    containers: Vec<Shared<Container>>,
    claims: Vec<Shared<ContainerClaim>>,
    pools: Vec<ContainerPool>,
}

impl Recorded {
    fn containers(&self) -> impl Iterator<Item = &Container> + Clone {
        self.containers.iter().map(|read| &read.object)
    }

    fn claims(&self) -> impl Iterator<Item = &ContainerClaim> {
        self.claims.iter().map(|read| &read.object)
    }
}

/// A login's record. Any other key is of a newer version, say: nothing that this one made.
fn login(kv: &Kv) -> Option<Trace> {
    let ["credentials", namespace, name] = parts(&kv.key)[..] else { return None };
    let whose = Whose::Container(namespace.into(), name.into());
    Some(Trace::new(TraceKind::Credentials, &*kv.key, whose))
}

/// The record of a port that is held; the same.
fn port(kv: &Kv) -> Option<Result<Trace, RecordError>> {
    let ["ports", port] = parts(&kv.key)[..] else { return None };
    let trace = |holder| Trace::new(TraceKind::Port, port, Whose::Machine(holder));
    Some(records::decode::<Uuid>(kv).map(|read| trace(read.object)))
}

/// Of a key below the registry.
fn parts(key: &str) -> Vec<&str> {
    key.strip_prefix(REGISTRY).unwrap_or_default().split('/').collect()
}

impl Inventory {
    /// Looks at everything once. What cannot be listed is unknown; a record that cannot be read is an error, since it
    /// may own anything.
    pub fn look(&self) -> Result<Comparison, RecordError> {
        Ok(self.seen()?.0)
    }

    fn seen(&self) -> Result<(Comparison, Recorded), RecordError> {
        // The world first: whatever is made meanwhile has its record first.
        let mut listings = self.listings();
        listings.extend(self.held()?);
        let recorded = self.recorded()?;
        Ok((compare(self.instance, &Owners::of(recorded.containers()), &listings), recorded))
    }

    fn listings(&self) -> Vec<Listing> {
        let of_machine = |uuid: Uuid| Trace::new(TraceKind::Disk, uuid.to_string(), Whose::Machine(uuid));
        let of_port = |port: u16| Trace::new(TraceKind::Forward, port.to_string(), Whose::Port(port));
        let domains = self.hypervisor.list().map(|seen| seen.into_iter().map(drift::domain).collect());
        let disks = self.hypervisor.disks().map(|uuids| uuids.into_iter().map(of_machine).collect());
        let ports = self.forwarder.list().map(|ports| ports.into_iter().map(of_port).collect());
        let mut listings = vec![
            Listing::new(TraceKind::Domain, domains),
            Listing::new(TraceKind::Disk, disks),
            Listing::new(TraceKind::Forward, ports),
        ];
        listings.extend(self.hypervisor.traces(self.instance));
        listings.extend(self.forwarder.traces());
        if let Some(dir) = &self.state_dir {
            let trace = |path: PathBuf| Trace::new(TraceKind::File, path.display().to_string(), Whose::Nobody);
            let files = private_file::abandoned(dir).map(|paths| paths.into_iter().map(trace).collect());
            listings.push(Listing::new(TraceKind::File, files));
        }
        listings
    }

    /// What containers hold in the store. It is listed before them: whatever is made meanwhile has its container there
    /// (`what_comes_while_everything_is_looked_at_is_no_leftover`).
    fn held(&self) -> Result<[Listing; 2], RecordError> {
        let below = |what: &str| self.store.list(&format!("{REGISTRY}{what}/"));
        // One after the other: not all of a large host's records are to be in memory at once.
        let logins = below("credentials")?.0.iter().filter_map(login).collect();
        let ports = below("ports")?.0.iter().filter_map(port).collect::<Result<_, _>>()?;
        let listing = |kind, found| Listing { kind, found: Ok(found) };
        Ok([listing(TraceKind::Credentials, logins), listing(TraceKind::Port, ports)])
    }

    fn recorded(&self) -> Result<Recorded, RecordError> {
        let pools = records::list_all::<ContainerPool>(&*self.store)?.into_iter().map(|read| read.object).collect();
        let index = self.store.index()?;
        Ok(Recorded {
            containers: index.containers()?.map(Arc::clone).collect(),
            claims: index.claims()?.map(Arc::clone).collect(),
            pools,
        })
    }

    /// Removes what is left over, and tells what became of it. What waits for its domain goes in a second round.
    pub fn mend(&self) -> Result<Vec<Removal>, RecordError> {
        let mut removed = BTreeMap::new();
        for _ in 0..2 {
            let Comparison { looked, leftovers, .. } = self.look()?;
            for one in looked {
                for why in one.unknown {
                    tracing::warn!(kind = %one.kind, why, "cannot be listed; it is looked at again later");
                }
            }
            let again = leftovers.iter().any(|trace| trace.kind == TraceKind::Domain);
            for trace in leftovers {
                if self.is_settled(&trace) {
                    continue;
                }
                let failed = self.remove(&trace).err();
                let (kind, name) = (trace.kind, &trace.name);
                if !follows(kind) {
                    self.metrics.leak(kind, if failed.is_some() { Leak::Kept } else { Leak::Removed });
                }
                match &failed {
                    Some(why) => tracing::warn!(%kind, name, why, "what has no record stays"),
                    None if follows(kind) => tracing::debug!(%kind, name, "removed what a machine left"),
                    None => tracing::info!(%kind, name, "removed what had no record"),
                }
                let Trace { kind, name, .. } = trace;
                removed.insert((kind, name.clone()), Removal { kind, name, failed });
            }
            if !again {
                break;
            }
        }
        Ok(removed.into_values().collect())
    }

    /// Whether what was left over a moment ago is none any more: a domain that ended with its record, a port that is
    /// another machine's by now. What cannot be seen is not settled.
    fn is_settled(&self, trace: &Trace) -> bool {
        match (trace.kind, &trace.whose) {
            (TraceKind::Domain, Whose::Marked(mark)) => matches!(self.hypervisor.find(mark.uid), Ok(None)),
            // A machine that takes it now publishes it when it has booted: this is looked at long before.
            (TraceKind::Forward, Whose::Port(port)) => {
                matches!(self.store.get(&records::port_key(*port)), Ok((Some(_), _)))
            }
            _ => false,
        }
    }

    /// Removes one thing. Whoever keeps it looks once more before.
    fn remove(&self, trace: &Trace) -> Result<(), String> {
        match (trace.kind, &trace.whose) {
            (TraceKind::Domain, Whose::Marked(mark)) => {
                self.hypervisor.destroy(mark).map_err(|error| error.to_string())?;
                let event = Event::new(EventKind::AdoptionRefused, (self.clock)())
                    .message("a domain of ours without a record was removed")
                    .detail("container_uuid", mark.uid.to_string());
                self.commit(Txn::default().tell(&[event]))
            }
            (TraceKind::Disk, Whose::Machine(uuid)) => {
                self.hypervisor.remove_disk(*uuid).map_err(|error| error.to_string())
            }
            (TraceKind::Forward, Whose::Port(port)) => {
                self.forwarder.withdraw(&Forward::of_port(*port)).map_err(|error| error.to_string())
            }
            (TraceKind::Credentials, Whose::Container(namespace, name)) => {
                let container = ObjectRef { kind: Kind::Container, namespace: namespace.clone(), name: name.clone() };
                let container = records::key(&container);
                self.commit(Txn::default().absent(&container).delete(&records::credentials_key(namespace, name)))
            }
            (TraceKind::Port, Whose::Machine(holder)) => self.let_go(&trace.name, *holder),
            (TraceKind::File, Whose::Nobody) => std::fs::remove_file(&trace.name).map_err(|error| error.to_string()),
            (TraceKind::Element | TraceKind::Flow, _) => {
                self.forwarder.remove_trace(trace).map_err(|error| error.to_string())
            }
            // Whose it is, is of another sort than its kind ever has: nobody knows how to remove it.
            (TraceKind::Domain | TraceKind::Disk | TraceKind::Forward, _)
            | (TraceKind::Credentials | TraceKind::Port | TraceKind::File, _) => {
                Err(format!("it cannot be removed: {:?}", trace.whose))
            }
            (TraceKind::Save | TraceKind::Log | TraceKind::Socket | TraceKind::Tap | TraceKind::Lease, _) => {
                self.hypervisor.remove_trace(trace).map_err(|error| error.to_string())
            }
        }
    }

    /// Lets go of a port that is still held for a machine that has no record.
    fn let_go(&self, port: &str, holder: Uuid) -> Result<(), String> {
        let key = format!("{REGISTRY}ports/{port}");
        let (held, _) = self.store.get(&key).map_err(|error| error.to_string())?;
        let is_its = |kv: &Kv| records::decode::<Uuid>(kv).is_ok_and(|found| found.object == holder);
        match held.filter(is_its) {
            Some(kv) => self.commit(Txn::default().key_unchanged(&kv).delete(&key)),
            None => Ok(()),
        }
    }

    /// A conflict means that somebody was faster: the next look sees what is then.
    fn commit(&self, txn: Txn) -> Result<(), String> {
        self.store.txn(txn).wait().map(drop).map_err(|error| error_chain(&error))
    }

    /// Machines in use whose domain does not bear its records, on a second look too: their next pass writes them. What
    /// cannot be listed is said to be unknown already.
    fn forgetful(&self, recorded: &Recorded) -> Vec<Attention> {
        let look = |recorded: &Recorded| {
            let domains = self.hypervisor.list().unwrap_or_default();
            drift::forgetful(recorded.containers(), recorded.claims(), &domains)
        };
        let before = look(recorded);
        if before.is_empty() {
            return before;
        }
        std::thread::sleep(SETTLE);
        let Ok(recorded) = self.recorded() else { return before };
        let mut still = look(&recorded);
        still.retain(|one| before.contains(one));
        still
    }

    fn checks(&self, recorded: &Recorded, records: &[Kv]) -> Vec<Check> {
        let Recorded { containers, claims, pools, .. } = recorded;
        let counted = format!("{} pools, {} containers, {} claims", pools.len(), containers.len(), claims.len());
        let good = |name: &str, seen: String| Check { name: name.into(), outcome: Outcome::Good(seen) };
        let bad = |finding: &Finding| Check {
            name: "records agree with each other".into(),
            outcome: Outcome::Bad(finding.to_string()),
        };
        let mut checks =
            vec![good("records can be read", counted), good("machines run on", self.hypervisor.describe())];
        match consistency::check(records) {
            findings if findings.is_empty() => checks.push(good("records agree with each other", "all of them".into())),
            findings => checks.extend(findings.iter().map(bad)),
        }
        checks
    }
}

/// Whether every machine leaves some of this kind, that goes when its record has gone.
fn follows(kind: TraceKind) -> bool {
    match kind {
        TraceKind::Log | TraceKind::Lease | TraceKind::Element | TraceKind::Flow | TraceKind::Socket => true,
        TraceKind::Domain | TraceKind::Disk | TraceKind::Save | TraceKind::Tap | TraceKind::Forward => false,
        TraceKind::Credentials | TraceKind::Port | TraceKind::File => false,
    }
}

impl Doctor for Inventory {
    /// What a pass is about to do is no drift: what is wrong counts if a second look finds it too.
    fn examine(&self, cure: Cure) -> Result<Report, RecordError> {
        let removed = match cure {
            Cure::None => Vec::new(),
            Cure::Remove => self.mend()?,
        };
        let (mut seen, mut recorded) = self.seen()?;
        if !seen.drifts.is_empty() {
            std::thread::sleep(SETTLE);
            let before = std::mem::take(&mut seen.drifts);
            (seen, recorded) = self.seen()?;
            seen.drifts.retain(|drift| before.contains(drift));
        }
        let mut attention: Vec<Attention> = attention(recorded.containers(), recorded.claims(), &recorded.pools);
        attention.extend(self.forgetful(&recorded));
        let checks = self.checks(&recorded, &self.store.list("")?.0);
        let time = Some((self.clock)());
        Ok(Report { looked: seen.looked, drifts: seen.drifts, removed, attention, checks, time })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use jiff::Timestamp;

    use super::*;
    use crate::guest::fake::FakeForwarder;
    use crate::hypervisor::DomainSpec;
    use crate::hypervisor::fake::{FakeHypervisor, FakeWorld, Options};
    use crate::model::{Credentials, DomainType, Image, Mark, Memory, NetworkSpec};
    use crate::operator::tests::container;
    use crate::store::{Commit, Index, LocalStore, StoreError, Watch, memory};

    fn inventory(store: Arc<dyn Store>, world: &Arc<FakeWorld>) -> Inventory {
        Inventory {
            store,
            hypervisor: Arc::new(FakeHypervisor::new(Arc::clone(world))),
            forwarder: Arc::new(FakeForwarder::new(Arc::clone(world))),
            instance: Uuid::from_u128(1),
            clock: Arc::new(|| Timestamp::UNIX_EPOCH),
            metrics: Arc::default(),
            state_dir: None,
        }
    }

    /// A store in which another container is made before whatever is read.
    struct Growing {
        store: Arc<LocalStore>,
        made: AtomicU32,
    }

    impl Growing {
        fn grow(&self) {
            let number = self.made.fetch_add(1, Ordering::SeqCst);
            let (mut c, port) = (container(number), 10_000 + number as u16);
            c.spec.machine.port = port;
            let credentials = Credentials { username: "".into(), sealed_password: "".into() };
            let login = records::credentials_key(&c.metadata.namespace, &c.metadata.name);
            let txn = Txn::default().write(&c).put(&login, &credentials);
            self.store.txn(txn.put(&records::port_key(port), &c.uuid())).wait().unwrap();
        }
    }

    impl Store for Growing {
        fn get(&self, key: &str) -> Result<(Option<Kv>, u64), StoreError> {
            self.grow();
            self.store.get(key)
        }

        fn list(&self, prefix: &str) -> Result<(Vec<Kv>, u64), StoreError> {
            self.grow();
            self.store.list(prefix)
        }

        fn index(&self) -> Result<Index, StoreError> {
            self.grow();
            self.store.index()
        }

        fn txn(&self, txn: Txn) -> Commit {
            self.store.txn(txn)
        }

        fn watch(&self, prefix: &str, from: u64) -> Watch {
            self.store.watch(prefix, from)
        }

        fn compact(&self, rev: u64) -> Result<(), StoreError> {
            self.store.compact(rev)
        }
    }

    #[test]
    fn what_comes_while_everything_is_looked_at_is_no_leftover() {
        let store = Arc::new(Growing { store: memory(), made: AtomicU32::new(0) });
        let seen = inventory(Arc::clone(&store) as Arc<dyn Store>, &FakeWorld::new(Options::default())).look().unwrap();
        assert!(seen.leftovers.is_empty(), "{:?}", seen.leftovers);
        assert!(store.made.load(Ordering::SeqCst) > 2);
    }

    /// Otherwise the end of a machine would be told twice, and a port taken from its next machine.
    #[test]
    fn what_is_gone_or_anothers_by_now_is_left_over_no_more_and_what_cannot_be_seen_still_is() {
        let world = FakeWorld::new(Options::default());
        let inventory = inventory(memory(), &world);
        let uid = Uuid::from_u128(2);
        let mark = Mark { instance: inventory.instance, namespace: "default".into(), name: uid.to_string(), uid };
        let domain = Trace::new(TraceKind::Domain, "it", Whose::Marked(mark.clone()));
        let port = Trace::new(TraceKind::Forward, "10000", Whose::Port(10_000));
        assert!(inventory.is_settled(&domain) && !inventory.is_settled(&port));
        let spec = DomainSpec {
            mark,
            mac: "02:00:00:00:00:02".into(),
            image: Image::Iso("/image.iso".into()),
            memory: Memory::mebibytes(64),
            vcpus: 1,
            domain_type: DomainType::Qemu,
            network: NetworkSpec::default(),
        };
        inventory.hypervisor.create(&spec).unwrap();
        inventory.store.txn(Txn::default().put(&records::port_key(10_000), &uid)).wait().unwrap();
        assert!(!inventory.is_settled(&domain) && inventory.is_settled(&port));
        world.kill(uid);
        world.set_reachable(false);
        assert!(!inventory.is_settled(&domain));
    }
}
