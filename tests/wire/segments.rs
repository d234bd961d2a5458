//! The state machines under any segmentation, truncation and damage.

use anweddol::wire::exchange::{Incoming, ServerExchange, ServerStep, Unwrapped};
use anweddol::wire::frame::size_header;
use anweddol::wire::{AccessTokens, KeyError, Limits, Malformed, WireError};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use crate::support::{GENERATIONS, REQUESTS, bytes, handshake, key, request, session, text};

/// All that a server said and heard.
#[derive(Debug, Default)]
struct Heard {
    sent: Vec<u8>,
    connected: bool,
    incoming: Option<Incoming>,
    error: Option<WireError>,
    used: usize,
}

/// Feeds segments to a server until it is done with them or with us.
fn hear<'a>(segments: impl IntoIterator<Item = &'a [u8]>) -> Heard {
    let mut exchange = ServerExchange::new(key("server"), Limits::default(), AccessTokens::Unknown);
    let mut heard = Heard::default();
    for mut segment in segments {
        while !segment.is_empty() {
            let (before, want) = (segment.len(), exchange.want());
            let step = exchange.receive(&mut segment);
            let used = before - segment.len();
            assert!(used <= want, "takes no more than it wants");
            assert!(used > 0, "wants something as long as it is not done");
            heard.used += used;
            match step {
                Ok(ServerStep::More) => {}
                Ok(ServerStep::Send(reply)) => heard.sent.extend(reply),
                Ok(ServerStep::Unwrap(_)) => {
                    let wrapped = bytes("/server_session/oaep_to_client_b64");
                    let outcome = Unwrapped { session: session("server_session"), wrapped };
                    heard.sent.extend(exchange.unwrapped(outcome));
                }
                Ok(ServerStep::Connected) => heard.connected = true,
                Ok(ServerStep::Request(incoming)) => {
                    heard.incoming = Some(*incoming);
                    return heard;
                }
                Err(error) => {
                    heard.sent.extend(error.reply());
                    heard.error = Some(error);
                    assert_eq!(exchange.want(), 0, "an error is the end");
                    return heard;
                }
            }
        }
    }
    heard
}

fn cut<'a>(stream: &'a [u8], cuts: &[Index]) -> Vec<&'a [u8]> {
    let mut ends: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len())).collect();
    ends.push(stream.len());
    ends.sort_unstable();
    let starts = std::iter::once(0).chain(ends.iter().copied());
    starts.zip(ends.iter().copied()).map(|(start, end)| &stream[start..end]).collect()
}

#[test]
fn a_stream_cut_short_at_any_byte_yields_no_request() {
    for (_, generation) in GENERATIONS {
        for name in REQUESTS {
            let stream = [handshake(), request(generation, name)].concat();
            // Byte by byte, the machine is at each point where a stream could end.
            let heard = hear(stream.chunks(1));
            assert!(heard.incoming.unwrap().request.is_ok());
            assert_eq!(heard.used, stream.len(), "the last byte was needed");
        }
    }
}

#[test]
fn sizes_are_refused_before_anything_is_kept() {
    let public_key = |size: &[u8]| hear([size]);
    for size in [&b"0======="[..], b"16385===", b"99999999", b"========", b"-5======", b"GET / HT"] {
        let heard = public_key(size);
        assert_eq!((heard.sent, heard.used), (b"0".to_vec(), 8), "{}", size.escape_ascii());
        assert!(matches!(heard.error, Some(WireError::Size { .. } | WireError::NoSize { .. })));
    }
    assert_eq!(public_key(b"16384===").sent, b"1");

    let message = |size: &[u8]| hear([&handshake()[..], size]);
    for size in [&b"0======="[..], b"65537===", b"99999999"] {
        let heard = message(size);
        let incoming = heard.incoming.unwrap();
        assert_eq!(incoming.request, Err(Malformed::Size), "{}", size.escape_ascii());
        assert_eq!(incoming.answering.generation(), None, "refused, not answered");
    }
    assert_eq!(message(b"65536===").sent.last(), Some(&b'1'));
    for (size, good) in [("65552", true), ("65553", false), ("0", false), ("-16", false), ("1e3", false)] {
        // A size block of the second generation is a one-block message under the session's IV.
        let sealed = session("server_session").seal(anweddol::wire::Generation::First, size, [0; 16]).unwrap();
        let heard = message(&sealed.packet);
        assert_eq!(heard.incoming.is_none(), good, "{size}");
    }
}

#[test]
fn a_public_key_is_refused_unless_it_is_rsa_of_an_accepted_size() {
    let offer = |pem: &str| {
        let header = size_header(pem.len()).unwrap();
        hear([&header[..], pem.as_bytes()])
    };
    let good = text("/client/public_pem");
    assert!(offer(good).sent.starts_with(b"11"));
    // openssl ecparam -name prime256v1 -genkey -noout | openssl ec -pubout
    let elliptic = "-----BEGIN PUBLIC KEY-----\n\
        MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAElAM+qHIBEBb6FfMvaMbaoBwRH6jU\n\
        wVgSEGW+1I2lps3iBUbPeKVbs9M/asc1yLed1CPM3hTrbeO9iNzVKWBdHg==\n-----END PUBLIC KEY-----\n";
    let private = text("/client/private_pem");
    for bad in ["x", "-----BEGIN PUBLIC KEY-----", elliptic, private, &good[1..], &good.replace("BgkqhkiG", "BgkqhkiH")]
    {
        let heard = offer(bad);
        assert_eq!(heard.sent, b"10", "{bad}");
        assert!(matches!(heard.error, Some(WireError::PublicKey(KeyError::NotPem { .. } | KeyError::NotRsa))), "{bad}");
    }
}

#[test]
fn a_refusal_or_anything_but_an_acknowledgement_ends_it() {
    let stream = handshake();
    let (size_ack, session_ack) = (808, stream.len() - 1);
    for at in [size_ack, size_ack + 1, session_ack] {
        for (byte, refused) in [(b'0', true), (b'2', false), (0, false)] {
            let mut stream = stream.clone();
            stream[at] = byte;
            let heard = hear([&stream[..]]);
            assert_eq!(heard.used, at + 1);
            assert!(!heard.connected);
            match heard.error.unwrap() {
                WireError::Refused { .. } => assert!(refused),
                WireError::NoAcknowledgement { .. } => assert!(!refused),
                other => panic!("{other}"),
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn any_segmentation_is_the_same_conversation(
        which in any::<Index>(), name in any::<Index>(), cuts in vec(any::<Index>(), 0..40), ahead in vec(any::<u8>(), 0..50)
    ) {
        let (generation, at) = *which.get(&GENERATIONS);
        let stream = [handshake(), request(at, REQUESTS[name.index(REQUESTS.len())])].concat();
        let whole = hear([&stream[..]]);
        // What a client sends ahead of its turn is not touched.
        let longer = [&stream[..], &ahead].concat();
        let heard = hear(cut(&longer, &cuts));
        prop_assert_eq!(heard.used, stream.len());
        prop_assert_eq!(heard.sent, whole.sent);
        let (heard, whole) = (heard.incoming.unwrap(), whole.incoming.unwrap());
        prop_assert_eq!(heard.answering.generation(), Some(generation));
        prop_assert_eq!(heard.request.unwrap(), whole.request.unwrap());
    }

    #[test]
    fn damage_anywhere_ends_in_a_refusal_or_a_malformed_or_other_request_never_a_panic(
        which in any::<Index>(), name in any::<Index>(), at in any::<Index>(), with in 1..=255u8, cuts in vec(any::<Index>(), 0..5)
    ) {
        let (_, generation) = *which.get(&GENERATIONS);
        let mut stream = [handshake(), request(generation, REQUESTS[name.index(REQUESTS.len())])].concat();
        let at = at.index(stream.len());
        stream[at] ^= with;
        let heard = hear(cut(&stream, &cuts));
        if let Some(Incoming { request: Ok(request), .. }) = heard.incoming {
            prop_assert!(request.verb.bytes().all(|byte| byte.is_ascii_uppercase()));
        }
    }

    #[test]
    fn garbage_is_no_request(garbage in vec(any::<u8>(), 0..3000), connected in any::<bool>()) {
        let stream = if connected { [handshake(), garbage].concat() } else { garbage };
        let heard = hear([&stream[..]]);
        prop_assert!(heard.incoming.is_none_or(|incoming| incoming.request.is_err()));
    }
}
