mod quota;

use std::collections::HashSet;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use futures::StreamExt;
use jiff::Timestamp;
use secrecy::ExposeSecret;
use uuid::Uuid;

use super::*;
use crate::host::{Host, Unlimited};
use crate::model::*;
use crate::plan::admission::Capacity;
use crate::store::records::{self, REGISTRY};
use crate::store::refusing::Refusing;
use crate::store::{Commit, Index, Kv, Store, StoreError, Txn, TxnResult, Watch};

const NS: &str = DEFAULT_NAMESPACE;

struct Bench {
    api: Arc<Api>,
    store: Arc<dyn Store>,
    dir: tempfile::TempDir,
    seconds: Arc<AtomicI64>,
}

fn client() -> Client {
    Client { ip: Ipv4Addr::LOCALHOST.into(), id: "1234567".into() }
}

fn bench(max: u32, ports: std::ops::RangeInclusive<u16>, free: fn(u16) -> bool) -> Bench {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("image.iso");
    std::fs::write(&file, "image").unwrap();
    let image = Image::Iso(file);
    let store: Arc<dyn Store> = crate::store::memory();
    let sealer = Sealer::from_file(&dir.path().join("seal.key")).unwrap();
    let births = Arc::new(Births::new(sealer, Digests::default(), ports, Arc::new(free)));
    let seconds = Arc::new(AtomicI64::new(1000));
    let clock = {
        let seconds = Arc::clone(&seconds);
        Arc::new(move || Timestamp::from_second(seconds.load(Ordering::SeqCst)).unwrap())
    };
    let pool = ContainerPool {
        metadata: ObjectMeta::new(NS, "default", Uuid::new_v4(), clock()),
        spec: PoolSpec::of(0, max, Template::of(image)),
        status: PoolStatus::default(),
    };
    store.txn(Txn::default().write(&pool)).wait().unwrap();
    let api = Api::new(Arc::clone(&store), births, clock, Uuid::new_v4(), NS, "default");
    Bench { api: Arc::new(api), store, dir, seconds }
}

impl Bench {
    fn containers(&self) -> Vec<Container> {
        records::list(&*self.store, NS).unwrap().into_iter().map(|c| c.object).collect()
    }

    fn count(&self, of: &str) -> usize {
        self.store.list(&format!("{REGISTRY}{of}/")).unwrap().0.len()
    }

    /// Plays the operator: the container of the first claim is bound, or its claim fails.
    async fn end_boot(&self, phase: ClaimPhase) {
        loop {
            let claims = records::list::<ContainerClaim>(&*self.store, NS).unwrap();
            if let Some(read) = claims.iter().find(|claim| claim.object.status.phase == ClaimPhase::Pending) {
                let mut claim = read.object.clone();
                claim.status.phase = phase;
                claim.status.message = "the kernel panicked".into();
                if let TxnResult::Committed(_) =
                    self.store.txn(Txn::default().unchanged(read).write(&claim)).await.unwrap()
                {
                    return;
                }
            }
            tokio::task::yield_now().await;
        }
    }

    /// Members that are Ready.
    fn warm(&self, count: u32) {
        let read = records::get::<ContainerPool>(&*self.store, NS, "default").unwrap().unwrap();
        let births = &self.api.births;
        for _ in 0..count {
            let mut birth = births.container(&*self.store, &read.object, None, vec![], (self.api.clock)()).unwrap();
            birth.container.status.phase = Phase::Ready;
            self.store.txn(birth.txn).wait().unwrap();
            self.store.txn(Txn::default().write(&birth.container)).wait().unwrap();
        }
        let mut pool = read.object;
        pool.status.containers += count;
        self.store.txn(Txn::default().write(&pool)).wait().unwrap();
    }

    /// The same records, with a store and a host of its own.
    fn api_over(&self, store: Arc<dyn Store>, host: Arc<dyn Host>) -> Arc<Api> {
        let sealer = Sealer::from_file(&self.dir.path().join("seal.key")).unwrap();
        let births = Births::new(sealer, Digests::default(), 10_000..=10_063, Arc::new(any)).on(host);
        let clock = Arc::clone(&self.api.clock);
        Arc::new(Api::new(store, Arc::new(births), clock, Uuid::new_v4(), NS, "default"))
    }

    async fn created(&self) -> Granted {
        let client = client();
        let (granted, ()) = tokio::join!(self.api.create(&client), self.end_boot(ClaimPhase::Bound));
        granted.unwrap()
    }
}

fn any(_: u16) -> bool {
    true
}

#[tokio::test]
async fn a_grant_has_everything_in_its_documented_form() {
    let bench = bench(2, 10_000..=10_009, any);
    let granted = bench.created().await;
    let token = granted.client_token.expose_secret();
    assert_eq!(token.len(), 255);
    assert!(token.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-' || c == b'_'));
    let password = granted.password.expose_secret();
    assert_eq!(password.len(), 120);
    assert!(password.bytes().all(|c| c.is_ascii_alphanumeric()));
    let number: u32 = granted.username.strip_prefix("user_").unwrap().parse().unwrap();
    assert!((10_000..=90_000).contains(&number));
    assert!((10_000..=10_009).contains(&granted.port));
    assert_eq!(granted.image_sha256.len(), 64);
    assert_eq!(bench.containers()[0].uuid(), granted.uuid);
}

#[tokio::test]
async fn neither_token_nor_password_is_in_the_store() {
    let bench = bench(1, 10_000..=10_009, any);
    let granted = bench.created().await;
    for kv in bench.store.list("").unwrap().0 {
        let text = String::from_utf8_lossy(&kv.value).into_owned();
        assert!(!text.contains(granted.client_token.expose_secret()), "{} holds the token", kv.key);
        assert!(!text.contains(granted.password.expose_secret()), "{} holds the password", kv.key);
    }
}

#[tokio::test]
async fn only_the_right_pair_destroys() {
    let bench = bench(2, 10_000..=10_009, any);
    let (granted, other) = (bench.created().await, bench.created().await);
    let token = granted.client_token.expose_secret();
    for (uuid, token) in [
        (granted.uuid, other.client_token.expose_secret()),
        (other.uuid, token),
        (Uuid::new_v4(), token),
        (granted.uuid, ""),
        (granted.uuid, &token[..254]),
    ] {
        assert!(matches!(bench.api.destroy(uuid, token).await, Err(ApiError::BadAuthentication)));
    }
    assert!(bench.containers().iter().all(|c| !c.metadata.deleting()), "something was ended without the right");
    let (api, uuid, token) = (Arc::clone(&bench.api), granted.uuid, token.to_owned());
    let destroying = tokio::spawn(async move { api.destroy(uuid, &token).await });
    while !bench.containers().iter().any(|c| c.uuid() == granted.uuid && c.metadata.deleting()) {
        tokio::task::yield_now().await;
    }
    let gone = bench.containers().into_iter().find(|c| c.uuid() == granted.uuid).unwrap();
    bench.store.txn(Txn::default().remove(&gone)).await.unwrap();
    destroying.await.unwrap().unwrap();
}

#[tokio::test]
async fn the_limit_is_exact_under_any_number_of_clients() {
    let bench = bench(4, 10_000..=10_099, any);
    let claims: Vec<_> = (0..40).map(|_| bench.api.claim(&client(), &"token".to_owned().into())).collect();
    let written = futures::future::join_all(claims.iter().map(|claim| bench.api.write_claim(claim, vec![]))).await;
    assert_eq!(written.iter().filter(|result| result.is_ok()).count(), 4);
    assert!(written.iter().all(|result| matches!(result, Ok(_) | Err(ApiError::Full { limit: 4, .. }))));
    assert_eq!((bench.containers().len(), bench.count("ports"), bench.count("containerclaims")), (4, 4, 4));
    assert_eq!(bench.api.stat().unwrap().available, 0);
}

#[tokio::test]
async fn a_client_that_goes_away_takes_its_wish_with_it() {
    let bench = bench(1, 10_000..=10_009, any);
    let (api, client) = (Arc::clone(&bench.api), client());
    let waiting = tokio::spawn(async move { api.create(&client).await });
    while bench.containers().is_empty() {
        tokio::task::yield_now().await;
    }
    waiting.abort();
    while !bench.containers()[0].metadata.deleting() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn what_nobody_waits_for_is_taken_back_as_soon_as_the_store_takes_writes_again() {
    let bench = bench(1, 10_000..=10_009, any);
    let store = Arc::new(Refusing::over(Arc::clone(&bench.store)));
    let api = bench.api_over(Arc::clone(&store) as _, Arc::new(Unlimited));
    let mut changes = bench.store.watch(REGISTRY, 0);
    let (client, waits) = (client(), async {
        while bench.containers().is_empty() {
            changes.next().await;
        }
    });
    tokio::select! {
        _ = api.create(&client) => panic!("nobody boots it"),
        () = waits => store.refuse(2),
    }
    while !bench.containers()[0].metadata.deleting() {
        changes.next().await;
    }
    assert_eq!(store.refused(), 2);
}

#[tokio::test]
async fn a_wish_whose_client_goes_before_it_is_written_is_taken_back_too() {
    for polls in 1..6 {
        let bench = bench(1, 10_000..=10_009, any);
        let client = client();
        {
            let create = bench.api.create(&client);
            tokio::pin!(create);
            for _ in 0..polls {
                assert!(futures::poll!(&mut create).is_pending());
            }
        }
        // Whatever of it reaches the store, its end reaches the store after it.
        for _ in 0..1000 {
            tokio::task::yield_now().await;
        }
        bench.store.txn(Txn::default()).await.unwrap();
        loop {
            let left = bench.containers();
            if left.iter().all(|c| c.metadata.deleting()) {
                break;
            }
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test]
async fn a_machine_that_fails_is_told_with_its_reason_and_taken_back() {
    let bench = bench(1, 10_000..=10_009, any);
    let client = client();
    let (failed, ()) = tokio::join!(bench.api.create(&client), bench.end_boot(ClaimPhase::Failed));
    assert!(failed.unwrap_err().to_string().contains("the kernel panicked"));
    while !bench.containers()[0].metadata.deleting() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn without_a_free_port_nothing_is_made_and_the_range_is_named() {
    let bench = bench(1, 10_000..=10_003, |port| port > 20_000);
    let said = bench.api.create(&client()).await.unwrap_err().to_string();
    assert!(said.contains("10000-10003") && said.contains("port_forwarding.range"), "{said}");
    assert_eq!((bench.containers().len(), bench.count("ports"), bench.count("credentials")), (0, 0, 0));
}

#[tokio::test]
async fn every_port_of_the_range_is_used_before_it_is_said_to_be_full() {
    let bench = bench(8, 10_000..=10_003, any);
    let mut ports = Vec::new();
    for _ in 0..4 {
        ports.push(bench.created().await.port);
    }
    ports.sort_unstable();
    assert_eq!(ports, [10_000, 10_001, 10_002, 10_003]);
    assert!(matches!(bench.api.create(&client()).await, Err(ApiError::Birth(BirthError::NoFreePort { .. }))));
}

#[tokio::test]
async fn a_missing_image_is_named_with_what_to_do() {
    let bench = bench(1, 10_000..=10_003, any);
    std::fs::remove_file(bench.dir.path().join("image.iso")).unwrap();
    let said = crate::error_chain(&bench.api.create(&client()).await.unwrap_err());
    assert!(said.contains("image.iso") && said.contains("anweddol image build"), "{said}");
}

#[test]
fn an_images_digest_follows_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("image.iso");
    let (image, digests) = (Image::Iso(file.clone()), Digests::default());
    std::fs::write(&file, "image").unwrap();
    // printf image | sha256sum
    let first = digests.sha256(&image).unwrap();
    assert_eq!(&*first, "6105d6cc76af400325e94d588ce511be5bfdbb73b437dc51eca43917d7a43e3d");
    std::fs::write(&file, "another").unwrap();
    assert_ne!(digests.sha256(&image).unwrap(), first);
    assert!(matches!(digests.sha256(&Image::Iso(dir.path().into())), Err(ImageError::NoFile { .. })));
}

#[test]
fn an_image_is_read_once_for_each_change_whoever_asks() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("image.iso");
    std::fs::write(&file, "image").unwrap();
    let (image, digests) = (Image::Iso(file.clone()), Digests::default());
    let digest = |digests: &Digests| digests.sha256(&image).unwrap();
    std::thread::scope(|scope| {
        let asking: Vec<_> = (0..8).map(|_| scope.spawn(|| digest(&digests))).collect();
        let first = digest(&digests);
        // The same text in memory, not only the same: nobody computed it again.
        assert!(asking.into_iter().all(|asked| std::sync::Arc::ptr_eq(&asked.join().unwrap(), &first)));
    });
}

/// A store that answers no transaction before so many are on their way.
struct Together {
    inner: Arc<dyn Store>,
    all: Arc<tokio::sync::Barrier>,
}

impl Store for Together {
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
        let (inner, all) = (Arc::clone(&self.inner), Arc::clone(&self.all));
        Commit::new(Box::pin(async move {
            all.wait().await;
            inner.txn(txn).await
        }))
    }

    fn watch(&self, prefix: &str, from: u64) -> Watch {
        self.inner.watch(prefix, from)
    }

    fn compact(&self, rev: u64) -> Result<(), StoreError> {
        self.inner.compact(rev)
    }
}

#[tokio::test]
async fn claims_at_once_take_a_member_each_and_are_committed_together() {
    const CLIENTS: u32 = 8;
    let bench = bench(CLIENTS, 10_000..=10_063, any);
    bench.warm(CLIENTS);
    let all = Arc::new(tokio::sync::Barrier::new(CLIENTS as usize));
    let api = bench.api_over(Arc::new(Together { inner: Arc::clone(&bench.store), all }), Arc::new(Unlimited));
    let claims: Vec<_> = (0..CLIENTS).map(|_| api.claim(&client(), &"token".to_owned().into())).collect();
    // One that waited for another's commit, or tried in vain, would wait here for ever.
    let writing = futures::future::join_all(claims.iter().map(|claim| api.write_claim(claim, vec![])));
    let written = tokio::time::timeout(Duration::from_secs(60), writing).await.expect("they wait for each other");
    let members: HashSet<String> = written.into_iter().map(|place| place.unwrap().container).collect();
    assert_eq!(members.len(), 8);
    assert!(bench.containers().iter().all(|c| c.status.phase == Phase::Bound));
}

#[tokio::test]
async fn a_member_that_was_kept_for_a_client_who_went_away_is_given_to_the_next() {
    let bench = bench(1, 10_000..=10_009, any);
    bench.warm(1);
    let never = Arc::new(tokio::sync::Barrier::new(2));
    let api = bench.api_over(Arc::new(Together { inner: Arc::clone(&bench.store), all: never }), Arc::new(Unlimited));
    let claim = api.claim(&client(), &"token".to_owned().into());
    {
        let first = api.write_claim(&claim, vec![]);
        tokio::pin!(first);
        while api.reservations.kept().is_empty() {
            assert!(futures::poll!(&mut first).is_pending());
            tokio::task::yield_now().await;
        }
        // The pool has nothing else, so the second is refused at once.
        let second = api.write_claim(&claim, vec![]).await;
        assert!(matches!(second, Err(ApiError::Full { .. })));
    }
    assert!(api.reservations.kept().is_empty());
}

#[tokio::test]
async fn no_more_is_available_than_the_host_takes() {
    let bench = bench(9, 10_000..=10_063, any);
    let api = bench.api_over(Arc::clone(&bench.store), Arc::new(SmallHost(600)));
    assert_eq!(api.stat().unwrap().available, 2);
    bench.warm(1);
    assert_eq!(api.stat().unwrap().available, 2, "a member and one more");
    assert_eq!(bench.api.stat().unwrap().available, 9);
}

#[tokio::test]
async fn a_machine_that_a_review_enlarges_is_admitted_again() {
    let bench = bench(9, 10_000..=10_063, any);
    let api = bench.api_over(Arc::clone(&bench.store), Arc::new(SmallHost(600)));
    let reviewed = |memory| -> Review {
        Box::new(move |c| {
            Box::pin(async move { Ok(Template { memory: Memory::mebibytes(memory), ..c.spec.template.into_inner() }) })
        })
    };
    let client = client();
    let refused = api.create_reviewed(&client, Wishes::default(), None, Some(reviewed(601))).await.unwrap_err();
    assert!(matches!(&refused, ApiError::Birth(BirthError::HostFull(_))), "{refused}");
    assert!(refused.to_string().contains("601Mi"), "{refused}");
    while !bench.containers()[0].metadata.deleting() {
        tokio::task::yield_now().await;
    }
    let claim = records::list::<ContainerClaim>(&*bench.store, NS).unwrap().remove(0).object;
    bench.store.txn(Txn::default().remove(&bench.containers()[0]).remove(&claim)).await.unwrap();
    let larger = api.create_reviewed(&client, Wishes::default(), None, Some(reviewed(600)));
    let (granted, ()) = tokio::join!(larger, bench.end_boot(ClaimPhase::Bound));
    granted.unwrap();
    let made = bench.containers().remove(0);
    assert_eq!(made.spec.template.memory, Memory::mebibytes(600));
    assert_eq!(api.stat().unwrap().available, 0);
}

#[tokio::test]
async fn the_end_of_all_is_that_of_every_namespace_and_changes_no_pool() {
    let bench = bench(9, 10_000..=10_063, any);
    bench.warm(1);
    let pool = || records::get::<ContainerPool>(&*bench.store, NS, "default").unwrap().unwrap();
    let before = pool();
    let alone = ObjectMeta::new("elsewhere", "alone", Uuid::new_v4(), Timestamp::UNIX_EPOCH);
    let alone = bench.api.births.standalone(&*bench.store, alone, before.object.spec.template.clone()).unwrap();
    bench.store.txn(alone.txn).await.unwrap();
    assert_eq!(bench.api.end_all().await.unwrap(), 2);
    let all = records::list_all::<Container>(&*bench.store).unwrap();
    assert!(all.iter().all(|read| read.object.metadata.deleting()), "{all:#?}");
    assert_eq!(pool(), before);
    let refused = bench.api.create(&client()).await.unwrap_err();
    assert!(matches!(refused, ApiError::Birth(BirthError::Stopping)), "{refused}");
    bench.store.txn(all.iter().fold(Txn::default(), |txn, read| txn.remove(&read.object))).await.unwrap();
    assert_eq!(bench.api.end_all().await.unwrap(), 0);
}

#[tokio::test]
async fn a_container_is_found_and_ended_by_its_uuid_wherever_it_is() {
    let bench = bench(9, 10_000..=10_063, any);
    let template = records::get::<ContainerPool>(&*bench.store, NS, "default").unwrap().unwrap().object.spec.template;
    let uuid = Uuid::new_v4();
    let alone = ObjectMeta::new("elsewhere", "alone", uuid, Timestamp::UNIX_EPOCH);
    let alone = bench.api.births.standalone(&*bench.store, alone, template).unwrap();
    bench.store.txn(alone.txn).await.unwrap();
    bench.api.set_credentials(uuid, "somebody", &"secret".to_owned().into()).await.unwrap();
    let credentials = records::credentials(&*bench.store, "elsewhere", "alone").unwrap().unwrap();
    assert_eq!(credentials.username, "somebody");
    bench.api.end(uuid).await.unwrap();
    assert!(bench.api.container(uuid).unwrap().unwrap().metadata.deleting());
    assert_eq!(bench.api.container(Uuid::new_v4()).unwrap(), None);
}

/// So much memory for machines.
struct SmallHost(u64);

impl Host for SmallHost {
    fn capacity(&self) -> std::io::Result<Capacity> {
        Ok(Capacity { memory: self.0 << 20, ..Capacity::UNLIMITED })
    }
}

#[tokio::test]
async fn of_two_machines_that_fit_alone_one_is_admitted() {
    let bench = bench(9, 10_000..=10_063, any);
    let sealer = Sealer::from_file(&bench.dir.path().join("seal.key")).unwrap();
    let births = Births::new(sealer, Digests::default(), 10_000..=10_063, Arc::new(any)).on(Arc::new(SmallHost(600)));
    let pool = |name: &str| {
        let mut pool = records::get::<ContainerPool>(&*bench.store, NS, "default").unwrap().unwrap().object;
        pool.metadata.name = name.into();
        pool
    };
    let birth = |pool: &ContainerPool| births.container(&*bench.store, pool, None, vec![], Timestamp::UNIX_EPOCH);
    let committed = |txn: Txn| matches!(bench.store.txn(txn).wait().unwrap(), TxnResult::Committed(_));
    assert!(committed(birth(&pool("a")).unwrap().txn));
    // 256Mi of 600Mi are given away; each of two pools sees room for one more.
    let (one, other) = (birth(&pool("a")).unwrap(), birth(&pool("b")).unwrap());
    assert!(committed(one.txn));
    assert!(!committed(other.txn), "both were admitted");
    let error = birth(&pool("b")).err().unwrap();
    assert!(matches!(error, BirthError::HostFull(_)) && error.to_string().contains("512 Mi of 600 Mi"), "{error}");
    let template = pool("b").spec.template;
    let metadata = ObjectMeta::new(NS, "alone", Uuid::new_v4(), Timestamp::UNIX_EPOCH);
    let alone = births.standalone(&*bench.store, metadata, template);
    assert!(matches!(alone, Err(BirthError::HostFull(_))), "one without pool was admitted");
    // One that goes away makes room.
    let gone = bench.containers().remove(0);
    assert!(committed(Txn::default().remove(&gone)));
    assert!(birth(&pool("b")).is_ok());
}

#[tokio::test]
async fn uptime_counts_whole_seconds_and_never_goes_below_zero() {
    let bench = bench(3, 10_000..=10_003, any);
    bench.seconds.fetch_add(7, Ordering::SeqCst);
    assert_eq!(bench.api.stat().unwrap(), Stat { uptime: 7, available: 3 });
    bench.seconds.fetch_sub(500, Ordering::SeqCst);
    assert_eq!(bench.api.stat().unwrap().uptime, 0);
}

/// A store that counts who reads all of something.
struct Counting {
    inner: Arc<dyn Store>,
    lists: std::sync::atomic::AtomicUsize,
}

impl Store for Counting {
    fn get(&self, key: &str) -> Result<(Option<Kv>, u64), StoreError> {
        self.inner.get(key)
    }

    fn list(&self, prefix: &str) -> Result<(Vec<Kv>, u64), StoreError> {
        self.lists.fetch_add(1, Ordering::SeqCst);
        self.inner.list(prefix)
    }

    fn index(&self) -> Result<Index, StoreError> {
        self.inner.index()
    }

    fn txn(&self, txn: Txn) -> Commit {
        self.inner.txn(txn)
    }

    fn watch(&self, prefix: &str, from: u64) -> Watch {
        self.inner.watch(prefix, from)
    }

    fn compact(&self, rev: u64) -> Result<(), StoreError> {
        self.inner.compact(rev)
    }
}

#[tokio::test]
async fn neither_a_claim_nor_stat_reads_all_records() {
    let bench = bench(8, 10_000..=10_063, any);
    bench.warm(8);
    let store = Arc::new(Counting { inner: Arc::clone(&bench.store), lists: Default::default() });
    let api = bench.api_over(Arc::clone(&store) as _, Arc::new(SmallHost(1 << 20)));
    let granted = api.create(&client()).await.unwrap();
    assert_eq!(api.stat().unwrap().available, 7);
    api.delivered(granted.uuid).await.unwrap();
    assert_eq!(store.lists.load(Ordering::SeqCst), 0);
}

#[test]
fn random_text_is_as_long_as_asked_and_favours_no_letter() {
    // 256 draws do not fall evenly on 100 letters: some would come half as often again as others.
    let alphabet: [u8; 100] = std::array::from_fn(|at| 27 + at as u8);
    let text = random_text(&alphabet, 100_000);
    assert_eq!(text.len(), 100_000);
    for letter in alphabet {
        let count = text.bytes().filter(|byte| *byte == letter).count();
        // 1,000 are to be expected; this is more than six times the deviation of a fair draw.
        assert!((800..1_200).contains(&count), "{letter} came {count} times");
    }
    assert_eq!([0, 1, 255, 257].map(|length| random_text(b"a", length).len()), [0, 1, 255, 257]);
}

/// As many as clients come at once: each is moved to where it is worked on.
#[test]
fn a_claim_on_its_way_takes_a_kilobyte_for_what_most_come_to() {
    let bench = bench(1, 1..=2, |_| true);
    let size = size_of_val(&bench.api.create(&client()));
    assert!(size <= 1100, "{size} bytes");
}
