use std::sync::atomic::{AtomicU64, Ordering};

use super::limiter::MOST_ADDRESSES;
use super::*;

/// A gate, and the seconds of its time.
fn gate(rates: Rates) -> (Arc<Gate>, Arc<AtomicU64>) {
    let seconds = Arc::new(AtomicU64::new(1000));
    let clock = Arc::clone(&seconds);
    let elapsed = Arc::new(move || Duration::from_secs(clock.load(Ordering::Relaxed)));
    (Arc::new(Gate::timed(IpFilter::default(), rates, elapsed)), seconds)
}

fn most(count: u32) -> Option<NonZeroU32> {
    NonZeroU32::new(count)
}

fn unlimited() -> Rates {
    Rates {
        connections_per_minute: None,
        requests_per_minute: None,
        connections_per_address: None,
        key_exchanges: None,
        exempt: Vec::new(),
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn a_denied_address_is_not_let_in_and_takes_nothing() {
    let (gate, _) = gate(unlimited());
    gate.change(IpFilter { allow: vec![], deny: vec!["192.0.2.0/24".parse().unwrap()] }, unlimited());
    assert_eq!(gate.admit(ip("::ffff:192.0.2.1")).unwrap_err(), Refusal::Denied);
    let pass = gate.admit(ip("198.51.100.1")).unwrap();
    assert_eq!(gate.open(), (1, 1));
    drop(pass);
    assert_eq!(gate.open(), (0, 0), "nothing is kept of who left");
}

#[test]
fn an_address_has_so_many_connections_at_once_and_gets_them_back() {
    let (gate, _) = gate(Rates { connections_per_address: most(2), ..unlimited() });
    let address = ip("192.0.2.1");
    let passes = [gate.admit(address).unwrap(), gate.admit(address).unwrap()];
    assert_eq!(gate.admit(address).unwrap_err(), Refusal::Connections { most: most(2).unwrap() });
    let other = gate.admit(ip("192.0.2.2")).unwrap();
    assert_eq!(gate.open(), (2, 3));
    drop((passes, other));
    assert_eq!(gate.open(), (0, 0));
    assert!(gate.admit(address).is_ok());
}

#[test]
fn an_address_connects_so_often_in_a_minute_and_more_of_it_comes_back_with_time() {
    let (gate, seconds) = gate(Rates { connections_per_minute: most(6), ..unlimited() });
    let address = ip("192.0.2.1");
    for _ in 0..6 {
        gate.admit(address).unwrap();
    }
    assert_eq!(gate.admit(address).unwrap_err(), Refusal::ConnectionRate { most: most(6).unwrap() });
    assert!(gate.admit(ip("192.0.2.2")).is_ok(), "it is one address's affair");
    seconds.fetch_add(10, Ordering::Relaxed);
    assert!(gate.admit(address).is_ok(), "one more each ten seconds");
    assert!(gate.admit(address).is_err());
    seconds.fetch_add(60, Ordering::Relaxed);
    assert_eq!((0..9).filter(|_| gate.admit(address).is_ok()).count(), 6);
}

#[test]
fn requests_have_a_rate_of_their_own() {
    let (gate, _) = gate(Rates { requests_per_minute: most(3), ..unlimited() });
    let (one, two) = (gate.admit(ip("192.0.2.1")).unwrap(), gate.admit(ip("192.0.2.1")).unwrap());
    assert!(one.request().is_ok() && two.request().is_ok() && one.request().is_ok());
    let refusal = Refusal::RequestRate { most: most(3).unwrap() };
    assert_eq!((one.request(), two.request()), (Err(refusal), Err(refusal)));
    assert!(gate.admit(ip("192.0.2.2")).unwrap().request().is_ok());
}

#[test]
fn the_addresses_of_one_ipv6_network_and_both_notations_of_ipv4_are_one_account() {
    for (one, other, same) in [
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff::1", true),
        ("2001:db8:1:2::1", "2001:db8:1:3::1", false),
        ("192.0.2.1", "::ffff:192.0.2.1", true),
        ("192.0.2.1", "192.0.2.2", false),
    ] {
        let (gate, _) = gate(Rates { connections_per_minute: most(1), ..unlimited() });
        gate.admit(ip(one)).unwrap();
        assert_eq!(gate.admit(ip(other)).is_err(), same, "{one} and {other}");
    }
}

#[test]
fn an_exempt_network_has_no_limits_but_can_be_denied() {
    let one = most(1);
    let exempt = vec!["127.0.0.0/8".parse().unwrap()];
    let rates = Rates {
        connections_per_minute: one,
        requests_per_minute: one,
        connections_per_address: one,
        exempt,
        ..unlimited()
    };
    let (gate, _) = gate(rates.clone());
    let passes: Vec<Pass> = (0..9).map(|_| gate.admit(ip("127.0.0.9")).unwrap()).collect();
    assert!(passes.iter().all(|pass| pass.request().is_ok()));
    gate.change(IpFilter { allow: vec![], deny: vec!["127.0.0.9".parse().unwrap()] }, rates);
    assert_eq!(gate.admit(ip("127.0.0.9")).unwrap_err(), Refusal::Denied);
}

#[test]
fn a_change_keeps_who_is_in_and_the_rates_that_did_not_change() {
    let rates = Rates { connections_per_minute: most(2), connections_per_address: most(5), ..unlimited() };
    let (gate, _) = gate(rates.clone());
    let address = ip("192.0.2.1");
    let passes = [gate.admit(address).unwrap(), gate.admit(address).unwrap()];
    gate.change(IpFilter::default(), Rates { connections_per_address: most(2), ..rates.clone() });
    assert!(matches!(gate.admit(address), Err(Refusal::Connections { .. })), "those that are open count");
    drop(passes);
    assert!(matches!(gate.admit(address), Err(Refusal::ConnectionRate { .. })), "and those that were");
    gate.change(IpFilter::default(), Rates { connections_per_minute: most(3), ..rates });
    assert!(gate.admit(address).is_ok(), "another rate begins anew");
}

#[test]
fn what_is_remembered_of_addresses_is_bounded_whoever_comes() {
    let (gate, seconds) = gate(Rates { connections_per_minute: most(1), ..unlimited() });
    let network = |n: u32| IpAddr::V6(Ipv6Addr::from_bits(0x2001_0db8_0000_0000 << 64 | u128::from(n) << 64));
    let remembered = || gate.state().connections.remembered();
    let crowd = MOST_ADDRESSES as u32;
    for n in 0..crowd * 3 {
        gate.admit(network(n)).unwrap();
        assert!(remembered() <= MOST_ADDRESSES, "{n}");
    }
    // Who was quiet for long is forgotten first, and nobody else is.
    seconds.fetch_add(600, Ordering::Relaxed);
    for n in 0..crowd / 4 {
        gate.admit(network(n)).ok();
    }
    for n in 0..crowd / 4 {
        assert!(gate.admit(network(n)).is_err(), "{n} of {}", remembered());
    }
}
