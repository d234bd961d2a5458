//! A daemon under attack.

use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

use anweddol::wire::{Generation, Request, STAT};
use tempfile::{TempDir, tempdir};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use crate::common::ask::ask;
use crate::common::daemon::{Daemon, Home};
use crate::common::{PATIENCE, until};
use crate::support::{GENERATIONS, RawClient};

/// Where attacks come from. The good client is at 127.0.0.1.
pub(crate) const ATTACKER: &str = "127.0.0.66";

/// A daemon under attack.
pub(crate) struct Siege {
    pub(crate) daemon: Daemon,
    /// Files it has open when nobody is connected.
    quiet: usize,
    _dir: TempDir,
}

impl Siege {
    /// Of a daemon with these settings of `server` and of `rates`, by which nobody is exempt.
    pub(crate) fn lay(server: &str, rates: &str) -> Siege {
        let dir = tempdir().unwrap();
        let home = Home::new(dir.path(), &format!("rates: {{exempt: [], {rates}}}"));
        let text = fs::read_to_string(&home.config).unwrap();
        fs::write(&home.config, text.replacen("server: {", &format!("server: {{{server}, "), 1)).unwrap();
        let daemon = home.with_vectors_key().simulated("boot=10ms").start();
        let quiet = daemon.open_files();
        Siege { daemon, quiet, _dir: dir }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.daemon.address
    }

    /// A good client asks, in both generations, and its answer is right.
    pub(crate) fn good_client_is_served(&self) {
        for (generation, _) in GENERATIONS {
            let response = ask(self.address(), generation, &Request::bare(STAT));
            assert!(response.success, "{}", response.message);
            assert_eq!(response.data["available"], 6);
        }
    }

    /// The attackers are gone: so is everything that was done for them, and the daemon ends in order. What it wrote.
    pub(crate) fn lifted(self) -> Vec<String> {
        self.good_client_is_served();
        until("the end of all connections", || (self.daemon.open_files() <= self.quiet).then_some(()));
        let lines = self.daemon.stop();
        assert!(!lines.iter().any(|line| line.contains("panic")), "{}", lines.join("\n"));
        lines
    }
}

/// A connection from another address of this host.
pub(crate) async fn connect_from(source: &str, to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(format!("{source}:0").parse().unwrap()).unwrap();
    socket.connect(to).await.unwrap()
}

/// A connection of the attacker's.
pub(crate) async fn attack(to: SocketAddr) -> TcpStream {
    connect_from(ATTACKER, to).await
}

/// An attacker whose keys are exchanged.
pub(crate) async fn known(to: SocketAddr) -> RawClient {
    RawClient::on(attack(to).await).await
}

/// All that the server says until it closes, in whatever way.
pub(crate) async fn last_words(stream: &mut TcpStream) -> Vec<u8> {
    let (mut said, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        match timeout(PATIENCE, stream.read(&mut buffer)).await.expect("the server closes") {
            Ok(0) | Err(_) => return said,
            Ok(count) => said.extend_from_slice(&buffer[..count]),
        }
    }
}

/// Sends bytes, and waits with more of them for what the server says until it closes.
pub(crate) async fn stays(mut stream: TcpStream, bytes: &[u8]) -> Vec<u8> {
    let _ = stream.write_all(bytes).await;
    last_words(&mut stream).await
}

/// Sends bytes and closes its side, and hears the server out.
pub(crate) async fn said_to(mut stream: TcpStream, bytes: &[u8]) -> Vec<u8> {
    // It may have closed before it has all of them.
    if stream.write_all(bytes).await.is_ok() {
        let _ = stream.shutdown().await;
    }
    last_words(&mut stream).await
}

/// Sends a byte now and then until the server closes.
pub(crate) async fn dribble(stream: &mut TcpStream, bytes: &[u8]) {
    for byte in bytes {
        if stream.write_all(&[*byte]).await.is_err() {
            return;
        }
        if let Ok(Ok(0) | Err(_)) = timeout(Duration::from_millis(40), stream.read(&mut [0; 4096])).await {
            return;
        }
    }
    last_words(stream).await;
}

/// A request on the wire, sealed for a session.
pub(crate) fn sealed(client: &mut RawClient, generation: Generation, text: &str) -> Vec<u8> {
    let sealed = client.session.seal(generation, text, [0x5a; 16]).unwrap();
    [sealed.header, sealed.packet].concat()
}
