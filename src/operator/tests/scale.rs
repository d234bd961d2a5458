//! What does not grow with how many there are.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use super::bench::{Bench, NS};
use crate::allocations::allocated;
use crate::api::placing::make_pool;
use crate::model::*;
use crate::store::records::{self, decoded};
use crate::store::{MAX_OPS, StoreError, Txn, TxnResult};

fn member(bench: &Bench, number: u32) -> Container {
    let uuid = Uuid::from_u128(number.into());
    let mut metadata = ObjectMeta::new(NS, &uuid.to_string(), uuid, bench.pool().metadata.creation_timestamp);
    metadata.labels.insert(TEMPLATE_HASH.into(), "0123456789".into());
    let machine = Machine { mac: Mac::default(), port: 1, image_sha256: "".into() };
    let spec = ContainerSpec {
        pool: Some("default".into()),
        claim: None.into(),
        template: bench.pool().spec.template.into(),
        scheduling_gates: vec![].into(),
        machine,
    };
    let ready_at = Some(metadata.creation_timestamp);
    Container {
        metadata,
        spec,
        status: ContainerStatus { phase: Phase::Ready, ready_at, ..ContainerStatus::default() },
    }
}

/// A pool of so many, all Ready, with nothing to do.
fn pool_of(members: u32) -> Bench {
    let bench = Bench::new(false, 0.0);
    for number in 0..members {
        bench.store.txn(Txn::default().write(&member(&bench, number))).wait().unwrap();
    }
    let mut pool = bench.pool();
    (pool.spec.replicas, pool.spec.max_containers, pool.spec.paused) = (members, members, true);
    pool.status.containers = members;
    bench.store.txn(Txn::default().write(&pool)).wait().unwrap();
    bench.pass(&pool.object_ref());
    let before = bench.revision();
    bench.pass(&pool.object_ref());
    assert_eq!((bench.pool().status.ready_replicas, bench.revision()), (members, before));
    bench
}

/// As many digits in both: what it says of itself is as long.
#[test]
fn a_pass_of_a_large_pool_decodes_and_allocates_as_much_as_one_of_a_small_pool() {
    let cost = |members| {
        let bench = pool_of(members);
        let pool = bench.pool().object_ref();
        let (mut read, mut taken) = (0, 0);
        read += decoded(|| taken += allocated(|| bench.pass(&pool)));
        (read, taken)
    };
    let (small, large) = (cost(100), cost(999));
    assert_eq!(small.0, large.0, "decoded");
    // A path through a larger tree has another step.
    assert!(large.1 <= small.1 + 256, "allocated: {} bytes of 999, {} of 100", large.1, small.1);
}

#[test]
fn a_look_at_everything_decodes_no_container_that_somebody_decoded_already() {
    let bench = pool_of(100);
    assert_eq!(decoded(|| drop(bench.inventory().look().unwrap())), 1, "the pool alone");
}

/// After the store was lost, say: a pool is written anew beside the machines in use.
#[test]
fn a_pool_is_made_beside_any_number_of_members_and_counts_them() {
    let bench = Bench::new(false, 0.0);
    let members = u32::try_from(MAX_OPS).unwrap() + 1;
    for number in 0..members {
        bench.store.txn(Txn::default().write(&member(&bench, number))).wait().unwrap();
    }
    let old = bench.pool();
    bench.store.txn(Txn::default().remove(&old)).wait().unwrap();
    let (pool, txn) = make_pool(&*bench.store, old.metadata, &old.spec).unwrap();
    assert!(matches!(bench.store.txn(txn).wait(), Ok(TxnResult::Committed(_))));
    assert_eq!((pool.status.containers, bench.pool().status.containers), (members, members));
}

#[test]
fn a_member_that_goes_while_its_pool_is_made_is_not_counted() {
    let mut bench = Bench::new(false, 0.0);
    bench.scale(2);
    bench.settle();
    let (old, going) = (bench.pool(), bench.containers().remove(0));
    bench.store.txn(Txn::default().remove(&old)).wait().unwrap();
    bench.delete(&bench.container(&going.metadata.name).unwrap());
    let (_, counted) = make_pool(&*bench.store, old.metadata.clone(), &old.spec).unwrap();
    while bench.container(&going.metadata.name).is_some() {
        bench.pass(&going.object_ref());
        bench.wait(1000);
    }
    assert!(matches!(bench.store.txn(counted).wait(), Ok(TxnResult::Conflict { .. })), "it was counted");
    let (_, counted) = make_pool(&*bench.store, old.metadata, &old.spec).unwrap();
    assert!(matches!(bench.store.txn(counted).wait(), Ok(TxnResult::Committed(_))));
    assert_eq!(bench.pool().status.containers, 1);
}

/// However late what follows the store is told of it: here it never is.
#[test]
fn the_pass_that_starts_a_machine_takes_the_last_place_to_boot() {
    let bench = Bench::new(false, 0.0);
    bench.boots().set(NonZeroUsize::new(1));
    bench.scale(2);
    while bench.containers().len() < 2 {
        bench.pass(&bench.pool().object_ref());
        bench.wait(1000);
    }
    let members = bench.containers();
    for c in &members {
        bench.boots().note(c, false);
    }
    for c in &members {
        bench.pass(&c.object_ref());
    }
    let mut phases: Vec<Phase> = bench.containers().iter().map(|c| c.status.phase).collect();
    phases.sort_by_key(|phase| *phase == Phase::Booting);
    assert_eq!(phases, [Phase::Pending, Phase::Booting]);
}

#[tokio::test]
async fn the_event_log_is_trimmed_as_it_grows_whatever_is_swept() -> Result<(), StoreError> {
    let mut bench = Bench::new(false, 0.0);
    bench.keep_events(8);
    let (store, quit) = (Arc::clone(&bench.store), bench.quit());
    let event = Event::new(EventKind::ReadyContainer, jiff::Timestamp::UNIX_EPOCH);
    let grow = async || {
        for _ in 0..100 {
            store.txn(Txn::default().tell(std::slice::from_ref(&event))).await?;
        }
        Ok::<_, StoreError>(())
    };
    let at_most = async |most| {
        while store.list(records::EVENTS)?.0.len() > most {
            tokio::task::yield_now().await;
        }
        Ok::<_, StoreError>(())
    };
    let patience = Duration::from_secs(60);

    grow().await?;
    let trims = tokio::spawn(crate::operator::events::trims(bench.into_operator(), quit.clone()));
    tokio::time::timeout(patience, at_most(8)).await.expect("what came before the watch")?;
    grow().await?;
    tokio::time::timeout(patience, at_most(8 + 8 / 4)).await.expect("what came after it")?;
    quit.cancel();
    trims.await.unwrap();
    Ok(())
}
