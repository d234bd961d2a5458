//! Waits until something behind an address talks.
//!
//! Being connected says nothing: QEMU's user networking accepts a connection long before its guest has an address. So a guest
//! counts as there when its first byte arrives. How often to ask was found by reading along on the wire:
//!
//! - A question (a connection) that is younger than a second when the guest takes its address is delivered at that moment.
//!   Asked a little more often than once a second, asking adds no delay.
//! - A question that is older is not forgotten, even if we close it: QEMU delivers it 6, 18, … seconds after it was asked, and
//!   the guest's SSH server forks for it. Asked five times a second, a guest that has just booted is busy with nothing but our
//!   old questions, answers the new ones too late, and in the end refuses everybody (`MaxStartups`).
//!
//! Therefore the distance between two questions is [`Expect::Boot`]'s 900 ms, or a quarter of the time waited so far if that is
//! more: the slower the guests of a busy host come up, the less they are asked. (Answering one costs an emulated guest about a
//! second of its processor, and on a host that gives it a third of one, three.) A question stays open while the next ones are
//! asked, since a slow guest may well be busy answering it; the first answer wins. A connection that is refused costs the guest
//! nothing and says that it is nearly there, so the next one follows soon.
//!
//! QEMU delivers a question when the guest asks for its address, a moment before it has it, and the guest drops it: the next one
//! is the one that is answered, most of a second later. So as soon as the guest's card is known to be up, a third of a second
//! before that, the distance is [`Expect::Soon`]'s 100 ms, and grows with the time since then.

use std::net::SocketAddr;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until, timeout};

use super::text;
use crate::guest::ShellError;

/// What is known of the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expect {
    /// It may not be there yet.
    Boot,
    /// Its card is up: an address is what it waits for.
    Soon,
    /// It answered before: what it does not answer now it has not got to yet.
    Answer,
}

impl Expect {
    /// Between the first questions.
    fn first_distance(self) -> Duration {
        match self {
            Expect::Boot => Duration::from_millis(900),
            Expect::Soon => Duration::from_millis(100),
            Expect::Answer => Duration::from_secs(5),
        }
    }

    /// From one question to the next.
    fn distance(self, waited: Duration) -> Duration {
        (waited / 4).max(self.first_distance())
    }
}

/// After a connection was refused or closed; longer with every one.
const REFUSED_PAUSE: Duration = Duration::from_millis(100);
/// How long a question stays open, in distances, but for those that are shorter than this.
const OPEN_AT_ONCE: u32 = 4;
const OPEN: Duration = Duration::from_millis(900);
/// How every SSH server begins.
const GREETING: [u8; 4] = *b"SSH-";
/// How much of a system's message is told.
const REASON_LIMIT: usize = 200;

/// A connection on which the other side has said something (which is still unread).
pub(super) async fn reach(
    at: SocketAddr,
    mut expect: Expect,
    soon: &Notify,
    deadline: Instant,
) -> Result<TcpStream, ShellError> {
    let mut start = Instant::now();
    let mut questions = FuturesUnordered::new();
    let mut reason = String::from("it accepts connections and says nothing");
    let mut refused = 0;
    let mut next = start;
    loop {
        tokio::select! {
            biased;
            Some(answer) = questions.next() => match answer {
                Ok(stream) => return Ok(stream),
                Err(Silence::TooLong) => {}
                Err(Silence::Closed(seen)) => {
                    reason = seen;
                    refused += 1;
                    next = next.min(Instant::now() + REFUSED_PAUSE * refused);
                }
            },
            () = soon.notified(), if expect == Expect::Boot => {
                (expect, start) = (Expect::Soon, Instant::now());
                next = next.min(start + expect.first_distance());
            }
            () = sleep_until(deadline) => return Err(ShellError::NotAnswering { at, reason }),
            () = sleep_until(next) => {
                let now = Instant::now();
                let distance = expect.distance(now - start);
                questions.push(ask(at, distance.max(OPEN) * OPEN_AT_ONCE));
                next = now + distance;
            }
        }
    }
}

/// Asks once, of something that should be there: whether an SSH server says what it is.
pub(super) async fn answers(at: SocketAddr, patience: Duration) -> Result<(), ShellError> {
    let silent = |reason: &str| ShellError::NotAnswering { at, reason: reason.into() };
    let greeting = async {
        let mut stream = ask(at, patience).await?;
        let mut said = [0; GREETING.len()];
        stream.read_exact(&mut said).await.map_err(|error| Silence::Closed(error.to_string()))?;
        Ok(said)
    };
    match timeout(patience, greeting).await {
        Ok(Ok(said)) if said == GREETING => Ok(()),
        Ok(Ok(_)) => Err(silent("what answers does not speak SSH")),
        Ok(Err(Silence::Closed(reason))) => Err(silent(&reason)),
        Ok(Err(Silence::TooLong)) | Err(_) => Err(silent("it said nothing in time")),
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
        // Closed, it is gone at once. A guest that ended would never acknowledge an orderly end, and the kernel would tell it
        // again for minutes, and remember a connection to an address that is another machine's by then.
        stream.set_zero_linger()?;
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
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;
    use tokio::task::yield_now;
    use tokio::time::advance;

    use super::*;

    #[test]
    fn a_guest_is_asked_seldom_however_long_it_takes() {
        let mut waited = Duration::ZERO;
        let mut questions = 0;
        while waited < Duration::from_secs(120) {
            let distance = Expect::Boot.distance(waited);
            // Less would pile up in front of a guest that has just come up; more, soon after the start, would miss that moment.
            assert!(distance >= Duration::from_millis(800));
            assert!(distance < Duration::from_secs(1) || waited > Duration::from_millis(3500));
            waited += distance;
            questions += 1;
        }
        assert!(questions < 25, "{questions} questions in two minutes");
        // One that is told of, and does not come up all the same.
        let mut all =
            std::iter::successors(Some(Duration::ZERO), |waited| Some(*waited + Expect::Soon.distance(*waited)));
        assert!(all.nth(40).unwrap() > Duration::from_secs(120));
    }

    #[tokio::test(start_paused = true)]
    async fn a_guest_that_comes_up_is_asked_again_as_soon_as_it_is_told_of() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let (start, soon) = (Instant::now(), Notify::new());
        soon.notify_one();
        let guest = async {
            let _dropped = listener.accept().await.unwrap();
            advance(Expect::Soon.first_distance() + Duration::from_millis(1)).await;
            listener.accept().await.unwrap().0.write_all(&GREETING).await.unwrap();
            std::future::pending::<()>().await;
        };
        // Kept from moving by itself, the clock takes no part in how long a busy machine's sockets take.
        let begin = std::time::Instant::now();
        let busy = async {
            while begin.elapsed() < Duration::from_secs(60) {
                yield_now().await;
            }
        };
        tokio::select! {
            biased;
            reached = reach(at, Expect::Boot, &soon, start + Duration::from_secs(60)) => drop(reached.unwrap()),
            () = guest => {}
            () = busy => panic!("it was not asked again"),
        }
        assert!(start.elapsed() < Expect::Boot.first_distance());
    }
}
