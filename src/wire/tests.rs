use proptest::prelude::*;
use serde_json::{Value, json};

use super::frame::{clear_size, size_header};
use super::session::{BLOCK, FRESH};
use super::*;

fn session(key: usize) -> Session {
    Session::from_bytes(&vec![7; key + BLOCK]).unwrap()
}

#[test]
fn a_size_is_digits_then_padding() {
    assert_eq!(size_header(800), Some(*b"800====="));
    assert_eq!(size_header(99_999_999), Some(*b"99999999"));
    assert_eq!(size_header(100_000_000), None);
    for (header, size) in [
        (b"800=====", Some(800)),
        (b"0=======", Some(0)),
        (b"12345678", Some(12_345_678)),
        (b"========", None),
        (b"8=0=====", None),
        (b"-1======", None),
        (b"+1======", None),
        (b" 1======", None),
        (b"1_0=====", None),
        (b"1\0======".first_chunk().unwrap(), None),
    ] {
        assert_eq!(clear_size(header), size, "{}", header.escape_ascii());
    }
}

#[test]
fn a_session_key_has_one_of_three_lengths() {
    for length in 0..=64 {
        let bytes = vec![1; length];
        assert_eq!(Session::from_bytes(&bytes).is_ok(), matches!(length, 32 | 40 | 48), "{length}");
    }
    assert_eq!(*Session::fresh(&[9; FRESH]).to_bytes(), [9; FRESH]);
}

#[test]
fn a_message_survives_every_key_length_in_both_generations() {
    for key in [16, 24, 32] {
        for generation in [Generation::First, Generation::Second] {
            for length in 0..50 {
                let text = "x".repeat(length);
                let (mut from, mut to) = (session(key), session(key));
                // The second message shows that both sides moved on to the same IV.
                for iv in [[1; BLOCK], [2; BLOCK]] {
                    let sealed = from.seal(generation, &text, iv).unwrap();
                    let size = match generation {
                        Generation::First => clear_size(sealed.header[..].try_into().unwrap()).unwrap(),
                        Generation::Second => to.open_size(sealed.header[..].try_into().unwrap()).unwrap(),
                    };
                    assert_eq!(size, sealed.packet.len());
                    assert_eq!(&*to.open(generation, &sealed.packet).unwrap(), text.as_bytes());
                }
            }
        }
    }
}

#[test]
fn a_malformed_message_of_the_second_generation_still_moves_the_iv() {
    let (mut client, mut server) = (session(32), session(32));
    let mut sealed = client.seal(Generation::Second, "{}", [5; BLOCK]).unwrap();
    sealed.packet[BLOCK - 1] ^= 1;
    assert_eq!(server.open(Generation::Second, &sealed.packet), Err(Malformed::Undecipherable));
    let answer = server.seal(Generation::Second, "told", [6; BLOCK]).unwrap();
    assert_eq!(&*client.open(Generation::Second, &answer.packet).unwrap(), b"told");
}

#[test]
fn padding_is_right_only_if_all_of_it_is() {
    // The last block in the clear, chosen through the IV: with CBC, flipping IV bits flips the text's.
    let sealed = session(32).seal(Generation::First, "", [0; BLOCK]).unwrap();
    let open = |wanted: [u8; BLOCK]| {
        let mut bytes = session(32).to_bytes();
        for (at, byte) in wanted.iter().enumerate() {
            bytes[32 + at] ^= byte ^ 16;
        }
        Session::from_bytes(&bytes).unwrap().open(Generation::First, &sealed.packet)
    };
    for last in 0..=255u8 {
        let mut block = [last; BLOCK];
        let good = (1..=16).contains(&last);
        assert_eq!(open(block).is_ok(), good, "{last}");
        if good {
            let first = BLOCK - usize::from(last);
            block[first] ^= 1;
            assert!(open(block).is_err(), "{last}, its first byte damaged");
            block[first] ^= 1;
            if first > 0 {
                block[first - 1] ^= 0x55;
                assert_eq!(open(block).map(|text| text.len()), Ok(first), "{last}, text is not padding");
            }
        }
    }
}

#[test]
fn what_is_not_whole_blocks_cannot_be_deciphered() {
    for generation in [Generation::First, Generation::Second] {
        for length in [0, 1, 15, 17, 31] {
            let opened = session(16).open(generation, &vec![0; length]);
            assert_eq!(opened, Err(Malformed::Undecipherable), "{length}");
        }
    }
    assert_eq!(session(16).open(Generation::Second, &[0; 16]), Err(Malformed::Undecipherable));
}

#[test]
fn text_is_ascii_as_the_original_writes_it() {
    let request = Request::new("PING", json!({"a": ["é", "😀\u{7f}\n\""], "b": {}}).as_object().unwrap().clone());
    let text = r#"{"verb": "PING", "parameters": {"a": ["\u00e9", "\ud83d\ude00\u007f\n\""], "b": {}}}"#;
    assert_eq!(*request.to_text(), text);
    assert_eq!(Request::from_text(text.as_bytes(), AccessTokens::Unknown), Ok(request));
}

#[test]
fn what_is_no_object_is_malformed_without_a_dictionary() {
    for (text, malformed) in [
        (&b"\xff"[..], Malformed::NotText),
        (b"", Malformed::NotJson),
        (b"{", Malformed::NotJson),
        (b"{} {}", Malformed::NotJson),
        (b"[]", Malformed::NotAnObject),
        (b"null", Malformed::NotAnObject),
        ("[".repeat(60_000).as_bytes(), Malformed::NotJson),
    ] {
        let read = Request::from_text(text, AccessTokens::Unknown);
        assert_eq!(read, Err(malformed.clone()));
        assert!(malformed.dictionary().is_empty());
    }
}

#[test]
fn what_else_a_client_writes_is_passed_on() {
    let text = br#"{"verb": "X", "parameters": {"own": 1}, "more": [2]}"#;
    let request = Request::from_text(text, AccessTokens::Unknown).unwrap();
    assert_eq!((&request.parameters["own"], &request.extra["more"]), (&json!(1), &json!([2])));
}

#[test]
fn an_access_token_is_checked_where_they_are_enabled() {
    let token = |token: Value| {
        let text = json!({"verb": "X", "parameters": {"access_token": token}}).to_string();
        move |access| Request::from_text(text.as_bytes(), access).map_err(|malformed| malformed.dictionary().into())
    };
    let error = |message: &str| Err::<Request, Value>(json!({"parameters": [{"access_token": [message]}]}));
    assert!(token(json!(&"aZ09-_".repeat(21)[..124]))(AccessTokens::Enabled).is_ok());
    let mismatch = "value does not match regex '^[0-9a-zA-Z-_]{124}$'";
    assert_eq!(token(json!("short"))(AccessTokens::Enabled), error(mismatch));
    assert_eq!(token(json!(5))(AccessTokens::Enabled), error("must be of string type"));
    assert_eq!(token(json!(null))(AccessTokens::Enabled), error("null value not allowed"));
    assert!(token(json!(5))(AccessTokens::Unknown).is_ok());
}

#[test]
fn secrets_are_not_shown() {
    let secrets = json!({"client_token": "s3cret", "container_password": "s3cret", "access_token": "s3cret", "n": 1});
    let secrets = secrets.as_object().unwrap().clone();
    let shown = format!("{:?} {:?}", Request::new("X", secrets.clone()), Response::ok(secrets));
    assert!(!shown.contains("s3cret") && shown.contains("\"n\": Number(1)"), "{shown}");
}

#[test]
fn a_response_says_one_of_the_documented_messages() {
    let response = Response::refused(Message::BadRequest, Some("Unknown verb"));
    assert_eq!(response.message, "Bad request (Unknown verb)");
    for message in Message::ALL {
        assert_eq!(Response::refused(message, None).kind(), Some(message));
        assert_eq!(Response::refused(message, Some("a (b)")).kind(), Some(message));
    }
}

#[test]
fn a_fingerprint_reads_what_it_writes() {
    let fingerprint = Fingerprint::of(b"pem");
    assert_eq!(fingerprint.to_string().to_uppercase().parse(), Ok(fingerprint));
    for wrong in ["", "00", &"g".repeat(64), &"0".repeat(63), &"0".repeat(65)] {
        assert!(wrong.parse::<Fingerprint>().is_err(), "{wrong}");
    }
}

proptest! {
    #[test]
    fn any_text_is_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = Request::from_text(&bytes, AccessTokens::Enabled);
        let _ = Response::from_text(&bytes);
        let _ = PublicKey::from_pem(&bytes, &Limits::default());
    }

    #[test]
    fn any_packet_is_opened_without_panic(packet in proptest::collection::vec(any::<u8>(), 0..100)) {
        for generation in [Generation::First, Generation::Second] {
            let _ = session(32).open(generation, &packet);
        }
    }
}

#[test]
fn what_was_wiped_says_none_of_its_secrets() {
    let data = || {
        let nested = json!({ "client_token": "secret", "also": ["secret", { "deeper": "secret" }], "port": 1 });
        Map::from_iter([("container_password".to_owned(), json!("secret")), ("more".to_owned(), nested)])
    };
    let mut response = Response::ok(data());
    let mut request = Request { extra: data(), ..Request::new(DESTROY, data()) };
    assert!(response.to_text().contains("secret") && request.to_text().contains("secret"));
    response.zeroize();
    request.zeroize();
    assert!(!response.to_text().contains("secret") && !request.to_text().contains("secret"));
    assert!(response.success && request.verb == DESTROY, "what it was about stays");
}
