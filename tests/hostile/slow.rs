//! Clients that take their time.

use anweddol::wire::Generation;
use futures::future::join_all;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::common::ask::runtime;
use crate::siege::{Siege, attack, dribble, known, last_words, sealed};
use crate::support::{GENERATIONS, handshake, read};

const STAT: &str = r#"{"verb": "STAT", "parameters": {}}"#;

/// Where the exchange of keys can stop: in and between all of its elements.
const STOPS: [usize; 12] = [0, 1, 7, 8, 9, 400, 808, 809, 810, 811, 1321, 1322];

/// As long as the good client may need too, on busy processors.
const SETTING: &str = "client_timeout: 5";

/// One that stops in every phase, from the first byte to the acknowledgement of the answer.
async fn in_every_phase(siege: &Siege) -> Vec<TcpStream> {
    let mut clients = Vec::new();
    for stop in STOPS {
        let mut client = attack(siege.address()).await;
        client.write_all(&handshake()[..stop]).await.unwrap();
        clients.push(client);
    }
    for (generation, _) in GENERATIONS {
        let whole = sealed(&mut known(siege.address()).await, generation, STAT).len();
        for stop in [0, 1, 8, 15, 17, whole - 1] {
            let mut client = known(siege.address()).await;
            let bytes = sealed(&mut client, generation, STAT);
            client.stream.write_all(&bytes[..stop]).await.unwrap();
            clients.push(client.stream);
        }
        // It asks, and does not acknowledge the answer.
        let mut client = known(siege.address()).await;
        client.send(generation, STAT).await;
        read(&mut client.stream, if generation == Generation::First { 8 } else { 16 }).await;
        clients.push(client.stream);
    }
    clients
}

#[test]
fn who_stops_in_any_phase_is_closed_and_holds_nobody_up() {
    let siege = Siege::lay(SETTING, "");
    let runtime = runtime();
    let mut clients = runtime.block_on(in_every_phase(&siege));
    siege.good_client_is_served();
    runtime.block_on(join_all(clients.iter_mut().map(last_words)));
    // They keep their ends open: it is the daemon that closed.
    siege.lifted();
    drop(clients);
}

#[test]
fn who_dribbles_in_any_phase_gets_no_more_time() {
    let siege = Siege::lay(SETTING, "");
    let address = siege.address();
    let runtime = runtime();
    let attackers = runtime.spawn(async move {
        // Each byte of the key exchange would take a minute in all; and then one after the exchange.
        let exchange = async |start: usize| {
            let mut client = attack(address).await;
            client.write_all(&handshake()[..start]).await.unwrap();
            dribble(&mut client, &handshake()[start..]).await;
        };
        let asks = async |generation| {
            let mut client = known(address).await;
            let bytes = sealed(&mut client, generation, &format!("{}{STAT}", " ".repeat(2000)));
            dribble(&mut client.stream, &bytes).await;
        };
        tokio::join!(join_all([0, 8, 100, 810].map(exchange)), asks(Generation::First), asks(Generation::Second));
    });
    siege.good_client_is_served();
    runtime.block_on(attackers).unwrap();
    let lines = siege.lifted();
    let slow = lines.iter().filter(|line| line.contains("TooSlow")).count();
    assert_eq!(slow, 6, "all of them, and each of them for that:\n{}", lines.join("\n"));
}
