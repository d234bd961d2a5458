//! Connections over HTTP, whatever they come in by: so many at once, each with a deadline for what it asks, and one for
//! taking what it is answered.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::middleware::{self, Next};
use axum::response::Response;
use futures::future::BoxFuture;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::gate::{Pass, Refusal};
use super::taking::Taking;

/// How long a request's head may take.
const HEAD_TIME: Duration = Duration::from_secs(10);
/// How long a client may take nothing of its answer. A watch may take longer to say something.
const ANSWER_TIME: Duration = Duration::from_secs(30);
/// The longest head of a request, in bytes.
pub(super) const LONGEST_HEAD: usize = 64 << 10;
/// How long the connections that are left may take when the daemon stops.
const STOP_TIME: Duration = Duration::from_secs(2);

/// All that is said on a connection, to its end.
pub(super) type Conversation = BoxFuture<'static, ()>;

/// A connection with what answers it, as soon as both sides agree; `None`: turned away.
pub(super) type Ready<S> = BoxFuture<'static, Option<(S, Router)>>;

/// Counts each request of a connection, and keeps the pass of whoever asks for as long as the router lives, which is as
/// long as the connection.
pub(super) fn metered(router: Router, pass: Pass, refused: fn(Refusal) -> Response) -> Router {
    let pass = Arc::new(pass);
    router.layer(middleware::from_fn(move |request: Request, next: Next| {
        let pass = Arc::clone(&pass);
        async move {
            match pass.request() {
                Ok(()) => next.run(request).await,
                Err(refusal) => refused(refusal),
            }
        }
    }))
}

/// Where connections come in.
pub(super) trait Entrance: Send + Sync {
    /// The next one. What it gives is awaited beside the other connections.
    fn next(&self) -> impl Future<Output = io::Result<Conversation>> + Send;
}

/// Where connections come in that a router answers.
pub(super) trait Doorway: Send + Sync {
    /// What they are read from and written to.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// The next one. What it gives is awaited beside the other connections: whatever has to be agreed on first holds up
    /// nobody.
    fn come(&self) -> impl Future<Output = io::Result<Ready<Self::Stream>>> + Send;
}

/// A doorway as an entrance.
struct Routed<'a, D> {
    doorway: &'a D,
    door: &'static str,
    cancel: CancellationToken,
}

impl<D: Doorway> Entrance for Routed<'_, D> {
    async fn next(&self) -> io::Result<Conversation> {
        let (ready, door, cancel) = (self.doorway.come().await?, self.door, self.cancel.clone());
        Ok(Box::pin(async move {
            let ready = tokio::select! {
                () = cancel.cancelled() => None,
                ready = tokio::time::timeout(HEAD_TIME, ready) => ready.ok().flatten(),
            };
            if let Some((stream, router)) = ready {
                connection(stream, router, door, cancel).await;
            }
        }))
    }
}

/// Answers connections as they come, `most` at once, until cancelled.
pub(super) async fn answer(doorway: &impl Doorway, most: usize, door: &'static str, cancel: CancellationToken) {
    let tasks = accept(&Routed { doorway, door, cancel: cancel.clone() }, most, door, cancel).await;
    // Whoever is still answered has had its time.
    let _ = tokio::time::timeout(STOP_TIME, tasks.wait()).await;
}

/// Accepts connections as they come, `most` at once, until cancelled: who comes then waits until one ends. Gives those
/// that are left.
pub(super) async fn accept(
    entrance: &impl Entrance,
    most: usize,
    door: &'static str,
    cancel: CancellationToken,
) -> TaskTracker {
    let (places, tasks) = (Arc::new(Semaphore::new(most)), TaskTracker::new());
    loop {
        let place = tokio::select! {
            () = cancel.cancelled() => break,
            place = Arc::clone(&places).acquire_owned() => place,
        };
        let Ok(place) = place else { break };
        let came = tokio::select! {
            () = cancel.cancelled() => break,
            came = entrance.next() => came,
        };
        match came {
            Ok(conversation) => {
                tasks.spawn(async move {
                    conversation.await;
                    drop(place);
                });
            }
            Err(error) => {
                // Out of file descriptors, say: it goes on when others have ended.
                tracing::warn!(%error, "{door}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    tasks.close();
    tasks
}

async fn connection<S>(stream: S, router: Router, door: &str, cancel: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .max_buf_size(LONGEST_HEAD)
        .serve_connection(TokioIo::new(Taking::new(stream, ANSWER_TIME)), TowerToHyperService::new(router));
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = cancel.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "{door}: a connection broke off");
    }
}

#[cfg(test)]
mod tests {
    use axum::body::{Body, Bytes};
    use axum::routing::get;
    use futures::{StreamExt, stream};
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
    use tokio::task::JoinHandle;
    use tokio::time::{Instant, sleep, timeout};

    use super::*;

    /// A word after three hours, and so on.
    async fn watch() -> Body {
        let words = stream::repeat(Bytes::from_static(b"word")).then(|word| async {
            sleep(Duration::from_secs(3 * 3600)).await;
            Ok::<_, io::Error>(word)
        });
        Body::from_stream(words)
    }

    /// A client's end, and when the other one ends.
    fn client() -> (DuplexStream, JoinHandle<()>) {
        let router = Router::new().route("/long", get(|| async { "a".repeat(4096) })).route("/watch", get(watch));
        let (ours, theirs) = duplex(1024);
        (ours, tokio::spawn(connection(theirs, router, "test", CancellationToken::new())))
    }

    #[tokio::test(start_paused = true)]
    async fn who_asks_on_and_takes_no_answer_loses_its_place() {
        let (mut client, served) = client();
        let began = Instant::now();
        // In the end its requests are not read either.
        let asking = async { while client.write_all(b"GET /long HTTP/1.1\r\nHost: h\r\n\r\n").await.is_ok() {} };
        timeout(ANSWER_TIME * 2, asking).await.expect("it is ended");
        served.await.unwrap();
        assert_eq!(began.elapsed().as_secs(), ANSWER_TIME.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn who_takes_an_answer_slowly_and_who_has_nothing_to_take_keep_theirs() {
        let (mut slow, _served) = client();
        slow.write_all(b"GET /long HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").await.unwrap();
        let mut taken = 0;
        loop {
            sleep(ANSWER_TIME - Duration::from_secs(1)).await;
            match slow.read(&mut [0; 100]).await.unwrap() {
                0 => break,
                some => taken += some,
            }
        }
        assert!(taken > 4096, "{taken}");
        let (mut watch, _served) = client();
        watch.write_all(b"GET /watch HTTP/1.1\r\nHost: h\r\n\r\n").await.unwrap();
        let mut said = Vec::new();
        while !said.ends_with(b"word\r\n4\r\nword\r\n") {
            let read = timeout(Duration::from_secs(4 * 3600), watch.read_buf(&mut said)).await;
            assert!(read.unwrap().unwrap() > 0, "it was ended");
        }
    }
}
