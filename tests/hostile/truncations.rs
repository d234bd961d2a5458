//! Conversations that end too early, at every byte; and what is none at all.

use anweddol::wire::Generation;
use futures::{StreamExt, stream};
use tokio::io::AsyncWriteExt;

use crate::common::ask::runtime;
use crate::siege::{Siege, attack, known, last_words, said_to, sealed};
use crate::support::{GENERATIONS, handshake, text};

const CREATE: &str = r#"{"verb": "CREATE", "parameters": {}}"#;
/// Many minutes of them are let in.
const OFTEN: &str = "connections_per_minute: 1000000";

#[test]
fn a_key_exchange_that_ends_at_any_byte_is_no_client() {
    let siege = Siege::lay("client_timeout: 60", OFTEN);
    let (address, whole) = (siege.address(), handshake());
    // What the server says up to the session key, which is another one each time.
    let answers = [b"11", text("/server/size_header").as_bytes(), text("/server/public_pem").as_bytes()].concat();
    let one = async |length: usize| {
        let said = said_to(attack(address).await, &whole[..length]).await;
        let expected = match length {
            0..8 => 0,
            8..808 => 1,
            808 => 10,
            809..1322 => answers.len(),
            // All but the last acknowledgement: it may have been done before it was seen that nobody waits for it.
            _ => {
                let done = answers.len() + 1 + 512;
                return assert!(said.starts_with(&answers) && [answers.len(), done].contains(&said.len()));
            }
        };
        assert_eq!(said, answers[..expected], "after {length} bytes");
    };
    let attacks = stream::iter(0..whole.len()).map(one).buffer_unordered(32);
    runtime().block_on(attacks.collect::<Vec<_>>());
    siege.good_client_is_served();
    let lines = siege.lifted();
    let clients = lines.iter().filter(|line| line.contains(r#""message":"CLIENT""#)).count();
    assert_eq!(clients, 4, "those who were served");
}

#[test]
fn a_request_that_ends_at_any_byte_is_none() {
    let siege = Siege::lay("client_timeout: 60", OFTEN);
    let address = siege.address();
    for (generation, _) in GENERATIONS {
        let whole = runtime().block_on(async { sealed(&mut known(address).await, generation, CREATE).len() });
        let one = async |length: usize| {
            let mut client = known(address).await;
            let bytes = sealed(&mut client, generation, CREATE);
            let said = said_to(client.stream, &bytes[..length]).await;
            let size = if generation == Generation::First { 8 } else { 16 };
            assert_eq!(said, if length < size { &b""[..] } else { b"1" }, "after {length} bytes");
        };
        let attacks = stream::iter(0..whole).map(one).buffer_unordered(8);
        runtime().block_on(attacks.collect::<Vec<_>>());
        siege.good_client_is_served();
    }
    let lines = siege.lifted();
    assert!(!lines.iter().any(|line| line.contains("CREATED_CONTAINER")), "nothing was asked");
}

#[test]
fn what_is_another_protocol_or_noise_is_refused_in_every_phase() {
    let siege = Siege::lay("client_timeout: 60", OFTEN);
    let address = siege.address();
    let tls = [&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3][..], &[0x55; 400]].concat();
    let mut noise: Vec<Vec<u8>> = vec![
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
        b"SSH-2.0-OpenSSH_9.2\r\n".to_vec(),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
        tls,
        vec![0; 3000],
        vec![0xff; 3000],
        b"=".repeat(3000),
    ];
    // Of every length, and the same at every run.
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    noise.extend((1..60).map(|length| {
        let next = || {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            (random >> 32) as u8
        };
        std::iter::repeat_with(next).take(length * 7).collect()
    }));
    runtime().block_on(async {
        for noise in &noise {
            // Before the key, in its place, in place of the acknowledgements, of the session key.
            for start in [0, 8, 808, 809, 810] {
                let bytes = [&handshake()[..start], noise].concat();
                let said = said_to(attack(address).await, &bytes).await;
                assert!(
                    said.len() <= 812 && said.iter().filter(|byte| **byte == b'0').count() < 80,
                    "{start}: {said:?}"
                );
            }
        }
        for noise in noise.iter().take(20) {
            let mut client = known(address).await;
            let _ = client.stream.write_all(noise).await;
            let _ = client.stream.shutdown().await;
            let said = last_words(&mut client.stream).await;
            assert!([&b""[..], b"0", b"1"].contains(&&said[..]), "{said:?}");
        }
    });
    siege.good_client_is_served();
    siege.lifted();
}

#[test]
fn a_size_without_its_bytes_takes_nothing() {
    let siege = Siege::lay("client_timeout: 60", OFTEN);
    let address = siege.address();
    runtime().block_on(async {
        for (size, said) in [(b"99999999", &b"0"[..]), (b"16385===", b"0"), (b"16384===", b"1"), (b"0=======", b"0")] {
            assert_eq!(said_to(attack(address).await, size).await, said, "{}", size.escape_ascii());
        }
        for (size, said) in [(b"99999999", &b"0"[..]), (b"65537===", b"0"), (b"65536===", b"1")] {
            let client = known(address).await;
            assert_eq!(said_to(client.stream, size).await, said, "{}", size.escape_ascii());
        }
    });
    siege.good_client_is_served();
    siege.lifted();
}
