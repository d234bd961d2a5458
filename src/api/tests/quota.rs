//! Containers that are counted for an access token.

use std::sync::Mutex;

use proptest::prelude::{
    ProptestConfig, Strategy, TestCaseError, prop, prop_assert, prop_assert_eq, prop_oneof, proptest,
};
use proptest::sample::Index;
use tokio::sync::oneshot;

use super::*;
use crate::api::access_tokens::{AccessTokenManager, Order};
use crate::plan::access;
use crate::store::records::access_token_key;

impl Bench {
    fn tokens(&self) -> AccessTokenManager {
        AccessTokenManager::new(Arc::clone(&self.store), Arc::clone(&self.api.clock))
    }

    async fn token(&self, name: &str, max_containers: Option<u32>) {
        let quotas = Quotas { max_containers, ..Quotas::default() };
        self.tokens().add(Order { name: Some(name.into()), quotas, ..Order::default() }).await.unwrap();
    }

    fn claims(&self) -> Vec<ContainerClaim> {
        records::list(&*self.store, NS).unwrap().into_iter().map(|c| c.object).collect()
    }

    /// What is taken with a token.
    fn taken(&self, name: &str) -> u32 {
        access::taken(&self.claims(), &self.containers()).get(name).copied().unwrap_or_default()
    }

    fn claim(&self, token: &str) -> ContainerClaim {
        let mut claim = self.api.claim(&client(), &"text".to_owned().into());
        claim.spec.access_token = Some(token.into());
        claim
    }

    async fn create(&self, token: Option<&str>) -> Result<Granted, ApiError> {
        self.api.create_reviewed(&client(), Wishes::default(), token.map(str::to_owned), None).await
    }

    /// Plays the operator: nothing is left of a claim.
    async fn gone(&self, claim: &ContainerClaim) {
        let name = claim.status.container.as_ref().unwrap();
        let machine = records::get::<Container>(&*self.store, NS, name).unwrap().unwrap().object;
        let txn = Txn::default().remove(claim).remove(&machine).delete(&records::credentials_key(NS, name));
        self.store.txn(txn.delete(&records::port_key(machine.spec.machine.port))).await.unwrap();
    }
}

fn used(result: &Result<impl Sized, ApiError>) -> bool {
    matches!(result, Err(ApiError::Quota(QuotaError::Used { .. })))
}

#[derive(Clone, Debug)]
enum Step {
    /// So many at once, with the token of this number, or without.
    Create(usize, usize),
    /// The end of a claim is wished for.
    Withdraw(Index),
    /// Nothing is left of it.
    Gone(Index),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => (0..4_usize, 1..4_usize).prop_map(|(token, many)| Step::Create(token, many)),
        1 => proptest::arbitrary::any::<Index>().prop_map(Step::Withdraw),
        1 => proptest::arbitrary::any::<Index>().prop_map(Step::Gone),
    ]
}

/// Names and quotas; the last is nobody's.
const TOKENS: [(Option<&str>, Option<u32>); 4] =
    [(Some("one"), Some(1)), (Some("three"), Some(3)), (Some("any"), None), (None, None)];

async fn history(steps: Vec<Step>) -> Result<(), TestCaseError> {
    let bench = bench(64, 10_000..=10_255, super::any);
    bench.warm(40);
    for (name, quota) in TOKENS {
        if let Some(name) = name {
            bench.token(name, quota).await;
        }
    }
    for step in steps {
        match step {
            Step::Create(number, many) => {
                let (name, quota) = TOKENS[number];
                let free = quota.map_or(many, |most| (most - bench.taken(name.unwrap())) as usize);
                let answers = futures::future::join_all((0..many).map(|_| bench.create(name))).await;
                let granted = answers.iter().filter(|answer| answer.is_ok()).count();
                let refused = answers.iter().filter(|answer| used(answer)).count();
                prop_assert_eq!((granted, refused), (many.min(free), many - many.min(free)));
            }
            Step::Withdraw(at) => {
                if let claims @ [_, ..] = bench.claims().as_slice() {
                    bench.api.withdraw(at.get(claims)).await.unwrap();
                }
            }
            Step::Gone(at) => {
                if let claims @ [_, ..] = bench.claims().as_slice() {
                    bench.gone(at.get(claims)).await;
                }
            }
        }
        for (name, quota) in TOKENS {
            let Some(name) = name else { continue };
            // Counted by what there is: each claim of this history has its machine as long as it is there.
            let there = bench.claims().iter().filter(|claim| claim.spec.access_token.as_deref() == Some(name)).count();
            prop_assert_eq!(bench.taken(name) as usize, there);
            prop_assert!(quota.is_none_or(|most| there <= most as usize), "{} of {:?}", there, quota);
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn whatever_comes_and_goes_nobody_has_more_than_their_quota_and_everybody_as_much(
        steps in prop::collection::vec(step(), 1..10),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(history(steps))?;
    }
}

/// A store whose transactions are done when the test says so, as in a committer's queue: whoever waited for one may have
/// gone away.
struct Queued {
    inner: Arc<dyn Store>,
    queue: Mutex<Vec<(Txn, oneshot::Sender<TxnResult>)>>,
}

impl Queued {
    fn over(inner: &Arc<dyn Store>) -> Arc<Queued> {
        Arc::new(Queued { inner: Arc::clone(inner), queue: Mutex::default() })
    }

    fn waiting(&self) -> usize {
        self.queue.lock().unwrap().len()
    }

    async fn commit_first(&self) {
        let (txn, answer) = self.queue.lock().unwrap().remove(0);
        answer.send(self.inner.txn(txn).await.unwrap()).ok();
    }
}

impl Store for Queued {
    fn get(&self, key: &str) -> Result<(Option<Kv>, u64), StoreError> {
        self.inner.get(key)
    }

    fn list(&self, prefix: &str) -> Result<(Vec<Kv>, u64), StoreError> {
        self.inner.list(prefix)
    }

    fn index(&self) -> Result<crate::store::Index, StoreError> {
        self.inner.index()
    }

    fn txn(&self, txn: Txn) -> Commit {
        let (answer, answered) = oneshot::channel();
        self.queue.lock().unwrap().push((txn, answer));
        Commit::new(Box::pin(async move { Ok(answered.await.unwrap()) }))
    }

    fn watch(&self, prefix: &str, from: u64) -> Watch {
        self.inner.watch(prefix, from)
    }

    fn compact(&self, rev: u64) -> Result<(), StoreError> {
        self.inner.compact(rev)
    }
}

#[tokio::test]
async fn a_claim_that_is_on_its_way_when_its_client_goes_away_counts() {
    let bench = bench(2, 10_000..=10_009, super::any);
    bench.warm(1);
    bench.token("one", Some(1)).await;
    // Of a pool of its own: nothing but the token is shared by the two claims.
    let mut other = records::get::<ContainerPool>(&*bench.store, NS, "default").unwrap().unwrap().object;
    other.metadata.name = "other".into();
    let mut member = bench.api.births.container(&*bench.store, &other, None, vec![], Timestamp::UNIX_EPOCH).unwrap();
    member.container.status.phase = Phase::Ready;
    bench.store.txn(member.txn.write(&other)).await.unwrap();
    bench.store.txn(Txn::default().write(&member.container)).await.unwrap();

    let store = Queued::over(&bench.store);
    let api = bench.api_over(Arc::clone(&store) as Arc<dyn Store>, Arc::new(Unlimited));
    let (first, mut second) = (bench.claim("one"), bench.claim("one"));
    second.spec.pool = "other".into();
    {
        let writing = api.write_claim(&first, vec![]);
        tokio::pin!(writing);
        while store.waiting() < 1 {
            assert!(futures::poll!(&mut writing).is_pending());
            tokio::task::yield_now().await;
        }
    }
    let writing = api.write_claim(&second, vec![]);
    tokio::pin!(writing);
    while store.waiting() < 2 {
        assert!(futures::poll!(&mut writing).is_pending());
        tokio::task::yield_now().await;
    }
    store.commit_first().await;
    store.commit_first().await;
    let said = writing.await;
    assert!(used(&said), "{said:?}");
    assert_eq!(bench.taken("one"), 1);
}

#[tokio::test]
async fn a_token_that_is_disabled_while_a_claim_is_on_its_way_makes_none() {
    let bench = bench(1, 10_000..=10_009, super::any);
    bench.warm(1);
    bench.token("any", None).await;
    let store = Queued::over(&bench.store);
    let api = bench.api_over(Arc::clone(&store) as Arc<dyn Store>, Arc::new(Unlimited));
    let claim = bench.claim("any");
    let writing = api.write_claim(&claim, vec![]);
    tokio::pin!(writing);
    while store.waiting() < 1 {
        assert!(futures::poll!(&mut writing).is_pending());
        tokio::task::yield_now().await;
    }
    bench.tokens().set_enabled("any", false).await.unwrap();
    store.commit_first().await;
    let said = writing.await;
    assert!(matches!(said, Err(ApiError::Quota(QuotaError::Gone { .. }))), "{said:?}");
    assert_eq!(bench.claims(), []);
}

#[tokio::test]
async fn what_was_made_with_a_token_that_is_deleted_lives_on_and_counts_for_the_next_of_its_name() {
    let bench = bench(4, 10_000..=10_009, super::any);
    bench.warm(4);
    bench.token("anna", Some(2)).await;
    let kept = bench.create(Some("anna")).await.unwrap();
    bench.tokens().delete("anna").await.unwrap();
    assert!(matches!(bench.create(Some("anna")).await, Err(ApiError::Quota(QuotaError::Gone { .. }))));
    let machine = bench.containers().into_iter().find(|c| c.uuid() == kept.uuid).unwrap();
    assert!(!machine.metadata.deleting());
    bench.token("anna", Some(2)).await;
    bench.create(Some("anna")).await.unwrap();
    assert!(used(&bench.create(Some("anna")).await));
    assert_eq!(bench.tokens().list().unwrap()[0].containers, 2);
    // With a quota of nothing nothing is granted.
    bench.store.txn(Txn::default().delete(&access_token_key("anna"))).await.unwrap();
    bench.token("none", Some(0)).await;
    assert!(used(&bench.create(Some("none")).await));
}
