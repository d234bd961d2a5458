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

#[test]
fn a_network_cards_address_is_six_bytes() {
    let mac: Mac = "52:54:00:0A:0b:0c".parse().unwrap();
    assert_eq!((mac, mac.to_string().as_str()), (Mac([0x52, 0x54, 0, 10, 11, 12]), "52:54:00:0a:0b:0c"));
    for bad in ["", "52:54:00:0a:0b", "52:54:00:0a:0b:0c:0d", "52:54:00:0a:0b:+c", "52:54:00:0a:0b:c", "x"] {
        assert!(bad.parse::<Mac>().is_err(), "{bad:?} was taken");
    }
    let error =
        serde_json::from_str::<Machine>(r#"{"mac":"52:54","port":1,"imageSha256":""}"#).unwrap_err().to_string();
    assert!(error.contains("'52:54' is no MAC address") && error.contains("52:54:00:0a:0b:0c"), "{error}");
}

/// A container's records but for their templates: with nothing but what each has, and with all that there is.
const RECORDS: [&str; 2] = [
    r#"{"metadata":{"name":"a","namespace":"default","uid":"00000000-0000-0000-0000-000000000000","generation":1,"creationTimestamp":"2026-01-01T00:00:00Z"},"spec":{"template":TEMPLATE,"machine":{"mac":"02:00:00:00:00:01","port":1,"imageSha256":""}},"status":{"phase":"Pending"}}"#,
    r#"{"metadata":{"name":"a","namespace":"default","uid":"00000000-0000-0000-0000-000000000000","generation":2,"creationTimestamp":"2026-01-01T00:00:00Z","deletionTimestamp":"2026-01-01T00:00:09.000000001Z","labels":{"l":"x"},"annotations":{"a":"x"},"generateName":"a-","finalizers":["a.b/c"],"ownerReferences":[{"apiVersion":"v1","kind":"K","name":"o","uid":"u"}],"managedFields":[{"manager":"me","operation":"Apply","apiVersion":"v1","fieldsType":"FieldsV1","fieldsV1":{"f:spec":{}}}]},"spec":{"pool":"p","claim":"c","template":TEMPLATE,"schedulingGates":["g"],"machine":{"mac":"02:ff:0a:00:00:01","port":1,"imageSha256":"00"}},"status":{"phase":"Bound","reason":"R","message":"m","address":"10.0.0.2","startedAt":"2026-01-01T00:00:01Z","readyAt":"2026-01-01T00:00:02Z","boundAt":"2026-01-01T00:00:03Z","expiresAt":"9999-01-01T00:00:00Z","idleSince":"2026-01-01T00:00:04Z","loginReadAt":"2026-01-01T00:00:05Z","failures":1,"retryAt":"2026-01-01T00:00:06Z","conditions":[{"type":"Ready","status":"True","reason":"R","lastTransitionTime":"2026-01-01T00:00:02Z"}]}}"#,
];

#[test]
fn containers_are_read_and_written_as_they_always_were() {
    let template = serde_json::to_string(&Template::of(Image::Iso("/i".into()))).unwrap();
    for record in RECORDS.map(|record| record.replace("TEMPLATE", &template)) {
        let read: Container = serde_json::from_str(&record).unwrap();
        assert_eq!(serde_json::to_string(&read).unwrap(), record);
    }
}

#[test]
fn nothing_takes_a_pointer_and_is_nothing_however_it_came_about() {
    let mut rare: Rare<Vec<String>> = Rare::nothing();
    assert_eq!((size_of_val(&rare), rare.len()), (size_of::<usize>(), 0));
    rare.push("a".into());
    assert_eq!(*rare, ["a"]);
    rare.clear();
    assert_eq!(rare, Rare::nothing());
    assert_eq!(crate::allocations::allocated(|| drop(Rare::from(Vec::<String>::new()))), 0);
}
