//! What ten thousand hostile connections cost in memory.

use std::fs;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::common::ask::runtime;
use crate::common::until;
use crate::siege::{Siege, connect_from};
use crate::support::{handshake, read};

const CROWD: usize = 10_000;
/// The most that a connection may cost the daemon, in bytes, wherever it stops: what `server::tcp` states.
const MOST: usize = 40 << 10;

/// Resident memory of a process in bytes.
fn resident(pid: u32) -> usize {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
}

/// Where a conversation stops.
#[derive(Clone, Copy, Debug)]
enum Phase {
    Connected,
    HalfAKey,
    LargestKeyButOne,
    BeforeTheSessionKey,
    Known,
    LargestMessageButOne,
}

async fn stop_at(phase: Phase, source: &str, siege: &Siege) -> TcpStream {
    let mut stream = connect_from(source, siege.address()).await;
    match phase {
        Phase::Connected => stream,
        Phase::HalfAKey => {
            stream.write_all(&handshake()[..400]).await.unwrap();
            read(&mut stream, 1).await;
            stream
        }
        Phase::LargestKeyButOne => {
            stream.write_all(b"16384===").await.unwrap();
            stream.write_all(&[b'x'; (16 << 10) - 1]).await.unwrap();
            read(&mut stream, 1).await;
            stream
        }
        Phase::BeforeTheSessionKey => {
            stream.write_all(&handshake()[..810]).await.unwrap();
            read(&mut stream, 810).await;
            stream
        }
        Phase::Known => crate::support::RawClient::on(stream).await.stream,
        Phase::LargestMessageButOne => {
            let mut client = crate::support::RawClient::on(stream).await;
            client.stream.write_all(b"65536===").await.unwrap();
            read(&mut client.stream, 1).await;
            client.stream.write_all(&[0; (64 << 10) - 1]).await.unwrap();
            client.stream
        }
    }
}

/// Takes minutes, and twenty thousand files: by hand, with `ulimit -n`.
#[test]
#[ignore = "ten thousand connections: by hand"]
fn ten_thousand_connections_cost_no_more_than_is_stated() {
    for phase in [
        Phase::Connected,
        Phase::HalfAKey,
        Phase::LargestKeyButOne,
        Phase::BeforeTheSessionKey,
        Phase::Known,
        Phase::LargestMessageButOne,
    ] {
        let rates = "connections_per_minute: null, connections_per_address: null, requests_per_minute: null";
        let siege = Siege::lay("client_timeout: 3600, max_connections: 11000", rates);
        siege.good_client_is_served();
        let pid = siege.daemon.pid();
        let before = resident(pid);
        let runtime = runtime();
        let crowd = runtime.block_on(async {
            let mut crowd = Vec::new();
            for n in 0..CROWD {
                crowd.push(stop_at(phase, &format!("127.0.2.{}", 1 + n % 200), &siege).await);
            }
            crowd
        });
        until("all of them", || (siege.daemon.open_files() >= CROWD).then_some(()));
        let cost = (resident(pid) - before) / CROWD;
        println!("{phase:?}: {} MiB before, {} MiB with {CROWD}, {cost} bytes each", before >> 20, resident(pid) >> 20);
        siege.good_client_is_served();
        drop(crowd);
        siege.lifted();
        assert!(cost <= MOST + if matches!(phase, Phase::LargestMessageButOne) { 64 << 10 } else { 0 }, "{cost}");
    }
}
