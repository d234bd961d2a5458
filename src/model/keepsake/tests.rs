use std::collections::BTreeMap;

use jiff::Timestamp;
use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::model::{
    API_VERSION, ClaimSpec, Client, ContainerSpec, Image, Machine, ObjectMeta, Origin, OwnerReference, Template,
    set_condition,
};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn mark() -> Mark {
    let uid = Uuid::from_u128(7);
    Mark { instance: Uuid::from_u128(1), namespace: "default".into(), name: uid.to_string(), uid }
}

/// A machine in use: a client's, or one without pool.
fn records(claimed: bool, words: BTreeMap<String, String>) -> (Container, Option<ContainerClaim>) {
    let mut metadata = ObjectMeta::new("default", &mark().name, mark().uid, at(0));
    metadata.annotations = words.into();
    let name = || "wire-1".to_owned();
    let mut c = Container {
        metadata,
        spec: ContainerSpec {
            pool: claimed.then(|| "default".into()),
            claim: claimed.then(name).into(),
            template: Template::of(Image::Iso("/image.iso".into())).into(),
            scheduling_gates: vec![].into(),
            machine: Machine { mac: "02:00:00:00:00:01".parse().unwrap(), port: 10_000, image_sha256: "ab".into() },
        },
        status: ContainerStatus {
            phase: if claimed { Phase::Bound } else { Phase::Ready },
            started_at: Some(at(1)),
            ready_at: Some(at(2)),
            bound_at: claimed.then(|| at(3)).into(),
            ..ContainerStatus::default()
        },
    };
    set_condition(&mut c.status.conditions, "Ready", true, "Answering", "", at(2));
    let client = Client { ip: [127, 0, 0, 1].into(), id: "1234567".into() };
    let spec = ClaimSpec {
        ttl_seconds: Some(60),
        token_sha256: Some("cd".repeat(32)),
        ..ClaimSpec::of("default", Origin::Wire { client, run: Uuid::from_u128(9) })
    };
    let status = ClaimStatus {
        phase: ClaimPhase::Bound,
        container: Some(c.metadata.name.clone()),
        bound_at: Some(at(3)),
        delivered_at: Some(at(4)),
        ..ClaimStatus::default()
    };
    let metadata = ObjectMeta::new("default", "wire-1", Uuid::from_u128(8), at(0));
    (c, claimed.then_some(ContainerClaim { metadata, spec, status }))
}

/// What a machine in use bears: of this claim, or without pool.
pub(crate) fn keepsake(uid: Uuid, claim_name: Option<&str>, port: u16) -> Keepsake {
    let (mut c, mut claim) = records(claim_name.is_some(), BTreeMap::new());
    (c.metadata.uid, c.metadata.name, c.spec.machine.port) = (uid, uid.to_string(), port);
    c.spec.claim = claim_name.map(str::to_owned).into();
    if let (Some(claim), Some(name)) = (&mut claim, claim_name) {
        (claim.metadata.name, claim.status.container) = (name.into(), Some(uid.to_string()));
    }
    Keepsake::of(&c, claim.as_ref(), credentials())
}

fn credentials() -> Credentials {
    Credentials { username: "user_12345".into(), sealed_password: "sealed".into() }
}

proptest! {
    #[test]
    fn records_come_back_from_their_text_as_they_were_whatever_is_written_in_them(
        claimed: bool,
        words in prop::collection::btree_map(any::<String>(), any::<String>(), 0..4),
    ) {
        let (c, claim) = records(claimed, words);
        let text = Keepsake::of(&c, claim.as_ref(), credentials()).text();
        prop_assert!(text.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{text}");
        let read = Keepsake::read(&text, &mark()).unwrap();
        prop_assert_eq!((read.container, read.claim, read.credentials), (c, claim, credentials()));
    }

    #[test]
    fn a_text_that_is_none_of_ours_is_refused(text in "\\PC{0,60}", cut in 0..400_usize) {
        prop_assert!(Keepsake::read(&text, &mark()).is_err());
        let (c, claim) = records(true, BTreeMap::new());
        let whole = Keepsake::of(&c, claim.as_ref(), credentials()).text();
        prop_assert!(Keepsake::read(&whole[..cut.min(whole.len() - 1)], &mark()).is_err());
    }
}

#[test]
fn its_name_changes_with_what_somebody_changes_and_with_nothing_else() {
    let (mut c, claim) = records(true, BTreeMap::new());
    let mut claim = claim.unwrap();
    let before = Keepsake::digest(&c, Some(&claim));
    c.status.idle_since = Some(at(9)).into();
    c.status.expires_at = Some(at(63)).into();
    (c.status.failures, c.status.retry_at, c.status.message) = (3, Some(at(9)).into(), "no".into());
    claim.status.expires_at = Some(at(63));
    set_condition(&mut c.status.conditions, "Expiring", true, "Expired", "", at(9));
    assert_eq!(Keepsake::digest(&c, Some(&claim)), before);
    claim.spec.ttl_seconds = Some(61);
    let extended = Keepsake::digest(&c, Some(&claim));
    assert_ne!(extended, before);
    claim.status.delivered_at = None;
    assert_ne!(Keepsake::digest(&c, Some(&claim)), extended);
}

#[test]
fn owners_are_not_in_it_since_nobody_can_tell_after_a_loss_whether_they_were_there() {
    let (mut c, claim) = records(true, BTreeMap::new());
    let mut claim = claim.unwrap();
    let owner = OwnerReference {
        api_version: API_VERSION.into(),
        kind: "ContainerPool".into(),
        name: "default".into(),
        uid: Uuid::from_u128(5).to_string(),
        controller: Some(true),
        block_owner_deletion: None,
    };
    (c.metadata.owner_references, claim.metadata.owner_references) = (vec![owner.clone()].into(), vec![owner].into());
    let kept = Keepsake::of(&c, Some(&claim), credentials());
    assert_eq!(*kept.container.metadata.owner_references, []);
    assert_eq!(*kept.claim.unwrap().metadata.owner_references, []);
}

#[test]
fn what_is_of_another_machine_or_does_not_belong_together_is_refused() {
    let (c, claim) = records(true, BTreeMap::new());
    let read = |c: &Container, claim: Option<&ContainerClaim>, mark: &Mark| {
        Keepsake::read(&Keepsake::of(c, claim, credentials()).text(), mark)
    };
    let good = claim.as_ref();
    read(&c, good, &mark()).unwrap();
    for another in [
        Mark { namespace: "other".into(), ..mark() },
        Mark { name: "other".into(), ..mark() },
        Mark { uid: Uuid::from_u128(9), ..mark() },
    ] {
        assert!(matches!(read(&c, good, &another), Err(KeepsakeError::Another { .. })));
    }
    let changed = |change: fn(&mut Container, &mut ContainerClaim)| {
        let (mut c, mut claim) = (c.clone(), claim.clone().unwrap());
        change(&mut c, &mut claim);
        read(&c, Some(&claim), &mark())
    };
    assert!(matches!(changed(|_, claim| claim.metadata.name = "b".into()), Err(KeepsakeError::Torn)));
    assert!(matches!(changed(|_, claim| claim.metadata.namespace = "b".into()), Err(KeepsakeError::Torn)));
    assert!(matches!(changed(|_, claim| claim.status.container = None), Err(KeepsakeError::Torn)));
    assert!(matches!(changed(|_, claim| claim.status.phase = ClaimPhase::Lost), Err(KeepsakeError::Torn)));
    assert!(matches!(read(&c, None, &mark()), Err(KeepsakeError::Torn)));
    let booting = changed(|c, _| c.status.phase = Phase::Booting);
    assert!(matches!(booting, Err(KeepsakeError::Unused(Phase::Booting))));
    let (member, _) = records(false, BTreeMap::new());
    let mut pooled = member.clone();
    pooled.spec.pool = Some("default".into());
    assert!(matches!(read(&pooled, None, &mark()), Err(KeepsakeError::Unused(Phase::Ready))));
    read(&member, None, &mark()).unwrap();
}
