//! Each kind: owned, left over, waiting for its domain, somebody else's, unknown, missing.

use std::net::Ipv4Addr;

use jiff::Timestamp;

use super::*;
use crate::allocations::allocated;
use crate::model::{
    Condition, ContainerSpec, ContainerStatus, Image, Keepsake, Machine, Mark, ObjectMeta, Said, Template,
    set_condition,
};
use crate::plan::container::conditions::RELEASED;

const INSTANCE: Uuid = Uuid::from_u128(7);
/// The one with a record, and the one without.
const OWNER: Uuid = Uuid::from_u128(0x1111_1111_1111 << 80);
const NOBODY: Uuid = Uuid::from_u128(0x2222_2222_2222 << 80);

fn container(phase: Phase) -> Container {
    let machine = Machine { mac: "52:54:00:0A:00:01".parse().unwrap(), port: 10_001, image_sha256: "".into() };
    let template = Template::of(Image::Iso("/i.iso".into()));
    Container {
        metadata: ObjectMeta::new("default", "box", OWNER, Timestamp::UNIX_EPOCH),
        spec: ContainerSpec {
            pool: None,
            claim: None.into(),
            template: template.into(),
            scheduling_gates: vec![].into(),
            machine,
        },
        status: ContainerStatus { phase, address: Some(address(1)), ..ContainerStatus::default() },
    }
}

fn address(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(192, 168, 127, last)
}

fn mark(uid: Uuid, instance: Uuid) -> Mark {
    Mark { instance, namespace: "default".into(), name: "box".into(), uid }
}

/// Something of this kind that belongs to the machine with this UUID, whose numbers end in `n`.
fn of(kind: TraceKind, uuid: Uuid, n: u8) -> Trace {
    let whose = match kind {
        TraceKind::Domain | TraceKind::Save => Whose::Marked(mark(uuid, INSTANCE)),
        TraceKind::Disk | TraceKind::Log => Whose::Machine(uuid),
        TraceKind::Socket | TraceKind::Tap => Whose::Beginning(String::from_utf8(beginning(uuid).into()).unwrap()),
        TraceKind::Lease | TraceKind::Element => Whose::Card(format!("52:54:00:0a:00:0{n}")),
        TraceKind::Forward => Whose::Port(10_000 + u16::from(n)),
        TraceKind::Flow => Whose::Address(address(n)),
        TraceKind::Credentials => Whose::Container("default".into(), if n == 1 { "box" } else { "other" }.into()),
        TraceKind::Port => return Trace::new(kind, (10_000 + u16::from(n)).to_string(), Whose::Machine(uuid)),
        TraceKind::File => Whose::Nobody,
    };
    Trace::new(kind, format!("{kind} {n}"), whose)
}

fn listing(kind: TraceKind, found: Vec<Trace>) -> Listing {
    Listing { kind, found: Ok(found) }
}

fn unknown(kind: TraceKind) -> Listing {
    Listing { kind, found: Err("it does not answer".into()) }
}

fn compared(phase: Phase, listings: &[Listing]) -> Comparison {
    compare(INSTANCE, &Owners::of(&[container(phase)]), listings)
}

fn wrongs(comparison: &Comparison) -> Vec<Wrong> {
    comparison.drifts.iter().map(|drift| drift.wrong.clone()).collect()
}

/// Kinds of which a machine has something.
fn of_machines() -> impl Iterator<Item = TraceKind> {
    TraceKind::ALL.into_iter().filter(|kind| *kind != TraceKind::File)
}

#[test]
fn what_has_a_record_is_owned_and_what_has_none_is_left_over() {
    for kind in of_machines() {
        let (owned, left) = (of(kind, OWNER, 1), of(kind, NOBODY, 2));
        let mut listings = vec![listing(kind, vec![owned, left.clone()])];
        if kind != TraceKind::Domain {
            listings.push(listing(TraceKind::Domain, vec![]));
        }
        let seen = compared(Phase::Booting, &listings);
        let looked = seen.looked.iter().find(|looked| looked.kind == kind).unwrap();
        assert_eq!((looked.found, looked.owned, looked.unknown.len()), (2, 1, 0), "{kind}");
        assert_eq!(seen.leftovers, std::slice::from_ref(&left), "{kind}");
        assert_eq!(wrongs(&seen), [Wrong::Leftover], "{kind}");
        assert_eq!(seen.drifts[0].name, left.name);
    }
    let file = of(TraceKind::File, NOBODY, 1);
    let seen = compared(Phase::Booting, &[listing(TraceKind::File, vec![file.clone()])]);
    assert_eq!(seen.leftovers, [file]);
}

/// With long names, and tables as full of the few as of the many.
#[test]
fn what_a_container_owns_takes_no_copy_of_its_names() {
    let taken = |containers: u16| {
        let many: Vec<Container> = (0..containers)
            .map(|n| {
                let mut c = container(Phase::Ready);
                c.metadata.name = format!("{n:0200}");
                c.metadata.uid = Uuid::from_u128(u128::from(n) << 96);
                c.spec.machine.port = n;
                c
            })
            .collect();
        allocated(|| drop(Owners::of(&many)))
    };
    // Tables that grow are made anew at twice the size.
    let each = (taken(112 * 8) - taken(112)) / (112 * 7);
    assert!(each < 400, "{each} bytes each");
}

#[test]
fn what_cannot_be_listed_is_unknown_and_never_missing() {
    for kind in TraceKind::ALL {
        let seen = compared(Phase::Ready, &[unknown(kind)]);
        assert_eq!(seen.looked[0].unknown, ["it does not answer"], "{kind}");
        assert!(seen.drifts.is_empty() && seen.leftovers.is_empty(), "{kind}");
    }
    // One place that cannot be listed hides nothing of the other.
    let (left, unknown) = (of(TraceKind::Log, NOBODY, 2), unknown(TraceKind::Log));
    let domains = listing(TraceKind::Domain, vec![]);
    let seen = compared(Phase::Ready, &[listing(TraceKind::Log, vec![left.clone()]), unknown, domains]);
    assert_eq!(seen.leftovers, [left]);
}

#[test]
fn somebody_elses_is_left_alone_whatever_it_is_called() {
    for kind in TraceKind::ALL {
        let theirs = Trace::new(kind, of(kind, NOBODY, 2).name, Whose::Others("it bears no mark".into()));
        let seen = compared(Phase::Booting, &[listing(kind, vec![theirs])]);
        assert!(seen.leftovers.is_empty(), "{kind}");
        assert_eq!(wrongs(&seen), [Wrong::Others], "{kind}");
        assert!(seen.drifts[0].right.contains("bears no mark"), "{kind}");
    }
    // Another installation's, though a record here has its UUID.
    for kind in [TraceKind::Domain, TraceKind::Save] {
        let theirs = Trace::new(kind, "theirs", Whose::Marked(mark(OWNER, Uuid::from_u128(8))));
        let seen = compared(Phase::Booting, &[listing(kind, vec![theirs])]);
        assert_eq!((wrongs(&seen), seen.leftovers.len(), seen.looked[0].owned), (vec![Wrong::Others], 0, 0), "{kind}");
    }
}

#[test]
fn a_domain_with_the_mark_of_another_one_is_a_copy_and_nobodys() {
    let seen = |mark: Option<Mark>| DomainSeen {
        uuid: NOBODY,
        name: "anweddol-x".into(),
        mark,
        state: crate::model::DomainState::Running,
        keepsake: None,
    };
    assert_eq!(domain(seen(Some(mark(NOBODY, INSTANCE)))).whose, Whose::Marked(mark(NOBODY, INSTANCE)));
    for bad in [Some(mark(OWNER, INSTANCE)), None] {
        assert!(matches!(domain(seen(bad)).whose, Whose::Others(_)));
    }
}

#[test]
fn what_is_of_a_domain_that_is_there_waits_for_it_and_is_unknown_with_it() {
    let named = format!("anweddol-{NOBODY}");
    let theirs = Trace::new(TraceKind::Domain, named, Whose::Others("it bears no mark".into()));
    for kind in [TraceKind::Disk, TraceKind::Save, TraceKind::Log, TraceKind::Socket, TraceKind::Tap] {
        let left = of(kind, NOBODY, 2);
        for domain in [of(TraceKind::Domain, NOBODY, 2), theirs.clone()] {
            let listings = [listing(kind, vec![left.clone()]), listing(TraceKind::Domain, vec![domain])];
            let seen = compared(Phase::Booting, &listings);
            assert!(seen.leftovers.iter().all(|trace| trace.kind == TraceKind::Domain), "{kind}");
            assert!(wrongs(&seen).contains(&Wrong::Waiting), "{kind}");
        }
        let seen = compared(Phase::Booting, &[listing(kind, vec![left]), unknown(TraceKind::Domain)]);
        let looked = seen.looked.iter().find(|looked| looked.kind == kind).unwrap();
        assert!(seen.leftovers.is_empty() && looked.unknown[0].contains("not known"), "{kind}");
    }
}

#[test]
fn a_machine_that_can_be_used_and_lacks_what_it_needs_is_told() {
    let empty: Vec<Listing> = TraceKind::ALL.map(|kind| listing(kind, vec![])).into();
    let lacking = |phase| {
        let seen = compared(phase, &empty);
        seen.drifts.iter().map(|drift| (drift.kind, drift.wrong.clone())).collect::<Vec<_>>()
    };
    let needed = [TraceKind::Domain, TraceKind::Forward, TraceKind::Credentials, TraceKind::Port];
    for phase in [Phase::Ready, Phase::Bound] {
        assert_eq!(lacking(phase), needed.map(|kind| (kind, Wrong::Missing)));
    }
    for phase in [Phase::Pending, Phase::Booting, Phase::Failed, Phase::Terminating] {
        assert_eq!(lacking(phase), []);
    }
    let full: Vec<Listing> = needed.map(|kind| listing(kind, vec![of(kind, OWNER, 1)])).into();
    assert_eq!(compared(Phase::Bound, &full).drifts, []);
}

#[test]
fn what_was_released_owns_nothing_and_a_port_is_held_by_one_machine() {
    let mut c = container(Phase::Failed);
    set_condition(&mut c.status.conditions, RELEASED, true, "Lost", "", Timestamp::UNIX_EPOCH);
    let listings = [listing(TraceKind::Port, vec![of(TraceKind::Port, OWNER, 1)])];
    assert_eq!(compare(INSTANCE, &Owners::of(&[c]), &listings).leftovers.len(), 1);
    // Its record has another port.
    let listings = [listing(TraceKind::Port, vec![of(TraceKind::Port, OWNER, 1), of(TraceKind::Port, OWNER, 2)])];
    assert_eq!(compared(Phase::Booting, &listings).leftovers, [of(TraceKind::Port, OWNER, 2)]);
}

#[test]
fn a_report_is_clean_if_everything_was_seen_and_nothing_of_ours_is_wrong() {
    let looked = |unknown: Vec<String>| Looked { kind: TraceKind::Disk, found: 0, owned: 0, unknown };
    let report = |wrong| Report {
        looked: vec![looked(vec![])],
        drifts: vec![Drift { kind: TraceKind::Disk, name: "d".into(), wrong, right: String::new() }],
        ..Report::default()
    };
    assert!(Report::default().is_clean() && report(Wrong::Others).is_clean());
    for wrong in [Wrong::Leftover, Wrong::Waiting, Wrong::Missing] {
        assert!(!report(wrong).is_clean());
    }
    assert!(!Report { looked: vec![looked(vec!["no".into()])], ..Report::default() }.is_clean());
    let bad = Check { name: "clock".into(), outcome: Outcome::Bad("set it".into()) };
    assert!(!Report { checks: vec![bad], ..Report::default() }.is_clean());
    let report = report(Wrong::Leftover);
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!((&json["drifts"][0]["wrong"], &json["drifts"][0]["kind"]), (&"leftover".into(), &"disk".into()));
    assert_eq!(serde_json::from_value::<Report>(json).unwrap(), report);
}

#[test]
fn a_machine_in_use_whose_domain_does_not_bear_its_records_asks_for_attention() {
    let mut c = container(Phase::Ready);
    c.spec.pool = None;
    let told = |c: &Container, keepsake: Option<String>| {
        let seen = DomainSeen {
            uuid: c.uuid(),
            name: String::new(),
            mark: None,
            state: crate::model::DomainState::Running,
            keepsake,
        };
        forgetful([c].into_iter(), [].iter(), &[seen]).len()
    };
    let current = Keepsake::digest(&c, None);
    assert_eq!(told(&c, Some(current.clone())), 0);
    assert_eq!([told(&c, None), told(&c, Some("of before".into()))], [1, 1]);
    assert!(forgetful([&c].into_iter(), [].iter(), &[]).is_empty(), "a domain that is gone is told of otherwise");
    // What its records say now is not what they said then.
    c.status.login_read_at = Some(Timestamp::UNIX_EPOCH).into();
    assert_eq!(told(&c, Some(current)), 1);
    c.metadata.deletion_timestamp = Some(Timestamp::UNIX_EPOCH).into();
    assert_eq!(told(&c, None), 0, "it ends");
    c.metadata.deletion_timestamp = None.into();
    c.spec.pool = Some("default".into());
    assert_eq!(told(&c, None), 0, "nobody uses it");
}

#[test]
fn machines_whose_passes_fail_and_what_only_people_can_settle_ask_for_attention() {
    let condition = |kind: &str, status: &str| {
        let said = Said {
            kind: kind.into(),
            status: status.into(),
            reason: "Why".into(),
            message: "so".into(),
            observed_generation: None,
        };
        Condition { said: said.into(), last_transition_time: Timestamp::UNIX_EPOCH }
    };
    let mut c = container(Phase::Booting);
    assert!(attention([c.clone()].iter(), [].iter(), &[]).is_empty());
    c.status.failures = 2;
    c.status.message = "no disk".into();
    c.status.conditions =
        vec![condition("Delivered", "Unknown"), condition("Delivered", "True"), condition("Ready", "False")];
    let said: Vec<String> =
        attention([c].iter(), [].iter(), &[]).into_iter().map(|at| format!("{}: {}", at.object, at.reason)).collect();
    assert_eq!(
        said,
        [
            "Container default/box: 2 steps in a row failed: no disk",
            "Container default/box: Delivered is Unknown (Why: so)"
        ]
    );
}
