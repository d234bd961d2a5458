//! What was said before, said again; and one generation's bytes in place of the other's.

use anweddol::wire::{Generation, Response};
use tokio::io::AsyncWriteExt;

use crate::common::ask::{runtime, stat};
use crate::siege::{Siege, attack, known, last_words, said_to, sealed, stays};
use crate::support::{GENERATIONS, RawClient, handshake};

const CREATE: &str = r#"{"verb": "CREATE", "parameters": {}}"#;
const STAT: &str = r#"{"verb": "STAT", "parameters": {}}"#;

#[test]
fn a_recorded_request_is_worth_nothing_on_another_connection() {
    let siege = Siege::lay("client_timeout: 60", "");
    let address = siege.address();
    for (generation, _) in GENERATIONS {
        runtime().block_on(async {
            // Recorded, and never sent itself.
            let recorded = sealed(&mut known(address).await, generation, CREATE);
            for _ in 0..10 {
                let said = stays(attack(address).await, &[handshake(), recorded.clone(), b"1".to_vec()].concat()).await;
                // Up to the session key it is a conversation; then it is refused, or cannot be read.
                assert!(said.len() >= 810 + 1 + 512, "{} bytes", said.len());
            }
            for _ in 0..10 {
                let mut client = known(address).await;
                client.stream.write_all(&recorded).await.unwrap();
                let _ = client.stream.shutdown().await;
                last_words(&mut client.stream).await;
            }
        });
        siege.good_client_is_served();
    }
    assert_eq!(stat(address)["available"], 6, "no machine was made of it");
    let lines = siege.lifted();
    assert!(!lines.iter().any(|line| line.contains(r#"\"verb\":\"CREATE\""#)), "{}", lines.join("\n"));
    let malformed = lines.iter().filter(|line| line.contains("MALFORMED_REQUEST")).count();
    assert!(malformed >= 20, "{malformed}");
}

/// What the server answers to raw bytes in place of a request, if it answers in this generation.
async fn answer(mut client: RawClient, bytes: &[u8], read_as: Generation) -> Response {
    client.stream.write_all(bytes).await.unwrap();
    assert_eq!(crate::support::read(&mut client.stream, 1).await, b"1");
    client.response(read_as).await
}

#[test]
fn the_generations_are_not_mixed() {
    let siege = Siege::lay("client_timeout: 60", "");
    let address = siege.address();
    runtime().block_on(async {
        // The first one's size before the second one's packet: the IV behind it is taken for a block of text.
        let client = known(address).await;
        let packet = session_again(&client).seal(Generation::Second, STAT, [7; 16]).unwrap().packet;
        let mixed = [format!("{:=<8}", packet.len()).into_bytes(), packet].concat();
        assert_eq!(answer(client, &mixed, Generation::First).await.message, "Bad request");

        // The second one's size before the first one's packet: it waits for an IV that never comes.
        let mut client = known(address).await;
        let header = session_again(&client).seal(Generation::Second, STAT, [7; 16]).unwrap().header;
        let packet = client.session.seal(Generation::First, STAT, [7; 16]).unwrap().packet;
        assert_eq!(said_to(client.stream, &[header, packet].concat()).await, b"1");

        // A size in the clear that becomes none in its last byte is a block of the second, and a damaged one.
        let client = known(address).await;
        assert_eq!(said_to(client.stream, b"64=====x64======").await, b"0");
    });
    siege.good_client_is_served();
    siege.lifted();
}

/// The same session as it began.
fn session_again(client: &RawClient) -> anweddol::wire::Session {
    anweddol::wire::Session::from_bytes(&client.session.to_bytes()).unwrap()
}
