use std::net::Ipv4Addr;

use super::*;

#[test]
fn memory_reads_and_writes_kubernetes_quantities() {
    for (text, bytes, again) in [
        ("256Mi", 256 << 20, "256Mi"),
        ("2Gi", 2 << 30, "2Gi"),
        ("1024Mi", 1 << 30, "1Gi"),
        ("1000", 1000, "1000"),
        ("1M", 1_000_000, "1000000"),
        ("0", 0, "0"),
    ] {
        let memory: Memory = text.parse().unwrap();
        assert_eq!(memory.bytes(), bytes, "{text}");
        assert_eq!(memory.to_string(), again, "{text}");
    }
    for text in ["", "Mi", "1.5Gi", "-1", "256mb", "99999999999Ti", "１Mi"] {
        assert!(text.parse::<Memory>().is_err(), "{text:?} was taken");
    }
}

#[test]
fn names_are_rfc_1123_labels() {
    for good in ["a", "0", "a-b", "x1-9z", &"a".repeat(63)] {
        assert_eq!(valid_name(good), Ok(()), "{good}");
    }
    for bad in ["", "-a", "a-", "A", "a_b", "a.b", "a/b", "ä", &"a".repeat(64)] {
        assert!(valid_name(bad).is_err(), "{bad:?} was taken");
    }
}

#[test]
fn a_conditions_time_moves_only_with_its_status() {
    let (t0, t1) = (jiff::Timestamp::from_second(1).unwrap(), jiff::Timestamp::from_second(2).unwrap());
    let mut conditions = Vec::new();
    set_condition(&mut conditions, "Ready", false, "Booting", "", t0);
    set_condition(&mut conditions, "Ready", false, "Waiting", "for an address", t1);
    assert_eq!((conditions[0].last_transition_time, conditions[0].reason.as_str()), (t0, "Waiting"));
    set_condition(&mut conditions, "Ready", true, "Answering", "", t1);
    assert_eq!(conditions[0].last_transition_time, t1);
    assert!(condition(&conditions, "Ready"));
}

#[test]
fn event_names_are_what_serde_writes_and_numbers_have_no_gap() {
    for (index, kind) in EventKind::ALL.into_iter().enumerate() {
        assert_eq!(usize::from(kind.number()), index + 1);
        assert_eq!(serde_json::to_value(kind).unwrap(), kind.name());
    }
}

#[test]
fn a_subnet_is_private_and_whole() {
    let subnet: Subnet = "192.168.127.0/24".parse().unwrap();
    assert_eq!(subnet, Subnet::default());
    assert_eq!(subnet.to_string(), "192.168.127.0/24");
    assert_eq!(subnet.gateway(), Ipv4Addr::new(192, 168, 127, 1));
    assert_eq!(subnet.guests(), (Ipv4Addr::new(192, 168, 127, 2), Ipv4Addr::new(192, 168, 127, 254)));
    let small: Subnet = "10.0.0.16/28".parse().unwrap();
    assert_eq!(small.guests(), (Ipv4Addr::new(10, 0, 0, 18), Ipv4Addr::new(10, 0, 0, 30)));
    for bad in ["", "192.168.127.0", "192.168.127.1/24", "8.8.8.0/24", "10.0.0.0/29", "10.0.0.0/7", "10.0.0.0/33"] {
        assert!(bad.parse::<Subnet>().is_err(), "{bad:?} was taken");
    }
}

#[test]
fn only_guests_addresses_are_taken() {
    let subnet = Subnet::default();
    for (address, taken) in [
        ("192.168.127.2", true),
        ("192.168.127.254", true),
        ("192.168.127.1", false),
        ("192.168.127.0", false),
        ("192.168.127.255", false),
        ("192.168.126.9", false),
        ("127.0.0.1", false),
    ] {
        assert_eq!(subnet.has_guest(address.parse().unwrap()), taken, "{address}");
    }
}

#[test]
fn metadata_of_records_from_before_finalizers_and_owners_is_read_and_written_as_it_was() {
    let before = r#"{"name":"a","namespace":"default","uid":"00000000-0000-0000-0000-000000000000","generation":1,"creationTimestamp":"2026-01-01T00:00:00Z"}"#;
    let read: ObjectMeta = serde_json::from_str(before).unwrap();
    assert_eq!(serde_json::to_string(&read).unwrap(), before);
}
