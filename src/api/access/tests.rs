use super::*;
use crate::model::GROUP;
use crate::store::memory;

fn asked<'a>(
    verb: Verb,
    group: &'a str,
    resource: &'a str,
    sub: &'a str,
    namespace: Option<&'a str>,
) -> Attributes<'a> {
    Attributes { verb, group, resource, subresource: sub, namespace, name: Some("a") }
}

#[test]
fn a_role_permits_what_it_says_and_nothing_else() {
    use Role::{Admin, Claim, Edit, View};
    let all: &[Role] = &[Admin, Edit, View, Claim];
    for (verb, group, resource, sub, roles) in [
        (Verb::Get, GROUP, "containerpools", "", all),
        (Verb::Watch, GROUP, "containers", "", all),
        (Verb::Create, GROUP, "containerclaims", "", &[Admin, Edit, Claim]),
        (Verb::Delete, GROUP, "containerclaims", "", &[Admin, Edit, Claim]),
        (Verb::Create, GROUP, "containerclaims", "login", &[Admin, Edit, Claim]),
        (Verb::Create, GROUP, "containers", "login", &[Admin, Edit]),
        (Verb::Get, GROUP, "containers", "login", &[Admin, Edit]),
        (Verb::Create, GROUP, "containerpools", "", &[Admin, Edit]),
        (Verb::Patch, GROUP, "containerpools", "scale", &[Admin, Edit]),
        (Verb::Get, GROUP, "tokens", "", &[Admin]),
        (Verb::Create, GROUP, "tokens", "", &[Admin]),
        (Verb::List, GROUP, "accesstokens", "", &[Admin]),
        (Verb::Patch, GROUP, "accesstokens", "", &[Admin]),
        (Verb::List, "", "namespaces", "", all),
        (Verb::Delete, "", "namespaces", "", &[Admin]),
        (Verb::List, "", "secrets", "", &[Admin, Edit]),
        (Verb::List, "", "events", "", all),
        (Verb::Create, "events.k8s.io", "events", "", &[Admin, Edit]),
        (Verb::Update, "coordination.k8s.io", "leases", "", &[Admin, Edit]),
        (Verb::Get, "", "pods", "", &[Admin]),
    ] {
        for role in Role::ALL {
            let grant = Grant { role, namespace: None };
            let permitted = grant.permits(&asked(verb, group, resource, sub, Some("red")));
            assert_eq!(permitted, roles.contains(&role), "{role}: {verb:?} {group} {resource}/{sub}");
        }
    }
}

#[test]
fn a_role_of_one_namespace_holds_in_no_other_and_not_for_all_of_them() {
    for role in Role::ALL {
        let grant = Grant { role, namespace: Some("red".into()) };
        let get = |namespace| asked(Verb::Get, GROUP, "containerclaims", "", namespace);
        assert!(grant.permits(&get(Some("red"))), "{role}");
        assert!(!grant.permits(&get(Some("blue"))) && !grant.permits(&get(None)), "{role}");
        let namespace = |verb, name| Attributes { name: Some(name), ..asked(verb, "", "namespaces", "", None) };
        assert!(grant.permits(&namespace(Verb::Get, "red")), "{role}");
        for (verb, name) in [(Verb::Get, "blue"), (Verb::Delete, "red"), (Verb::List, "red")] {
            assert!(!grant.permits(&namespace(verb, name)), "{role} {verb:?} {name}");
        }
    }
}

#[tokio::test]
async fn a_token_is_known_by_its_text_alone_until_it_is_deleted_or_its_time_is_over() {
    let now = Arc::new(std::sync::Mutex::new(Timestamp::from_second(1000).unwrap()));
    let clock = Arc::clone(&now);
    let store: Arc<dyn Store> = memory();
    let access = Access::new(Arc::clone(&store), Arc::new(move || *clock.lock().unwrap()));
    let grant = Grant { role: Role::View, namespace: None };
    let (_, text) = access.add("ci", grant.clone(), None).await.unwrap();
    let (_, short) = access.add("short", grant.clone(), Some(60)).await.unwrap();
    let (text, short) = (text.expose_secret(), short.expose_secret());
    assert_eq!(access.identify(text).unwrap().unwrap().name, "ci");
    let other = format!("short.{}", text.split_once('.').unwrap().1);
    for wrong in ["", "ci", "ci.", "nobody.x", "../ci.x", other.as_str(), &text[..text.len() - 1]] {
        assert_eq!(access.identify(wrong).unwrap(), None, "{wrong}");
    }
    assert!(matches!(access.add("ci", grant, None).await, Err(AccessError::Exists { .. })));
    // What is kept is not what is told.
    let kept = store.list(TOKENS).unwrap().0;
    let secret = text.split_once('.').unwrap().1;
    assert!(kept.iter().all(|kv| !String::from_utf8_lossy(&kv.value).contains(secret)));
    assert!(access.identify(short).unwrap().is_some());
    *now.lock().unwrap() = Timestamp::from_second(1060).unwrap();
    assert!(access.identify(short).unwrap().is_none());
    access.delete("ci").await.unwrap();
    assert!(access.identify(text).unwrap().is_none());
    assert!(matches!(access.delete("ci").await, Err(AccessError::NotFound { .. })));
}
