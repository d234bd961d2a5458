use std::sync::Mutex;

use jiff::Timestamp;

use super::*;
use crate::store::memory;

struct Bench {
    tokens: AccessTokenManager,
    store: Arc<dyn Store>,
    now: Arc<Mutex<Timestamp>>,
}

fn bench() -> Bench {
    let now = Arc::new(Mutex::new(Timestamp::from_second(1000).unwrap()));
    let (clock, store): (_, Arc<dyn Store>) = (Arc::clone(&now), memory());
    let tokens = AccessTokenManager::new(Arc::clone(&store), Arc::new(move || *clock.lock().unwrap()));
    Bench { tokens, store, now }
}

impl Bench {
    async fn add(&self, name: &str, ttl: Option<u32>, quotas: Quotas) -> String {
        let order = Order { name: Some(name.into()), ttl, quotas, ..Order::default() };
        self.tokens.add(order).await.unwrap().1.expose_secret().to_owned()
    }

    /// Whose a text is, or why it is nobody's.
    fn said(&self, text: &str) -> Result<String, String> {
        self.tokens.admit(text).map_err(|error| error.to_string())
    }
}

#[tokio::test]
async fn a_token_is_told_in_its_documented_form_and_kept_as_its_sha256_alone() {
    let bench = bench();
    let text = bench.add("anna", None, Quotas::default()).await;
    assert_eq!(text.len(), 124);
    assert!(text.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-' || c == b'_'));
    assert_ne!(text, bench.add("bert", None, Quotas::default()).await);
    let record = &bench.store.get("access-tokens/anna").unwrap().0.unwrap().value;
    let record = String::from_utf8(record.to_vec()).unwrap();
    assert!(record.contains(&sha256(&text)));
    for part in [&text[..24], &text[50..74], &text[100..]] {
        assert!(!record.contains(part), "a part of the token is in its record");
    }
}

#[tokio::test]
async fn a_token_is_good_while_it_is_enabled_until_its_time_is_over_or_it_is_deleted() {
    let bench = bench();
    let anna = bench.add("anna", None, Quotas::default()).await;
    let short = bench.add("short", Some(60), Quotas::default()).await;
    assert_eq!((bench.said(&anna), bench.said(&short)), (Ok("anna".into()), Ok("short".into())));
    assert_eq!(bench.said(&"x".repeat(124)), Err("its access token is unknown".into()));

    bench.tokens.set_enabled("anna", false).await.unwrap();
    assert_eq!(bench.said(&anna), Err("its access token is 'anna', which is disabled".into()));
    *bench.now.lock().unwrap() += SignedDuration::from_secs(60);
    assert_eq!(bench.said(&short), Err("its access token is 'short', whose time is over".into()));
    assert!(!bench.tokens.any_good().unwrap());
    bench.tokens.set_enabled("anna", true).await.unwrap();
    assert!(bench.tokens.any_good().unwrap());
    assert_eq!(bench.said(&anna), Ok("anna".into()));
    bench.tokens.delete("anna").await.unwrap();
    assert_eq!(bench.said(&anna), Err("its access token is unknown".into()));
    let anew = bench.add("anna", None, Quotas::default()).await;
    assert_eq!((bench.said(&anna).is_err(), bench.said(&anew)), (true, Ok("anna".into())));
}

#[tokio::test]
async fn one_that_is_made_disabled_has_to_be_enabled_and_one_without_a_name_gets_one() {
    let bench = bench();
    let (token, text) = bench.tokens.add(Order { disabled: true, ..Order::default() }).await.unwrap();
    assert!(valid_name(&token.name).is_ok() && token.name.starts_with("token-"), "{}", token.name);
    assert!(bench.said(text.expose_secret()).is_err());
    bench.tokens.set_enabled(&token.name, true).await.unwrap();
    assert_eq!(bench.said(text.expose_secret()), Ok(token.name));
}

#[tokio::test]
async fn a_token_that_is_used_too_often_is_refused_and_nobody_elses_is() {
    let bench = bench();
    let quotas = Quotas { requests_per_minute: NonZeroU32::new(2), ..Quotas::default() };
    let (anna, bert) = (bench.add("anna", None, quotas).await, bench.add("bert", None, Quotas::default()).await);
    assert!([(); 2].iter().all(|()| bench.said(&anna).is_ok()));
    match bench.tokens.admit(&anna) {
        Err(AdmitError::TooOften { name, per_minute, wait }) => {
            assert_eq!((name.as_str(), per_minute.get()), ("anna", 2));
            assert!((1..=30).contains(&wait), "{wait}");
        }
        other => panic!("{other:?}"),
    }
    assert!([(); 50].iter().all(|()| bench.said(&bert).is_ok()));
    // What is not good costs nobody anything.
    bench.tokens.set_enabled("anna", false).await.unwrap();
    assert!(bench.said(&anna).unwrap_err().contains("disabled"));
}

#[tokio::test]
async fn a_token_of_the_python_server_is_taken_over_by_its_sha256() {
    let bench = bench();
    let text = "x".repeat(124);
    // printf 'x%.0s' {1..124} | sha256sum
    let sha256 = "a3dc6de723c964122eaef13556fdaa3e2e406ff3230fc6588168abdfc43aabe9";
    let tokens = &bench.tokens;
    let take = async |name: &str, sha256: &str| {
        tokens.take_over(Order { name: Some(name.into()), ..Order::default() }, sha256).await
    };
    assert_eq!(take("anna", sha256).await.unwrap().sha256, sha256);
    assert_eq!(bench.said(&text), Ok("anna".into()));
    assert!(matches!(take("bert", sha256).await, Err(AccessTokenError::Same { name }) if name == "anna"));
    for bad in ["", "abc", &"g".repeat(64), &sha256.to_uppercase()] {
        assert!(matches!(take("bert", bad).await, Err(AccessTokenError::Sha256)), "{bad}");
    }
}

#[tokio::test]
async fn names_are_good_and_taken_once_and_what_is_not_there_is_said() {
    let bench = bench();
    bench.add("anna", None, Quotas::default()).await;
    let add = |name: &str| bench.tokens.add(Order { name: Some(name.into()), ..Order::default() });
    assert!(matches!(add("anna").await, Err(AccessTokenError::Exists { .. })));
    assert!(matches!(add("../anna").await, Err(AccessTokenError::Name(_))));
    assert!(matches!(bench.tokens.delete("bert").await, Err(AccessTokenError::NotFound { .. })));
    assert!(matches!(bench.tokens.set_enabled("bert", true).await, Err(AccessTokenError::NotFound { .. })));
    let anna: AccessToken = records::decode(&bench.store.get("access-tokens/anna").unwrap().0.unwrap()).unwrap().object;
    let many = (1..MOST).fold(Txn::default(), |txn, n| txn.put(&access_token_key(&format!("t-{n}")), &anna));
    bench.store.txn(many).await.unwrap();
    assert!(matches!(add("one-more").await, Err(AccessTokenError::TooMany)));
}

#[tokio::test]
async fn a_request_costs_one_search_however_many_tokens_there_are() {
    let bench = bench();
    let anna = bench.add("anna", None, Quotas::default()).await;
    for number in 1..MOST {
        let order = Order { name: Some(format!("other-{number}")), ..Order::default() };
        bench.tokens.take_over(order, &format!("{number:064x}")).await.unwrap();
    }
    assert!(matches!(bench.tokens.add(Order::default()).await, Err(AccessTokenError::TooMany)));
    let asked = |text: &str, said: Result<String, String>| records::decoded(|| assert_eq!(bench.said(text), said));
    // The first takes in what changed.
    asked(&anna, Ok("anna".into()));
    assert_eq!(asked(&anna, Ok("anna".into())), 0);
    assert_eq!(asked(&"x".repeat(LENGTH), Err("its access token is unknown".into())), 0);
    bench.tokens.set_enabled("anna", false).await.unwrap();
    assert_eq!(asked(&anna, Err("its access token is 'anna', which is disabled".into())), 1, "what changed, once");
}

#[tokio::test]
async fn nobody_is_known_while_a_record_of_a_token_cannot_be_read() {
    let bench = bench();
    let anna = bench.add("anna", None, Quotas::default()).await;
    bench.store.txn(Txn::default().put("access-tokens/broken", &1)).await.unwrap();
    assert!(matches!(bench.tokens.admit(&anna), Err(AdmitError::Record(RecordError::Unreadable { .. }))));
    bench.store.txn(Txn::default().delete("access-tokens/broken")).await.unwrap();
    assert_eq!(bench.said(&anna), Ok("anna".into()));
}
