//! What a guest sends where its SSH server should be. The product's own client asks it, over loopback: whether it answers, and
//! for a login. An input is all that it is told; what comes after a version is SSH's own packets.

use std::net::SocketAddr;
use std::sync::{LazyLock, Mutex};
use std::time::Duration;

use anweddol::guest::ssh::{EndpointShell, SshShell, text};
use anweddol::guest::{Patience, Shell, ShellError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use uuid::Uuid;

/// Far more than is needed: whoever is told nothing more, and sees the end of the connection, does not wait.
const PATIENCE: Duration = Duration::from_secs(5);

/// A listener that says the same to everybody, and then nothing more.
struct Guest {
    runtime: Runtime,
    at: SocketAddr,
}

static SAYS: Mutex<Vec<u8>> = Mutex::new(Vec::new());
static GUEST: LazyLock<Guest> = LazyLock::new(|| {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("a port");
    let at = listener.local_addr().expect("an address");
    runtime.spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let says = SAYS.lock().expect("said").clone();
                stream.write_all(&says).await.ok();
                stream.shutdown().await.ok();
                // Closed with something unread, it would take back what was said.
                while stream.read(&mut [0; 4096]).await.is_ok_and(|count| count > 0) {}
            });
        }
    });
    Guest { runtime, at }
});

pub(super) fn run(input: &[u8]) {
    let limit = 3 + usize::from(input.first().copied().unwrap_or_default());
    let told = text::printable(input, limit);
    assert!(told.len() <= limit, "{} bytes of {limit}", told.len());
    one_line(&told);
    // Silence is waited for, and said in another way.
    if input.is_empty() {
        return;
    }
    SAYS.lock().expect("said").clear();
    SAYS.lock().expect("said").extend_from_slice(input);
    let Guest { runtime, at } = &*GUEST;
    let shell = SshShell::new(runtime.handle().clone());
    let answers = shell.probe(*at, Uuid::nil(), Patience::from(PATIENCE));
    assert_eq!(answers.is_ok(), input.starts_with(b"SSH-"), "{answers:?}");
    let login = runtime.block_on(EndpointShell::connect(*at, PATIENCE));
    for error in [answers.err(), login.err().map(Some).expect("nobody logs in to this")].into_iter().flatten() {
        assert!(matches!(error, ShellError::NotAnswering { .. } | ShellError::Broken { .. }), "{error:?}");
        let told = error.to_string();
        assert!(told.len() < 400, "{told}");
        one_line(&told);
    }
}

fn one_line(told: &str) {
    assert!(!told.chars().any(|c| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202e}')), "{told:?}");
}
