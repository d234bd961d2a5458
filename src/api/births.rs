//! Makes the records of a new container: everything its later steps need is chosen here, once.

use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use aws_lc_rs::rand;
use jiff::Timestamp;
use secrecy::SecretString;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::{Digests, ImageError, Sealer};
use crate::host::{Host, Unlimited};
use crate::model::{
    API_VERSION, Container, ContainerPool, ContainerSpec, ContainerStatus, Credentials, Image, Kind, Mac, Machine,
    Memory, Object, ObjectMeta, OwnerReference, Rare, TEMPLATE_HASH, Template,
};
use crate::plan::admission::{self, Capacity, HostFull};
use crate::plan::container::released;
use crate::plan::pool::template_hash;
use crate::store::records::{self, ADMISSION, RecordError};
use crate::store::{Store, Txn};

/// Letters and digits, of which passwords are made.
pub(super) const ALPHANUMERIC: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
/// Length of a container's password, as the protocol documents it.
const PASSWORD_LENGTH: usize = 120;
/// How long it counts what a host was seen to have, for who only wants to know.
const SEEN_FOR: Duration = Duration::from_secs(1);
/// The five digits of a user name, as the protocol documents them.
const USER_NUMBERS: RangeInclusive<u32> = 10_000..=90_000;

/// Why no container can be made.
#[derive(Debug, thiserror::Error)]
pub enum BirthError {
    /// Its image is unusable.
    #[error("no container can be made")]
    Image(#[from] ImageError),
    /// Every port of the range is held or taken.
    #[error(
        "no free port in {first}-{last}: every one is held by a container or used by another program; widen 'port_forwarding.range'"
    )]
    NoFreePort {
        /// Of the range.
        first: u16,
        /// Of the range.
        last: u16,
    },
    /// The host takes no other machine.
    #[error(transparent)]
    HostFull(#[from] HostFull),
    /// What the host has cannot be seen.
    #[error("it cannot be seen whether the host has room for another machine")]
    Host(#[source] std::io::Error),
    /// There is to be no other machine in this run.
    #[error("the server stops, and makes no machine any more")]
    Stopping,
    /// The records cannot be read.
    #[error(transparent)]
    Record(#[from] RecordError),
}

/// A container's first records.
pub struct Birth {
    /// The container.
    pub container: Container,
    /// Writes it, its credentials and its port, if none of them exists, and if nobody was admitted to the host
    /// meanwhile.
    pub txn: Txn,
}

/// Chooses what is a container's own.
pub struct Births {
    sealer: Arc<Sealer>,
    digests: Digests,
    ports: RangeInclusive<u16>,
    is_free: Arc<dyn Fn(u16) -> bool + Send + Sync>,
    /// Names new containers of pools.
    fresh: Arc<dyn Fn() -> Uuid + Send + Sync>,
    host: Arc<dyn Host>,
    /// What the host had when somebody asked how much room there is.
    seen: Mutex<Option<(Instant, Capacity)>>,
    stopping: AtomicBool,
}

impl Births {
    /// Takes ports from a range, as far as `is_free` says that nothing else uses them. The host has no limits, until
    /// [`Births::on`] names one.
    pub fn new(
        sealer: Sealer,
        digests: Digests,
        ports: RangeInclusive<u16>,
        is_free: Arc<dyn Fn(u16) -> bool + Send + Sync>,
    ) -> Self {
        let (seen, stopping) = (Mutex::default(), AtomicBool::default());
        let (fresh, host, sealer) = (Arc::new(Uuid::new_v4), Arc::new(Unlimited), Arc::new(sealer));
        Births { sealer, digests, ports, is_free, fresh, host, seen, stopping }
    }

    /// The same, with machines admitted to this host.
    pub fn on(self, host: Arc<dyn Host>) -> Self {
        Births { host, ..self }
    }

    /// The same, with other names for new containers: a search that comes to the same state again has to know it again.
    #[cfg(test)]
    pub(crate) fn naming(self, fresh: Arc<dyn Fn() -> Uuid + Send + Sync>) -> Self {
        Births { fresh, ..self }
    }

    /// The SHA-256 of an image. Blocks while a file that changed is read.
    pub fn image_sha256(&self, image: &Image) -> Result<Arc<str>, ImageError> {
        self.digests.sha256(image)
    }

    /// What secrets are sealed with.
    pub fn sealer(&self) -> &Arc<Sealer> {
        &self.sealer
    }

    /// A new container of a pool, for a claim or for whoever comes, that starts when the gates are gone.
    pub fn container(
        &self,
        store: &dyn Store,
        pool: &ContainerPool,
        claim: Option<&str>,
        gates: Vec<String>,
        now: Timestamp,
    ) -> Result<Birth, BirthError> {
        let uuid = (self.fresh)();
        let mut metadata = ObjectMeta::new(&pool.metadata.namespace, &uuid.to_string(), uuid, now);
        metadata.owner_references.push(owned_by(pool));
        let spec = ContainerSpec {
            pool: Some(pool.metadata.name.clone().into()),
            claim: claim.map(str::to_owned).into(),
            scheduling_gates: gates.into(),
            ..self.spec(store, uuid, pool.spec.template.clone())?
        };
        self.birth(store, Container { metadata, spec, status: ContainerStatus::default() })
    }

    /// A new container without pool, which somebody wrote. The transaction fails if there is one of its name already.
    pub fn standalone(&self, store: &dyn Store, metadata: ObjectMeta, template: Template) -> Result<Birth, BirthError> {
        let spec = self.spec(store, metadata.uid, template)?;
        let mut birth = self.birth(store, Container { metadata, spec, status: ContainerStatus::default() })?;
        birth.txn = birth.txn.absent(&records::key(&birth.container.object_ref()));
        Ok(birth)
    }

    /// Makes no machine from now on, whoever asks.
    pub(super) fn stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
    }

    /// How many more machines of this size the host takes beside those that are recorded, as it was a moment ago.
    pub(super) fn room<'a>(&self, recorded: impl Iterator<Item = &'a Container>, asked: Memory) -> u64 {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let capacity = match *seen {
            Some((at, capacity)) if at.elapsed() < SEEN_FOR => capacity,
            _ => match self.host.capacity() {
                Ok(capacity) => seen.insert((Instant::now(), capacity)).1,
                // It admits none now.
                Err(_) => return 0,
            },
        };
        admission::room(&capacity, taken(recorded), asked)
    }

    /// What is a machine's own.
    fn spec(&self, store: &dyn Store, uuid: Uuid, template: Template) -> Result<ContainerSpec, BirthError> {
        let image_sha256 = (*self.digests.sha256(&template.image)?).into();
        let machine = Machine { mac: mac(uuid), port: self.port(store)?, image_sha256 };
        Ok(ContainerSpec {
            pool: None,
            claim: Rare::nothing(),
            template: template.into(),
            scheduling_gates: Rare::nothing(),
            machine,
        })
    }

    /// The records of a container, admitted to the host, with a login of its own.
    fn birth(&self, store: &dyn Store, mut container: Container) -> Result<Birth, BirthError> {
        if self.stopping.load(Ordering::SeqCst) {
            return Err(BirthError::Stopping);
        }
        let (uuid, port) = (container.uuid(), container.spec.machine.port);
        let admitted = self.admit(store, container.spec.template.memory, uuid)?;
        let hash = template_hash(&container.spec.template, &container.spec.machine.image_sha256);
        container.metadata.labels.insert(TEMPLATE_HASH.into(), hash);
        let password = SecretString::from(random_text(ALPHANUMERIC, PASSWORD_LENGTH));
        let number = USER_NUMBERS.start() + random_below(USER_NUMBERS.end() - USER_NUMBERS.start() + 1);
        let credentials =
            Credentials { username: format!("user_{number}"), sealed_password: self.sealer.seal(uuid, &password) };
        let ObjectMeta { namespace, name, .. } = &container.metadata;
        let (credentials_key, port_key) = (records::credentials_key(namespace, name), records::port_key(port));
        let txn =
            admitted.absent(&port_key).write(&container).put(&credentials_key, &credentials).put(&port_key, &uuid);
        Ok(Birth { container, txn })
    }

    /// Admits a machine to the host: another one, or one that is there already and is to be larger. The transaction holds only if nobody else was admitted since the records
    /// were counted: so the sum is exact under any number of clients, over all pools.
    pub(super) fn admit(&self, store: &dyn Store, asked: Memory, uuid: Uuid) -> Result<Txn, BirthError> {
        let capacity = self.host.capacity().map_err(BirthError::Host)?;
        if capacity == Capacity::UNLIMITED {
            return Ok(Txn::default());
        }
        // Before the records: who is admitted after this is seen as a change of it.
        let last = store.get(ADMISSION).map_err(RecordError::from)?.0;
        let index = store.index().map_err(RecordError::from)?;
        let others = index.containers()?.map(|read| &read.object).filter(|c| c.uuid() != uuid);
        admission::admit(&capacity, taken(others), asked)?;
        let txn = Txn::default().put(ADMISSION, &uuid);
        Ok(match last {
            Some(last) => txn.key_unchanged(&last),
            None => txn.absent(ADMISSION),
        })
    }

    /// A port that no container holds and nothing listens on; from a random place on, so that one that a machine
    /// just left is not given to the next at once.
    fn port(&self, store: &dyn Store) -> Result<u16, BirthError> {
        let (first, last) = (*self.ports.start(), *self.ports.end());
        let size = u32::from(last - first) + 1;
        let from = random_below(size);
        for step in 0..size {
            let port = first + ((from + step) % size) as u16;
            if store.get(&records::port_key(port)).map_err(RecordError::from)?.0.is_none() && (self.is_free)(port) {
                return Ok(port);
            }
        }
        Err(BirthError::NoFreePort { first, last })
    }
}

/// What machines take from the host. What is left of a container without pool takes nothing.
fn taken<'a>(recorded: impl Iterator<Item = &'a Container>) -> impl Iterator<Item = Memory> {
    recorded.filter(|c| !released(c)).map(|c| c.spec.template.memory)
}

/// How a member names its pool. Only the pool ends it: see [`crate::plan::owners`].
fn owned_by(pool: &ContainerPool) -> OwnerReference {
    OwnerReference {
        api_version: API_VERSION.into(),
        kind: Kind::ContainerPool.to_string(),
        name: pool.metadata.name.clone(),
        uid: pool.metadata.uid.to_string(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// A locally administered unicast address (second-lowest bit set, lowest clear) from a random UUID: 46 random bits
/// leave no fear of two alike.
fn mac(uuid: Uuid) -> Mac {
    let b = uuid.as_bytes();
    Mac([(b[0] & 0xfc) | 0x02, b[1], b[2], b[3], b[4], b[5]])
}

/// Text of so many characters, each drawn evenly from an alphabet of ASCII: draws that would favour the first ones are
/// thrown away. They are taken many at a time, because each call costs more than what it gives.
pub fn random_text<const N: usize>(alphabet: &[u8; N], length: usize) -> String {
    let even = 256 - 256 % N;
    let (mut text, mut draws) = (Vec::with_capacity(length), Zeroizing::new([0_u8; 256]));
    while text.len() < length {
        rand::fill(&mut *draws).expect("the operating system gives random bytes");
        let drawn = draws.iter().map(|draw| usize::from(*draw)).filter(|draw| *draw < even);
        text.extend(drawn.take(length - text.len()).map(|draw| alphabet[draw % N]));
    }
    String::from_utf8(text).expect("ASCII")
}

/// A number below `bound`, each as likely: draws that would favour the small ones are thrown away.
fn random_below(bound: u32) -> u32 {
    let limit = u32::MAX - u32::MAX % bound;
    loop {
        let mut draw = [0; 4];
        rand::fill(&mut draw).expect("the operating system gives random bytes");
        let draw = u32::from_le_bytes(draw);
        if draw < limit {
            return draw % bound;
        }
    }
}
