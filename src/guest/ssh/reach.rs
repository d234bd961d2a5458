//! Waits until something behind an address talks.
//!
//! Being connected says nothing: QEMU's user networking accepts a connection long before its guest has an address, and sends
//! the guest a SYN now and then, at growing distances. So a guest counts as there when its first byte arrives, and every new
//! connection is a new question, answered at once by a guest that has just come up.
//!
//! Asking often is not free either: each connection that reaches the guest makes its SSH server fork, and under software
//! emulation a crowd of booting guests that are asked every second or two do nothing else any more. Therefore:
//!
//! - the distance between two questions is an eighth of the time waited so far, and never less than [`FIRST_DISTANCE`]: the
//!   delay that asking adds stays in proportion to the boot, and the number of questions grows with its logarithm;
//! - a question stays open while the next ones are asked ([`OPEN_AT_ONCE`] at most), since a slow guest may well be busy
//!   answering it: the first to get an answer wins, the others are dropped.

use std::net::SocketAddr;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout};

use super::text;
use crate::guest::ShellError;

/// Between the first questions.
const FIRST_DISTANCE: Duration = Duration::from_millis(200);
/// How long a question stays open, in distances.
const OPEN_AT_ONCE: u32 = 4;
/// How much of a system's message is told.
const REASON_LIMIT: usize = 200;

/// How long to wait before the next question.
fn distance(waited: Duration) -> Duration {
    (waited / 8).max(FIRST_DISTANCE)
}

/// A connection on which the other side has said something (which is still unread).
pub(super) async fn reach(at: SocketAddr, deadline: Instant) -> Result<TcpStream, ShellError> {
    let start = Instant::now();
    let mut questions = FuturesUnordered::new();
    let mut reason = String::from("it accepts connections and says nothing");
    let mut next = start;
    loop {
        tokio::select! {
            biased;
            Some(answer) = questions.next() => match answer {
                Ok(stream) => return Ok(stream),
                Err(Silence::Closed(seen)) => reason = seen,
                Err(Silence::TooLong) => {}
            },
            () = sleep_until(deadline) => return Err(ShellError::NotAnswering { at, reason }),
            () = sleep_until(next) => {
                let now = Instant::now();
                let distance = distance(now - start);
                questions.push(ask(at, distance * OPEN_AT_ONCE));
                next = now + distance;
            }
        }
    }
}

/// Why a question got no answer.
enum Silence {
    /// It was still open when its time was over.
    TooLong,
    /// The connection was refused or closed.
    Closed(String),
}

async fn ask(at: SocketAddr, patience: Duration) -> Result<TcpStream, Silence> {
    let talk = async {
        let stream = TcpStream::connect(at).await?;
        stream.set_nodelay(true)?;
        match stream.peek(&mut [0]).await? {
            0 => Err(std::io::Error::other("the connection was closed")),
            _ => Ok(stream),
        }
    };
    match timeout(patience, talk).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => Err(Silence::Closed(text::printable(error.to_string().as_bytes(), REASON_LIMIT))),
        Err(_) => Err(Silence::TooLong),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_is_asked_seldom_however_long_it_takes() {
        let mut waited = Duration::ZERO;
        let mut questions = 0;
        while waited < Duration::from_secs(120) {
            waited += distance(waited);
            questions += 1;
        }
        assert!(questions < 40, "{questions} questions in two minutes");
        assert!(distance(Duration::from_millis(2300)) < Duration::from_millis(300));
    }
}
