//! Both sides of a conversation, in both generations. The first byte of an input says which and up to where it is a good one,
//! the second how it is cut into segments; the rest is what the peer sends from there on. RSA is not done, as no peer gets more of
//! it than one operation: the keys are those of the protocol's documented examples, and so is what they wrap.

use std::sync::{Arc, LazyLock};

use anweddol::wire::exchange::{
    ClientExchange, ClientStep, Incoming, ResponseExchange, ResponseStep, ServerExchange, ServerStep, Unwrapped,
};
use anweddol::wire::keys::Backend;
use anweddol::wire::{AccessTokens, Generation, Limits, PrivateKey, Response, Session};
use base64::prelude::{BASE64_STANDARD, Engine};
use serde_json::Value;

use super::request::agreed;

static VECTORS: LazyLock<Value> =
    LazyLock::new(|| serde_json::from_str(include_str!("../../wire/vectors.json")).expect("vectors.json"));
static SERVER: LazyLock<Arc<PrivateKey>> = LazyLock::new(|| key("server"));
static CLIENT: LazyLock<Arc<PrivateKey>> = LazyLock::new(|| key("client"));
static HANDSHAKE: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let hello = [text("/client/size_header").as_bytes(), text("/client/public_pem").as_bytes(), b"11"].concat();
    [hello, bytes("/client_session/oaep_to_server_b64"), vec![b'1']].concat()
});
static GREETING: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let hello = [b"11", text("/server/size_header").as_bytes(), text("/server/public_pem").as_bytes(), b"1"].concat();
    [hello, bytes("/server_session/oaep_to_client_b64")].concat()
});

fn text(pointer: &str) -> &'static str {
    VECTORS.pointer(pointer).and_then(Value::as_str).expect(pointer)
}

fn bytes(pointer: &str) -> Vec<u8> {
    BASE64_STANDARD.decode(text(pointer)).expect(pointer)
}

fn key(who: &str) -> Arc<PrivateKey> {
    Arc::new(PrivateKey::from_pem(text(&format!("/{who}/private_pem")), Backend::ConstantTime).expect(who))
}

fn session() -> Session {
    Session::from_bytes(&[bytes("/server_session/key_b64"), bytes("/server_session/iv_b64")].concat())
        .expect("a session")
}

pub(super) fn run(input: &[u8]) {
    let [mode, cut, rest @ ..] = input else { return };
    let generation = if mode & 1 == 0 { Generation::First } else { Generation::Second };
    let sealed = || {
        let mut session = session();
        let sealed = session.seal(generation, &String::from_utf8_lossy(rest), [*cut; 16]).expect("sealed");
        ([sealed.header, sealed.packet].concat(), session)
    };
    match mode % 8 {
        // A client that says anything from its first byte on, or once the keys are exchanged.
        0 => drop(serve(rest, *cut)),
        1 => drop(serve(&[&HANDSHAKE[..], rest].concat(), *cut)),
        // One that seals anything.
        2 | 3 => {
            let (message, session) = sealed();
            let heard = serve(&[&HANDSHAKE[..], &message].concat(), *cut);
            answered(heard, session, generation);
        }
        // A server that says anything, or answers anything.
        4 | 5 => ask(rest, generation, *cut),
        _ => ask(&[&GREETING[..], &sealed().0].concat(), generation, *cut),
    }
}

/// All that one side said and heard.
#[derive(Debug, Default)]
struct Heard {
    sent: Vec<u8>,
    used: usize,
    incoming: Option<Incoming>,
    response: Option<Response>,
    error: Option<String>,
}

impl Heard {
    /// Takes what was asked for off a segment, and no more.
    fn took(&mut self, before: usize, after: usize, want: usize) {
        let used = before - after;
        assert!(used > 0 && used <= want, "{used} bytes were taken, and {want} asked for");
        assert!(want <= Limits::default().message + 16, "more is asked for than a peer may send");
        self.used += used;
    }
}

/// The same stream whole, byte by byte, and in pieces.
fn serve(stream: &[u8], cut: u8) -> Heard {
    let whole = heard(&mut stream.chunks(usize::MAX));
    for pieces in [1, usize::from(cut) + 2] {
        let other = heard(&mut stream.chunks(pieces));
        assert_eq!((&other.sent, other.used, &other.error), (&whole.sent, whole.used, &whole.error));
        assert_eq!(format!("{:?}", other.incoming), format!("{:?}", whole.incoming));
    }
    whole
}

fn heard(segments: &mut dyn Iterator<Item = &[u8]>) -> Heard {
    let mut exchange = ServerExchange::new(Arc::clone(&SERVER), Limits::default(), AccessTokens::Enabled);
    let mut heard = Heard::default();
    for mut segment in segments {
        while !segment.is_empty() {
            let (before, want) = (segment.len(), exchange.want());
            let step = exchange.receive(&mut segment);
            heard.took(before, segment.len(), want);
            match step {
                Ok(ServerStep::More | ServerStep::Connected) => {}
                Ok(ServerStep::Send(reply)) => heard.sent.extend(reply),
                Ok(ServerStep::Unwrap(_)) => {
                    assert_eq!(exchange.want(), 0, "nothing is read while the work is done");
                    let wrapped = bytes("/server_session/oaep_to_client_b64");
                    heard.sent.extend(exchange.unwrapped(Unwrapped { session: session(), wrapped }));
                }
                Ok(ServerStep::Request(incoming)) => {
                    if let Ok(request) = &incoming.request {
                        agreed(request, AccessTokens::Enabled);
                    }
                    heard.incoming = Some(*incoming);
                    return heard;
                }
                Err(error) => {
                    assert!(matches!(error.reply(), b"" | b"0"));
                    assert_eq!(exchange.want(), 0, "an error is the end");
                    heard.sent.extend(error.reply());
                    heard.error = Some(error.to_string());
                    return heard;
                }
            }
        }
    }
    heard
}

/// Whatever a client sealed, its answer opens for it.
fn answered(heard: Heard, session: Session, generation: Generation) {
    // Too long for a message.
    let Some(incoming) = heard.incoming else { return };
    let Some(found) = incoming.answering.generation() else { return };
    assert_eq!(found, generation);
    let response = Response::refused(anweddol::wire::Message::BadRequest, None);
    let sealed = incoming.answering.seal(&response, [7; 16]).expect("sealed");
    let mut exchange = ResponseExchange::new(session, generation, Limits::default());
    let (mut header, mut packet) = (&sealed.header[..], &sealed.packet[..]);
    assert!(matches!(exchange.receive(&mut header), Ok(ResponseStep::Send(_))));
    match exchange.receive(&mut packet) {
        Ok(ResponseStep::Response(got)) => assert_eq!(got, response),
        other => panic!("{other:?}"),
    }
}

/// The client's side, whole and in pieces.
fn ask(stream: &[u8], generation: Generation, cut: u8) {
    let whole = told(&mut stream.chunks(usize::MAX), generation);
    for pieces in [1, usize::from(cut) + 2] {
        let other = told(&mut stream.chunks(pieces), generation);
        assert_eq!((&other.sent, other.used, &other.error), (&whole.sent, whole.used, &whole.error));
        assert_eq!(other.response, whole.response);
    }
}

fn told(segments: &mut dyn Iterator<Item = &[u8]>, generation: Generation) -> Heard {
    let (exchange, first) = ClientExchange::start(Arc::clone(&CLIENT), Limits::default()).expect("a start");
    let (mut heard, mut exchange, mut answer) = (Heard { sent: first, ..Heard::default() }, exchange, None);
    for mut segment in segments {
        while !segment.is_empty() {
            let before = segment.len();
            let (want, outcome) = match &mut answer {
                None => (exchange.want(), exchange.receive(&mut segment).map(Ok)),
                Some(answer) => {
                    let answer: &mut ResponseExchange = answer;
                    (answer.want(), answer.receive(&mut segment).map(Err))
                }
            };
            heard.took(before, segment.len(), want);
            match outcome {
                Ok(Ok(ClientStep::More) | Err(ResponseStep::More)) => {}
                Ok(Ok(ClientStep::Send(reply)) | Err(ResponseStep::Send(reply))) => heard.sent.extend(reply),
                Ok(Ok(ClientStep::Wrap(_))) => {
                    heard.sent.extend(exchange.wrapped(&bytes("/client_session/oaep_to_server_b64")));
                }
                Ok(Ok(ClientStep::Unwrap { .. })) => {
                    heard.sent.push(b'1');
                    answer = Some(ResponseExchange::new(session(), generation, Limits::default()));
                }
                Ok(Err(ResponseStep::Response(response))) => {
                    heard.response = Some(response);
                    return heard;
                }
                Err(error) => {
                    heard.error = Some(error.to_string());
                    return heard;
                }
            }
        }
    }
    heard
}
