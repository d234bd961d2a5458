mod verbs;

use std::sync::Mutex;

use futures::StreamExt;
use jiff::{SignedDuration, Timestamp};
use tempfile::TempDir;

use super::configured::{self, Configured};
use super::*;
use crate::api::{Digests, Sealer};
use crate::manifest::keep::CONFIGURATION;
use crate::manifest::selector::{Filter, Selector};
use crate::manifest::{self, Manifest};
use crate::model::{
    ClaimPhase, Container, ContainerClaim, ContainerPool, DEFAULT_NAMESPACE, Event, EventKind, Image, Kind, MANAGED_BY,
    ObjectRef, Origin, PoolSpec, Template,
};
use crate::store::{RecordError, StoreError, Txn, memory, records};

struct Bench {
    objects: Objects,
    store: Arc<dyn Store>,
    dir: TempDir,
}

impl Bench {
    fn new() -> Bench {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("i.iso"), "image").unwrap();
        let sealer = Sealer::from_file(&dir.path().join("seal.key")).unwrap();
        let births = Arc::new(Births::new(sealer, Digests::default(), 10_000..=10_003, Arc::new(|_| true)));
        let store: Arc<dyn Store> = memory();
        let time = Mutex::new(Timestamp::UNIX_EPOCH);
        let clock = Arc::new(move || {
            let mut time = time.lock().unwrap();
            *time += SignedDuration::from_secs(1);
            *time
        });
        Bench { objects: Objects::new(Arc::clone(&store), births, clock), store, dir }
    }

    fn manifest(&self, kind: &str, name: &str, spec: &str) -> Manifest {
        let spec = spec.replace("IMAGE", &format!("image: {{iso: {}}}", self.dir.path().join("i.iso").display()));
        let text =
            format!("apiVersion: anweddol.io/v1alpha1\nkind: {kind}\nmetadata: {{name: {name}}}\nspec: {spec}\n");
        let read = manifest::read("test", text.as_bytes());
        assert_eq!(read.problems, []);
        read.manifests.into_iter().next().unwrap().manifest
    }

    fn pool(&self, replicas: u32) -> Manifest {
        self.manifest("ContainerPool", "a", &format!("{{replicas: {replicas}, maxContainers: 9, template: {{IMAGE}}}}"))
    }

    async fn apply(&self, manifest: &Manifest) -> Result<Written, ObjectError> {
        self.write(manifest, Verb::Describe, &Terms::default()).await
    }

    async fn write(&self, manifest: &Manifest, verb: Verb, terms: &Terms) -> Result<Written, ObjectError> {
        let request = Request::new(manifest.object_ref(), verb, manifest.to_json());
        self.objects.write(&Request { terms: terms.clone(), ..request }).await
    }

    async fn scale(&self, replicas: u32) -> Result<Written, ObjectError> {
        let body = serde_json::json!({ "spec": { "replicas": replicas } });
        let request = Request::new(self.pool(0).object_ref(), Verb::MergePatch, body);
        self.objects.write(&Request { subresource: Some(Subresource::Scale), ..request }).await
    }

    async fn delete(&self, object: &ObjectRef) -> Result<bool, ObjectError> {
        Ok(self.objects.delete(object, &Deletion::default()).await?.gone)
    }

    fn events(&self) -> Vec<Event> {
        let kvs = self.store.list(records::EVENTS).unwrap().0;
        kvs.iter().map(|kv| records::decode::<Event>(kv).unwrap().object).collect()
    }

    fn revision(&self) -> u64 {
        self.store.get("").unwrap().1
    }

    fn read<T: crate::model::Object>(&self, name: &str) -> T {
        records::get::<T>(&*self.store, DEFAULT_NAMESPACE, name).unwrap().unwrap().object
    }

    async fn put<T: crate::model::Object>(&self, object: &T) {
        self.store.txn(Txn::default().write(object)).await.unwrap();
    }
}

#[tokio::test]
async fn a_write_that_changes_nothing_writes_and_tells_nothing() {
    let bench = Bench::new();
    assert_eq!(bench.apply(&bench.pool(2)).await.unwrap().outcome, Outcome::Created);
    let revision = bench.revision();
    let again = bench.apply(&bench.pool(2)).await.unwrap();
    assert_eq!((again.outcome, bench.revision()), (Outcome::Unchanged, revision));
    assert_eq!(bench.apply(&bench.pool(3)).await.unwrap().outcome, Outcome::Configured);
    let told: Vec<_> = bench.events().into_iter().map(|event| (event.kind, event.message)).collect();
    let applied = |what: &str| (EventKind::AppliedObject, format!("ContainerPool default/a {what}"));
    assert_eq!(told, [applied("created"), applied("configured")]);
}

#[tokio::test]
async fn the_generation_counts_changes_of_the_spec_alone() {
    let bench = Bench::new();
    let mut manifest = bench.pool(2);
    bench.apply(&manifest).await.unwrap();
    manifest.labels.insert("a".into(), "b".into());
    assert_eq!(bench.apply(&manifest).await.unwrap().object["metadata"]["generation"], 1);
    assert_eq!(bench.apply(&bench.pool(3)).await.unwrap().object["metadata"]["generation"], 2);
    let pool: ContainerPool = bench.read("a");
    assert!(pool.metadata.labels.is_empty(), "what a manifest does not say is not there");
}

#[tokio::test]
async fn status_and_the_daemons_labels_and_annotations_are_nobody_elses() {
    let bench = Bench::new();
    let terms = Terms { keeper: Some("/d".into()), ..Terms::default() };
    bench.write(&bench.pool(2), Verb::Describe, &terms).await.unwrap();
    let mut pool: ContainerPool = bench.read("a");
    pool.status.containers = 2;
    pool.metadata.labels.insert("anweddol.io/own".into(), "x".into());
    bench.put(&pool).await;
    bench.apply(&bench.pool(3)).await.unwrap();
    let after: ContainerPool = bench.read("a");
    assert_eq!(after.status, pool.status);
    assert_eq!(after.metadata.labels, pool.metadata.labels);
    assert_eq!(after.metadata.annotations[MANAGED_BY], "/d");
}

#[tokio::test]
async fn what_never_changes_is_refused_by_field() {
    let bench = Bench::new();
    bench.apply(&bench.manifest("ContainerClaim", "c", "{pool: a}")).await.unwrap();
    let refused = bench.apply(&bench.manifest("ContainerClaim", "c", "{pool: b}")).await.unwrap_err();
    assert!(matches!(&refused, ObjectError::Invalid { faults, .. } if faults[0].field == "spec.pool"), "{refused}");
    bench.apply(&bench.manifest("Container", "d", "{template: {IMAGE}}")).await.unwrap();
    let refused = bench.apply(&bench.manifest("Container", "d", "{template: {IMAGE, vcpus: 2}}")).await.unwrap_err();
    assert!(matches!(&refused, ObjectError::Invalid { faults, .. } if faults[0].field == "spec.template"), "{refused}");
}

#[tokio::test]
async fn a_claim_gets_no_more_time_than_its_pool_allows_and_a_longer_one_is_told() {
    let bench = Bench::new();
    let pool = "{maxContainers: 1, template: {IMAGE, lifetime: {maxTtlSeconds: 60}}}";
    bench.apply(&bench.manifest("ContainerPool", "a", pool)).await.unwrap();
    let claim = |ttl: u32| bench.manifest("ContainerClaim", "c", &format!("{{pool: a, ttlSeconds: {ttl}}}"));
    assert!(matches!(bench.apply(&claim(61)).await, Err(ObjectError::Invalid { .. })));
    bench.apply(&claim(30)).await.unwrap();
    let mut bound: ContainerClaim = bench.read("c");
    bound.status.phase = ClaimPhase::Bound;
    bench.put(&bound).await;
    bench.apply(&claim(60)).await.unwrap();
    let kinds: Vec<_> = bench.events().iter().map(|event| event.kind).collect();
    assert!(kinds.ends_with(&[EventKind::ExtendedClaim, EventKind::AppliedObject]), "{kinds:?}");
}

#[tokio::test]
async fn what_was_allowed_once_is_in_no_way_of_a_write_that_leaves_it_as_it_is() {
    let bench = Bench::new();
    let pool = |most: u32| {
        let spec = format!("{{maxContainers: 1, template: {{IMAGE, lifetime: {{maxTtlSeconds: {most}}}}}}}");
        bench.manifest("ContainerPool", "a", &spec)
    };
    bench.apply(&pool(600)).await.unwrap();
    let claim = bench.manifest("ContainerClaim", "c", "{pool: a, ttlSeconds: 600}");
    bench.apply(&claim).await.unwrap();
    bench.apply(&pool(300)).await.unwrap();
    let patch = |body| Request::new(claim.object_ref(), Verb::MergePatch, body);
    bench.objects.write(&patch(serde_json::json!({ "metadata": { "finalizers": ["a.b/c"] } }))).await.unwrap();
    bench.delete(&claim.object_ref()).await.unwrap();
    bench.objects.write(&patch(serde_json::json!({ "metadata": { "finalizers": null } }))).await.unwrap();
}

#[tokio::test]
async fn a_claims_secrets_and_origin_survive_a_write_and_are_never_shown() {
    let bench = Bench::new();
    bench.apply(&bench.manifest("ContainerClaim", "c", "{pool: a}")).await.unwrap();
    let mut claim: ContainerClaim = bench.read("c");
    claim.spec.token_sha256 = Some("5ec2e7".into());
    claim.spec.origin = Origin::Embedder;
    bench.put(&claim).await;
    let written = bench.apply(&bench.manifest("ContainerClaim", "c", "{pool: a, ttlSeconds: 9}")).await.unwrap();
    assert!(!written.object.to_string().contains("5ec2e7"));
    let after: ContainerClaim = bench.read("c");
    assert_eq!((after.spec.token_sha256, after.spec.origin), (claim.spec.token_sha256, Origin::Embedder));
}

#[tokio::test]
async fn conditions_on_the_revision_hold() {
    let bench = Bench::new();
    let at = |revision| Terms { revision: Some(revision), ..Terms::default() };
    let written = bench.apply(&bench.pool(1)).await.unwrap();
    let revision: u64 = written.object["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap();
    let stale = bench.write(&bench.pool(2), Verb::Replace, &at(revision - 1)).await;
    assert!(matches!(stale, Err(ObjectError::Conflict { .. })));
    bench.write(&bench.pool(2), Verb::Replace, &at(revision)).await.unwrap();
    let object = bench.pool(1).object_ref();
    assert!(matches!(
        bench.objects.delete(&object, &Deletion { revision: Some(revision), ..Deletion::default() }).await,
        Err(ObjectError::Conflict { .. })
    ));
    let exists = bench.write(&bench.pool(2), Verb::Create, &Terms::default()).await;
    assert!(matches!(exists, Err(ObjectError::Exists { .. })));
    let none = bench.manifest("ContainerPool", "none", "{maxContainers: 1, template: {IMAGE}}");
    let missing = bench.write(&none, Verb::Replace, &at(1)).await;
    assert!(matches!(missing, Err(ObjectError::NotFound { .. })));
}

#[tokio::test]
async fn a_dry_run_says_what_would_be_and_writes_nothing() {
    let bench = Bench::new();
    let dry = Terms { dry_run: true, ..Terms::default() };
    let container = bench.manifest("Container", "d", "{template: {IMAGE}}");
    for manifest in [bench.pool(1), container] {
        let written = bench.write(&manifest, Verb::Describe, &dry).await.unwrap();
        assert_eq!((written.outcome, &written.object["metadata"]["name"]), (Outcome::Created, &manifest.name.into()));
    }
    bench.apply(&bench.pool(1)).await.unwrap();
    let revision = bench.revision();
    let written = bench.write(&bench.pool(5), Verb::Describe, &dry).await.unwrap();
    assert_eq!((written.outcome, &written.object["spec"]["replicas"]), (Outcome::Configured, &5.into()));
    bench
        .objects
        .delete(&bench.pool(1).object_ref(), &Deletion { dry_run: true, ..Deletion::default() })
        .await
        .unwrap();
    assert_eq!(bench.revision(), revision);
}

#[tokio::test]
async fn scaling_changes_nothing_else_and_keeps_to_the_limit() {
    let bench = Bench::new();
    bench.apply(&bench.pool(1)).await.unwrap();
    let before: ContainerPool = bench.read("a");
    bench.scale(4).await.unwrap();
    let after: ContainerPool = bench.read("a");
    assert_eq!(after.spec, PoolSpec { replicas: 4, ..before.spec });
    let refused = bench.scale(10).await.unwrap_err();
    assert!(refused.to_string().contains("spec.replicas"), "{refused}");
}

#[tokio::test]
async fn a_deletion_is_a_wish_until_nothing_is_left_and_lets_no_write_in() {
    let bench = Bench::new();
    bench.apply(&bench.pool(1)).await.unwrap();
    let object = bench.pool(1).object_ref();
    let mut pool: ContainerPool = bench.read("a");
    pool.status.containers = 1;
    bench.put(&pool).await;
    assert!(!bench.delete(&object).await.unwrap(), "it has a container");
    let deleted: ContainerPool = bench.read("a");
    assert!(deleted.metadata.deleting());
    let refused = bench.apply(&bench.pool(3)).await.unwrap_err();
    assert!(matches!(refused, ObjectError::Deleting { .. }) && refused.to_string().contains("is being deleted"));
    // Once is for ever: a second time changes nothing.
    assert!(!bench.delete(&object).await.unwrap());
    assert_eq!(bench.read::<ContainerPool>("a"), deleted);
    pool.status.containers = 0;
    bench.put(&pool).await;
    assert!(bench.delete(&object).await.unwrap(), "nothing is left of it");
    assert!(matches!(bench.objects.get(&object), Err(ObjectError::NotFound { .. })));
    // A claim that waits has no machine to end.
    let claim = bench.manifest("ContainerClaim", "c", "{pool: a}");
    bench.apply(&claim).await.unwrap();
    assert!(bench.delete(&claim.object_ref()).await.unwrap());
    assert_eq!(bench.events().last().unwrap().kind, EventKind::DeletedObject);
}

#[tokio::test]
async fn a_container_of_its_own_has_its_name_its_port_and_its_login() {
    let bench = Bench::new();
    let mut manifest = bench.manifest("Container", "box", "{template: {IMAGE, vcpus: 3}}");
    manifest.labels.insert("a".into(), "b".into());
    bench.apply(&manifest).await.unwrap();
    let container: Container = bench.read("box");
    assert_eq!((&container.spec.pool, &*container.spec.claim, container.spec.template.vcpus), (&None, &None, 3));
    assert_eq!(container.metadata.labels["a"], "b");
    assert!(records::credentials(&*bench.store, DEFAULT_NAMESPACE, "box").unwrap().is_some());
    let holder = bench.store.get(&records::port_key(container.spec.machine.port)).unwrap().0.unwrap();
    assert_eq!(records::decode::<uuid::Uuid>(&holder).unwrap().object, container.metadata.uid);
    let registry = bench.store.list(records::REGISTRY).unwrap().0;
    assert_eq!(registry.len(), 3, "the container, its login and its port, and nothing under another name");
    let gone = bench.manifest("Container", "other", "{template: {image: {iso: /nowhere.iso}}}");
    let refused = crate::error_chain(&bench.apply(&gone).await.unwrap_err());
    assert!(refused.contains("/nowhere.iso"), "{refused}");
}

#[tokio::test]
async fn a_keeper_touches_what_is_its_own_nobodys_or_the_configurations() {
    let bench = Bench::new();
    let kept_by = |name: &str| Terms { keeper: Some(name.into()), ..Terms::default() };
    for manager in [CONFIGURATION, "/d", "/d"] {
        bench.write(&bench.pool(2), Verb::Describe, &kept_by(manager)).await.unwrap();
    }
    let other = bench.write(&bench.pool(3), Verb::Describe, &kept_by("/e")).await.unwrap_err();
    assert!(matches!(&other, ObjectError::Managed { manager, .. } if manager == "/d"), "{other}");
    let object = bench.pool(1).object_ref();
    assert!(matches!(
        bench.objects.delete(&object, &Deletion { keeper: Some("/e".into()), ..Deletion::default() }).await,
        Err(ObjectError::Managed { .. })
    ));
    // By hand: the keeper puts it back.
    bench.apply(&bench.pool(3)).await.unwrap();
    bench.delete(&object).await.unwrap();
}

#[tokio::test]
async fn a_watch_tells_what_came_changed_and_went_for_its_selector() {
    let bench = Bench::new();
    let selector = Filter::from("team=red".parse::<Selector>().unwrap());
    let mut red = bench.pool(1);
    red.labels.insert("team".into(), "red".into());
    let from = bench.revision();
    bench.apply(&bench.pool(1)).await.unwrap();
    bench.apply(&red).await.unwrap();
    bench
        .apply(&{
            let mut more = red.clone();
            more.annotations.insert("a".into(), "b".into());
            more
        })
        .await
        .unwrap();
    bench.apply(&bench.pool(1)).await.unwrap();
    bench.apply(&red).await.unwrap();
    bench.delete(&red.object_ref()).await.unwrap();
    let changes = bench.objects.watch(Kind::ContainerPool, Some(DEFAULT_NAMESPACE), selector, from);
    let told: Vec<WatchEvent> = changes.take(5).map(|change| change.unwrap()).collect().await;
    let kinds: Vec<_> = told
        .iter()
        .map(|event| match event {
            WatchEvent::Added(_) => "added",
            WatchEvent::Modified(_) => "modified",
            WatchEvent::Deleted(_) => "deleted",
        })
        .collect();
    assert_eq!(kinds, ["added", "modified", "deleted", "added", "deleted"]);
    let WatchEvent::Deleted(last) = &told[4] else { panic!("{told:?}") };
    assert_eq!(last["metadata"]["resourceVersion"], bench.revision().to_string(), "the revision of its end");
}

#[tokio::test]
async fn a_watch_from_a_forgotten_revision_is_told_to_list_again() {
    let bench = Bench::new();
    bench.apply(&bench.pool(1)).await.unwrap();
    bench.store.compact(bench.revision()).unwrap();
    for revision in [1, bench.revision() + 1] {
        let mut changes = bench.objects.watch(Kind::ContainerPool, None, Filter::default(), revision);
        let told = changes.next().await.unwrap();
        assert!(matches!(told, Err(RecordError::Store(StoreError::Compacted { .. }))), "{revision}: {told:?}");
        assert!(changes.next().await.is_none());
    }
}

#[tokio::test]
async fn the_configuration_is_applied_when_it_changed_and_what_was_changed_since_stays() {
    let bench = Bench::new();
    let image = || Template::of(Image::Iso(bench.dir.path().join("i.iso")));
    let spec = |warm| PoolSpec::of(warm, 6, image());
    let apply =
        |warm| configured::apply(&*bench.store, DEFAULT_NAMESPACE, "a", &spec(warm), Timestamp::UNIX_EPOCH).unwrap();
    assert_eq!(apply(1), Configured::Applied);
    bench.scale(4).await.unwrap();
    assert_eq!(apply(1), Configured::Kept);
    assert_eq!(bench.read::<ContainerPool>("a").spec.replicas, 4);
    assert_eq!(apply(2), Configured::Applied);
    assert_eq!(bench.read::<ContainerPool>("a").spec.replicas, 2);
    let terms = Terms { keeper: Some("/d".into()), ..Terms::default() };
    bench.write(&bench.pool(5), Verb::Describe, &terms).await.unwrap();
    assert_eq!(apply(3), Configured::Others, "a manifest took it over");
}
