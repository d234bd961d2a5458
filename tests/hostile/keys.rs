//! Keys that are none, are too much work, or are somebody else's.

use anweddol::wire::frame::size_header;
use anweddol::wire::{Limits, PublicKey};
use futures::{StreamExt, stream};
use rsa::pkcs8::{EncodePublicKey, LineEnding};
use rsa::{BigUint, RsaPublicKey};
use tokio::io::AsyncWriteExt;

use crate::common::ask::runtime;
use crate::siege::{Siege, attack, last_words, said_to, stays};
use crate::support::{bytes, handshake, read, text};

const OFTEN: &str = "connections_per_minute: 1000000";

/// A public key of so many bits, as it is sent; nobody has the private one.
fn offer(bits: usize, exponent: u64) -> Vec<u8> {
    let modulus = (BigUint::from(1u8) << (bits - 1)) + BigUint::from(12_345u32);
    let key = RsaPublicKey::new_unchecked(modulus, BigUint::from(exponent));
    offered(&key.to_public_key_pem(LineEnding::LF).unwrap())
}

fn offered(pem: &str) -> Vec<u8> {
    [&size_header(pem.len()).unwrap()[..], pem.as_bytes()].concat()
}

#[test]
fn a_public_key_that_is_none_or_too_much_work_is_refused_before_any_work() {
    let siege = Siege::lay("client_timeout: 60", OFTEN);
    let good = text("/client/public_pem");
    let mut offers: Vec<Vec<u8>> = [512, 1024, 2047, 8193, 16_384].map(|bits| offer(bits, 65_537)).to_vec();
    offers.extend([0, 1, 2, 65_536, (1 << 33) + 1, u64::MAX].map(|exponent| offer(2048, exponent)));
    offers.extend([&good[1..], &good.replace('A', "B"), &good.replace("PUBLIC", "PRIVATE"), "x"].map(offered));
    offers.push(offered(&"-----BEGIN PUBLIC KEY-----\n".repeat(500)));
    runtime().block_on(async {
        for offer in &offers {
            let said = said_to(attack(siege.address()).await, offer).await;
            assert_eq!(said, b"10", "{}", offer.escape_ascii());
        }
    });
    siege.good_client_is_served();
    siege.lifted();
}

#[test]
fn every_session_key_that_cannot_be_is_refused_with_the_same_byte() {
    let siege = Siege::lay("client_timeout: 60", OFTEN);
    let server = PublicKey::from_pem(text("/server/public_pem").as_bytes(), &Limits::default()).unwrap();
    let client = PublicKey::from_pem(text("/client/public_pem").as_bytes(), &Limits::default()).unwrap();
    let mut flipped = bytes("/client_session/oaep_to_server_b64");
    flipped[300] ^= 1;
    let mut wrong = vec![
        // For somebody else, damaged, zero, one, larger than the modulus.
        client.wrap(&[7; 48]).unwrap(),
        flipped,
        vec![0; 512],
        [&[0; 511][..], &[1]].concat(),
        vec![0xff; 512],
    ];
    // For us, and of no length that a session key has.
    wrong.extend([0, 1, 15, 16, 31, 33, 39, 47, 49, 64].map(|length| server.wrap(&vec![7; length]).unwrap()));
    runtime().block_on(async {
        for wrong in &wrong {
            let said = stays(attack(siege.address()).await, &[&handshake()[..810], wrong].concat()).await;
            assert_eq!((said.len(), said.last()), (811, Some(&b'0')));
        }
    });
    siege.good_client_is_served();
    let lines = siege.lifted();
    let refused: Vec<&String> = lines.iter().filter(|line| line.contains("Protocol")).collect();
    assert_eq!(refused.len(), wrong.len());
    assert!(refused.iter().all(|line| line.contains("the peer's session key could not be opened")), "{refused:?}");
}

#[test]
fn a_flood_of_the_largest_keys_leaves_time_for_a_good_client() {
    let siege = Siege::lay("client_timeout: 60", OFTEN);
    let address = siege.address();
    // The most work that a key can make, after work of ours: both ends of an exchange, and another one at once.
    let costly = offer(8192, (1 << 33) - 1);
    let conversation = [&costly[..], b"11", &bytes("/client_session/oaep_to_server_b64")].concat();
    let runtime = runtime();
    let flood = runtime.spawn(async move {
        let one = |_| async {
            let mut client = attack(address).await;
            client.write_all(&conversation).await.unwrap();
            read(&mut client, 1 + 1 + 8 + 800 + 1 + 1024).await;
            drop(client);
        };
        stream::iter(0..400).map(one).buffer_unordered(100).collect::<Vec<_>>().await.len()
    });
    for _ in 0..3 {
        siege.good_client_is_served();
    }
    assert_eq!(runtime.block_on(flood).unwrap(), 400, "each of them was done, in its turn");
    siege.lifted();
}

#[test]
fn a_flood_of_keys_that_nobody_waits_for_is_no_work() {
    let siege = Siege::lay("client_timeout: 60", &format!("{OFTEN}, connections_per_address: 1000"));
    runtime().block_on(async {
        for _ in 0..300 {
            let mut client = attack(siege.address()).await;
            client.write_all(&handshake()).await.unwrap();
        }
        // Half of a key, and never the rest.
        let mut half = Vec::new();
        for _ in 0..100 {
            let mut client = attack(siege.address()).await;
            client.write_all(&handshake()[..500]).await.unwrap();
            half.push(client);
        }
        tokio::task::block_in_place(|| siege.good_client_is_served());
        for mut client in half {
            client.shutdown().await.unwrap();
            assert_eq!(last_words(&mut client).await, b"1");
        }
    });
    siege.lifted();
}
