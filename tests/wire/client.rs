//! The product's client, against the product's server and against others.

use std::time::Duration;

use anweddol::client::{ClientConfig, ClientError, Stage, WireClient, ask};
use anweddol::wire::exchange::{ServerExchange, ServerStep, Unwrapped};
use anweddol::wire::{AccessTokens, Fingerprint, Generation, Limits, Request, Response, STAT};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket};

use crate::running::Running;
use crate::support::{GENERATIONS, bytes, key, session, text};

fn config() -> ClientConfig {
    ClientConfig { key: Some(key("client")), ..ClientConfig::default() }
}

/// Something that answers a connection with `words` and then keeps it open until the peer closes.
async fn speaks(words: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(words).await.unwrap();
        let _ = stream.read_to_end(&mut Vec::new()).await;
    });
    address
}

#[tokio::test]
async fn it_asks_in_both_generations_and_sees_the_servers_fingerprint() {
    let server = Running::start().await;
    for (generation, _) in GENERATIONS {
        let expect = Some(text("/fingerprint/server").parse().unwrap());
        let config = ClientConfig { generation, expect, ..config() };
        let client = WireClient::connect(&server.address.to_string(), &config).await.unwrap();
        assert_eq!(client.fingerprint().to_string(), text("/fingerprint/server"));
        let response = client.ask(&Request::bare(STAT)).await.unwrap();
        assert_eq!((response.success, &response.data["verb"]), (true, &STAT.into()));
    }
}

/// A server that says nothing before the client has said all that it can without an answer.
async fn reads_whole_turns(generation: Generation) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut exchange = ServerExchange::new(key("server"), Limits::default(), AccessTokens::Unknown);
        let mut said = Vec::new();
        // Its key and its size; that it takes our key's size; that it takes our key, and a session key.
        for turn in [8 + text("/client/public_pem").len(), 1, 1 + 512] {
            let mut heard = vec![0; turn];
            stream.read_exact(&mut heard).await.unwrap();
            let mut heard = &heard[..];
            while !heard.is_empty() {
                match exchange.receive(&mut heard).unwrap() {
                    ServerStep::Send(reply) => said.extend(reply),
                    ServerStep::Unwrap(_) => {
                        let wrapped = bytes("/server_session/oaep_to_client_b64");
                        said.extend(exchange.unwrapped(Unwrapped { session: session("server_session"), wrapped }));
                    }
                    step => assert!(matches!(step, ServerStep::More), "{step:?}"),
                }
            }
            stream.write_all(&std::mem::take(&mut said)).await.unwrap();
        }
        // That it takes the session key, and its request with its size.
        let incoming = loop {
            let mut heard = vec![0; exchange.want()];
            stream.read_exact(&mut heard).await.unwrap();
            match exchange.receive(&mut &heard[..]).unwrap() {
                ServerStep::Send(reply) => said.extend(reply),
                ServerStep::Request(incoming) => break incoming,
                step => assert!(matches!(step, ServerStep::More | ServerStep::Connected), "{step:?}"),
            }
        };
        assert_eq!(incoming.answering.generation(), Some(generation));
        let answer = Response::ok(serde_json::Map::new());
        let sealed = incoming.answering.seal(&answer, [7; 16]).unwrap();
        stream.write_all(&[said, sealed.header].concat()).await.unwrap();
        assert_eq!(stream.read_u8().await.unwrap(), b'1');
        stream.write_all(&sealed.packet).await.unwrap();
    });
    address
}

#[tokio::test]
async fn it_waits_for_the_server_only_where_it_has_to_know_the_answer() {
    for (generation, _) in GENERATIONS {
        let address = reads_whole_turns(generation).await;
        let response = ask(&address, &Request::bare(STAT), &ClientConfig { generation, ..config() }).await.unwrap();
        assert!(response.success);
    }
}

#[tokio::test]
async fn it_makes_a_key_of_its_own_where_none_is_given() {
    let server = Running::start().await;
    let response = ask(&server.address.to_string(), &Request::bare(STAT), &ClientConfig::default()).await.unwrap();
    assert!(response.success);
}

#[tokio::test]
async fn it_sends_no_key_to_a_server_it_did_not_expect() {
    let server = Running::start().await;
    let expected = Fingerprint::of(b"another");
    let config = ClientConfig { expect: Some(expected), ..config() };
    let error = ask(&server.address.to_string(), &Request::bare(STAT), &config).await.unwrap_err();
    assert!(matches!(error, ClientError::Fingerprint { .. }));
    let told = error.to_string();
    assert!(told.contains(&expected.to_string()) && told.contains(text("/fingerprint/server")), "{told}");
}

#[tokio::test]
async fn it_tells_that_nobody_listens() {
    // Held, so that no other test is given it.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = socket.local_addr().unwrap().to_string();
    let error = ask(&address, &Request::bare(STAT), &config()).await.unwrap_err();
    assert!(matches!(error, ClientError::NobodyThere { .. }), "{error}");
    assert!(error.to_string().contains(&address));
    let error = ask("not an address", &Request::bare(STAT), &config()).await.unwrap_err();
    assert!(matches!(error, ClientError::Connect { .. }), "{error}");
}

#[tokio::test]
async fn it_tells_what_is_no_server_of_ours() {
    for words in
        [&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], b"SSH-2.0-OpenSSH_9.2\r\n", b"11800abc==", b"1110======0123456789"]
    {
        let address = speaks(words).await;
        let error = ask(&address, &Request::bare(STAT), &config()).await.unwrap_err();
        assert!(matches!(error, ClientError::NoServer { .. }), "{}: {error}", words.escape_ascii());
    }
}

#[tokio::test]
async fn it_tells_a_refusal_and_an_end_from_each_other() {
    let error = ask(&speaks(b"0").await, &Request::bare(STAT), &config()).await.unwrap_err();
    assert!(matches!(error, ClientError::Protocol { stage: Stage::Exchange, .. }), "{error}");

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.read_exact(&mut [0; 8]).await.unwrap();
    });
    let error = ask(&address, &Request::bare(STAT), &config()).await.unwrap_err();
    assert!(matches!(error, ClientError::Closed { stage: Stage::Exchange, .. }), "{error}");
}

#[tokio::test]
async fn it_waits_no_longer_than_it_was_told() {
    let short = Duration::from_millis(20);
    let config = ClientConfig { exchange_timeout: short, ..config() };
    let error = ask(&speaks(b"1").await, &Request::bare(STAT), &config).await.unwrap_err();
    assert!(matches!(error, ClientError::TooSlow { stage: Stage::Exchange, .. }), "{error}");

    let server = Running::start().await;
    let config = ClientConfig { answer_timeout: short, generation: Generation::First, ..self::config() };
    let error = ask(&server.address.to_string(), &Request::bare("WAIT"), &config).await.unwrap_err();
    assert!(matches!(error, ClientError::TooSlow { stage: Stage::Answer, .. }), "{error}");
}
