//! More connections than there are places.

use std::net::SocketAddr;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::common::ask::runtime;
use crate::common::until;
use crate::siege::{Siege, attack, connect_from};
use crate::support::handshake;

/// So many connections from each of so many addresses, all of which have said as much of a conversation.
async fn crowd(to: SocketAddr, addresses: usize, each: usize, said: usize) -> Vec<TcpStream> {
    let mut crowd = Vec::new();
    for host in 1..=addresses {
        for _ in 0..each {
            let mut stream = connect_from(&format!("127.0.1.{host}"), to).await;
            // It may be turned away.
            let _ = stream.write_all(&handshake()[..said]).await;
            crowd.push(stream);
        }
    }
    crowd
}

#[test]
fn one_address_cannot_take_all_places() {
    let siege = Siege::lay("client_timeout: 300, max_connections: 100", "connections_per_address: 20");
    let before = siege.daemon.open_files();
    let attackers = runtime().block_on(crowd(siege.address(), 1, 300, 0));
    siege.good_client_is_served();
    until("its own places, and no more", || (siege.daemon.open_files() <= before + 20).then_some(()));
    drop(attackers);
    siege.lifted();
}

#[test]
fn many_addresses_that_take_all_places_keep_nobody_out() {
    for said in [0, 8, 500, 810, 900] {
        let siege = Siege::lay("client_timeout: 300, max_connections: 60", "connections_per_address: 20");
        let before = siege.daemon.open_files();
        let attackers = runtime().block_on(crowd(siege.address(), 6, 20, said));
        for _ in 0..3 {
            siege.good_client_is_served();
        }
        until("places are places", || (siege.daemon.open_files() <= before + 60 + 2).then_some(()));
        drop(attackers);
        siege.lifted();
    }
}

#[test]
fn who_connects_without_end_is_turned_away_after_a_while() {
    let siege = Siege::lay("client_timeout: 60", "connections_per_minute: 50");
    let address = siege.address();
    let accepted = runtime().block_on(async {
        let mut accepted = 0;
        for _ in 0..1000 {
            let mut stream = attack(address).await;
            let _ = stream.write_all(b"8=======").await;
            let mut answer = [0];
            accepted += usize::from(tokio::io::AsyncReadExt::read_exact(&mut stream, &mut answer).await.is_ok());
        }
        accepted
    });
    // All fifty at once, and as many more as came back in the time that a thousand connections take.
    assert!((50..500).contains(&accepted), "{accepted}");
    siege.good_client_is_served();
    siege.lifted();
}
