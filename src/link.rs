//! A TCP connection as the wire protocol needs it, for both ends.
//!
//! The protocol writes twice and then reads. With Nagle's algorithm on one side and delayed acknowledgements on
//! the other each such turn costs 40 ms, so both are off: `TCP_NODELAY` for good, `TCP_QUICKACK` again after each read,
//! because the kernel takes it back.

use std::io;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use zeroize::Zeroizing;

use crate::unwrapped::unconfirmed;

/// How much is read at once, and so the most that is kept before it is asked for. Small: most elements are a byte.
const CHUNK: usize = 4096;
/// How long [`Link::close`] waits for the peer to have read the last word.
const LINGER: Duration = Duration::from_secs(1);
/// How soon [`Link::arrived`] looks again, at first: nothing tells when it is confirmed.
const FIRST_LOOK: Duration = Duration::from_millis(1);

/// A connection.
///
/// What is said is sent when the peer has to be waited for, in one segment; what came in one segment is read at once. So
/// a turn of the conversation costs one call and one wake at each end, however many elements it has.
pub(crate) struct Link {
    stream: TcpStream,
    /// Said, and not sent yet.
    unsent: Vec<u8>,
    /// Bytes that came before they were asked for.
    early: Vec<u8>,
}

impl Link {
    pub(crate) fn new(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        rearm(&stream);
        Ok(Link { stream, unsent: Vec::new(), early: Vec::new() })
    }

    /// Reads at most `want` bytes; an end of the stream is an error of kind `UnexpectedEof`.
    pub(crate) async fn read(&mut self, want: usize) -> io::Result<Zeroizing<Vec<u8>>> {
        if self.early.is_empty() {
            self.flush().await?;
            self.fill().await?;
        }
        let count = want.min(self.early.len());
        Ok(Zeroizing::new(self.early.drain(..count).collect()))
    }

    /// Waits for what the peer sends, and takes what is there. Nothing is held for a peer that sends nothing.
    async fn fill(&mut self) -> io::Result<()> {
        loop {
            self.stream.readable().await?;
            let mut buffer = [0; CHUNK];
            match self.stream.try_read(&mut buffer) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => {
                    rearm(&self.stream);
                    self.early = buffer[..count].to_vec();
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Reads one byte.
    pub(crate) async fn read_byte(&mut self) -> io::Result<u8> {
        Ok(self.read(1).await?[0])
    }

    /// Has this sent, at the latest when the peer is waited for ([`Link::read`]).
    pub(crate) fn say(&mut self, bytes: &[u8]) {
        self.unsent.extend_from_slice(bytes);
    }

    /// Sends what was said. May be dropped and called again at any point.
    pub(crate) async fn flush(&mut self) -> io::Result<()> {
        while !self.unsent.is_empty() {
            let count = self.stream.write(&self.unsent).await?;
            self.unsent.drain(..count);
        }
        Ok(())
    }

    /// Sends what was said, and ends when the peer is gone. One byte that it sends ahead is kept: the protocol has no use
    /// for more, and who sends more than `patience` bytes of it is treated as gone.
    ///
    /// May be dropped and called again at any point.
    pub(crate) async fn gone(&mut self, mut patience: usize) {
        if self.flush().await.is_err() {
            return;
        }
        let mut buffer = [0; CHUNK];
        loop {
            match self.stream.read(&mut buffer).await {
                Ok(0) | Err(_) => return,
                Ok(count) if count > patience => return,
                Ok(count) => {
                    patience -= count;
                    if self.early.is_empty() {
                        self.early.push(buffer[0]);
                    }
                    rearm(&self.stream);
                }
            }
        }
    }

    /// Whether the peer has closed its side, whatever of its bytes is still unread.
    pub(crate) fn left(&self) -> bool {
        let mut seen = [PollFd::new(&self.stream, PollFlags::RDHUP)];
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        poll(&mut seen, Some(&at_once)).is_ok_and(|count| count > 0)
    }

    /// Sends no more, and says whether the peer's system has confirmed all that was sent. `false` says nothing: it may
    /// be on its way.
    pub(crate) async fn arrived(&mut self) -> bool {
        let waits = async {
            let mut buffer = [0; CHUNK];
            let mut wait = FIRST_LOOK;
            if self.stream.shutdown().await.is_err() {
                return;
            }
            while !confirmed(&self.stream) {
                match timeout(wait, self.stream.read(&mut buffer)).await {
                    // It sends no more either; what confirms ours can still be on its way.
                    Ok(Ok(0)) => sleep(wait).await,
                    Ok(Ok(_)) => continue,
                    Ok(Err(_)) => return,
                    Err(_) => {}
                }
                wait *= 2;
            }
        };
        let _ = timeout(LINGER, waits).await;
        confirmed(&self.stream)
    }

    /// Closes so that the last word arrives: a socket closed with unread bytes in it would be reset, and the reset
    /// could overtake what was sent.
    pub(crate) async fn close(mut self) {
        let last = async {
            self.stream.shutdown().await?;
            let mut buffer = [0; CHUNK];
            while self.stream.read(&mut buffer).await? > 0 {}
            io::Result::Ok(())
        };
        // Whoever does not read it in time will not.
        let _ = timeout(LINGER, last).await;
    }
}

/// Whether the peer's system has confirmed all that was sent, by the kernel's count of bytes that it may have to send
/// again. Where that cannot be read, nothing is said.
fn confirmed(stream: &TcpStream) -> bool {
    unconfirmed(stream).is_ok_and(|left| left == 0)
}

/// A hint for speed: a kernel without it is none the worse.
fn rearm(stream: &TcpStream) {
    let _ = rustix::net::sockopt::set_tcp_quickack(stream, true);
}

/// Random bytes for keys and IVs.
pub(crate) fn random<const N: usize>() -> io::Result<Zeroizing<[u8; N]>> {
    let mut bytes = Zeroizing::new([0; N]);
    aws_lc_rs::rand::fill(&mut bytes[..]).map_err(|_| io::Error::other("the system gives no random bytes"))?;
    Ok(bytes)
}
