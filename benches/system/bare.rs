//! What cannot be cheaper: the keys of one connection, one write that survives a power cut, and the processor alone.

use std::fs::File;
use std::hint::black_box;
use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anweddol::wire::keys::Backend;
use anweddol::wire::{KeySize, Limits, PrivateKey, PublicKey};
use rustix::time::{ClockId, clock_gettime};

use crate::sample::Sample;
use crate::table::Row;
use crate::{Result, daemon};

/// In how many turns work and what it is compared with are done.
const TURNS: usize = 5;
/// In each of them, and once more after the last.
const PAIRS: usize = 50;
/// Between two writes, as between two claims.
pub(crate) const PAUSE: Duration = Duration::from_millis(3);

/// The keys of every connection.
pub(crate) struct Bare {
    /// Our side's.
    pub(crate) key: Arc<PrivateKey>,
    peer: PublicKey,
}

/// What each end of a connection has to do: one private and one public operation with RSA-4096.
pub(crate) struct Pairs {
    pub(crate) times: Sample,
    /// The processor time of one.
    pub(crate) cpu: Duration,
}

impl Bare {
    pub(crate) fn new() -> Result<Bare> {
        let pem = PrivateKey::generate(KeySize::Bits4096)?;
        let key = Arc::new(PrivateKey::from_pem(&pem, Backend::default())?);
        let peer = PublicKey::from_pem(key.public_pem().as_bytes(), &Limits::default())?;
        Ok(Bare { key, peer })
    }

    /// Some work that is done in parts, in turns with what it is compared with: how fast a host is changes within seconds.
    pub(crate) fn in_turns<T>(&self, mut part: impl FnMut(usize) -> Result<T>) -> Result<(Vec<T>, Pairs)> {
        let (mut times, mut done) = (Vec::new(), Vec::new());
        let mut cpu = self.pairs(&mut times)?;
        for _ in 0..TURNS {
            done.push(part(TURNS)?);
            cpu += self.pairs(&mut times)?;
        }
        let count = u32::try_from(times.len())?;
        Ok((done, Pairs { times: Sample::of(times), cpu: cpu / count }))
    }

    fn pairs(&self, times: &mut Vec<Duration>) -> Result<Duration> {
        let before = thread_time();
        for _ in 0..PAIRS {
            let begin = Instant::now();
            let wrapped = self.peer.wrap(&[7; 64])?;
            self.key.unwrap(&wrapped)?;
            times.push(begin.elapsed());
        }
        Ok(thread_time() - before)
    }
}

impl Pairs {
    /// What both ends of a connection have to do, one after the other.
    pub(crate) fn both_ends(&self) -> Duration {
        self.times.p50() * 2
    }

    pub(crate) fn row(&self) -> Row {
        let row = Row::new("bare: RSA-4096, one private + one public").times(&self.times).cpu(self.cpu);
        row.note("the same key objects as the server's; two of these are the keys of one connection")
    }
}

/// Appends so many bytes, and waits each time until they survive a power cut.
pub(crate) fn flushed_writes(bytes: usize, count: usize) -> Result<Vec<Duration>> {
    let dir = tempfile::tempdir_in(daemon::scratch())?;
    let mut file = File::create(dir.path().join("log"))?;
    let block = vec![0x5a; bytes];
    let mut times = Vec::with_capacity(count);
    for _ in 0..count {
        std::thread::sleep(PAUSE);
        let begin = Instant::now();
        file.write_all(&block)?;
        rustix::fs::fdatasync(&file)?;
        times.push(begin.elapsed());
    }
    Ok(times)
}

/// So many rounds of work for the processor alone. On a machine that others share some of them take many times as long as
/// others: the processor was taken away meanwhile.
pub(crate) struct Work(u64);

impl Work {
    /// As much as takes about so long.
    pub(crate) fn of(long: Duration) -> Work {
        const ROUNDS: u64 = 10_000;
        let one = (0..100).map(|_| Work(ROUNDS).time()).min().unwrap_or_default();
        Work((ROUNDS as f64 * long.as_secs_f64() / one.as_secs_f64()) as u64)
    }

    /// How long it takes, as often as this.
    pub(crate) fn times(&self, count: usize) -> Vec<Duration> {
        let timed = |_| {
            std::thread::sleep(PAUSE);
            self.time()
        };
        (0..count).map(timed).collect()
    }

    fn time(&self) -> Duration {
        let begin = Instant::now();
        black_box((0..self.0).fold(0_u64, |sum, round| black_box(sum.wrapping_mul(6_364_136_223_846_793_005) ^ round)));
        begin.elapsed()
    }
}

fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}
