//! Every byte of `vectors.json`, in both directions.

use anweddol::wire::exchange::{
    ClientExchange, ClientStep, Incoming, ResponseExchange, ResponseStep, ServerExchange, ServerStep, Unwrapped,
};
use anweddol::wire::frame::{clear_size, size_header};
use anweddol::wire::keys::Backend;
use anweddol::wire::{
    AccessTokens, Fingerprint, Generation, Limits, PrivateKey, PublicKey, Request, Response, Session,
};

use crate::support::{GENERATIONS, REQUESTS, RESPONSES, bytes, handshake, iv, key, request, session, text};

#[test]
fn a_private_key_leads_to_the_documented_public_pem_size_and_fingerprint() {
    for who in ["client", "server"] {
        let key = key(who);
        let pem = text(&format!("/{who}/public_pem"));
        assert_eq!(key.public_pem(), pem);
        assert_eq!(size_header(pem.len()).unwrap(), text(&format!("/{who}/size_header")).as_bytes());
        assert_eq!(key.modulus_length(), 512);
    }
    assert_eq!(key("server").fingerprint().to_string(), text("/fingerprint/server"));
    assert_eq!(Fingerprint::of(text("/server/public_pem").as_bytes()), key("server").fingerprint());
}

#[test]
fn both_backends_unwrap_the_documented_session_keys_and_each_others() {
    for (who, which, wrapped) in [
        ("server", "client_session", "/client_session/oaep_to_server_b64"),
        ("client", "server_session", "/server_session/oaep_to_client_b64"),
    ] {
        let public = PublicKey::from_pem(text(&format!("/{who}/public_pem")).as_bytes(), &Limits::default()).unwrap();
        for backend in [Backend::ConstantTime, Backend::Portable] {
            let key = PrivateKey::from_pem(text(&format!("/{who}/private_pem")), backend).unwrap();
            assert_eq!(key.unwrap(&bytes(wrapped)).unwrap(), session(which).to_bytes());
            assert_eq!(*key.unwrap(&public.wrap(b"of ours").unwrap()).unwrap(), *b"of ours");
            // Every failure is the same.
            let mut damaged = bytes(wrapped);
            damaged[300] ^= 1;
            let failures = [&damaged[..], &damaged[1..], &[0; 512], &[255; 512], &[], &[0; 513]];
            for failure in failures.map(|wrapped| key.unwrap(wrapped).unwrap_err()) {
                assert_eq!(failure.to_string(), "not encrypted for this key");
            }
        }
    }
}

#[test]
fn messages_are_sealed_to_the_documented_bytes_and_opened_from_them() {
    for (generation, at) in GENERATIONS {
        let messages = REQUESTS.iter().map(|name| format!("/{at}/requests/{name}"));
        let messages = messages.chain(RESPONSES.iter().map(|name| format!("/{at}/responses/{name}")));
        for message in messages {
            let field = |name: &str| format!("{message}/{name}");
            let (before, next) = match generation {
                Generation::First => (session("server_session"), [0; 16]),
                Generation::Second => {
                    let key = bytes("/server_session/key_b64");
                    let session = Session::from_bytes(&[key, bytes(&field("iv_b64"))].concat()).unwrap();
                    (session, iv(&field("next_iv_b64")))
                }
            };
            let mut sender = Session::from_bytes(&before.to_bytes()).unwrap();
            let sealed = sender.seal(generation, text(&field("json")), next).unwrap();
            assert_eq!(sealed.header, bytes(&field("size_header_b64")), "{message}");
            assert_eq!(sealed.packet, bytes(&field("packet_b64")), "{message}");

            let mut receiver = before;
            let size = match generation {
                Generation::First => clear_size(sealed.header[..].try_into().unwrap()).unwrap(),
                Generation::Second => receiver.open_size(sealed.header[..].try_into().unwrap()).unwrap(),
            };
            assert_eq!(size, sealed.packet.len());
            let opened = receiver.open(generation, &sealed.packet).unwrap();
            assert_eq!(std::str::from_utf8(&opened).unwrap(), text(&field("json")));
            assert_eq!(receiver.to_bytes(), sender.to_bytes(), "both go on with the same IV");
        }
    }
}

#[test]
fn requests_and_responses_are_written_as_documented() {
    for (_, at) in GENERATIONS {
        for name in REQUESTS {
            let json = text(&format!("/{at}/requests/{name}/json"));
            assert_eq!(*Request::from_text(json.as_bytes(), AccessTokens::Enabled).unwrap().to_text(), json);
        }
        for name in RESPONSES {
            let json = text(&format!("/{at}/responses/{name}/json"));
            assert_eq!(*Response::from_text(json.as_bytes()).unwrap().to_text(), json);
        }
    }
}

#[test]
fn the_server_holds_every_documented_conversation() {
    for (generation, at) in GENERATIONS {
        for (asked, answered) in REQUESTS.into_iter().zip(RESPONSES.into_iter().cycle()) {
            let mut exchange = ServerExchange::new(key("server"), Limits::default(), AccessTokens::Unknown);
            let stream = [handshake(), request(at, asked)].concat();
            let mut input = &stream[..];
            let mut sent = Vec::new();
            let mut connected = 0;
            let incoming: Incoming = loop {
                assert!(exchange.want() > 0);
                match exchange.receive(&mut input).unwrap() {
                    ServerStep::More => {}
                    ServerStep::Send(reply) => sent.extend(reply),
                    ServerStep::Unwrap(work) => {
                        assert_eq!(work.wrapped(), bytes("/client_session/oaep_to_server_b64"));
                        let wrapped = bytes("/server_session/oaep_to_client_b64");
                        let outcome = Unwrapped { session: session("server_session"), wrapped };
                        sent.extend(exchange.unwrapped(outcome));
                    }
                    ServerStep::Connected => connected += 1,
                    ServerStep::Request(incoming) => break *incoming,
                }
            };
            let mut expected = format!("11{}{}1", text("/server/size_header"), text("/server/public_pem")).into_bytes();
            expected.extend(bytes("/server_session/oaep_to_client_b64"));
            expected.push(b'1');
            assert_eq!(sent, expected);
            assert_eq!((connected, input.len(), exchange.want()), (1, 0, 0));
            assert_eq!(incoming.answering.generation(), Some(generation));
            assert_eq!(*incoming.request.unwrap().to_text(), text(&format!("/{at}/requests/{asked}/json")));

            let field = |name: &str| format!("/{at}/responses/{answered}/{name}");
            let response = Response::from_text(text(&field("json")).as_bytes()).unwrap();
            let next = match generation {
                Generation::First => [0; 16],
                Generation::Second => iv(&field("next_iv_b64")),
            };
            let sealed = incoming.answering.seal(&response, next).unwrap();
            assert_eq!(sealed.header, bytes(&field("size_header_b64")));
            assert_eq!(sealed.packet, bytes(&field("packet_b64")));
        }
    }
}

#[test]
fn the_client_holds_every_documented_conversation() {
    for (generation, at) in GENERATIONS {
        for (asked, answered) in REQUESTS.into_iter().zip(RESPONSES.into_iter().cycle()) {
            let mut stream = format!("11{}{}1", text("/server/size_header"), text("/server/public_pem")).into_bytes();
            stream.extend(bytes("/server_session/oaep_to_client_b64"));
            let mut input = &stream[..];
            let (mut exchange, mut sent) = ClientExchange::start(key("client"), Limits::default()).unwrap();
            let (session_key, server) = loop {
                match exchange.receive(&mut input).unwrap() {
                    ClientStep::More => {}
                    ClientStep::Send(reply) => sent.extend(reply),
                    ClientStep::Wrap(_) => {
                        sent.extend(exchange.wrapped(&bytes("/client_session/oaep_to_server_b64")));
                    }
                    ClientStep::Unwrap { wrapped, server } => {
                        sent.push(b'1');
                        break (key("client").unwrap(&wrapped).unwrap(), server);
                    }
                }
            };
            assert_eq!(sent, handshake());
            assert_eq!(server.to_string(), text("/fingerprint/server"));

            let field = |name: &str| format!("/{at}/requests/{asked}/{name}");
            let next = match generation {
                Generation::First => [0; 16],
                Generation::Second => iv(&field("next_iv_b64")),
            };
            let mut session = Session::from_bytes(&session_key).unwrap();
            let ask = Request::from_text(text(&field("json")).as_bytes(), AccessTokens::Unknown).unwrap();
            let sealed = session.seal(generation, &ask.to_text(), next).unwrap();
            assert_eq!([sealed.header, sealed.packet].concat(), request(at, asked));

            let field = |name: &str| format!("/{at}/responses/{answered}/{name}");
            let stream = [bytes(&field("size_header_b64")), bytes(&field("packet_b64"))].concat();
            let mut input = &stream[..];
            let mut exchange = ResponseExchange::new(session, generation, Limits::default());
            let response = loop {
                match exchange.receive(&mut input).unwrap() {
                    ResponseStep::More => {}
                    ResponseStep::Send(reply) => assert_eq!(reply, b"1"),
                    ResponseStep::Response(response) => break response,
                }
            };
            assert_eq!(*response.to_text(), text(&field("json")));
        }
    }
}
