//! The documented examples, and a peer that speaks the protocol byte by byte, apart from the product's client.

use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};

use anweddol::wire::frame::size_header;
use anweddol::wire::keys::Backend;
use anweddol::wire::{Generation, Malformed, PrivateKey, Response, Sealed, Session};
use base64::prelude::{BASE64_STANDARD, Engine};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// `vectors.json`.
pub(crate) static VECTORS: LazyLock<Value> =
    LazyLock::new(|| serde_json::from_str(include_str!("vectors.json")).expect("vectors.json"));

/// A text of the vectors: `text("/server/public_pem")`.
pub(crate) fn text(pointer: &str) -> &'static str {
    VECTORS.pointer(pointer).and_then(Value::as_str).unwrap_or_else(|| panic!("{pointer} in the vectors"))
}

/// Bytes of the vectors.
pub(crate) fn bytes(pointer: &str) -> Vec<u8> {
    BASE64_STANDARD.decode(text(pointer)).expect(pointer)
}

/// A 16-byte IV of the vectors.
pub(crate) fn iv(pointer: &str) -> [u8; 16] {
    bytes(pointer).try_into().expect(pointer)
}

/// A key pair of the vectors: `client` or `server`.
pub(crate) fn key(who: &str) -> Arc<PrivateKey> {
    let pem = text(&format!("/{who}/private_pem"));
    Arc::new(PrivateKey::from_pem(pem, Backend::ConstantTime).expect(who))
}

/// A session of the vectors: `client_session` or `server_session`.
pub(crate) fn session(which: &str) -> Session {
    let (key, iv) = (bytes(&format!("/{which}/key_b64")), bytes(&format!("/{which}/iv_b64")));
    Session::from_bytes(&[key, iv].concat()).expect(which)
}

/// Both generations, and where their vectors are.
pub(crate) const GENERATIONS: [(Generation, &str); 2] =
    [(Generation::First, "generation1"), (Generation::Second, "generation2")];

/// Names of the requests in the vectors.
pub(crate) const REQUESTS: [&str; 4] = ["stat", "create", "destroy", "custom"];
/// Names of the responses in the vectors.
pub(crate) const RESPONSES: [&str; 3] = ["stat", "bad_auth", "bad_request"];

/// What a client of the vectors sends before its request, all in one.
pub(crate) fn handshake() -> Vec<u8> {
    let mut stream = text("/client/size_header").as_bytes().to_vec();
    stream.extend_from_slice(text("/client/public_pem").as_bytes());
    stream.extend_from_slice(b"11");
    stream.extend_from_slice(&bytes("/client_session/oaep_to_server_b64"));
    stream.push(b'1');
    stream
}

/// What the client's request of the vectors is on the wire.
pub(crate) fn request(generation: &str, name: &str) -> Vec<u8> {
    let at = format!("/{generation}/requests/{name}");
    [bytes(&format!("{at}/size_header_b64")), bytes(&format!("{at}/packet_b64"))].concat()
}

/// A client that does by hand what the protocol says, with the keys of the vectors.
pub(crate) struct RawClient {
    pub(crate) stream: TcpStream,
    pub(crate) session: Session,
}

impl RawClient {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        RawClient::on(TcpStream::connect(address).await.expect("connect")).await
    }

    /// On a connection that is there.
    pub(crate) async fn on(mut stream: TcpStream) -> Self {
        stream.write_all(text("/client/size_header").as_bytes()).await.expect("1");
        assert_eq!(read(&mut stream, 1).await, b"1", "2");
        stream.write_all(text("/client/public_pem").as_bytes()).await.expect("3");
        assert_eq!(read(&mut stream, 1).await, b"1", "4");
        assert_eq!(read(&mut stream, 8).await, text("/server/size_header").as_bytes(), "5");
        stream.write_all(b"1").await.expect("6");
        assert_eq!(read(&mut stream, 800).await, text("/server/public_pem").as_bytes(), "7");
        stream.write_all(b"1").await.expect("8");
        stream.write_all(&bytes("/client_session/oaep_to_server_b64")).await.expect("9");
        assert_eq!(read(&mut stream, 1).await, b"1", "10");
        let secret = key("client").unwrap(&read(&mut stream, 512).await).expect("11");
        stream.write_all(b"1").await.expect("12");
        RawClient { stream, session: Session::from_bytes(&secret).expect("a session key") }
    }

    /// Sends a message, acknowledged in between.
    pub(crate) async fn send(&mut self, generation: Generation, text: &str) {
        let Sealed { header, packet } = self.session.seal(generation, text, [0x5a; 16]).expect("seal");
        self.stream.write_all(&header).await.expect("header");
        assert_eq!(read(&mut self.stream, 1).await, b"1");
        self.stream.write_all(&packet).await.expect("packet");
    }

    /// Reads the response, and that the server closes after it.
    pub(crate) async fn response(mut self, generation: Generation) -> Response {
        let size = match generation {
            Generation::First => {
                let header = String::from_utf8(read(&mut self.stream, 8).await).expect("a size in the clear");
                let size: usize = header.trim_end_matches('=').parse().expect("a size in the clear");
                assert_eq!(header.as_bytes(), size_header(size).expect("short"));
                Ok(size)
            }
            Generation::Second => {
                let block: [u8; 16] = read(&mut self.stream, 16).await.try_into().expect("16 bytes");
                self.session.open_size(&block)
            }
        };
        let size: Result<usize, Malformed> = size;
        self.stream.write_all(b"1").await.expect("acknowledge");
        let packet = read(&mut self.stream, size.expect("a size")).await;
        assert_eq!(rest(&mut self.stream).await, b"", "the server closes after its answer");
        let text = self.session.open(generation, &packet).expect("a message");
        Response::from_text(&text).expect("a response")
    }
}

/// Reads so many bytes.
pub(crate) async fn read(stream: &mut TcpStream, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    stream.read_exact(&mut bytes).await.expect("bytes from the server");
    bytes
}

/// Reads until the server closes.
pub(crate) async fn rest(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await.expect("an orderly end");
    bytes
}
