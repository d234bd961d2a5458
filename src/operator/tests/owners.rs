//! Finalizers and owners: whose record stays, and who goes with whom.

use serde_json::json;

use super::bench::claims::Asks;
use super::bench::{Bench, MAX, NS};
use crate::api::objects::Propagation;
use crate::model::*;
use crate::plan::container::released;
use crate::store::records;

fn hold() -> serde_json::Value {
    json!({ "metadata": { "finalizers": ["example.org/hold"] } })
}

/// What is left of machines: domains of ours, forwards, credentials, ports.
fn left(bench: &Bench) -> (usize, usize, usize, usize) {
    let count = |prefix: &str| bench.store.list(&format!("{}{prefix}/", records::REGISTRY)).unwrap().0.len();
    let domains = bench.world.domains().iter().filter(|domain| domain.spec.is_some()).count();
    (domains, bench.world.forwards().len(), count("credentials"), count("ports"))
}

#[test]
fn a_finalizer_keeps_a_containers_record_and_nothing_else_of_it() {
    let mut bench = Bench::new(false, 0.0);
    bench.standalone();
    bench.rest();
    assert_eq!(left(&bench), (1, 1, 1, 1));
    let object = bench.containers()[0].object_ref();
    bench.patch(&object, hold());
    bench.end(&object, Propagation::Background);
    bench.rest();
    assert!(bench.containers().first().is_some_and(released), "the record went");
    assert_eq!(left(&bench), (0, 0, 0, 0));
    bench.free();
    bench.rest();
    assert!(bench.shown(&object).is_none());
}

#[test]
fn a_member_that_a_finalizer_holds_holds_its_place_and_its_pool() {
    let mut bench = Bench::new(false, 0.0);
    bench.scale(MAX);
    bench.rest();
    let member = bench.containers()[0].object_ref();
    bench.patch(&member, hold());
    bench.scale(0);
    bench.rest();
    assert_eq!((bench.containers().len(), bench.pool().status.containers), (1, 1));
    assert_eq!(left(&bench), (0, 0, 0, 0));
    bench.scale(MAX);
    bench.rest();
    assert_eq!(bench.ready() as u32, MAX - 1, "no more than the pool's limit");
    let pool = bench.pool().object_ref();
    bench.end(&pool, Propagation::Foreground);
    bench.rest();
    assert!(bench.shown(&pool).is_some() && bench.ready() == 0);
    bench.free();
    bench.rest();
    assert!(bench.shown(&pool).is_none() && bench.containers().is_empty());
}

#[test]
fn a_claim_that_a_finalizer_holds_gives_its_machine_back_and_stays() {
    let mut bench = Bench::new(false, 0.0);
    let claim = bench.claim(Asks::default());
    bench.rest();
    assert_eq!(bench.bound(), 1);
    bench.patch(&claim, hold());
    assert!(!bench.end(&claim, Propagation::Background));
    bench.rest();
    assert!(bench.shown(&claim).is_some() && bench.containers().is_empty());
    bench.free();
    bench.rest();
    assert!(bench.shown(&claim).is_none());
}

#[test]
fn a_pools_members_name_it_as_their_owner() {
    let mut bench = Bench::new(false, 0.0);
    bench.scale(1);
    bench.rest();
    let owners = &bench.containers()[0].metadata.owner_references;
    let owner = (owners[0].kind.as_str(), owners[0].uid.clone(), owners[0].controller);
    assert_eq!(owner, ("ContainerPool", bench.pool().metadata.uid.to_string(), Some(true)));
    // Nobody takes that from them.
    let member = bench.containers()[0].object_ref();
    bench.patch(&member, json!({ "metadata": { "ownerReferences": null } }));
    assert_eq!(bench.containers()[0].metadata.owner_references.len(), 1);
}

#[test]
fn other_controllers_conditions_outlive_the_operators_passes() {
    let mut bench = Bench::new(false, 0.0);
    bench.scale(1);
    let claim = bench.claim(Asks::default());
    bench.rest();
    let paid = json!({ "status": { "conditions": [
        { "type": "Paid", "status": "True", "reason": "Cash", "lastTransitionTime": "2026-01-01T00:00:00Z" },
    ] } });
    let container = bench.containers()[0].object_ref();
    let pool = bench.pool().object_ref();
    for object in [&pool, &claim, &container] {
        bench.patch_status(object, paid.clone());
    }
    bench.kill(0);
    bench.kill(1);
    bench.scale(2);
    bench.rest();
    for object in [&pool, &claim] {
        let shown = bench.shown(object).unwrap().to_string();
        assert!(shown.contains("\"Paid\"") && shown.contains("\"Ready\"") | shown.contains("\"Available\""), "{shown}");
    }
}

/// A claim, and another one that goes with it.
fn family(bench: &mut Bench) -> (ObjectRef, ObjectRef) {
    let owner = bench.claim(Asks::default());
    let dependent = bench.claim(Asks::default());
    let uid = bench.shown(&owner).unwrap()["metadata"]["uid"].clone();
    let reference = json!({
        "apiVersion": API_VERSION, "kind": "ContainerClaim", "name": owner.name, "uid": uid, "blockOwnerDeletion": true,
    });
    bench.patch(&dependent, json!({ "metadata": { "ownerReferences": [reference] } }));
    bench.rest();
    assert!(bench.shown(&dependent).is_some(), "its owner is there");
    (owner, dependent)
}

#[test]
fn a_dependent_goes_after_an_owner_that_is_deleted_in_the_background() {
    let mut bench = Bench::new(false, 0.0);
    let (owner, dependent) = family(&mut bench);
    bench.end(&owner, Propagation::Background);
    bench.rest();
    assert!(bench.shown(&owner).is_none() && bench.shown(&dependent).is_none());
    assert_eq!(bench.containers().len(), 0, "its machine too");
}

#[test]
fn a_dependent_goes_before_an_owner_that_is_deleted_in_the_foreground() {
    let mut bench = Bench::new(false, 0.0);
    let (owner, dependent) = family(&mut bench);
    bench.patch(&dependent, hold());
    bench.end(&owner, Propagation::Foreground);
    bench.rest();
    assert!(bench.shown(&owner).is_some(), "it waits");
    assert!(!bench.shown(&dependent).unwrap()["metadata"]["deletionTimestamp"].is_null());
    bench.free();
    bench.rest();
    assert!(bench.shown(&owner).is_none() && bench.shown(&dependent).is_none());
}

#[test]
fn a_crash_at_any_call_of_a_deletion_changes_nothing_of_what_it_comes_to() {
    for propagation in [Propagation::Background, Propagation::Foreground, Propagation::Orphan] {
        for calls in 0..20 {
            let mut bench = Bench::new(false, 0.0);
            let (owner, dependent) = family(&mut bench);
            bench.end(&owner, propagation);
            bench.crash_after(calls);
            for _ in 0..6 {
                bench.round_or_crash();
            }
            bench.settle();
            let stays = propagation == Propagation::Orphan;
            let left = (bench.shown(&owner).is_some(), bench.shown(&dependent).is_some(), bench.containers().len());
            assert_eq!(left, (false, stays, usize::from(stays)), "{propagation:?}, crash after {calls} calls");
            bench.check_always();
        }
    }
}

#[test]
fn an_orphan_stays_and_names_its_owner_no_more() {
    let mut bench = Bench::new(false, 0.0);
    let (owner, dependent) = family(&mut bench);
    bench.end(&owner, Propagation::Orphan);
    bench.rest();
    assert!(bench.shown(&owner).is_none());
    let orphan = bench.shown(&dependent).unwrap();
    assert!(orphan["metadata"]["ownerReferences"].is_null() && orphan["metadata"]["deletionTimestamp"].is_null());
    assert_eq!(records::list::<Container>(&*bench.store, NS).unwrap().len(), 1);
}
