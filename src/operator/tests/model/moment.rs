//! Records and world at one moment, and what of them tells moments apart.

use std::collections::{BTreeSet, HashMap};
use std::hash::{Hash, Hasher};
use std::sync::{Arc, Mutex, OnceLock};

use aws_lc_rs::digest;
use uuid::Uuid;

use super::super::bench::NS;
use super::stage::{Blind, Course};
use super::system::Work;
use crate::hypervisor::fake::State as World;
use crate::model::{Container, ContainerClaim, ContainerPool, Object};
use crate::store::records::{self, REGISTRY};
use crate::store::{Content, Kv, Txn};

/// Two that are alike in it are alike.
pub(super) type Print = [u8; 32];

pub(super) fn print<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Print {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in parts {
        context.update(&(part.len() as u64).to_le_bytes());
        context.update(part);
    }
    context.finish().as_ref().try_into().expect("SHA-256 has 32 bytes")
}

/// What the records say.
pub(super) struct Facts {
    pub(super) pool: ContainerPool,
    pub(super) containers: Vec<Container>,
    pub(super) claims: Vec<ContainerClaim>,
}

impl Facts {
    pub(super) fn container(&self, name: &str) -> Option<&Container> {
        self.containers.iter().find(|c| c.metadata.name == name)
    }

    pub(super) fn claim(&self, name: &str) -> Option<&ContainerClaim> {
        self.claims.iter().find(|claim| claim.metadata.name == name)
    }
}

/// What a piece of work can read of a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum View<'a> {
    Everything,
    /// One container, its claim and the pool.
    Container(&'a str),
}

/// Work, and what it could not see.
type Begun = (Work, Option<Blind>);

pub(super) struct Moment {
    pub(super) store: Content,
    pub(super) world: World,
    print: OnceLock<Print>,
    facts: OnceLock<Arc<Facts>>,
    /// Work that was begun here: it begins the same way again.
    pub(super) begun: Mutex<HashMap<Begun, Arc<Course>>>,
    /// Work that went on from here.
    pub(super) went: Mutex<HashMap<Known, Went>>,
}

/// One course, and no other one like it.
pub(super) struct Known(pub(super) Arc<Course>);

impl PartialEq for Known {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Known {}

impl Hash for Known {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.0).hash(state);
    }
}

/// What came of one more call.
#[derive(Clone)]
pub(super) struct Went {
    pub(super) now: Arc<Moment>,
    /// Where the work stands; `None` where it is done.
    pub(super) next: Option<Arc<Course>>,
    pub(super) committed: Option<Arc<Txn>>,
}

impl Moment {
    pub(super) fn new(store: Content, world: World) -> Self {
        Moment {
            store,
            world,
            print: OnceLock::new(),
            facts: OnceLock::new(),
            begun: Mutex::default(),
            went: Mutex::default(),
        }
    }

    pub(super) fn facts(&self) -> &Facts {
        self.facts.get_or_init(|| {
            let pool = self.all().pop().expect("there is a pool");
            Arc::new(Facts { pool, containers: self.all(), claims: self.all() })
        })
    }

    /// The same, known to come after that one: what the records say is read once.
    pub(super) fn after(self, before: &Moment) -> Moment {
        if self.store.revision == before.store.revision {
            before.facts();
            return Moment { facts: before.facts.clone(), ..self };
        }
        self
    }

    fn all<T: Object>(&self) -> Vec<T> {
        let prefix = format!("{REGISTRY}{}/{NS}/", T::KIND.plural());
        self.store.below(&prefix).map(|kv| records::decode(&kv).unwrap().object).collect()
    }

    /// How many keys of a kind there are.
    pub(super) fn count(&self, of: &str) -> usize {
        self.store.below(&format!("{REGISTRY}{of}/")).count()
    }

    pub(super) fn print(&self) -> Print {
        *self.print.get_or_init(|| self.print_of(View::Everything))
    }

    /// Revisions are not in it: who holds one holds it against the present, and `Course` tells how that ends. Nor are
    /// logins, which are random and decide nothing.
    pub(super) fn print_of(&self, view: View<'_>) -> Print {
        let facts = self.facts();
        let its_claim = |key: &str, name: &str| {
            let its = |claim: &&ContainerClaim| claim.status.container.as_deref() == Some(name);
            facts.claims.iter().filter(its).any(|claim| key.ends_with(&claim.metadata.name))
        };
        let sees = |kv: &Kv| match view {
            View::Everything => true,
            View::Container(name) => {
                kv.key.ends_with(name) || kv.key.contains("/containerpools/") || its_claim(&kv.key, name)
            }
        };
        let mut world = self.things();
        world.retain(|thing| match view {
            View::Everything => true,
            View::Container(name) => thing.contains(name),
        });
        let seen: Vec<Kv> = self.store.below(REGISTRY).filter(|kv| sees(kv)).collect();
        let login = |kv: &Kv| kv.key.contains("/credentials/");
        let records = seen.iter().flat_map(|kv| [kv.key.as_bytes(), if login(kv) { b"" } else { &kv.value[..] }]);
        print(records.chain(world.iter().map(String::as_bytes)))
    }

    /// Everything in the world, a line each.
    fn things(&self) -> Vec<String> {
        let World { domains, disks, forwards, .. } = &self.world;
        let domains = domains.values().map(|domain| {
            let ours = domain.spec.is_some();
            format!("domain {} {ours} {:?} {}", domain.uuid, domain.state, domain.user.is_some())
        });
        let disks = disks.iter().map(|uuid| format!("disk {uuid}"));
        domains.chain(disks).chain(forwards.iter().map(|(port, to)| format!("forward {port} {to}"))).collect()
    }

    /// Our domains, running or not.
    pub(super) fn domains(&self) -> BTreeSet<Uuid> {
        self.world.domains.values().filter(|domain| domain.spec.is_some()).map(|domain| domain.uuid).collect()
    }

    /// Every name that means something: of records, and of what is in the world.
    pub(super) fn names(&self) -> BTreeSet<Uuid> {
        let recorded = self.facts().containers.iter().map(Container::uuid);
        let World { domains, disks, forwards, .. } = &self.world;
        recorded.chain(domains.keys().copied()).chain(disks.iter().copied()).chain(forwards.values().copied()).collect()
    }
}
